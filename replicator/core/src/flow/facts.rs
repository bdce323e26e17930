//! What the flow is told.

use super::lane::{Exit, Farewell, LaneState, Phase};
use super::orders::{Assigned, Delivery, Order, Pairing, Quarantine};
use super::{Batch, Flow, Seat};
use crate::engine::{Ended, Fact, PlacedRun, ReadRun, Refusal, RefusalKind};
use crate::slots::slot_of;
use crate::types::{Lane, Position, TargetOffset, Time, TopicPartition};

impl Flow {
    // ---- facts: topics ----

    /// The partitions that the routes select now, whoever owns them.
    pub fn catalog(&mut self, now: Time, pairings: impl IntoIterator<Item = Pairing>) {
        let count = self.slot_count;
        let slotted = |p: Pairing| (slot_of(&p.source.topic, p.source.partition, count), p);
        self.catalog = pairings
            .into_iter()
            .map(slotted)
            .map(|(slot, p)| (p.source.clone(), (p, slot)))
            .collect();
        for state in self.lanes.values_mut() {
            let entry = self
                .catalog
                .get(&state.pairing.source)
                .map(|(pairing, _)| pairing);
            if let Some(entry) = entry {
                state.pause(entry.paused);
            }
            if entry == Some(&state.pairing) || state.phase == Phase::Leaving {
                continue;
            }
            let exit = state.exit_to(entry);
            state.leave_by(exit);
        }
        self.restless = true;
        self.advance(now);
    }

    /// Somebody wants partitions to go on that are quarantined, whatever was lost: they are tried at once.
    pub fn resume(&mut self, now: Time, wanted: impl Fn(&TopicPartition) -> bool) {
        let standing = |state: &&mut LaneState| {
            let stands = match state.phase {
                Phase::Quarantined { .. } => true,
                // Of what is only paused nobody has said that it may lose something.
                Phase::New | Phase::Opening => !state.pairing.paused,
                Phase::Running | Phase::Paused | Phase::Leaving => false,
            };
            stands && wanted(&state.pairing.source)
        };
        for state in self.lanes.values_mut().filter(standing) {
            self.resumed.insert(state.pairing.source.clone());
            state.retry(now);
        }
        self.restless = true;
        self.advance(now);
    }

    // ---- facts: membership ----

    /// The coordinator says that the group rebalances. A join that is under way answers it: a second one would
    /// carry claims that the first one's assignment has made old.
    pub fn rebalancing(&mut self, now: Time) {
        self.seat.join_wanted |= !self.seat.joining;
        self.advance(now);
    }

    /// The join that was ordered ended without an assignment: cut short by another rebalance, or refused.
    pub fn join_failed(&mut self, now: Time) {
        self.seat.joining = false;
        self.seat.join_wanted = true;
        self.advance(now);
    }

    /// JoinGroup was answered: the broker already counts in a new generation.
    pub fn joined(&mut self, now: Time) {
        self.seat.held = true;
        self.advance(now);
    }

    /// SyncGroup was answered.
    pub fn assigned(&mut self, now: Time, assigned: Assigned) {
        if assigned.membership.generation < 0 || assigned.membership.member.is_empty() {
            self.halt("the coordinator assigned slots without a generation or a member id".to_owned());
            return;
        }
        self.seat.held = true;
        self.seat.joining = false;
        self.seat.doubted = false;
        self.seat.pending = Some(assigned);
        self.advance(now);
    }

    /// The coordinator no longer knows us: everything is lost, nothing is claimed. A join that is under way goes
    /// on, and ends in `assigned` or `join_failed`.
    pub fn seat_lost(&mut self, now: Time) {
        let joining = self.seat.joining;
        self.seat = Seat {
            joining,
            join_wanted: !joining,
            doubted: self.seat.doubted,
            ..Seat::default()
        };
        self.owned.clear();
        self.given_up.clear();
        self.resumed.clear();
        self.restless = true;
        self.advance(now);
    }

    // ---- facts: lanes ----

