//! What a cluster consists of. Asking never creates a topic.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kuroshio_core::types::TopicPartition;

use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::error::{Error, On, Place};

/// Identity of a topic (KIP-516): a topic deleted and created again has another one. Shown as Kafka shows
/// it, in base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which topics to ask for.
#[derive(Clone, Copy, Debug)]
pub enum Topics<'a> {
    /// None: brokers and controller only.
    None,
    /// All that we may see.
    All,
    /// These; for one that does not exist its `error` says so.
    Named(&'a [Arc<str>]),
}

/// What a broker told about its cluster.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Identity of the cluster; brokers since 0.10.1 have one.
    pub cluster_id: Option<Arc<str>>,
    /// Where to send changes; under KRaft any broker, which forwards them.
    pub controller: Option<i32>,
    /// Brokers that are alive.
    pub brokers: Vec<Broker>,
    /// The topics asked for.
    pub topics: Vec<TopicMetadata>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// `host:port` of the listener that we came through.
    pub address: Arc<str>,
    /// `broker.rack`, where set.
    pub rack: Option<Arc<str>>,
}

/// A topic.
#[derive(Clone, Debug)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity; Kafka 2.8 and later.
    pub id: Option<TopicId>,
    /// One of Kafka's own (`__consumer_offsets`…).
    pub internal: bool,
    /// Why nothing is known of it.
    pub error: Option<Error>,
    /// Its partitions, in order of their numbers.
    pub partitions: Vec<PartitionMetadata>,
}

impl TopicMetadata {
    /// The number of partitions, as requests carry it.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

/// A partition.
#[derive(Clone, Debug)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: i32,
    /// Broker that leads it; `None` while it has no leader.
    pub leader: Option<i32>,
    /// Epoch of the leader (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Number of replicas.
    pub replicas: usize,
    /// Number of replicas in sync.
    pub in_sync: usize,
    /// Number of replicas on dead brokers or disks.
    pub offline: usize,
}

impl Cluster {
    /// Asks for brokers and topics, and remembers leaders and addresses for later calls.
    pub async fn metadata(&self, topics: Topics<'_>) -> Result<Metadata, Error> {
        self.metadata_from(To::Any, topics).await
    }

    /// What each of the brokers knows: of all topics, and of these. Fails unless all brokers answer.
    pub async fn metadata_of_each(
        &self,
        topics: &Arc<[Arc<str>]>,
    ) -> Result<Vec<(Metadata, Metadata)>, Error> {
        self.ask_every_broker(|cluster, broker| {
            let topics = Arc::clone(topics);
            async move {
                let broker = To::Broker(broker);
                let all = cluster.metadata_from(broker, Topics::All).await?;
                Ok((all, cluster.metadata_from(broker, Topics::Named(&topics)).await?))
            }
        })
        .await
    }

    async fn metadata_from(&self, whom: To<'_>, topics: Topics<'_>) -> Result<Metadata, Error> {
        let build = |version| request(topics, version);
        let code = |answer: &MetadataResponse| (answer.error_code, None);
        let route = Route::new(whom, Purpose::Control, On::Cluster);
        let (answer, at) = self.ask(route, build, code).await?;
        Ok(self.learn(&answer, &at, matches!(topics, Topics::All)))
    }

    /// Identity of the cluster.
    pub async fn cluster_id(&self) -> Result<Option<Arc<str>>, Error> {
        Ok(self.metadata(Topics::None).await?.cluster_id)
    }

    pub(crate) fn learn(&self, answer: &MetadataResponse, at: &Place, all: bool) -> Metadata {
        let brokers = answer.brokers.iter().map(|broker| Broker {
            id: broker.node_id.0,
            address: format!("{}:{}", &*broker.host, broker.port).into(),
            rack: broker.rack.as_ref().map(text),
        });
        let metadata = Metadata {
            cluster_id: answer.cluster_id.as_ref().map(text),
            controller: id(answer.controller_id.0),
            brokers: brokers.collect(),
            topics: answer.topics.iter().map(|told| topic(told, at)).collect(),
        };
        self.directory().learn(&metadata, all);
        metadata
    }
}

pub(crate) fn request(topics: Topics<'_>, version: i16) -> MetadataRequest {
    let named = |topic: &Arc<str>| MetadataRequestTopic::default().with_name(Some(name(topic).into()));
    let topics = match topics {
        Topics::None => Some(Vec::new()),
        Topics::All => None,
        Topics::Named(names) => Some(names.iter().map(named).collect()),
    };
    // Before v4 there was no way to forbid it; all brokers that we support know v4.
    MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(version < 4)
}

fn topic(topic: &MetadataResponseTopic, at: &Place) -> TopicMetadata {
    let name: Arc<str> = topic
        .name
        .as_ref()
        .map_or_else(|| "".into(), |name| text(&name.0));
    let bytes = topic.topic_id.into_bytes();
    let error = ResponseError::try_from_code(topic.error_code).map(|code| Error::Kafka {
        at: at.clone(),
        on: On::Topic(Arc::clone(&name)),
        code,
        message: None,
    });
    let mut partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicMetadata {
        name,
        id: (bytes != [0; 16]).then_some(TopicId(bytes)),
        internal: topic.is_internal,
        error,
        partitions,
    }
}

fn partition(partition: &MetadataResponsePartition) -> PartitionMetadata {
    PartitionMetadata {
        partition: partition.partition_index,
        leader: id(partition.leader_id.0),
        leader_epoch: id(partition.leader_epoch),
        replicas: partition.replica_nodes.len(),
        in_sync: partition.isr_nodes.len(),
        offline: partition.offline_replicas.len(),
    }
}

/// Kafka writes "none" as -1.
pub(crate) const fn id(number: i32) -> Option<i32> {
    if number < 0 { None } else { Some(number) }
}

impl TopicMetadata {
    /// The partitions by their full names.
    pub fn names(&self) -> impl Iterator<Item = TopicPartition> {
        self.partitions
            .iter()
            .map(|partition| TopicPartition::new(Arc::clone(&self.name), partition.partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_written_as_kafka_writes_them() {
        let id = TopicId([0xfb, 0xef, 0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(id.to_string(), "--__AAECAwQFBgcICQoLDA");
    }

    #[test]
    fn asking_never_creates_a_topic() {
        let names = ["a".into()];
        for topics in [Topics::None, Topics::All, Topics::Named(&names)] {
            assert!((4..=13).all(|version| !request(topics, version).allow_auto_topic_creation));
        }
        assert!(request(Topics::All, 12).topics.is_none());
        assert_eq!(
            request(Topics::None, 12).topics.map(|topics| topics.len()),
            Some(0)
        );
    }
}
