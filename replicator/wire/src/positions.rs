//! Offsets that groups have committed: read always stable, written always named.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition;
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kuroshio_core::types::{Membership, POSITIONS_PER_REQUEST, TopicPartition};

use crate::api::Api;
use crate::class::{Class, class_of, waits};
use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::directory::Role;
use crate::error::{Error, On, Place};
use crate::leaders::ByPartition;
use crate::metadata::id;

/// First OffsetFetch version with `require_stable` (KIP-447).
const STABLE: i16 = 7;

/// An offset that a group commits for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, where known.
    pub leader_epoch: Option<i32>,
    /// The committer's own note; up to the broker's `offset.metadata.max.bytes` (4096).
    pub metadata: Arc<str>,
}

/// What a group has stored for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing was ever committed, or it expired.
    Nothing,
    /// The committed offset; no transaction is about to change it.
    Offset(GroupOffset),
    /// A transaction holds a pending offset (UNSTABLE_OFFSET_COMMIT): what is stored may be about to
    /// change. Ask again; if it stays, the transaction's owner may be dead.
    Unstable,
}

/// Who commits offsets.
#[derive(Clone, Copy, Debug)]
pub enum Committer<'a> {
    /// A living member: the coordinator refuses a stale generation or member id, so a zombie cannot write.
    Member(&'a Membership),
    /// *Unfenced*: nobody in particular (generation -1, no member id), as admin tools commit. The coordinator
    /// takes it only while the group has no members. Never for positions that a pump resumes from; only for
    /// what is merely shown, such as the copy of the positions on the source.
    Observer,
}

impl Cluster {
    /// What `group` has stored for `partitions`, or for all it knows (`None`), always with `require_stable`
    /// (Kafka 2.5 and later; an older broker is refused unless it is the embedded one). A partition that
    /// cannot be told has its own error.
    pub async fn fetch_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<ByPartition<Stored>, Error> {
        if partitions.is_none() && self.settings().embedded {
            // librdkafka's mock garbles the list of all; its groups are as new as the process.
            return Ok(HashMap::new());
        }
        let topics = partitions.map(by_topic);
        let build = |version| {
            let request = OffsetFetchRequest::default().with_group_id(name(group).into());
            let topics = topics
                .as_ref()
                .map(|topics| topics.iter().map(fetch_topic).collect());
            request.with_topics(topics).with_require_stable(version >= STABLE)
        };
        let least = if self.settings().embedded { 0 } else { STABLE };
        let route = self.to_group(group, Purpose::Control).at_least(least);
        let (answer, at) = self.ask(route, build, unreadable).await?;
        let mut outcomes = HashMap::new();
        for topic in answer.topics {
            let topic_name = text(&topic.name.0);
            for partition in topic.partitions {
                let partition_name = TopicPartition::new(Arc::clone(&topic_name), partition.partition_index);
                let outcome = self.stored(&at, group, &partition_name, &partition);
                outcomes.insert(partition_name, outcome);
            }
        }
        Ok(outcomes)
    }

    /// Commits offsets for `group`, in as many requests as it takes; each partition has its own outcome. A refusal of a
    /// whole request (a stale generation, say) is the error of the call; requests before it stay committed. Of a commit
    /// whose answer was lost, the same is sent again.
    pub async fn commit_offsets(
        &self,
        group: &str,
        committer: Committer<'_>,
        offsets: &[(TopicPartition, GroupOffset)],
    ) -> Result<ByPartition<()>, Error> {
        self.check_fence(group, committer)?;
        let mut outcomes = HashMap::new();
        for part in offsets.chunks(POSITIONS_PER_REQUEST) {
            outcomes.extend(self.commit_part(group, committer, part).await?);
        }
        Ok(outcomes)
    }

