//! What the model looks for in the flow's orders and state.

use std::collections::BTreeSet;

use kuroshio_core::engine::Ended;
use kuroshio_core::flow::{Delivery, Order, Phase};
use kuroshio_core::types::{Lane, Membership, Position, TopicPartition};

use crate::facts::{Attached, Model, Step, slot};

impl Model {
    pub fn carry_out(&mut self) {
        let kept = |partition: &i32| {
            let mut lanes = self.flow.lanes();
            lanes.any(|(_, state)| state.pairing.source.partition == *partition)
        };
        // Who loses a lane forgets what was refused of it, and that its log was cut.
        let keep = |known: &BTreeSet<i32>| known.iter().copied().filter(kept).collect();
        (self.refused, self.cut) = (keep(&self.refused), keep(&self.cut));
        while let Some(order) = self.flow.next_order(self.flow.may_open(), self.clerk) {
            match order {
                Order::Join { claims } => {
                    assert!(!self.joining, "(c) a join after a join");
                    (self.joining, self.owes_join) = (true, false);
                    let leaving = self.flow.lanes().any(|(_, state)| state.phase == Phase::Leaving);
                    assert!(!leaving, "(b) joins with records of a given up slot in flight");
                    let claims = claims.map(|claims| claims.slots).unwrap_or_default();
                    assert!(claims.is_subset(&self.slots), "(c) claims what it was not given");
                    let holds = |lane: &Lane| {
                        !self
                            .slots
                            .contains(&slot(self.attached[lane].pairing.source.partition))
                    };
                    assert!(
                        !self.attached.keys().any(holds),
                        "(b) joins while it moves what it gives up"
                    );
                }
                Order::Open {
                    lanes,
                    resumed,
                    cuts,
                    membership,
                } => {
                    self.resumed.clear();
                    assert!(self.clerk, "opens lanes while nobody is free for that");
                    self.may_commit(&membership);
                    for (lane, pairing) in lanes {
                        assert!(
                            self.slots.contains(&slot(pairing.source.partition)),
                            "opens what it does not own"
                        );
                        assert!(
                            self.selected.contains(&pairing.source.partition),
                            "opens what is not selected"
                        );
                        assert_eq!(pairing.target_id, self.target, "opens what is another topic now");
                        self.resumed
                            .extend(resumed.contains(&lane).then_some(pairing.source.partition));
                        let cut = self.cut.contains(&pairing.source.partition);
                        assert_eq!(cuts.contains_key(&lane), cut, "{}: was it cut?", pairing.source);
                        self.opening.insert(lane, pairing);
                    }
                }
                Order::Try {
                    lane,
                    pairing,
                    start,
                    refused,
                } => {
                    let partition = pairing.source.partition;
                    assert!(
                        self.slots.contains(&slot(partition)),
                        "tries what it does not own"
                    );
                    assert!(self.refused.contains(&partition), "tries what was not refused");
                    assert!(start.offset <= refused, "tries too little");
                    assert!(self.trying.is_none(), "tries two at once");
                    self.trying = Some((lane, partition));
                }
                Order::Attach(lanes) => {
                    for (lane, pairing, start) in lanes {
                        assert!(
                            self.slots.contains(&slot(pairing.source.partition)),
                            "attaches what it does not own"
                        );
                        let twice = self
                            .attached
                            .values()
                            .any(|io| io.pairing.source == pairing.source);
                        assert!(!twice, "{} is attached twice", pairing.source);
                        assert!(
                            !self.refused.contains(&pairing.source.partition),
                            "reads {} again, which was refused and not tried apart",
                            pairing.source
                        );
                        assert!(
                            !self.paused.contains(&pairing.source.partition),
                            "reads {}, which is to stand still",
                            pairing.source
                        );
                        assert!(self.used.insert(lane), "{lane:?} is used again");
                        let (next, in_flight) = (start.offset.0, BTreeSet::new());
                        self.attached.insert(
                            lane,
                            Attached {
                                pairing,
                                next,
                                in_flight,
                                refused: false,
                                cut: false,
                            },
                        );
                    }
                }
                Order::Detach(lanes) => {
                    for lane in lanes {
                        assert!(
                            !self.open || !self.moved.contains(&lane),
                            "detaches what the transaction holds"
                        );
                        let Some(io) = self.attached.remove(&lane) else {
                            continue;
                        };
                        if self.delivery == Delivery::AtLeastOnce && !io.refused {
                            self.ghosts.extend(io.in_flight.iter().map(|at| (lane, *at)));
                            self.left.insert(lane, io);
                        }
                    }
                }
                Order::Begin => {
                    assert!(!self.open, "begins twice");
                    (self.open, self.begun) = (true, self.begun + 1);
                }
                Order::Commit {
                    membership,
                    positions,
                } => self.commit(&membership, &positions),
                Order::Abort => self.end(
                    &Ended::Aborted {
                        why: String::new(),
                        rejoin: false,
                    },
                    &[],
                ),
                Order::Store {
                    membership,
                    positions,
                } => {
                    assert_eq!(self.delivery, Delivery::AtLeastOnce);
                    self.may_commit(&membership);
                    assert!(self.storing.is_none(), "stores twice");
                    for (lane, _) in &positions {
                        let source = &self
                            .flow
                            .lane(*lane)
                            .expect("it is one of its lanes")
                            .pairing
                            .source;
                        let slot = slot(source.partition);
                        let own = self.slots.contains(&slot) || self.given_up.contains(&slot);
                        assert!(own, "stores {source}, which may be another's");
                    }
                    self.storing = Some(
                        positions
                            .iter()
                            .map(|(lane, at)| self.checked(*lane, at))
                            .collect(),
                    );
                }
                Order::Halt(why) => self.halted = Some(why),
            }
        }
    }

