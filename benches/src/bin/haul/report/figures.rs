//! From runs to figures: medians with their spread.

use std::fmt::{self, Display, Formatter};

use crate::carriers::Carrier;
use crate::data::DataSet;
use crate::results::{Haul, HaulRun, Results};

const MIB: f64 = 1024.0 * 1024.0;
/// Below these, what was on its way when the first record was seen weighs too much.
const SHORT_SECONDS: f64 = 1.0;
const SHORT_SHARE: f64 = 0.8;

/// The median of some runs, the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value; of none it is NaN.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let count = values.len();
        Self {
            median: f64::midpoint(at(count.saturating_sub(1) / 2), at(count / 2)),
            min: at(0),
            max: at(count.saturating_sub(1)),
        }
    }
}

/// `median (min..max)`, with three figures or thousands separated.
impl Display for Spread {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}..{})",
            number(self.median),
            number(self.min),
            number(self.max)
        )
    }
}

/// Three significant figures; whole thousands with commas.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v < 0.995 => 3,
        v if v < 9.95 => 2,
        v if v < 99.5 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 {
        return text;
    }
    let mut out = String::new();
    for (at, digit) in text.chars().enumerate() {
        let left = text.len() - at;
        if at > 0 && left.is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The figures of one carrier on one data set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Records per second, first to last.
    pub(super) rate: Spread,
    /// MB (10^6) of keys and values per second.
    pub(super) mb_per_second: Spread,
    /// Microseconds of CPU per record, first to last.
    pub(super) cpu_us: Spread,
    /// Seconds of CPU per GiB of keys and values.
    pub(super) cpu_per_gib: Spread,
    /// Microseconds of CPU per record from the start of the process.
    pub(super) cpu_whole_us: Spread,
    pub(super) rss_mib: Spread,
    /// Seconds to the first record.
    pub(super) start: Spread,
    /// Too little was left to measure when the first record was seen.
    pub(super) short: bool,
}

impl Figures {
    /// Of this haul.
    pub(super) fn of(haul: &Haul) -> Self {
        let size = |run: &HaulRun| haul.bytes as f64 / run.records as f64;
        let rate = |run: &HaulRun| run.records as f64 * run.share / run.seconds;
        let cpu = |run: &HaulRun| run.cpu_seconds / (run.records as f64 * run.share);
        let spread = |figure: &dyn Fn(&HaulRun) -> f64| Spread::of(haul.runs.iter().map(figure));
        Self {
            rate: spread(&rate),
            mb_per_second: spread(&|run| rate(run) * size(run) / 1e6),
            cpu_us: spread(&|run| cpu(run) * 1e6),
            cpu_per_gib: spread(&|run| cpu(run) / size(run) * MIB * 1024.0),
            cpu_whole_us: spread(&|run| run.cpu_whole_seconds / run.records as f64 * 1e6),
            rss_mib: spread(&|run| run.peak_rss_bytes as f64 / MIB),
            start: spread(&|run| run.start_seconds),
            short: haul
                .runs
                .iter()
                .any(|run| run.seconds < SHORT_SECONDS || run.share < SHORT_SHARE),
        }
    }

    /// Of this carrier on this data set, if it was measured.
    pub(super) fn find(results: &Results, carrier: Carrier, data: DataSet) -> Option<Self> {
        let found = results
            .hauls
            .iter()
            .find(|haul| haul.carrier == carrier && haul.data == data);
        found.filter(|haul| !haul.runs.is_empty()).map(Self::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        let of = |values: &[f64]| Spread::of(values.iter().copied()).median;
        assert_eq!(of(&[3.0]), 3.0);
        assert_eq!(of(&[9.0, 1.0]), 5.0);
        assert_eq!(of(&[9.0, 1.0, 2.0]), 2.0);
        assert!(of(&[]).is_nan());
    }

    #[test]
    fn numbers_have_three_figures() {
        for (value, text) in [
            (0.1304, "0.130"),
            (1.714, "1.71"),
            (22.41, "22.4"),
            (99.6, "100"),
            (1343.2, "1,343"),
            (1_360_000.4, "1,360,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
