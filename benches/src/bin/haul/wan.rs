//! The same between two regions: a link delays, limits or stalls what goes to the far cluster and what comes from it.

mod measure;

use std::fmt::{self, Display, Formatter};

use anyhow::{Context, Result};
use kuroshio_integration::Cluster;
use serde::{Deserialize, Serialize};

use crate::carriers::Carrier::{self, Copy, KuroshioAtLeastOnce, KuroshioExactlyOnce, Mm2Defaults, Mm2Tuned};
use crate::cli::Cli;
use crate::clusters::{Clusters, PARTITIONS};
use crate::data::{self, DataSet, Full};
use crate::progress::Progress;
use crate::results::Store;

/// What applications send. The link counts what is on it.
const DATA: DataSet = DataSet::Json;
/// More than the fastest copies in the time that is measured.
const SCALE: f64 = 1.5;

/// Where the backlog lies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backlog {
    /// In one partition of 24.
    Hot,
    /// In all of them alike.
    Even,
}

impl Backlog {
    pub(crate) const ALL: [Self; 2] = [Self::Hot, Self::Even];

    fn topic(self) -> &'static str {
        match self {
            Self::Hot => "wan-hot",
            Self::Even => "wan-even",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Hot => "one hot partition",
            Self::Even => "24 partitions",
        }
    }

    fn partitions(self) -> i32 {
        match self {
            Self::Hot => 1,
            Self::Even => PARTITIONS,
        }
    }
}

/// Whether a topic holds a backlog.
pub(crate) fn is_data(topic: &str) -> bool {
    Backlog::ALL.iter().any(|backlog| backlog.topic() == topic)
}

/// What lies between the regions, and who sits where.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Between {
    /// Milliseconds to the far cluster and back.
    pub(crate) round_trip: u64,
    /// 10^6 bytes per second in each direction.
    pub(crate) limit: Option<u64>,
    /// Most KiB of a connection that may be under way.
    pub(crate) window: Option<u32>,
    /// 5 s of every 15 s nothing comes through.
    pub(crate) stalls: bool,
    /// The carrier sits beside the source and the target is far: not how it should be deployed.
    pub(crate) target_far: bool,
}

impl Between {
    const fn rtt(round_trip: u64) -> Self {
        Self {
            round_trip,
            limit: None,
            window: None,
            stalls: false,
            target_far: false,
        }
    }
}

impl Display for Between {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.round_trip)?;
        if let Some(limit) = self.limit {
            write!(f, ", {limit} MB/s")?;
        }
        if let Some(window) = self.window {
            write!(f, ", window {window} KiB")?;
        }
        if self.stalls {
            f.write_str(", 5 s of every 15 s stalled")?;
        }
        f.write_str(if self.target_far { ", target far" } else { "" })
    }
}

/// One run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct WanRun {
    pub(crate) carrier: Carrier,
    pub(crate) invocation: usize,
    pub(crate) backlog: Backlog,
    pub(crate) between: Between,
    /// Of the source.
    #[serde(default = "alone")]
    pub(crate) brokers: u16,
    /// What was measured of it: not the beginning, and not the whole backlog if that takes longer.
    pub(crate) seconds: f64,
    /// Of these, seconds in which the link was stalled.
    pub(crate) stalled_seconds: f64,
    /// Of keys and values, in that time.
    pub(crate) bytes: f64,
    /// On the link, both directions, in that time.
    pub(crate) wire_bytes: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) start_seconds: f64,
    /// Every record was copied, once; none: it was not waited for.
    pub(crate) exact: Option<bool>,
}

/// As long as it was not said.
const fn alone() -> u16 {
    1
}

impl WanRun {
    /// 10^6 bytes of keys and values per second in which the link was not stalled.
    pub(crate) fn mb_per_second(&self) -> f64 {
        self.bytes / 1e6 / (self.seconds - self.stalled_seconds)
    }

    /// 10^6 bytes on the link per second in which it was not stalled, both directions.
    pub(crate) fn wire_mb_per_second(&self) -> f64 {
        self.wire_bytes as f64 / 1e6 / (self.seconds - self.stalled_seconds)
    }

    fn is(&self, carrier: Carrier, backlog: Backlog, between: Between) -> bool {
        (self.carrier, self.backlog, self.between) == (carrier, backlog, between)
    }
}

/// The run of median speed of all like it, if there is one.
pub(crate) fn find(runs: &[WanRun], carrier: Carrier, backlog: Backlog, between: Between) -> Option<&WanRun> {
    let mut alike: Vec<_> = runs
        .iter()
        .filter(|run| run.is(carrier, backlog, between))
        .collect();
    alike.sort_by(|a, b| a.mb_per_second().total_cmp(&b.mb_per_second()));
    alike.get(alike.len().saturating_sub(1) / 2).copied()
}

/// A local network, neighbouring countries, and an ocean.
pub(crate) const DELAYS: [Between; 3] = [Between::rtt(0), Between::rtt(35), Between::rtt(70)];

/// A line that is shared with others.
const LIMITED: Between = Between {
    limit: Some(50),
    ..Between::rtt(35)
};

const STALLING: Between = Between {
    stalls: true,
    ..LIMITED
};

/// What Linux has under way for a broker whose `socket.send.buffer.bytes` is at its default of 100 KiB: over a real
/// delay of 70 ms (packets through a TUN device) one connection with this SO_SNDBUF carried 1.9 MB/s.
const NARROW: Between = Between {
    window: Some(128),
    ..Between::rtt(70)
};

