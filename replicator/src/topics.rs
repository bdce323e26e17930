//! Discovery: which topics the source has, which of them the routes select, and that the target has them too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::engine::Codec;
use kuroshio_core::flow::Pairing;
use kuroshio_core::routes::RoutePlan;
use kuroshio_core::slots::{SLOT_COUNT, slot_of};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, ConfigEntry, ConfigSource, Error, KafkaCode, NewTopic, TopicMetadata, Topics};
use tokio::sync::watch;
use tracing::Instrument;

use crate::board::FlowBoard;
use crate::codecs::Codecs;
use crate::config::{self, Partitions, TopicConfigs};
use crate::spans;

/// What a target topic needs to hold the source's data; the rest of the configuration has its own sync.
const CREATE_WITH: [&str; 7] = [
    "cleanup.policy",
    "compression.type",
    "retention.ms",
    "retention.bytes",
    "delete.retention.ms",
    "min.compaction.lag.ms",
    "max.message.bytes",
];
/// A record grows by its tag.
const TAG_ROOM: i64 = 1024;
/// Looks at a topic just created until all brokers know it.
const SETTLE: (u32, Duration) = (20, Duration::from_millis(100));

/// The discovery of one flow.
pub struct Discovery {
    /// The flow, as configured.
    pub flow: config::Flow,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// How batches are compressed.
    pub codecs: Codecs,
    /// Errors for people.
    pub board: Arc<FlowBoard>,
    /// The partitions to copy.
    pub catalog: watch::Sender<Arc<[Pairing]>>,
    /// Those found first.
    pub first: watch::Sender<Option<Arc<BTreeSet<TopicPartition>>>>,
    /// Partitions per slot.
    pub weights: watch::Sender<Arc<[u32]>>,
    /// Target topics that were there once: one that vanished is not made again.
    pub known: BTreeSet<Arc<str>>,
}

