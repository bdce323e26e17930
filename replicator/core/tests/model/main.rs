//! The flow state machine alone, against a naive model, with random transitions: whatever is told in whatever
//! order, its orders make sense, its positions are those that were read, and it comes to rest.
#![allow(
    clippy::too_many_lines,
    reason = "one match over all transitions and one over all orders"
)]
#![allow(unreachable_pub, reason = "the modules of one test binary")]
#![allow(clippy::expect_used, clippy::panic, reason = "all of this is test code")]

mod facts;
mod orders;

use std::collections::BTreeSet;

use kuroshio_core::engine::{BatchForm, Codec, Fact, PlacedRun, ReadRun};
use kuroshio_core::flow::{Assigned, Delivery, Pairing, Phase};
use kuroshio_core::slots::{self, SLOT_COUNT};
use kuroshio_core::types::{Lane, Membership, SourceOffset, TargetOffset};
use proptest::prelude::*;

use facts::{Model, Step, pairing, steps};

fn follow(delivery: Delivery, steps: &[Step]) {
    let mut model = Model::new(delivery);
    model.carry_out();
    for step in steps {
        model.step(*step);
        model.check();
    }
    model.drain();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn exactly_once_follows_the_model(steps in steps()) {
        follow(Delivery::ExactlyOnce, &steps);
    }

    #[test]
    fn at_least_once_follows_the_model(steps in steps()) {
        follow(Delivery::AtLeastOnce, &steps);
    }
}

/// All partitions are ours, and all of them open.
const ALL_OPEN: [Step; 5] = [
    Step::Assigned(15),
    Step::Opened(0),
    Step::Opened(0),
    Step::Opened(0),
    Step::Opened(0),
];

/// Stopped after a join that failed between JoinGroup and SyncGroup: no generation is ours to commit with, and none
/// will be.
#[test]
fn a_stop_without_a_seat_ends() {
    let steps = [
        Step::Assigned(201),
        Step::Opened(0),
        Step::Opened(0),
        Step::Read(20, 1),
        Step::Read(67, 0),
        Step::Joined,
        Step::Catalog(12),
        Step::JoinFailed,
    ];
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        follow(delivery, &steps);
    }
}

/// A record that is refused again would take the transaction of all lanes with it.
#[test]
fn a_refused_lane_is_tried_apart_before_it_is_read_again() {
    let mut model = Model::new(Delivery::ExactlyOnce);
    model.carry_out();
    let go = |model: &mut Model, steps: &[Step]| {
        for step in steps {
            model.step(*step);
            model.check();
        }
    };
    let reads = |model: &Model| model.attached.len();
    go(&mut model, &ALL_OPEN);
    let refused = [Step::Read(0, 255), Step::Read(1, 255), Step::Refused(2)];
    go(&mut model, &refused);
    go(&mut model, &[Step::Opened(0)]);
    assert_eq!((reads(&model), model.trying), (3, None));
    go(&mut model, &[Step::Pass(5_000)]);
    assert!(reads(&model) == 3 && model.trying.is_some());
    // Refused again: not before twice the time.
    go(&mut model, &[Step::Tried(false), Step::Pass(9_999)]);
    assert_eq!((reads(&model), model.trying), (3, None));
    go(&mut model, &[Step::Pass(1)]);
    assert!(model.trying.is_some());
    // Two more are refused meanwhile: one after the other is tried.
    go(
        &mut model,
        &[
            Step::Read(0, 255),
            Step::Refused(2),
            Step::Opened(0),
            Step::Read(0, 255),
            Step::Refused(2),
        ],
    );
    go(&mut model, &[Step::Opened(0), Step::Pass(60_000)]);
    assert_eq!(reads(&model), 1);
    for taken in 2..=4 {
        assert!(model.trying.is_some());
        go(&mut model, &[Step::Tried(true), Step::Opened(0)]);
        assert_eq!(reads(&model), taken);
    }
    assert_eq!(model.trying, None);
    model.drain();
}

