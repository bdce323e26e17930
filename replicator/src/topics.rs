//! Discovery: which topics the source has, which of them the routes select, and that the target has them too.

mod departures;
mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::configs::at_creation;
use kuroshio_core::control::Scope;
use kuroshio_core::engine::{BatchForm, Codec};
use kuroshio_core::flow::Pairing;
use kuroshio_core::routes::{RoutePlan, Unselected};
use kuroshio_core::slots::{SLOT_COUNT, slot_of};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Class, Cluster, Error, KafkaCode, NewTopic, TopicMetadata, Topics};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::Instrument;

pub use departures::Departures;
use targets::Found;
pub use targets::Targets;
pub(crate) use targets::is_of;

use crate::board::FlowBoard;
use crate::config::{self, Partitions};
use crate::configs::configs;
use crate::first_look::FirstLook;
use crate::forms::Forms;
use crate::lanes::FlowEnds;
use crate::metrics::Gauge;
use crate::spans;

/// Shortest time between two looks.
const HURRY: Duration = Duration::from_millis(500);
/// Looks at a topic just created until all brokers know it.
const SETTLE: (u32, Duration) = (20, Duration::from_millis(100));

/// Somebody wants target topics to be made again that were deleted.
pub struct Remake {
    /// Of these source topics.
    pub scope: Scope,
    /// Told when the catalog has what became of it.
    pub done: oneshot::Sender<()>,
}

/// The discovery of one flow.
pub struct Discovery {
    /// The flow; the flow back may have the authority.
    pub flow: config::Current,
    /// Its ends.
    pub ends: FlowEnds,
    /// Its group.
    pub group: Arc<str>,
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
    /// What was found first, as far as its target topics are those of then.
    pub first_look: watch::Sender<Option<Arc<FirstLook>>>,
    /// Partitions per slot.
    pub weights: watch::Sender<Arc<[u32]>>,
    /// Told when something is wrong with a topic: look at once.
    pub look: Arc<Notify>,
    /// Topics to make again.
    pub remakes: mpsc::Receiver<Remake>,
    /// What is known of target topics.
    pub targets: Targets,
    /// Topics that left the source.
    pub departures: Departures,
    /// The start of time.
    pub started: Instant,
    /// Topics that residency keeps from the target.
    pub kept: Gauge,
}

/// The source's topics by name.
type SourceTopics = BTreeMap<Arc<str>, TopicMetadata>;

impl Discovery {
    /// Looks again and again.
    pub async fn run(mut self) {
        let mut remake: Option<Remake> = None;
        loop {
            self.look().await;
            if let Some(remake) = remake.take() {
                // Now it is known what is gone.
                self.targets.forgive(&remake.scope);
                self.look().await;
                if remake.done.send(()).is_err() {
                    tracing::debug!(flow = %self.flow.name, "nobody waits for topics made again: the flow ends");
                }
            }
            // Whoever is in a hurry waits a little, too: a broker that answers one thing and then another would be asked without end.
            self.flow.sleep(HURRY.min(self.flow.refresh)).await;
            tokio::select! {
                () = self.flow.sleep(self.flow.refresh.saturating_sub(HURRY)) => {}
                () = self.look.notified() => {}
                Some(asked) = self.remakes.recv() => remake = Some(asked),
            }
        }
    }

    async fn look(&mut self) {
        let span = spans::discover(&self.flow.name);
        let looked = self.round().instrument(span.clone()).await;
        span.record("partitions", self.catalog.borrow().len());
        if let Err(error) = looked {
            spans::failed(&span, &error);
            self.board.error(format!("topics: {error}"));
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let found = self.source.metadata(Topics::All).await?;
        let topics: SourceTopics = found
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
        self.recall(&plan, &topics).await?;
        let names: Vec<Arc<str>> = plan.routes.values().cloned().collect();
        let mut there = self.target_topics(&names).await?;
        self.notice_gone(&plan, &topics);
        if self.provide(&plan, &topics, &there).await? {
            there = self.settled(&names, &plan, &topics).await?;
        }
        self.notice_others(&plan, &topics, &there);
        self.publish(&plan, &topics).await;
        self.depart(&plan, &topics).await
    }

    /// Creates and grows what is missing; whether anything was done.
    async fn provide(&self, plan: &RoutePlan, topics: &SourceTopics, there: &Found) -> Result<bool, Error> {
        let (mut missing, mut short) = (Vec::new(), Vec::new());
        for (source, target) in &plan.routes {
            let Some(topic) = topics.get(source) else { continue };
            let wanted = topic.partition_count();
            match there.get(target) {
                None if self.targets.get(target).is_some() => {}
                None => missing.push((Arc::clone(source), Arc::clone(target), wanted)),
                Some((count, _)) if *count >= wanted => {}
                Some(_) if self.flow.partitions == Partitions::Sync => short.push((Arc::clone(target), wanted)),
                Some((count, _)) => self.board.error(format!(
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
        &mut self,
        names: &[Arc<str>],
        plan: &RoutePlan,
        topics: &SourceTopics,
    ) -> Result<Found, Error> {
        let mut there = self.target_topics(names).await?;
        for _ in 0..SETTLE.0 {
            let complete = plan.routes.iter().all(|(source, target)| {
                let wanted = topics.get(source).map_or(0, TopicMetadata::partition_count);
                there.get(target).is_some_and(|(count, _)| *count >= wanted) || self.targets.is_gone(target)
            });
            if complete {
                break;
            }
            tokio::time::sleep(SETTLE.1).await;
            there = self.target_topics(names).await?;
        }
        Ok(there)
    }

    async fn publish(&mut self, plan: &RoutePlan, topics: &SourceTopics) {
        let wanted: Vec<(&TopicMetadata, &Arc<str>)> = plan
            .routes
            .iter()
            .filter(|(_, target)| !self.targets.is_gone(target))
            .filter_map(|(source, target)| Some((topics.get(source)?, target)))
            .collect();
        let ends = (&self.source, &self.target);
        let forms = self.forms.of(ends, &wanted, &self.board).await;
        let mut pairings = Vec::new();
        for (source, target) in &plan.routes {
            let (Some(topic), Some(known)) = (topics.get(source), self.targets.get(target)) else {
                continue;
            };
            let form = match forms.get(source) {
                Some(form) => *form,
                // Nothing is written there.
                None if known.gone => BatchForm::of(Codec::None),
                None => continue,
            };
            pairings.extend(
                topic
                    .partitions
                    .iter()
                    .filter(|p| known.gone || p.partition < known.count)
                    .map(|p| Pairing {
                        source: TopicPartition::new(Arc::clone(source), p.partition),
                        topic_id: topic.id.map_or([0; 16], |id| id.0),
                        target_topic: Arc::clone(target),
                        target_id: (!known.gone).then_some(known.id.map_or([0; 16], |id| id.0)),
                        form,
                        paused: false,
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
