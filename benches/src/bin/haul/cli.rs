//! What can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::carriers::{Carrier, Carry};
use crate::data::DataSet;

/// Copies the same data by Kuroshio, MirrorMaker 2 and two floors between two real clusters, and compares.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Carriers to measure; default: all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Carrier>,

    /// Data sets to measure; default: all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) data: Vec<DataSet>,

    /// Runs of each carrier on each data set.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,

    /// Share of each data set's records; 1 is long enough to measure the fastest.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,

    /// All carriers and data sets once, in about five minutes: one run at scale 0.1, latency at 1,000 rec/s only,
    /// nothing idle. The results go to target/haul-quick.
    #[arg(long)]
    pub(crate) quick: bool,

    /// No hauls.
    #[arg(long)]
    pub(crate) no_hauls: bool,

    /// No latency.
    #[arg(long)]
    pub(crate) no_latency: bool,

    /// No start on a target that delays a group's first rebalance by Kafka's default of 3 s.
    #[arg(long)]
    pub(crate) no_start: bool,

    /// No idle process with 2,000 partitions.
    #[arg(long)]
    pub(crate) no_idle: bool,

    /// No growth of partitions, flows, pumps and sizes of records.
    #[arg(long)]
    pub(crate) no_growth: bool,

    /// No link between the regions.
    #[arg(long)]
    pub(crate) no_wan: bool,

    /// Measure only what the results do not have yet.
    #[arg(long)]
    pub(crate) resume: bool,

    /// Where results are kept (haul.json and plots; RESULTS.md lies beside the folder).
    #[arg(long)]
    pub(crate) results: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes RESULTS.md and the plots from the kept results.
    Report(Report),
    /// One of haul's own copy loops, as a process of its own.
    #[command(hide = true)]
    Carry(Carry),
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Where results are kept.
    #[arg(long)]
    pub(crate) results: Option<PathBuf>,
}

impl Report {
    /// Where results are kept.
    pub(crate) fn dir(&self) -> PathBuf {
        self.results.clone().unwrap_or_else(standard_results)
    }
}

/// Where results are kept unless told: in this package's folder.
fn standard_results() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")
}

impl Cli {
    /// Where results are kept.
    pub(crate) fn results_dir(&self) -> PathBuf {
        match &self.results {
            Some(dir) => dir.clone(),
            None if self.quick => {
                PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/haul-quick/results")
            }
            None => standard_results(),
        }
    }

    /// Carriers to measure.
    pub(crate) fn carriers(&self) -> Vec<Carrier> {
        some_or_all(&self.only, &Carrier::ALL)
    }

    /// Data sets to measure.
    pub(crate) fn data_sets(&self) -> Vec<DataSet> {
        some_or_all(&self.data, &DataSet::ALL)
    }

    /// Runs per carrier and data set.
    pub(crate) fn runs(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }

    /// Share of the records.
    pub(crate) fn scale(&self) -> f64 {
        if self.quick { 0.1 } else { self.scale }
    }
}

fn some_or_all<T: Copy>(some: &[T], all: &[T]) -> Vec<T> {
    if some.is_empty() { all } else { some }.to_vec()
}
