//! What is really on the target: every committed record, counted by a consumer after the clock has stopped.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_core::origin;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::clusters::PARTITIONS;
use crate::data::Full;

/// For all records of a data set.
const LIMIT: Duration = Duration::from_secs(300);

/// Reads the target's topic to its end and compares with the source: records of each partition, bytes, and
/// that each record has an origin tag that explains it, or none has one. Blocks.
///
/// # Errors
/// When something differs, or the end is not reached in five minutes.
pub(crate) fn check(target: &str, full: &Full, tagged: bool) -> Result<()> {
    let topic = full.topic;
    let consumer = consumer(target, topic)?;
    let deadline = Instant::now() + LIMIT;
    let mut counts = vec![0_i64; full.ends.len()];
    let (mut bytes, mut tags) = (0, 0);
    let mut at_end = HashSet::new();
    while at_end.len() < full.ends.len() {
        ensure!(
            Instant::now() < deadline,
            "the end of {topic} on the target is not reached"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                let count = counts.get_mut(usize::try_from(record.partition())?);
                *count.context("a partition that the source does not have")? += 1;
                let size = record.key().map_or(0, <[u8]>::len) + record.payload().map_or(0, <[u8]>::len);
                bytes += size as u64;
                tags += u64::from(explained(&record));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition);
            }
            // librdkafka goes on by itself; what does not heal ends at the deadline.
            Some(Err(_)) | None => {}
        }
    }
    ensure!(
        counts == full.ends,
        "{topic}: the target has {counts:?} records, the source {:?}",
        full.ends
    );
    ensure!(
        bytes == full.bytes,
        "{topic}: the target has {bytes} bytes, the source {}",
        full.bytes
    );
    let expected = if tagged { full.records } else { 0 };
    ensure!(
        tags == expected,
        "{topic}: {tags} records have an origin tag, not {expected}"
    );
    Ok(())
}

/// Whether the record's last header is a tag that explains it.
fn explained(record: &BorrowedMessage<'_>) -> bool {
    let Some(headers) = record.headers().filter(|headers| headers.count() > 0) else {
        return false;
    };
    let last = headers.get(headers.count() - 1);
    let check = origin::check(record.key(), record.payload());
    last.key == origin::HEADER
        && last
            .value
            .is_some_and(|tag| origin::explains(tag, record.topic(), record.partition(), check))
}

/// A read_committed consumer at the beginning of all partitions.
pub(crate) fn consumer(bootstrap: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "haul-count")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    consumer.assign(&from_the_beginning(topic)?)?;
    Ok(consumer)
}

/// All partitions of a topic, each at its beginning.
pub(crate) fn from_the_beginning(topic: &str) -> Result<TopicPartitionList> {
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    Ok(partitions)
}
