//! The librdkafka engine against real brokers: what its mock cannot show (fencing, aborted records, transaction
//! markers).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kuroshio_core::engine::{BatchForm, Codec, Commit, Ended, Engine, EngineError, Fact, LaneSpec};
use kuroshio_core::origin::{Forward, Guard};
use kuroshio_core::types::{Copies, Lane, Membership, Position, SourceOffset, TopicPartition};
use kuroshio_integration::{Cluster as Kafka, Ledger, Load, pair};
use kuroshio_librdkafka::{ClientSettings, Delivery, Librdkafka, Outdated, Security, Settings};
use kuroshio_wire::{Cluster, Join, Stored};

use crate::protocol::sync;
use crate::regions::{WAIT, join, on_all, settled, wire};

pub(crate) fn engine(source: &Kafka, target: &Kafka, delivery: Delivery) -> Result<Librdkafka> {
    let client = |kafka: &Kafka| ClientSettings {
        alias: kafka.alias().into(),
        properties: BTreeMap::from([("bootstrap.servers".to_owned(), kafka.bootstrap().to_owned())]),
        security: Security::default(),
    };
    let mut engine = Librdkafka::new(Settings {
        flow: "engine".into(),
        source: client(source),
        target: client(target),
        delivery,
        memory_bytes: 64 << 20,
        rack: None,
        outdated: Outdated::default(),
    })?;
    let end = Instant::now() + WAIT;
    while !engine.open(Duration::from_millis(100), &mut Vec::new())? {
        ensure!(Instant::now() < end, "the engine does not open");
    }
    Ok(engine)
}

pub(crate) fn exactly_once(id: &str) -> Delivery {
    Delivery::ExactlyOnce {
        transactional_id: id.into(),
        transaction_timeout: Duration::from_secs(10),
    }
}

pub(crate) fn spec(lane: u32, from: &str, to: &str, topic: &str, start: i64) -> Result<LaneSpec> {
    Ok(LaneSpec {
        lane: Lane(lane),
        source: TopicPartition::new(topic, 0),
        target_topic: topic.into(),
        start: at(start),
        guard: Arc::new(Guard::new(from, topic, 0, to, topic, Forward::Local)?),
        form: BatchForm::of(Codec::Lz4),
    })
}

pub(crate) fn at(offset: i64) -> Position {
    Position {
        offset: SourceOffset(offset),
        leader_epoch: Some(0),
        copies: Copies::default(),
    }
}

fn commit(membership: &Membership, topic: &str, offset: i64) -> Commit {
    let position = (
        TopicPartition::new(topic, 0),
        at(offset),
        "1 cluster topic".into(),
    );
    Commit {
        membership: membership.clone(),
        positions: vec![position],
    }
}

/// Joins a group by ourselves and applies its assignment.
async fn member(cluster: &Cluster, group: &str) -> Result<Membership> {
    let join = Join {
        session_timeout: Duration::from_secs(30), // nobody beats
        ..join(group, "engine", None)
    };
    let joined = cluster.join_group(&join).await?;
    sync(cluster, &joined).await?;
    Ok(joined.membership)
}

/// Hauls until the lane has read up to `next`.
pub(crate) fn haul(engine: &mut Librdkafka, next: i64) -> Result<Vec<Fact>> {
    let (mut facts, end) = (Vec::new(), Instant::now() + WAIT);
    let read = |facts: &[Fact]| {
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::Read(run) if run.next.0 >= next))
    };
    while !read(&facts) {
        ensure!(Instant::now() < end, "{next} was not reached: {facts:?}");
        engine.haul(Duration::from_millis(200), &mut facts)?;
    }
    Ok(facts)
}

/// The topic from its first record, as the pump reads it again after an abort: as a lane with another number.
fn again(engine: &mut Librdkafka, old: u32, new: u32) -> Result<()> {
    let lane = spec(new, "tw", "jp", FENCES, 0)?;
    engine.detach(&[Lane(old)])?;
    Ok(engine.attach(vec![lane])?)
}

const FENCES: &str = "engine-fences";

