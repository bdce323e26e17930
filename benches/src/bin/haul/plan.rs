//! What is measured in which order. Runs of different carriers take turns, so that a slow minute of the machine
//! does not fall on one of them alone.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::carriers::Carrier;
use crate::cli::Cli;
use crate::clusters::{Clusters, PARTITIONS, clean, create};
use crate::data::{self, DataSet, Full};
use crate::progress::Progress;
use crate::results::{Haul, Latency, Start, Store};
use crate::{growth, idle, latency, measure, report, wan};

pub(crate) async fn run(cli: &Cli) -> Result<()> {
    let dir = cli.results_dir();
    let store = Store::open(&dir, command(std::env::args().skip(1)))?;
    let progress = Progress::new();
    progress.say("starting two clusters");
    let mut plan = Plan {
        cli,
        clusters: Clusters::start().await?,
        full: BTreeMap::new(),
        store,
        progress,
    };
    let measured = plan.all().await;
    // What was measured is shown also if something failed.
    report::write(&dir)?;
    measured
}

/// What was measured, as a command; where results are kept is a path of the machine, and nobody else's business.
fn command(mut arguments: impl Iterator<Item = String>) -> String {
    let mut command = "haul".to_owned();
    while let Some(argument) = arguments.next() {
        if argument == "--results" {
            arguments.next();
        } else if !argument.starts_with("--results=") {
            command = format!("{command} {argument}");
        }
    }
    command
}

struct Plan<'a> {
    cli: &'a Cli,
    clusters: Clusters,
    /// Source topics that are there.
    full: BTreeMap<DataSet, Full>,
    store: Store,
    progress: Progress,
}

