//! Discovery: which topics the source has, which of them the routes select, and that the target has them too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::configs::at_creation;
use kuroshio_core::flow::Pairing;
use kuroshio_core::routes::{RoutePlan, Unselected};
use kuroshio_core::slots::{SLOT_COUNT, slot_of};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Class, Cluster, Error, KafkaCode, NewTopic, TopicMetadata, Topics};
use tokio::sync::{Notify, watch};
use tracing::Instrument;

use crate::board::FlowBoard;
use crate::config::{self, Partitions};
use crate::configs::configs;
use crate::first_look::FirstLook;
use crate::forms::Forms;
use crate::metrics::Gauge;
use crate::spans;

/// Shortest time between two looks.
const HURRY: Duration = Duration::from_millis(500);
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
    /// How batches are written.
    pub forms: Forms,
    /// Errors for people.
    pub board: Arc<FlowBoard>,
    /// The partitions to copy.
    pub catalog: watch::Sender<Arc<[Pairing]>>,
    /// What was found first.
    pub first_look: watch::Sender<Option<Arc<FirstLook>>>,
    /// Partitions per slot.
    pub weights: watch::Sender<Arc<[u32]>>,
    /// Told when something is wrong with a topic: look at once.
    pub look: Arc<Notify>,
    /// Target topics that were there once: one that vanished is not made again.
    pub known: BTreeSet<Arc<str>>,
    /// Topics that residency keeps from the target.
    pub kept: Gauge,
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
            // Whoever is in a hurry waits a little, too: a broker that answers one thing and then another would be asked without end.
            tokio::time::sleep(HURRY.min(self.flow.refresh)).await;
            tokio::select! {
                () = tokio::time::sleep(self.flow.refresh.saturating_sub(HURRY)) => {}
                () = self.look.notified() => {}
            }
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
        self.kept.set(kept(&plan).count() as f64);
        for conflict in &plan.conflicts {
            self.board.error(conflict.to_string());
        }
        if self.first_look.borrow().is_none() {
            let found = plan.routes.keys().filter_map(|source| topics.get(source));
            let look = FirstLook::take(&self.source, self.flow.start, found).await;
            self.first_look.send_replace(Some(Arc::new(look)));
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
                Some(count) if *count >= wanted => {}
                Some(_) if self.flow.partitions == Partitions::Sync => short.push((Arc::clone(target), wanted)),
                Some(count) => self.board.error(format!(
                    "topic {source} has {wanted} partitions on cluster {} and {count}, as {target}, on cluster {}: those from {count} on \
                     are not copied (partitions: none); grow the topic, or set partitions: sync",
                    self.flow.source, self.flow.target
                )),
            }
        }
        let mut done = false;
        if !short.is_empty() {
            for (topic, outcome) in self.target.create_partitions(&short).await? {
                done |= self.outcome("grow", &topic, outcome, KafkaCode::InvalidPartitions);
            }
        }
        if !missing.is_empty() {
            let mut new = self.new_topics(missing).await?;
            let mut outcomes = self.target.create_topics(&new).await?;
            new.retain(|topic| matches!(outcomes.get(&topic.name), Some(Err(error)) if error.class() == Class::Fatal));
            let again = self.without_refused(new).await;
            if !again.is_empty() {
                outcomes.extend(self.target.create_topics(&again).await?);
            }
            for (topic, outcome) in outcomes {
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
        let mut described = self.source.topic_configs(&sources, None).await?;
        let mut new = Vec::with_capacity(missing.len());
        for (source, name, partitions) in missing {
            let configs = match described.remove(&source) {
                Some(Ok(entries)) => {
                    let rules = &self.flow.configs;
                    at_creation(&configs(&entries), rules.sync, |name| rules.follows(name))
                }
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

    /// Of topics that were refused, those that are not without the configs which alone are refused too (the sync of configs tells
    /// of them).
    async fn without_refused(&self, topics: Vec<NewTopic>) -> Vec<NewTopic> {
        let mut left = Vec::new();
        for mut topic in topics {
            let configs = std::mem::take(&mut topic.configs);
            if self.target.validate_topic(&topic).await.is_err() {
                continue;
            }
            for config in configs {
                topic.configs.push(config);
                if self.target.validate_topic(&topic).await.is_err() {
                    topic.configs.pop();
                }
            }
            left.push(topic);
        }
        left
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
        let wanted: Vec<(&TopicMetadata, &Arc<str>)> = plan
            .routes
            .iter()
            .filter(|(_, target)| there.contains_key(*target))
            .filter_map(|(source, target)| Some((topics.get(source)?, target)))
            .collect();
        let ends = (&self.source, &self.target);
        let forms = self.forms.of(ends, &wanted, &self.board).await;
        let mut pairings = Vec::new();
        for (source, target) in &plan.routes {
            let (Some(topic), Some(count), Some(form)) =
                (topics.get(source), there.get(target), forms.get(source))
            else {
                continue;
            };
            pairings.extend(
                topic
                    .partitions
                    .iter()
                    .filter(|p| p.partition < *count)
                    .map(|p| Pairing {
                        source: TopicPartition::new(Arc::clone(source), p.partition),
                        topic_id: topic.id.map_or([0; 16], |id| id.0),
                        target_topic: Arc::clone(target),
                        form: *form,
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
        self.catalog.send_if_modified(|catalog| {
            let changed = catalog[..] != pairings[..];
            if changed {
                *catalog = pairings.into();
            }
            changed
        });
    }
}

/// The topics that residency keeps from the target.
pub(crate) fn kept(plan: &RoutePlan) -> impl Iterator<Item = &Arc<str>> {
    let kept = |(topic, why)| matches!(why, &Unselected::Residency { .. }).then_some(topic);
    plan.unselected.iter().filter_map(kept)
}
