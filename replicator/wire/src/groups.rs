//! Groups as an administrator sees them.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::Member as ConsumerMember;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse,
};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::directory::Role;
use crate::error::{Error, On};

/// Groups asked about at the same time.
const AT_ONCE: usize = 16;
/// What brokers say of a group that is not there, and of one of KIP-848 when asked as a classic one.
const DEAD: &str = "Dead";

/// A group in the list of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: Arc<str>,
    /// `consumer`, `connect`, ours…; empty for a group that has only offsets.
    pub protocol_type: Arc<str>,
    /// `Stable`, `Empty`…; Kafka 2.6 and later.
    pub state: Option<Arc<str>>,
    /// `Classic`, `Consumer` (KIP-848), `Share`…; Kafka 3.8 and later.
    pub kind: Option<Arc<str>>,
}

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: Arc<str>,
    /// `Empty`, `Stable`, `PreparingRebalance`…; `Dead`: there is no such group.
    pub state: Arc<str>,
    /// `consumer`, `connect`, ours…; empty for a group that has only offsets.
    pub protocol_type: Arc<str>,
    /// Its living members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its member id.
    pub member: Arc<str>,
    /// `group.instance.id`, for static members.
    pub instance: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// From where it is connected.
    pub host: Arc<str>,
}

impl Cluster {
    /// All groups: every broker is asked for those that it coordinates.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        let ask = |cluster: Self, broker| async move { cluster.list_groups_of(broker).await };
        let listed = self.ask_every_broker(ask).await?.into_iter().flatten();
        // A group that moves between two answers is listed twice.
        let groups: HashMap<_, _> = listed.map(|group| (Arc::clone(&group.group), group)).collect();
        Ok(groups.into_values().collect())
    }

    /// Describes groups of either protocol; each has its own outcome.
    pub async fn describe_groups(
        &self,
        groups: &[Arc<str>],
    ) -> HashMap<Arc<str>, Result<GroupDescription, Error>> {
        self.for_each_group(groups, |cluster, group| async move {
            cluster.describe_group(&group).await
        })
        .await
    }

    /// Deletes groups with their offsets. A group with members is refused with NON_EMPTY_GROUP; after a lost
    /// answer the second attempt says GROUP_ID_NOT_FOUND.
    pub async fn delete_groups(&self, groups: &[Arc<str>]) -> HashMap<Arc<str>, Result<(), Error>> {
        self.for_each_group(groups, |cluster, group| async move {
            cluster.delete_group(&group).await
        })
        .await
    }

    /// Describes one group; see [`Cluster::describe_groups`].
    pub async fn describe_group(&self, group: &Arc<str>) -> Result<GroupDescription, Error> {
        let classic = self.describe_classic(group).await?;
        if &*classic.state != DEAD {
            return Ok(classic);
        }
        // A living group of KIP-848 looks dead to the classic question.
        match self.describe_consumer(group).await {
            Ok(description) => Ok(description),
            Err(Error::Version { .. }) => Ok(classic),
            Err(error) => match error.code() {
                Some(ResponseError::GroupIdNotFound | ResponseError::UnsupportedVersion) => Ok(classic),
                _ => Err(error),
            },
        }
    }

    async fn list_groups_of(&self, broker: i32) -> Result<Vec<GroupListing>, Error> {
        let code = |answer: &ListGroupsResponse| (answer.error_code, None);
        let route = Route::new(To::Broker(broker), Purpose::Control, On::Broker(broker));
        let (answer, _) = self.ask(route, |_| ListGroupsRequest::default(), code).await?;
        let mut directory = self.directory();
        let listing = |group: kafka_protocol::messages::list_groups_response::ListedGroup| {
            // Who lists a group coordinates it.
            directory.set_coordinator(Role::Group, &group.group_id, broker);
            let known = |field: &kafka_protocol::protocol::StrBytes| (!field.is_empty()).then(|| text(field));
            GroupListing {
                group: text(&group.group_id.0),
                protocol_type: text(&group.protocol_type),
                state: known(&group.group_state),
                kind: known(&group.group_type),
            }
        };
        Ok(answer.groups.into_iter().map(listing).collect())
    }

    async fn describe_classic(&self, group: &Arc<str>) -> Result<GroupDescription, Error> {
        let build = |_| DescribeGroupsRequest::default().with_groups(vec![name(group).into()]);
        let code = |answer: &DescribeGroupsResponse| {
            let described = answer.groups.first();
            (described.map_or(0, |described| described.error_code), None)
        };
        let (answer, at) = self
            .ask(self.to_group(group, Purpose::Control), build, code)
            .await?;
        let Some(described) = answer.groups.into_iter().next() else {
            return Err(Error::Garbled {
                at,
                why: format!("it does not speak of group {group}").into(),
            });
        };
        Ok(GroupDescription {
            group: Arc::clone(group),
            state: text(&described.group_state),
            protocol_type: text(&described.protocol_type),
            members: described.members.iter().map(classic_member).collect(),
        })
    }

    async fn describe_consumer(&self, group: &Arc<str>) -> Result<GroupDescription, Error> {
        let build = |_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![name(group).into()]);
        let code = |answer: &ConsumerGroupDescribeResponse| {
            let described = answer.groups.first();
            described.map_or((0, None), |group| {
                (group.error_code, group.error_message.as_ref().map(text))
            })
        };
        let (answer, at) = self
            .ask(self.to_group(group, Purpose::Control), build, code)
            .await?;
        let Some(described) = answer.groups.into_iter().next() else {
            return Err(Error::Garbled {
                at,
                why: format!("it does not speak of group {group}").into(),
            });
        };
        Ok(GroupDescription {
            group: Arc::clone(group),
            state: text(&described.group_state),
            protocol_type: "consumer".into(),
            members: described.members.iter().map(consumer_member).collect(),
        })
    }

    async fn delete_group(&self, group: &Arc<str>) -> Result<(), Error> {
        let build = |_| DeleteGroupsRequest::default().with_groups_names(vec![name(group).into()]);
        let code = |answer: &DeleteGroupsResponse| {
            (answer.results.first().map_or(0, |group| group.error_code), None)
        };
        self.ask(self.to_group(group, Purpose::Admin), build, code)
            .await
            .map(|_| ())
    }

    /// Asks about groups one by one, a bounded number at the same time.
    pub(crate) async fn for_each_group<T, F>(
        &self,
        groups: &[Arc<str>],
        ask: impl Fn(Self, Arc<str>) -> F,
    ) -> HashMap<Arc<str>, Result<T, Error>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut waiting = groups.iter();
        let mut asked = JoinSet::new();
        let mut outcomes = HashMap::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some(group) = waiting.next()
            {
                let (group, question) = (Arc::clone(group), ask(self.clone(), Arc::clone(group)));
                asked.spawn(async move { (group, question.await) });
            }
            match asked.join_next().await {
                None => return outcomes,
                Some(Ok((group, outcome))) => {
                    outcomes.insert(group, outcome);
                }
                // A question neither panics nor is aborted.
                Some(Err(error)) => {
                    tracing::error!(cluster = %self.alias(), %error, "a question about a group ended without outcome");
                }
            }
        }
    }
}

fn classic_member(member: &DescribedGroupMember) -> GroupMember {
    GroupMember {
        member: text(&member.member_id),
        instance: member.group_instance_id.as_ref().map(text),
        client_id: text(&member.client_id),
        host: text(&member.client_host),
    }
}

fn consumer_member(member: &ConsumerMember) -> GroupMember {
    GroupMember {
        member: text(&member.member_id),
        instance: member.instance_id.as_ref().map(text),
        client_id: text(&member.client_id),
        host: text(&member.client_host),
    }
}
