//! How the batches of topics are written on the target: compressed as their source says, or as configured, and no larger than the target
//! takes them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use kuroshio_core::batch;
use kuroshio_core::engine::{BatchForm, Codec};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, ConfigEntry, Error, Isolation, OffsetAt, Read, TopicMetadata};

use crate::board::FlowBoard;
use crate::config::Compression;

/// For topics whose source says nothing and has no batch yet.
const UNKNOWN: Codec = Codec::Lz4;
/// Enough for the header of a batch; a broker sends a whole batch anyway.
const PEEK: i32 = 4096;
/// What was found out is asked for again in every so many rounds of discovery (by default once a minute).
const RENEW: u64 = 6;
/// Topics whose newest batch is looked at again in one round, at most; what is new is looked at at once.
const AGAIN: usize = 50;
/// Partitions of a topic that are looked at, until one has a batch.
const LOOKS: usize = 3;
/// Looks at a time.
const AT_ONCE: usize = 16;
/// Topics in one request.
const TOPICS: usize = 500;
/// A topic to which several producers write has batches of several kinds; so many looks in a row that say the same change it, because that
/// opens its partitions anew.
const SURE: u32 = 3;

/// The forms of a flow's topics, by their names on the source.
#[derive(Debug)]
pub struct Forms {
    wanted: Compression,
    /// The target has configs to ask for.
    limited: bool,
    known: HashMap<Arc<str>, Known>,
    /// Rounds of discovery.
    round: u64,
}

/// What is known of a topic.
#[derive(Debug, Default)]
struct Known {
    /// By the source's `compression.type`.
    configured: Option<Codec>,
    /// By its batches.
    newest: Newest,
    /// The round in which they were last looked at.
    looked: u64,
    /// The target's `max.message.bytes`.
    limit: Option<u32>,
    /// What was last made of all that.
    form: Option<BatchForm>,
}

/// How the newest batches are compressed.
#[derive(Debug, Default)]
struct Newest {
    codec: Option<Codec>,
    /// What the last looks said instead, and how many.
    instead: Option<(Codec, u32)>,
}

impl Newest {
    fn saw(&mut self, codec: Codec) {
        let times = match self.instead {
            _ if self.codec == Some(codec) => {
                self.instead = None;
                return;
            }
            Some((said, times)) if said == codec => times + 1,
            _ => 1,
        };
        if self.codec.is_none() || times >= SURE {
            (self.codec, self.instead) = (Some(codec), None);
        } else {
            self.instead = Some((codec, times));
        }
    }
}

impl Known {
    fn form(&self, fixed: Option<Codec>) -> BatchForm {
        let codec = fixed.or(self.configured).or(self.newest.codec).unwrap_or(UNKNOWN);
        let limit = self.limit.unwrap_or(BatchForm::LARGEST).min(BatchForm::LARGEST);
        BatchForm { codec, limit }
    }
}

impl Forms {
    /// With this setting of `compression`; `embedded`: the clusters have no configs.
    #[must_use]
    pub fn new(wanted: Compression, embedded: bool) -> Self {
        Self {
            wanted,
            limited: !embedded,
            known: HashMap::new(),
            round: 0,
        }
    }

    /// The forms of these source topics, each with its name on the target.
    pub async fn of(
        &mut self,
        (source, target): (&Cluster, &Cluster),
        topics: &[(&TopicMetadata, &Arc<str>)],
        board: &FlowBoard,
    ) -> HashMap<Arc<str>, BatchForm> {
        let there: HashSet<&Arc<str>> = topics.iter().map(|(topic, _)| &topic.name).collect();
        self.known.retain(|name, _| there.contains(name));
        let due = self.round.is_multiple_of(RENEW);
        let new = |name: &Arc<str>| !self.known.contains_key(name);
        let names: Vec<_> = topics
            .iter()
            .map(|(topic, target)| (Arc::clone(&topic.name), Arc::clone(target)))
            .filter(|(name, _)| due || new(name))
            .collect();
        let fixed = fixed(self.wanted);
        for part in names.chunks(TOPICS) {
            if fixed.is_none() {
                self.ask_source(source, part, board).await;
            }
            if self.limited {
                self.ask_target(target, part, board).await;
            }
        }
        if fixed.is_none() {
            self.look(source, topics).await;
        }
        self.round += 1;
        let names = topics.iter().map(|(topic, _)| Arc::clone(&topic.name));
        names
            .map(|name| {
                let known = self.known.entry(Arc::clone(&name)).or_default();
                let form = known.form(fixed);
                if known.form.replace(form).is_some_and(|before| before != form) {
                    let (flow, codec, limit) = (board.name(), form.codec, form.limit);
                    tracing::info!(flow, topic = %name, ?codec, limit, "batches of a topic are written otherwise");
                }
                (name, form)
            })
            .collect()
    }

    async fn ask_source(&mut self, source: &Cluster, names: &[(Arc<str>, Arc<str>)], board: &FlowBoard) {
        let topics: Vec<Arc<str>> = names.iter().map(|(name, _)| Arc::clone(name)).collect();
        match source.topic_configs(&topics, Some(&["compression.type"])).await {
            Ok(mut told) => {
                for name in topics {
                    let value = value(told.remove(&name), "compression.type");
                    self.known.entry(name).or_default().configured = value.and_then(|value| named(&value));
                }
            }
            Err(error) => board.error(format!("compression of topics: {error}")),
        }
    }

