//! How cost grows: a table, a chart and a sentence for each thing that grows.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::chart::{Panel, chart};
use super::figures::{Spread, number};
use crate::growth::{Axis, Growth, Point};
use crate::results::Results;

const MIB: f64 = 1024.0 * 1024.0;

/// A column of a table, and a panel of a chart.
type Figure = (&'static str, fn(&Point) -> f64);

const START: Figure = ("start → first record s", |point| point.start_seconds);
const RATE: Figure = ("records/s", |point| point.records / point.seconds);
const CPU: Figure = ("CPU µs/record", |point| point.cpu_seconds / point.records * 1e6);
const CPU_GIB: Figure = ("CPU s/GiB", |point| {
    point.cpu_seconds / (point.records * point.record_bytes) * MIB * 1024.0
});
const RSS: Figure = ("peak RSS MiB", |point| point.peak_rss_bytes as f64 / MIB);
const IDLE: Figure = ("CPU idle, % of a core", |point| {
    point.idle_cores.map_or(f64::NAN, |cores| cores * 100.0)
});
const IDLE_RSS: Figure = ("peak RSS before the load MiB", |point| {
    point.idle_rss_bytes.map_or(f64::NAN, |bytes| bytes as f64 / MIB)
});

/// What grows in the words of its table: title, introduction, first column, columns, file of the chart.
struct Part {
    title: &'static str,
    text: &'static str,
    column: &'static str,
    figures: &'static [Figure],
    file: &'static str,
}

fn part(axis: Axis) -> Part {
    match axis {
        Axis::Partitions => Part {
            title: "Partitions",
            text: "Idle over 10 s; CPU per record at 5,000 records/s of 350 B over all partitions, idling included.",
            column: "partitions",
            figures: &[IDLE, CPU, IDLE_RSS, RSS, START],
            file: "growth-partitions.svg",
        },
        Axis::Flows => Part {
            title: "Flows in a process",
            text: "Between four clusters; 800,000 order events in lz4, shared out among the flows.",
            column: "flows",
            figures: &[RATE, CPU, RSS, START],
            file: "growth-flows.svg",
        },
        Axis::Pumps => Part {
            title: "Pumps of a flow in a process",
            text: "1,000,000 order events in lz4, 24 partitions.",
            column: "pumps",
            figures: &[RATE, CPU, RSS, START],
            file: "growth-pumps.svg",
        },
        Axis::Sizes => Part {
            title: "Size of records",
            text: "Random bytes, uncompressed; 512 MiB of them, at most 1,500,000 records, 24 partitions.",
            column: "bytes",
            figures: &[RATE, CPU, CPU_GIB, RSS],
            file: "growth-sizes.svg",
        },
    }
}

/// The section, and its charts into `dir`, whose name in links is `folder`.
pub(super) fn section(results: &Results, dir: &Path, folder: &str) -> Result<String> {
    if results.growth.is_empty() {
        return Ok(String::new());
    }
    let mut text =
        "\n## How cost grows\n\nKuroshio, exactly_once, everything but what grows at its default.\n"
            .to_owned();
    for axis in Axis::ALL {
        let points = points(results, axis);
        if points.is_empty() {
            continue;
        }
        let part = part(axis);
        write!(
            text,
            "\n### {}\n\n{}\n\n| {} |",
            part.title, part.text, part.column
        )?;
        part.figures
            .iter()
            .try_for_each(|(name, _)| write!(text, " {name} |"))?;
        writeln!(text, "\n|{}", "---|".repeat(part.figures.len() + 1))?;
        for growth in &points {
            write!(text, "| {} |", label(growth.at as f64))?;
            for (_, of) in part.figures {
                let spread = spread(growth, *of);
                let cell = if growth.runs.len() > 1 {
                    spread.to_string()
                } else {
                    number(spread.median)
                };
                write!(text, " {cell} |")?;
            }
            text.push('\n');
        }
        writeln!(text, "\n{}", sentence(axis, &points))?;
        writeln!(text, "\n![{}]({folder}/{})", part.title, part.file)?;
        let panel = |(title, of): &Figure| Panel {
            title,
            points: points
                .iter()
                .map(|growth| (growth.at as f64, spread(growth, *of)))
                .collect(),
        };
        let panels: Vec<_> = part.figures.iter().map(panel).collect();
        fs::write(dir.join(part.file), chart(&panels, label)?)?;
    }
    Ok(text)
}

/// In the order of what grows.
fn points(results: &Results, axis: Axis) -> Vec<&Growth> {
    let of = |at: &u64| {
        results
            .growth
            .iter()
            .find(|growth| growth.axis == axis && growth.at == *at)
    };
    axis.points().iter().filter_map(of).collect()
}

fn spread(growth: &Growth, of: fn(&Point) -> f64) -> Spread {
    Spread::of(growth.runs.iter().map(of))
}

/// A count of what grows: whole, thousands separated.
fn label(at: f64) -> String {
    if at < 1000.0 {
        format!("{at:.0}")
    } else {
        number(at)
    }
}

/// A figure as `fixed + each × what grows`, by least squares of relative errors: small points count as much as large ones.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    fixed: f64,
    each: f64,
}

