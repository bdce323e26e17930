//! `haul`: what it costs to copy topics from one real Kafka cluster to another, for Kuroshio, MirrorMaker 2 and
//! two floors, side by side on the same brokers and data. benches/README.md says how to run it and what the
//! figures mean.

mod carriers;
mod cli;
mod client;
mod clusters;
mod count;
mod data;
mod growth;
mod idle;
mod latency;
mod machine;
mod measure;
mod plan;
mod progress;
mod report;
mod results;
mod wan;
mod watch;

use std::io::{Write, stderr};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};

/// What Kuroshio's binary has, for the loops that it is compared with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Carry(carry)) => carriers::carry(carry),
        Some(Command::Report(report)) => report::write(&report.dir()),
        None => measured(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            writeln!(stderr(), "haul: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Measures, or stops on a signal. What was started is dropped either way, which ends it.
fn measured(cli: &Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = plan::run(cli) => done,
            _ = interrupt.recv() => bail!("interrupted; what was measured is kept"),
            _ = terminate.recv() => bail!("terminated; what was measured is kept"),
        }
    });
    // A reader that still waits for its brokers ends with the process.
    runtime.shutdown_background();
    done.context("measuring")
}
