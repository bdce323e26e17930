//! Logs on stderr: JSON lines for machines, text for people.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

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

/// Sends what is traced in this process to stderr. `rust_log` (the variable `RUST_LOG`) wins over the level.
///
/// # Errors
/// `rust_log` is not a filter, or logging had been set up before.
pub fn init(log: Log, rust_log: Option<&str>) -> Result<(), LogError> {
    let filter = filter(log, rust_log)?;
    let builder = fmt().with_env_filter(filter).with_writer(stderr);
    let set = match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
    };
    set.map_err(|error| LogError::Taken(error.to_string()))
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
    use super::*;
    use crate::config::LogLevel;

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
