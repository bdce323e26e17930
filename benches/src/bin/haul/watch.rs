//! A process that carries, and the targets that it carries to, looked at together.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kuroshio_integration::{Cluster, Link, Process, until};
use tokio::time::sleep;

use crate::client::Broker;
use crate::progress::Progress;

/// The targets' ends are looked at this often.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);
/// Ends that stood still for so long, with all records within them, are final.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// Until the broker leads all partitions.
const LED: Duration = Duration::from_secs(120);
/// Nothing comes any more.
const STALLED: Duration = Duration::from_secs(120);

/// Partitions on one target that are watched.
pub(crate) struct Target {
    broker: Broker,
    topics: Vec<String>,
    partitions: i32,
}

impl Target {
    pub(crate) fn new(bootstrap: &str, topics: Vec<String>, partitions: i32) -> Result<Self> {
        Ok(Self {
            broker: Broker::connect(bootstrap)?,
            topics,
            partitions,
        })
    }

    /// As [`Target::new`], once the broker leads all partitions: metadata says so a little earlier.
    pub(crate) async fn led(cluster: &Cluster, topics: Vec<String>, partitions: i32) -> Result<Self> {
        let target = RefCell::new(Self::new(cluster.bootstrap(), topics, partitions)?);
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
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Sum of the targets' ends.
    pub(crate) end: i64,
    /// Of the process since it began.
    pub(crate) cpu: Duration,
    /// Bytes on the link, if there is one, both directions.
    pub(crate) wire: u64,
}

/// From the first record that was seen to the last. Where all came at once, from the last moment without any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    /// Of all records, those that came in this time; markers of transactions lie evenly among them.
    pub(crate) share: f64,
    pub(crate) cpu_seconds: f64,
}

/// Watches a process and its targets.
pub(crate) struct Watch<'a> {
    process: Process,
    targets: Vec<Target>,
    link: Option<&'a Link>,
    /// The last moment at which nothing had come.
    before: Sample,
    first: Option<Sample>,
    /// When the ends last moved.
    pub(crate) last: Sample,
}

impl<'a> Watch<'a> {
    /// From now on.
    pub(crate) fn new(process: Process, targets: Vec<Target>, link: Option<&'a Link>) -> Result<Self> {
        let nothing = Sample {
            at: Instant::now(),
            end: 0,
            cpu: Duration::ZERO,
            wire: 0,
        };
        let mut watch = Self {
            process,
            targets,
            link,
            before: nothing,
            first: None,
            last: nothing,
        };
        watch.before = watch.look()?;
        watch.last = watch.before;
        Ok(watch)
    }

    /// The sum of the ends before anything came.
    pub(crate) fn began_at(&self) -> i64 {
        self.before.end
    }

    /// What is seen now; kept as the last move if the ends moved.
    pub(crate) fn look(&mut self) -> Result<Sample> {
        let (there, back) = self.link.map_or((0, 0), Link::carried);
        let mut end = 0;
        for target in &mut self.targets {
            end += target.end()?;
        }
        let sample = Sample {
            at: Instant::now(),
            end,
            cpu: self.process.cpu()?,
            wire: there + back,
        };
        if end != self.last.end {
            self.last = sample;
        }
        Ok(sample)
    }

    /// Waits for the first record; gives the age that the process then had in seconds.
    pub(crate) async fn first(&mut self) -> Result<f64> {
        let start = Instant::now();
        loop {
            let sample = self.look()?;
            if sample.end > self.before.end {
                self.first = Some(sample);
                return Ok(self.process.age()?.as_secs_f64());
            }
            ensure!(sample.at - start < STALLED, "no record came within {STALLED:?}");
            self.before = sample;
            sleep(INTERVAL).await;
        }
    }

    /// Waits until `records` came since the beginning and nothing more comes.
    pub(crate) async fn all(&mut self, records: u64, progress: &Progress) -> Result<()> {
        let wanted = self.before.end + i64::try_from(records)?;
        loop {
            sleep(INTERVAL).await;
            let sample = self.look()?;
            progress.say(&format!("{} of {wanted}", sample.end));
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

    /// Waits until nothing comes any more, the process having ended: the broker still takes what it had sent, and would take
    /// it into the next topic of that name.
    pub(crate) async fn still(mut self) -> Result<()> {
        self.last.at = Instant::now();
        while self.last.at.elapsed() < QUIET {
            let mut end = 0;
            for target in &mut self.targets {
                end += target.end()?;
            }
            if end != self.last.end {
                (self.last.end, self.last.at) = (end, Instant::now());
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    /// What it took up to the last move, from the first record if that was waited for.
    pub(crate) fn figures(&self) -> Figures {
        let from = self
            .first
            .filter(|first| first.end < self.last.end)
            .unwrap_or(self.before);
        Figures {
            seconds: (self.last.at - from.at).as_secs_f64(),
            share: (self.last.end - from.end) as f64 / (self.last.end - self.before.end) as f64,
            cpu_seconds: self.last.cpu.saturating_sub(from.cpu).as_secs_f64(),
        }
    }
}
