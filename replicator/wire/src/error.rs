//! What can go wrong, with the place where it did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kuroshio_core::types::TopicPartition;

use crate::class::{Class, class_of};

/// A call that did not succeed. [`Error::class`] says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No connection to a broker could be made.
    #[error("cluster {cluster}: broker {address} is unreachable: {why}")]
    Unreachable {
        /// Alias of the cluster.
        cluster: Arc<str>,
        /// `host:port`.
        address: Arc<str>,
        /// At which step it failed.
        why: Unreachable,
    },
    /// The connection ended before the answer; the request may have been carried out or not.
    #[error("{at}: connection lost before the answer: {why}")]
    Disconnected {
        /// Where.
        at: Place,
        /// The cause.
        why: Arc<str>,
    },
    /// No answer in time; the request may have been carried out or not.
    #[error("{at}: no answer within {after:?}")]
    Silent {
        /// Where.
        at: Place,
        /// How long was waited.
        after: Duration,
    },
    /// Bytes came that are no answer.
    #[error("{at}: the answer cannot be read: {why}")]
    Garbled {
        /// Where.
        at: Place,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The broker does not offer a version of the API that we can use.
    #[error("{at}: the broker offers versions {offered}, needed are {needed}")]
    Version {
        /// Where.
        at: Place,
        /// The broker's versions, or `none`.
        offered: Arc<str>,
        /// Ours.
        needed: Arc<str>,
    },
    /// We refuse to send it: it would not do what its caller must be able to rely on.
    #[error("cluster {cluster}: {api}{on} not sent: {why}")]
    NotSent {
        /// Alias of the cluster.
        cluster: Arc<str>,
        /// Name of the API.
        api: &'static str,
        /// What it was about.
        on: On,
        /// Why not.
        why: Arc<str>,
    },
    /// The broker answered with an error code.
    #[error("{at}{on}: {}{}", kafka_name(*code), message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
    Kafka {
        /// Where.
        at: Place,
        /// What it was about.
        on: On,
        /// Kafka's error.
        code: ResponseError,
        /// The broker's own words, where it has some.
        message: Option<Arc<str>>,
    },
    /// The time of the call ended in retries; `last` is what the last of them met.
    #[error("gave up after {after:.0?}: {last}")]
    GaveUp {
        /// How long was tried.
        after: Duration,
        /// What the last attempt met.
        last: Box<Self>,
    },
}

impl Error {
    /// What the error means for the caller.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::Silent { .. } => Class::Retry,
            // A broker does not learn versions or manners by being asked again; an operator must look.
            Self::Garbled { .. } | Self::Version { .. } | Self::NotSent { .. } => Class::Fatal,
            Self::Kafka { code, .. } => class_of(*code),
            Self::GaveUp { last, .. } => last.class(),
        }
    }

    /// Kafka's code, if a broker answered with one; looks through [`Error::GaveUp`].
    #[must_use]
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Kafka { code, .. } => Some(*code),
            Self::GaveUp { last, .. } => last.code(),
            Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::Silent { .. }
            | Self::Garbled { .. }
            | Self::Version { .. }
            | Self::NotSent { .. } => None,
        }
    }

    /// We were not let in: another attempt meets the same until somebody changes something.
    pub(crate) fn is_about_us(&self) -> bool {
        let refused = |why: &Unreachable| matches!(why, Unreachable::Tls(_) | Unreachable::Sasl(_));
        matches!(self, Self::Unreachable { why, .. } if refused(why))
    }

    /// The connection failed, not the request: another broker or a later attempt may answer.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::Silent { .. }
        )
    }
}

/// Where an error happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Alias of the cluster.
    pub cluster: Arc<str>,
    /// Name of the API.
    pub api: &'static str,
    /// `host:port` of the broker.
    pub address: Arc<str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}: {} at {}", self.cluster, self.api, self.address)
    }
}

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// The cluster as a whole.
    Cluster,
    /// A topic.
    Topic(Arc<str>),
    /// A partition.
    Partition(TopicPartition),
    /// A group.
    Group(Arc<str>),
    /// A partition in a group's offsets.
    GroupPartition(Arc<str>, TopicPartition),
    /// A transactional id.
    TransactionalId(Arc<str>),
    /// A broker.
    Broker(i32),
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => Ok(()),
            Self::Topic(topic) => write!(f, " for topic {topic}"),
            Self::Partition(partition) => write!(f, " for partition {partition}"),
            Self::Group(group) => write!(f, " for group {group}"),
            Self::GroupPartition(group, partition) => write!(f, " for group {group}, partition {partition}"),
            Self::TransactionalId(id) => write!(f, " for transactional id {id}"),
            Self::Broker(id) => write!(f, " for broker {id}"),
        }
    }
}

/// At which step a connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The address is not `host:port`.
    BadAddress,
    /// The name has no address; resolver's words.
    NameNotResolved(Arc<str>),
    /// Nothing listens there.
    Refused,
    /// No answer to the connection attempt, or to the first request on it, within this time.
    TimedOut(Duration),
    /// Connected, but what answers does not talk Kafka to us (wrong port, TLS listener, limits).
    NotKafka(Arc<str>),
    /// TLS was not agreed on, or its files cannot be used.
    Tls(Arc<str>),
    /// We were not let in: as whom, and the broker's words.
    Sasl(Arc<str>),
    /// Anything else; the system's words.
    Other(Arc<str>),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadAddress => f.write_str("the address must be host:port"),
            Self::NameNotResolved(why) => write!(f, "name not resolved: {why}"),
            Self::Refused => f.write_str("connection refused (is the port right and the broker up?)"),
            Self::TimedOut(after) => write!(f, "no answer within {after:?} (firewall or security group?)"),
            Self::NotKafka(why) => {
                write!(
                    f,
                    "no Kafka answer to the first request (wrong port, or a listener that wants TLS or SASL?): {why}"
                )
            }
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Sasl(why) => write!(f, "not authenticated {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// Kafka's own spelling of a code: `NOT_COORDINATOR (16)`.
pub(crate) fn kafka_name(code: ResponseError) -> String {
    if let ResponseError::Unknown(number) = code {
        return format!("error code {number}");
    }
    let mut name = String::new();
    for letter in code.to_string().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    format!("{name} ({})", code.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_and_where() {
        let at = Place {
            cluster: "tw".into(),
            api: "OffsetCommit",
            address: "b-1:9092".into(),
        };
        let partition = TopicPartition::new("orders", 3);
        let refused = Error::Kafka {
            at,
            on: On::GroupPartition("g".into(), partition),
            code: ResponseError::IllegalGeneration,
            message: Some("old".into()),
        };
        let text = "cluster tw: OffsetCommit at b-1:9092 for group g, partition orders-3: ILLEGAL_GENERATION (22): old";
        assert_eq!(refused.to_string(), text);
        let gave_up = Error::GaveUp {
            after: Duration::from_secs(3),
            last: Box::new(refused),
        };
        assert_eq!(gave_up.to_string(), format!("gave up after 3s: {text}"));
        assert_eq!(gave_up.code(), Some(ResponseError::IllegalGeneration));
        assert_eq!(gave_up.class(), Class::Rejoin);
        assert_eq!(kafka_name(ResponseError::Unknown(999)), "error code 999");
        assert!(size_of::<Error>() <= 128, "{}", size_of::<Error>());
    }
}
