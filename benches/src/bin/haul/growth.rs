//! How cost grows with partitions, flows, pumps and the size of records: Kuroshio alone, `exactly_once`, everything but
//! what grows at its default.

mod flows;
mod partitions;
mod pumps;
mod sizes;
mod source;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Kuroshio, Process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::carriers::fresh;
use crate::clusters::Clusters;
use crate::progress::Progress;
use crate::results::Store;
use crate::watch::{Target, Watch};

/// What grows.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Axis {
    /// Partitions of the source.
    Partitions,
    /// Flows in one process.
    Flows,
    /// Pumps of one flow in one process.
    Pumps,
    /// Bytes of a record's value.
    Sizes,
}

impl Axis {
    pub(crate) const ALL: [Self; 4] = [Self::Partitions, Self::Flows, Self::Pumps, Self::Sizes];

    /// Where it is measured.
    pub(crate) fn points(self) -> &'static [u64] {
        match self {
            Self::Partitions => &[10, 100, 1_000, 10_000],
            Self::Flows => &[1, 2, 4, 8],
            Self::Pumps => &[1, 2, 4],
            Self::Sizes => &[100, 1 << 10, 10 << 10, 100 << 10, 1 << 20],
        }
    }

    /// Runs of each point: one of partitions takes more than a minute.
    fn runs(self, asked: u32) -> u32 {
        if self == Self::Partitions { 1 } else { asked.min(3) }
    }
}

/// Runs of one point.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Growth {
    pub(crate) axis: Axis,
    pub(crate) at: u64,
    pub(crate) invocation: usize,
    pub(crate) runs: Vec<Point>,
}

/// Figures of one run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Point {
    /// From the start of the process to the first record on the target.
    pub(crate) start_seconds: f64,
    /// Share of one core without records; of partitions only.
    pub(crate) idle_cores: Option<f64>,
    /// Peak RSS before the load; of partitions only.
    pub(crate) idle_rss_bytes: Option<u64>,
    /// Under load, from the first record to the last.
    pub(crate) seconds: f64,
    /// Records in that time.
    pub(crate) records: f64,
    /// CPU in that time.
    pub(crate) cpu_seconds: f64,
    /// Bytes of keys and values of a record, on average.
    pub(crate) record_bytes: f64,
    pub(crate) peak_rss_bytes: u64,
}

/// Measures all that the results do not have, or all anew. A point that fails is told at once, and the others are
/// measured all the same.
///
/// # Errors
/// When the clusters fail, or, at the end, when a point did.
pub(crate) async fn run(
    clusters: &Clusters,
    store: &mut Store,
    progress: &Progress,
    runs: u32,
    resume: bool,
) -> Result<()> {
    if !resume {
        store.results.growth.clear();
    }
    let mut failed = Vec::new();
    for axis in Axis::ALL {
        let wanted = axis.runs(runs) as usize;
        let missing = |at: &u64, store: &Store| {
            let of = |growth: &&Growth| growth.axis == axis && growth.at == *at;
            let kept = store.results.growth.iter().find(of);
            kept.is_none_or(|growth| growth.runs.len() < wanted)
        };
        if !axis.points().iter().any(|at| missing(at, store)) {
            continue;
        }
        let mut bench = Bench::start(axis, clusters, progress).await?;
        for _ in 0..wanted {
            for at in axis.points().iter().copied() {
                if !missing(&at, store) {
                    continue;
                }
                let what = format!("growth, {axis:?}, {at}");
                progress.say(&what);
                let point = match bench.point(at).await {
                    Ok(point) => point,
                    Err(why) => {
                        progress.done(&format!("{what} FAILED: {why:#}"));
                        failed.push(what);
                        continue;
                    }
                };
                progress.done(&format!(
                    "{what}: first after {:.2} s, {:.0} rec/s, {:.2} µs CPU per record, idle {}, {} MiB",
                    point.start_seconds,
                    point.records / point.seconds,
                    point.cpu_seconds / point.records * 1e6,
                    point
                        .idle_cores
                        .map_or("–".to_owned(), |cores| format!("{:.1}%", cores * 100.0)),
                    point.peak_rss_bytes >> 20,
                ));
                keep(store, axis, at, point)?;
            }
        }
        bench.end().await?;
    }
    ensure!(
        failed.is_empty(),
        "no figures of: {}; why is told above",
        failed.join("; ")
    );
    Ok(())
}

