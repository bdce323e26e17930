//! Groups: membership, fencing, and what an administrator sees.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster as Kafka, pair, until};
use kuroshio_wire::{Class, Cluster, Committer, Joined, KafkaCode, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{at, refusal, sync};
use crate::regions::{WAIT, join, stored, wire};

#[tokio::test]
async fn members_come_and_go() -> Result<()> {
    static_members(&pair().await?.tw).await
}

#[tokio::test]
async fn fences() -> Result<()> {
    commits_are_fenced(&pair().await?.tw).await
}

/// A group whose members `a`, the leader, and `b` have their assignments. The first value is `a` of the
/// generation before.
async fn two_members(cluster: &Cluster, group: &str) -> Result<(Joined, Joined, Joined)> {
    let first = cluster.join_group(&join(group, "a", None)).await?;
    ensure!(
        first.leader && !first.skip_assignment && first.members.len() == 1,
        "{first:?}"
    );
    ensure!(sync(cluster, &first).await? == "for a");
    cluster.heartbeat(&first.membership).await?;
    let second = join(group, "b", None);
    // The leader hears of the rebalance and joins again.
    let again = async {
        until(WAIT, "the rebalance", || async {
            match cluster.heartbeat(&first.membership).await {
                Ok(()) => Err("no rebalance yet".to_owned()),
                Err(error) if error.code() == Some(KafkaCode::RebalanceInProgress) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        let known = join(group, "a", Some(&first.membership.member));
        anyhow::Ok(cluster.join_group(&known).await?)
    };
    let (b, a) = tokio::join!(cluster.join_group(&second), again);
    let (b, a) = (b?, a?);
    ensure!(
        a.leader && !b.leader && a.members.len() == 2 && b.members.is_empty(),
        "{a:?} {b:?}"
    );
    ensure!(b.leader_member == a.membership.member, "{a:?} {b:?}");
    let generations = [
        first.membership.generation,
        a.membership.generation,
        b.membership.generation,
    ];
    ensure!(
        generations[0] < generations[1] && generations[1] == generations[2],
        "{generations:?}"
    );
    let (for_a, for_b) = tokio::join!(sync(cluster, &a), sync(cluster, &b));
    ensure!((for_a?, for_b?) == (Bytes::from("for a"), Bytes::from("for b")));
    Ok((first, a, b))
}

pub(super) async fn static_members(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let group = "kuroshio.wire-members";
    let (_, a, b) = two_members(&cluster, group).await?;

    // A static leader that comes back takes its place at once: it leads, but must not compute.
    let back = cluster.join_group(&join(group, "a", None)).await?;
    ensure!(back.leader && back.skip_assignment, "{back:?}");
    ensure!(back.membership.generation == a.membership.generation, "{back:?}");
    ensure!(back.membership.member != a.membership.member, "{back:?}");
    ensure!(sync(&cluster, &back).await? == "for a");
    let fenced = cluster.heartbeat(&a.membership).await;
    ensure!(
        fenced.as_ref().is_err_and(|error| error.class() == Class::Fenced),
        "{fenced:?}"
    );

    as_administrators_see_it(&cluster, group).await?;
    // Who is out has left.
    for membership in [&back.membership, &b.membership, &b.membership] {
        cluster.leave_group(membership).await?;
    }
    until_state(&cluster, group, "Empty").await?;
    let mut deleted = cluster.delete_groups(&[group.into()]).await;
    deleted.remove(group).context("no outcome")??;
    until_state(&cluster, group, "Dead").await
}

async fn until_state(cluster: &Cluster, group: &str, state: &str) -> Result<()> {
    until(WAIT, &format!("{group} to be {state}"), || async {
        match cluster.describe_group(&group.into()).await {
            Ok(described) if &*described.state == state => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn as_administrators_see_it(cluster: &Cluster, group: &str) -> Result<()> {
    let described = cluster.describe_group(&group.into()).await?;
    ensure!(
        &*described.state == "Stable" && &*described.protocol_type == "kuroshio",
        "{described:?}"
    );
    let instances = described
        .members
        .iter()
        .filter_map(|member| member.instance.as_deref());
    ensure!(
        instances.collect::<HashSet<_>>() == HashSet::from(["a", "b"]),
        "{described:?}"
    );
    let listed = cluster.list_groups().await?;
    let listed = listed.iter().find(|listed| &*listed.group == group);
    ensure!(
        listed.is_some_and(|listed| &*listed.protocol_type == "kuroshio"),
        "{listed:?}"
    );
    let mut living = cluster.delete_groups(&[group.into()]).await;
    let living = living.remove(group).context("no outcome")?;
    ensure!(refusal(living) == Some(KafkaCode::NonEmptyGroup));
    Ok(())
}

/// Who may commit: the member of this generation, and while there are members nobody else.
pub(super) async fn commits_are_fenced(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let (topic, group, note) = ("wire.fences", "kuroshio.wire-fences", "1 cluster topic");
    kafka.create_topic(topic, 1, &[]).await?;
    let partition = TopicPartition::new(topic, 0);
    let (stale, _, member) = two_members(&cluster, group).await?;
    let commit = async |group: &str, committer, offset| {
        let offsets = [(partition.clone(), at(offset, note))];
        let outcome = cluster.commit_offsets(group, committer, &offsets).await;
        outcome.and_then(|mut outcome| outcome.remove(&partition).unwrap_or(Ok(())))
    };
    ensure!(stored(&cluster, group, &partition).await? == Stored::Nothing);
    commit(group, Committer::Member(&member.membership), 7).await?;
    ensure!(stored(&cluster, group, &partition).await? == Stored::Offset(at(7, note)));
    let refused = commit(group, Committer::Member(&stale.membership), 8).await;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.class() == Class::Rejoin),
        "{refused:?}"
    );
    ensure!(refusal(refused) == Some(KafkaCode::IllegalGeneration));
    ensure!(refusal(commit(group, Committer::Observer, 9).await) == Some(KafkaCode::UnknownMemberId));
    let mut all = cluster.fetch_offsets(group, None).await?;
    let only = all.remove(&partition).context("not told")??;
    ensure!(
        all.is_empty() && only == Stored::Offset(at(7, note)),
        "{only:?} {all:?}"
    );

    let other = "kuroshio.wire-observer";
    commit(other, Committer::Observer, 3).await?;
    ensure!(stored(&cluster, other, &partition).await? == Stored::Offset(at(3, note)));
    let missing = TopicPartition::new("wire.no-such-topic", 0);
    let offsets = [(missing.clone(), at(3, note))];
    let mut outcomes = cluster
        .commit_offsets(other, Committer::Observer, &offsets)
        .await?;
    let outcome = outcomes.remove(&missing).context("no outcome")?;
    ensure!(refusal(outcome) == Some(KafkaCode::UnknownTopicOrPartition));
    Ok(())
}

/// A group of the protocol of KIP-848 looks dead to the classic question: it must not be taken for empty.
#[tokio::test]
async fn members_of_the_new_protocol_are_seen() -> Result<()> {
    let kafka = &pair().await?.tw;
    let cluster = wire(kafka);
    kafka.create_topic("wire.kip848", 1, &[]).await?;
    let consumer: BaseConsumer = kafka
        .client()
        .set("group.id", "wire-kip848")
        .set("group.protocol", "consumer")
        .create()?;
    consumer.subscribe(&["wire.kip848"])?;
    until(WAIT, "a member of the group", || async {
        // Polling drives the consumer; there is nothing to read.
        drop(consumer.poll(Duration::from_millis(50)));
        let described = cluster
            .describe_group(&"wire-kip848".into())
            .await
            .map_err(|error| error.to_string())?;
        if described.members.len() == 1 && &*described.state == "Stable" {
            Ok(())
        } else {
            Err(format!("{described:?}"))
        }
    })
    .await?;
    Ok(())
}
