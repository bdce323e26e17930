//! Topics that left the source: their lanes go, and their copies stay or go too (INTERFACE `on_topic_delete`).

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_core::departures::{Answer, Departure, Facts, Verdict, decide, is_gone};
use kuroshio_core::routes::{RoutePlan, is_reserved};
use kuroshio_core::start::{LogId, Metadata};
use kuroshio_core::types::{Time, TopicPartition};
use kuroshio_wire::{Error, KafkaCode, Stored, TopicId};

use super::{Discovery, SourceTopics};
use crate::config::OnTopicDelete;
use crate::heartbeats;

/// The topics that were listed last, and those that are listed no more.
#[derive(Debug, Default)]
pub struct Departures {
    listed: BTreeMap<Arc<str>, Topic>,
    gone: BTreeMap<Arc<str>, (Topic, Departure)>,
}

/// A topic that was copied.
#[derive(Clone, Debug)]
struct Topic {
    id: Option<TopicId>,
    target: Arc<str>,
    partitions: i32,
}

impl Discovery {
    /// Notes which topics left the source, and deletes the copies of those that certainly did, where that is wanted.
    pub(super) async fn depart(&mut self, plan: &RoutePlan, topics: &SourceTopics) -> Result<(), Error> {
        self.departures
            .gone
            .retain(|source, _| !topics.contains_key(source));
        let listed = plan.routes.iter().filter_map(|(source, target)| {
            let topic = topics.get(source)?;
            let listed = Topic {
                id: topic.id,
                target: Arc::clone(target),
                partitions: topic.partition_count(),
            };
            Some((Arc::clone(source), listed))
        });
        let before = std::mem::replace(&mut self.departures.listed, listed.collect());
        for (source, topic) in before
            .into_iter()
            .filter(|(source, _)| !topics.contains_key(source))
        {
            tracing::warn!(
                flow = %self.flow.name, topic = %source, on_topic_delete = self.flow.on_topic_delete.as_str(),
                "the source no longer lists a topic; its copies stay where they are until it is certain that it was deleted"
            );
            self.departures.gone.insert(source, (topic, Departure::default()));
        }
        if self.departures.gone.is_empty() {
            return Ok(());
        }
        if self.flow.on_topic_delete == OnTopicDelete::Keep {
            self.departures.gone.clear();
            return Ok(());
        }
        // One process is enough. What others saw they keep, in case that it becomes theirs.
        if self.board.owns(heartbeats::slot()) != Some(true) {
            for (_, departure) in self.departures.gone.values_mut() {
                *departure = Departure::default();
            }
            return Ok(());
        }
        let seen = self.ask_about_departed().await;
        let now = Time::at(self.started.elapsed());
        for (source, (topic, mut departure)) in self.departures.gone.clone() {
            let gone = match &seen {
                Ok(brokers) => is_gone(brokers.0, brokers.1.get(&source).map_or(&[], Vec::as_slice)),
                Err(_) => false,
            };
            departure.look(gone, now);
            self.departures
                .gone
                .insert(Arc::clone(&source), (topic.clone(), departure));
            self.settle(&source, &topic, departure).await?;
        }
        seen.map(|_| ())
    }

    /// How many brokers the source has, and what each says of the topics that it does not list.
    async fn ask_about_departed(&self) -> Result<(usize, BTreeMap<Arc<str>, Vec<Answer>>), Error> {
        let names: Arc<[Arc<str>]> = self.departures.gone.keys().cloned().collect();
        let answers = self.source.metadata_of_each(&names).await?;
        let brokers = answers
            .iter()
            .map(|(all, _)| all.brokers.len())
            .max()
            .unwrap_or(0);
        let said = |name: &Arc<str>| {
            let answer = answers.iter().map(|(all, named)| {
                let told = named.topics.iter().find(|topic| topic.name == *name);
                let code = told.and_then(|topic| topic.error.as_ref()).and_then(Error::code);
                let ours = |id: &Option<Arc<str>>| id.as_ref() == Some(&self.ends.source_id);
                Answer {
                    same_cluster: ours(&all.cluster_id) && ours(&named.cluster_id),
                    unknown: code == Some(KafkaCode::UnknownTopicOrPartition)
                        && all.topics.iter().all(|topic| topic.name != *name),
                    knows_others: all.topics.iter().any(|topic| topic.error.is_none()),
                }
            });
            answer.collect()
        };
        Ok((
            brokers,
            names.iter().map(|name| (Arc::clone(name), said(name))).collect(),
        ))
    }

    async fn settle(&mut self, source: &Arc<str>, topic: &Topic, seen: Departure) -> Result<(), Error> {
        let target = &topic.target;
        let verdict = decide(&Facts {
            wanted: self.flow.on_topic_delete == OnTopicDelete::Delete,
            reserved: is_reserved(source) || is_reserved(target),
            selected: self.flow.router.route(source).is_ok_and(|name| name == *target),
            rules: self.flow.rules(self.flow.all(), source, target),
            copied: self.copied(topic).await?,
            seen,
        });
        match verdict {
            Verdict::Wait => return Ok(()),
            Verdict::Keep(why) => {
                tracing::info!(flow = %self.flow.name, topic = %target, reason = why, "topic deleted on the source stays on the target");
            }
            Verdict::Delete => self.delete(source, target).await?,
        }
        self.departures.gone.remove(source);
        Ok(())
    }

    /// Whether the flow's positions are of this very topic.
    async fn copied(&self, topic: &Topic) -> Result<bool, Error> {
        let of = |partition| TopicPartition::new(Arc::clone(&topic.target), partition);
        let partitions: Vec<_> = (0..topic.partitions).map(of).collect();
        let log = LogId {
            cluster: self.ends.source_id.to_string(),
            topic: topic.id.map(|id| id.to_string()).unwrap_or_default(),
        };
        let stored = self.target.fetch_offsets(&self.group, Some(&partitions)).await?;
        Ok(stored.values().any(|stored| match stored {
            Ok(Stored::Offset(offset)) => Metadata::parse(&offset.metadata).is_some_and(|was| was.log == log),
            _ => false,
        }))
    }

    /// Deletes the very topic that was copied into, not another one of its name.
    async fn delete(&mut self, source: &Arc<str>, target: &Arc<str>) -> Result<(), Error> {
        let Some(id) = self
            .targets
            .get(target)
            .filter(|known| !known.gone)
            .and_then(|known| known.id)
        else {
            return Ok(());
        };
        match self.target.delete_topic_of(target, id).await {
            Ok(()) => {
                tracing::warn!(
                    flow = %self.flow.name, topic = %target, source_topic = %source, %id,
                    "topic deleted on the target: it was deleted on the source"
                );
            }
            Err(error) if error.code() == Some(KafkaCode::UnknownTopicId) => {}
            Err(error) => {
                let cluster = &self.flow.target;
                self.board.error(format!(
                    "topic {target} on cluster {cluster} is not deleted: {error}"
                ));
                return Err(error);
            }
        }
        self.targets.forget(target);
        Ok(())
    }
}