#[tokio::test]
async fn engine_commits_once_and_its_fences_hold() -> Result<()> {
    const COUNT: u64 = 2_000;
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    on_all(&[tw, jp], FENCES, 1).await?;
    let ledger = Ledger::new(7);
    let load = Load {
        records: COUNT,
        partitions: 1,
        rate: None,
    };
    ledger.produce(tw, FENCES, load).await?;
    let end = i64::try_from(COUNT)?;

    let group = "kuroshio.engine-fences";
    let membership = member(&wire(jp), group).await?;

    // A generation that was never ours: nothing of the transaction counts.
    let mut first = engine(tw, jp, exactly_once("kuroshio.engine-fences"))?;
    first.attach(vec![spec(0, "tw", "jp", FENCES, 0)?])?;
    first.begin()?;
    let mut facts = haul(&mut first, end)?;
    let stale = Membership {
        generation: membership.generation + 7,
        ..membership.clone()
    };
    let ended = first.commit(&commit(&stale, FENCES, end), &mut facts)?;
    ensure!(matches!(&ended, Ended::Aborted { rejoin: true, .. }), "{ended:?}");
    let stored = settled(jp, group, FENCES, 0).await?;
    ensure!(stored == Stored::Nothing, "{stored:?} after the abort");

    // With our own: all of it, once, with the position.
    first.begin()?;
    again(&mut first, 0, 1)?;
    let mut facts = haul(&mut first, end)?;
    let ended = first.commit(&commit(&membership, FENCES, end), &mut facts)?;
    ensure!(ended == Ended::Committed, "{ended:?}");
    let stored = settled(jp, group, FENCES, 0).await?;
    ensure!(
        matches!(&stored, Stored::Offset(offset) if offset.offset == end && &*offset.metadata == "1 cluster topic"),
        "{stored:?} after the commit"
    );

    // Another engine takes the transactional id over while the first has a transaction open.
    first.begin()?;
    again(&mut first, 1, 2)?;
    let mut facts = haul(&mut first, end)?;
    let second = engine(tw, jp, exactly_once("kuroshio.engine-fences"))?;
    let ended = first.commit(&commit(&membership, FENCES, end), &mut facts);
    ensure!(matches!(&ended, Err(EngineError::Fenced(_))), "{ended:?}");
    drop((first, second));

    ledger
        .compare(jp, FENCES, &[("tw", FENCES)], WAIT)
        .await?
        .assert_exact();

    // Back again nothing is copied, and the position passes the aborted records and the markers.
    let mut back = engine(jp, tw, Delivery::AtLeastOnce)?;
    back.attach(vec![spec(0, "jp", "tw", FENCES, 0)?])?;
    let deadline = Instant::now() + WAIT;
    let (mut facts, mut next) = (Vec::new(), 0);
    while back.high_watermark(Lane(0)).is_none_or(|high| next < high) {
        ensure!(
            Instant::now() < deadline,
            "{next} of {:?}",
            back.high_watermark(Lane(0))
        );
        back.haul(Duration::from_millis(200), &mut facts)?;
        for fact in facts.drain(..) {
            if let Fact::Read(run) = fact {
                ensure!(run.forwarded.is_empty() && run.first.0 == next, "{run:?}");
                next = run.next.0;
            }
        }
    }
    ensure!(next > end, "{next} records, aborted ones and markers");
    Ok(())
}

/// Rule (e): brokers take a position without generation or member id unfenced, so the engine does not send it.
#[tokio::test]
async fn engine_does_not_commit_for_nobody() -> Result<()> {
    const TOPIC: &str = "engine-nobody";
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    on_all(&[tw, jp], TOPIC, 1).await?;
    let load = Load {
        records: 10,
        partitions: 1,
        rate: None,
    };
    Ledger::new(9).produce(tw, TOPIC, load).await?;
    let group = "kuroshio.engine-nobody";
    let known = member(&wire(jp), group).await?;
    let nobodies = [
        Membership {
            generation: -1,
            ..known.clone()
        },
        Membership {
            member: "".into(),
            ..known.clone()
        },
    ];
    for nobody in nobodies {
        let mut engine = engine(tw, jp, exactly_once("kuroshio.engine-nobody"))?;
        engine.attach(vec![spec(0, "tw", "jp", TOPIC, 0)?])?;
        engine.begin()?;
        let mut facts = haul(&mut engine, 1)?;
        let ended = engine.commit(&commit(&nobody, TOPIC, 1), &mut facts);
        ensure!(
            matches!(&ended, Err(EngineError::Fatal(why)) if why.contains("without membership")),
            "{nobody:?}: {ended:?}"
        );
    }
    let stored = settled(jp, group, TOPIC, 0).await?;
    ensure!(stored == Stored::Nothing, "{stored:?}");
    Ok(())
}

#[tokio::test]
async fn engine_survives_a_refused_record() -> Result<()> {
    const TOPIC: &str = "engine-refused";
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    tw.create_topic(TOPIC, 1, &[]).await?;
    jp.create_topic(TOPIC, 1, &[("max.message.bytes", "1000")])
        .await?;
    let load = Load {
        records: 500,
        partitions: 1,
        rate: None,
    };
    Ledger::new(8).produce(tw, TOPIC, load).await?;
    for delivery in [exactly_once("kuroshio.engine-refused"), Delivery::AtLeastOnce] {
        let transactional = delivery != Delivery::AtLeastOnce;
        let mut engine = engine(tw, jp, delivery)?;
        engine.attach(vec![spec(0, "tw", "jp", TOPIC, 0)?])?;
        if transactional {
            engine.begin()?;
        }
        let (mut facts, end) = (Vec::new(), Instant::now() + WAIT);
        let mut fault = None;
        while !facts.iter().any(|fact| matches!(fact, Fact::Refused { .. })) {
            ensure!(Instant::now() < end && fault.is_none(), "{facts:?} {fault:?}");
            fault = engine.haul(Duration::from_millis(100), &mut facts).err();
        }
        ensure!(
            !facts.iter().any(|fact| matches!(fact, Fact::Placed(_))),
            "{facts:?}"
        );
        if transactional {
            engine.abort()?;
        } else {
            ensure!(matches!(fault, Some(EngineError::Rebuild(_))), "{fault:?}");
        }
    }
    Ok(())
}
