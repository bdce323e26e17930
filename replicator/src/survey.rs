//! The topics of a flow as they are on both sides: what `plan`, `check` and `verify` go by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::needs::{Own, Side};
use kuroshio_core::routes::{RoutePlan, is_reserved};
use kuroshio_core::start::LogId;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error, KafkaCode, TopicId, TopicMetadata, Topics};

use crate::config::{Flow, Partitions};
use crate::own_topic::own_topics;

/// Topics in one request.
const TOPICS: usize = 1_000;

/// What was found.
pub(crate) struct Survey {
    /// Kafka's id of the source.
    pub(crate) source_id: Option<Arc<str>>,
    /// Kafka's id of the target.
    pub(crate) target_id: Option<Arc<str>>,
    /// The topics of the source.
    pub(crate) topics: BTreeMap<Arc<str>, TopicMetadata>,
    /// What becomes of them.
    pub(crate) plan: RoutePlan,
    /// The topics of the target that records go to, as far as they are there.
    pub(crate) there: BTreeMap<Arc<str>, TopicMetadata>,
    /// Those of which the target does not say whether they are there.
    pub(crate) hidden: BTreeMap<Arc<str>, Error>,
    /// Topics that the flow writes itself.
    pub(crate) own: Vec<Own>,
    /// Of these, those that are to be made on the source and will be copied, with their names on the target.
    pub(crate) coming: BTreeMap<Arc<str>, Arc<str>>,
}

/// A partition that is copied.
pub(crate) struct Lane {
    /// On the source.
    pub(crate) source: TopicPartition,
    /// On the target.
    pub(crate) target: TopicPartition,
    /// What its position is a position of.
    pub(crate) log: LogId,
    /// Kafka's id of the target topic, if it is there and its cluster names ids.
    pub(crate) target_id: Option<String>,
}

impl Survey {
    /// Asks both clusters.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub(crate) async fn of(
        flow: &Flow,
        flows: &[Flow],
        source: &Cluster,
        target: &Cluster,
    ) -> Result<Self, Error> {
        let found = source.metadata(Topics::All).await?;
        let topics: BTreeMap<Arc<str>, TopicMetadata> = found
            .topics
            .into_iter()
            .filter(|topic| topic.error.is_none())
            .map(|topic| (Arc::clone(&topic.name), topic))
            .collect();
        let plan = flow.router.plan(topics.keys());
        let own = own_topics(flow, flows);
        let coming: BTreeMap<Arc<str>, Arc<str>> = own
            .iter()
            .filter(|(side, topic)| *side == Side::Source && !topics.contains_key(topic))
            .filter_map(|(_, topic)| Some((Arc::clone(topic), flow.router.route(topic).ok()?)))
            .collect();
        let on_target = own.iter().filter(|(side, _)| *side == Side::Target);
        let wanted = plan.routes.values().chain(coming.values());
        let wanted: BTreeSet<Arc<str>> = wanted.chain(on_target.map(|(_, topic)| topic)).cloned().collect();
        let mut survey = Self {
            source_id: found.cluster_id,
            target_id: None,
            topics,
            plan,
            there: BTreeMap::new(),
            hidden: BTreeMap::new(),
            own: Vec::new(),
            coming,
        };
        survey
            .look(target, &wanted.into_iter().collect::<Vec<_>>())
            .await?;
        let missing = |side, topic: &Arc<str>| match side {
            Side::Source => !survey.topics.contains_key(topic),
            Side::Target => survey.is_missing(topic),
        };
        survey.own = own
            .into_iter()
            .map(|(side, topic)| Own {
                side,
                missing: missing(side, &topic),
                topic,
            })
            .collect();
        Ok(survey)
    }

    async fn look(&mut self, target: &Cluster, wanted: &[Arc<str>]) -> Result<(), Error> {
        // Also where there is nothing to look for the target is asked for its id.
        let parts = wanted.chunks(TOPICS).chain(wanted.is_empty().then_some(wanted));
        for part in parts {
            let found = target.metadata(Topics::Named(part)).await?;
            self.target_id = found.cluster_id;
            for topic in found.topics {
                match &topic.error {
                    None => {
                        self.there.insert(Arc::clone(&topic.name), topic);
                    }
                    Some(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => {}
                    Some(error) => {
                        self.hidden.insert(topic.name, error.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the target has no such topic.
    pub(crate) fn is_missing(&self, target: &Arc<str>) -> bool {
        !self.there.contains_key(target) && !self.hidden.contains_key(target)
    }

    /// The topics that are copied and about which the source decides, with their names on the target.
    pub(crate) fn ruled(&self, flow: &Flow, flows: &[Flow]) -> BTreeMap<Arc<str>, Arc<str>> {
        let ruled = self
            .plan
            .routes
            .iter()
            .filter(|(source, target)| !is_reserved(source) && flow.rules(flows, source, target));
        ruled
            .map(|(source, target)| (Arc::clone(source), Arc::clone(target)))
            .collect()
    }

    /// The partitions that the flow copies; `source_id`: Kafka's id of the source.
    pub(crate) fn lanes(&self, flow: &Flow, source_id: &str) -> Vec<Lane> {
        let mut lanes = Vec::new();
        for (source, target) in &self.plan.routes {
            let Some(topic) = self.topics.get(source) else {
                continue;
            };
            let target_topic = self.there.get(target);
            let there = target_topic.map(TopicMetadata::partition_count);
            let target_id = target_topic.and_then(|topic| topic.id);
            let grows = flow.partitions == Partitions::Sync;
            let limit = there.filter(|_| !grows).unwrap_or(i32::MAX);
            let id = topic.id.unwrap_or(TopicId([0; 16]));
            lanes.extend(
                topic
                    .names()
                    .filter(|name| name.partition < limit)
                    .map(|name| Lane {
                        target: TopicPartition::new(Arc::clone(target), name.partition),
                        source: name,
                        log: LogId {
                            cluster: source_id.to_owned(),
                            topic: id.to_string(),
                        },
                        target_id: target_id.map(|id| id.to_string()),
                    }),
            );
        }
        lanes
    }
}
