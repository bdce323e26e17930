//! What we believe about who serves what, learned from metadata and forgotten when it proves wrong.

use std::collections::HashMap;
use std::sync::Arc;

use kuroshio_core::types::TopicPartition;

use crate::metadata::{Metadata, TopicId, TopicMetadata};

/// Coordinators remembered; far more than groups that anybody asks for in turn.
const MAX_COORDINATORS: usize = 100_000;

/// Kinds of coordinators, with their numbers in FindCoordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Of a group.
    Group = 0,
    /// Of a transactional id.
    Transaction = 1,
}

/// Addresses and leaders as last heard.
#[derive(Default)]
pub(crate) struct Directory {
    brokers: HashMap<i32, Arc<str>>,
    controller: Option<i32>,
    topics: HashMap<Arc<str>, TopicRoute>,
    coordinators: HashMap<(Role, Arc<str>), i32>,
}

struct TopicRoute {
    id: Option<TopicId>,
    leaders: Vec<Option<i32>>,
}

impl Directory {
    /// Takes in what a broker told; `all` says that it told of every topic there is.
    pub(crate) fn learn(&mut self, metadata: &Metadata, all: bool) {
        self.brokers = metadata
            .brokers
            .iter()
            .map(|broker| (broker.id, Arc::clone(&broker.address)))
            .collect();
        self.controller = metadata.controller;
        if all {
            self.topics.clear();
        }
        for topic in &metadata.topics {
            if topic.error.is_some() {
                self.topics.remove(&topic.name);
            } else {
                self.topics.insert(Arc::clone(&topic.name), TopicRoute::of(topic));
            }
        }
    }

    pub(crate) fn addresses(&self) -> Vec<Arc<str>> {
        self.brokers.values().cloned().collect()
    }

    pub(crate) fn address(&self, broker: i32) -> Option<Arc<str>> {
        self.brokers.get(&broker).cloned()
    }

    pub(crate) const fn controller(&self) -> Option<i32> {
        self.controller
    }

    pub(crate) fn leader(&self, partition: &TopicPartition) -> Option<i32> {
        let route = self.topics.get(&partition.topic)?;
        *route.leaders.get(usize::try_from(partition.partition).ok()?)?
    }

    pub(crate) fn topic_id(&self, topic: &str) -> Option<TopicId> {
        self.topics.get(topic)?.id
    }

    pub(crate) fn coordinator(&self, role: Role, key: &str) -> Option<i32> {
        self.coordinators.get(&(role, Arc::from(key))).copied()
    }

    pub(crate) fn set_coordinator(&mut self, role: Role, key: &str, broker: i32) {
        if self.coordinators.len() >= MAX_COORDINATORS {
            self.coordinators.clear();
        }
        self.coordinators.insert((role, Arc::from(key)), broker);
    }

    pub(crate) fn forget_coordinator(&mut self, role: Role, key: &str) {
        self.coordinators.remove(&(role, Arc::from(key)));
    }

    pub(crate) fn forget_controller(&mut self) {
        self.controller = None;
    }

    pub(crate) fn forget_broker(&mut self, broker: i32) {
        self.brokers.remove(&broker);
    }

    pub(crate) fn forget_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
    }
}

impl TopicRoute {
    fn of(topic: &TopicMetadata) -> Self {
        let mut leaders = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let Ok(index) = usize::try_from(partition.partition) else {
                continue;
            };
            if index < topic.partitions.len() {
                leaders.resize(leaders.len().max(index + 1), None);
                leaders[index] = partition.leader;
            }
        }
        Self {
            id: topic.id,
            leaders,
        }
    }
}
