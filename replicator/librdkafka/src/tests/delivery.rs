//! What becomes of records on the way to the target.

use kuroshio_core::engine::{EngineError, RefusalKind};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as E};

use super::*;

#[test]
fn passing_errors_lose_double_and_reorder_nothing() {
    const COUNT: usize = 3_000;
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, COUNT));
    pair.target.mock().request_errors(
        Api::Produce,
        &[
            E::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            E::RD_KAFKA_RESP_ERR__TRANSPORT,
            E::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            E::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    );
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    let mut facts = Vec::new();
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 0) == COUNT as u64);
    let copies = read(&pair.target, "t", 0, COUNT);
    assert!(copies.iter().map(born).eq(0..COUNT as i64));
    let mut next = (0, 0);
    for run in facts.iter().filter_map(|fact| {
        if let Fact::Placed(run) = fact {
            Some(run)
        } else {
            None
        }
    }) {
        assert_eq!(
            (run.first.0, run.base.0),
            next,
            "runs follow each other on both sides"
        );
        next = (next.0 + run.count as i64, next.1 + run.count as i64);
    }
    assert_eq!(engine.in_flight_bytes(), 0);
}

#[test]
fn a_refused_record_is_named_and_nothing_behind_it_is_written() {
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, 2_000));
    pair.target
        .mock()
        .request_errors(Api::Produce, &[E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    let (mut facts, end) = (Vec::new(), Instant::now() + PATIENCE);
    let error = loop {
        assert!(Instant::now() < end, "{facts:?}");
        if let Err(error) = engine.haul(Duration::from_millis(50), &mut facts) {
            break error;
        }
    };
    assert!(
        matches!(&error, EngineError::Rebuild(why) if why.contains("GAPLESS")),
        "{error:?}"
    );
    let refused = facts.iter().find_map(|fact| match fact {
        Fact::Refused { lane, at, why } => Some((lane.0, at.0, why.kind)),
        _ => None,
    });
    assert_eq!(refused, Some((0, 0, RefusalKind::TooLarge)));
    assert_eq!(placed(&facts, 0), 0);
    assert_eq!(
        facts
            .iter()
            .filter(|fact| matches!(fact, Fact::Refused { .. }))
            .count(),
        1
    );
    drop(engine);
    // Another engine copies everything, from the start: the log has nothing of the first.
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(1, "t", 0, 0)]).unwrap();
    haul_until(&mut engine, &mut Vec::new(), |facts| placed(facts, 1) == 2_000);
    assert!(read(&pair.target, "t", 0, 2_000).iter().map(born).eq(0..2_000));
}

#[test]
fn a_missing_target_partition_is_refused_while_others_go_on() {
    let pair = Pair::new(&[("t", 1)]);
    pair.source.create_topic("wide", 2).unwrap();
    pair.target.create_topic("wide", 1).unwrap();
    write(&pair.source, "wide", 1, &numbered(0, 10));
    write(&pair.source, "t", 0, &numbered(0, 10));
    let mut engine = pair.at_least_once();
    engine
        .attach(vec![spec(0, "wide", 1, 0), spec(1, "t", 0, 0)])
        .unwrap();
    let mut facts = Vec::new();
    haul_until(&mut engine, &mut facts, |facts| {
        let missing = |fact: &Fact| matches!(fact, Fact::Refused { lane: Lane(0), why, .. } if why.kind == RefusalKind::TargetMissing);
        facts.iter().any(missing) && placed(facts, 1) == 10
    });
    assert_eq!(placed(&facts, 0), 0);
}

#[test]
fn memory_in_flight_is_bounded_and_slots_are_used_again() {
    const COUNT: usize = 60_000;
    let mut pair = Pair::new(&[("t", 2)]);
    pair.memory = 16 << 20;
    for partition in 0..2 {
        write(&pair.source, "t", partition, &numbered(0, COUNT / 2));
    }
    // A slow target, so that records pile up.
    pair.target
        .mock()
        .broker_round_trip_time(-1, Duration::from_millis(30))
        .unwrap();
    let mut engine = pair.at_least_once();
    engine
        .attach(vec![spec(0, "t", 0, 0), spec(1, "t", 1, 0)])
        .unwrap();
    let (mut facts, mut most, end) = (Vec::new(), 0, Instant::now() + PATIENCE);
    while placed(&facts, 0) + placed(&facts, 1) < COUNT as u64 {
        assert!(Instant::now() < end);
        engine.haul(Duration::from_millis(100), &mut facts).unwrap();
        most = most.max(engine.in_flight_bytes());
    }
    assert!(most > 0 && most < 8 << 20, "{most}");
    // 8 MiB of about 860 bytes with overhead, and one batch more.
    assert!(engine.in_flight.slots() < 14_000, "{}", engine.in_flight.slots());
    assert_eq!(engine.in_flight_bytes(), 0);
}

#[test]
fn what_a_detached_lane_had_in_flight_is_told() {
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, 3_000));
    pair.target
        .mock()
        .broker_round_trip_time(-1, Duration::from_millis(100))
        .unwrap();
    let mut engine = pair.at_least_once();
    for (lane, start) in [(0, 0), (1, 1_000)] {
        engine.attach(vec![spec(lane, "t", 0, start)]).unwrap();
        let mut facts = Vec::new();
        haul_until(&mut engine, &mut facts, |facts| {
            facts.iter().any(|fact| matches!(fact, Fact::Read(_)))
        });
        engine.detach(&[Lane(lane)]).unwrap();
        assert!(engine.in_flight_bytes() > 0);
        let read = |fact: &Fact| match fact {
            Fact::Read(run) => (run.next.0 - run.first.0) as u64,
            _ => 0,
        };
        let count = facts.iter().map(read).sum::<u64>();
        let end = Instant::now() + PATIENCE;
        while placed(&facts, lane) < count {
            assert!(Instant::now() < end, "{} of {count}", placed(&facts, lane));
            engine.settle(Duration::from_millis(100), &mut facts).unwrap();
        }
        assert_eq!(engine.in_flight_bytes(), 0);
    }
}

#[test]
fn an_engine_dropped_with_records_in_flight_leaves_cleanly() {
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, 5_000));
    pair.target
        .mock()
        .broker_round_trip_time(-1, Duration::from_millis(200))
        .unwrap();
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    haul_until(&mut engine, &mut Vec::new(), |facts| {
        facts.iter().any(|fact| matches!(fact, Fact::Read(_)))
    });
    assert!(engine.in_flight_bytes() > 0);
}

/// A record that waits behind others in flight must not make librdkafka's thread look for it again and again.
#[test]
fn a_far_target_is_waited_for_without_a_busy_loop() {
    const PART: usize = 200;
    let pair = Pair::new(&[("t", 1)]);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    let mut facts = Vec::new();
    let mut parts = (0..3).map(|part| write(&pair.source, "t", 0, &numbered(part * PART, PART)));
    // The first lets librdkafka connect; then one is on its way, and the third waits for it.
    parts.next();
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 0) == PART as u64);
    pair.target
        .mock()
        .broker_round_trip_time(-1, Duration::from_secs(1))
        .unwrap();
    for end in [2 * PART, 3 * PART] {
        parts.next();
        haul_until(&mut engine, &mut facts, read_to(end));
    }
    let before = native::wakeups(&engine.producer);
    haul_until(&mut engine, &mut facts, |facts| {
        placed(facts, 0) == 3 * PART as u64
    });
    let wakeups = native::wakeups(&engine.producer) - before;
    assert!(wakeups < 1_000, "the threads went round {wakeups} times");
}
