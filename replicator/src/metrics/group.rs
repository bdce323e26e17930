//! What the lag exporter knows of groups.

use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::types::TopicPartition;

use super::{Gauge, Metrics};

impl Metrics {
    /// Handles for a group on a cluster.
    #[must_use]
    pub fn group(self: &Arc<Self>, cluster: &str, group: &str) -> GroupMetrics {
        GroupMetrics {
            metrics: Arc::clone(self),
            cluster: cluster.to_owned(),
            group: group.to_owned(),
            members: self.group_members.with([cluster, group]),
            state: None,
            follows: None,
        }
    }
}

/// A group's metrics.
#[derive(Debug)]
pub struct GroupMetrics {
    metrics: Arc<Metrics>,
    cluster: String,
    group: String,
    members: Gauge,
    state: Option<(String, Gauge)>,
    follows: Option<(String, Gauge)>,
}

impl GroupMetrics {
    /// Living members.
    pub fn members(&self, members: usize) {
        self.members.set(members as f64);
    }

    /// The group's state in its coordinator's words; `None`: it says none.
    pub fn state(&mut self, state: Option<&str>) {
        if self.state.as_ref().map(|(word, _)| word.as_str()) != state {
            let gauge = |state| self.metrics.group_state.with([&self.cluster, &self.group, state]);
            self.state = state.map(|state| (state.to_owned(), gauge(state)));
        }
        if let Some((_, gauge)) = &self.state {
            gauge.set(1.0);
        }
    }

    /// The flow that wrote what the group has here; `None`: a consumer did.
    pub fn follows(&mut self, flow: Option<&str>) {
        if self.follows.as_ref().map(|(flow, _)| flow.as_str()) != flow {
            let gauge = |flow| {
                self.metrics
                    .group_follows
                    .with([&self.cluster, &self.group, flow])
            };
            self.follows = flow.map(|flow| (flow.to_owned(), gauge(flow)));
        }
        if let Some((_, gauge)) = &self.follows {
            gauge.set(1.0);
        }
    }

    /// Handles for a partition of which the group has an offset.
    #[must_use]
    pub fn partition(&self, partition: &TopicPartition) -> GroupPartitionMetrics {
        let number = partition.partition.to_string();
        let labels = [&*self.cluster, &self.group, &partition.topic, &number];
        GroupPartitionMetrics {
            records: self.metrics.group_lag_records.with(labels),
            seconds: self.metrics.group_lag_seconds.with(labels),
        }
    }
}

/// The lag of a group in a partition.
#[derive(Debug)]
pub struct GroupPartitionMetrics {
    records: Gauge,
    seconds: Gauge,
}

impl GroupPartitionMetrics {
    /// How far the group is behind the log's end.
    pub fn lag(&self, records: u64, time: Duration) {
        self.records.set(records as f64);
        self.seconds.set(time.as_secs_f64());
    }
}
