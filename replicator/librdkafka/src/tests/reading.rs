//! What is read when: detached lanes, partitions that are attached again, ends, waits.

use super::*;

/// Source offsets forwarded of a lane, in the order told.
fn forwarded(facts: &[Fact], lane: u32) -> Vec<i64> {
    let mut all = Vec::new();
    for fact in facts {
        if let Fact::Read(run) = fact
            && run.lane.0 == lane
        {
            all.extend(run.forwarded.iter().flat_map(|(from, to)| from.0..to.0));
        }
    }
    all
}

#[test]
fn a_partition_attached_again_goes_on_exactly_where_it_was_told() {
    const COUNT: usize = 20_000;
    let pair = Pair::new(&[("t", 2)]);
    for partition in 0..2 {
        write(&pair.source, "t", partition, &numbered(0, COUNT));
    }
    let mut engine = pair.at_least_once();
    engine
        .attach(vec![spec(0, "t", 0, 0), spec(1, "t", 1, 0)])
        .unwrap();
    let mut random = 88_172_645_463_325_252_u64;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let mut lanes = [0, 1];
    for lane in 2..62 {
        let mut facts = Vec::new();
        for _ in 0..below(4) {
            engine.haul(Duration::from_millis(below(3)), &mut facts).unwrap();
        }
        let start = below(COUNT as u64) as i64;
        let partition = below(2) as usize;
        let old = std::mem::replace(&mut lanes[partition], lane);
        again(&mut engine, old, spec(lane, "t", partition as i32, start));
        let mut facts = Vec::new();
        haul_until(&mut engine, &mut facts, |facts| {
            facts
                .iter()
                .any(|fact| matches!(fact, Fact::Placed(run) if run.lane.0 == lane))
        });
        let order = forwarded(&facts, lane);
        assert!(
            order.iter().zip(start..).all(|(a, b)| *a == b),
            "from {start}: {:?}",
            &order[..3]
        );
        let first = facts.iter().find_map(|fact| match fact {
            Fact::Placed(run) if run.lane.0 == lane => Some(run.first.0),
            _ => None,
        });
        assert_eq!(first, Some(start), "a delivery of an earlier lane was told");
    }
}

#[test]
fn a_detached_lane_says_nothing_more_and_its_partition_starts_anew() {
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, 5_000));
    let mut engine = pair.at_least_once();
    for round in 0..20 {
        engine
            .attach(vec![spec(round, "t", 0, i64::from(round) * 10)])
            .unwrap();
        let mut facts = Vec::new();
        haul_until(&mut engine, &mut facts, |facts| {
            !forwarded(facts, round).is_empty()
        });
        assert_eq!(forwarded(&facts, round)[0], i64::from(round) * 10);
        assert!(
            facts
                .iter()
                .all(|fact| !matches!(fact, Fact::Read(run) if run.lane.0 != round))
        );
        engine.detach(&[Lane(round)]).unwrap();
        facts.clear();
        engine.haul(Duration::from_millis(1), &mut facts).unwrap();
        assert!(forwarded(&facts, round).is_empty());
    }
}

#[test]
fn an_offset_that_does_not_exist_is_told_and_another_start_heals_it() {
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, 10));
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 500)]).unwrap();
    let mut facts = Vec::new();
    let told = |facts: &[Fact]| {
        facts.contains(&Fact::OutOfRange {
            lane: Lane(0),
            at: SourceOffset(500),
        })
    };
    haul_until(&mut engine, &mut facts, told);
    again(&mut engine, 0, spec(1, "t", 0, 3));
    facts.clear();
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 1) == 7);
    assert_eq!(forwarded(&facts, 1), (3..10).collect::<Vec<_>>());
}

#[test]
fn the_end_of_a_partition_is_no_record_and_never_goes_back() {
    let pair = Pair::new(&[("t", 1)]);
    write(&pair.source, "t", 0, &numbered(0, 10));
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 10)]).unwrap();
    let (mut facts, end) = (Vec::new(), Instant::now() + PATIENCE);
    while engine.high_watermark(Lane(0)).is_none() {
        assert!(Instant::now() < end);
        engine.haul(Duration::from_millis(50), &mut facts).unwrap();
    }
    engine.haul(Duration::from_millis(100), &mut facts).unwrap();
    assert!(facts.is_empty(), "{facts:?}");
    assert_eq!(engine.high_watermark(Lane(0)), Some(10));
}

#[test]
fn gaps_are_part_of_runs() {
    let pair = Pair::new(&[("t", 1)]);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 5)]).unwrap();
    let slot = 0;
    for offset in [7, 8, 12] {
        let run = engine.lanes.passed(slot, offset + 1).unwrap();
        crate::lanes::forwarded(run, offset, 1);
    }
    engine.lanes.passed(slot, 20).unwrap();
    let mut facts = Vec::new();
    engine.lanes.tell(&mut facts);
    let [Fact::Read(run)] = &facts[..] else {
        panic!("{facts:?}")
    };
    let ranges: Vec<_> = run.forwarded.iter().map(|(from, to)| (from.0, to.0)).collect();
    assert_eq!((run.first.0, run.next.0, ranges), (5, 20, vec![(7, 9), (12, 13)]));
}

#[test]
fn a_waker_ends_a_wait_and_an_early_call_is_not_lost() {
    let pair = Pair::new(&[("t", 1)]);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    let waker = engine.waker();
    let far = Duration::from_secs(600);
    // Early: before the wait.
    waker.wake();
    let start = Instant::now();
    engine.haul(far, &mut Vec::new()).unwrap();
    waker.wake();
    engine.settle(far, &mut Vec::new()).unwrap();
    // Late: from another thread.
    std::thread::scope(|scope| {
        let waker = engine.waker();
        let waking = scope.spawn(move || waker.wake());
        engine.haul(far, &mut Vec::new()).unwrap();
        waking.join().unwrap();
    });
    assert!(start.elapsed() < PATIENCE);
    drop(engine);
    waker.wake();
}

#[test]
fn a_delivery_ends_the_wait_for_records() {
    let pair = Pair::new(&[("t", 1)]);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    write(&pair.source, "t", 0, &numbered(0, 1));
    let (mut facts, start) = (Vec::new(), Instant::now());
    while placed(&facts, 0) == 0 {
        engine.haul(Duration::from_secs(600), &mut facts).unwrap();
    }
    assert!(start.elapsed() < PATIENCE);
}
