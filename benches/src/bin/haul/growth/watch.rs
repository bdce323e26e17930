//! A process that carries, and the targets that it carries to.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Process, until};

use super::Point;
use crate::client::Broker;

/// The targets' ends are looked at this often.
const INTERVAL: Duration = Duration::from_millis(10);
/// Ends that stood still for so long, with all records within them, are final.
const QUIET: Duration = Duration::from_secs(1);
/// Until the broker leads all partitions.
const LED: Duration = Duration::from_secs(120);
/// Nothing comes any more.
const STALLED: Duration = Duration::from_secs(120);

/// Partitions on one target that are watched.
pub(super) struct Target {
    broker: Broker,
    topics: Vec<String>,
    partitions: i32,
}

impl Target {
    pub(super) fn new(cluster: &Cluster, topics: Vec<String>, partitions: i32) -> Result<Self> {
        Ok(Self {
            broker: Broker::connect(cluster.bootstrap())?,
            topics,
            partitions,
        })
    }

    /// As [`Target::new`], once the broker leads all partitions: metadata says so a little earlier.
    pub(super) async fn led(cluster: &Cluster, topics: Vec<String>, partitions: i32) -> Result<Self> {
        let target = RefCell::new(Self::new(cluster, topics, partitions)?);
        until(LED, "leaders of all partitions", || async {
            target
                .borrow_mut()
                .end()
                .map(drop)
                .map_err(|why| format!("{why:#}"))
        })
        .await?;
        Ok(target.into_inner())
    }

    /// The sum of the ends as read_committed sees them: records, and the markers of transactions.
    fn end(&mut self) -> Result<i64> {
        let mut sum = 0;
        for topic in &self.topics {
            sum += self.broker.ends(topic, self.partitions)?.iter().sum::<i64>();
        }
        Ok(sum)
    }
}

/// What is seen at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    end: i64,
    cpu: Duration,
}

/// Watches a process and its targets.
pub(super) struct Watch {
    process: Process,
    targets: Vec<Target>,
    start: Sample,
    first: Option<Sample>,
    last: Sample,
}

impl Watch {
    /// From now on.
    pub(super) fn new(process: Process, targets: Vec<Target>) -> Result<Self> {
        let nothing = Sample {
            at: Instant::now(),
            end: 0,
            cpu: Duration::ZERO,
        };
        let mut watch = Self {
            process,
            targets,
            start: nothing,
            first: None,
            last: nothing,
        };
        watch.start = watch.sample()?;
        watch.last = watch.start;
        Ok(watch)
    }

    fn sample(&mut self) -> Result<Sample> {
        let mut end = 0;
        for target in &mut self.targets {
            end += target.end()?;
        }
        Ok(Sample {
            at: Instant::now(),
            end,
            cpu: self.process.cpu()?,
        })
    }

    /// Waits for the first record; gives the age that the process then had in seconds.
    pub(super) fn first(&mut self) -> Result<f64> {
        loop {
            let sample = self.sample()?;
            if sample.end > self.start.end {
                (self.first, self.last) = (Some(sample), sample);
                return Ok(self.process.age()?.as_secs_f64());
            }
            ensure!(
                sample.at - self.start.at < STALLED,
                "no record came within {STALLED:?}"
            );
            self.start = sample;
            std::thread::sleep(INTERVAL);
        }
    }

    /// Waits until `records` came since the beginning and nothing more comes.
    pub(super) fn all(&mut self, records: u64) -> Result<()> {
        let wanted = self.start.end + i64::try_from(records)?;
        loop {
            std::thread::sleep(INTERVAL);
            let sample = self.sample()?;
            if sample.end != self.last.end {
                self.last = sample;
                continue;
            }
            let quiet = sample.at - self.last.at;
            ensure!(
                quiet < STALLED,
                "{} of {wanted} came, then nothing for {STALLED:?}",
                sample.end
            );
            if sample.end >= wanted && quiet > QUIET {
                return Ok(());
            }
        }
    }

    /// What `records` of `bytes` in all took, from the first one seen to the last, or from the beginning of the watch if the
    /// first was not waited for.
    pub(super) fn point(&self, start_seconds: f64, records: u64, bytes: u64) -> Result<Point> {
        let from = self
            .first
            .filter(|first| first.end < self.last.end)
            .unwrap_or(self.start);
        // Markers lie evenly among the records.
        let share = (self.last.end - from.end) as f64 / (self.last.end - self.start.end) as f64;
        Ok(Point {
            start_seconds,
            idle_cores: None,
            idle_rss_bytes: None,
            seconds: (self.last.at - from.at).as_secs_f64(),
            records: records as f64 * share,
            cpu_seconds: self.last.cpu.saturating_sub(from.cpu).as_secs_f64(),
            record_bytes: bytes as f64 / records as f64,
            peak_rss_bytes: self.process.peak_rss()?,
        })
    }
}

/// Carries what lies in the sources, and measures from the first record to the last.
pub(super) async fn backlog(
    kuroshio: Kuroshio,
    targets: Vec<Target>,
    records: u64,
    bytes: u64,
) -> Result<Point> {
    tokio::task::spawn_blocking(move || {
        let watched = || -> Result<Point> {
            let mut watch = Watch::new(process(&kuroshio), targets)?;
            let start = watch.first()?;
            watch.all(records)?;
            watch.point(start, records, bytes)
        };
        watched().with_context(|| kuroshio.log_tail())
    })
    .await?
}

/// The process.
pub(super) fn process(kuroshio: &Kuroshio) -> Process {
    Process { pid: kuroshio.pid() }
}
