//! What is known of target topics: one that was there and is gone is not made again unasked, and one that was made anew is told of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kuroshio_core::control::Scope;
use kuroshio_core::routes::RoutePlan;
use kuroshio_core::start::Metadata;
use kuroshio_wire::{Error, GroupOffset, KafkaCode, TopicId, TopicMetadata, Topics};

use super::{Discovery, SourceTopics};
use crate::storer;

/// Partitions and ids of the target topics that exist.
pub(super) type Found = HashMap<Arc<str>, (i32, Option<TopicId>)>;

/// A target topic that is there, or was.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The source topic that is copied into it, and its id.
    pub(super) source: (Arc<str>, Option<TopicId>),
    /// Its own id, if it is known.
    pub(super) id: Option<TopicId>,
    /// Its partitions.
    pub(super) count: i32,
    /// It was there, and the target says that it is not.
    pub(super) gone: bool,
}

/// What is known of target topics.
#[derive(Debug, Default)]
pub struct Targets {
    known: BTreeMap<Arc<str>, Known>,
    /// What the copies of the positions on the source say was read.
    recalled: bool,
}

impl Targets {
    pub(super) fn get(&self, target: &str) -> Option<&Known> {
        self.known.get(target)
    }

    pub(super) fn is_gone(&self, target: &str) -> bool {
        self.get(target).is_some_and(|known| known.gone)
    }

    pub(super) fn forget(&mut self, target: &str) {
        self.known.remove(target);
    }

    /// Those that are gone may be made again.
    pub(super) fn forgive(&mut self, scope: &Scope) {
        let wanted = |known: &Known| scope.topic.as_ref().is_none_or(|topic| *topic == known.source.0);
        self.known.retain(|_, known| !known.gone || !wanted(known));
    }
}

/// Whether a position is of this very topic of the source.
pub(crate) fn is_of(position: &GroupOffset, topic: &TopicMetadata, source_id: &str) -> bool {
    Metadata::parse(&position.metadata).is_some_and(|was| {
        let same = topic.id.is_none_or(|id| id.to_string() == was.log.topic);
        same && was.log.cluster == source_id
    })
}

impl Discovery {
    /// Once: topics of which the source holds copies of our positions were copied, and so their targets were there.
    pub(super) async fn recall(&mut self, plan: &RoutePlan, topics: &SourceTopics) -> Result<(), Error> {
        if self.targets.recalled || !self.flow.positions_on_source {
            return Ok(());
        }
        for (partition, copy) in storer::copies(&self.source, &self.group, None).await? {
            let source = partition.topic;
            let (Some(topic), Some(target)) = (topics.get(&source), plan.routes.get(&source)) else {
                continue;
            };
            if is_of(&copy, topic, &self.ends.source_id) {
                let known = Known {
                    source: (source, topic.id),
                    id: None,
                    count: topic.partition_count(),
                    gone: false,
                };
                self.targets.known.insert(Arc::clone(target), known);
            }
        }
        self.targets.recalled = true;
        Ok(())
    }

    /// What the target has of these topics. What is known of those that it does not know is theirs no more; of those that it
    /// does not speak of it stays.
    pub(super) async fn target_topics(&mut self, names: &[Arc<str>]) -> Result<Found, Error> {
        let mut there = Found::new();
        if names.is_empty() {
            return Ok(there);
        }
        for topic in self.target.metadata(Topics::Named(names)).await?.topics {
            let gone = match &topic.error {
                None => {
                    there.insert(Arc::clone(&topic.name), (topic.partition_count(), topic.id));
                    false
                }
                Some(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => true,
                Some(error) => {
                    let target = &self.flow.target;
                    self.board
                        .error(format!("topic {} on cluster {target}: {error}", topic.name));
                    continue;
                }
            };
            if let Some(known) = self.targets.known.get_mut(&topic.name) {
                let turned = std::mem::replace(&mut known.gone, gone) != gone;
                if turned && !gone {
                    tracing::info!(flow = %self.flow.name, topic = %topic.name, "target topic is there again");
                } else if turned {
                    self.board.error(format!(
                        "topic {} was deleted on cluster {}: it is not made again unasked; `kuroshio resume {} --topic {}` has it \
                         made and filled again with what the source still has",
                        topic.name, self.flow.target, self.flow.name, known.source.0
                    ));
                }
            }
        }
        Ok(there)
    }

    /// A topic of that name on the source that is another one now has nothing to do with the target topic that is gone.
    pub(super) fn notice_gone(&mut self, plan: &RoutePlan, topics: &SourceTopics) {
        for (source, target) in &plan.routes {
            let id = topics.get(source).and_then(|topic| topic.id);
            if self
                .targets
                .get(target)
                .is_some_and(|known| known.gone && known.source.1 != id)
            {
                self.targets.forget(target);
            }
        }
        let gone = |target: &Arc<str>| self.targets.is_gone(target);
        let sources = plan.routes.iter().filter(|(_, target)| gone(target));
        self.not_first(sources.map(|(source, _)| source));
    }

    /// Takes in what is there now.
    pub(super) fn notice_others(&mut self, plan: &RoutePlan, topics: &SourceTopics, there: &Found) {
        let mut others = Vec::new();
        for (source, target) in &plan.routes {
            let (Some(topic), Some((count, id))) = (topics.get(source), there.get(target)) else {
                continue;
            };
            let known = Known {
                source: (Arc::clone(source), topic.id),
                id: *id,
                count: *count,
                gone: false,
            };
            let before = self.targets.known.insert(Arc::clone(target), known);
            let before = before.and_then(|before| before.id);
            if let (Some(before), Some(now)) = (before, *id)
                && before != now
            {
                self.board.error(format!(
                    "topic {target} on cluster {} was deleted and made anew (id {now}, before {before}): the copies in it are gone; \
                     what the source still has is copied again, unless on_data_loss is halt",
                    self.flow.target
                ));
                others.push(source);
            }
        }
        self.not_first(others.into_iter());
    }

    /// The setting `start` no longer counts for these topics: what was there at the first start was copied once.
    fn not_first<'a>(&self, topics: impl Iterator<Item = &'a Arc<str>>) {
        let topics: BTreeSet<&Arc<str>> = topics.collect();
        self.first_look.send_if_modified(|look| {
            let left = look.as_ref().and_then(|look| look.without(&topics));
            let changed = left.is_some();
            if let Some(left) = left {
                *look = Some(Arc::new(left));
            }
            changed
        });
    }
}