impl Line {
    fn fit(points: &[(f64, f64)]) -> Self {
        let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (x, y) in points {
            let weight = 1.0 / (y * y).max(f64::MIN_POSITIVE);
            w += weight;
            wx += weight * x;
            wy += weight * y;
            wxx += weight * x * x;
            wxy += weight * x * y;
        }
        let each = (w * wxy - wx * wy) / (w * wxx - wx * wx);
        Self {
            fixed: (wy - each * wx) / w,
            each,
        }
    }
}

fn line(points: &[&Growth], (_, of): Figure) -> Line {
    let pairs: Vec<_> = points
        .iter()
        .map(|growth| (growth.at as f64, spread(growth, of).median))
        .collect();
    Line::fit(&pairs)
}

fn sentence(axis: Axis, points: &[&Growth]) -> String {
    let [first, .., last] = points else {
        return "One point says nothing of growth.".to_owned();
    };
    let grew = |(_, of): Figure| spread(last, of).median / spread(first, of).median;
    let (from, to) = (label(first.at as f64), label(last.at as f64));
    match axis {
        Axis::Partitions => {
            let (rss, idle, start) = (line(points, IDLE_RSS), line(points, IDLE), line(points, START));
            format!(
                "A partition takes {} KiB of memory beside {} MiB, {}% of a core per 1,000 idle beside {}%, and {} s of the \
                 start per 1,000; from {from} to {to} of them a record at the same load costs {}× the CPU.",
                number(rss.each * 1024.0),
                number(rss.fixed),
                number(idle.each * 1000.0),
                number(idle.fixed),
                number(start.each * 1000.0),
                number(grew(CPU)),
            )
        }
        Axis::Flows => format!(
            "From {from} to {to} flows a record costs {}× the CPU, and the process {} MiB more for each flow.",
            number(grew(CPU)),
            number(line(points, RSS).each),
        ),
        Axis::Pumps => format!(
            "From {from} to {to} pumps the rate is {}×, a record costs {}× the CPU, and the peak of memory is {}×: the cores \
             are shared with both brokers and the reader.",
            number(grew(RATE)),
            number(grew(CPU)),
            number(grew(RSS)),
        ),
        Axis::Sizes => {
            let cpu = line(points, CPU);
            format!(
                "A record costs {} µs of CPU and each GiB {} s: the bytes weigh as much as the record at {} bytes.",
                number(cpu.fixed),
                number(cpu.each * MIB * 1024.0 / 1e6),
                number(cpu.fixed / cpu.each),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<_> = [10.0, 100.0, 1000.0, 10_000.0]
            .map(|x| (x, 30.0 + 0.02 * x))
            .into();
        let line = Line::fit(&points);
        assert!(
            (line.fixed - 30.0).abs() < 1e-6 && (line.each - 0.02).abs() < 1e-9,
            "{line:?}"
        );
    }
}
