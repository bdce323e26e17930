//! OffsetFetch in its two shapes: one group up to v7, a list of groups from v8 (KIP-709).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use kuroshio_core::types::TopicPartition;

use super::STABLE;
use crate::cluster::{name, text};

/// First version with a list of groups; Kafka 3.0.
pub(super) const GROUPS: i16 = 8;

/// Partitions asked for; `None`: all that the group knows.
pub(super) type Wanted = Option<BTreeMap<Arc<str>, Vec<i32>>>;

/// What is said of one group.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) group: Arc<str>,
    pub(super) error: i16,
    pub(super) partitions: Vec<ToldPartition>,
}

/// What is said of a partition.
#[derive(Debug)]
pub(super) struct ToldPartition {
    pub(super) partition: TopicPartition,
    pub(super) error: i16,
    /// -1: none.
    pub(super) offset: i64,
    /// -1: not known.
    pub(super) leader_epoch: i32,
    pub(super) metadata: Arc<str>,
}

/// A request for `groups`; below v8 for the only one of them.
pub(super) fn request(version: i16, groups: &[Arc<str>], wanted: &Wanted) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default().with_require_stable(version >= STABLE);
    if version >= GROUPS {
        let topic = |(topic, partitions): (&Arc<str>, &Vec<i32>)| {
            OffsetFetchRequestTopics::default()
                .with_name(name(topic).into())
                .with_partition_indexes(partitions.clone())
        };
        let group = |group: &Arc<str>| {
            let topics = wanted.as_ref().map(|topics| topics.iter().map(topic).collect());
            OffsetFetchRequestGroup::default()
                .with_group_id(name(group).into())
                .with_topics(topics)
        };
        return request.with_groups(groups.iter().map(group).collect());
    }
    let topic = |(topic, partitions): (&Arc<str>, &Vec<i32>)| {
        OffsetFetchRequestTopic::default()
            .with_name(name(topic).into())
            .with_partition_indexes(partitions.clone())
    };
    request
        .with_group_id(groups.first().map(|group| name(group).into()).unwrap_or_default())
        .with_topics(wanted.as_ref().map(|topics| topics.iter().map(topic).collect()))
}

/// The partitions of topics of either shape: they are types of their own with the same fields.
macro_rules! told_partitions {
    ($topics:expr) => {
        $topics
            .into_iter()
            .flat_map(|topic| {
                let topic_name = text(&topic.name.0);
                topic.partitions.into_iter().map(move |told| ToldPartition {
                    partition: TopicPartition::new(Arc::clone(&topic_name), told.partition_index),
                    error: told.error_code,
                    offset: told.committed_offset,
                    leader_epoch: told.committed_leader_epoch,
                    metadata: note(told.metadata.as_ref()),
                })
            })
            .collect()
    };
}

/// What an answer says; below v8 of `asked`, which it does not name.
pub(super) fn told(answer: OffsetFetchResponse, asked: &Arc<str>) -> Vec<Told> {
    if answer.groups.is_empty() {
        return vec![Told {
            group: Arc::clone(asked),
            error: answer.error_code,
            partitions: told_partitions!(answer.topics),
        }];
    }
    let groups = answer.groups.into_iter().map(|group| Told {
        group: text(&group.group_id.0),
        error: group.error_code,
        partitions: told_partitions!(group.topics),
    });
    groups.collect()
}

fn note(metadata: Option<&StrBytes>) -> Arc<str> {
    metadata.map_or_else(|| "".into(), text)
}
