//! Looks whether the target's logs are still as long as what was written into them. A pump sees a cut with the next record that it places; this
//! is for partitions to which none comes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::types::{Lane, TargetOffset, TopicPartition};
use kuroshio_wire::{Cluster, Error, Isolation, ListedOffset, Metadata, OffsetAt};
use tokio::sync::watch;

use crate::lanes::{LaneView, PumpView};
use crate::line::PumpLine;
use crate::pump::News;

/// Between two looks: a request to each broker for all lanes.
const LOOK: Duration = Duration::from_secs(10);

/// Looks after the lanes of one flow in this process.
pub struct Cuts {
    /// The target.
    pub target: Cluster,
    /// Its pumps.
    pub pumps: Vec<(PumpLine, watch::Receiver<PumpView>)>,
}

impl Cuts {
    /// Looks for ever, or until a pump has ended.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            for (line, view) in &self.pumps {
                let view = view.borrow().clone();
                for (lane, end) in self.short(&view.lanes).await {
                    if line.tell(News::TargetCut(lane, end)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The lanes whose logs end before their committed copies do, and where.
    async fn short(&self, lanes: &[LaneView]) -> Vec<(Lane, TargetOffset)> {
        let copied = |lane: &LaneView| {
            let end = lane.committed.as_ref()?.copies.end?;
            Some((lane.lane, lane.pairing.target(), end))
        };
        // Ends are asked for after the positions were committed.
        let copied: Vec<(Lane, TopicPartition, TargetOffset)> = lanes.iter().filter_map(copied).collect();
        if copied.is_empty() {
            return Vec::new();
        }
        let wanted: Vec<_> = copied
            .iter()
            .map(|(_, partition, _)| (partition.clone(), OffsetAt::Latest))
            .collect();
        let ends = self.target.list_offsets(wanted, Isolation::ReadUncommitted).await;
        // What did not answer is asked again.
        let end_of = |partition: &TopicPartition| ends.get(partition)?.as_ref().ok()?.as_ref().copied();
        let suspects: Vec<_> = copied
            .into_iter()
            .filter_map(|(lane, partition, copied)| {
                let end = end_of(&partition).filter(|end| end.offset < copied.0)?;
                Some((lane, partition, end))
            })
            .collect();
        let told: Vec<_> = suspects
            .iter()
            .map(|(_, partition, end)| (partition, *end))
            .collect();
        let believed = of_their_leaders(&self.target, &told)
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "logs seem to be cut, but not all brokers say who leads them");
                vec![false; suspects.len()]
            });
        let short = suspects
            .into_iter()
            .zip(believed)
            .filter(|(_, believed)| *believed);
        short
            .map(|((lane, _, end), _)| (lane, TargetOffset(end.offset)))
            .collect()
    }
}

/// Whether each of these ends of logs was told by the log's leader: a broker that was cut off from the others goes on for a while as if it led, and has
/// less. A leader's epoch is the newest that any broker knows. One that does not know its high watermark yet says so itself (KIP-207).
///
/// # Errors
/// When not all brokers of the cluster answer.
pub async fn of_their_leaders(
    cluster: &Cluster,
    ends: &[(&TopicPartition, ListedOffset)],
) -> Result<Vec<bool>, Error> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let topics: BTreeSet<&Arc<str>> = ends.iter().map(|(partition, _)| &partition.topic).collect();
    let answers = cluster
        .metadata_of_each(&topics.into_iter().cloned().collect())
        .await?;
    let epoch = |named: &Metadata, of: &TopicPartition| {
        let topic = named.topics.iter().find(|topic| topic.name == of.topic)?;
        let mut partitions = topic.partitions.iter();
        partitions
            .find(|known| known.partition == of.partition)?
            .leader_epoch
    };
    let believed = ends.iter().map(|(partition, end)| {
        let told: Vec<_> = answers.iter().map(|(_, named)| epoch(named, partition)).collect();
        is_newest(end.leader_epoch, &told)
    });
    Ok(believed.collect())
}

/// Whether no broker knows a newer epoch, and each knows one.
fn is_newest(epoch: Option<i32>, told: &[Option<i32>]) -> bool {
    epoch.is_some_and(|epoch| told.iter().all(|known| known.is_some_and(|known| known <= epoch)))
}

#[cfg(test)]
mod tests {
    use super::is_newest;

    #[test]
    fn only_the_newest_leader_is_believed() {
        for (epoch, told, newest) in [
            (Some(7), &[Some(7), Some(7), Some(7)][..], true),
            // They have not heard of it yet.
            (Some(7), &[Some(6), Some(7), Some(6)], true),
            (Some(7), &[Some(7), Some(8), Some(7)], false),
            (Some(7), &[Some(7), None], false),
            (None, &[Some(7)], false),
        ] {
            assert_eq!(is_newest(epoch, told), newest, "{epoch:?} {told:?}");
        }
    }
}