/// Without transactions a partition that is bound anew, or given to another process, goes on behind what has arrived: nothing failed, so
/// nothing is copied twice.
#[test]
fn what_leaves_without_transactions_leaves_its_position() {
    let arrived = [Step::Read(0, 255), Step::Placed(0), Step::Placed(0)];
    let anew = |form: BatchForm| {
        (0..4).map(move |partition| Pairing {
            form,
            ..pairing(partition)
        })
    };
    for all in [true, false] {
        let mut model = Model::new(Delivery::AtLeastOnce);
        model.carry_out();
        let steps = ALL_OPEN.iter().chain(&arrived);
        steps.for_each(|step| model.step(*step));
        let (lane, io) = model
            .attached
            .iter()
            .find(|(_, io)| io.next > 0)
            .expect("something was read");
        let (lane, source, next) = (*lane, io.pairing.source.clone(), io.next);
        if all {
            while !model.attached[&lane].in_flight.is_empty() {
                model.place(0);
            }
        }
        model.flow.catalog(model.time(), anew(BatchForm::of(Codec::Zstd)));
        model.carry_out();
        while !model.ghosts.is_empty() {
            model.place(0);
            model.flow.tick(model.time());
            model.carry_out();
        }
        assert!(
            model.opening.values().all(|opening| opening.source != source),
            "its position is not stored yet"
        );
        model.step(Step::Stored(true));
        assert_eq!(model.committed[&source], next);
        assert!(model.opening.values().any(|opening| opening.source == source));
        model.step(Step::Stored(true));
        model.drain();
    }
}

/// The last position of a partition was under way already when it was bound anew: nothing more is stored of it, and nothing more is told.
#[test]
fn what_leaves_goes_with_the_answer_that_its_position_is_stored() {
    let mut model = Model::new(Delivery::AtLeastOnce);
    model.carry_out();
    let go = |model: &mut Model, steps: &[Step]| steps.iter().for_each(|step| model.step(*step));
    go(
        &mut model,
        &[Step::Assigned(1), Step::Opened(0), Step::Read(0, 255)],
    );
    while model.attached.values().any(|io| !io.in_flight.is_empty()) {
        go(&mut model, &[Step::Placed(0)]);
    }
    go(&mut model, &[Step::Pass(1_000)]);
    assert!(model.storing.is_some() && model.opening.is_empty());
    let anew = (0..4).map(|partition| Pairing {
        form: BatchForm::of(Codec::Zstd),
        ..pairing(partition)
    });
    model.flow.catalog(model.time(), anew);
    model.carry_out();
    assert!(model.attached.is_empty() && model.opening.is_empty());
    go(&mut model, &[Step::Stored(true)]);
    assert_eq!((model.storing.is_some(), model.opening.len()), (false, 1));
    go(&mut model, &[Step::Opened(0)]);
    model.drain();
}

/// That a target log was cut only its pump knows; it is not forgotten when batches are to be written otherwise, before anybody looked.
#[test]
fn a_cut_is_known_also_where_the_partition_is_bound_anew() {
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let mut model = Model::new(delivery);
        model.carry_out();
        let steps = [
            Step::Assigned(1),
            Step::Opened(0),
            Step::Cut(0),
            Step::Catalog(255),
        ];
        // Whether the order to open tells of the cut, the model looks at.
        steps.iter().for_each(|step| model.step(*step));
        assert_eq!(
            (model.opening.len(), model.cut.len()),
            (2, 1),
            "once as it was, and anew"
        );
        model.drain();
    }
}

/// What the source does not have any more is told by the position from which a lane is opened again: what was copied before, or is on its way,
/// is not lost.
#[test]
fn a_lane_whose_position_is_gone_is_opened_behind_what_arrives_of_it() {
    let mut model = Model::new(Delivery::AtLeastOnce);
    model.carry_out();
    let go = |model: &mut Model, steps: &[Step]| steps.iter().for_each(|step| model.step(*step));
    go(
        &mut model,
        &[
            Step::Assigned(1),
            Step::Opened(0),
            Step::Read(0, 255),
            Step::Placed(0),
            Step::OutOfRange(0),
        ],
    );
    assert!(model.attached.is_empty() && model.opening.is_empty());
    let next = model.left.values().next().expect("it leaves").next;
    while !model.ghosts.is_empty() {
        assert!(model.opening.is_empty(), "records of it are on their way");
        go(&mut model, &[Step::Placed(0)]);
    }
    // A store may have been under way meanwhile.
    go(&mut model, &[Step::Stored(true), Step::Stored(true)]);
    let source = model
        .opening
        .values()
        .next()
        .expect("it is opened again")
        .source
        .clone();
    assert_eq!(model.committed[&source], next);
    model.drain();
}

