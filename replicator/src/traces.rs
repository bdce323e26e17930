//! Spans to a collector, as OTLP over gRPC. Nothing else knows OpenTelemetry.
//!
//! A thread of the SDK sends what lies in its bounded queue. Whoever ends a span puts it there and never waits: spans that
//! do not fit are dropped. A collector that is away is told of when it goes, now and then, and when it is back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter,
};
use tonic::transport::{Channel, ClientTlsConfig};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::{Layer, Registry};

use crate::config::{Config, Endpoint};
use crate::spans;

/// Spans that wait at most: some seconds of two busy flows, about a KiB each.
const QUEUE: usize = 2048;
/// How often they are sent; sooner when there are many.
const EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// What the end of the process waits for the last spans.
const LAST: Duration = Duration::from_secs(2);
/// Between two words about a collector that stays away.
const AGAIN: Duration = Duration::from_secs(60);

/// Why traces cannot be exported at all. A collector that is away is none of these.
#[derive(Debug, thiserror::Error)]
#[error("otlp.endpoint: {endpoint}: {why}")]
pub struct TracesError {
    /// Where they were to be sent.
    pub endpoint: Endpoint,
    /// In words.
    pub why: String,
}

/// The export of this process's spans.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts what the configuration asks for; `None`: nothing. Connects later, within the present Tokio runtime.
    ///
    /// OpenTelemetry's variables for headers, sampling and resource attributes hold (`OTEL_EXPORTER_OTLP_HEADERS`,
    /// `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`).
    ///
    /// # Errors
    /// An endpoint that no connection can be made to, no roots for TLS, or one of those variables is wrong.
    pub fn start(config: &Config) -> Result<Option<Self>, TracesError> {
        let Some(endpoint) = &config.otlp else {
            return Ok(None);
        };
        let wrong = |why: String| TracesError {
            endpoint: endpoint.clone(),
            why,
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(channel(endpoint).map_err(|error| wrong(told(&error)))?)
            .with_timeout(ANSWER)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let exporter = Heard {
            exporter,
            endpoint: endpoint.clone(),
            away: Mutex::new(None),
        };
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(QUEUE / 4)
            .with_scheduled_delay(EVERY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(queue)
            .build();
        let resource = Resource::builder()
            .with_service_name("kuroshio")
            .with_attributes([
                KeyValue::new("service.instance.id", config.instance.to_string()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            .build();
        Ok(Some(Self { provider }))
    }

    /// What takes the spans of this process, and no events.
    #[must_use]
    pub fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == spans::TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("kuroshio"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
            .boxed()
    }

    /// Sends the last spans; returns after 2 s at the latest.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}

fn channel(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    let mut channel = tonic::transport::Endpoint::new(endpoint.as_str().to_owned())?
        .connect_timeout(CONNECT)
        .timeout(ANSWER);
    if endpoint.is_tls() {
        channel = channel.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    Ok(channel.connect_lazy())
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// An exporter that says when nobody hears it.
#[derive(Debug)]
struct Heard<E> {
    exporter: E,
    endpoint: Endpoint,
    away: Mutex<Option<Away>>,
}

/// A collector that does not take spans.
#[derive(Clone, Copy, Debug)]
struct Away {
    said: Instant,
    lost: usize,
}

impl Away {
    /// So many more are lost at `now`: what is known then, and whether it is to be said.
    fn more(before: Option<Self>, spans: usize, now: Instant) -> (Self, bool) {
        let (said, lost) = before.map_or((now, spans), |away| (away.said, away.lost + spans));
        let say = before.is_none() || now.duration_since(said) >= AGAIN;
        (
            Self {
                said: if say { now } else { said },
                lost,
            },
            say,
        )
    }
}

impl<E> Heard<E> {
    fn note(&self, result: &OTelSdkResult, spans: usize) {
        // Nothing panics while the lock is held.
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = &self.endpoint;
        match result {
            Ok(()) => {
                if let Some(away) = away.take() {
                    tracing::info!(%endpoint, lost = away.lost, "traces are exported again");
                }
            }
            Err(error) => {
                let (now_away, say) = Away::more(*away, spans, Instant::now());
                *away = Some(now_away);
                if say {
                    tracing::warn!(%endpoint, lost = now_away.lost, %error, "traces are not exported");
                }
            }
        }
    }
}

impl<E: SpanExporter> SpanExporter for Heard<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        self.note(&result, spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_stays_away_is_told_of_now_and_then() {
        let start = Instant::now();
        let (away, say) = Away::more(None, 3, start);
        assert!(say);
        let (away, say) = Away::more(Some(away), 4, start + AGAIN / 2);
        assert_eq!((say, away.lost), (false, 7));
        let (away, say) = Away::more(Some(away), 1, start + AGAIN);
        assert_eq!((say, away.lost), (true, 8));
        assert!(!Away::more(Some(away), 1, start + AGAIN + AGAIN / 2).1);
    }
}
