//! Writes what was measured for people: RESULTS.md with tables and verdicts, and plots beside the results.

mod chart;
mod figures;
mod goals;
mod growth;
mod plots;
mod rules;
mod tables;
mod wan;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results::{self, Results};
pub(crate) use figures::Spread;

type Plot = (&'static str, &'static str, fn(&Results) -> Result<String>);

/// The plots of hauls, with what they show.
const PLOTS: [Plot; 3] = [
    ("cpu.svg", "CPU per record", plots::cpu),
    ("rate.svg", "records per second", plots::rate),
    ("rss.svg", "peak memory", plots::rss),
];
const LATENCY: Plot = ("latency.svg", "latency", plots::latency);
const WAN: Plot = ("wan.svg", "throughput over a link", wan::plot);

/// Writes RESULTS.md beside `dir`, which holds the results, and the plots into it.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let results = results::read(dir)?;
    let folder = dir
        .file_name()
        .context("the results lie in a folder with a name")?
        .to_string_lossy();
    let plotted = |(file, title, plot): Plot| -> Result<String> {
        fs::write(dir.join(file), plot(&results)?)?;
        Ok(format!("![{title}]({folder}/{file})\n"))
    };
    let mut text = tables::preamble(&results)?;
    for plot in PLOTS {
        text.push_str(&plotted(plot)?);
    }
    text.push_str(&tables::hauls(&results)?);
    text.push_str(&tables::starts(&results)?);
    text.push_str(&tables::latencies(&results)?);
    text.push_str(&format!("\n{}", plotted(LATENCY)?));
    text.push_str(&tables::idle(&results)?);
    text.push_str(&growth::section(&results, dir, &folder)?);
    text.push_str(&rules::section(dir)?);
    if !results.wan.is_empty() {
        text.push_str(&wan::tables(&results)?);
        text.push_str(&format!("\n{}", plotted(WAN)?));
    }
    text.push_str(&goals::table(&results)?);
    let path = dir.with_file_name("RESULTS.md");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
