//! What carries records from the source to the target, each as a process of its own.

mod copy;
mod kuroshio;
mod mm2;
mod own;
mod raw;

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use clap::ValueEnum;
use kuroshio_integration::{Mm2, Process};
use serde::{Deserialize, Serialize};

pub(crate) use own::{Carry, carry};

/// Who carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Carrier {
    /// MirrorMaker 2 as it comes.
    Mm2Defaults,
    /// MirrorMaker 2 with lz4, large batches, large polls and fetches.
    Mm2Tuned,
    /// Kuroshio with delivery at_least_once.
    KuroshioAtLeastOnce,
    /// Kuroshio with delivery exactly_once.
    KuroshioExactlyOnce,
    /// A plain loop over librdkafka's consumer and producer: no tag, no transactions, no positions.
    Copy,
    /// A loop that copies whole record batches, headers patched, records untouched.
    RawVerbatim,
    /// A loop that copies record batches, merges small ones and writes the origin tag into every record.
    RawTagged,
}

impl Carrier {
    pub(crate) const ALL: [Self; 7] = [
        Self::Mm2Defaults,
        Self::Mm2Tuned,
        Self::KuroshioAtLeastOnce,
        Self::KuroshioExactlyOnce,
        Self::Copy,
        Self::RawVerbatim,
        Self::RawTagged,
    ];

    /// Those that a user could deploy; the others are floors.
    pub(crate) const PRODUCTS: [Self; 4] = [
        Self::Mm2Defaults,
        Self::Mm2Tuned,
        Self::KuroshioAtLeastOnce,
        Self::KuroshioExactlyOnce,
    ];

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Mm2Defaults => "MM2, defaults",
            Self::Mm2Tuned => "MM2, tuned",
            Self::KuroshioAtLeastOnce => "Kuroshio, at_least_once",
            Self::KuroshioExactlyOnce => "Kuroshio, exactly_once",
            Self::Copy => "librdkafka copy loop, no tag",
            Self::RawVerbatim => "raw batches, verbatim",
            Self::RawTagged => "raw batches, tagged",
        }
    }

    /// Whether it writes the origin tag.
    pub(crate) fn tags(self) -> bool {
        matches!(
            self,
            Self::KuroshioAtLeastOnce | Self::KuroshioExactlyOnce | Self::RawTagged
        )
    }

    /// Starts it. It carries until it is dropped.
    pub(crate) fn start(self, job: &Job<'_>) -> Result<Running> {
        match self {
            Self::Mm2Defaults => mm2::start(job, mm2::Settings::Defaults),
            Self::Mm2Tuned => mm2::start(job, mm2::Settings::Tuned),
            Self::KuroshioAtLeastOnce => kuroshio::start(job, "at_least_once").map(Running::Kuroshio),
            Self::KuroshioExactlyOnce => kuroshio::start(job, "exactly_once").map(Running::Kuroshio),
            Self::Copy => own::start(job, own::Kind::Copy).map(Running::Own),
            Self::RawVerbatim => own::start(job, own::Kind::RawVerbatim).map(Running::Own),
            Self::RawTagged => own::start(job, own::Kind::RawTagged).map(Running::Own),
        }
    }
}

/// What is to be carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// Bootstrap address of the source's one broker.
    pub(crate) source: &'a str,
    /// Of the target's.
    pub(crate) target: &'a str,
    /// A regular expression of topics for Kuroshio and MM2, the topic's name for the loops.
    pub(crate) topics: &'a str,
    /// What the loops compress with.
    pub(crate) codec: &'a str,
}

/// A carrier at work. It ends when this is dropped.
#[derive(Debug)]
pub(crate) enum Running {
    Kuroshio(kuroshio_integration::Kuroshio),
    Mm2(Mm2, u32),
    Own(own::Child),
}

impl Running {
    /// Its process.
    pub(crate) fn process(&self) -> Process {
        let pid = match self {
            Self::Kuroshio(kuroshio) => kuroshio.pid(),
            Self::Mm2(_, pid) => *pid,
            Self::Own(child) => child.pid(),
        };
        Process { pid }
    }

    /// The end of what it wrote, for an error.
    pub(crate) fn last_words(&self) -> String {
        let log = match self {
            Self::Kuroshio(kuroshio) => kuroshio.log_tail(),
            Self::Mm2(mm2, _) => mm2.log_tail(),
            Self::Own(child) => child.log_tail(),
        };
        format!("the carrier wrote:\n{log}\nand this went wrong")
    }
}

/// A number that no carrier of this process had: nobody finds the positions of an earlier run.
pub(crate) fn fresh() -> u32 {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    STARTED.fetch_add(1, Ordering::Relaxed)
}
