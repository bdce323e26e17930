//! What MirrorMaker 2 noted in topics of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::batch::Record;
use kuroshio_core::mm2::Checkpoint;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error, Isolation, KafkaCode, OffsetAt, Topics};
use serde_json::Value;

/// Bytes read at a time.
const CHUNK: i32 = 1 << 20;

/// A key of Kafka Connect's offsets: the connector's name and the partition as the connector names it.
#[derive(serde::Deserialize)]
struct Key(
    #[expect(dead_code, reason = "part of the format")] String,
    Partition,
);

#[derive(serde::Deserialize)]
struct Partition {
    cluster: String,
    topic: String,
    partition: i32,
}

/// The source offset of the last record that was copied of each partition of `source`.
pub(super) async fn offsets(
    cluster: &Cluster,
    topic: &str,
    source: &str,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let mut noted = BTreeMap::new();
    for record in all(cluster, topic).await? {
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        // Checkpoint and heartbeat connectors name their partitions otherwise.
        let Ok(Key(_, of)) = serde_json::from_slice::<Key>(&key) else {
            continue;
        };
        if of.cluster != source {
            continue;
        }
        let partition = TopicPartition::new(of.topic, of.partition);
        let value: Option<Value> = serde_json::from_slice(&value).ok();
        match value.and_then(|value| value["offset"].as_i64()) {
            Some(offset) => noted.insert(partition, offset),
            None => noted.remove(&partition),
        };
    }
    Ok(noted)
}

/// For each group and partition of the target all that was ever written for it, from target offset to source offset.
pub(super) type Checkpoints = BTreeMap<Arc<str>, BTreeMap<TopicPartition, BTreeMap<i64, i64>>>;

/// The checkpoints that are still there.
pub(super) async fn checkpoints(cluster: &Cluster, topic: &str) -> Result<Checkpoints, Error> {
    let mut checkpoints = Checkpoints::new();
    for record in all(cluster, topic).await? {
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        if let Some(checkpoint) = Checkpoint::parse(&key, &value) {
            let of_group = checkpoints.entry(checkpoint.group.into()).or_default();
            let partition = TopicPartition::new(checkpoint.topic, checkpoint.partition);
            let known = of_group.entry(partition).or_default();
            let upstream = known.entry(checkpoint.downstream).or_insert(checkpoint.upstream);
            *upstream = checkpoint.upstream.min(*upstream);
        }
    }
    Ok(checkpoints)
}

/// All records of a topic, partition by partition; none if there is no such topic.
async fn all(cluster: &Cluster, topic: &str) -> Result<Vec<Record>, Error> {
    let metadata = cluster.metadata(Topics::Named(&[topic.into()])).await?;
    let mut partitions = BTreeSet::new();
    for told in metadata.topics {
        match told.error {
            Some(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => {}
            Some(error) => return Err(error),
            None => partitions.extend(told.names()),
        }
    }
    let mut records = Vec::new();
    for partition in partitions {
        let list = |at| cluster.list_offset(&partition, at, Isolation::ReadCommitted);
        let mut at = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
        let end = list(OffsetAt::Latest).await?.map_or(0, |listed| listed.offset);
        while at < end {
            let committed = cluster.read_committed(&partition, at, CHUNK).await?;
            records.extend(committed.records.into_iter().map(|(_, record)| record));
            if committed.next <= at {
                break;
            }
            at = committed.next;
        }
    }
    Ok(records)
}
