//! Where traces are sent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::values::is_host_and_port;

/// A collector that takes OTLP over gRPC: `http://host:port`, or `https://host:port` for TLS with the system's roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Arc<str>);

impl Endpoint {
    /// As a URL without path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the connection is TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for Endpoint {
    type Err = String;
    /// The text is not repeated in the error: it may hold a secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{why}; write for example http://collector:4317"));
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            return wrong("is neither http:// nor https://, and nothing else is supported");
        };
        if rest.contains('@') {
            return wrong(
                "has a user or a password, which are not sent; headers can be set by OTEL_EXPORTER_OTLP_HEADERS",
            );
        }
        let server = rest.strip_suffix('/').unwrap_or(rest);
        if server.contains(['/', '?', '#']) {
            return wrong(
                "has a path or a query, which OTLP over gRPC does not have (OTLP over HTTP is not supported)",
            );
        }
        if !server.is_ascii() || !is_host_and_port(server) {
            return wrong("has no host and port");
        }
        Ok(Self(text.strip_suffix('/').unwrap_or(text).into()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_without_path() {
        for (text, tls) in [
            ("http://collector:4317", false),
            ("http://[::1]:4317", false),
            ("https://otlp.example:443/", true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.as_str(), text.trim_end_matches('/'));
            assert_eq!(endpoint.is_tls(), tls, "{text}");
        }
        for text in [
            "",
            "collector:4317",
            "grpc://collector:4317",
            "http://",
            "http://collector",
            "http://collector:0",
            "http://a b:1",
            "http://collector:4317/v1/traces",
            "http://collector:4317?token=x",
            "http://me:hunter2@collector:4317",
            "http://b\u{fc}cher:4317",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
