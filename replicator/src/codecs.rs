//! How the batches of a topic are compressed on the target: as its source says, or as configured.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::batch;
use kuroshio_core::engine::Codec;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Isolation, OffsetAt, Read, TopicMetadata};

use crate::board::FlowBoard;
use crate::config::Compression;

/// For topics whose source says nothing and has no batch yet.
const UNKNOWN: Codec = Codec::Lz4;
/// Enough for the header of a batch; a broker sends a whole batch anyway.
const PEEK: i32 = 4096;

/// The codecs of a flow's topics, found out once per topic.
#[derive(Debug)]
pub struct Codecs {
    wanted: Compression,
    known: HashMap<Arc<str>, Codec>,
}

impl Codecs {
    /// As configured.
    #[must_use]
    pub fn new(wanted: Compression) -> Self {
        Self {
            wanted,
            known: HashMap::new(),
        }
    }

    /// The codecs of these source topics.
    pub async fn of(
        &mut self,
        source: &Cluster,
        topics: &[&TopicMetadata],
        board: &FlowBoard,
    ) -> HashMap<Arc<str>, Codec> {
        if let Some(codec) = fixed(self.wanted) {
            return topics
                .iter()
                .map(|topic| (Arc::clone(&topic.name), codec))
                .collect();
        }
        self.known
            .retain(|name, _| topics.iter().any(|topic| topic.name == *name));
        let new: Vec<&TopicMetadata> = topics
            .iter()
            .copied()
            .filter(|topic| !self.known.contains_key(&topic.name))
            .collect();
        if !new.is_empty() {
            let names: Vec<Arc<str>> = new.iter().map(|topic| Arc::clone(&topic.name)).collect();
            let mut configs = match source.topic_configs(&names, Some(&["compression.type"])).await {
                Ok(configs) => configs,
                Err(error) => {
                    board.error(format!("compression of topics: {error}"));
                    HashMap::new()
                }
            };
            for topic in new {
                let configured = configs
                    .remove(&topic.name)
                    .and_then(Result::ok)
                    .and_then(|entries| {
                        let value = entries
                            .into_iter()
                            .find(|entry| &*entry.key == "compression.type")?
                            .value?;
                        named(&value)
                    });
                let codec = match configured {
                    Some(codec) => Some(codec),
                    None => newest(source, topic).await,
                };
                if let Some(codec) = codec {
                    self.known.insert(Arc::clone(&topic.name), codec);
                }
            }
        }
        self.known.clone()
    }
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
async fn newest(source: &Cluster, topic: &TopicMetadata) -> Option<Codec> {
    for partition in topic.partitions.iter().take(3) {
        let partition = TopicPartition::new(Arc::clone(&topic.name), partition.partition);
        let end = source
            .list_offset(&partition, OffsetAt::Latest, Isolation::ReadUncommitted)
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
            let Ok(chunk) = source.read(&partition, read).await else {
                break;
            };
            if let Ok(Some(codec)) = batch::last_codec(chunk.records) {
                return Some(codec);
            }
        }
    }
    tracing::debug!(cluster = %source.alias(), topic = %topic.name, codec = ?UNKNOWN, "no batch to learn the compression from yet");
    None
}
