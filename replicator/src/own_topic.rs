//! Topics of one partition that we write ourselves.

use std::sync::Arc;

use kuroshio_core::mm2;
use kuroshio_core::needs::Side;
use kuroshio_core::routes::HEARTBEATS;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error, KafkaCode, NewRecord, NewTopic};

use crate::compat;
use crate::config;

/// A topic that is made when it is not there, also when it was and is gone. Where it is there nothing but writing must be allowed.
pub(crate) struct OwnTopic {
    cluster: Cluster,
    partition: TopicPartition,
    replication_factor: i16,
    configs: &'static [(&'static str, &'static str)],
}

impl OwnTopic {
    pub(crate) fn new(
        cluster: &Cluster,
        name: Arc<str>,
        replication_factor: i16,
        configs: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            partition: TopicPartition::new(name, 0),
            replication_factor,
            configs,
        }
    }

    /// Appends the records and returns the offset of the first.
    pub(crate) async fn append(&self, records: &[NewRecord], timestamp: i64) -> Result<i64, Error> {
        let appended = self.cluster.append(&self.partition, records, timestamp).await;
        let missing = |error: &Error| error.code() == Some(KafkaCode::UnknownTopicOrPartition);
        if !appended.as_ref().is_err_and(missing) {
            return appended;
        }
        self.make().await?;
        self.cluster.append(&self.partition, records, timestamp).await
    }

    async fn make(&self) -> Result<(), Error> {
        let configs = self.configs.iter();
        let topic = NewTopic {
            name: Arc::clone(&self.partition.topic),
            partitions: 1,
            replication_factor: self.replication_factor,
            configs: configs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let created = self.cluster.create_topics(&[topic]).await?;
        match created.into_values().next() {
            Some(Err(error)) if error.code() != Some(KafkaCode::TopicAlreadyExists) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The topics that a flow writes itself, if it is configured so, and on which side.
pub(crate) fn own_topics(flow: &config::Flow, flows: &[config::Flow]) -> Vec<(Side, Arc<str>)> {
    let mut own = Vec::new();
    if flow.heartbeats.is_some() {
        own.push((Side::Source, HEARTBEATS.into()));
    }
    if flow.mm2.heartbeats {
        own.push((Side::Target, mm2::HEARTBEATS.into()));
        if !compat::beats_back(flow, flows) {
            own.push((Side::Source, mm2::HEARTBEATS.into()));
        }
    }
    if flow.mm2.checkpoints {
        let checkpoints = mm2::checkpoints_topic(&flow.source, &flow.mm2.separator);
        own.push((Side::Target, checkpoints.into()));
    }
    own
}
