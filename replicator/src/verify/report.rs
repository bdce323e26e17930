//! What was found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use kuroshio_core::types::SourceOffset;
use kuroshio_core::verify::{Fault, Findings, Range, STRETCH, Sample};
use serde::Serialize;

use crate::config::Flow;
use crate::figures::grouped;
use crate::show::table;
use crate::survey::Lane;

/// What was found in all flows.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Everything that must be there is there, once, in order and unchanged, and all of it could be compared.
    pub ok: bool,
    /// If only a part was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// In the order of the file.
    pub flows: Vec<FlowReport>,
}

/// What was found in a flow.
#[derive(Debug, Serialize)]
pub struct FlowReport {
    /// Its name.
    pub flow: Arc<str>,
    /// Alias of the source.
    pub source: Arc<str>,
    /// Alias of the target.
    pub target: Arc<str>,
    /// As for the report.
    pub ok: bool,
    /// Its records are there exactly once by contract; else some may be there twice, which is told and not held against it.
    pub exactly_once: bool,
    /// Of all partitions.
    pub totals: Totals,
    /// By topic and partition.
    pub partitions: Vec<PartitionReport>,
}

/// How many records.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// That must be on the target.
    pub expected: u64,
    /// Of these, those of which a copy is there.
    pub there: u64,
    /// Not there.
    pub lost: u64,
    /// There once more.
    pub doubled: u64,
    /// Behind a copy of a later record.
    pub reordered: u64,
    /// There, and not the same.
    pub altered: u64,
    /// Copies of nothing that is to be copied.
    pub unexpected: u64,
    /// Taken by compaction.
    pub compacted: u64,
    /// That the flow leaves out, because they came from the target or from elsewhere.
    pub skipped: u64,
}

/// What was found in a partition.
#[derive(Debug, Serialize)]
pub struct PartitionReport {
    /// Topic on the source.
    pub topic: Arc<str>,
    /// Partition, on both sides.
    pub partition: i32,
    /// Topic on the target.
    pub target_topic: Arc<str>,
    /// First source offset that was compared.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
    /// How many records.
    #[serde(flatten)]
    pub totals: Totals,
    /// Copies of records before `from`, or of what the topic was before; of a sample, what was read before a stretch began.
    pub before: u64,
    /// Records on the target that are no copies by this flow.
    pub others: u64,
    /// Pieces that were compared, where only a part was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stretches: Option<u64>,
    /// The first ranges of source offsets with each fault.
    pub faults: Vec<FaultRange>,
    /// Why it could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Records of the source with a fault: of `from..to` those that must be on the target.
#[derive(Debug, Serialize)]
pub struct FaultRange {
    /// What is wrong.
    pub fault: &'static str,
    /// The first source offset.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
    /// Target offset of the first, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

impl Totals {
    fn of(findings: &Findings, skipped: u64) -> Self {
        Self {
            expected: findings.expected,
            there: findings.there,
            lost: findings.count(Fault::Lost),
            doubled: findings.count(Fault::Doubled),
            reordered: findings.count(Fault::Reordered),
            altered: findings.count(Fault::Altered),
            unexpected: findings.count(Fault::Unexpected),
            compacted: findings.compacted,
            skipped,
        }
    }

    fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.there += other.there;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.unexpected += other.unexpected;
        self.compacted += other.compacted;
        self.skipped += other.skipped;
    }

    fn holds(&self, exactly_once: bool) -> bool {
        let wrong = self.lost + self.reordered + self.altered + self.unexpected;
        wrong == 0 && (self.doubled == 0 || !exactly_once)
    }
}

impl Report {
    pub(super) fn of(flows: Vec<FlowReport>, sample: Option<Sample>) -> Self {
        Self {
            ok: flows.iter().all(|flow| flow.ok),
            sample,
            flows,
        }
    }

