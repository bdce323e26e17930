//! Commits positions outside transactions: the floors of a pump in at_least_once, and the copies of all
//! positions on the source, for the eyes of lag tools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Class, Cluster, Committer, Error, GroupOffset, Stored};
use tokio::sync::mpsc;

use crate::board::FlowBoard;
use crate::lanes::FlowEnds;
use crate::line::PumpLine;
use crate::pump::{News, StoreErrand};

/// Between two copies of the positions.
const COPY: Duration = Duration::from_secs(5);
/// What did not move is copied again this often: the source forgets offsets of an empty group (`offsets.retention.minutes`).
const RENEW: Duration = Duration::from_secs(12 * 3600);

/// Stores the positions of one pump until it has ended.
pub async fn store(
    ends: FlowEnds,
    target: Cluster,
    line: PumpLine,
    mut errands: mpsc::Receiver<StoreErrand>,
) {
    while let Some((membership, positions)) = errands.recv().await {
        let offsets: Vec<_> = positions
            .iter()
            .map(|(_, pairing, position)| (pairing.target(), ends.stored(pairing, position)))
            .collect();
        let committer = Committer::Member(&membership);
        let stored = match target
            .commit_offsets(&membership.group, committer, &offsets)
            .await
        {
            Ok(outcomes) => positions
                .into_iter()
                .filter(|(_, pairing, _)| matches!(outcomes.get(&pairing.target()), Some(Ok(()))))
                .map(|(lane, _, position)| (lane, position))
                .collect(),
            Err(error) => {
                tracing::warn!(flow = %ends.flow, %error, "positions not stored; later");
                Vec::new()
            }
        };
        if line.tell(News::Stored(stored)).await.is_err() {
            return;
        }
    }
}

/// Copies the positions of all lanes of a flow in this process to the source's group of the same name.
pub async fn copy_to_source(ends: FlowEnds, source: Cluster, group: Arc<str>, board: Arc<FlowBoard>) {
    // Of lanes that stand still nobody knows a position: what is there is kept, for it tells that they were copied once.
    let there = copies(&source, &group, None).await.unwrap_or_else(|error| {
        tracing::warn!(flow = %ends.flow, %error, "copies of positions cannot be read");
        BTreeMap::new()
    });
    let now = Instant::now();
    let mut copied: BTreeMap<_, _> = there.into_iter().map(|(at, copy)| (at, (copy, now))).collect();
    loop {
        tokio::time::sleep(COPY).await;
        let mut offsets: Vec<(TopicPartition, GroupOffset)> = Vec::new();
        for lane in board.views().iter().flat_map(|view| view.lanes.iter()) {
            let at = &lane.pairing.source;
            let new = lane
                .committed
                .as_ref()
                .map(|position| ends.stored(&lane.pairing, position));
            let old = copied.get(at);
            let due = old.is_none_or(|(_, at)| at.elapsed() > RENEW);
            let moved = new
                .as_ref()
                .is_some_and(|new| old.is_none_or(|(old, _)| old != new));
            if moved || due {
                let offset = new.or_else(|| Some(old?.0.clone()));
                offsets.extend(offset.map(|offset| (at.clone(), offset)));
            }
        }
        if offsets.is_empty() {
            continue;
        }
        // Nothing resumes from this copy, so it needs no fence.
        match source.commit_offsets(&group, Committer::Observer, &offsets).await {
            Ok(outcomes) => {
                for (partition, offset) in offsets {
                    if matches!(outcomes.get(&partition), Some(Ok(()))) {
                        copied.insert(partition, (offset, Instant::now()));
                    }
                }
            }
            Err(error) => board.error(format!("positions not copied to the source: {error}")),
        }
    }
}

/// The copies of a flow's positions on the source: of these partitions, or all. None where they may not be read: then they may not be
/// written either.
///
/// # Errors
/// When the source does not answer.
pub async fn copies(
    source: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<BTreeMap<TopicPartition, GroupOffset>, Error> {
    let there = match source.fetch_offsets(group, partitions).await {
        Err(error) if error.class() == Class::Fatal => return Ok(BTreeMap::new()),
        there => there?,
    };
    let copy = |(at, stored)| match stored {
        Ok(Stored::Offset(offset)) => Some((at, offset)),
        _ => None,
    };
    Ok(there.into_iter().filter_map(copy).collect())
}
