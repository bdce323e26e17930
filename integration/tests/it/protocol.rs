//! What the commit protocol (DESIGN D2, rules (a) to (f)) rests on: what brokers accept and refuse in the middle of
//! a rebalance and of a transaction. Should one of these change in a Kafka release, a rule may fall or be missing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kuroshio_core::engine::{Commit, Ended, Engine};
use kuroshio_core::types::{Membership, TopicPartition};
use kuroshio_integration::{Cluster as Kafka, Ledger, Load, Pair, pair, until};
use kuroshio_wire::{Cluster, Committer, GroupOffset, Joined, KafkaCode, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::engine::{at, engine, exactly_once, haul, spec};
use crate::regions::{WAIT, join, on_all, position, settled, wire};

const METADATA: &str = "1 cluster topic";

/// Ends a join: as the leader with the same share for all.
pub(crate) async fn sync(cluster: &Cluster, joined: &Joined) -> Result<()> {
    let shares: Vec<_> = joined
        .members
        .iter()
        .map(|member| (Arc::clone(&member.member), Bytes::from("x")))
        .collect();
    let shares = if joined.leader { shares } else { Vec::new() };
    cluster
        .sync_group(joined, &shares, Duration::from_secs(10))
        .await?;
    Ok(())
}

async fn commit(
    cluster: &Cluster,
    group: &str,
    by: Committer<'_>,
    topic: &str,
    offset: i64,
) -> Result<(), KafkaCode> {
    let partition = TopicPartition::new(topic, 0);
    let offset = GroupOffset {
        offset,
        leader_epoch: None,
        metadata: METADATA.into(),
    };
    let outcome = cluster
        .commit_offsets(group, by, &[(partition.clone(), offset)])
        .await;
    let outcome = outcome.and_then(|mut outcome| outcome.remove(&partition).unwrap_or(Ok(())));
    outcome.map_err(|error| error.code().unwrap_or(KafkaCode::UnknownServerError))
}

/// Commits one transaction of the product's engine, with records of `topic` and a position, as this member.
async fn transact(pair: &Pair, id: &str, membership: &Membership, topic: &str) -> Result<Ended> {
    let (id, topic, membership) = (id.to_owned(), topic.to_owned(), membership.clone());
    let mut engine = engine(&pair.tw, &pair.jp, exactly_once(&id))?;
    // The engine waits for brokers: beside the runtime.
    tokio::task::spawn_blocking(move || {
        engine.attach(vec![spec(0, "tw", "jp", &topic, 0)?])?;
        engine.begin()?;
        let mut facts = haul(&mut engine, 1)?;
        let position = (TopicPartition::new(topic, 0), at(1), METADATA.into());
        let commit = Commit {
            membership,
            positions: vec![position],
        };
        Ok(engine.commit(&commit, &mut facts)?)
    })
    .await?
}

/// Two topics of one name with one partition, with a few records on tw.
async fn topic(pair: &Pair, topic: &str) -> Result<()> {
    on_all(&[&pair.tw, &pair.jp], topic, 1).await?;
    let load = Load {
        records: 10,
        partitions: 1,
        rate: None,
    };
    Ledger::new(60).produce(&pair.tw, topic, load).await
}

/// Rules (a) and (b): a transaction of the new generation is accepted before its assignment is known to anybody,
/// one of the old generation until the last member has joined, and no longer.
#[tokio::test]
async fn the_new_generation_commits_before_the_group_is_stable() -> Result<()> {
    let pair = pair().await?;
    let (cluster, group, name) = (wire(&pair.jp), "protocol-generations", "protocol.generations");
    topic(pair, name).await?;
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
        // Its slots are still its own: what is open is committed while others wait to join.
        let ended = transact(pair, "protocol.a", &first.membership, name).await?;
        ensure!(ended == Ended::Committed, "while the group prepares: {ended:?}");
        anyhow::Ok(
            cluster
                .join_group(&join(group, "a", Some(&first.membership.member)))
                .await?,
        )
    };
    let other = join(group, "b", None);
    let other = async { anyhow::Ok(cluster.join_group(&other).await?) };
    let (a, b) = tokio::try_join!(again, other)?;
    // Nobody has synced: whose slots are whose is decided nowhere yet.
    let stale = transact(pair, "protocol.a", &first.membership, name).await?;
    ensure!(matches!(stale, Ended::Aborted { rejoin: true, .. }), "{stale:?}");
    let early = transact(pair, "protocol.b", &b.membership, name).await?;
    ensure!(
        early == Ended::Committed,
        "brokers hold back now what rule (a) holds back: {early:?}"
    );
    tokio::try_join!(sync(&cluster, &a), sync(&cluster, &b))?;
    Ok(())
}

