//! Being a member of a group: join, sync, heartbeat, leave (the protocol of Kafka's `ConsumerCoordinator` and
//! of Connect, with our own protocol type).
//!
//! Each call answers what the coordinator said; what to do then is the caller's matter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kuroshio_core::types::Membership;

use crate::cluster::{Cluster, millis, name, text};
use crate::connection::Purpose;
use crate::error::Error;

/// How a member joins.
#[derive(Clone, Debug)]
pub struct Join {
    /// The group.
    pub group: Arc<str>,
    /// `group.instance.id` (KIP-345): the member is static, a restart takes its place over.
    pub instance: Arc<str>,
    /// The member id of an earlier join of this process; `None` the first time and after UNKNOWN_MEMBER_ID.
    pub member: Option<Arc<str>>,
    /// Protocol type of the group; one group has one.
    pub protocol_type: &'static str,
    /// Name of the assignment protocol; all members must offer the same.
    pub protocol: &'static str,
    /// What the group's leader gets to see of us.
    pub metadata: Bytes,
    /// Without heartbeats for so long we are out.
    pub session_timeout: Duration,
    /// How long the group waits for members to join again.
    pub rebalance_timeout: Duration,
}

/// What a join led to. The new generation must not be committed with before its assignment is applied.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The membership; its generation is that of the coming assignment.
    pub membership: Membership,
    /// We lead the group.
    pub leader: bool,
    /// The group's leader.
    pub leader_member: Arc<str>,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
    /// KIP-814 (JoinGroup v9, Kafka 3.2): a static leader came back to a stable group. It leads, but must not
    /// compute: it syncs without assignments and gets its old one; the coordinator ignores others. Before
    /// v9 such a member is not told that it leads.
    pub skip_assignment: bool,
    /// Protocol type of the group, as in the join.
    pub protocol_type: &'static str,
    /// Its assignment protocol, as in the join.
    pub protocol: &'static str,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Given by the coordinator.
    pub member: Arc<str>,
    /// `group.instance.id`, for static members.
    pub instance: Option<Arc<str>>,
    /// What it joined with.
    pub metadata: Bytes,
}

impl Cluster {
    /// Joins a group; returns when all known members have joined or the rebalance timeout is over.
    ///
    /// A static member that joins a *stable* group without its member id takes its old place over at once:
    /// same generation, new member id (the old one is fenced), no rebalance, and the leader does not see the
    /// new metadata. Joining again with the member id makes the group rebalance.
    ///
    /// The future may be dropped: the connection is closed then, and the coordinator forgets the join or
    /// finds a member that does not sync.
    pub async fn join_group(&self, join: &Join) -> Result<Joined, Error> {
        let build = |version| {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(name(join.protocol))
                .with_metadata(join.metadata.clone());
            JoinGroupRequest::default()
                .with_group_id(name(&join.group).into())
                .with_session_timeout_ms(millis(join.session_timeout))
                .with_rebalance_timeout_ms(if version >= 1 {
                    millis(join.rebalance_timeout)
                } else {
                    -1
                })
                .with_member_id(name(join.member.as_deref().unwrap_or_default()))
                .with_group_instance_id(Some(name(&join.instance)))
                .with_protocol_type(name(join.protocol_type))
                .with_protocols(vec![protocol])
        };
        let code = |answer: &JoinGroupResponse| (answer.error_code, None);
        let purpose = Purpose::Group(Arc::clone(&join.instance));
        let route = self
            .to_group(&join.group, purpose)
            .waiting(join.rebalance_timeout);
        let (answer, at) = self.ask(route, build, code).await?;
        if answer.generation_id < 0 || answer.member_id.is_empty() {
            let why = format!(
                "generation {}, member id {:?}",
                answer.generation_id, &*answer.member_id
            )
            .into();
            return Err(Error::Garbled { at, why });
        }
        let members = answer.members.iter().map(|member| JoinedMember {
            member: text(&member.member_id),
            instance: member.group_instance_id.as_ref().map(text),
            metadata: member.metadata.clone(),
        });
        let membership = Membership {
            group: Arc::clone(&join.group),
            instance: Arc::clone(&join.instance),
            member: text(&answer.member_id),
            generation: answer.generation_id,
        };
        Ok(Joined {
            leader: answer.leader == answer.member_id,
            leader_member: text(&answer.leader),
            members: members.collect(),
            skip_assignment: answer.skip_assignment,
            protocol_type: join.protocol_type,
            protocol: join.protocol,
            membership,
        })
    }

