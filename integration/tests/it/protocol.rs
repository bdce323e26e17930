//! What the commit protocol (DESIGN D2, rules (a) to (f)) rests on: what brokers accept and refuse in the middle of
//! a rebalance and of a transaction. Should one of these change in a Kafka release, a rule may fall or be missing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kuroshio_core::types::{Membership, TopicPartition};
use kuroshio_integration::{Cluster as Kafka, pair, until};
use kuroshio_wire::{Cluster, Committer, GroupOffset, Join, Joined, KafkaCode, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::regions::{WAIT, position, wire};

const METADATA: &str = "1 cluster topic";

fn join(group: &str, instance: &str, member: Option<&Arc<str>>) -> Join {
    Join {
        group: group.into(),
        instance: instance.into(),
        member: member.cloned(),
        protocol_type: "kuroshio",
        protocol: "slots-1",
        metadata: Bytes::new(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
    }
}

async fn sync(cluster: &Cluster, joined: &Joined) -> Result<()> {
    let shares: Vec<_> = joined.members.iter().map(|member| (Arc::clone(&member.member), Bytes::from("x"))).collect();
    let shares = if joined.leader { shares } else { Vec::new() };
    cluster.sync_group(joined, &shares, Duration::from_secs(10)).await?;
    Ok(())
}

async fn commit(cluster: &Cluster, group: &str, by: Committer<'_>, topic: &str, offset: i64) -> Result<(), KafkaCode> {
    let partition = TopicPartition::new(topic, 0);
    let offset = GroupOffset { offset, leader_epoch: None, metadata: METADATA.into() };
    let outcome = cluster.commit_offsets(group, by, &[(partition.clone(), offset)]).await;
    let outcome = outcome.and_then(|mut outcome| outcome.remove(&partition).unwrap_or(Ok(())));
    outcome.map_err(|error| error.code().unwrap_or(KafkaCode::UnknownServerError))
}

/// Rule (a): the new generation commits before its assignment is known to anybody, and the old one no more.
#[tokio::test]
async fn the_new_generation_commits_before_the_group_is_stable() -> Result<()> {
    let kafka = &pair().await?.jp;
    let (cluster, group, topic) = (wire(kafka), "protocol-generations", "protocol.generations");
    kafka.create_topic(topic, 1, &[]).await?;
    let first = cluster.join_group(&join(group, "a", None)).await?;
    sync(&cluster, &first).await?;
    let again = async {
        until(WAIT, "the rebalance", || async {
            match cluster.heartbeat(&first.membership).await {
                Ok(()) => Err("none yet".to_owned()),
                Err(error) if error.code() == Some(KafkaCode::RebalanceInProgress) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        // Still its slots: what is open may be committed while others wait to join.
        ensure!(commit(&cluster, group, Committer::Member(&first.membership), topic, 1).await.is_ok(), "while preparing");
        anyhow::Ok(cluster.join_group(&join(group, "a", Some(&first.membership.member))).await?)
    };
    let other = join(group, "b", None);
    let other = async { anyhow::Ok(cluster.join_group(&other).await?) };
    let (a, b) = tokio::try_join!(again, other)?;
    // Nobody has synced: the group completes its rebalance.
    let stale = commit(&cluster, group, Committer::Member(&first.membership), topic, 2).await;
    ensure!(stale == Err(KafkaCode::IllegalGeneration), "{stale:?}");
    // An offset commit is told to wait, but a transaction's offsets are not, so it is we who must hold back.
    let metadata = Fence::of(&b.membership);
    let taken = send_offsets(kafka, "protocol-generations-b", metadata, topic, 3).await?;
    ensure!(taken.is_ok(), "{taken:?}");
    tokio::try_join!(sync(&cluster, &a), sync(&cluster, &b))?;
    Ok(())
}

/// Who sends offsets into a transaction.
struct Fence {
    group: String,
    member: String,
    instance: String,
    generation: i32,
}

impl Fence {
    fn of(membership: &Membership) -> Self {
        Self {
            group: membership.group.to_string(),
            member: membership.member.to_string(),
            instance: membership.instance.to_string(),
            generation: membership.generation,
        }
    }
}
