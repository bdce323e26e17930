//! Many partitions: what they cost idle, under a load that stays the same, in memory and at the start.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kuroshio_integration::{Cluster, Kuroshio, Spec};
use serde_json::json;

use super::source::{Load, Values};
use super::{Point, point, process};
use crate::progress::Progress;
use crate::watch::{Target, Watch};

/// Most partitions of a topic.
const WIDTH: i32 = 1000;
/// Records that wait for the process.
const WAITING: u64 = 1000;
/// Positions are decided, and metadata settles.
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(10);
/// Records per second.
const RATE: u32 = 5000;
const LOADED: u64 = 50_000;

/// Two clusters of their own, which go when they are through: what was made stays until then.
pub(super) struct Bench {
    source: Cluster,
    target: Cluster,
    progress: Progress,
}

impl Bench {
    pub(super) async fn start(progress: &Progress) -> Result<Self> {
        let spec = |alias| Spec::new(alias).heap_mib(1024);
        let (source, target) = tokio::try_join!(Cluster::start(spec("tw")), Cluster::start(spec("jp")))?;
        Ok(Self {
            source,
            target,
            progress: progress.clone(),
        })
    }

    pub(super) async fn point(&mut self, partitions: u64) -> Result<Point> {
        let partitions = i32::try_from(partitions)?;
        let width = partitions.min(WIDTH);
        let topics: Vec<_> = (0..partitions / width)
            .map(|number| format!("growth-{partitions}-{number}"))
            .collect();
        let made = Instant::now();
        for topic in &topics {
            tokio::try_join!(
                self.source.create_topic(topic, width, &[]),
                self.target.create_topic(topic, width, &[])
            )?;
        }
        for cluster in [&self.source, &self.target] {
            Target::led(cluster, topics.clone(), width).await?;
        }
        self.progress.done(&format!(
            "growth: {partitions} partitions made on both clusters in {:.1} s",
            made.elapsed().as_secs_f64()
        ));
        let load = |records, rate| Load {
            topics: topics.clone(),
            partitions: width,
            values: Values::Random(350),
            records,
            row: 10,
            rate,
        };
        load(WAITING, None).produce(&self.source).await?;
        let kuroshio = Kuroshio::run(json!({
            "clusters": {
                "tw": { "bootstrap_servers": self.source.bootstrap() },
                "jp": { "bootstrap_servers": self.target.bootstrap() },
            },
            "flows": [{ "name": format!("growth-{partitions}"), "source": "tw", "target": "jp" }],
            "defaults": { "topics": { "include": [format!("growth-{partitions}-.*")] } },
            "log": { "format": "text" },
        }))?;
        let target = || Target::new(self.target.bootstrap(), topics.clone(), width);
        self.measure(&kuroshio, target, load(LOADED, Some(RATE)))
            .await
            .with_context(|| kuroshio.log_tail())
    }

    async fn measure(
        &self,
        kuroshio: &Kuroshio,
        target: impl Fn() -> Result<Target>,
        load: Load,
    ) -> Result<Point> {
        let process = process(kuroshio);
        let mut watch = Watch::new(process, vec![target()?], None)?;
        let start = watch.first().await?;
        watch.all(WAITING, &self.progress).await?;
        tokio::time::sleep(SETTLE).await;
        let before = process.cpu()?;
        tokio::time::sleep(IDLE).await;
        let idle = process.cpu()?.saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64();
        let idle_rss = process.peak_rss()?;
        let mut watch = Watch::new(process, vec![target()?], None)?;
        let bytes = load.produce(&self.source).await?;
        watch.all(LOADED, &self.progress).await?;
        Ok(Point {
            idle_cores: Some(idle),
            idle_rss_bytes: Some(idle_rss),
            ..point(&watch, process, start, LOADED, bytes)?
        })
    }
}