    async fn ask_target(&mut self, target: &Cluster, names: &[(Arc<str>, Arc<str>)], board: &FlowBoard) {
        const LIMIT: &str = "max.message.bytes";
        let topics: Vec<Arc<str>> = names.iter().map(|(_, target)| Arc::clone(target)).collect();
        match target.topic_configs(&topics, Some(&[LIMIT])).await {
            Ok(mut told) => {
                for (name, target) in names {
                    let value = value(told.remove(target), LIMIT);
                    let limit = value.and_then(|value| value.parse().ok());
                    let known = self.known.entry(Arc::clone(name)).or_default();
                    known.limit = limit.or(known.limit);
                }
            }
            Err(error) => board.error(format!("{LIMIT} of topics: {error}")),
        }
    }

    /// Looks at the newest batches of topics whose source leaves compression to producers.
    async fn look(&mut self, source: &Cluster, topics: &[(&TopicMetadata, &Arc<str>)]) {
        let mut again = 0;
        let mut due = |topic: &TopicMetadata| {
            let Some(known) = self.known.get(&topic.name) else {
                return true;
            };
            let fresh = self.round < known.looked + RENEW;
            match (known.configured, known.newest.codec) {
                (Some(_), _) => false,
                (None, None) => true,
                (None, Some(_)) if fresh => false,
                (None, Some(_)) => {
                    again += 1;
                    again <= AGAIN
                }
            }
        };
        let mut partitions = Vec::new();
        for (topic, _) in topics {
            if due(topic) {
                let first = topic.partitions.iter().take(LOOKS);
                let first = first.map(|p| TopicPartition::new(Arc::clone(&topic.name), p.partition));
                partitions.push((Arc::clone(&topic.name), first.collect::<Vec<_>>()));
            }
        }
        let looks = stream::iter(partitions)
            .map(|(name, partitions)| async move { (name, newest(source, &partitions).await) });
        let looks: Vec<_> = looks.buffer_unordered(AT_ONCE).collect().await;
        for (name, codec) in looks {
            let known = self.known.entry(name).or_default();
            if let Some(codec) = codec {
                known.newest.saw(codec);
            }
            known.looked = self.round;
        }
    }
}

fn value(described: Option<Result<Vec<ConfigEntry>, Error>>, key: &str) -> Option<Arc<str>> {
    let entries = described?.ok()?;
    entries.into_iter().find(|entry| &*entry.key == key)?.value
}

fn fixed(wanted: Compression) -> Option<Codec> {
    named(wanted.as_str()).or_else(|| (wanted.as_str() == "none").then_some(Codec::None))
}

/// `compression.type`; `producer` means that each batch has its own.
fn named(value: &str) -> Option<Codec> {
    Some(match value {
        "uncompressed" => Codec::None,
        "gzip" => Codec::Gzip,
        "snappy" => Codec::Snappy,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        _ => return None,
    })
}

/// The codec of a newest batch of the topic. An empty topic, or one that cannot be read now, is asked again.
async fn newest(source: &Cluster, partitions: &[TopicPartition]) -> Option<Codec> {
    for partition in partitions {
        let end = source
            .list_offset(partition, OffsetAt::Latest, Isolation::ReadUncommitted)
            .await
            .ok()??
            .offset;
        // Offsets at the end may be transaction markers.
        for back in [1, 2, 3, 100] {
            let read = Read {
                offset: end - back,
                max_bytes: PEEK,
                isolation: Isolation::ReadUncommitted,
                max_wait: Duration::ZERO,
            };
            let Ok(chunk) = source.read(partition, read).await else {
                break;
            };
            if let Ok(Some(codec)) = batch::last_codec(chunk.records) {
                return Some(codec);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codec_changes_when_several_looks_in_a_row_say_so() {
        let mut newest = Newest::default();
        for (seen, codec) in [
            (Codec::Zstd, Codec::Zstd),
            (Codec::Lz4, Codec::Zstd),
            (Codec::Lz4, Codec::Zstd),
            (Codec::Zstd, Codec::Zstd),
            (Codec::Lz4, Codec::Zstd),
            (Codec::Gzip, Codec::Zstd),
            (Codec::Gzip, Codec::Zstd),
            (Codec::Gzip, Codec::Gzip),
            (Codec::Lz4, Codec::Gzip),
        ] {
            newest.saw(seen);
            assert_eq!(newest.codec, Some(codec));
        }
    }

    #[test]
    fn what_is_configured_goes_before_what_is_seen() {
        let known = |configured, newest, limit| Known {
            configured,
            newest: Newest {
                codec: newest,
                instead: None,
            },
            looked: 0,
            limit,
            form: None,
        };
        let (lz4, zstd) = (Some(Codec::Lz4), Some(Codec::Zstd));
        for (known, fixed, codec, limit) in [
            (known(None, None, None), None, UNKNOWN, BatchForm::LARGEST),
            (known(None, zstd, Some(5_000)), None, Codec::Zstd, 5_000),
            (known(lz4, zstd, None), None, Codec::Lz4, BatchForm::LARGEST),
            (
                known(lz4, zstd, Some(u32::MAX)),
                Some(Codec::Gzip),
                Codec::Gzip,
                BatchForm::LARGEST,
            ),
        ] {
            assert_eq!(known.form(fixed), BatchForm { codec, limit });
        }
    }
}
