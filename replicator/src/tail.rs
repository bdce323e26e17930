//! Reading what already lies on a target: the newest tag of a flow in a partition's tail, and whether the
//! source record that it names is the one it speaks of. This is how a lost position heals (DESIGN D2).

use std::sync::Arc;

use kuroshio_core::batch::Record;
use kuroshio_core::flow::Pairing;
use kuroshio_core::origin::{self, Tag};
use kuroshio_core::types::{SourceOffset, TargetOffset};
use kuroshio_wire::{Cluster, Error, Isolation, OffsetAt};

/// Bytes read at a time.
const CHUNK: i32 = 1 << 20;
/// Offsets looked at first; four times as many at each further step.
const FIRST_STEP: i64 = 1_000;
/// Bytes of a tail read at most: beyond them the tail counts as without a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Of a flow that seems to start for the first time: there may be many partitions, full of what others wrote.
    Glance = 1 << 20,
    /// Of a flow that is known to have been here.
    Search = 64 << 20,
}

/// The record that carries the newest tag, and the source offset that the tag names.
pub struct Newest {
    /// The source offset.
    pub offset: SourceOffset,
    record: Record,
}

/// The newest record in the committed tail of the target partition that `source` was the last hop of, `depth` bytes
/// deep, and `before` an offset, if there is one.
///
/// # Errors
/// When the target cannot be read.
pub async fn newest_tag(
    target: &Cluster,
    source: &Arc<str>,
    pairing: &Pairing,
    depth: Depth,
    before: Option<TargetOffset>,
) -> Result<Option<Newest>, Error> {
    let partition = pairing.target();
    let list = |at| target.list_offset(&partition, at, Isolation::ReadCommitted);
    let start = list(OffsetAt::Earliest).await?.map_or(0, |listed| listed.offset);
    let end = list(OffsetAt::Latest).await?.map_or(0, |listed| listed.offset);
    let end = before.map_or(end, |before| end.min(before.0));
    let (mut upper, mut step, mut read) = (end, FIRST_STEP, 0);
    while upper > start && read < depth as usize {
        let lower = (upper - step).max(start);
        let mut newest = None;
        let mut at = lower;
        while at < upper {
            let committed = target.read_committed(&partition, at, CHUNK).await?;
            read += committed.bytes;
            let records = committed.records.into_iter().map(|(_, record)| record);
            for record in records.filter(|record| record.offset < upper) {
                if let Some(offset) = names(&record, source, pairing) {
                    newest = Some(Newest { offset, record });
                }
            }
            if committed.next <= at {
                break;
            }
            at = committed.next;
        }
        if newest.is_some() {
            return Ok(newest);
        }
        (upper, step) = (lower, step.saturating_mul(4));
    }
    Ok(None)
}

/// Whether the source record that the tag names is the tagged record: key, value and other headers.
///
/// # Errors
/// When the source cannot be read.
pub async fn is_copy(source: &Cluster, pairing: &Pairing, newest: &Newest) -> Result<bool, Error> {
    let committed = source
        .read_committed(&pairing.source, newest.offset.0, CHUNK)
        .await?;
    let mut records = committed.records.into_iter().map(|(_, record)| record);
    let Some(born) = records.find(|record| record.offset == newest.offset.0) else {
        return Ok(false);
    };
    let copy = &newest.record;
    Ok(born.key == copy.key
        && born.value == copy.value
        && origin::untagged(&born.headers).eq(origin::untagged(&copy.headers)))
}

/// The source offset that a record's tag names, if the tag explains the record and its last hop is this lane's
/// source partition.
fn names(record: &Record, source: &Arc<str>, pairing: &Pairing) -> Option<SourceOffset> {
    let check = origin::check(record.key.as_deref(), record.value.as_deref());
    origin::tag_values(&record.headers)
        .filter_map(Tag::parse)
        .filter(|tag| tag.explains(&pairing.target_topic, pairing.source.partition, check))
        .map(|tag| tag.last())
        .find(|hop| hop.cluster == &**source && hop.topic == &*pairing.source.topic)
        .map(|hop| hop.offset)
}