    pub fn may_commit(&self, membership: &Membership) {
        assert!(!self.held, "(a) commits between join and sync");
        assert_eq!(
            membership.generation, self.generation,
            "(a) commits with a generation that is not applied"
        );
        assert!(self.flow.seat().0.is_some(), "(a) commits without a membership");
    }

    /// A position of a lane must be at most what is settled of it.
    pub fn checked(&self, lane: Lane, at: &Position) -> (Lane, TopicPartition, i64) {
        let io = self
            .attached
            .get(&lane)
            .or_else(|| self.left.get(&lane))
            .unwrap_or_else(|| panic!("commits {lane:?}, which is neither attached nor left"));
        let settled = io.in_flight.first().copied().unwrap_or(io.next);
        assert!(
            at.offset.0 <= settled,
            "no_record_is_lost: {} commits {} of {settled}",
            io.pairing.source,
            at.offset
        );
        (lane, io.pairing.source.clone(), at.offset.0)
    }

    pub fn commit(&mut self, membership: &Membership, positions: &[(Lane, Position)]) {
        assert!(self.open, "commits without a transaction");
        self.may_commit(membership);
        let lanes: BTreeSet<Lane> = positions.iter().map(|(lane, _)| *lane).collect();
        assert_eq!(lanes, self.moved, "commits other lanes than moved");
        for (lane, at) in positions {
            let io = &self.attached[lane];
            assert_eq!(at.offset.0, io.next, "commits another position than was read");
            assert!(
                self.slots.contains(&slot(io.pairing.source.partition)),
                "commits what it does not own"
            );
            // Nobody looks at the target of what is not selected.
            let looked_at = self.selected.contains(&io.pairing.source.partition);
            assert!(
                !looked_at || io.pairing.target_id == self.target,
                "commits into a topic that is not there any more"
            );
            assert!(!io.refused, "no_record_is_lost: commits past a refused record");
            assert!(!io.cut, "no_record_is_lost: commits what lies behind a gap");
        }
        let how = match self.fate % 8 {
            0..=4 => Ended::Committed,
            5 => Ended::Aborted {
                why: String::new(),
                rejoin: true,
            },
            6 => Ended::Aborted {
                why: String::new(),
                rejoin: false,
            },
            _ => Ended::Unknown { why: String::new() },
        };
        // A transaction of unknown outcome may have been committed.
        if how == Ended::Committed || self.fate == 7 {
            for (lane, at) in positions {
                self.committed
                    .insert(self.attached[lane].pairing.source.clone(), at.offset.0);
            }
        }
        if how == Ended::Committed {
            // The engine waits for its records before it commits.
            let rest: Vec<(Lane, i64)> = lanes
                .iter()
                .flat_map(|l| self.attached[l].in_flight.iter().map(|at| (*l, *at)))
                .collect();
            for (lane, at) in rest {
                self.placed(lane, at);
            }
        }
        self.end(&how, positions);
    }

