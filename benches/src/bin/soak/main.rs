//! `soak`: Kuroshio for an hour under a steady load, with instances that come and go: what it needs stays flat, and at the end every
//! record is there once. benches/README.md says how to run it and what the figures mean.

mod guests;
mod plot;
mod samples;

use std::cell::Cell;
use std::fs;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kuroshio_integration::{Kuroshio, Ledger, Load, Pair, pair};
use serde_json::{Value, json};

use crate::samples::{Samples, watch};

const TOPIC: &str = "soak.orders";
const PARTITIONS: i32 = 12;
/// Longest wait for what takes seconds.
const WAIT: Duration = Duration::from_secs(180);

/// Two clusters, both flows exactly once, two instances that stay and one that comes and goes.
#[derive(Debug, Parser)]
struct Cli {
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..))]
    minutes: u64,
    /// Records per second, half of them on each side.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..))]
    rate: u64,
    /// Where soak.json and soak.svg go.
    #[arg(long, value_name = "DIRECTORY", default_value = "benches/results")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    fs::create_dir_all(&cli.out).with_context(|| cli.out.display().to_string())?;
    let pair = pair().await?;
    for cluster in [&pair.tw, &pair.jp] {
        cluster.create_topic(TOPIC, PARTITIONS, &[]).await?;
    }
    let mut stay = [instance(pair, "a")?, instance(pair, "b")?];
    for process in &mut stay {
        process.ready(WAIT).await?;
    }
    let ledger = Ledger::new(9);
    let load = Load {
        records: cli.rate / 2 * cli.minutes * 60,
        partitions: PARTITIONS,
        rate: Some(cli.rate / 2),
    };
    let over = Cell::new(false);
    let produced = async {
        let produced = tokio::try_join!(
            ledger.produce(&pair.tw, TOPIC, load),
            ledger.produce(&pair.jp, TOPIC, load)
        );
        over.set(true);
        produced.map(drop)
    };
    let guests = async { guests::come_and_go(pair, &stay, &over).await };
    let (produced, guests, samples) = tokio::join!(produced, guests, watch(&stay, &over));
    produced?;
    let (guests, samples) = (guests?, samples?);
    let exact = exact(pair, &ledger).await;
    report(&cli, &samples, guests)?;
    exact?;
    let grown = samples.grown();
    ensure!(grown.is_empty(), "not flat: {}", grown.join("; "));
    Ok(())
}

/// A process of its own instance for both flows.
fn instance(pair: &Pair, name: &str) -> Result<Kuroshio> {
    let cluster = |bootstrap: &str| json!({ "bootstrap_servers": bootstrap });
    Kuroshio::run(json!({
        "instance": format!("soak-{name}"),
        "clusters": { "tw": cluster(pair.tw.bootstrap()), "jp": cluster(pair.jp.bootstrap()) },
        "flows": [
            { "name": "soak-tw-jp", "source": "tw", "target": "jp" },
            { "name": "soak-jp-tw", "source": "jp", "target": "tw" },
        ],
        "defaults": { "topics": { "include": [TOPIC.replace('.', "[.]")] }, "heartbeats": { "enabled": true } },
        "log": { "format": "text" },
    }))
}

/// Every record on both sides, once, in order.
async fn exact(pair: &Pair, ledger: &Ledger) -> Result<()> {
    for cluster in [&pair.tw, &pair.jp] {
        let births = [("tw", TOPIC), ("jp", TOPIC)];
        // Reading takes longer than copying.
        let report = ledger.compare(cluster, TOPIC, &births, WAIT * 10).await?;
        writeln!(stdout(), "{}: {report}", cluster.alias())?;
        ensure!(report.is_exact(), "{}: {report}", cluster.alias());
    }
    Ok(())
}

fn report(cli: &Cli, samples: &Samples, guests: u64) -> Result<()> {
    let at = |name: &str| cli.out.join(name);
    let figures: Value = json!({
        "minutes": cli.minutes, "rate": cli.rate, "guests": guests,
        "summary": samples.summary(), "samples": samples.rows(),
    });
    fs::write(at("soak.json"), serde_json::to_string(&figures)? + "\n")?;
    fs::write(at("soak.svg"), plot::draw(samples)?)?;
    writeln!(
        stdout(),
        "{} minutes at {} records/s, {guests} instances came and went\n{}\n{}",
        cli.minutes,
        cli.rate,
        serde_json::to_string_pretty(&samples.summary())?,
        at("soak.svg").display()
    )?;
    Ok(())
}