fn keep(store: &mut Store, axis: Axis, at: u64, point: Point) -> Result<()> {
    let invocation = store.invocation;
    let all = &mut store.results.growth;
    match all
        .iter_mut()
        .find(|growth| growth.axis == axis && growth.at == at)
    {
        Some(growth) => {
            growth.runs.push(point);
            growth.invocation = invocation;
        }
        None => all.push(Growth {
            axis,
            at,
            invocation,
            runs: vec![point],
        }),
    }
    store.save()
}

/// A flow for one topic between the shared clusters, with positions of its own each time.
fn pair(clusters: &Clusters, name: &str, topic: &str) -> Value {
    let name = format!("growth-{name}-{}", fresh());
    json!({
        "clusters": {
            "tw": { "bootstrap_servers": clusters.source.bootstrap() },
            "jp": { "bootstrap_servers": clusters.target.bootstrap() },
        },
        "flows": [{ "name": name, "source": "tw", "target": "jp" }],
        "defaults": { "topics": { "include": [topic] } },
        "log": { "format": "text" },
    })
}

/// Carries what lies in the sources, and measures from the first record to the last.
async fn backlog(
    kuroshio: Kuroshio,
    targets: Vec<Target>,
    records: u64,
    bytes: u64,
    progress: &Progress,
) -> Result<Point> {
    let watched = async {
        let process = process(&kuroshio);
        let mut watch = Watch::new(process, targets, None)?;
        let start = watch.first().await?;
        watch.all(records, progress).await?;
        point(&watch, process, start, records, bytes)
    };
    watched.await.with_context(|| kuroshio.log_tail())
}

/// The process.
fn process(kuroshio: &Kuroshio) -> Process {
    Process { pid: kuroshio.pid() }
}

/// What `records` of `bytes` in all took.
fn point(watch: &Watch<'_>, process: Process, start_seconds: f64, records: u64, bytes: u64) -> Result<Point> {
    let figures = watch.figures();
    Ok(Point {
        start_seconds,
        idle_cores: None,
        idle_rss_bytes: None,
        seconds: figures.seconds,
        records: records as f64 * figures.share,
        cpu_seconds: figures.cpu_seconds,
        record_bytes: bytes as f64 / records as f64,
        peak_rss_bytes: process.peak_rss()?,
    })
}

/// What an axis is measured on.
enum Bench<'a> {
    Partitions(Box<partitions::Bench>),
    Flows(flows::Bench),
    Pumps(pumps::Bench<'a>),
    Sizes(sizes::Bench<'a>),
}

impl<'a> Bench<'a> {
    async fn start(axis: Axis, clusters: &'a Clusters, progress: &'a Progress) -> Result<Self> {
        progress.say(&format!("growth, {axis:?}: getting ready"));
        Ok(match axis {
            Axis::Partitions => Self::Partitions(Box::new(partitions::Bench::start(progress).await?)),
            Axis::Flows => Self::Flows(flows::Bench::start(progress).await?),
            Axis::Pumps => Self::Pumps(pumps::Bench::start(clusters, progress).await?),
            Axis::Sizes => Self::Sizes(sizes::Bench::start(clusters, progress)),
        })
    }

    async fn point(&mut self, at: u64) -> Result<Point> {
        match self {
            Self::Partitions(bench) => bench.point(at).await,
            Self::Flows(bench) => bench.point(at).await,
            Self::Pumps(bench) => bench.point(at).await,
            Self::Sizes(bench) => bench.point(at).await,
        }
    }

    /// Leaves the shared clusters as they were.
    async fn end(self) -> Result<()> {
        match self {
            Self::Partitions(_) | Self::Flows(_) => Ok(()),
            Self::Pumps(bench) => bench.end().await,
            Self::Sizes(bench) => bench.end().await,
        }
    }
}
