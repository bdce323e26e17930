//! A partition's log, read within a budget.

use std::collections::HashSet;
use std::ops::Range;

use kuroshio_core::batch::Record;
use kuroshio_core::search::Stretch;
use kuroshio_core::translate::{self, Place};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error};

/// Bytes of a probe, and of a step of a scan.
pub(crate) const PROBE: i32 = 64 << 10;
pub(crate) const STEP: i32 = 4 << 20;

/// How much to read next where what is looked for is near, or far away.
pub(crate) fn wider(bytes: i32) -> i32 {
    (bytes * 4).min(STEP)
}

/// Committed records that were read in one go, with the producer id of each.
pub(crate) struct Chunk {
    offsets: Range<i64>,
    records: Vec<(i64, Record)>,
}

impl Chunk {
    /// Those of them that come from `of`.
    pub(crate) fn stretch(&self, here: Place<'_>, of: Place<'_>, ours: &HashSet<i64>) -> Stretch {
        let records = self.records.iter().map(|(producer, record)| (*producer, record));
        translate::stretch(self.offsets.clone(), records, here, of, |producer| {
            ours.contains(&producer)
        })
    }

    /// Records before `end` that were read already: their offset at one of `parts` lies below what is unread of it.
    fn known(&self, end: i64, here: Place<'_>, parts: &[(Place<'_>, i64)]) -> usize {
        let known = |record: &Record| {
            let below = |(of, unread): &(Place<'_>, i64)| {
                translate::offset_in(record, here, *of).is_some_and(|offset| offset < *unread)
            };
            record.offset < end && parts.iter().any(below)
        };
        self.records.iter().filter(|(_, record)| known(record)).count()
    }
}

/// Reads a partition, and counts what that took.
pub(crate) struct Log<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) partition: TopicPartition,
    /// Bytes that may still be read.
    left: usize,
    /// What was read.
    bytes: usize,
    offsets: i64,
}

impl<'a> Log<'a> {
    pub(crate) fn new(cluster: &'a Cluster, partition: TopicPartition, budget: usize) -> Self {
        Self {
            cluster,
            partition,
            left: budget,
            bytes: 0,
            offsets: 0,
        }
    }

    /// Bytes of an offset, by what was read.
    fn density(&self) -> f64 {
        self.bytes as f64 / (self.offsets as f64).max(1.0)
    }

    /// How many offsets so many bytes hold; at least 1.
    pub(crate) fn offsets_in(&self, bytes: i32) -> i64 {
        (f64::from(bytes) / self.density().max(1.0)).max(1.0) as i64
    }

    /// How many bytes to ask for so as to read these offsets.
    pub(crate) fn bytes_of(&self, offsets: i64) -> i32 {
        (offsets as f64 * self.density()).clamp(f64::from(PROBE), f64::from(STEP)) as i32
    }

    pub(crate) fn here(&self) -> Place<'_> {
        Place {
            cluster: self.cluster.alias(),
            topic: &self.partition.topic,
            partition: self.partition.partition,
        }
    }

    /// Committed records from `at` on; `None`: no more may be read, or nothing can be read there.
    pub(crate) async fn read(&mut self, at: i64, max_bytes: i32) -> Result<Option<Chunk>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let committed = self
            .cluster
            .read_committed(&self.partition, at, max_bytes)
            .await?;
        self.left = self.left.saturating_sub(committed.bytes);
        self.bytes += committed.bytes;
        self.offsets += committed.next - at;
        Ok((committed.next > at).then_some(Chunk {
            offsets: at..committed.next,
            records: committed.records,
        }))
    }

    /// Counts the records in `range` that were read already, of each of `parts` those below an offset there; without a bound on
    /// what is read for it.
    pub(crate) async fn count_known(
        &mut self,
        range: Range<i64>,
        parts: &[(Place<'_>, i64)],
    ) -> Result<u64, Error> {
        self.left = usize::MAX;
        let (mut at, mut count) = (range.start, 0);
        while at < range.end {
            let Some(chunk) = self.read(at, STEP).await? else {
                break;
            };
            count += chunk.known(range.end, self.here(), parts);
            at = chunk.offsets.end;
        }
        Ok(count as u64)
    }
}