const PUSHING: Between = Between {
    target_far: true,
    ..Between::rtt(70)
};

/// Everything that is measured.
fn cases() -> Vec<(Between, Vec<Backlog>, Vec<Carrier>)> {
    let kuroshio = vec![KuroshioExactlyOnce, KuroshioAtLeastOnce];
    let tuned = [kuroshio.clone(), vec![Mm2Tuned]].concat();
    let products = [tuned.clone(), vec![Mm2Defaults]].concat();
    let all = [products.clone(), vec![Copy]].concat();
    let mut cases: Vec<_> = DELAYS
        .map(|between| (between, Backlog::ALL.into(), all.clone()))
        .into();
    cases.push((LIMITED, vec![Backlog::Even], products));
    cases.push((STALLING, vec![Backlog::Even], tuned));
    cases.push((NARROW, Backlog::ALL.into(), vec![KuroshioExactlyOnce]));
    cases.push((PUSHING, Backlog::ALL.into(), kuroshio));
    cases
}

/// Times that a case is measured: four seconds differ by a quarter from run to run, and goals hang on some of them.
fn times(carrier: Carrier, between: Between, asked: u32) -> usize {
    let compared = [KuroshioExactlyOnce, KuroshioAtLeastOnce, Mm2Tuned].contains(&carrier);
    if compared && DELAYS.contains(&between) {
        asked as usize
    } else {
        1
    }
}

/// The clusters of both regions.
#[derive(Clone, Copy, Debug)]
struct Regions<'a> {
    source: &'a Cluster,
    target: &'a Cluster,
}

/// Measures everything that was asked for, between a source of its own and `target`.
pub(crate) async fn run(cli: &Cli, target: &Cluster, store: &mut Store, progress: &Progress) -> Result<()> {
    let asked = cli.carriers();
    if !cli.resume {
        store.results.wan.retain(|run| !asked.contains(&run.carrier));
    }
    progress.say("starting a source of three brokers");
    let source = &Clusters::source_of_zones().await?;
    let regions = Regions { source, target };
    for backlog in Backlog::ALL {
        let mut wanted = Vec::new();
        for (between, backlogs, carriers) in cases() {
            if backlogs.contains(&backlog) {
                let carriers = carriers.into_iter().filter(|carrier| asked.contains(carrier));
                wanted.extend(carriers.map(|carrier| (carrier, between)));
            }
        }
        let left = |(carrier, between): (Carrier, Between)| {
            let known = store.results.wan.iter();
            let known = known.filter(|run| run.is(carrier, backlog, between)).count();
            times(carrier, between, cli.runs()).saturating_sub(known)
        };
        let mut wanted: Vec<_> = wanted.into_iter().map(|run| (left(run), run)).collect();
        let Some((carrier, _)) = wanted.iter().find_map(|(left, run)| (*left > 0).then_some(*run)) else {
            continue;
        };
        let full = fill(source, backlog, progress).await?;
        let case = |carrier, between, invocation| measure::Case {
            carrier,
            backlog,
            between,
            invocation,
        };
        // Brokers still write, and have yet to compile what a haul makes them do: this run does not count.
        let first = case(carrier, DELAYS[0], store.invocation);
        measure::run(regions, &first, &full, progress).await?;
        while wanted.iter().any(|(left, _)| *left > 0) {
            for (left, (carrier, between)) in wanted.iter_mut().filter(|(left, _)| *left > 0) {
                one(
                    regions,
                    &case(*carrier, *between, store.invocation),
                    &full,
                    store,
                    progress,
                )
                .await?;
                *left -= 1;
            }
        }
    }
    Ok(())
}

/// Measures one case, and keeps what was found.
async fn one(
    regions: Regions<'_>,
    case: &measure::Case,
    full: &Full,
    store: &mut Store,
    progress: &Progress,
) -> Result<()> {
    let measure::Case {
        carrier,
        backlog,
        between,
        ..
    } = *case;
    let what = format!("{between}, {}, {}", backlog.title(), carrier.title());
    progress.say(&what);
    let run = measure::run(regions, case, full, progress).await;
    let run = run.with_context(|| what.clone())?;
    progress.done(&format!(
        "{what}: {:.1} MB/s, {:.1} on the link, {:.2} s CPU in {:.1} s, {} MiB, first after {:.2} s{}",
        run.mb_per_second(),
        run.wire_mb_per_second(),
        run.cpu_seconds,
        run.seconds,
        run.peak_rss_bytes >> 20,
        run.start_seconds,
        run.exact
            .map_or(String::new(), |exact| format!(", exact: {exact}")),
    ));
    store.results.wan.push(run);
    store.save()
}

/// Puts a backlog on the source, in place of any other.
async fn fill(source: &Cluster, backlog: Backlog, progress: &Progress) -> Result<Full> {
    let there = source.topics().await?;
    for topic in Backlog::ALL.map(Backlog::topic) {
        if there.contains_key(topic) {
            source.delete_topic(topic).await?;
        }
    }
    source.create_topic(backlog.topic(), PARTITIONS, &[]).await?;
    let (source, progress) = (source.bootstrap().to_owned(), progress.clone());
    let into = (backlog.topic(), backlog.partitions());
    let records = DATA.records(SCALE);
    tokio::task::spawn_blocking(move || data::produce(&source, DATA, into, records, &progress)).await?
}
