//! What follows from what was told: the order of things in the life of a pump.

use std::collections::{BTreeMap, BTreeSet};

use super::lane::{Exit, Farewell, LaneState, Phase};
use super::orders::{Delivery, Order, Pairing};
use super::{Batch, BatchState, Flow, QUIET_INTERVALS};
use crate::slots::{Claims, Slot, slot_of};
use crate::types::{Lane, Membership, Position, Time, TopicPartition};

impl Flow {
    pub(super) fn advance(&mut self, now: Time) {
        if self.halted {
            return;
        }
        self.end_batch(now);
        if self.batch.state == BatchState::Ending {
            return;
        }
        self.apply_assignment();
        if self.batch.state == BatchState::Ending {
            return;
        }
        if self.restless || self.retry_at.is_some_and(|at| at <= now) {
            self.restless = false;
            self.let_go(now);
            if !self.stopping {
                self.open(now);
            }
            self.retry_at = self.earliest_retry();
        }
        self.join_if_wanted();
        if !self.stopping {
            self.begin();
        }
    }

    /// Commits what is due, or aborts what can no longer be committed.
    pub(super) fn end_batch(&mut self, now: Time) {
        let exactly_once = self.settings.delivery == Delivery::ExactlyOnce;
        if exactly_once && self.batch.state == BatchState::Open {
            let unowned = self.batch.lanes.iter().any(|lane| !self.owns(*lane));
            let spoiled = self.batch.lanes.iter().any(|lane| self.is_spoiled(*lane));
            let hold_over = self
                .batch
                .since
                .is_some_and(|t| now.since(t) >= self.settings.hold_limit);
            let stop_now = self.stopping && self.committer().is_none();
            if unowned || spoiled || ((hold_over || stop_now) && self.committer().is_none()) {
                self.abort();
                return;
            }
        }
        let wanted = self.batch.hurry || self.seat.join_wanted || self.due().is_some_and(|t| t <= now);
        if !wanted {
            return;
        }
        let Some(membership) = self.committer() else {
            return;
        };
        match self.settings.delivery {
            Delivery::ExactlyOnce if self.batch.state == BatchState::Open => {
                let positions: Vec<_> = self
                    .batch
                    .lanes
                    .iter()
                    .filter_map(|l| Some((*l, self.lanes.get(l)?.next())))
                    .collect();
                if positions.is_empty() && !self.stopping {
                    self.batch.hurry = false;
                } else if positions.is_empty() {
                    self.abort();
                } else {
                    self.batch.state = BatchState::Ending;
                    self.orders.push_back(Order::Commit {
                        membership,
                        positions,
                    });
                }
            }
            Delivery::AtLeastOnce if !self.batch.storing => {
                let positions = self.unstored();
                for (lane, _) in &positions {
                    if let Some(state) = self.lanes.get_mut(lane).filter(|s| s.phase == Phase::Leaving) {
                        state.farewell = Farewell::Given;
                    }
                }
                let in_flight = (self.in_flight() > 0).then_some(now);
                self.batch = Batch {
                    state: self.batch.state,
                    hurry: self.stopping,
                    since: in_flight,
                    moved: in_flight,
                    ..Batch::default()
                };
                if !positions.is_empty() {
                    self.batch.storing = true;
                    self.orders.push_back(Order::Store {
                        membership,
                        positions,
                    });
                }
            }
            Delivery::ExactlyOnce | Delivery::AtLeastOnce => {}
        }
    }

    pub(super) fn apply_assignment(&mut self) {
        let Some(assigned) = self
            .seat
            .pending
            .take_if(|_| self.batch.state != BatchState::Ending)
        else {
            return;
        };
        let exactly_once = self.settings.delivery == Delivery::ExactlyOnce;
        let given_up: BTreeSet<Slot> = self.owned.difference(&assigned.slots).copied().collect();
        let ends_with_them = |lane: &Lane| {
            self.lanes
                .get(lane)
                .is_some_and(|state| given_up.contains(&state.slot))
        };
        if exactly_once && self.batch.state == BatchState::Open && self.batch.lanes.iter().any(ends_with_them)
        {
            self.seat.pending = Some(assigned);
            self.abort();
            return;
        }
        self.divide(assigned.slot_count);
        let awaited = assigned.awaited || !given_up.is_empty();
        (self.owned, self.given_up) = (assigned.slots, assigned.given_up);
        let (owned, count) = (&self.owned, self.slot_count);
        self.resumed
            .retain(|source| owned.contains(&slot_of(&source.topic, source.partition, count)));
        self.seat.membership = Some(assigned.membership);
        self.seat.held = false;
        // Two phases: what was taken from us is nobody's until we join again without it.
        self.seat.join_wanted |= awaited;
        self.restless = true;
    }

    /// The partitions are divided into another number of slots than was thought.
    fn divide(&mut self, slot_count: u16) {
        if slot_count == self.slot_count {
            return;
        }
        self.slot_count = slot_count;
        let slot = |source: &TopicPartition| slot_of(&source.topic, source.partition, slot_count);
        for (source, entry) in &mut self.catalog {
            entry.1 = slot(source);
        }
        for state in self.lanes.values_mut() {
            state.slot = slot(&state.pairing.source);
        }
    }

