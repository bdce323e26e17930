//! Logs on stderr: JSON lines for machines, text for people.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Log, LogFormat};
use crate::spans;
use crate::traces::Traces;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is set and is not a filter.
    #[error("RUST_LOG: `{filter}` is not a filter ({why}); write for example info or kuroshio=debug,warn")]
    Filter {
        /// As it is set.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Logging had been set up before.
    #[error("logging cannot be set up: {0}")]
    Taken(String),
}

/// Sends what is logged in this process to stderr, and its spans to where `traces` go. `rust_log` (the variable
/// `RUST_LOG`) wins over the level; it says nothing of spans.
///
/// # Errors
/// `rust_log` is not a filter, or logging had been set up before.
pub fn init(log: Log, rust_log: Option<&str>, traces: Option<&Traces>) -> Result<(), LogError> {
    let mut layers = vec![layer(log, rust_log, stderr, stderr().is_terminal())?];
    layers.extend(traces.map(Traces::layer));
    Registry::default()
        .with(layers)
        .try_init()
        .map_err(|error| LogError::Taken(error.to_string()))
}

/// Writes events to `writer`, and nothing of spans: each line says all by itself, whether spans are exported or not.
fn layer<W>(
    log: Log,
    rust_log: Option<&str>,
    writer: W,
    colours: bool,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let no_spans =
        filter_fn(|metadata| metadata.target() != spans::TARGET).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter(log, rust_log)?.and(no_spans);
    let lines = fmt::layer().with_writer(writer);
    Ok(match log.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => lines.with_ansi(colours).with_filter(filter).boxed(),
    })
}

fn filter(log: Log, rust_log: Option<&str>) -> Result<EnvFilter, LogError> {
    let text = rust_log
        .filter(|text| !text.trim().is_empty())
        .unwrap_or(log.level.as_str());
    EnvFilter::try_new(text).map_err(|error| LogError::Filter {
        filter: text.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogLevel;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_an_object_with_the_fields_of_the_event() {
        let written = Written::default();
        let log = Log {
            format: LogFormat::Json,
            level: LogLevel::Info,
        };
        let writer = written.clone();
        // A span is neither shown nor asked for, even where all is logged.
        let layer = layer(log, Some("trace"), move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(Registry::default().with(vec![layer]), || {
            let span = spans::discover("tw-jp");
            assert!(span.is_disabled());
            let _inside = span.entered();
            let error = std::io::Error::other("refused");
            tracing::warn!(flow = "tw-jp", topic = "orders", partition = 3, offset = 8814_i64, %error, "not \"read\"");
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let mut line: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(written.trim()).unwrap();
        let time = line.remove("timestamp").unwrap();
        assert!(
            time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(),
            "{time}"
        );
        assert_eq!(
            serde_json::Value::Object(line),
            serde_json::json!({
                "level": "WARN", "target": "kuroshio::logs::tests", "message": "not \"read\"",
                "flow": "tw-jp", "topic": "orders", "partition": 3, "offset": 8814, "error": "refused",
            })
        );
    }

    #[test]
    fn rust_log_wins_over_the_level() {
        let log = Log {
            format: LogFormat::Json,
            level: LogLevel::Warn,
        };
        assert_eq!(filter(log, None).unwrap().to_string(), "warn");
        assert_eq!(filter(log, Some(" ")).unwrap().to_string(), "warn");
        assert_eq!(
            filter(log, Some("kuroshio=debug,info")).unwrap().to_string(),
            "kuroshio=debug,info"
        );
        let error = filter(log, Some("kuroshio=loud")).unwrap_err().to_string();
        assert!(
            error.starts_with("RUST_LOG: `kuroshio=loud` is not a filter"),
            "{error}"
        );
    }
}
