//! What was measured, kept as JSON so that a run may be made in parts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::carriers::Carrier;
use crate::data::DataSet;
use crate::growth::Growth;
use crate::machine::{Machine, Versions};
use crate::wan::WanRun;

/// The file.
const NAME: &str = "haul.json";

/// Everything.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Results {
    /// Where; ratios of two machines mean nothing.
    pub(crate) machine: Machine,
    /// How; parts refer to one by its index.
    pub(crate) invocations: Vec<Invocation>,
    pub(crate) hauls: Vec<Haul>,
    pub(crate) starts: Vec<Start>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) idle: Vec<Idle>,
    #[serde(default)]
    pub(crate) growth: Vec<Growth>,
    #[serde(default)]
    pub(crate) wan: Vec<WanRun>,
}

/// One call of this program.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Invocation {
    /// RFC 3339.
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) versions: Versions,
}

/// Runs of one carrier on one data set.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Haul {
    pub(crate) carrier: Carrier,
    pub(crate) data: DataSet,
    pub(crate) invocation: usize,
    pub(crate) scale: f64,
    /// Of keys and values, uncompressed.
    pub(crate) bytes: u64,
    pub(crate) runs: Vec<HaulRun>,
}

/// Figures of one run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct HaulRun {
    pub(crate) records: u64,
    /// From the first record on the target to the last.
    pub(crate) seconds: f64,
    /// Share of the records that came in that time.
    pub(crate) share: f64,
    /// CPU in that time.
    pub(crate) cpu_seconds: f64,
    /// CPU from the start of the process to the last record.
    pub(crate) cpu_whole_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
    /// From the start of the process to the first record.
    pub(crate) start_seconds: f64,
}

/// Starts of one carrier on a target with the default delay of a group's first rebalance.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Start {
    pub(crate) carrier: Carrier,
    pub(crate) invocation: usize,
    /// To the first record, of each run.
    pub(crate) seconds: Vec<f64>,
}

/// How long records took at one rate: of each figure the median of all runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    /// None: read from the source itself.
    pub(crate) carrier: Option<Carrier>,
    pub(crate) invocation: usize,
    /// Records per second.
    pub(crate) rate: u32,
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// Least and most p50 of the runs.
    #[serde(default)]
    pub(crate) p50_spread_ms: Option<(f64, f64)>,
}

/// A carrier with nothing to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Idle {
    pub(crate) carrier: Carrier,
    pub(crate) invocation: usize,
    pub(crate) partitions: usize,
    /// Share of one core.
    pub(crate) cores: f64,
    pub(crate) peak_rss_bytes: u64,
}

/// The results of this machine in their folder.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    pub(crate) results: Results,
    /// Index of this call.
    pub(crate) invocation: usize,
}

impl Store {
    /// Opens or makes the results in `dir` and notes this call.
    pub(crate) fn open(dir: &Path, command: String) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let machine = Machine::this()?;
        let mut results = match dir.join(NAME).exists() {
            true => read(dir)?,
            false => Results {
                machine: machine.clone(),
                ..Results::default()
            },
        };
        ensure!(
            results.machine == machine,
            "{} holds results of another machine: {}; use another --results",
            dir.display(),
            results.machine
        );
        results.invocations.push(Invocation {
            date: jiff::Timestamp::now().round(jiff::Unit::Second)?.to_string(),
            command,
            versions: Versions::these()?,
        });
        Ok(Self {
            path: dir.join(NAME),
            invocation: results.invocations.len() - 1,
            results,
        })
    }

    /// Keeps the results; the file is whole at any moment.
    pub(crate) fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.results)?;
        let new = self.path.with_extension("new");
        fs::write(&new, text + "\n")?;
        Ok(fs::rename(&new, &self.path)?)
    }

    /// How many runs are there already.
    pub(crate) fn runs(&self, carrier: Carrier, data: DataSet, scale: f64) -> usize {
        let same = |haul: &&Haul| haul.carrier == carrier && haul.data == data && haul.scale == scale;
        self.results
            .hauls
            .iter()
            .find(same)
            .map_or(0, |haul| haul.runs.len())
    }

    /// Adds a run to those of this carrier and data set; those at another scale make room.
    pub(crate) fn add_run(&mut self, haul: Haul) -> Result<()> {
        let hauls = &mut self.results.hauls;
        let same = |kept: &Haul| kept.carrier == haul.carrier && kept.data == haul.data;
        match hauls
            .iter_mut()
            .find(|kept| same(kept) && kept.scale == haul.scale)
        {
            Some(kept) => {
                kept.runs.extend(haul.runs);
                kept.invocation = haul.invocation;
            }
            None => {
                hauls.retain(|kept| !same(kept));
                hauls.push(haul);
            }
        }
        self.save()
    }
}

/// The results in `dir`.
pub(crate) fn read(dir: &Path) -> Result<Results> {
    let path = dir.join(NAME);
    let text = fs::read_to_string(&path).with_context(|| format!("no results in {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what this haul wrote", path.display()))
}
