//! Whether the source log is still the one that a position is of: it may be another topic of that name, or have been cut before
//! the position and have grown again since (KIP-320; an unclean leader election, say).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::flow::Pairing;
use kuroshio_core::types::{Lane, SourceOffset, TopicPartition};
use kuroshio_wire::{Cluster, EpochEnd, Error, GroupOffset, Topics};

use super::Clerk;

/// Bytes read at once where it must be looked what lies before a position.
const READ: i32 = 1 << 20;

/// What the leader epochs say of a position.
pub(crate) enum Epochs {
    /// Nothing against it.
    Fine,
    /// The log that the position is of ends there; what lies behind was never read.
    EndAt(SourceOffset),
    /// It cannot be told before a transaction on the source has ended.
    Unstable,
}

impl Clerk {
    /// Topics that were created anew since discovery saw them; it is told to look again.
    pub(super) async fn recreated(
        &self,
        lanes: &[(Lane, Pairing, Option<GroupOffset>)],
    ) -> Result<BTreeSet<Arc<str>>, Error> {
        // Clusters that name no ids (the embedded ones) have nothing to compare.
        let with_ids = lanes.iter().filter(|(_, pairing, _)| pairing.topic_id != [0; 16]);
        let known: BTreeMap<Arc<str>, [u8; 16]> = with_ids
            .map(|(_, pairing, _)| (Arc::clone(&pairing.source.topic), pairing.topic_id))
            .collect();
        if known.is_empty() {
            return Ok(BTreeSet::new());
        }
        let names: Vec<Arc<str>> = known.keys().cloned().collect();
        let found = self.source.metadata(Topics::Named(&names)).await?;
        let is_other = |name: &Arc<str>, id: Option<[u8; 16]>| id.is_some() && known.get(name).copied() != id;
        let others: BTreeSet<Arc<str>> = found
            .topics
            .into_iter()
            .filter(|topic| is_other(&topic.name, topic.id.map(|id| id.0)))
            .map(|topic| topic.name)
            .collect();
        if !others.is_empty() {
            self.look.notify_one();
        }
        Ok(others)
    }
}

/// Judges the answer to the epoch of the newest *record* before `position`. Where that epoch ends before the position, as a rule
/// markers and aborted records of a later leader lie in between. A committed record that lies there was not read: the
/// position has been behind it already when it was written.
pub(crate) async fn judge_epochs(
    source: &Cluster,
    partition: &TopicPartition,
    epoch: Option<EpochEnd>,
    position: i64,
    log_end: SourceOffset,
) -> Result<Epochs, Error> {
    let Some(end) = epoch.and_then(|epoch| epoch.end).filter(|end| *end < position) else {
        return Ok(Epochs::Fine);
    };
    let mut at = end;
    while at < position.min(log_end.0) {
        let read = source.read_committed(partition, at, READ).await?;
        if read.records.iter().any(|(_, record)| record.offset < position) {
            return Ok(Epochs::EndAt(SourceOffset(end)));
        }
        if read.next <= at {
            return Ok(Epochs::Unstable);
        }
        at = read.next;
    }
    Ok(Epochs::Fine)
}
