//! The leaves of the file: one type per kind of value, which can be made only by parsing.
//!
//! Each type carries the name of its `format` in the JSON Schema; the walker uses [`FORMATS`] to parse
//! every leaf where it stands, so that a mistake is reported with its key path.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::routes::names_of;
use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::endpoint::Endpoint;
pub(crate) use super::names::{Alias, Name, Separator, TopicName};

/// Binds a type that is written as text to serde and to its `format` in the schema.
macro_rules! leaf {
    ($($leaf:ty, $format:literal, $json_type:expr, $description:literal;)*) => {
        /// Parses a leaf by the name of its format; the error says what is wrong and what would be right.
        pub(crate) const FORMATS: &[(&str, fn(&str) -> Result<(), String>)] =
            &[$(($format, |text| text.parse::<$leaf>().map(drop))),*];

        $(
            impl<'de> Deserialize<'de> for $leaf {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = <Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                }
            }

            impl Serialize for $leaf {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl JsonSchema for $leaf {
                fn inline_schema() -> bool {
                    true
                }
                fn schema_name() -> Cow<'static, str> {
                    $format.into()
                }
                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": $json_type, "format": $format, "description": $description })
                }
            }
        )*
    };
}

leaf! {
    Span, "duration", "string", "A duration: 250ms, 10s, 5m.";
    Size, "size", ["string", "integer"], "A size in bytes: 16MiB, 64KiB, 1048576.";
    Pattern, "pattern", "string", "A regular expression that must match the whole name.";
    Alias, "alias", "string", "The alias of a cluster: [A-Za-z0-9._-]+.";
    Name, "name", "string", "A name made of [A-Za-z0-9._-]+.";
    TopicName, "topic", "string", "The exact name of a topic.";
    Separator, "separator", "string", "What stands between alias and topic: [A-Za-z0-9._-]+.";
    Servers, "servers", "string", "host:port, several separated by commas.";
    Start, "start", "string", "earliest, latest, or an RFC 3339 timestamp.";
    Pumps, "pumps", ["string", "integer"], "auto, or a number from 1 to 256.";
    Listen, "address", "string", "An IP address and port: 0.0.0.0:8080.";
    Endpoint, "endpoint", "string", "http://host:port or https://host:port.";
    Scalar, "scalar", ["string", "integer", "boolean"], "A text, number or boolean.";
}

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| {
            format!("`{text}` is not a duration; write a number with a unit, such as 250ms, 10s or 5m")
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the blank that humantime puts between units, so that what is shown can be typed.
        f.write_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct Size(pub u64);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("", 1),
];

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a size; write a whole number with B, KiB, MiB, GiB or TiB, such as 16MiB"
            )
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim_start();
        let factor = SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor);
        factor
            .and_then(|factor| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*factor);
        match SIZE_UNITS.iter().filter(|(_, factor)| *factor > 1).find(whole) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

/// A regular expression that must match a whole name.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// The names that can match: as they are, or with `*` at the end for all that begin so. Never too few.
    #[must_use]
    pub fn names(&self) -> BTreeSet<Arc<str>> {
        names_of(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let explain = |error: regex::Error| {
            let why = error.to_string();
            let reason = why
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            format!(
                "`{text}` is not a regular expression ({reason}); to match a special character as it is, put it in brackets, such as [.]"
            )
        };
        // By itself first: `a)|(b` is wrong, though it would fit between our parentheses.
        Regex::new(text).map_err(explain)?;
        let regex = Regex::new(&format!("^(?:{text})$")).map_err(explain)?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Bootstrap servers as `host:port`, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers(pub Vec<String>);

impl FromStr for Servers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |server: &str| {
            let server = server.trim();
            if is_host_and_port(server) {
                return Ok(server.to_owned());
            }
            Err(format!(
                "`{server}` is not host:port; write for example b-1.example:9092,b-2.example:9092"
            ))
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Whether a text is `host:port`, an IPv6 address in brackets.
pub(crate) fn is_host_and_port(server: &str) -> bool {
    let (host, port) = server.rsplit_once(':').unwrap_or((server, ""));
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_is_right = !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || c == '/')
        && (bracketed || !host.contains(':'));
    host_is_right && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Where a partition is first read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The log's start.
    Earliest,
    /// The log's end.
    Latest,
    /// The first record with this timestamp or a later one, in milliseconds since 1970.
    Timestamp(i64),
}

impl FromStr for Start {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => text.parse::<jiff::Timestamp>().map(|time| Self::Timestamp(time.as_millisecond())).map_err(|_| {
                format!("`{text}` is not a start; write earliest, latest or an RFC 3339 timestamp such as 2026-01-31T12:00:00Z")
            }),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Timestamp(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => time.fmt(f),
                Err(_) => write!(f, "{ms}ms"),
            },
        }
    }
}

/// Threads that move one flow's records in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumps {
    /// As many as the machine's cores suggest.
    Auto,
    /// Exactly so many, 1 to 256.
    Count(u16),
}

impl FromStr for Pumps {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<u16>()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(count @ 1..=256)) => Ok(Self::Count(count)),
            _ => Err(format!(
                "`{text}` is not a number of pumps; write auto or a number from 1 to 256"
            )),
        }
    }
}

impl fmt::Display for Pumps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// Where the HTTP server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub SocketAddr);

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!("`{text}` is not an address to listen on; write an IP address and a port, such as 0.0.0.0:8080")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text, number or boolean, kept as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar(pub String);

impl FromStr for Scalar {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("16MiB", 16 << 20),
            ("64 KiB", 64 << 10),
            ("1B", 1),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "16MB", "1.5GiB", "99999999TiB", "１６MiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_matches_whole_names_only() {
        let pattern: Pattern = "a|b".parse().unwrap();
        assert!(pattern.matches("a") && pattern.matches("b"));
        assert!(!pattern.matches("ab") && !pattern.matches("xb"));
        assert!("a)|(b".parse::<Pattern>().is_err());
    }

    #[test]
    fn servers() {
        for text in ["a:1", "a:1,b:65535", "[::1]:9092", "10.0.0.1:9092, h-1.x:9"] {
            assert!(text.parse::<Servers>().is_ok(), "{text}");
        }
        for text in [
            "",
            "a",
            "a:0",
            "a:65536",
            ":9092",
            "a:1,,b:1",
            "http://a:1",
            "::1:9092",
            "a b:1",
        ] {
            assert!(text.parse::<Servers>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sizes_are_read_as_they_are_shown(bytes in any::<u64>()) {
            prop_assert_eq!(Size(bytes).to_string().parse::<Size>(), Ok(Size(bytes)));
        }

        #[test]
        fn durations_are_read_as_they_are_shown(ms in 0u64..=u64::from(u32::MAX)) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }

        #[test]
        fn no_text_makes_a_leaf_panic(text in ".{0,40}") {
            for (_, parse) in FORMATS {
                drop(parse(&text));
            }
        }
    }
}
