//! What is copied: topics on a source, and how records come into them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::Cluster;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::data::order;

/// Until everything is on the source's disk.
const FLUSH: Duration = Duration::from_secs(120);

/// What the values of records are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values {
    /// Order events of about 350 bytes, lz4.
    Orders,
    /// So many random bytes, uncompressed.
    Random(usize),
}

/// Records to be produced.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) topics: Vec<String>,
    /// Of each topic.
    pub(super) partitions: i32,
    pub(super) values: Values,
    pub(super) records: u64,
    /// So many records in a row go to one partition.
    pub(super) row: u64,
    /// Records per second; none: as fast as it goes.
    pub(super) rate: Option<u32>,
}

impl Load {
    /// Produces it, and returns when all is acknowledged. Gives the bytes of the values.
    pub(super) async fn produce(self, source: &Cluster) -> Result<u64> {
        let mut config = source.client();
        config
            .set("linger.ms", "20")
            .set("batch.size", "262144")
            .set("message.max.bytes", "2000000")
            .set("queue.buffering.max.messages", "200000")
            .set("message.timeout.ms", "300000");
        tokio::task::spawn_blocking(move || self.send(&mut config)).await?
    }

    fn send(&self, config: &mut ClientConfig) -> Result<u64> {
        let codec = match self.values {
            Values::Orders => "lz4",
            Values::Random(_) => "none",
        };
        let producer: BaseProducer = config.set("compression.type", codec).create()?;
        let mut random = fastrand::Rng::with_seed(0x6b75_726f);
        let mut value = Vec::new();
        let mut bytes = 0;
        let width = u64::try_from(self.partitions)?;
        let start = Instant::now();
        for number in 0..self.records {
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
                std::thread::sleep(due.saturating_sub(start.elapsed())); // the pace itself
            }
            value.clear();
            match self.values {
                Values::Orders => order(number, &mut random, &mut value)?,
                Values::Random(size) => {
                    value.resize(size, 0);
                    random.fill(&mut value);
                }
            }
            bytes += value.len() as u64;
            let place = number / self.row % (self.topics.len() as u64 * width);
            let topic = &self.topics[usize::try_from(place / width)?];
            let mut record = BaseRecord::<(), [u8]>::to(topic)
                .partition(i32::try_from(place % width)?)
                .payload(&value);
            while let Err((why, refused)) = producer.send(record) {
                ensure!(
                    why == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                    "producing to {topic}: {why}"
                );
                producer.poll(Duration::from_millis(10));
                record = refused;
            }
            if number % 1000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(FLUSH).context("producing to the source")?;
        Ok(bytes)
    }
}
