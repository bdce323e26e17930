//! `everything_has_a_limit`: the most memory that `kuroshio run` ever had, under the loads that cost it most. The bound is
//! that of docs/capacity.md.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Process, Spec, pair};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::regions::{WAIT, clusters};

pub(crate) const MIB: u64 = 1 << 20;
/// `memory` unless told.
const MEMORY: u64 = 128 * MIB;

/// What a process may have: twice `memory`, for the allocator and librdkafka round up, 96 MiB, 64 KiB for each partition, and
/// eight of the largest records: they are unpacked whole. Fitted to what was measured.
pub(crate) fn bound(partitions: u64, largest: u64) -> u64 {
    2 * MEMORY + 96 * MIB + partitions * (64 << 10) + 8 * largest
}

/// Records of this size, and what their topics must allow.
const LARGE: usize = 10 << 20;
const LARGE_LIMIT: &str = "11534336";

/// What lies in the source before the process starts.
#[derive(Clone)]
pub(crate) struct Backlog {
    pub(crate) topics: Vec<String>,
    /// Of each topic.
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    /// So many records in a row go to one partition.
    pub(crate) row: u64,
    pub(crate) codec: &'static str,
    pub(crate) value: fn(u64) -> Vec<u8>,
}

impl Backlog {
    pub(crate) async fn fill(&self, source: &Cluster) -> Result<()> {
        for topic in &self.topics {
            let limit = [("max.message.bytes", LARGE_LIMIT)];
            source.create_topic(topic, self.partitions, &limit).await?;
        }
        let mut config = source.client();
        config
            .set("compression.codec", self.codec)
            .set("message.max.bytes", LARGE_LIMIT)
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "200000");
        let backlog = self.clone();
        tokio::task::spawn_blocking(move || backlog.send(&config.create()?)).await?
    }

    fn send(&self, producer: &BaseProducer) -> Result<()> {
        let width = u64::try_from(self.partitions)?;
        for number in 0..self.records {
            let value = (self.value)(number);
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
            producer.poll(Duration::ZERO);
        }
        producer.flush(WAIT).context("producing")
    }

    /// Copies it with everything at its default, and holds the process to its bound.
    async fn copy(&self, name: &str, source: &Cluster, target: &Cluster) -> Result<()> {
        self.fill(source).await?;
        let flow = format!("memory-{name}");
        let mut kuroshio = Kuroshio::run(json!({
            "clusters": clusters(&[source, target]),
            "flows": [{ "name": flow, "source": "tw", "target": "jp" }],
            "defaults": { "topics": { "include": self.topics } },
            "log": { "format": "text" },
        }))?;
        let counted = format!("kuroshio_records_total{{flow=\"{flow}\"");
        let all = |text: &str| {
            let count = |line: &str| {
                line.rsplit(' ')
                    .next()
                    .and_then(|count| count.parse::<u64>().ok())
            };
            let lines = text.lines().filter(|line| line.starts_with(&counted));
            lines.filter_map(count).sum::<u64>() == self.records
        };
        kuroshio.until_http("/metrics", WAIT * 5, all).await?;
        let peak = Process { pid: kuroshio.pid() }.peak_rss()?;
        let partitions = self.topics.len() as u64 * u64::try_from(self.partitions)?;
        let bound = bound(partitions, (self.value)(0).len() as u64);
        println!("{name}: peak {} MiB, bound {} MiB", peak / MIB, bound / MIB);
        ensure!(
            peak <= bound,
            "{name}: {} MiB, more than {}",
            peak / MIB,
            bound / MIB
        );
        Ok(())
    }
}

/// One batch of such records becomes a hundred times as much when it is unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn small_records_that_compress_well_stay_within_memory() -> Result<()> {
    let pair = pair().await?;
    let backlog = Backlog {
        topics: vec!["memory-small".to_owned()],
        partitions: 24,
        records: 1_000_000,
        row: 10_000,
        codec: "zstd",
        value: |_| vec![b'x'; 100],
    };
    backlog.copy("small", &pair.tw, &pair.jp).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_stay_within_memory() -> Result<()> {
    let pair = pair().await?;
    let backlog = |codec, value| Backlog {
        topics: vec![format!("memory-large-{codec}")],
        partitions: 12,
        records: 60,
        row: 1,
        codec,
        value,
    };
    let noise = |number| {
        let mut value = vec![0; LARGE];
        fastrand::Rng::with_seed(number).fill(&mut value);
        value
    };
    backlog("none", noise).copy("large", &pair.tw, &pair.jp).await?;
    // The most that zstd can do: a thousandth.
    backlog("zstd", |_| vec![b'x'; LARGE])
        .copy("large-zstd", &pair.tw, &pair.jp)
        .await
}

/// On clusters of its own: ten thousand partitions would slow down whatever shares the brokers.
#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_stay_within_memory() -> Result<()> {
    // A broker keeps some 40 KiB of its heap for each partition, and every fetch names all of them.
    let roomy = |alias| Spec::new(alias).heap_mib(1536);
    let (source, target) = tokio::try_join!(Cluster::start(roomy("tw")), Cluster::start(roomy("jp")))?;
    let backlog = Backlog {
        topics: (0..100).map(|number| format!("memory-many-{number}")).collect(),
        partitions: 100,
        records: 100_000,
        row: 100,
        codec: "zstd",
        value: |number| format!("{number:0100}").into_bytes(),
    };
    backlog.copy("many", &source, &target).await
}
