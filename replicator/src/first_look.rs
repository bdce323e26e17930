//! What this process saw when it first looked at a flow's source: for those partitions alone `start` counts, and `latest` means their ends
//! of then. It may be long until they are copied: a target topic takes its time to be made, or is refused at first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::flow::Pairing;
use kuroshio_core::types::{SourceOffset, TopicPartition};
use kuroshio_wire::{Cluster, Isolation, OffsetAt, TopicMetadata};

use crate::config::Start;

/// The partitions that were there.
#[derive(Debug, Default)]
pub struct FirstLook(BTreeMap<TopicPartition, Seen>);

/// A partition that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    topic_id: [u8; 16],
    /// Where its log ended, if that counts; without a leader it had no end then, nor could it get any further.
    pub end: Option<SourceOffset>,
}

impl FirstLook {
    /// Looks at these topics.
    pub async fn take(
        source: &Cluster,
        start: Start,
        topics: impl Iterator<Item = &TopicMetadata> + Clone,
    ) -> Self {
        let all = || {
            topics.clone().flat_map(|topic| {
                let id = topic.id.map_or([0; 16], |id| id.0);
                let name = |partition| TopicPartition::new(topic.name.clone(), partition);
                topic.partitions.iter().map(move |p| (name(p.partition), id))
            })
        };
        let mut ends = match start {
            Start::Latest => {
                let ends = all().map(|(partition, _)| (partition, OffsetAt::Latest));
                source
                    .list_offsets(ends.collect::<Vec<_>>(), Isolation::ReadUncommitted)
                    .await
            }
            Start::Earliest | Start::Timestamp(_) => Default::default(),
        };
        let seen = all().map(|(partition, topic_id)| {
            let end = ends.remove(&partition).and_then(Result::ok).flatten();
            let end = end.map(|listed| SourceOffset(listed.offset));
            (partition, Seen { topic_id, end })
        });
        Self(seen.collect())
    }

    /// What was seen but for these topics; `None`: none of them was.
    #[must_use]
    pub fn without(&self, topics: &BTreeSet<&Arc<str>>) -> Option<Self> {
        let mut left = self.0.clone();
        left.retain(|partition, _| !topics.contains(&partition.topic));
        (left.len() < self.0.len()).then_some(Self(left))
    }

    /// A partition that is still of the same topic; a topic made anew is a later one.
    #[must_use]
    pub fn find(&self, pairing: &Pairing) -> Option<Seen> {
        let seen = self.0.get(&pairing.source).copied();
        seen.filter(|seen| seen.topic_id == pairing.topic_id)
    }
}