    /// Gets our assignment. The leader brings everybody's, as (member id, bytes); the others, and a leader
    /// told to skip the assignment, bring none. Waits for the leader up to `patience` (the rebalance timeout)
    /// beyond the call's own time.
    pub async fn sync_group(
        &self,
        joined: &Joined,
        assignments: &[(Arc<str>, Bytes)],
        patience: Duration,
    ) -> Result<Bytes, Error> {
        let membership = &joined.membership;
        let build = |version| {
            let assignments = assignments.iter().map(|(member, bytes)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(name(member))
                    .with_assignment(bytes.clone())
            });
            let request = SyncGroupRequest::default()
                .with_group_id(name(&membership.group).into())
                .with_generation_id(membership.generation)
                .with_member_id(name(&membership.member))
                .with_group_instance_id(Some(name(&membership.instance)))
                .with_assignments(assignments.collect());
            // From v5 on the broker refuses a sync that does not name them (KIP-559).
            if version >= 5 {
                request
                    .with_protocol_type(Some(name(joined.protocol_type)))
                    .with_protocol_name(Some(name(joined.protocol)))
            } else {
                request
            }
        };
        let code = |answer: &SyncGroupResponse| (answer.error_code, None);
        let route = self
            .to_group(&membership.group, group_purpose(membership))
            .waiting(patience);
        let (answer, _) = self.ask(route, build, code).await?;
        Ok(answer.assignment)
    }

    /// Says that we live. REBALANCE_IN_PROGRESS: join again, after giving up what must be given up.
    pub async fn heartbeat(&self, membership: &Membership) -> Result<(), Error> {
        let build = |_| {
            HeartbeatRequest::default()
                .with_group_id(name(&membership.group).into())
                .with_generation_id(membership.generation)
                .with_member_id(name(&membership.member))
                .with_group_instance_id(Some(name(&membership.instance)))
        };
        let code = |answer: &HeartbeatResponse| (answer.error_code, None);
        let route = self.to_group(&membership.group, group_purpose(membership));
        self.ask(route, build, code).await.map(|_| ())
    }

    /// Leaves for good, so that the slots move at once. A member that is already out has left. Not for a
    /// restart: a static member keeps its place for the session timeout.
    pub async fn leave_group(&self, membership: &Membership) -> Result<(), Error> {
        let build = |version| {
            let request = LeaveGroupRequest::default().with_group_id(name(&membership.group).into());
            if version >= 3 {
                let member = MemberIdentity::default()
                    .with_member_id(name(&membership.member))
                    .with_group_instance_id(Some(name(&membership.instance)));
                request.with_members(vec![member])
            } else {
                request.with_member_id(name(&membership.member))
            }
        };
        let code = |answer: &LeaveGroupResponse| {
            let members = answer
                .members
                .iter()
                .map(|member| member.error_code)
                .find(|code| *code != 0);
            let code = if answer.error_code == 0 {
                members.unwrap_or(0)
            } else {
                answer.error_code
            };
            (
                if code == ResponseError::UnknownMemberId.code() {
                    0
                } else {
                    code
                },
                None,
            )
        };
        let route = self.to_group(&membership.group, group_purpose(membership));
        self.ask(route, build, code).await.map(|_| ())
    }
}

fn group_purpose(membership: &Membership) -> Purpose {
    Purpose::Group(Arc::clone(&membership.instance))
}