    /// For people: a table of topics, and a line for each thing that is wrong.
    ///
    /// # Errors
    /// Never: it is written into memory.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for flow in &self.flows {
            flow.write(&mut text)?;
        }
        let verdict = match (self.ok, self.sample) {
            (true, None) => "ok: everything that must be there is there, once, in order and unchanged",
            (true, Some(_)) => {
                "ok: everything that was looked at and must be there is there, once, in order and unchanged"
            }
            (false, _) => "NOT ok",
        };
        if let Some(Sample { percent, seed }) = self.sample {
            writeln!(
                text,
                "only a part was compared: about {percent}% of the offsets, in stretches of {STRETCH}; --seed {seed} draws it again"
            )?;
        }
        writeln!(text, "{verdict}")?;
        Ok(text)
    }
}

impl FlowReport {
    pub(super) fn new(flow: &Flow) -> Self {
        Self {
            flow: Arc::clone(&flow.name),
            source: Arc::clone(&flow.source),
            target: Arc::clone(&flow.target),
            ok: false,
            exactly_once: false,
            totals: Totals::default(),
            partitions: Vec::new(),
        }
    }

    /// All partitions are there.
    pub(super) fn close(&mut self, exactly_once: bool) {
        self.exactly_once = exactly_once;
        for partition in &self.partitions {
            self.totals.add(&partition.totals);
        }
        self.partitions
            .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let compared = self
            .partitions
            .iter()
            .all(|partition| partition.problem.is_none());
        self.ok = compared && self.totals.holds(exactly_once);
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "flow {}: {} -> {}", self.flow, self.source, self.target)?;
        let mut topics: BTreeMap<&Arc<str>, Totals> = BTreeMap::new();
        for partition in &self.partitions {
            topics.entry(&partition.topic).or_default().add(&partition.totals);
        }
        let header = [
            "topic",
            "expected",
            "there",
            "lost",
            "doubled",
            "reordered",
            "altered",
            "unexpected",
            "compacted",
            "skipped",
        ];
        let mut table = table(header, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let rows = topics.iter().map(|(topic, totals)| (&***topic, totals));
        for (name, totals) in rows.chain([("in all", &self.totals)]) {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let figure = |count: u64| grouped(count as f64);
            table.add_row([
                name.to_owned(),
                figure(totals.expected),
                figure(totals.there),
                figure(totals.lost),
                figure(totals.doubled),
                figure(totals.reordered),
                figure(totals.altered),
                figure(totals.unexpected),
                figure(totals.compacted),
                figure(totals.skipped),
            ]);
        }
        writeln!(text, "{table}")?;
        for partition in &self.partitions {
            let name = format!("{}-{}", partition.topic, partition.partition);
            if let Some(problem) = &partition.problem {
                writeln!(text, "{name}: not compared: {problem}")?;
            }
            for FaultRange { fault, from, to, at } in &partition.faults {
                let at = at
                    .map(|at| format!(", on {} at {at}", self.target))
                    .unwrap_or_default();
                writeln!(text, "{name}: {fault}: source offsets {from} to {}{at}", to - 1)?;
            }
        }
        Ok(())
    }
}

impl PartitionReport {
    pub(super) fn new(lane: &Lane, to: SourceOffset) -> Self {
        Self {
            topic: Arc::clone(&lane.source.topic),
            partition: lane.source.partition,
            target_topic: Arc::clone(&lane.target.topic),
            from: to.0,
            to: to.0,
            totals: Totals::default(),
            before: 0,
            others: 0,
            stretches: None,
            faults: Vec::new(),
            problem: None,
        }
    }

    pub(super) fn not_compared(lane: &Lane, why: String) -> Self {
        Self {
            problem: Some(why),
            ..Self::new(lane, SourceOffset(0))
        }
    }

    /// Takes in what was found, and how many records the flow leaves out.
    pub(super) fn take(&mut self, findings: &Findings, skipped: u64) {
        self.totals.add(&Totals::of(findings, skipped));
        let shown = |range: &Range| FaultRange {
            fault: range.fault.as_str(),
            from: range.from.0,
            to: range.to.0,
            at: range.at.map(|at| at.0),
        };
        self.faults.extend(findings.ranges.iter().map(shown));
    }
}
