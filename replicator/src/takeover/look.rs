//! What is there: the partitions that MirrorMaker 2 copied, and how far it came with each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use kuroshio_core::start::{LogId, NO_TOPIC_ID};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{ByPartition, Error, Isolation, ListedOffset, OffsetAt, TopicId, Topics};

use super::seam::{self, Seam};
use super::{Mirrored, Takeover, TakeoverError, noted};
use crate::failover::progress;
use crate::import::Mm2Flow;

/// Partitions looked at at the same time.
const AT_ONCE: usize = 8;

impl Takeover<'_> {
    /// The partitions that are on both sides, and how far MirrorMaker 2 noted that it came.
    pub(super) async fn find_partitions(&mut self, mm2: &Mm2Flow) -> Result<(), TakeoverError> {
        let (here, there, noted) = tokio::try_join!(
            self.source.metadata(Topics::All),
            self.target.metadata(Topics::All),
            noted::offsets(&self.target, &mm2.offsets_topic, &mm2.source),
        )?;
        let mut noted = noted.ok_or_else(|| TakeoverError::NoNotes {
            topic: mm2.offsets_topic.clone(),
            cluster: mm2.target.clone(),
        })?;
        let log = |cluster: &Option<Arc<str>>, topic: Option<TopicId>| LogId {
            cluster: cluster.as_deref().unwrap_or("-").to_owned(),
            topic: topic.map_or_else(|| NO_TOPIC_ID.to_owned(), |id| id.to_string()),
        };
        let copies: BTreeMap<_, _> = there
            .topics
            .iter()
            .map(|topic| (Arc::clone(&topic.name), topic))
            .collect();
        for topic in here.topics.iter().filter(|topic| topic.error.is_none()) {
            let routed = self.flow.router.route(&topic.name);
            let Some(copy) = routed.ok().and_then(|name| copies.get(&name)) else {
                continue;
            };
            let count = topic.partition_count().min(copy.partition_count());
            self.partitions.extend((0..count).map(|number| {
                let source = TopicPartition::new(Arc::clone(&topic.name), number);
                Mirrored {
                    target: TopicPartition::new(Arc::clone(&copy.name), number),
                    logs: (log(&here.cluster_id, topic.id), log(&there.cluster_id, copy.id)),
                    bounds: (0, 0),
                    noted: noted.remove(&source),
                    seam: Seam::Unknown,
                    source,
                }
            }));
        }
        let left: BTreeSet<Arc<str>> = noted.into_keys().map(|partition| partition.topic).collect();
        for topic in left {
            let why = match self.flow.router.route(&topic) {
                Err(why) => why.to_string(),
                Ok(name) if copies.contains_key(&name) => {
                    "the source has it no more, or not so many partitions".to_owned()
                }
                Ok(name) => format!("cluster {} has no topic {name}", self.target.alias()),
            };
            let name = &self.flow.name;
            self.said.push(format!(
                "flow {name}: MirrorMaker 2 copied {topic}, which does not go on: {why}"
            ));
        }
        Ok(())
    }

    /// Looks where in the source the records lie that the target ends with.
    pub(super) async fn find_seams(&mut self) -> Result<(), TakeoverError> {
        let list = |at| {
            let wanted = self.partitions.iter().map(move |one| (one.source.clone(), at));
            self.source
                .list_offsets(wanted.collect::<Vec<_>>(), Isolation::ReadUncommitted)
        };
        let (mut starts, mut ends) = tokio::join!(list(OffsetAt::Earliest), list(OffsetAt::Latest));
        for one in &mut self.partitions {
            let of = |offsets: &mut ByPartition<_>| {
                let listed: Option<ListedOffset> = offsets.remove(&one.source).transpose()?.flatten();
                Ok::<_, Error>(listed.map_or(0, |listed| listed.offset))
            };
            one.bounds = (of(&mut starts)?, of(&mut ends)?);
            if let Some(noted) = one.noted.take_if(|noted| *noted >= one.bounds.1) {
                self.said.push(format!(
                    "flow {}: {}: MirrorMaker 2 noted {noted}, and the log ends at {}: it was made anew or cut since, the note does not \
                     count",
                    self.flow.name, one.source, one.bounds.1
                ));
            }
        }
        let bar = progress(
            "looking where MirrorMaker 2 stopped",
            self.partitions.len() as u64,
        );
        let (source, target) = (&self.source, &self.target);
        let looks = std::mem::take(&mut self.partitions).into_iter().map(|mut one| {
            let bar = &bar;
            async move {
                let ends = ((source, &one.source), (target, &one.target));
                one.seam = seam::find(ends.0, ends.1, one.bounds, one.noted).await?;
                bar.inc(1);
                Ok::<_, Error>(one)
            }
        });
        let partitions: Result<Vec<Mirrored>, Error> =
            stream::iter(looks).buffered(AT_ONCE).try_collect().await;
        bar.finish_and_clear();
        self.partitions = partitions?;
        Ok(())
    }
}
