//! Writes what was measured for people: RESULTS.md with tables and verdicts, and plots beside the results.

mod figures;
mod goals;
mod plots;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results;

/// The plots, with what they show.
const PLOTS: [(&str, &str); 4] = [
    ("cpu.svg", "CPU per record"),
    ("rate.svg", "records per second"),
    ("rss.svg", "peak memory"),
    ("latency.svg", "latency"),
];

/// Writes RESULTS.md beside `dir`, which holds the results, and the plots into it.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let results = results::read(dir)?;
    let folder = dir
        .file_name()
        .context("the results lie in a folder with a name")?
        .to_string_lossy();
    fs::write(dir.join(PLOTS[0].0), plots::cpu(&results)?)?;
    fs::write(dir.join(PLOTS[1].0), plots::rate(&results)?)?;
    fs::write(dir.join(PLOTS[2].0), plots::rss(&results)?)?;
    fs::write(dir.join(PLOTS[3].0), plots::latency(&results)?)?;
    let mut text = tables::preamble(&results)?;
    for (file, title) in &PLOTS[..3] {
        text.push_str(&format!("![{title}]({folder}/{file})\n"));
    }
    text.push_str(&tables::hauls(&results)?);
    text.push_str(&tables::starts(&results)?);
    text.push_str(&tables::latencies(&results)?);
    text.push_str(&format!("\n![{}]({folder}/{})\n", PLOTS[3].1, PLOTS[3].0));
    text.push_str(&tables::idle(&results)?);
    text.push_str(&goals::table(&results)?);
    let path = dir.with_file_name("RESULTS.md");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