    pub(super) fn join_if_wanted(&mut self) {
        let leaving = self.lanes.values().any(|state| state.phase == Phase::Leaving);
        let busy = self.seat.joining || self.seat.pending.is_some() || leaving || self.stopping;
        if !self.seat.join_wanted || busy {
            return;
        }
        self.seat.join_wanted = false;
        self.seat.joining = true;
        let claims = self.seat.membership.as_ref().map(|m| Claims {
            generation: m.generation,
            slot_count: self.slot_count,
            slots: self.owned.clone(),
        });
        self.orders.push_back(Order::Join { claims });
    }

    pub(super) fn open(&mut self, now: Time) {
        let new: Vec<(Pairing, Slot)> = self
            .catalog
            .values()
            .filter(|(p, slot)| self.owned.contains(slot) && !self.by_source.contains_key(&p.source))
            .cloned()
            .collect();
        for (pairing, slot) in new {
            let lane = Lane(self.next_lane);
            self.next_lane += 1;
            self.by_source.insert(pairing.source.clone(), lane);
            self.lanes.insert(lane, LaneState::new(pairing, slot));
        }
        self.release(now);
        self.unopened = true;
    }

    /// Quarantined lanes whose time has come. One whose record was refused would take the transaction of all others with it, or without
    /// transactions the whole engine, if it is refused again: it is tried by itself first, one after the other.
    fn release(&mut self, now: Time) {
        for (lane, state) in &mut self.lanes {
            let Phase::Quarantined { retry_at, trial, .. } = &mut state.phase else {
                continue;
            };
            if *trial || *retry_at > now {
                continue;
            }
            match (state.refused, &state.committed) {
                (Some(refused), Some(start)) => {
                    if !self.trying {
                        (self.trying, *trial) = (true, true);
                        self.orders.push_back(Order::Try {
                            lane: *lane,
                            pairing: state.pairing.clone(),
                            start: start.clone(),
                            refused,
                        });
                    }
                }
                _ => state.phase = Phase::New,
            }
        }
    }

    /// The lanes to open, as they are wanted at the moment at which somebody can open them.
    pub(super) fn order_to_open(&mut self) -> Option<Order> {
        if !self.unopened || self.stopping || self.halted {
            return None;
        }
        let membership = self.committer()?;
        self.unopened = false;
        let (mut lanes, mut resumed, mut cuts) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
        for (lane, state) in &mut self.lanes {
            if state.phase == Phase::New {
                state.phase = Phase::Opening;
                lanes.push((*lane, state.pairing.clone()));
                if self.resumed.remove(&state.pairing.source) {
                    resumed.insert(*lane);
                }
                cuts.extend(state.cut.map(|at| (*lane, at)));
            }
        }
        (!lanes.is_empty()).then_some(Order::Open {
            lanes,
            resumed,
            cuts,
            membership,
        })
    }

    pub(super) fn begin(&mut self) {
        let attached = self.lanes.values().any(LaneState::is_attached);
        if self.batch.state == BatchState::Closed && attached {
            self.batch.state = BatchState::Open;
            if self.settings.delivery == Delivery::ExactlyOnce {
                self.orders.push_back(Order::Begin);
            }
        }
    }

    /// What was forwarded does not count: these lanes start again from their committed positions.
    pub(super) fn take_back(&mut self, lanes: &BTreeSet<Lane>) {
        for lane in lanes {
            if let Some(state) = self.lanes.get_mut(lane).filter(|s| s.phase == Phase::Running) {
                state.take_back();
                state.exit.get_or_insert(Exit::Reopen);
            }
        }
    }

    pub(super) fn abort(&mut self) {
        self.batch.state = BatchState::Ending;
        self.orders.push_back(Order::Abort);
    }

    pub(super) fn halt(&mut self, why: String) {
        self.halted = true;
        self.orders.clear();
        self.orders.push_back(Order::Halt(why));
    }

    /// Rule (a): who may commit now.
    pub(super) fn committer(&self) -> Option<Membership> {
        self.seat.membership.clone().filter(|_| !self.seat.held)
    }

    pub(super) fn due(&self) -> Option<Time> {
        let forwarded = self.batch.since.map(|t| t + self.settings.commit_interval);
        let quiet = self
            .batch
            .moved
            .map(|t| t + self.settings.commit_interval * QUIET_INTERVALS);
        forwarded.into_iter().chain(quiet).min()
    }

    fn earliest_retry(&self) -> Option<Time> {
        // While one is tried the others that were refused wait for its end, not for a time.
        let waits = |state: &LaneState| self.trying && state.refused.is_some();
        let retries = self.lanes.values().filter_map(|state| match state.phase {
            Phase::Quarantined { retry_at, .. } if !waits(state) => Some(retry_at),
            _ => None,
        });
        retries.min()
    }

    pub(super) fn owns(&self, lane: Lane) -> bool {
        self.lanes
            .get(&lane)
            .is_some_and(|state| self.owned.contains(&state.slot))
    }

    fn is_spoiled(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_some_and(LaneState::is_spoiled)
    }

    /// Whether an open transaction has records or a position of the lane.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.settings.delivery == Delivery::ExactlyOnce
            && self.batch.state != BatchState::Closed
            && self.batch.lanes.contains(&lane)
    }

    pub(super) fn unstored(&self) -> Vec<(Lane, Position)> {
        self.lanes
            .iter()
            .filter(|(_, state)| {
                state.phase == Phase::Running && state.is_unstored() || self.bids_farewell(state)
            })
            .map(|(lane, state)| (*lane, state.settled()))
            .collect()
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.lanes.values().map(|state| state.window.in_flight()).sum()
    }
}
