//! What the rules of the core cost: the figures that criterion left, kept beside haul's own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::figures::number;

/// Where `cargo bench` writes.
const CRITERION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/criterion/core");
/// Where the figures are kept.
const NAME: &str = "core.json";

/// Nanoseconds of one call with the bounds of criterion's 95% confidence interval.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Cost {
    median: f64,
    least: f64,
    most: f64,
}

#[derive(Deserialize)]
struct Benchmark {
    function_id: String,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// The section; nothing if `cargo bench --bench core` never ran.
pub(super) fn section(dir: &Path) -> Result<String> {
    let kept = dir.join(NAME);
    let fresh = read(Path::new(CRITERION))?;
    if !fresh.is_empty() {
        fs::write(&kept, serde_json::to_string_pretty(&fresh)? + "\n")?;
    } else if !kept.exists() {
        return Ok(String::new());
    }
    let costs: BTreeMap<String, Cost> = serde_json::from_str(&fs::read_to_string(&kept)?)
        .with_context(|| format!("{} is not what this haul wrote", kept.display()))?;
    table(&costs)
}

fn table(costs: &BTreeMap<String, Cost>) -> Result<String> {
    let mut text = "\n## What the rules cost\n\n`cargo bench --bench core` (criterion), medians with their 95% confidence interval.\n\n\
                    | | ns |\n|---|---|\n"
        .to_owned();
    for (name, cost) in costs {
        let Cost { median, least, most } = *cost;
        writeln!(
            text,
            "| {name} | {} ({}..{}) |",
            number(median),
            number(least),
            number(most)
        )?;
    }
    Ok(text)
}

/// All that criterion left in `folder`, by name; nothing if it is not there.
fn read(folder: &Path) -> Result<BTreeMap<String, Cost>> {
    let mut costs = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(costs);
    }
    for entry in fs::read_dir(folder)? {
        let new = entry?.path().join("new");
        // Its reports lie beside the measurements.
        if !new.join("estimates.json").is_file() {
            continue;
        }
        let text = |name: &str| {
            fs::read_to_string(new.join(name)).with_context(|| format!("{} in {}", name, new.display()))
        };
        let benchmark: Benchmark = serde_json::from_str(&text("benchmark.json")?)?;
        let Estimates { median } = serde_json::from_str(&text("estimates.json")?)?;
        let cost = Cost {
            median: median.point_estimate,
            least: median.confidence_interval.lower_bound,
            most: median.confidence_interval.upper_bound,
        };
        costs.insert(benchmark.function_id, cost);
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criterion_left_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("a rule/new");
        fs::create_dir_all(&new).unwrap();
        fs::create_dir_all(folder.path().join("report")).unwrap();
        fs::write(
            new.join("benchmark.json"),
            r#"{"group_id":"core","function_id":"a: rule"}"#,
        )
        .unwrap();
        let interval = r#"{"confidence_level":0.95,"lower_bound":11.0,"upper_bound":13.0}"#;
        let estimate =
            format!(r#"{{"confidence_interval":{interval},"point_estimate":12.0,"standard_error":0.1}}"#);
        fs::write(
            new.join("estimates.json"),
            format!(r#"{{"mean":{estimate},"median":{estimate}}}"#),
        )
        .unwrap();
        let costs = read(folder.path()).unwrap();
        assert_eq!(costs.len(), 1);
        assert!(table(&costs).unwrap().contains("| a: rule | 12.0 (11.0..13.0) |"));
        assert!(read(&folder.path().join("none")).unwrap().is_empty());
    }
}
