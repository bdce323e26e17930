//! Names of topics: which Kafka takes, and which belong to somebody.

use std::fmt;

/// MirrorMaker 2's.
pub(super) const MM2_HEARTBEATS: &str = "heartbeats";

/// Longest name that Kafka takes for a topic, in characters.
pub(super) const LONGEST: usize = 249;

/// Why a topic on the target cannot have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Longer than Kafka takes.
    #[error("is not 1 to 249 characters long")]
    Length,
    /// Characters that Kafka does not take.
    #[error("is not made of letters, digits, '.', '_' and '-' alone")]
    Characters,
    /// It belongs to Kuroshio, MM2 or Kafka.
    #[error("is reserved")]
    Reserved,
}

/// Whose a topic is that is never copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// `kuroshio.…`
    Kuroshio,
    /// `heartbeats`, `mm2-…`, `….internal`, `…-internal` (checkpoints and offset syncs among them).
    MirrorMaker,
    /// `__…`: Kafka's own and MSK's.
    Kafka,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kuroshio => "Kuroshio",
            Self::MirrorMaker => "MirrorMaker 2",
            Self::Kafka => "Kafka",
        })
    }
}

/// Whether it is one of the topics that Kuroshio or Kafka's own programs make for themselves.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    owner(topic).is_some()
}

pub(super) fn owner(topic: &str) -> Option<Owner> {
    if topic.starts_with("__") {
        Some(Owner::Kafka)
    } else if topic.starts_with("kuroshio.") {
        Some(Owner::Kuroshio)
    } else if topic == MM2_HEARTBEATS
        || topic.starts_with("mm2-")
        || topic.ends_with(".internal")
        || topic.ends_with("-internal")
    {
        Some(Owner::MirrorMaker)
    } else {
        None
    }
}

pub(super) fn in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

pub(super) fn bad_name(name: &str) -> Option<BadName> {
    if name.is_empty() || name.len() > LONGEST {
        Some(BadName::Length)
    } else if !name.chars().all(in_names) || name == "." || name == ".." {
        Some(BadName::Characters)
    } else if owner(name).is_some() {
        Some(BadName::Reserved)
    } else {
        None
    }
}
