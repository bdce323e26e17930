//! Transactions, as far as the mock plays the coordinator.

use std::sync::atomic::{AtomicBool, Ordering};

use kuroshio_core::engine::{Commit, Ended, EngineError, RefusalKind};
use kuroshio_core::types::Membership;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as E};

use super::*;

fn commit(offset: i64) -> Commit {
    let membership = Membership {
        group: "kuroshio.tw-jp".into(),
        instance: "kuroshio.tw-jp.a.0".into(),
        member: "m-1".into(),
        generation: 3,
    };
    Commit {
        membership,
        positions: vec![(TopicPartition::new("t", 0), at(offset), "1 cluster topic".into())],
    }
}

/// An engine with a transaction open and `count` records forwarded from offset 0.
fn forwarding(pair: &Pair, count: usize) -> (Librdkafka, Vec<Fact>) {
    write(&pair.source, "t", 0, &numbered(0, count));
    forward(pair.exactly_once(), count)
}

fn forward(mut engine: Librdkafka, count: usize) -> (Librdkafka, Vec<Fact>) {
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    engine.begin().unwrap();
    let mut facts = Vec::new();
    haul_until(&mut engine, &mut facts, read_to(count));
    (engine, facts)
}

#[test]
fn a_commit_waits_for_its_records_and_the_next_transaction_goes_on() {
    let pair = Pair::new(&[("t", 1)]);
    let (mut engine, mut facts) = forwarding(&pair, 1_000);
    assert_eq!(engine.commit(&commit(1_000), &mut facts), Ok(Ended::Committed));
    assert_eq!(placed(&facts, 0), 1_000);
    assert_eq!(engine.in_flight_bytes(), 0);
    assert!(
        engine.haul(Duration::ZERO, &mut facts).is_err(),
        "records are read only inside a transaction"
    );
    drop(engine);
    let mut engine = pair.exactly_once();
    engine.attach(vec![spec(1, "t", 0, 1_000)]).unwrap();
    for from in [1_000, 1_010, 1_020] {
        write(&pair.source, "t", 0, &numbered(from, 10));
        engine.begin().unwrap();
        let mut facts = Vec::new();
        haul_until(&mut engine, &mut facts, |facts| placed(facts, 1) == 10);
        assert_eq!(
            engine.commit(&commit(from as i64 + 10), &mut facts),
            Ok(Ended::Committed)
        );
    }
    assert!(read(&pair.target, "t", 0, 1_030).iter().map(born).eq(0..1_030));
}

#[test]
fn an_aborted_lane_is_silent_and_its_partition_starts_anew() {
    let pair = Pair::new(&[("t", 1)]);
    let (mut engine, _) = forwarding(&pair, 1_000);
    engine.abort().unwrap();
    assert_eq!(engine.in_flight_bytes(), 0);
    engine.begin().unwrap();
    write(&pair.source, "t", 0, &numbered(1_000, 10));
    let mut facts = Vec::new();
    for _ in 0..5 {
        engine.haul(Duration::from_millis(50), &mut facts).unwrap();
    }
    assert!(facts.is_empty(), "{facts:?}");
    again(&mut engine, 0, spec(1, "t", 0, 0));
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 1) == 1_010);
    assert_eq!(engine.commit(&commit(1_010), &mut facts), Ok(Ended::Committed));
}

#[test]
fn no_commit_goes_out_without_membership() {
    for (member, generation) in [("", 3), ("m-1", -1)] {
        // One for each: the second engine might read both records at once.
        let pair = Pair::new(&[("t", 1)]);
        let (mut engine, mut facts) = forwarding(&pair, 1);
        let mut commit = commit(1);
        commit.membership.member = member.into();
        commit.membership.generation = generation;
        let ended = engine.commit(&commit, &mut facts);
        assert!(matches!(ended, Err(EngineError::Fatal(_))), "{ended:?}");
    }
}

#[test]
fn a_refused_membership_aborts_and_asks_to_join_again() {
    for error in [
        E::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        E::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        E::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
    ] {
        let pair = Pair::new(&[("t", 1)]);
        // Records may have been placed before the commit, which says so while the transaction is still open.
        let (mut engine, _) = forwarding(&pair, 10);
        pair.target.mock().request_errors(Api::TxnOffsetCommit, &[error]);
        let mut facts = Vec::new();
        let ended = engine.commit(&commit(10), &mut facts);
        assert!(
            matches!(&ended, Ok(Ended::Aborted { rejoin: true, .. })),
            "{ended:?}"
        );
        assert_eq!(
            facts
                .iter()
                .filter(|fact| matches!(fact, Fact::Placed(_)))
                .count(),
            0,
            "aborted: {facts:?}"
        );
        engine.begin().unwrap();
        again(&mut engine, 0, spec(1, "t", 0, 0));
        haul_until(&mut engine, &mut facts, |facts| placed(facts, 1) == 10);
        assert_eq!(engine.commit(&commit(10), &mut facts), Ok(Ended::Committed));
    }
}