/// A record that lands before the end of what is there shows that the log was cut, whatever is in flight; what does not say where it lies shows
/// nothing.
#[test]
fn a_log_that_was_cut_is_looked_at_before_anything_more_is_committed() {
    for (bases, cut) in [
        (&[7, 8, 9][..], None),
        (&[7, 20, 21], None),
        (&[7, 8, 8], Some(8)),
        (&[7, 8, 2], Some(2)),
        (&[7, -1, 0], None),
        (&[7, -1, 20, 19], Some(19)),
    ] {
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            let mut model = Model::new(delivery);
            model.carry_out();
            [Step::Assigned(1), Step::Opened(0)]
                .iter()
                .for_each(|step| model.step(*step));
            let (lane, io) = model.attached.iter().next().expect("it is open");
            let (lane, partition) = (*lane, io.pairing.source.partition);
            for (at, base) in bases.iter().enumerate() {
                // One record, which is forwarded.
                let bits = if at < 3 { 7 } else { 7 << 3 };
                assert!(model.attached.contains_key(&lane), "{bases:?}: it left too early");
                model.ends.insert(partition, *base);
                model.read(0, bits);
                model.place(0);
                model.cut.extend(cut.filter(|cut| cut == base).map(|_| partition));
                model.flow.tick(model.time());
                model.carry_out();
            }
            assert_eq!(model.attached.contains_key(&lane), cut.is_none(), "{bases:?}");
            assert_eq!(model.opening.len(), usize::from(cut.is_some()), "{bases:?}");
            model.step(Step::Opened(0));
            assert_eq!(model.attached.len(), 1);
            model.drain();
        }
    }
}

/// What somebody pauses is finished and left, known to the group, and goes on where it was; told to go on it may lose nothing more than before.
#[test]
fn what_is_paused_stands_still_until_it_is_to_go_on() {
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let mut model = Model::new(delivery);
        model.carry_out();
        let go = |model: &mut Model, steps: &[Step]| steps.iter().for_each(|step| model.step(*step));
        go(
            &mut model,
            &[Step::Assigned(1), Step::Opened(0), Step::Read(0, 255)],
        );
        let (source, next) = {
            let (_, io) = model.attached.iter().next().expect("it is open");
            (io.pairing.source.clone(), io.next)
        };
        go(&mut model, &[Step::Pause(1)]);
        while model.attached.values().any(|io| !io.in_flight.is_empty()) || !model.ghosts.is_empty() {
            model.place(0);
        }
        go(
            &mut model,
            &[
                Step::Pass(1_000),
                Step::CaughtUp,
                Step::Stored(true),
                Step::Opened(0),
            ],
        );
        let phases = |model: &Model| -> Vec<Phase> {
            model.flow.lanes().map(|(_, lane)| lane.phase.clone()).collect()
        };
        assert_eq!((phases(&model), model.attached.len()), (vec![Phase::Paused], 0));
        assert_eq!(model.committed[&source], next, "what was read counts");
        // A seat of another generation changes nothing, nor does a new process.
        go(
            &mut model,
            &[
                Step::SeatLost,
                Step::Assigned(1),
                Step::Opened(0),
                Step::Resume(1),
            ],
        );
        assert_eq!((phases(&model), model.resumed.len()), (vec![Phase::Paused], 0));
        go(&mut model, &[Step::Pause(0)]);
        assert!(model.resumed.is_empty(), "only paused");
        go(&mut model, &[Step::Opened(0)]);
        assert_eq!(model.attached.values().next().map(|io| io.next), Some(next));
        model.drain();
    }
}

