//! What was produced against what was read.

use std::collections::HashMap;
use std::fmt;

/// How many examples of each fault are kept.
const EXAMPLES: u64 = 3;

/// The records of one producer in one partition: `digests[i]` is that of its event `i`.
pub(crate) struct Stream {
    pub(crate) partition: i32,
    pub(crate) digests: Vec<u128>,
}

/// All that was produced, by stream name (`birth/topic/partition/producer`).
pub(crate) type Streams = HashMap<String, Stream>;

/// What a comparison found. All counts are of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Produced, and expected in the topic.
    pub expected: u64,
    /// Read from the topic.
    pub read: u64,
    /// Expected and not there.
    pub lost: u64,
    /// There more than once: each one too many.
    pub duplicated: u64,
    /// Behind a later record of the same producer and partition.
    pub reordered: u64,
    /// There, with another key, value, header or timestamp.
    pub altered: u64,
    /// Not an event of this ledger that belongs into this partition.
    pub foreign: u64,
    /// Carrying Kuroshio's tag.
    pub tagged: u64,
    /// Whether the end of every partition was reached.
    pub at_end: bool,
    /// The first few of each kind.
    pub examples: Vec<String>,
}

impl Report {
    /// Everything is there, once, in order, unaltered, and nothing else.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let faults = self.lost + self.duplicated + self.reordered + self.altered + self.foreign;
        self.at_end && faults == 0 && self.read == self.expected
    }

    /// # Panics
    /// When the comparison found anything wrong; says what.
    pub fn assert_exact(&self) {
        assert!(self.is_exact(), "the topic differs from the ledger: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected {}, read {}{}: lost {}, duplicated {}, reordered {}, altered {}, foreign {} (tagged {})",
            self.expected,
            self.read,
            if self.at_end { "" } else { " (end not reached)" },
            self.lost,
            self.duplicated,
            self.reordered,
            self.altered,
            self.foreign,
            self.tagged
        )?;
        self.examples
            .iter()
            .try_for_each(|example| write!(f, "\n  {example}"))
    }
}

/// A record that was read.
pub(crate) struct Seen<'r> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// `birth/topic/partition/producer/sequence`.
    pub(crate) name: Option<&'r str>,
    pub(crate) digest: u128,
    pub(crate) tagged: bool,
}

/// Takes records in the order of the log and keeps count.
pub(crate) struct Tally<'s> {
    streams: HashMap<&'s str, Progress<'s>>,
    missing: u64,
    report: Report,
}

struct Progress<'s> {
    stream: &'s Stream,
    seen: Vec<bool>,
    /// The sequence after the highest seen.
    next: usize,
}

impl<'s> Tally<'s> {
    /// Expects every record of those streams whose name passes `expected`.
    pub(crate) fn new(streams: &'s Streams, expected: impl Fn(&str) -> bool) -> Self {
        let streams: HashMap<_, _> = streams
            .iter()
            .filter(|(name, _)| expected(name))
            .map(|(name, stream)| {
                (
                    name.as_str(),
                    Progress {
                        stream,
                        seen: vec![false; stream.digests.len()],
                        next: 0,
                    },
                )
            })
            .collect();
        let missing = streams.values().map(|progress| progress.seen.len() as u64).sum();
        Self {
            streams,
            missing,
            report: Report {
                expected: missing,
                ..Report::default()
            },
        }
    }

    /// Whether every expected record was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn see(&mut self, record: &Seen<'_>) {
        self.report.read += 1;
        self.report.tagged += u64::from(record.tagged);
        let found = record
            .name
            .and_then(|name| name.rsplit_once('/'))
            .and_then(|(stream, sequence)| Some((stream, sequence.parse::<usize>().ok()?)))
            .and_then(|(stream, sequence)| Some((self.streams.get_mut(stream)?, sequence)))
            .filter(|(progress, sequence)| {
                progress.stream.partition == record.partition && *sequence < progress.seen.len()
            });
        let Some((progress, sequence)) = found else {
            return note(
                &mut self.report.foreign,
                &mut self.report.examples,
                "foreign",
                record,
            );
        };
        if progress.stream.digests[sequence] != record.digest {
            note(
                &mut self.report.altered,
                &mut self.report.examples,
                "altered",
                record,
            );
        }
        if progress.seen[sequence] {
            return note(
                &mut self.report.duplicated,
                &mut self.report.examples,
                "duplicated",
                record,
            );
        }
        progress.seen[sequence] = true;
        self.missing -= 1;
        if sequence < progress.next {
            note(
                &mut self.report.reordered,
                &mut self.report.examples,
                "reordered",
                record,
            );
        }
        progress.next = progress.next.max(sequence + 1);
    }

    /// What was found; what was not seen until now is lost.
    pub(crate) fn finish(mut self, at_end: bool) -> Report {
        let mut examples = 0;
        for (name, progress) in &self.streams {
            for (sequence, _) in progress.seen.iter().enumerate().filter(|(_, seen)| !**seen) {
                self.report.lost += 1;
                if examples < EXAMPLES {
                    examples += 1;
                    self.report.examples.push(format!("lost: {name}/{sequence}"));
                }
            }
        }
        self.report.at_end = at_end;
        self.report
    }
}

