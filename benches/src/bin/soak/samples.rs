//! What the instances that stay need, over time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;
use kuroshio_integration::{Kuroshio, Process};
use serde_json::{Value, json};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// What comes and goes with connections and queues: more than this, and a tenth, has grown.
const SLACK: [f64; 3] = [4.0, 2.0, 8.0];
pub(crate) const NAMES: [&str; 3] = ["resident memory, MiB", "threads", "descriptors"];

/// One look at one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Seconds since the start.
    pub(crate) at: f64,
    pub(crate) process: usize,
    /// As [`NAMES`].
    pub(crate) values: [f64; 3],
    cpu: f64,
    lag: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

/// Looks until it is over.
pub(crate) async fn watch(processes: &[Kuroshio], over: &Cell<bool>) -> Result<Samples> {
    let (start, mut samples) = (Instant::now(), Samples::default());
    let mut look = tokio::time::interval(LOOK);
    while !over.get() {
        look.tick().await;
        for (number, process) in processes.iter().enumerate() {
            let of = Process { pid: process.pid() };
            samples.0.push(Sample {
                at: start.elapsed().as_secs_f64(),
                process: number,
                values: [
                    of.rss()? as f64 / f64::from(1 << 20),
                    of.threads()? as f64,
                    of.descriptors()? as f64,
                ],
                cpu: of.cpu()?.as_secs_f64(),
                lag: process.metric("kuroshio_lag_records", &[]).await?.unwrap_or(0.0),
            });
        }
    }
    Ok(samples)
}

impl Samples {
    pub(crate) fn of(&self, process: usize) -> impl Iterator<Item = &Sample> + Clone {
        self.0.iter().filter(move |sample| sample.process == process)
    }

    pub(crate) fn processes(&self) -> usize {
        self.0.iter().map(|sample| sample.process + 1).max().unwrap_or(0)
    }

    /// The medians of a figure of a process, by quarters of the time.
    fn quarters(&self, process: usize, value: usize) -> [f64; 4] {
        let end = self.0.last().map_or(0.0, |sample| sample.at);
        [0.0, 1.0, 2.0, 3.0].map(|number| {
            let within = (end * number / 4.0)..=(end * (number + 1.0) / 4.0);
            let all = self.of(process).filter(|sample| within.contains(&sample.at));
            median(all.map(|sample| sample.values[value]))
        })
    }

    /// What has grown: the median of the last quarter beside that of the second one, for the first is the start.
    pub(crate) fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for process in 0..self.processes() {
            for (value, (name, slack)) in NAMES.iter().zip(SLACK).enumerate() {
                let [_, before, _, after] = self.quarters(process, value);
                if after > before * 1.1 && after > before + slack {
                    grown.push(format!(
                        "{name} of instance {process}: {before:.1}, then {after:.1}"
                    ));
                }
            }
        }
        grown
    }

    /// Of each process: what it needed by quarters of the time (medians), CPU as a share of a core, and the most records it was behind.
    pub(crate) fn summary(&self) -> Value {
        let end = self.0.last().map_or(1.0, |sample| sample.at).max(1.0);
        let of = |process: usize| {
            let quarters = |value| self.quarters(process, value).map(round);
            let cpu = self.of(process).last().map_or(0.0, |sample| sample.cpu);
            let lag = self.of(process).map(|sample| sample.lag).fold(0.0, f64::max);
            json!({
                NAMES[0]: quarters(0), NAMES[1]: quarters(1), NAMES[2]: quarters(2),
                "share of a core": round(cpu / end), "most records behind": lag,
            })
        };
        (0..self.processes()).map(of).collect()
    }

    /// `[seconds, process, memory, threads, descriptors, cpu seconds, lag]` each.
    pub(crate) fn rows(&self) -> Value {
        let row = |sample: &Sample| {
            let [memory, threads, descriptors] = sample.values;
            let (at, cpu) = (round(sample.at), round(sample.cpu));
            json!([
                at,
                sample.process,
                round(memory),
                threads,
                descriptors,
                cpu,
                sample.lag
            ])
        };
        self.0.iter().map(row).collect()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(f64) -> f64) -> Samples {
        let sample = |number: i32| Sample {
            at: f64::from(number) * 10.0,
            process: 0,
            values: [memory(f64::from(number) / 400.0), 12.0, 40.0],
            cpu: 0.0,
            lag: 0.0,
        };
        Samples((0..400).map(sample).collect())
    }

    #[test]
    fn what_grows_is_found_and_what_wobbles_is_not() {
        assert!(samples(|_| 60.0).grown().is_empty());
        assert!(
            samples(|part| 60.0 + 5.0 * (part * 100.0).sin())
                .grown()
                .is_empty()
        );
        assert!(
            samples(|part| if part < 0.2 { 20.0 } else { 60.0 })
                .grown()
                .is_empty(),
            "the start"
        );
        let leak = samples(|part| 60.0 + 20.0 * part).grown();
        assert_eq!(leak.len(), 1);
        assert!(leak[0].starts_with("resident memory"), "{leak:?}");
    }
}
