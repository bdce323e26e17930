//! What Kuroshio must reach, and whether it did.

use std::fmt::Write;

use anyhow::Result;

use super::figures::{Figures, Spread, number};
use super::tables::less;
use crate::carriers::Carrier::{
    self, Copy, KuroshioAtLeastOnce as AtLeastOnce, KuroshioExactlyOnce as ExactlyOnce, Mm2Defaults, Mm2Tuned,
};
use crate::data::DataSet::{self, Json, Random};
use crate::results::{Latency, Results};
use crate::wan::{Backlog, DELAYS, WanRun, find};

const BOTH: [Carrier; 2] = [AtLeastOnce, ExactlyOnce];

/// One line: what is wanted, and what was found if it was measured.
struct Goal {
    what: String,
    wanted: String,
    found: Option<(String, bool)>,
}

/// The table with a verdict for each.
pub(super) fn table(results: &Results) -> Result<String> {
    let mut text =
        "\n## What it must reach\n\nMedians, tag added to every record.\n\n| | wanted | found | |\n|---|---|---|---|\n".to_owned();
    let goals = [
        cpu(results),
        throughput(results),
        memory(results),
        starts(results),
        latencies(results),
        idle(results),
        wan(results),
    ];
    for goal in goals.into_iter().flatten() {
        let (found, verdict) = match goal.found {
            Some((found, true)) => (found, "reached"),
            Some((found, false)) => (found, "**not reached**"),
            None => ("–".to_owned(), "not measured"),
        };
        writeln!(text, "| {} | {} | {found} | {verdict} |", goal.what, goal.wanted)?;
    }
    Ok(text)
}

/// Quotient of medians of a cost, if both were measured.
fn ratio(
    results: &Results,
    data: DataSet,
    of: Carrier,
    by: Carrier,
    figure: fn(&Figures) -> Spread,
) -> Option<f64> {
    let of = figure(&Figures::find(results, of, data)?).median;
    let by = figure(&Figures::find(results, by, data)?).median;
    Some(of / by)
}

fn cpu(results: &Results) -> Vec<Goal> {
    let cases = [
        (Json, ExactlyOnce, Mm2Tuned, 1.0 / 2.5, "≤ 1/2.5"),
        (Json, AtLeastOnce, Mm2Tuned, 1.0 / 3.0, "≤ 1/3"),
        (Random, ExactlyOnce, Mm2Defaults, 0.25, "≤ 1/4"),
        (Random, AtLeastOnce, Mm2Defaults, 0.25, "≤ 1/4"),
        (Json, ExactlyOnce, Copy, 1.5, "≤ 1.5×"),
        (Json, AtLeastOnce, Copy, 1.5, "≤ 1.5×"),
    ];
    let goal = |(data, of, by, limit, wanted): (DataSet, Carrier, Carrier, f64, &str)| Goal {
        what: format!(
            "CPU per record, {}: {} against {}",
            data.title(),
            of.title(),
            by.title()
        ),
        wanted: wanted.to_owned(),
        found: ratio(results, data, of, by, |figures| figures.cpu_us)
            .map(|found| (less(found), found <= limit)),
    };
    cases.into_iter().map(goal).collect()
}

fn throughput(results: &Results) -> Vec<Goal> {
    let cases = DataSet::ALL
        .into_iter()
        .flat_map(|data| BOTH.map(|of| (data, of)));
    let goal = |(data, of): (DataSet, Carrier)| Goal {
        what: format!("records/s, {}: {} against tuned MM2", data.title(), of.title()),
        wanted: "≥ 2×".to_owned(),
        found: ratio(results, data, of, Mm2Tuned, |figures| figures.rate)
            .map(|found| (format!("{}×", number(found)), found >= 2.0)),
    };
    cases.map(goal).collect()
}

/// The largest of all data sets.
fn rss(results: &Results, carrier: Carrier) -> Option<f64> {
    let each = DataSet::ALL
        .into_iter()
        .filter_map(|data| Figures::find(results, carrier, data));
    each.map(|figures| figures.rss_mib.median).reduce(f64::max)
}