impl Discovery {
    /// Looks again and again.
    pub async fn run(mut self) {
        loop {
            let span = spans::discover(&self.flow.name);
            let looked = self.round().instrument(span.clone()).await;
            span.record("partitions", self.catalog.borrow().len());
            if let Err(error) = looked {
                spans::failed(&span, &error);
                self.board.error(format!("topics: {error}"));
            }
            tokio::time::sleep(self.flow.refresh).await;
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let found = self.source.metadata(Topics::All).await?;
        let topics: BTreeMap<Arc<str>, TopicMetadata> = found
            .topics
            .into_iter()
            .filter(|topic| !topic.internal && topic.error.is_none())
            .map(|topic| (Arc::clone(&topic.name), topic))
            .collect();
        let plan = self.flow.router.plan(topics.keys());
        for conflict in &plan.conflicts {
            self.board.error(conflict.to_string());
        }
        let names: Vec<Arc<str>> = plan.routes.values().cloned().collect();
        let mut there = self.target_topics(&names).await?;
        if self.provide(&plan, &topics, &there).await? {
            there = self.settled(&names, &plan, &topics).await?;
        }
        self.known.extend(there.keys().cloned());
        self.publish(&plan, &topics, &there).await;
        Ok(())
    }

    /// Partitions of the target topics that exist.
    async fn target_topics(&self, names: &[Arc<str>]) -> Result<HashMap<Arc<str>, i32>, Error> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let found = self.target.metadata(Topics::Named(names)).await?;
        let mut there = HashMap::new();
        for topic in found.topics {
            match &topic.error {
                None => {
                    let count = topic.partition_count();
                    there.insert(topic.name, count);
                }
                Some(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => {}
                Some(error) => {
                    self.board.error(format!(
                        "topic {} on cluster {}: {error}",
                        topic.name, self.flow.target
                    ));
                }
            }
        }
        Ok(there)
    }

    /// Creates and grows what is missing; whether anything was done.
    async fn provide(
        &self,
        plan: &RoutePlan,
        topics: &BTreeMap<Arc<str>, TopicMetadata>,
        there: &HashMap<Arc<str>, i32>,
    ) -> Result<bool, Error> {
        let (mut missing, mut short) = (Vec::new(), Vec::new());
        for (source, target) in &plan.routes {
            let Some(topic) = topics.get(source) else { continue };
            let wanted = topic.partition_count();
            match there.get(target) {
                None if self.known.contains(target) => self.board.error(format!(
                    "topic {target} vanished from cluster {}: it is not made again; restart Kuroshio to have it made and refilled",
                    self.flow.target
                )),
                None => missing.push((Arc::clone(source), Arc::clone(target), wanted)),
                Some(count) if *count < wanted && self.flow.partitions == Partitions::Sync => {
                    short.push((Arc::clone(target), wanted));
                }
                Some(_) => {}
            }
        }
        let mut done = false;
        if !short.is_empty() {
            for (topic, outcome) in self.target.create_partitions(&short).await? {
                done |= self.outcome("grow", &topic, outcome, KafkaCode::InvalidPartitions);
            }
        }
        if !missing.is_empty() {
            let new = self.new_topics(missing).await?;
            for (topic, outcome) in self.target.create_topics(&new).await? {
                done |= self.outcome(
                    "create",
                    &topic,
                    outcome.map(|_| ()),
                    KafkaCode::TopicAlreadyExists,
                );
            }
        }
        Ok(done)
    }

    /// Whether it is as wanted now; another pod may have been faster.
    fn outcome(&self, what: &str, topic: &str, outcome: Result<(), Error>, as_wanted: KafkaCode) -> bool {
        match outcome {
            Ok(()) => {
                tracing::info!(flow = %self.flow.name, topic, action = what, "target topic made or grown");
            }
            Err(error) if error.code() == Some(as_wanted) => {}
            Err(error) => {
                self.board.error(format!(
                    "cannot {what} topic {topic} on cluster {}: {error}",
                    self.flow.target
                ));
                return false;
            }
        }
        true
    }

    async fn new_topics(&self, missing: Vec<(Arc<str>, Arc<str>, i32)>) -> Result<Vec<NewTopic>, Error> {
        let sources: Vec<Arc<str>> = missing.iter().map(|(source, ..)| Arc::clone(source)).collect();
        let mut configs = self.source.topic_configs(&sources, None).await?;
        let mut new = Vec::with_capacity(missing.len());
        for (source, name, partitions) in missing {
            let configs = match configs.remove(&source) {
                Some(Ok(entries)) => new_configs(&self.flow.configs, &entries),
                Some(Err(error)) => {
                    self.board.error(format!(
                        "configuration of topic {source} on cluster {}: {error}",
                        self.flow.source
                    ));
                    continue;
                }
                None => continue,
            };
            new.push(NewTopic {
                name,
                partitions,
                replication_factor: self.flow.replication_factor,
                configs,
            });
        }
        Ok(new)
    }

    /// What the target has once its brokers know what was made.
    async fn settled(
        &self,
        names: &[Arc<str>],
        plan: &RoutePlan,
        topics: &BTreeMap<Arc<str>, TopicMetadata>,
    ) -> Result<HashMap<Arc<str>, i32>, Error> {
        let mut there = self.target_topics(names).await?;
        for _ in 0..SETTLE.0 {
            let complete = plan.routes.iter().all(|(source, target)| {
                let wanted = topics.get(source).map_or(0, |topic| topic.partitions.len());
                there
                    .get(target)
                    .is_some_and(|count| usize::try_from(*count).is_ok_and(|count| count >= wanted))
            });
            if complete {
                break;
            }
            tokio::time::sleep(SETTLE.1).await;
            there = self.target_topics(names).await?;
        }
        Ok(there)
    }

    async fn publish(
        &mut self,
        plan: &RoutePlan,
        topics: &BTreeMap<Arc<str>, TopicMetadata>,
        there: &HashMap<Arc<str>, i32>,
    ) {
        let wanted: Vec<&TopicMetadata> = plan
            .routes
            .keys()
            .filter_map(|source| topics.get(source))
            .collect();
        let codecs = self.codecs.of(&self.source, &wanted, &self.board).await;
        let mut pairings = Vec::new();
        for (source, target) in &plan.routes {
            let (Some(topic), Some(count)) = (topics.get(source), there.get(target)) else {
                continue;
            };
            let codec = codecs.get(source).copied().unwrap_or(Codec::Lz4);
            pairings.extend(
                topic
                    .partitions
                    .iter()
                    .filter(|p| p.partition < *count)
                    .map(|p| Pairing {
                        source: TopicPartition::new(Arc::clone(source), p.partition),
                        topic_id: topic.id.map_or([0; 16], |id| id.0),
                        target_topic: Arc::clone(target),
                        codec,
                    }),
            );
        }
        let mut weights = vec![0; usize::from(SLOT_COUNT)];
        for pairing in &pairings {
            let slot = slot_of(&pairing.source.topic, pairing.source.partition, SLOT_COUNT);
            if let Some(weight) = weights.get_mut(usize::from(slot.0)) {
                *weight += 1;
            }
        }
        self.weights.send_replace(weights.into());
        self.first.send_if_modified(|first| {
            let none = first.is_none();
            if none {
                *first = Some(Arc::new(
                    pairings.iter().map(|pairing| pairing.source.clone()).collect(),
                ));
            }
            none
        });
        self.catalog.send_if_modified(|catalog| {
            let changed = catalog[..] != pairings[..];
            if changed {
                *catalog = pairings.into();
            }
            changed
        });
    }
}

/// The configuration of a new topic: what it needs to hold the source's data, and the rest where wanted.
fn new_configs(wanted: &TopicConfigs, entries: &[ConfigEntry]) -> Vec<(String, String)> {
    let mut configs = Vec::new();
    for entry in entries {
        let Some(value) = &entry.value else { continue };
        if &*entry.key == "max.message.bytes" {
            let grown = value
                .parse::<i64>()
                .map(|bytes| bytes.saturating_add(TAG_ROOM).min(i64::from(i32::MAX)));
            configs.extend(grown.ok().map(|bytes| (entry.key.to_string(), bytes.to_string())));
            continue;
        }
        let needed = CREATE_WITH.contains(&&*entry.key);
        let excluded = wanted.exclude.iter().any(|pattern| pattern.matches(&entry.key));
        if (needed || (wanted.copy && !excluded)) && entry.source == ConfigSource::Topic {
            configs.push((entry.key.to_string(), value.to_string()));
        }
    }
    configs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_topic_takes_over_what_was_set_on_the_source() {
        let entry = |key: &str, value: &str, source| ConfigEntry {
            key: key.into(),
            value: Some(value.into()),
            source,
            read_only: false,
            sensitive: false,
        };
        let entries = [
            entry("cleanup.policy", "compact", ConfigSource::Topic),
            entry("retention.ms", "604800000", ConfigSource::Default),
            entry("max.message.bytes", "1048588", ConfigSource::Default),
            entry("segment.bytes", "1048576", ConfigSource::Topic),
            entry("min.insync.replicas", "2", ConfigSource::Topic),
        ];
        let exclude = vec!["min[.]insync[.]replicas".parse().unwrap()];
        let made = |copy| {
            new_configs(
                &TopicConfigs {
                    copy,
                    exclude: exclude.clone(),
                },
                &entries,
            )
        };
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        assert_eq!(
            made(false),
            pairs(&[("cleanup.policy", "compact"), ("max.message.bytes", "1049612")])
        );
        let with_the_rest = [
            ("cleanup.policy", "compact"),
            ("max.message.bytes", "1049612"),
            ("segment.bytes", "1048576"),
        ];
        assert_eq!(made(true), pairs(&with_the_rest));
    }
}