    /// A lane's position was read or its start committed.
    pub fn opened(&mut self, now: Time, lane: Lane, start: &Position) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && state.phase == Phase::Opening
        {
            state.start_at(start);
            if state.is_attached() {
                let attach = (lane, state.pairing.clone(), start.clone());
                match self.orders.back_mut() {
                    Some(Order::Attach(lanes)) => lanes.push(attach),
                    _ => self.orders.push_back(Order::Attach(vec![attach])),
                }
            }
        }
        self.restless = true;
        self.advance(now);
    }

    /// A lane cannot be opened for now.
    pub fn open_failed(&mut self, now: Time, lane: Lane, why: Quarantine) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && state.phase == Phase::Opening
        {
            state.quarantine(now, why);
            if self.resumed.contains(&state.pairing.source) {
                // It was told to go on while this answer was on its way.
                state.retry(now);
            }
        }
        self.restless = true;
        self.advance(now);
    }

    /// A lane's start could not be committed because our generation has passed: ask again.
    pub fn open_stale(&mut self, now: Time, lane: Lane) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && state.phase == Phase::Opening
        {
            state.phase = Phase::New;
        }
        self.restless = true;
        self.advance(now);
    }

    /// A refused lane was tried: the target takes its records now, or still does not.
    pub fn tried(&mut self, now: Time, lane: Lane, outcome: Result<(), Quarantine>) {
        self.trying = false;
        if let Some(state) = self.lanes.get_mut(&lane)
            && matches!(state.phase, Phase::Quarantined { trial: true, .. })
        {
            match outcome {
                Ok(()) => (state.phase, state.refused) = (Phase::New, None),
                Err(why) => state.quarantine(now, why),
            }
        }
        self.restless = true;
        self.advance(now);
    }

    /// The target log of a lane ends here, although copies lay behind it.
    pub fn target_cut(&mut self, now: Time, lane: Lane, at: TargetOffset) {
        // One that was opened again since has another number.
        if let Some(state) = self.lanes.get_mut(&lane).filter(|s| s.phase == Phase::Running) {
            state.cut_at(at);
        }
        self.restless = true;
        self.advance(now);
    }

    /// Something that the engine tells. What follows from it is ordered at the next `tick` or `caught_up`.
    pub fn engine(&mut self, now: Time, fact: &Fact) {
        match fact {
            Fact::Read(run) => self.read(now, run),
            Fact::Placed(run) => self.placed(run),
            Fact::Refused { lane, at, why } => self.leave(*lane, Exit::Refused(*at, refusal(why))),
            Fact::OutOfRange { lane, .. } => self.leave(*lane, Exit::Reopen),
            Fact::Unreadable { lane, why } => {
                self.leave(
                    *lane,
                    Exit::Unreadable(Quarantine {
                        reason: "unreadable",
                        text: why.clone(),
                    }),
                );
            }
            Fact::Trouble { .. } => {}
        }
    }

    /// The engine was asked for records and had no more: what is open may be committed at once.
    pub fn caught_up(&mut self, now: Time) {
        if self.settings.delivery == Delivery::ExactlyOnce {
            self.batch.hurry |= self.batch.since.is_some();
        }
        self.advance(now);
    }

    /// The open transaction ended.
    pub fn ended(&mut self, now: Time, how: &Ended, positions: Vec<(Lane, Position)>) {
        let batch = std::mem::take(&mut self.batch);
        match how {
            Ended::Committed => {
                for (lane, position) in positions {
                    let Some(state) = self.lanes.get_mut(&lane) else {
                        continue;
                    };
                    if state.window.in_flight() > 0 {
                        let (source, floor) = (&state.pairing.source, state.floor());
                        let at = position.offset;
                        let why =
                            format!("{source} was committed up to {at} with records in flight from {floor}");
                        self.halt(why);
                        return;
                    }
                    state.committed_at(position);
                }
            }
            Ended::Aborted { rejoin, .. } => {
                self.take_back(&batch.lanes);
                self.seat.join_wanted |= *rejoin && !self.seat.joining;
            }
            Ended::Unknown { .. } => self.take_back(&batch.lanes),
        }
        self.restless = true;
        self.advance(now);
    }

    /// These positions were stored (at_least_once); those of the order that are missing were refused.
    pub fn stored(&mut self, now: Time, positions: Vec<(Lane, Position)>) {
        self.batch.storing = false;
        for (lane, position) in positions {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.committed_at(position);
            }
        }
        // Also of those that were not given this time: what was stored before they left may have been their last position.
        for state in self.lanes.values_mut().filter(|s| s.phase == Phase::Leaving) {
            self.restless = true;
            if state.farewell == Farewell::Given {
                state.farewell = Farewell::Done;
            }
        }
        self.advance(now);
    }

    /// The engine was built anew: nothing is in flight and nothing is attached.
    pub fn rebuilt(&mut self, now: Time) {
        self.batch = Batch {
            storing: self.batch.storing,
            hurry: self.stopping,
            ..Batch::default()
        };
        self.orders.retain(|order| {
            matches!(
                order,
                Order::Join { .. } | Order::Try { .. } | Order::Store { .. }
            )
        });
        let attached = self
            .lanes
            .iter()
            .filter(|(_, s)| s.is_attached())
            .map(|(l, _)| *l)
            .collect();
        self.take_back(&attached);
        for state in self.lanes.values_mut().filter(|s| s.phase == Phase::Leaving) {
            state.take_back();
        }
        self.restless = true;
        self.advance(now);
    }

    /// The engine's producer was fenced; another engine was built, which is not open. Either another process has our
    /// name: then the group says so when we join again. Or the coordinator ended a transaction that took too long, or
    /// who took our slots over ended it: then we go on with what the group gives us.
    pub fn fenced(&mut self, now: Time) {
        self.seat.doubted = true;
        self.seat.held = true;
        self.seat.join_wanted |= !self.seat.joining;
        self.rebuilt(now);
    }

    /// Finish what is open, then own nothing more.
    pub fn stop(&mut self, now: Time) {
        self.stopping = true;
        self.batch.hurry = true;
        self.restless = true;
        self.advance(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.advance(now);
    }

    fn read(&mut self, now: Time, run: &ReadRun) {
        let Some(state) = self
            .lanes
            .get_mut(&run.lane)
            .filter(|s| s.phase == Phase::Running)
        else {
            self.halt(format!(
                "the engine read lane {} which it was not given",
                run.lane.0
            ));
            return;
        };
        if let Err(fault) = state.window.read(run.first, run.next, &run.forwarded) {
            let source = state.pairing.source.clone();
            self.halt(format!("{source}: {fault}"));
            return;
        }
        state.leader_epoch = run.leader_epoch.or(state.leader_epoch);
        if self.settings.delivery == Delivery::ExactlyOnce {
            self.batch.lanes.insert(run.lane);
        }
        self.batch.bytes += run.bytes;
        self.batch.moved.get_or_insert(now);
        if !run.forwarded.is_empty() {
            self.batch.since.get_or_insert(now);
            self.batch.hurry |= self.batch.bytes >= self.settings.commit_bytes;
        }
    }

    fn placed(&mut self, run: &PlacedRun) {
        // A lane that left with a refusal, or was given away, may still hear of what was in flight.
        let moving = |s: &&mut LaneState| matches!(s.phase, Phase::Running | Phase::Leaving);
        let Some(state) = self.lanes.get_mut(&run.lane).filter(moving) else {
            return;
        };
        state.placed(run);
        self.restless |= state.phase == Phase::Leaving || state.cut.is_some();
        if let Err(fault) = state.window.placed(run.first, run.count) {
            let source = state.pairing.source.clone();
            self.halt(format!("{source}: {fault}"));
        }
    }

    fn leave(&mut self, lane: Lane, exit: Exit) {
        if let Some(state) = self.lanes.get_mut(&lane).filter(|s| s.phase == Phase::Leaving)
            && matches!(exit, Exit::Refused(..))
        {
            // Nothing more of it is placed: whoever waits for that would wait for ever.
            state.take_back();
            self.restless = true;
        }
        if let Some(state) = self.lanes.get_mut(&lane).filter(|s| s.phase == Phase::Running) {
            state.leave_by(exit);
            self.restless = true;
        }
    }
}

/// The quarantine of a lane of which the target refused a record.
#[must_use]
pub fn refusal(why: &Refusal) -> Quarantine {
    Quarantine {
        reason: refusal_label(why.kind),
        text: why.text.clone(),
    }
}

/// Metric label of a refusal.
#[must_use]
pub const fn refusal_label(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::TooLarge => "too_large",
        RefusalKind::Timestamp => "timestamp",
        RefusalKind::NotAuthorized => "not_authorized",
        RefusalKind::Invalid => "invalid",
        RefusalKind::TargetMissing => "target_missing",
        RefusalKind::Other => "other",
    }
}
