//! The data sets: what they are, and how they come into the source.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

use crate::clusters::PARTITIONS;
use crate::progress::Progress;

/// So many records in a row go to one partition, so that batches fill up.
const ROW: u64 = 1000;
/// Until everything is on the source's disk.
const FLUSH: Duration = Duration::from_secs(300);

/// A kind of records.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DataSet {
    /// Order events of about 350 bytes in JSON; lz4.
    Json,
    /// 1 KiB of random bytes; uncompressed.
    Random,
    /// Readings of 100 bytes; zstd.
    Small,
    /// The order events again, uncompressed, each in a batch of its own.
    Single,
}

impl DataSet {
    pub(crate) const ALL: [Self; 4] = [Self::Json, Self::Random, Self::Small, Self::Single];

    /// Its topic, on both clusters.
    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Random => "random",
            Self::Small => "small",
            Self::Single => "single",
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Json => "JSON, 350 B, lz4",
            Self::Random => "random, 1 KiB, uncompressed",
            Self::Small => "readings, 100 B, zstd",
            Self::Single => "JSON, 350 B, one record per batch",
        }
    }

    /// Kafka's name of its codec.
    pub(crate) fn codec(self) -> &'static str {
        match self {
            Self::Json => "lz4",
            Self::Small => "zstd",
            Self::Random | Self::Single => "none",
        }
    }

    /// Records at this share.
    pub(crate) fn records(self, scale: f64) -> u64 {
        let whole = match self {
            Self::Json => 3_000_000.0,
            Self::Random => 1_500_000.0,
            Self::Small => 5_000_000.0,
            Self::Single => 200_000.0,
        };
        (whole * scale).max(1000.0) as u64
    }

    fn batch_records(self) -> &'static str {
        if self == Self::Single { "1" } else { "1000" }
    }
}

/// What lies in a source topic.
#[derive(Clone, Debug)]
pub(crate) struct Full {
    pub(crate) data: DataSet,
    /// Its name, on both clusters.
    pub(crate) topic: &'static str,
    pub(crate) records: u64,
    /// Of keys and values, uncompressed.
    pub(crate) bytes: u64,
    /// Records by partition.
    pub(crate) ends: Vec<i64>,
}

/// Fills the first `partitions` of `topic` on the source with records as in `data`. Blocks.
pub(crate) fn produce(
    source: &str,
    data: DataSet,
    (topic, partitions): (&'static str, i32),
    records: u64,
    progress: &Progress,
) -> Result<Full> {
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", source)
        .set("compression.type", data.codec())
        .set("linger.ms", "20")
        .set("batch.num.messages", data.batch_records())
        .set("batch.size", "262144")
        .set("queue.buffering.max.messages", "200000")
        .set("enable.idempotence", "false")
        .set("message.timeout.ms", "300000")
        .create()?;
    let mut random = fastrand::Rng::with_seed(0x6b75_726f);
    let (mut key, mut value) = (String::new(), Vec::new());
    let mut bytes = 0;
    for number in 0..records {
        fill(data, number, &mut random, &mut key, &mut value)?;
        bytes += (key.len() + value.len()) as u64;
        let row = if data == DataSet::Single { 1 } else { ROW };
        let partition = i32::try_from(number / row % u64::from(partitions.unsigned_abs()))?;
        let mut record = BaseRecord::to(topic)
            .partition(partition)
            .key(&key)
            .payload(&value);
        while let Err((why, refused)) = producer.send(record) {
            ensure!(
                why == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                "producing to {topic}: {why}"
            );
            producer.poll(Duration::from_millis(10));
            record = refused;
        }
        if number % 10_000 == 0 {
            producer.poll(Duration::ZERO);
            progress.say(&format!("producing {topic}: {number} of {records}"));
        }
    }
    producer.flush(FLUSH).context("producing to the source")?;
    let ends = (0..PARTITIONS)
        .map(|partition| Ok(producer.client().fetch_watermarks(topic, partition, FLUSH)?.1))
        .collect::<Result<Vec<i64>>>()?;
    let arrived: i64 = ends.iter().sum();
    ensure!(
        arrived == i64::try_from(records)?,
        "{arrived} of {records} records arrived in {topic}"
    );
    Ok(Full {
        data,
        topic,
        records,
        bytes,
        ends,
    })
}

fn fill(
    data: DataSet,
    number: u64,
    random: &mut fastrand::Rng,
    key: &mut String,
    value: &mut Vec<u8>,
) -> Result<()> {
    key.clear();
    value.clear();
    match data {
        DataSet::Json | DataSet::Single => {
            write!(key, "order-{:06}", random.u32(..1_000_000))?;
            order(number, random, value)?;
        }
        DataSet::Random => {
            write!(key, "{number:010}")?;
            value.resize(1024, 0);
            random.fill(value);
        }
        DataSet::Small => {
            write!(key, "s{:05}", random.u32(..20_000))?;
            reading(number, random, value)?;
        }
    }
    Ok(())
}

/// About 340 bytes that compress as such events do, to about two fifths.
pub(crate) fn order(number: u64, random: &mut fastrand::Rng, value: &mut Vec<u8>) -> Result<()> {
    use std::io::Write;
    let states = ["created", "paid", "packed", "shipped", "delivered"];
    write!(
        value,
        "{{\"event_id\":\"{:016x}{:016x}\",\"sequence\":{number},\"type\":\"order.{}\",\"occurred_at\":\"2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z\",\
         \"customer\":{{\"id\":{},\"country\":\"TW\",\"tier\":\"{}\"}},\"items\":[{{\"sku\":\"SKU-{:05}\",\"quantity\":{},\"price\":{}.{:02}}},\
         {{\"sku\":\"SKU-{:05}\",\"quantity\":{},\"price\":{}.{:02}}}],\"currency\":\"TWD\",\"warehouse\":\"tpe-{}\"}}",
        random.u64(..),
        random.u64(..),
        states[random.usize(..states.len())],
        random.u8(1..31),
        random.u8(..24),
        random.u8(..60),
        random.u8(..60),
        random.u16(..1000),
        random.u32(..5_000_000),
        if random.bool() { "standard" } else { "gold" },
        random.u32(..100_000),
        random.u8(1..9),
        random.u16(1..2000),
        random.u8(..100),
        random.u32(..100_000),
        random.u8(1..9),
        random.u16(1..2000),
        random.u8(..100),
        random.u8(1..5),
    )?;
    Ok(())
}

/// 94 bytes, beside a key of 6.
fn reading(number: u64, random: &mut fastrand::Rng, value: &mut Vec<u8>) -> Result<()> {
    use std::io::Write;
    write!(
        value,
        "site=tpe-{},seq={number},temperature={}.{:02},humidity={}.{:01},voltage=3.{:03},state=ok",
        random.u8(1..9),
        random.u8(10..35),
        random.u8(..100),
        random.u8(20..90),
        random.u8(..10),
        random.u16(..1000),
    )?;
    value.resize(94, b' ');
    Ok(())
}
