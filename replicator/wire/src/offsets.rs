//! Where logs begin, end, and lie in time.

use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use kuroshio_core::types::TopicPartition;

use crate::cluster::{Cluster, name, text};
use crate::connection::Purpose;
use crate::error::Error;
use crate::leaders::{ByPartition, Question, Said};
use crate::metadata::id;

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All up to the high watermark, also of open and aborted transactions.
    ReadUncommitted,
    /// Up to the last stable offset: before the first open transaction.
    ReadCommitted,
}

impl Isolation {
    pub(crate) const fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Which offset of a log is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start.
    Earliest,
    /// The end: high watermark, or last stable offset under [`Isolation::ReadCommitted`].
    Latest,
    /// The first record whose timestamp is at least this many milliseconds since 1970.
    Timestamp(i64),
}

/// An offset that a broker found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset.
    pub offset: i64,
    /// Timestamp of the record, for [`OffsetAt::Timestamp`].
    pub timestamp: Option<i64>,
    /// Leader epoch of the record or of the log's end, where known.
    pub leader_epoch: Option<i32>,
}

/// Where a leader epoch ended (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch not above the one asked for; `None`: the log knows none.
    pub leader_epoch: Option<i32>,
    /// The offset after its last record; `None`: not known. A position beyond it was truncated.
    pub end: Option<i64>,
}

impl Cluster {
    /// Looks offsets up, all leaders at once. `None` only for a timestamp after every record. Each
    /// partition may be named once.
    pub async fn list_offsets(
        &self,
        wanted: impl IntoIterator<Item = (TopicPartition, OffsetAt)>,
        isolation: Isolation,
    ) -> ByPartition<Option<ListedOffset>> {
        self.ask_leaders(wanted, Duration::ZERO, move |question| {
            list_offsets(question, isolation)
        })
        .await
    }

    /// Asks where leader epochs ended: whether a position's records were truncated since.
    pub async fn offsets_for_leader_epochs(
        &self,
        epochs: impl IntoIterator<Item = (TopicPartition, i32)>,
    ) -> ByPartition<EpochEnd> {
        self.ask_leaders(epochs, Duration::ZERO, leader_epochs).await
    }

    /// The offset of one partition; see [`Cluster::list_offsets`].
    pub async fn list_offset(
        &self,
        partition: &TopicPartition,
        at: OffsetAt,
        isolation: Isolation,
    ) -> Result<Option<ListedOffset>, Error> {
        let mut outcomes = self.list_offsets([(partition.clone(), at)], isolation).await;
        // Every partition asked about has an outcome.
        outcomes.remove(partition).unwrap_or(Ok(None))
    }
}

async fn list_offsets(question: Question<OffsetAt>, isolation: Isolation) -> Said<Option<ListedOffset>> {
    let partition = |(index, at): &(i32, OffsetAt)| {
        let timestamp = match at {
            OffsetAt::Latest => -1,
            OffsetAt::Earliest => -2,
            OffsetAt::Timestamp(ms) => *ms,
        };
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_timestamp(timestamp)
    };
    let timeout = question.cluster.broker_timeout_ms();
    let build = |version| {
        let topics = question.topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().map(partition).collect();
            ListOffsetsTopic::default()
                .with_name(name(topic).into())
                .with_partitions(partitions)
        });
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(topics.collect());
        let request = if version >= 2 {
            request.with_isolation_level(isolation.level())
        } else {
            request
        };
        if version >= 10 {
            request.with_timeout_ms(timeout)
        } else {
            request
        }
    };
    let (answer, at) = question.once(Purpose::Control, Duration::ZERO, build).await?;
    let mut said = Vec::new();
    for topic in answer.topics {
        let topic_name = text(&topic.name.0);
        for found in topic.partitions {
            let listed = (found.offset >= 0).then_some(ListedOffset {
                offset: found.offset,
                timestamp: (found.timestamp >= 0).then_some(found.timestamp),
                leader_epoch: id(found.leader_epoch),
            });
            said.push((
                TopicPartition::new(topic_name.clone(), found.partition_index),
                found.error_code,
                listed,
            ));
        }
    }
    Ok((at, said))
}

async fn leader_epochs(question: Question<i32>) -> Said<EpochEnd> {
    let partition = |(index, epoch): &(i32, i32)| {
        OffsetForLeaderPartition::default()
            .with_partition(*index)
            .with_leader_epoch(*epoch)
    };
    let build = |version| {
        let topics = question.topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().map(partition).collect();
            OffsetForLeaderTopic::default()
                .with_topic(name(topic).into())
                .with_partitions(partitions)
        });
        let request = OffsetForLeaderEpochRequest::default().with_topics(topics.collect());
        // -1: a consumer.
        if version >= 3 {
            request.with_replica_id(BrokerId(-1))
        } else {
            request
        }
    };
    let (answer, at) = question.once(Purpose::Control, Duration::ZERO, build).await?;
    let mut said = Vec::new();
    for topic in answer.topics {
        let topic_name = text(&topic.topic.0);
        for found in topic.partitions {
            let end = EpochEnd {
                leader_epoch: id(found.leader_epoch),
                end: (found.end_offset >= 0).then_some(found.end_offset),
            };
            said.push((
                TopicPartition::new(topic_name.clone(), found.partition),
                found.error_code,
                end,
            ));
        }
    }
    Ok((at, said))
}