    async fn commit_part(
        &self,
        group: &str,
        committer: Committer<'_>,
        offsets: &[(TopicPartition, GroupOffset)],
    ) -> Result<ByPartition<()>, Error> {
        let mut topics: BTreeMap<&Arc<str>, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, offset) in offsets {
            topics
                .entry(&partition.topic)
                .or_default()
                .push(commit_partition(partition.partition, offset));
        }
        let build = |version| {
            let topics = topics.iter().map(|(topic, partitions)| {
                OffsetCommitRequestTopic::default()
                    .with_name(name(topic).into())
                    .with_partitions(partitions.clone())
            });
            let request = OffsetCommitRequest::default()
                .with_group_id(name(group).into())
                .with_topics(topics.collect());
            match committer {
                Committer::Observer => request,
                Committer::Member(membership) => {
                    let request = request
                        .with_generation_id_or_member_epoch(membership.generation)
                        .with_member_id(name(&membership.member));
                    // Static membership is of v7, Kafka 2.3; the embedded broker knows newer ones too.
                    if version >= 7 {
                        request.with_group_instance_id(Some(name(&membership.instance)))
                    } else {
                        request
                    }
                }
            }
        };
        let route = self.to_group(group, Purpose::Control);
        let (answer, at) = self.ask(route, build, refused_whole).await?;
        let mut outcomes = HashMap::new();
        for topic in answer.topics {
            let topic_name = text(&topic.name.0);
            for partition in topic.partitions {
                let partition_name = TopicPartition::new(Arc::clone(&topic_name), partition.partition_index);
                let on = On::GroupPartition(group.into(), partition_name.clone());
                let outcome = match partition.error_code {
                    0 => Ok(()),
                    code => Err(self.refused(at.clone(), on, code, None)),
                };
                outcomes.insert(partition_name, outcome);
            }
        }
        Ok(outcomes)
    }

    pub(crate) fn to_group<'a>(&self, group: &'a str, purpose: Purpose) -> Route<'a> {
        Route::new(
            To::Coordinator(Role::Group, group),
            purpose,
            On::Group(group.into()),
        )
    }

    /// The broker takes generation -1 or an empty member id for an unfenced commit: a member never sends them.
    fn check_fence(&self, group: &str, committer: Committer<'_>) -> Result<(), Error> {
        let Committer::Member(membership) = committer else {
            return Ok(());
        };
        if membership.generation >= 0 && !membership.member.is_empty() && &*membership.group == group {
            return Ok(());
        }
        let why = "the membership has no generation or member id, or is of another group: it would not fence";
        Err(self.not_sent::<OffsetCommitRequest>(group, why))
    }

    pub(crate) fn not_sent<R: Api>(&self, group: &str, why: &str) -> Error {
        Error::NotSent {
            cluster: Arc::clone(self.alias()),
            api: R::NAME,
            on: On::Group(group.into()),
            why: why.into(),
        }
    }

    fn stored(
        &self,
        at: &Place,
        group: &str,
        partition: &TopicPartition,
        told: &OffsetFetchResponsePartition,
    ) -> Result<Stored, Error> {
        match ResponseError::try_from_code(told.error_code) {
            Some(ResponseError::UnstableOffsetCommit) => Ok(Stored::Unstable),
            Some(_) => {
                let on = On::GroupPartition(group.into(), partition.clone());
                Err(self.refused(at.clone(), on, told.error_code, None))
            }
            None if told.committed_offset < 0 => Ok(Stored::Nothing),
            None => Ok(Stored::Offset(GroupOffset {
                offset: told.committed_offset,
                leader_epoch: id(told.committed_leader_epoch),
                metadata: told.metadata.as_ref().map_or_else(|| "".into(), text),
            })),
        }
    }
}

/// The error of a whole fetch. Before v2 it stood at every partition, and some brokers still put it there.
fn unreadable(answer: &OffsetFetchResponse) -> (i16, Option<Arc<str>>) {
    if answer.error_code != 0 {
        return (answer.error_code, None);
    }
    let codes = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code);
    (whole(codes, waits), None)
}

/// A commit has no error of its own: what refuses all of it stands at every partition.
fn refused_whole(answer: &OffsetCommitResponse) -> (i16, Option<Arc<str>>) {
    let codes = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code);
    let of_the_group = |code| {
        let of_membership = matches!(class_of(code), Class::Rejoin | Class::Fenced);
        of_membership || code == ResponseError::GroupAuthorizationFailed || waits(code)
    };
    (whole(codes, of_the_group), None)
}

fn whole(mut codes: impl Iterator<Item = i16>, counts: impl Fn(ResponseError) -> bool) -> i16 {
    codes
        .find(|code| ResponseError::try_from_code(*code).is_some_and(&counts))
        .unwrap_or(0)
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics
            .entry(Arc::clone(&partition.topic))
            .or_default()
            .push(partition.partition);
    }
    topics
}

fn fetch_topic((topic, partitions): (&Arc<str>, &Vec<i32>)) -> OffsetFetchRequestTopic {
    OffsetFetchRequestTopic::default()
        .with_name(name(topic).into())
        .with_partition_indexes(partitions.clone())
}

fn commit_partition(partition: i32, offset: &GroupOffset) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset.offset)
        .with_committed_leader_epoch(offset.leader_epoch.unwrap_or(-1))
        .with_committed_metadata(Some(name(&offset.metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::offset_commit_response::{
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };

    #[test]
    fn errors_of_the_group_refuse_a_commit_whole_and_others_one_partition() {
        let check = |codes: &[i16], whole: i16| {
            let partitions = codes
                .iter()
                .map(|code| OffsetCommitResponsePartition::default().with_error_code(*code));
            let topic = OffsetCommitResponseTopic::default().with_partitions(partitions.collect());
            let answer = OffsetCommitResponse::default().with_topics(vec![topic]);
            assert_eq!(refused_whole(&answer).0, whole, "{codes:?}");
        };
        check(&[0, 0], 0);
        check(&[0, 3], 0); // UNKNOWN_TOPIC_OR_PARTITION
        check(&[0, 29], 0); // TOPIC_AUTHORIZATION_FAILED
        check(&[0, 12], 0); // OFFSET_METADATA_TOO_LARGE
        check(&[29, 22], 22); // ILLEGAL_GENERATION
        check(&[82], 82); // FENCED_INSTANCE_ID
        check(&[16], 16); // NOT_COORDINATOR
        check(&[30], 30); // GROUP_AUTHORIZATION_FAILED
    }
}