fn note(count: &mut u64, examples: &mut Vec<String>, kind: &str, record: &Seen<'_>) {
    *count += 1;
    if *count <= EXAMPLES {
        let name = record.name.unwrap_or("a record without a name");
        examples.push(format!(
            "{kind}: {name} at partition {} offset {}",
            record.partition, record.offset
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Streams {
        let stream = |partition| Stream {
            partition,
            digests: (0..4).collect(),
        };
        HashMap::from([
            ("tw/t/0/0".to_owned(), stream(0)),
            ("jp/t/0/0".to_owned(), stream(0)),
        ])
    }

    /// Stream, sequence, digest.
    type Read = (&'static str, u128, u128);

    /// Reads `log` from partition 0 and gives the counts of faults
    /// (lost, duplicated, reordered, altered, foreign).
    fn faults(log: &[Read]) -> (u64, u64, u64, u64, u64) {
        let streams = streams();
        let mut tally = Tally::new(&streams, |_| true);
        for (offset, (stream, sequence, digest)) in log.iter().enumerate() {
            let name = format!("{stream}/{sequence}");
            tally.see(&Seen {
                partition: 0,
                offset: offset as i64,
                name: Some(&name),
                digest: *digest,
                tagged: false,
            });
        }
        let report = tally.finish(true);
        (
            report.lost,
            report.duplicated,
            report.reordered,
            report.altered,
            report.foreign,
        )
    }

    #[test]
    fn every_fault_is_counted_as_what_it_is() {
        const TW: &str = "tw/t/0/0";
        const JP: &str = "jp/t/0/0";
        let all: Vec<_> = [
            (TW, 0),
            (JP, 0),
            (JP, 1),
            (TW, 1),
            (TW, 2),
            (JP, 2),
            (TW, 3),
            (JP, 3),
        ]
        .map(|(s, n)| (s, n, n))
        .into();
        let changed = |change: fn(&mut Vec<Read>)| {
            let mut log = all.clone();
            change(&mut log);
            faults(&log)
        };
        let table = [
            (
                "interleaved births are in order",
                changed(|_| ()),
                (0, 0, 0, 0, 0),
            ),
            (
                "the last one is missing",
                changed(|log| log.truncate(7)),
                (1, 0, 0, 0, 0),
            ),
            (
                "one comes again",
                changed(|log| log.push(log[3])),
                (0, 1, 0, 0, 0),
            ),
            (
                "two of one birth change places",
                changed(|log| log.swap(0, 3)),
                (0, 0, 1, 0, 0),
            ),
            (
                "two of two births change places",
                changed(|log| log.swap(0, 1)),
                (0, 0, 0, 0, 0),
            ),
            ("other bytes", changed(|log| log[4].2 = 9), (0, 0, 0, 1, 0)),
            (
                "an unknown producer",
                changed(|log| log.push(("tw/t/0/7", 0, 0))),
                (0, 0, 0, 0, 1),
            ),
            (
                "an unknown sequence",
                changed(|log| log.push((TW, 4, 4))),
                (0, 0, 0, 0, 1),
            ),
        ];
        for (what, found, expected) in table {
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_record_in_another_partition_is_foreign() {
        let streams = streams();
        let mut tally = Tally::new(&streams, |name| name.starts_with("tw/"));
        tally.see(&Seen {
            partition: 1,
            offset: 0,
            name: Some("tw/t/0/0/0"),
            digest: 0,
            tagged: false,
        });
        let report = tally.finish(true);
        assert_eq!((report.expected, report.foreign, report.lost), (4, 1, 4));
    }
}
