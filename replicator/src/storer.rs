//! Commits positions outside transactions: the floors of a pump in at_least_once, and the copies of all
//! positions on the source, for the eyes of lag tools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Committer, GroupOffset};
use tokio::sync::mpsc;

use crate::board::FlowBoard;
use crate::lanes::FlowEnds;
use crate::line::PumpLine;
use crate::pump::{News, StoreErrand};

/// Between two copies of the positions.
const COPY: Duration = Duration::from_secs(5);
/// Positions that did not move are copied again this often: the source forgets offsets of an empty group
/// (`offsets.retention.minutes`).
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
    let mut copied: BTreeMap<TopicPartition, (i64, Instant)> = BTreeMap::new();
    loop {
        tokio::time::sleep(COPY).await;
        let mut offsets: Vec<(TopicPartition, GroupOffset)> = Vec::new();
        for lane in board.views().iter().flat_map(|view| view.lanes.iter()) {
            let Some(position) = &lane.committed else { continue };
            let old = copied.get(&lane.pairing.source);
            if old.is_none_or(|(offset, at)| *offset != position.offset.0 || at.elapsed() > RENEW) {
                offsets.push((lane.pairing.source.clone(), ends.stored(&lane.pairing, position)));
            }
        }
        if offsets.is_empty() {
            continue;
        }
        // Nothing resumes from this copy, so it needs no fence; only tools read it.
        match source.commit_offsets(&group, Committer::Observer, &offsets).await {
            Ok(outcomes) => {
                for (partition, offset) in offsets {
                    if matches!(outcomes.get(&partition), Some(Ok(()))) {
                        copied.insert(partition, (offset.offset, Instant::now()));
                    }
                }
            }
            Err(error) => board.error(format!("positions not copied to the source: {error}")),
        }
    }
}