    pub fn end(&mut self, how: &Ended, positions: &[(Lane, Position)]) {
        assert!(self.open, "ends without a transaction");
        (self.open, self.over) = (false, self.over + 1);
        self.moved.clear();
        // Committed, all is placed; else all is dropped.
        self.attached.values_mut().for_each(|io| io.in_flight.clear());
        let positions = if *how == Ended::Committed {
            positions.to_vec()
        } else {
            Vec::new()
        };
        self.flow.ended(self.time(), how, positions);
    }

    pub fn check(&mut self) {
        assert_eq!(self.halted, None, "halted by facts that can be");
        assert_eq!(
            self.begun - self.over,
            u32::from(self.open),
            "a transaction was begun and not ended"
        );
        let running: BTreeSet<Lane> = self
            .flow
            .lanes()
            .filter(|(_, s)| s.phase == Phase::Running)
            .map(|(lane, _)| lane)
            .collect();
        let attached: BTreeSet<Lane> = self.attached.keys().copied().collect();
        if self.flow.may_open() {
            assert_eq!(running, attached, "the engine has other lanes than the flow");
        } else {
            assert!(attached.is_empty(), "an engine that may not open has lanes");
        }
        if !self.open && self.flow.may_open() {
            let paused = |io: &&Attached| self.paused.contains(&io.pairing.source.partition);
            assert_eq!(
                self.attached.values().filter(paused).count(),
                0,
                "goes on although paused"
            );
        }
        for (lane, io) in &self.attached {
            let floor = io.in_flight.first().copied().unwrap_or(io.next);
            let known = self.flow.lane(*lane).expect("running").floor().0;
            assert_eq!(known, floor, "the floor of {lane:?}");
        }
        // A wake that is over would come again and again, with nothing to do.
        self.flow.tick(self.time());
        self.carry_out();
        let applied = self
            .flow
            .seat()
            .0
            .is_some_and(|seat| seat.generation == self.generation);
        let leaving: Vec<Lane> = self
            .flow
            .lanes()
            .filter(|(_, state)| state.phase == Phase::Leaving)
            .map(|(lane, _)| lane)
            .collect();
        let in_flight = |lane: &Lane| self.ghosts.iter().any(|(ghost, _)| ghost == lane);
        assert!(
            self.held || self.storing.is_some() || leaving.iter().all(in_flight),
            "leaves, and waits for nothing: {leaving:?}"
        );
        let leaving = !leaving.is_empty();
        assert!(
            !self.owes_join || !applied || leaving || self.stopping,
            "others wait for it to join again"
        );
        if let Some(wake) = self.flow.next_wake() {
            assert!(
                wake > self.time(),
                "wakes at {wake:?}, which is over at {:?}",
                self.time()
            );
        }
    }

    /// In a world that answers everything, stopping ends.
    pub fn drain(&mut self) {
        self.fate = 0;
        self.stopping = true;
        self.flow.stop(self.time());
        self.carry_out();
        for _ in 0..60 {
            self.check();
            if self.flow.is_drained() {
                return;
            }
            for step in [
                Step::Joined,
                Step::Assigned(15),
                Step::Stored(true),
                Step::Pass(200),
            ] {
                self.step(step);
            }
            while self
                .attached
                .values()
                .any(|io| !io.refused && !io.in_flight.is_empty())
                || !self.ghosts.is_empty()
            {
                self.place(0);
            }
            self.flow.tick(self.time());
            self.carry_out();
        }
        panic!("does not drain: {:?}", self.flow);
    }
}