impl Plan<'_> {
    async fn all(&mut self) -> Result<()> {
        let cli = self.cli;
        if !cli.no_hauls {
            self.hauls().await?;
        }
        if !cli.no_start && !cli.quick {
            self.starts().await?;
        }
        if !cli.no_latency {
            self.latencies().await?;
        }
        if !cli.no_idle && !cli.quick {
            self.idle().await?;
        }
        let (clusters, store, progress) = (&self.clusters, &mut self.store, &self.progress);
        if !cli.no_wan && !cli.quick {
            wan::run(cli, &clusters.target, store, progress).await?;
        }
        if !cli.no_growth && !cli.quick {
            growth::run(clusters, store, progress, cli.runs(), cli.resume).await?;
        }
        Ok(())
    }

    async fn hauls(&mut self) -> Result<()> {
        let (carriers, sets, scale) = (self.cli.carriers(), self.cli.data_sets(), self.cli.scale());
        if !self.cli.resume {
            let again = |haul: &Haul| carriers.contains(&haul.carrier) && sets.contains(&haul.data);
            self.store.results.hauls.retain(|haul| !again(haul));
        }
        for data in sets {
            for run in 1..=self.cli.runs() {
                for carrier in &carriers {
                    if self.store.runs(*carrier, data, scale) < run as usize {
                        self.haul(*carrier, data, run).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn haul(&mut self, carrier: Carrier, data: DataSet, run: u32) -> Result<()> {
        let full = self.full(data).await?;
        let what = format!("{}, {}, run {run}", data.title(), carrier.title());
        self.progress.say(&what);
        let measured = measure::haul(&self.clusters, carrier, &full, &self.progress)
            .await
            .with_context(|| what.clone())?;
        let records = measured.records as f64 * measured.share;
        self.progress.done(&format!(
            "{what}: {:.0} rec/s, {:.2} µs CPU per record, {} MiB, first after {:.2} s",
            records / measured.seconds,
            measured.cpu_seconds * 1e6 / records,
            measured.peak_rss_bytes >> 20,
            measured.start_seconds,
        ));
        self.store.add_run(Haul {
            carrier,
            data,
            invocation: self.store.invocation,
            scale: self.cli.scale(),
            bytes: full.bytes,
            runs: vec![measured],
        })
    }

    /// The source topic of `data`, made and filled at its first use.
    async fn full(&mut self, data: DataSet) -> Result<Full> {
        if let Some(full) = self.full.get(&data) {
            return Ok(full.clone());
        }
        create(&self.clusters.source, data.topic()).await?;
        let (source, progress) = (self.clusters.source.bootstrap().to_owned(), self.progress.clone());
        let records = data.records(self.cli.scale());
        let into = (data.topic(), PARTITIONS);
        let full =
            tokio::task::spawn_blocking(move || data::produce(&source, data, into, records, &progress))
                .await??;
        self.full.insert(data, full.clone());
        Ok(full)
    }

    async fn starts(&mut self) -> Result<()> {
        let carriers =
            self.products(|store, carrier| store.results.starts.iter().any(|start| start.carrier == carrier));
        if carriers.is_empty() {
            return Ok(());
        }
        self.progress
            .say("starting a target that delays first rebalances");
        let target = Clusters::target_with_delay().await?;
        let full = self.full(DataSet::Json).await?;
        for carrier in carriers {
            let mut seconds = Vec::new();
            for run in 1..=self.cli.runs() {
                let what = format!("start with a delay of 3 s, {}, run {run}", carrier.title());
                self.progress.say(&what);
                let start = measure::start(&self.clusters, &target, carrier, &full).await;
                let start = start.with_context(|| what.clone())?;
                self.progress.done(&format!("{what}: first after {start:.2} s"));
                seconds.push(start);
            }
            let starts = &mut self.store.results.starts;
            starts.retain(|start| start.carrier != carrier);
            starts.push(Start {
                carrier,
                invocation: self.store.invocation,
                seconds,
            });
            self.store.save()?;
        }
        Ok(())
    }

    async fn latencies(&mut self) -> Result<()> {
        let carriers = std::iter::once(None).chain(self.cli.carriers().into_iter().map(Some));
        for carrier in carriers {
            let same = |latency: &Latency| latency.carrier == carrier;
            if self.cli.resume && self.store.results.latencies.iter().any(same) {
                continue;
            }
            let title = carrier.map_or("the source itself", Carrier::title);
            let measured = latency::measure(&self.clusters, carrier, self.cli.quick, &self.progress)
                .await
                .with_context(|| format!("latency, {title}"))?;
            self.store.results.latencies.retain(|latency| !same(latency));
            for mut latency in measured {
                self.progress.done(&format!(
                    "latency at {} rec/s, {title}: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, {} of {} came",
                    latency.rate,
                    latency.p50_ms,
                    latency.p99_ms,
                    latency.p999_ms,
                    latency.arrived,
                    latency.sent
                ));
                latency.invocation = self.store.invocation;
                self.store.results.latencies.push(latency);
            }
            self.store.save()?;
        }
        Ok(())
    }

    async fn idle(&mut self) -> Result<()> {
        let carriers =
            self.products(|store, carrier| store.results.idle.iter().any(|idle| idle.carrier == carrier));
        if carriers.is_empty() {
            return Ok(());
        }
        self.progress.say("making 2,000 idle partitions");
        idle::create(&self.clusters).await?;
        for carrier in carriers {
            self.progress.say(&format!("idle, {}", carrier.title()));
            let idle = idle::measure(&self.clusters, carrier, self.store.invocation)
                .await
                .with_context(|| format!("idle, {}", carrier.title()))?;
            self.progress.done(&format!(
                "idle, {}: {:.1}% of a core, {} MiB",
                carrier.title(),
                idle.cores * 100.0,
                idle.peak_rss_bytes >> 20
            ));
            self.store.results.idle.retain(|kept| kept.carrier != carrier);
            self.store.results.idle.push(idle);
            self.store.save()?;
        }
        clean(&self.clusters.source, true).await
    }

    /// The products asked for, without those that are `there` when resuming.
    fn products(&self, there: impl Fn(&Store, Carrier) -> bool) -> Vec<Carrier> {
        let asked = self.cli.carriers();
        let left =
            |carrier: &Carrier| asked.contains(carrier) && !(self.cli.resume && there(&self.store, *carrier));
        Carrier::PRODUCTS.into_iter().filter(left).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_no_path_of_the_machine() {
        for arguments in [
            ["--no-wan", "--results", "/x/y", "--runs=2"].as_slice(),
            &["--results=/x/y", "--no-wan", "--runs=2"],
            &["--no-wan", "--runs=2", "--results", "/x/y"],
        ] {
            let arguments = arguments.iter().map(ToString::to_string);
            assert_eq!(command(arguments), "haul --no-wan --runs=2");
        }
    }
}
