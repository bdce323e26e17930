//! Where in the source the records lie that a target ends with: by what they are, since another replicator wrote no tags.

use std::collections::VecDeque;

use kuroshio_core::batch::Record;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error, Isolation, KafkaCode, OffsetAt};

/// Records at the end of the target that must all be found, one after the other.
const TAIL: usize = 16;
/// Offsets looked at for them at first: markers of transactions and compacted records have some too.
const FIRST_SPAN: i64 = 64;
/// Offsets of the source looked at before the note.
const BEFORE: i64 = 1_000;
/// Bytes read at a time, and in all for a partition.
const CHUNK: i32 = 256 << 10;
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

/// Looks for the last records of `target` in `source`, whose log is `log`; the last one lies at or behind `from`.
pub(super) async fn find(
    source: (&Cluster, &TopicPartition),
    target: (&Cluster, &TopicPartition),
    (start, end): (i64, i64),
    from: Option<i64>,
) -> Result<Seam, Error> {
    let Some(last) = last(target.0, target.1).await? else {
        return Ok(Seam::Unknown);
    };
    let Some(first) = last.front() else {
        return Ok(Seam::Empty);
    };
    let least = from.unwrap_or(start);
    let before = (least - BEFORE).max(start);
    let mut wanted = Wanted {
        last: &last,
        stamped: true,
        // What the source has deleted cannot be compared.
        partly: start > 0 && before == start,
        least,
        end,
    };
    // MirrorMaker 2 copies timestamps: nothing of the target's end lies before the first that is as late.
    let later = match first.timestamp {
        // Below 0 it asks for something else.
        ..0 => None,
        ms => source
            .0
            .list_offset(source.1, OffsetAt::Timestamp(ms), Isolation::ReadUncommitted)
            .await?
            .map(|listed| listed.offset),
    };
    for at in later.into_iter().chain([before]) {
        if let Some(found) = search(source, at.max(start), &wanted).await? {
            return Ok(Seam::Before(found + 1));
        }
    }
    // Unless the target's brokers stamp records themselves.
    wanted.stamped = false;
    Ok(match search(source, before, &wanted).await? {
        Some(found) => Seam::Before(found + 1),
        None => Seam::Unknown,
    })
}

/// The last committed records of a partition; `None`: they cannot be read.
async fn last(cluster: &Cluster, partition: &TopicPartition) -> Result<Option<VecDeque<Record>>, Error> {
    let list = |at| cluster.list_offset(partition, at, Isolation::ReadCommitted);
    let start = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
    let end = list(OffsetAt::Latest).await?.map_or(0, |listed| listed.offset);
    let (mut span, mut read) = (FIRST_SPAN, 0);
    loop {
        let from = (end - span).max(start);
        let (mut at, mut last) = (from, VecDeque::new());
        while at < end {
            let committed = cluster.read_committed(partition, at, CHUNK).await?;
            read += committed.bytes;
            if committed.next <= at || read > BUDGET {
                return Ok(None);
            }
            for (_, record) in committed.records {
                keep(&mut last, record);
            }
            at = committed.next;
        }
        if last.len() == TAIL || from == start {
            return Ok(Some(last));
        }
        span = span.saturating_mul(4);
    }
}

/// What is looked for.
struct Wanted<'a> {
    last: &'a VecDeque<Record>,
    /// Whether timestamps count.
    stamped: bool,
    /// Whether as much is enough as the log still has.
    partly: bool,
    /// Where it may end, and the end of the log.
    least: i64,
    end: i64,
}

/// The first offset at which what is wanted ends in the log, read from `at` on: also what is not committed, which MirrorMaker 2
/// copies too unless it is told otherwise.
async fn search(
    (cluster, partition): (&Cluster, &TopicPartition),
    mut at: i64,
    wanted: &Wanted<'_>,
) -> Result<Option<i64>, Error> {
    let (mut seen, mut read) = (VecDeque::new(), 0);
    while at < wanted.end && read < BUDGET {
        let records = cluster
            .read_records(partition, at, CHUNK, Isolation::ReadUncommitted)
            .await;
        let records = match records {
            Err(error) if error.code() == Some(KafkaCode::OffsetOutOfRange) => return Ok(None),
            records => records?,
        };
        read += records.bytes;
        for (_, record) in records.records {
            let offset = record.offset;
            keep(&mut seen, record);
            if offset >= wanted.least && wanted.ends(&seen) {
                return Ok(Some(offset));
            }
        }
        if records.next <= at {
            return Ok(None);
        }
        at = records.next;
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
        let same = |(a, b): (&Record, &Record)| {
            (&a.key, &a.value, &a.headers) == (&b.key, &b.value, &b.headers)
                && (!self.stamped || a.timestamp == b.timestamp)
        };
        let enough = seen.len() >= self.last.len() || self.partly;
        enough && !seen.is_empty() && seen.iter().rev().zip(self.last.iter().rev()).all(same)
    }
}
