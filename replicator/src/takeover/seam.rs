//! Where in the source the records lie that a target ends with: by what they are, since another replicator wrote no tags.

use std::collections::VecDeque;

use kuroshio_core::batch::Record;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error, Isolation, OffsetAt};

/// Records at the end of the target that must all be found, one after the other.
const TAIL: usize = 16;
/// Offsets looked at for them: markers of transactions and compacted records have some too.
const SPAN: i64 = 1_000;
/// Bytes read at a time, and in all for a partition.
const CHUNK: i32 = 1 << 20;
const BUDGET: usize = 64 << 20;

/// What the end of a target says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seam {
    /// It holds no records.
    Empty,
    /// Its last record is the source's before this offset.
    Before(i64),
    /// Its last records are not there in the source, from where it was looked at on, or they are too far away.
    Unknown,
}

/// Looks for the last records of `target` in `source`; its last one lies at or behind `from`.
pub(super) async fn find(
    (source, source_partition): (&Cluster, &TopicPartition),
    (target, target_partition): (&Cluster, &TopicPartition),
    from: Option<i64>,
) -> Result<Seam, Error> {
    let last = last(target, target_partition).await?;
    let Some(first) = last.front() else {
        return Ok(Seam::Empty);
    };
    let list = |at| source.list_offset(source_partition, at, Isolation::ReadCommitted);
    let start = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
    let least = from.unwrap_or(start);
    // Timestamps are copied too, unless a broker stamps records itself.
    let stamped = match first.timestamp {
        // Below 0 it asks for something else.
        ..0 => None,
        ms => list(OffsetAt::Timestamp(ms)).await?,
    };
    let guesses = [stamped.map(|listed| listed.offset), Some(least - SPAN)];
    for at in guesses.into_iter().flatten() {
        let whole = at > start;
        let wanted = Wanted {
            last: &last,
            whole,
            least,
        };
        if let Some(found) = search((source, source_partition), at.max(start), &wanted).await? {
            return Ok(Seam::Before(found + 1));
        }
    }
    Ok(Seam::Unknown)
}

/// The last committed records of a partition.
async fn last(cluster: &Cluster, partition: &TopicPartition) -> Result<VecDeque<Record>, Error> {
    let list = |at| cluster.list_offset(partition, at, Isolation::ReadCommitted);
    let start = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
    let end = list(OffsetAt::Latest).await?.map_or(0, |listed| listed.offset);
    let (mut span, mut read) = (SPAN, 0);
    loop {
        let from = (end - span).max(start);
        let (mut at, mut last) = (from, VecDeque::new());
        while at < end {
            let committed = cluster.read_committed(partition, at, CHUNK).await?;
            read += committed.bytes;
            for (_, record) in committed.records {
                keep(&mut last, record);
            }
            if committed.next <= at {
                break;
            }
            at = committed.next;
        }
        if last.len() == TAIL || from == start || read > BUDGET {
            return Ok(last);
        }
        span = span.saturating_mul(4);
    }
}

/// What is looked for.
struct Wanted<'a> {
    last: &'a VecDeque<Record>,
    /// Whether all of it must be seen, or as much as the log still has.
    whole: bool,
    /// Where it may end.
    least: i64,
}

/// The first offset at which what is wanted ends in the log, read from `at` on.
async fn search(
    (cluster, partition): (&Cluster, &TopicPartition),
    mut at: i64,
    wanted: &Wanted<'_>,
) -> Result<Option<i64>, Error> {
    let (mut seen, mut read) = (VecDeque::new(), 0);
    while read < BUDGET {
        let committed = cluster.read_committed(partition, at, CHUNK).await?;
        read += committed.bytes;
        for (_, record) in committed.records {
            let offset = record.offset;
            keep(&mut seen, record);
            if offset >= wanted.least && wanted.ends(&seen) {
                return Ok(Some(offset));
            }
        }
        if committed.next <= at {
            return Ok(None);
        }
        at = committed.next;
    }
    Ok(None)
}

fn keep(last: &mut VecDeque<Record>, record: Record) {
    if last.len() == TAIL {
        last.pop_front();
    }
    last.push_back(record);
}

impl Wanted<'_> {
    fn ends(&self, seen: &VecDeque<Record>) -> bool {
        let same =
            |(a, b): (&Record, &Record)| (&a.key, &a.value, &a.headers) == (&b.key, &b.value, &b.headers);
        let enough = seen.len() >= self.last.len() || !self.whole;
        enough && !seen.is_empty() && seen.iter().rev().zip(self.last.iter().rev()).all(same)
    }
}
