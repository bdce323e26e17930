//! Offsets, reads, and transactions of others.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster as Kafka, Ledger, Load, pair, until};
use kuroshio_wire::{Isolation, KafkaCode, OffsetAt, Read, Stored};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::regions::{WAIT, stored, wire};

#[tokio::test]
async fn offsets() -> Result<()> {
    offsets_are_found(&pair().await?.tw).await
}

#[tokio::test]
async fn reads() -> Result<()> {
    records_are_read(&pair().await?.tw).await
}

#[tokio::test]
async fn orphans() -> Result<()> {
    orphans_are_released(&pair().await?.tw).await
}

pub(super) async fn offsets_are_found(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let topic = "wire.offsets";
    kafka.create_topic(topic, 2, &[]).await?;
    let ledger = Ledger::new(11);
    ledger
        .produce(
            kafka,
            topic,
            Load {
                records: 2_000,
                partitions: 2,
                rate: None,
            },
        )
        .await?;
    let partition = |number| TopicPartition::new(topic, number);
    let wanted = [
        (partition(0), OffsetAt::Latest),
        (partition(1), OffsetAt::Earliest),
        (partition(9), OffsetAt::Latest),
    ];
    let mut listed = cluster.list_offsets(wanted, Isolation::ReadUncommitted).await;
    let end = listed
        .remove(&partition(0))
        .context("no outcome")??
        .context("no end")?
        .offset;
    let start = listed
        .remove(&partition(1))
        .context("no outcome")??
        .context("no start")?;
    let none = listed
        .remove(&partition(9))
        .context("no outcome")?
        .expect_err("there is no partition 9");
    ensure!(end > 0 && start.offset == 0, "{end} {start:?}");
    ensure!(none.code() == Some(KafkaCode::UnknownTopicOrPartition), "{none}");
    let future = OffsetAt::Timestamp(i64::MAX - 1);
    ensure!(
        cluster
            .list_offset(&partition(0), future, Isolation::ReadCommitted)
            .await?
            .is_none()
    );
    let first = cluster
        .list_offset(&partition(0), OffsetAt::Timestamp(0), Isolation::ReadCommitted)
        .await?;
    ensure!(
        first.is_some_and(|first| first.offset == 0 && first.timestamp.is_some()),
        "{first:?}"
    );
    let mut epochs = cluster.offsets_for_leader_epochs([(partition(0), 0)]).await;
    let epoch = epochs.remove(&partition(0)).context("no outcome")??;
    ensure!(
        (epoch.leader_epoch, epoch.end) == (Some(0), Some(end)),
        "{epoch:?}"
    );
    Ok(())
}

pub(super) async fn records_are_read(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let topic = "wire.reads";
    kafka.create_topic(topic, 1, &[]).await?;
    Ledger::new(12)
        .produce(
            kafka,
            topic,
            Load {
                records: 2_000,
                partitions: 1,
                rate: None,
            },
        )
        .await?;
    let partition = |number| TopicPartition::new(topic, number);
    let end = cluster
        .list_offset(&partition(0), OffsetAt::Latest, Isolation::ReadCommitted)
        .await?;
    let end = end.context("no end")?.offset;

    // A first batch larger than asked for comes whole.
    let read = |offset, max_bytes| Read {
        offset,
        max_bytes,
        isolation: Isolation::ReadCommitted,
        max_wait: Duration::from_millis(10),
    };
    let chunk = cluster.read(&partition(0), read(end / 2, 1)).await?;
    ensure!(
        chunk.records.len() > 61 && chunk.high_watermark == end && chunk.last_stable_offset == end,
        "{chunk:?}"
    );
    let base = i64::from_be_bytes(chunk.records[..8].try_into()?);
    ensure!(base <= end / 2, "{base}");
    let batch = chunk.batches(1 << 20).next().context("no batch")??;
    ensure!(
        batch.base_offset == base && batch.next_offset() > end / 2,
        "{batch:?}"
    );
    ensure!(
        batch.records().count() as i64 == batch.next_offset() - base,
        "{batch:?}"
    );
    let at_end = cluster.read(&partition(0), read(end, 1 << 20)).await?;
    ensure!(at_end.records.is_empty(), "{at_end:?}");
    let beyond = cluster
        .read(&partition(0), read(end + 1, 1 << 20))
        .await
        .expect_err("beyond the end");
    ensure!(beyond.code() == Some(KafkaCode::OffsetOutOfRange), "{beyond}");
    ensure!(
        beyond.to_string().contains("for partition wire.reads-0"),
        "{beyond}"
    );

    let mut starts = cluster.delete_records([(partition(0), 5)]).await;
    ensure!(starts.remove(&partition(0)).context("no outcome")?? == 5);
    let gone = cluster
        .read(&partition(0), read(0, 1))
        .await
        .expect_err("before the start");
    ensure!(gone.code() == Some(KafkaCode::OffsetOutOfRange), "{gone}");
    ensure!(cluster.read(&partition(0), read(5, 1)).await?.log_start == 5);
    Ok(())
}