#[test]
fn passing_errors_of_the_coordinators_are_waited_out() {
    let pair = Pair::new(&[("t", 1)]);
    let (mut engine, mut facts) = forwarding(&pair, 10);
    let errors = [
        E::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
        E::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    ];
    for api in [Api::TxnOffsetCommit, Api::AddOffsetsToTxn, Api::EndTxn] {
        pair.target.mock().request_errors(api, &errors);
    }
    assert_eq!(engine.commit(&commit(10), &mut facts), Ok(Ended::Committed));
}

#[test]
fn a_refused_record_aborts_its_transaction() {
    let pair = Pair::new(&[("t", 1)]);
    pair.target
        .mock()
        .request_errors(Api::Produce, &[E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let (mut engine, mut facts) = forwarding(&pair, 10);
    let ended = engine.commit(&commit(10), &mut facts);
    assert!(
        matches!(&ended, Ok(Ended::Aborted { rejoin: false, .. })),
        "{ended:?}"
    );
    let refused =
        |fact: &Fact| matches!(fact, Fact::Refused { why, .. } if why.kind == RefusalKind::TooLarge);
    assert!(facts.iter().any(refused), "{facts:?}");
    // librdkafka has counted the refused batch: the next one of this partition comes with a gap, which costs
    // another transaction. It must not cost the transaction's timeout.
    let start = Instant::now();
    for attempt in 0.. {
        engine.begin().unwrap();
        again(&mut engine, attempt, spec(attempt + 1, "t", 0, 0));
        let mut facts = Vec::new();
        haul_until(&mut engine, &mut facts, read_to(10));
        match engine.commit(&commit(10), &mut facts).unwrap() {
            Ended::Committed => break,
            Ended::Aborted { .. } => assert!(attempt < 2),
            ended => panic!("{ended:?}"),
        }
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(read(&pair.target, "t", 0, 10).iter().map(born).eq(0..10));
}

/// What waits behind a refused batch is dropped, and reported before the batch: the refusal was not told, and the transaction was
/// tried again and again.
#[test]
fn a_refusal_is_told_though_records_behind_it_were_dropped_before() {
    refused_on_the_way([100, 100]);
}

/// librdkafka sends a second request of a partition only behind few records. It comes back because of the gap, and its records waited
/// until the abort ran into its time.
#[test]
fn a_request_behind_a_refused_one_does_not_hold_the_abort_up() {
    refused_on_the_way([1, 99]);
}

/// Two batches of so many records follow each other on a slow line, and the first is refused.
fn refused_on_the_way(batches: [usize; 2]) {
    const FIRST: usize = 10;
    let pair = Pair::new(&[("t", 1)]);
    let (mut engine, mut facts) = forwarding(&pair, FIRST);
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 0) == FIRST as u64);
    let mock = pair.target.mock();
    mock.broker_round_trip_time(-1, Duration::from_millis(500))
        .unwrap();
    mock.request_errors(Api::Produce, &[E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let mut end = FIRST;
    for count in batches {
        write(&pair.source, "t", 0, &numbered(end, count));
        end += count;
        haul_until(&mut engine, &mut facts, read_to(end));
    }
    let ended = engine.commit(&commit(end as i64), &mut facts);
    assert!(matches!(&ended, Ok(Ended::Aborted { .. })), "{ended:?}");
    let refused: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Refused { at, .. } => Some(at.0),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [FIRST as i64]);
}

#[test]
fn a_fenced_producer_says_so() {
    let pair = Pair::new(&[("t", 1)]);
    let (mut engine, mut facts) = forwarding(&pair, 10);
    pair.target
        .mock()
        .request_errors(Api::EndTxn, &[E::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    let ended = engine.commit(&commit(10), &mut facts);
    assert!(matches!(&ended, Err(EngineError::Fenced(_))), "{ended:?}");
    assert!(matches!(engine.begin(), Err(EngineError::Fenced(_))));
}

#[test]
fn a_commit_without_an_answer_is_unknown_and_ends_the_engine() {
    let pair = Pair::new(&[("t", 1)]);
    let (mut engine, mut facts) = forwarding(&pair, 10);
    let silence = [E::RD_KAFKA_RESP_ERR__TRANSPORT; 500];
    pair.target.mock().request_errors(Api::EndTxn, &silence);
    let ended = engine.commit(&commit(10), &mut facts);
    assert!(matches!(&ended, Ok(Ended::Unknown { .. })), "{ended:?}");
    assert!(matches!(engine.begin(), Err(EngineError::Rebuild(_))));
}

#[test]
fn without_a_coordinator_an_engine_goes_on_trying_and_says_so() {
    let pair = Pair::new(&[("t", 1)]);
    pair.target.mock().broker_down(-1).unwrap();
    let mut engine = Librdkafka::new(pair.settings(within(Duration::from_secs(5)))).unwrap();
    let (mut facts, end) = (Vec::new(), Instant::now() + PATIENCE);
    let told = |facts: &[Fact]| {
        facts
            .iter()
            .any(|fact| matches!(fact, Fact::Trouble { source: false, .. }))
    };
    while !told(&facts) {
        assert!(Instant::now() < end, "nothing was said: {facts:?}");
        assert_eq!(engine.open(Duration::from_millis(20), &mut facts), Ok(false));
    }
    pair.target.mock().broker_up(-1).unwrap();
    while engine.open(Duration::from_millis(20), &mut facts) != Ok(true) {
        assert!(Instant::now() < end, "it does not open: {facts:?}");
    }
}

/// Waiting for records longer than between two looks at the transaction: the looks leave it as it is.
#[test]
fn a_slow_target_is_waited_for_by_commit_and_abort() {
    let pair = Pair::new(&[("t", 1)]);
    let slow = |ms| {
        pair.target
            .mock()
            .broker_round_trip_time(-1, Duration::from_millis(ms))
            .unwrap();
    };
    let (mut engine, mut facts) = forwarding(&pair, 10);
    slow(400);
    assert_eq!(engine.commit(&commit(10), &mut facts), Ok(Ended::Committed));
    slow(0);
    engine.begin().unwrap();
    write(&pair.source, "t", 0, &numbered(10, 10));
    haul_until(&mut engine, &mut facts, read_to(20));
    slow(400);
    engine.abort().unwrap();
    assert_eq!(engine.in_flight_bytes(), 0);
    slow(0);
    engine.begin().unwrap();
    again(&mut engine, 0, spec(1, "t", 0, 10));
    let mut facts = Vec::new();
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 1) == 10);
    assert_eq!(engine.commit(&commit(20), &mut facts), Ok(Ended::Committed));
}

/// The target does not answer to any more who comes as we came, and who comes otherwise is let in: a transaction had all of its time before the
/// successor was made.
#[test]
fn what_waits_for_the_target_is_left_behind_once_other_credentials_hold() {
    const LONG: Duration = Duration::from_secs(120);
    type Outcome = Result<Ended, EngineError>;
    let commits: fn(&mut Librdkafka) -> Outcome = |engine| engine.commit(&commit(10), &mut Vec::new());
    // Before a record was sent there is nothing to be aborted on the target.
    let aborts: fn(&mut Librdkafka) -> Outcome = |engine| {
        haul_until(engine, &mut Vec::new(), |facts| placed(facts, 0) > 0);
        engine.abort().map(|()| Ended::Committed)
    };
    let lost: fn(&Outcome) -> bool = |ended| matches!(ended, Err(EngineError::Rebuild(_)));
    let unknown: fn(&Outcome) -> bool = |ended| matches!(ended, Ok(Ended::Unknown { .. }));
    for (api, act, expected) in [
        (Api::Produce, commits, lost),
        (Api::AddOffsetsToTxn, commits, lost),
        (Api::TxnOffsetCommit, commits, lost),
        (Api::EndTxn, commits, unknown),
        (Api::EndTxn, aborts, lost),
    ] {
        let pair = Pair::new(&[("t", 1)]);
        write(&pair.source, "t", 0, &numbered(0, 10));
        let mut settings = pair.settings(within(LONG));
        let exchanged = Arc::new(AtomicBool::new(false));
        let hears = Arc::clone(&exchanged);
        settings.outdated = Outdated::new(move || hears.load(Ordering::SeqCst));
        let silence = [E::RD_KAFKA_RESP_ERR__TRANSPORT; 2_000];
        pair.target.mock().request_errors(api, &silence);
        let (mut engine, _) = forward(opened(settings), 10);
        let waits = Instant::now();
        let exchange = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1)); // it waits for the target by now
            exchanged.store(true, Ordering::SeqCst);
        });
        let ended = act(&mut engine);
        assert!(expected(&ended), "{api:?}: {ended:?}");
        exchange.join().unwrap();
        assert!(engine.is_outdated());
        assert_eq!(
            engine.begin(),
            Err(EngineError::Rebuild("other credentials hold".to_owned()))
        );
        assert!(waits.elapsed() < LONG / 2, "{api:?}: {:?}", waits.elapsed());
        engine.retire();
        pair.target.mock().clear_request_errors(api);
        let (mut successor, mut facts) = forward(pair.exactly_once(), 10);
        assert_eq!(successor.commit(&commit(10), &mut facts), Ok(Ended::Committed));
    }
}