/// What stands still is opened at once when somebody wants it to go on, once, and also where it became another lane on the way.
#[test]
fn what_is_resumed_goes_on_whatever_was_lost() {
    let opened = |steps: &[Step]| {
        let mut model = Model::new(Delivery::ExactlyOnce);
        model.carry_out();
        steps.iter().for_each(|step| model.step(*step));
        model.check();
        model.resumed.iter().copied().collect::<Vec<_>>()
    };
    let (seat, failed, resume) = (Step::Assigned(1), Step::OpenFailed(0), Step::Resume(1));
    for (steps, expected) in [
        (vec![seat, failed, resume], vec![0]),
        // The answer is on its way, and finds it told to go on.
        (vec![seat, resume, failed], vec![0]),
        (vec![seat, Step::Opened(0), resume], vec![]),
        (vec![seat, failed, Step::Resume(2)], vec![]),
        // Its target is made in between.
        (
            vec![Step::Target(0), seat, failed, Step::Target(2), failed, resume],
            vec![0],
        ),
        (
            vec![
                Step::Target(0),
                seat,
                Step::Clerk(false),
                failed,
                resume,
                Step::Target(2),
                Step::Clerk(true),
            ],
            vec![0],
        ),
        // Only once.
        (
            vec![seat, failed, resume, failed, Step::Pass(60_000), Step::CaughtUp],
            vec![],
        ),
        // It may be another pod's meanwhile.
        (
            vec![
                seat,
                failed,
                Step::Clerk(false),
                resume,
                Step::SeatLost,
                seat,
                Step::Clerk(true),
            ],
            vec![],
        ),
    ] {
        assert_eq!(opened(&steps), expected, "{steps:?}");
    }
}

/// Facts that cannot be true end the process: what it holds is not known any more.
#[test]
fn impossible_facts_halt() {
    let open = |steps: &[Step]| {
        let mut model = Model::new(Delivery::ExactlyOnce);
        model.carry_out();
        steps.iter().for_each(|step| model.step(*step));
        model
    };
    let running = [Step::Assigned(15), Step::Opened(0), Step::Read(0, 255)];
    let lane = |model: &Model| *model.attached.keys().next().expect("a lane is attached");
    let halts = |mut model: Model, fact: Fact| {
        model.flow.engine(model.time(), &fact);
        model.carry_out();
        assert!(model.halted.is_some(), "{fact:?} is believed");
        assert!(!model.flow.may_read());
    };
    let run = |lane: Lane, first: i64, next: i64| {
        let (first, next) = (SourceOffset(first), SourceOffset(next));
        let (forwarded, skipped) = (Vec::new(), Vec::new());
        Fact::Read(ReadRun {
            lane,
            first,
            next,
            forwarded,
            skipped,
            bytes: 0,
            leader_epoch: None,
        })
    };
    let model = open(&running);
    let next = model.attached[&lane(&model)].next;
    let known = lane(&model);
    halts(model, run(known, next + 1, next + 2));
    halts(open(&running), run(known, 0, 1));
    halts(open(&running), run(Lane(99), 0, 1));
    let (first, base) = (SourceOffset(50), TargetOffset(0));
    let placed = PlacedRun {
        lane: known,
        first,
        base,
        count: 1,
        bytes: 1,
        oldest_timestamp: None,
    };
    halts(open(&running), Fact::Placed(placed));

    let mut model = open(&[]);
    let membership = Membership {
        generation: -1,
        ..model.membership()
    };
    let (slot_count, slots) = (SLOT_COUNT, BTreeSet::new());
    model.flow.assigned(
        model.time(),
        Assigned {
            membership,
            slot_count,
            slots,
            given_up: BTreeSet::new(),
            awaited: false,
        },
    );
    model.carry_out();
    assert!(model.halted.is_some(), "(e) a membership without generation");
}

/// The holder that was killed between its join and its sync comes back with nothing to give up; the others
/// would wait for it until the next rebalance.
#[test]
fn a_restarted_holder_knows_that_others_wait() {
    let member = |name: &str, slots: &[u16]| slots::Member {
        id: name.to_owned(),
        subscription: slots::Subscription {
            transactional_id: name.to_owned(),
            claims: (!slots.is_empty()).then(|| slots::Claims {
                generation: 1,
                slot_count: 4,
                slots: slots.iter().copied().map(slots::Slot).collect(),
            }),
            fingerprint: 1,
            incarnation: 1,
        },
    };
    let members = [member("a", &[0, 1, 2, 3]), member("b", &[])];
    let round = slots::Round {
        members: &members,
        leader: "a",
        weights: &[],
        previous: None,
        fresh: false,
    };
    let first = slots::assign(&round);
    assert!(first.awaits("a") && !first.awaits("b"), "{first:?}");

    let members = [member("a", &[]), member("b", &[])];
    let second = slots::assign(&slots::Round {
        members: &members,
        previous: Some(&first),
        ..round
    });
    assert!(!second.awaits("a") && !second.awaits("b"), "{second:?}");
    assert!(
        second.slots.iter().all(|share| share.owner.is_some()),
        "{second:?}"
    );
}
