//! Topics in MirrorMaker 2's formats (`mm2_compat`), for services that read them with its classes: `RemoteClusterUtils`, `MirrorClient`.

mod checkpoints;

use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::mm2::{HEARTBEATS, Heartbeat};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Cluster, Error, KafkaCode, NewRecord, NewTopic};

use crate::board::{FlowBoard, wall_ms};
use crate::config;

pub use checkpoints::Checkpoints;

/// MirrorMaker 2's `emit.heartbeats.interval.seconds`.
const BEAT: Duration = Duration::from_secs(1);

/// Writes heartbeats for ever: on the target, and on the source where no flow back does, as MirrorMaker 2's pair of connectors. The
/// source's are copied to the target as `<source>.heartbeats`, by which its classes know who is upstream.
pub async fn heartbeats(
    flow: config::Flow,
    flows: Arc<[config::Flow]>,
    source: Cluster,
    target: Cluster,
    board: Arc<FlowBoard>,
) {
    let back = |other: &config::Flow| {
        other.mm2.heartbeats && (&other.source, &other.target) == (&flow.target, &flow.source)
    };
    let mut ends = vec![(&target, &source)];
    if !flows.iter().any(back) {
        ends.push((&source, &target));
    }
    let beat = async |(to, from): (&Cluster, &Cluster)| {
        let mut topic = OwnTopic::new(to, HEARTBEATS.into(), flow.replication_factor);
        loop {
            let timestamp = wall_ms();
            let heartbeat = Heartbeat {
                source: from.alias().to_string(),
                target: to.alias().to_string(),
                timestamp,
            };
            if let Some(key) = heartbeat.key() {
                let record = NewRecord {
                    key,
                    value: heartbeat.value(),
                };
                if let Err(error) = topic.append(&[record], timestamp).await {
                    board.error(format!("heartbeats for MirrorMaker 2's classes: {error}"));
                }
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    futures_util::future::join_all(ends.into_iter().map(beat)).await;
}

/// A topic of one compacted partition that is made when it is first written.
struct OwnTopic {
    cluster: Cluster,
    partition: TopicPartition,
    replication_factor: i16,
    made: bool,
}

impl OwnTopic {
    fn new(cluster: &Cluster, name: Arc<str>, replication_factor: i16) -> Self {
        Self {
            cluster: cluster.clone(),
            partition: TopicPartition::new(name, 0),
            replication_factor,
            made: false,
        }
    }

    async fn append(&mut self, records: &[NewRecord], timestamp: i64) -> Result<(), Error> {
        if !self.made {
            self.make().await?;
            self.made = true;
        }
        let appended = self.cluster.append(&self.partition, records, timestamp).await;
        // Somebody deleted it.
        if let Err(error) = &appended
            && error.code() == Some(KafkaCode::UnknownTopicOrPartition)
        {
            self.made = false;
        }
        appended
    }

    async fn make(&self) -> Result<(), Error> {
        let topic = NewTopic {
            name: Arc::clone(&self.partition.topic),
            partitions: 1,
            replication_factor: self.replication_factor,
            configs: vec![("cleanup.policy".to_owned(), "compact".to_owned())],
        };
        let created = self.cluster.create_topics(&[topic]).await?;
        match created.into_values().next() {
            Some(Err(error)) if error.code() != Some(KafkaCode::TopicAlreadyExists) => Err(error),
            _ => Ok(()),
        }
    }
}
