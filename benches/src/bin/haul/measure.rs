//! One haul: a carrier is started on a full source topic and watched until everything is on the target.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kuroshio_integration::{Cluster, Process};

use crate::carriers::{Carrier, Job};
use crate::client::Broker;
use crate::clusters::{Clusters, PARTITIONS, clean, create};
use crate::count;
use crate::data::Full;
use crate::progress::Progress;
use crate::results::HaulRun;

/// The target's ends and the process are looked at this often.
const INTERVAL: Duration = Duration::from_millis(10);
/// Ends that stood still for so long, with all records within them, are final.
const QUIET: Duration = Duration::from_secs(2);
/// Nothing comes any more.
const STALLED: Duration = Duration::from_secs(120);

/// What is seen at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    /// Sum of the target's ends as read_committed sees them: records, and the markers of transactions.
    end: i64,
    cpu: Duration,
}

/// Runs one haul and checks that the target has what the source has.
pub(crate) async fn haul(
    clusters: &Clusters,
    carrier: Carrier,
    full: &Full,
    progress: &Progress,
) -> Result<HaulRun> {
    let topic = full.topic;
    let target = prepare(clusters, &clusters.target, full).await?;
    let running = carrier.start(&job(clusters, &target, full))?;
    let (process, line, records) = (running.process(), progress.clone(), full.records);
    let watched = tokio::task::spawn_blocking(move || {
        let (start_seconds, mut watch) = first(process, &target, topic)?;
        watch.until_end(records, &line)?;
        watch.figures(start_seconds, records)
    })
    .await?
    .with_context(|| running.last_words())?;
    tokio::task::spawn_blocking(move || drop(running)).await?;
    let (target, full) = (clusters.target.bootstrap().to_owned(), full.clone());
    tokio::task::spawn_blocking(move || count::check(&target, &full, carrier.tags()))
        .await?
        .context("the copy is not what it should be")?;
    Ok(watched)
}

/// Seconds from the start of the carrier's process to its first record on `target`.
pub(crate) async fn start(
    clusters: &Clusters,
    target: &Cluster,
    carrier: Carrier,
    full: &Full,
) -> Result<f64> {
    let topic = full.topic;
    let bootstrap = prepare(clusters, target, full).await?;
    let running = carrier.start(&job(clusters, &bootstrap, full))?;
    let process = running.process();
    let first = tokio::task::spawn_blocking(move || first(process, &bootstrap, topic)).await?;
    let (seconds, _) = first.with_context(|| running.last_words())?;
    Ok(seconds)
}

/// Removes what others left and makes the topic anew; gives the target's address.
async fn prepare(clusters: &Clusters, target: &Cluster, full: &Full) -> Result<String> {
    clean(target, false).await?;
    clean(&clusters.source, true).await?;
    create(target, full.topic).await?;
    Ok(target.bootstrap().to_owned())
}

fn job<'a>(clusters: &'a Clusters, target: &'a str, full: &Full) -> Job<'a> {
    Job {
        source: clusters.source.bootstrap(),
        target,
        topics: full.topic,
        codec: full.data.codec(),
    }
}

/// Waits for the first record. Gives the age that the process then had in seconds.
fn first(process: Process, target: &str, topic: &'static str) -> Result<(f64, Watch)> {
    let mut watch = Watch::new(process, target, topic)?;
    let deadline = Instant::now() + STALLED;
    loop {
        let sample = watch.sample()?;
        if sample.end > 0 {
            watch.last = sample;
            watch.first = sample;
            return Ok((process.age()?.as_secs_f64(), watch));
        }
        watch.nothing = sample;
        if sample.at > deadline {
            bail!("no record of {topic} came within {STALLED:?}");
        }
        thread::sleep(INTERVAL);
    }
}

struct Watch {
    process: Process,
    broker: Broker,
    topic: &'static str,
    /// The last sample without a record.
    nothing: Sample,
    first: Sample,
    /// When the ends last moved.
    last: Sample,
}

impl Watch {
    fn new(process: Process, target: &str, topic: &'static str) -> Result<Self> {
        let nothing = Sample {
            at: Instant::now(),
            end: 0,
            cpu: Duration::ZERO,
        };
        Ok(Self {
            process,
            broker: Broker::connect(target)?,
            topic,
            nothing,
            first: nothing,
            last: nothing,
        })
    }

    fn sample(&mut self) -> Result<Sample> {
        let end = self.broker.ends(self.topic, PARTITIONS)?.iter().sum();
        Ok(Sample {
            at: Instant::now(),
            end,
            cpu: self.process.cpu()?,
        })
    }

    fn until_end(&mut self, records: u64, progress: &Progress) -> Result<()> {
        let records = i64::try_from(records)?;
        loop {
            thread::sleep(INTERVAL);
            let sample = self.sample()?;
            if sample.end != self.last.end {
                self.last = sample;
                progress.say(&format!("{}: {} of {records}", self.topic, sample.end));
                continue;
            }
            let quiet = sample.at - self.last.at;
            if quiet > STALLED {
                bail!(
                    "{} of {records} records came, then nothing for {STALLED:?}",
                    self.last.end
                );
            }
            if sample.end >= records && quiet > QUIET {
                return Ok(());
            }
        }
    }

    /// From the first record seen to the last. Where all came at once, from the last moment without any.
    fn figures(&self, start_seconds: f64, records: u64) -> Result<HaulRun> {
        let from = if self.first.end < self.last.end {
            self.first
        } else {
            self.nothing
        };
        // Markers lie evenly among the records.
        let share = (self.last.end - from.end) as f64 / self.last.end as f64;
        Ok(HaulRun {
            seconds: (self.last.at - from.at).as_secs_f64(),
            share,
            cpu_seconds: self.last.cpu.saturating_sub(from.cpu).as_secs_f64(),
            cpu_whole_seconds: self.last.cpu.as_secs_f64(),
            peak_rss_bytes: self.process.peak_rss()?,
            start_seconds,
            records,
        })
    }
}