/// A topic that is deleted and made anew while we know the old one: the answer is about the new one.
#[tokio::test]
async fn a_recreated_topic_is_followed() -> Result<()> {
    let kafka = &pair().await?.tw;
    let cluster = wire(kafka);
    let partition = TopicPartition::new("wire.recreated", 0);
    let read = Read {
        offset: 0,
        max_bytes: 1,
        isolation: Isolation::ReadCommitted,
        max_wait: Duration::ZERO,
    };
    for records in [500, 100] {
        kafka.create_topic("wire.recreated", 1, &[]).await?;
        let load = Load {
            records,
            partitions: 1,
            rate: None,
        };
        Ledger::new(records)
            .produce(kafka, "wire.recreated", load)
            .await?;
        let chunk = cluster.read(&partition, read).await?;
        let end = cluster
            .list_offset(&partition, OffsetAt::Latest, Isolation::ReadCommitted)
            .await?;
        ensure!(
            Some(chunk.high_watermark) == end.map(|end| end.offset),
            "{chunk:?} {end:?}"
        );
        kafka.delete_topic("wire.recreated").await?;
    }
    Ok(())
}

/// An open transaction holds offsets: reads say so, and taking its id over releases them.
pub(super) async fn orphans_are_released(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let (topic, group, id) = ("wire.orphans", "wire-orphans", "wire.orphan");
    kafka.create_topic(topic, 1, &[]).await?;
    let partition = TopicPartition::new(topic, 0);
    let (producer, consumer) = open_transaction(kafka, topic, group, id)?;

    ensure!(stored(&cluster, group, &partition).await? == Stored::Unstable);
    let committed = cluster
        .list_offset(&partition, OffsetAt::Latest, Isolation::ReadCommitted)
        .await?;
    let written = cluster
        .list_offset(&partition, OffsetAt::Latest, Isolation::ReadUncommitted)
        .await?;
    ensure!(committed.map(|end| end.offset) == Some(0) && written.map(|end| end.offset) == Some(1));
    let described = cluster.describe_transaction(id).await?;
    ensure!(
        &*described.state == "Ongoing" && described.partitions.contains(&partition),
        "{described:?}"
    );
    let listed = cluster.list_transactions().await?;
    ensure!(
        listed
            .iter()
            .any(|listed| &*listed.transactional_id == id && &*listed.state == "Ongoing"),
        "{listed:?}"
    );

    cluster
        .release_transactional_id(id, Duration::from_secs(10))
        .await?;
    until(WAIT, "stable offsets", || async {
        match stored(&cluster, group, &partition).await {
            Ok(Stored::Nothing) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let read = Read {
        offset: 0,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
        max_wait: Duration::ZERO,
    };
    let chunk = cluster.read(&partition, read).await?;
    ensure!(
        chunk.aborted.len() == 1 && chunk.aborted[0].first_offset == 0,
        "{chunk:?}"
    );
    let seen = chunk
        .batches(1 << 20)
        .filter_map(Result::ok)
        .flat_map(|batch| batch.records())
        .count();
    ensure!(seen == 0, "{seen} records of an aborted transaction are seen");
    let Err(fenced) = producer.commit_transaction(WAIT) else {
        bail!("the orphan could commit")
    };
    ensure!(fenced.to_string().to_lowercase().contains("fenced"), "{fenced}");
    drop(consumer);
    Ok(())
}

/// A producer with one record and one offset in its open transaction.
fn open_transaction(
    kafka: &Kafka,
    topic: &str,
    group: &str,
    id: &str,
) -> Result<(BaseProducer, BaseConsumer)> {
    let config = |key: &str, value: &str| -> ClientConfig {
        let mut config = kafka.client();
        config.set(key, value);
        config
    };
    let producer: BaseProducer = config("transactional.id", id).create()?;
    let consumer: BaseConsumer = config("group.id", group).create()?;
    producer.init_transactions(WAIT)?;
    producer.begin_transaction()?;
    let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(0).payload(b"orphan");
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(WAIT)?;
    let mut offsets = rdkafka::TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, rdkafka::Offset::Offset(1))?;
    let metadata = consumer
        .group_metadata()
        .context("the consumer has no group metadata")?;
    producer.send_offsets_to_transaction(&offsets, &metadata, WAIT)?;
    Ok((producer, consumer))
}
