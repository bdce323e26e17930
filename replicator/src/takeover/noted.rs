//! What MirrorMaker 2 noted in topics of its own.

use std::collections::BTreeMap;
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

/// The source offset of the last record that was copied of each partition of `source`; `None`: there is no such topic.
pub(super) async fn offsets(
    cluster: &Cluster,
    topic: &str,
    source: &str,
) -> Result<Option<BTreeMap<TopicPartition, i64>>, Error> {
    let mut noted: BTreeMap<TopicPartition, (i64, Option<i64>)> = BTreeMap::new();
    let found = each(cluster, topic, |record| {
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        // Checkpoint and heartbeat connectors name their partitions otherwise.
        let Ok(Key(_, of)) = serde_json::from_slice::<Key>(&key) else {
            return;
        };
        if of.cluster != source {
            return;
        }
        let value: Option<Value> = serde_json::from_slice(&value).ok();
        let offset = value.and_then(|value| value["offset"].as_i64());
        // A connector that was called otherwise before has its own keys, which lie elsewhere in the topic: the newest note counts.
        let last = noted
            .entry(TopicPartition::new(of.topic, of.partition))
            .or_insert((record.timestamp, None));
        if record.timestamp >= last.0 {
            *last = (record.timestamp, offset);
        }
    })
    .await?;
    let known = noted
        .into_iter()
        .filter_map(|(partition, (_, offset))| Some((partition, offset?)));
    Ok(found.then(|| known.collect()))
}

/// What was written for a group and a partition, by target offset: source offset and note.
type Written = BTreeMap<i64, (i64, String)>;

/// What was written for each group and partition of the target.
pub(super) type Checkpoints = BTreeMap<Arc<str>, BTreeMap<TopicPartition, Written>>;

/// The checkpoints that are still there, of the groups that are `wanted`.
pub(super) async fn checkpoints(
    cluster: &Cluster,
    topic: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Checkpoints, Error> {
    let mut checkpoints = Checkpoints::new();
    each(cluster, topic, |record| {
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        let checkpoint = Checkpoint::parse(&key, &value);
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| wanted(&checkpoint.group)) {
            let of_group = checkpoints.entry(checkpoint.group.into()).or_default();
            let partition = TopicPartition::new(checkpoint.topic, checkpoint.partition);
            let known = of_group.entry(partition).or_default();
            let written = known
                .entry(checkpoint.downstream)
                .or_insert((checkpoint.upstream, checkpoint.metadata.clone()));
            if checkpoint.upstream <= written.0 {
                *written = (checkpoint.upstream, checkpoint.metadata);
            }
        }
    })
    .await?;
    Ok(checkpoints)
}

/// Hands out all records of a topic, partition by partition; false: there is no such topic.
async fn each(cluster: &Cluster, topic: &str, mut take: impl FnMut(Record)) -> Result<bool, Error> {
    let metadata = cluster.metadata(Topics::Named(&[topic.into()])).await?;
    let mut partitions = Vec::new();
    for told in metadata.topics {
        match told.error {
            Some(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => return Ok(false),
            Some(error) => return Err(error),
            None => partitions.extend(told.names()),
        }
    }
    for partition in partitions {
        let list = |at| cluster.list_offset(&partition, at, Isolation::ReadCommitted);
        let mut at = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
        let end = list(OffsetAt::Latest).await?.map_or(0, |listed| listed.offset);
        while at < end {
            let committed = cluster.read_committed(&partition, at, CHUNK).await?;
            if committed.next <= at {
                tracing::warn!(
                    cluster = %cluster.alias(), topic, partition = partition.partition, offset = at,
                    "cannot be read from here on: the rest of it is not known");
                break;
            }
            committed.records.into_iter().for_each(|(_, record)| take(record));
            at = committed.next;
        }
    }
    Ok(true)
}
