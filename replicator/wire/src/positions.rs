//! Offsets that groups have committed: read always stable, written always named.

mod fetched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchResponse};
use kuroshio_core::types::{Membership, POSITIONS_PER_REQUEST, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::api::Api;
use crate::class::{Class, class_of, waits};
use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::directory::Role;
use crate::error::{Error, On, Place};
use crate::leaders::ByPartition;
use crate::metadata::id;
use fetched::{GROUPS, Told, ToldPartition, Wanted};

/// First OffsetFetch version with `require_stable` (KIP-447).
const STABLE: i16 = 7;

/// Groups asked about in one request: with 20 partitions each some 100 KiB of answer.
const GROUPS_PER_REQUEST: usize = 100;

/// What groups have stored, each with its own outcome.
pub type ByGroup = HashMap<Arc<str>, Result<ByPartition<Stored>, Error>>;

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
        let (asked, wanted): ([Arc<str>; 1], Wanted) = ([group.into()], partitions.map(by_topic));
        let build = |version| fetched::request(version, &asked, &wanted);
        let least = if self.settings().embedded { 0 } else { STABLE };
        let route = self.to_group(group, Purpose::Control).at_least(least);
        let (answer, at) = self.ask(route, build, unreadable).await?;
        let told = fetched::told(answer, &asked[0]).into_iter().next();
        Ok(told.map_or_else(HashMap::new, |told| self.stored(&at, told)))
    }

    /// All that `groups` have stored, always with `require_stable`. Groups that one broker coordinates, as the last
    /// [`Cluster::list_groups`] found, are asked for together (Kafka 3.0 and later); the others one by one.
    pub async fn fetch_offsets_of(&self, groups: &[Arc<str>]) -> ByGroup {
        let mut by_broker: BTreeMap<i32, Vec<Arc<str>>> = BTreeMap::new();
        for group in groups {
            let broker = self.directory().coordinator(Role::Group, group);
            by_broker
                .entry(broker.unwrap_or(-1))
                .or_default()
                .push(Arc::clone(group));
        }
        let mut asked = JoinSet::new();
        for (broker, groups) in by_broker {
            let cluster = self.clone();
            asked.spawn(async move { cluster.fetch_from(broker, groups).await });
        }
        let (mut outcomes, mut alone) = (HashMap::new(), Vec::new());
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((told, left)) => {
                    outcomes.extend(told.into_iter().map(|(group, stored)| (group, Ok(stored))));
                    alone.extend(left);
                }
                // A question neither panics nor is aborted.
                Err(error) => {
                    tracing::error!(cluster = %self.alias(), %error, "a question about groups ended without outcome");
                }
            }
        }
        let one = |cluster: Self, group: Arc<str>| async move { cluster.fetch_offsets(&group, None).await };
        outcomes.extend(self.for_each_group(&alone, one).await);
        outcomes
    }

    /// What a broker says of groups, and those that it says nothing of.
    async fn fetch_from(
        &self,
        broker: i32,
        groups: Vec<Arc<str>>,
    ) -> (Vec<(Arc<str>, ByPartition<Stored>)>, Vec<Arc<str>>) {
        let (mut all, mut alone) = (Vec::new(), Vec::new());
        for part in groups.chunks(GROUPS_PER_REQUEST) {
            let route = Route::new(To::Broker(broker), Purpose::Control, On::Broker(broker)).at_least(GROUPS);
            let build = |version| fetched::request(version, part, &None);
            let mut left: BTreeSet<Arc<str>> = part.iter().cloned().collect();
            // Whatever is wrong with all of them, or with one: alone each says so, or finds its coordinator.
            let deadline = self.deadline(Duration::ZERO);
            if broker >= 0
                && let Ok((answer, at)) = self.once(&route, &build, deadline).await
            {
                for told in fetched::told(answer, &part[0]) {
                    if told.error == 0 && left.remove(&told.group) {
                        all.push((Arc::clone(&told.group), self.stored(&at, told)));
                    }
                }
            }
            alone.extend(left);
        }
        (all, alone)
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

    fn stored(&self, at: &Place, told: Told) -> ByPartition<Stored> {
        let outcome = |told_partition: ToldPartition| {
            let ToldPartition {
                partition,
                error,
                offset,
                leader_epoch,
                metadata,
            } = told_partition;
            let outcome = match ResponseError::try_from_code(error) {
                Some(ResponseError::UnstableOffsetCommit) => Ok(Stored::Unstable),
                Some(_) => {
                    let on = On::GroupPartition(Arc::clone(&told.group), partition.clone());
                    Err(self.refused(at.clone(), on, error, None))
                }
                None if offset < 0 => Ok(Stored::Nothing),
                None => Ok(Stored::Offset(GroupOffset {
                    offset,
                    leader_epoch: id(leader_epoch),
                    metadata,
                })),
            };
            (partition, outcome)
        };
        told.partitions.into_iter().map(outcome).collect()
    }
}

/// The error of a whole fetch. Before v2 it stood at every partition, and some brokers still put it there.
fn unreadable(answer: &OffsetFetchResponse) -> (i16, Option<Arc<str>>) {
    let of_group = answer.groups.iter().map(|group| group.error_code);
    let of_whole = std::iter::once(answer.error_code)
        .chain(of_group)
        .find(|code| *code != 0);
    if let Some(code) = of_whole {
        return (code, None);
    }
    let codes = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code);
    let newer = answer.groups.iter().flat_map(|group| &group.topics);
    let newer = newer
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code);
    (whole(codes.chain(newer), waits), None)
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