/// The longest that a broker allows: whoever waits for a transaction to time out waits longer than [`WAIT`].
const TIMEOUT_MS: &str = "900000";

fn is_at(stored: &Stored, offset: i64) -> bool {
    matches!(stored, Stored::Offset(stored) if stored.offset == offset)
}

/// A transaction of a client that is no member, with a position in it, left open. Such a request has generation -1
/// and an empty member id.
async fn open_as_nobody(
    kafka: &Kafka,
    id: &str,
    group: &str,
    topic: &str,
    offset: i64,
) -> Result<BaseProducer> {
    let mut producer = kafka.client();
    producer
        .set("transactional.id", id)
        .set("transaction.timeout.ms", TIMEOUT_MS);
    let consumer = kafka.client().set("group.id", group).clone();
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let (producer, consumer): (BaseProducer, BaseConsumer) = (producer.create()?, consumer.create()?);
        producer.init_transactions(WAIT)?;
        producer.begin_transaction()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(offset))?;
        let nobody = consumer.group_metadata().context("no group")?;
        producer.send_offsets_to_transaction(&offsets, &nobody, WAIT)?;
        Ok(producer)
    })
    .await?
}

async fn committed(producer: BaseProducer) -> Result<()> {
    Ok(tokio::task::spawn_blocking(move || producer.commit_transaction(WAIT)).await??)
}

/// Rule (e): whoever names no member and no generation is not fenced, though the group has members.
#[tokio::test]
async fn a_transaction_of_nobody_is_not_fenced() -> Result<()> {
    let kafka = &pair().await?.jp;
    let (cluster, group, topic) = (wire(kafka), "protocol-nobody", "protocol.nobody");
    kafka.create_topic(topic, 1, &[]).await?;
    let member = cluster.join_group(&join(group, "a", None)).await?;
    sync(&cluster, &member).await?;
    committed(open_as_nobody(kafka, "protocol.nobody", group, topic, 5).await?).await?;
    let seen = settled(kafka, group, topic, 0).await?;
    ensure!(is_at(&seen, 5), "{seen:?}");
    // Outside a transaction the coordinator does ask.
    let refused = commit(&cluster, group, Committer::Observer, topic, 6).await;
    ensure!(refused == Err(KafkaCode::UnknownMemberId), "{refused:?}");
    Ok(())
}

/// Rule (f), and what becomes of orphans: while a transaction holds a position nobody is told the one before it;
/// taking the transactional id over ends that at once, not at the transaction's timeout.
#[tokio::test]
async fn a_pending_position_is_not_told_until_its_transaction_ends() -> Result<()> {
    let kafka = &pair().await?.jp;
    let (cluster, group, topic) = (wire(kafka), "protocol-pending", "protocol.pending");
    kafka.create_topic(topic, 1, &[]).await?;
    commit(&cluster, group, Committer::Observer, topic, 1)
        .await
        .map_err(|code| anyhow::anyhow!("{code:?}"))?;
    let open = open_as_nobody(kafka, "protocol.pending", group, topic, 2).await?;
    ensure!(
        position(kafka, group, topic, 0).await? == Stored::Unstable,
        "told while a transaction is open"
    );
    committed(open).await?;
    // With require_stable the first answer after the commit that gives a position gives the new one.
    for offset in 3..20 {
        let seen = settled(kafka, group, topic, 0).await?;
        ensure!(
            is_at(&seen, offset - 1),
            "{seen:?} after {} was committed",
            offset - 1
        );
        committed(open_as_nobody(kafka, "protocol.pending", group, topic, offset).await?).await?;
    }
    let orphan = open_as_nobody(kafka, "protocol.pending", group, topic, 99).await?;
    ensure!(position(kafka, group, topic, 0).await? == Stored::Unstable);
    let started = Instant::now();
    cluster
        .release_transactional_id("protocol.pending", Duration::from_secs(10))
        .await?;
    let seen = settled(kafka, group, topic, 0).await?;
    println!("an orphan was released in {:?}", started.elapsed());
    ensure!(is_at(&seen, 19), "{seen:?}");
    drop(orphan);
    Ok(())
}
