//! The first floor: what a plain loop over librdkafka costs that adds no tag, opens no transaction and keeps no
//! position. Its clients are set as the engine of Kuroshio sets its own.

use std::time::Duration;

use anyhow::{Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::Carry;
use crate::count::from_the_beginning;

/// Delivery reports are taken after so many records, or when there is nothing to read.
const REPORTS: usize = 500;

pub(super) fn run(carry: &Carry) -> Result<()> {
    let (consumer, producer) = clients(carry)?;
    let mut since_reports = 0;
    loop {
        match consumer.poll(Duration::from_millis(5)) {
            Some(Ok(read)) => {
                let mut record = BaseRecord::<[u8], [u8]>::to(&carry.topic).partition(read.partition());
                if let Some(timestamp) = read.timestamp().to_millis() {
                    record = record.timestamp(timestamp);
                }
                record.key = read.key();
                record.payload = read.payload();
                while let Err((why, refused)) = producer.send(record) {
                    if why != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                        bail!("producing to the target: {why}");
                    }
                    producer.poll(Duration::from_millis(1));
                    record = refused;
                }
                since_reports += 1;
            }
            Some(Err(why)) => bail!("reading the source: {why}"),
            None => since_reports = REPORTS,
        }
        if since_reports >= REPORTS {
            since_reports = 0;
            producer.poll(Duration::ZERO);
        }
    }
}

fn clients(carry: &Carry) -> Result<(BaseConsumer, BaseProducer)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &carry.source)
        .set("group.id", "haul-copy")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "32768")
        .set("queued.min.messages", "30000")
        .create()?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &carry.target)
        .set("compression.type", &carry.codec)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "2")
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "65536")
        .create()?;
    consumer.assign(&from_the_beginning(&carry.topic)?)?;
    // The first record then finds its partition.
    producer
        .client()
        .fetch_metadata(Some(&carry.topic), Duration::from_secs(20))?;
    Ok((consumer, producer))
}
