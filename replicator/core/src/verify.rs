//! The books of a partition that is verified: what the source has that must be on the target, against what came.
//!
//! Both are told in the order of their logs. What matched is forgotten at once, so memory holds what was read ahead, and what is missing.

mod sample;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::batch::Record;
use crate::origin;
use crate::types::{SourceOffset, TargetOffset};

pub use sample::{STRETCH, Sample};

/// Records that may be missing at a time; beyond that the oldest are given up for lost.
const OPEN_MAX: usize = 1 << 20;
/// Ranges that are kept of each fault, to be shown.
pub const SHOWN: usize = 20;

/// What a record is compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    record: u64,
    /// Of the key; `None`: it has none.
    pub key: Option<u64>,
}

impl Digest {
    /// Of key, value and headers but for the tag's, and of the timestamp where that is copied (64 bits, SipHash).
    #[must_use]
    pub fn of(record: &Record, timestamp: bool) -> Self {
        let mut all = DefaultHasher::new();
        (&record.key, &record.value).hash(&mut all);
        origin::untagged(&record.headers).for_each(|header| header.hash(&mut all));
        timestamp.then_some(record.timestamp).hash(&mut all);
        Self {
            record: all.finish(),
            key: record.key.as_deref().map(key_digest),
        }
    }
}

/// What keys are compared by.
#[must_use]
pub fn key_digest(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It is not there.
    Lost,
    /// It is there once more.
    Doubled,
    /// It lies behind a copy of a later record.
    Reordered,
    /// It is there, and is not the same.
    Altered,
    /// A copy of something that is not on the source, or that the flow leaves out.
    Unexpected,
}

impl Fault {
    /// In reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Reordered => "reordered",
            Self::Altered => "altered",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Records of the source with the same fault: of `from..to` those that must be on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// What is wrong.
    pub fault: Fault,
    /// The first.
    pub from: SourceOffset,
    /// The offset after the last.
    pub to: SourceOffset,
    /// Where the first of them lies on the target.
    pub at: Option<TargetOffset>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Records that must be on the target.
    pub expected: u64,
    /// Of these, those of which a copy is there.
    pub there: u64,
    /// Not there, and a later record of their key is: compaction took them.
    pub compacted: u64,
    /// How many, by what is wrong.
    pub faults: BTreeMap<Fault, u64>,
    /// The first [`SHOWN`] ranges of each fault.
    pub ranges: Vec<Range>,
}

impl Findings {
    /// How many records have a fault.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    fn note(&mut self, fault: Fault, of: SourceOffset, at: Option<TargetOffset>) {
        *self.faults.entry(fault).or_default() += 1;
        let mut known = self.ranges.iter_mut().rev().filter(|range| range.fault == fault);
        match known.next() {
            Some(range) if range.to == of => range.to = of.plus(1),
            Some(_) if known.count() + 1 >= SHOWN => {}
            _ => self.ranges.push(Range {
                fault,
                from: of,
                to: of.plus(1),
                at,
            }),
        }
    }
}

/// The books of one partition.
#[derive(Debug)]
pub struct Books {
    /// Compaction may take records from either log.
    compacted: bool,
    open: BTreeMap<SourceOffset, Digest>,
    /// Copies whose tag does not explain them, by the record that the tag names: altered, or made of a copy by somebody.
    claims: BTreeMap<SourceOffset, TargetOffset>,
    highest: Option<SourceOffset>,
    findings: Findings,
}

impl Books {
    /// Empty books. `compacted`: compaction may take records from either log.
    #[must_use]
    pub fn new(compacted: bool) -> Self {
        Self {
            compacted,
            open: BTreeMap::new(),
            claims: BTreeMap::new(),
            highest: None,
            findings: Findings::default(),
        }
    }

    /// The source's next record that must be on the target.
    pub fn expect(&mut self, of: SourceOffset, digest: Digest) {
        self.findings.expected += 1;
        self.open.insert(of, digest);
        if self.open.len() > OPEN_MAX
            && let Some((of, _)) = self.open.pop_first()
        {
            self.lose(of);
        }
    }

    /// The target's next copy, of a record up to which the source was told.
    pub fn copy(&mut self, of: SourceOffset, digest: Digest, at: TargetOffset) {
        let late = self.highest.is_some_and(|highest| of <= highest);
        match self.open.remove(&of) {
            Some(expected) => {
                self.findings.there += 1;
                self.claims.remove(&of);
                if expected != digest {
                    self.findings.note(Fault::Altered, of, Some(at));
                }
                if late {
                    self.findings.note(Fault::Reordered, of, Some(at));
                }
            }
            None if late => self.findings.note(Fault::Doubled, of, Some(at)),
            // The source's compaction took it after it was copied.
            None if self.compacted => {}
            None => self.findings.note(Fault::Unexpected, of, Some(at)),
        }
        self.highest = self.highest.max(Some(of));
    }

    /// The target's next record with a tag that names this record of the source, and does not explain what it stands at.
    pub fn claim(&mut self, of: SourceOffset, at: TargetOffset) {
        if self.open.contains_key(&of) {
            self.claims.insert(of, at);
        }
    }

    /// What is missing so far, with its key. Once all was told, compaction may account for it.
    pub fn missing(&self) -> impl Iterator<Item = (SourceOffset, Option<u64>)> {
        self.open
            .iter()
            .filter(|(of, _)| !self.claims.contains_key(of))
            .map(|(of, digest)| (*of, digest.key))
    }

    /// All was told. `survived`: whether a later record of this key is there, on either side.
    #[must_use]
    pub fn close(mut self, survived: impl Fn(SourceOffset, u64) -> bool) -> Findings {
        for (of, digest) in std::mem::take(&mut self.open) {
            if self.compacted && digest.key.is_some_and(|key| survived(of, key)) {
                self.findings.compacted += 1;
            } else {
                self.lose(of);
            }
        }
        self.findings
    }

    fn lose(&mut self, of: SourceOffset) {
        match self.claims.remove(&of) {
            Some(at) => {
                self.findings.there += 1;
                self.findings.note(Fault::Altered, of, Some(at));
            }
            None => self.findings.note(Fault::Lost, of, None),
        }
    }
}

#[cfg(test)]
mod tests;