fn memory(results: &Results) -> Vec<Goal> {
    let goal = |of: Carrier| {
        let (ours, theirs) = (rss(results, of), rss(results, Mm2Tuned));
        let what = format!("peak RSS, all data sets: {}", of.title());
        [
            Goal {
                what: format!("{what} against tuned MM2"),
                wanted: "≤ 1/6".to_owned(),
                found: ours
                    .zip(theirs)
                    .map(|(ours, theirs)| (less(ours / theirs), ours <= theirs / 6.0)),
            },
            Goal {
                what,
                wanted: "≤ 256 MiB".to_owned(),
                found: ours.map(|ours| (format!("{} MiB", number(ours)), ours <= 256.0)),
            },
        ]
    };
    BOTH.into_iter().flat_map(goal).collect()
}

fn starts(results: &Results) -> Vec<Goal> {
    let goal = |of: Carrier| {
        let found = Figures::find(results, of, Json).map(|figures| figures.start.median);
        let share = ratio(results, Json, of, Mm2Tuned, |figures| figures.start);
        let what = format!("start → first record, initial rebalance delay 0: {}", of.title());
        [
            Goal {
                what: format!("{what} against tuned MM2"),
                wanted: "≤ 1/8".to_owned(),
                found: share.map(|share| (less(share), share <= 1.0 / 8.0)),
            },
            Goal {
                what,
                wanted: "≤ 1.5 s".to_owned(),
                found: found.map(|found| (format!("{} s", number(found)), found <= 1.5)),
            },
        ]
    };
    BOTH.into_iter().flat_map(goal).collect()
}

fn latencies(results: &Results) -> Vec<Goal> {
    type Case = (Carrier, &'static str, fn(&Latency) -> f64, f64);
    let cases: [Case; 4] = [
        (AtLeastOnce, "p50", |latency| latency.p50_ms, 3.0),
        (AtLeastOnce, "p99", |latency| latency.p99_ms, 20.0),
        (ExactlyOnce, "p50", |latency| latency.p50_ms, 20.0),
        (ExactlyOnce, "p99", |latency| latency.p99_ms, 80.0),
    ];
    let goal = |(of, name, figure, limit): Case| {
        let mut all = results.latencies.iter();
        let found = all
            .find(|latency| latency.carrier == Some(of) && latency.rate == 1000)
            .map(figure);
        Goal {
            what: format!("latency at 1,000 records/s, {name}: {}", of.title()),
            wanted: format!("≤ {limit} ms"),
            found: found.map(|found| (format!("{} ms", number(found)), found <= limit)),
        }
    };
    cases.into_iter().map(goal).collect()
}

fn idle(results: &Results) -> Vec<Goal> {
    let goal = |of: Carrier| {
        let found = results
            .idle
            .iter()
            .find(|idle| idle.carrier == of)
            .map(|idle| idle.cores);
        Goal {
            what: format!("idle, 2,000 partitions: {}", of.title()),
            wanted: "≤ 3% of a core".to_owned(),
            found: found.map(|cores| (format!("{:.1}%", cores * 100.0), cores <= 0.03)),
        }
    };
    BOTH.into_iter().map(goal).collect()
}

/// A link between regions must not be what slows Kuroshio down.
fn wan(results: &Results) -> Vec<Goal> {
    let rate = |of, backlog, between| find(&results.wan, of, backlog, between).map(WanRun::mb_per_second);
    let [near, .., far] = DELAYS;
    let goals = |of: Carrier| {
        let hot = find(&results.wan, of, Backlog::Hot, far).map(WanRun::wire_mb_per_second);
        let (even, at_home) = (rate(of, Backlog::Even, far), rate(of, Backlog::Even, near));
        [
            Goal {
                what: format!(
                    "over a link of {far}, one hot partition, bytes on the link: {}",
                    of.title()
                ),
                wanted: "≥ 20 MB/s".to_owned(),
                found: hot.map(|hot| (format!("{} MB/s", number(hot)), hot >= 20.0)),
            },
            Goal {
                what: format!(
                    "over a link of {far}, 24 partitions, against the local network: {}",
                    of.title()
                ),
                wanted: "≥ 80%".to_owned(),
                found: even
                    .zip(at_home)
                    .map(|(even, home)| (format!("{:.0}%", even / home * 100.0), even / home >= 0.8)),
            },
        ]
    };
    BOTH.into_iter().flat_map(goals).collect()
}
