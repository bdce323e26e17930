//! Logs on stderr: JSON lines for machines, text for people.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat, LogLevel};
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

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` wins.
    settled: bool,
}

impl Level {
    /// Of logs that nobody writes.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        let (_, filter) = reload::Layer::new(EnvFilter::default());
        Self {
            filter,
            settled: true,
        }
    }

    /// Logs from this level on, where `RUST_LOG` does not say something else.
    ///
    /// # Errors
    /// Nothing is logged any more.
    pub fn set(&self, level: LogLevel) -> Result<(), reload::Error> {
        if self.settled {
            return Ok(());
        }
        self.filter.reload(EnvFilter::new(level.as_str()))
    }
}

/// Sends what is logged in this process to stderr, and its spans to where `traces` go. `rust_log` (the variable
/// `RUST_LOG`) wins over the level; it says nothing of spans.
///
/// # Errors
/// `rust_log` is not a filter, or logging had been set up before.
pub fn init(log: Log, rust_log: Option<&str>, traces: Option<&Traces>) -> Result<Level, LogError> {
    let (layer, level) = layer(log, rust_log, stderr, stderr().is_terminal())?;
    let mut layers = vec![layer];
    layers.extend(traces.map(Traces::layer));
    Registry::default()
        .with(layers)
        .try_init()
        .map_err(|error| LogError::Taken(error.to_string()))?;
    Ok(level)
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Writes events to `writer`, and nothing of spans: each line says all by itself, whether spans are exported or not.
fn layer<W>(log: Log, rust_log: Option<&str>, writer: W, colours: bool) -> Result<(Lines, Level), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let no_spans =
        filter_fn(|metadata| metadata.target() != spans::TARGET).with_max_level_hint(LevelFilter::TRACE);
    let (filter, handle) = reload::Layer::new(filter(log, rust_log)?);
    let level = Level {
        filter: handle,
        settled: given(rust_log).is_some(),
    };
    let filter = filter.and(no_spans);
    let lines = fmt::layer().with_writer(writer);
    let lines = match log.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => lines.with_ansi(colours).with_filter(filter).boxed(),
    };
    Ok((lines, level))
}

fn given(rust_log: Option<&str>) -> Option<&str> {
    rust_log.filter(|text| !text.trim().is_empty())
}

fn filter(log: Log, rust_log: Option<&str>) -> Result<EnvFilter, LogError> {
    let text = given(rust_log).unwrap_or(log.level.as_str());
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
        let (layer, _) = layer(log, Some("trace"), move || writer.clone(), false).unwrap();
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
    fn another_level_holds_at_once_where_rust_log_says_nothing() {
        for (rust_log, lines) in [(None, 2), (Some("warn"), 1)] {
            let written = Written::default();
            let log = Log {
                format: LogFormat::Text,
                level: LogLevel::Warn,
            };
            let writer = written.clone();
            let (layer, level) = layer(log, rust_log, move || writer.clone(), false).unwrap();
            tracing::subscriber::with_default(Registry::default().with(vec![layer]), || {
                tracing::warn!("first");
                tracing::info!("too little");
                level.set(LogLevel::Info).unwrap();
                tracing::info!("enough");
                level.set(LogLevel::Error).unwrap();
                level.set(LogLevel::Warn).unwrap();
                tracing::info!("too little");
            });
            let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(written.lines().count(), lines, "{written}");
        }
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
