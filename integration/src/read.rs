//! An independent reader: librdkafka's consumer, read_committed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

/// Reads every committed record of `topic` from the beginning in the order of each partition's log, and goes
/// on until the end of every partition is reached and `done` holds, or the time is up. Gives whether the ends
/// were reached. A topic that is not there yet is waited for. The end of a partition is its last stable offset, as its
/// broker gives it to the consumer.
pub(crate) fn read_to_end(
    mut config: ClientConfig,
    topic: &str,
    within: Duration,
    mut visit: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<bool> {
    let deadline = Instant::now() + within;
    let consumer: BaseConsumer = config
        .set("group.id", "ledger")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .create()?;
    let partitions = loop {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20))?;
        let found = metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len());
        // Whoever copies may still have to create it.
        if found > 0 || Instant::now() >= deadline {
            break i32::try_from(found)?;
        }
        drop(consumer.poll(Duration::from_millis(100)));
    };
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer
        .assign(&assignment)
        .with_context(|| format!("assigning {topic}"))?;
    let mut at_end = HashSet::new();
    let mut done = false;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                at_end.remove(&record.partition());
                done = visit(&record);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            // librdkafka goes on by itself; what does not heal ends at the deadline.
            Some(Err(_)) | None => (),
        }
        let all_at_end = partitions > 0 && at_end.len() == usize::try_from(partitions)?;
        if (all_at_end && done) || Instant::now() >= deadline {
            return Ok(all_at_end);
        }
    }
}
