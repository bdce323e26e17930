//! The metadata of a committed position: which source log it is a position of, and where its copies lie.

use std::fmt;

use crate::types::{Copies, SourceOffset, TargetOffset};

/// The topic id of clusters that give none: 16 zero bytes in Kafka's base64url.
pub const NO_TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A source log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogId {
    /// Kafka's cluster id: not empty, without white space.
    pub cluster: String,
    /// Kafka's topic id as Kafka writes it (base64url); [`NO_TOPIC_ID`] where it is not known.
    pub topic: String,
}

impl LogId {
    /// Whether the topics may be the same one: the same id, or one of them is not known.
    pub(super) fn may_be_topic(&self, other: &Self) -> bool {
        self.topic == other.topic || self.topic == NO_TOPIC_ID || other.topic == NO_TOPIC_ID
    }
}

/// What is stored with a position: `1 <source cluster id> <source topic id>`, and, if anything of [`Copies`] is known, where they
/// are in order and end, an offset or `-` each, from where on they have tags (left out at the end), and the id of the target topic
/// in which they lie, if it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Whose position it is.
    pub log: LogId,
    /// Where the copies lie.
    pub copies: Copies,
    /// Kafka's id of the topic that they lie in.
    pub target: Option<String>,
}

impl Metadata {
    /// `None` if the text was not written by `Display`.
    #[must_use]
    pub fn parse(metadata: &str) -> Option<Self> {
        let mut words = metadata.split(' ');
        let (version, cluster, topic) = (words.next()?, words.next()?, words.next()?);
        let mut offset = || words.next().map_or(Some(None), parse_offset);
        let copies = Copies {
            in_order: offset()?.map(TargetOffset),
            end: offset()?.map(TargetOffset),
            tagged_from: offset()?.map(SourceOffset),
        };
        let parsed = Self {
            log: LogId {
                cluster: cluster.to_owned(),
                topic: topic.to_owned(),
            },
            copies,
            target: words.next().map(str::to_owned),
        };
        let good = |id: &str| !id.is_empty() && !id.contains(char::is_whitespace);
        let ids = [Some(cluster), Some(topic), parsed.target.as_deref()];
        let valid = version == "1" && ids.into_iter().flatten().all(good);
        // One meaning has one text.
        (valid && parsed.to_string() == metadata).then_some(parsed)
    }
}

/// `Some(None)` is a `-`; `None` is no offset.
fn parse_offset(word: &str) -> Option<Option<i64>> {
    if word == "-" {
        return Some(None);
    }
    let offset: i64 = word.parse().ok()?;
    (offset >= 0 && offset.to_string() == word).then_some(Some(offset))
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 {} {}", self.log.cluster, self.log.topic)?;
        let Copies {
            in_order,
            end,
            tagged_from,
        } = self.copies;
        let words = [in_order.map(|o| o.0), end.map(|o| o.0), tagged_from.map(|o| o.0)];
        let count = match (&self.target, words) {
            (Some(_), _) | (None, [_, _, Some(_)]) => 3,
            (None, [None, None, None]) => 0,
            (None, _) => 2,
        };
        for offset in &words[..count] {
            match offset {
                Some(offset) => write!(f, " {offset}")?,
                None => f.write_str(" -")?,
            }
        }
        match &self.target {
            Some(target) => write!(f, " {target}"),
            None => Ok(()),
        }
    }
}
