//! How lanes leave: nothing of them counts twice, and nothing is lost that has arrived.

use super::Flow;
use super::lane::{Exit, Farewell, LaneState, Phase};
use super::orders::{Delivery, Order, Pairing};
use crate::types::{Lane, Time};

impl Flow {
    /// Lanes that must leave do so as soon as no open transaction holds records of them.
    pub(super) fn let_go(&mut self, now: Time) {
        let going: Vec<Lane> = self
            .lanes
            .iter()
            .filter(|(lane, state)| {
                (state.exit.is_some() || state.is_to_pause() || !self.owned.contains(&state.slot))
                    && state.phase != Phase::Leaving
                    && !self.holds(**lane)
            })
            .map(|(lane, _)| *lane)
            .collect();
        let mut detached = Vec::new();
        for lane in going {
            let bound = self.bound(lane);
            let owes = self
                .lanes
                .get(&lane)
                .is_some_and(|state| state.is_attached() && self.owes(state));
            let Some(state) = self.lanes.get_mut(&lane) else {
                continue;
            };
            if state.is_attached() {
                detached.push(lane);
            }
            // After a refusal nothing more of it is placed: nothing is waited for.
            let stays_on = !state.is_refused() && (owes || state.window.in_flight() > 0);
            let Some(bound) = bound else {
                if stays_on {
                    (state.phase, state.exit) = (Phase::Leaving, None);
                } else {
                    self.forget(lane);
                }
                continue;
            };
            match state.exit.take() {
                // What arrives of it counts, or it would be counted as lost, or copied, once more.
                Some(Exit::Reopen | Exit::Anew) | None if stays_on => state.phase = Phase::Leaving,
                // What was refused is tried apart first, however it is written now.
                Some(Exit::Anew) if matches!(state.phase, Phase::Quarantined { .. }) => {
                    state.pairing = bound;
                    state.retry(now);
                }
                Some(Exit::Reopen | Exit::Cut | Exit::Anew) | None => self.again(lane, bound),
                Some(Exit::Refused(at, why)) => {
                    state.refused = Some(at);
                    state.quarantine(now, why);
                    self.renumber(lane, bound);
                }
                Some(Exit::Unreadable(why)) => {
                    state.quarantine(now, why);
                    self.renumber(lane, bound);
                }
            }
        }
        // An attach that was not carried out yet must not outlive its detach.
        if !detached.is_empty() {
            for order in &mut self.orders {
                if let Order::Attach(lanes) = order {
                    lanes.retain(|(lane, ..)| !detached.contains(lane));
                }
            }
            self.orders.push_back(Order::Detach(detached));
        }
        self.part(now);
    }

    /// Lanes that leave are gone once nothing of them is in flight and their last position is stored.
    fn part(&mut self, now: Time) {
        if self.lanes.values().any(|state| self.bids_farewell(state)) {
            self.batch.hurry = true;
            self.end_batch(now);
        }
        let gone: Vec<Lane> = self
            .lanes
            .iter()
            .filter(|(_, state)| state.has_arrived() && !self.owes(state))
            .map(|(lane, _)| *lane)
            .collect();
        for lane in gone {
            match self.bound(lane) {
                Some(bound) => self.again(lane, bound),
                None => self.forget(lane),
            }
        }
    }

    /// What the lane binds now, if it goes on: the partition is ours, and the same ones are meant on both sides.
    fn bound(&self, lane: Lane) -> Option<Pairing> {
        let state = self.lanes.get(&lane).filter(|_| self.owns(lane))?;
        let (entry, _) = self.catalog.get(&state.pairing.source)?;
        state.pairing.means(entry).then(|| entry.clone())
    }

    /// It is opened again, with what is known of it: that its target log was cut nobody else knows.
    fn again(&mut self, lane: Lane, bound: Pairing) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            (state.phase, state.exit, state.farewell) = (Phase::New, None, Farewell::Owed);
        }
        self.renumber(lane, bound);
    }

    /// Whether the last position of a lane that leaves can be stored, and was not given to be.
    pub(super) fn bids_farewell(&self, state: &LaneState) -> bool {
        state.has_arrived() && state.farewell == Farewell::Owed && self.owes(state)
    }

    /// Whether the last position of a lane that leaves is to be stored: whoever opens its partition next shall copy nothing again. Only while
    /// the partition is surely nobody else's: it would be put back. Without a seat nobody stores anything.
    fn owes(&self, state: &LaneState) -> bool {
        self.settings.delivery == Delivery::AtLeastOnce
            && self.committer().is_some()
            && (self.owned.contains(&state.slot) || self.given_up.contains(&state.slot))
            && state.is_unstored()
            && state.farewell != Farewell::Done
    }

    pub(super) fn forget(&mut self, lane: Lane) {
        if let Some(state) = self.lanes.remove(&lane) {
            self.by_source.remove(&state.pairing.source);
        }
    }

    /// A lane that is opened again is another one: what is still told of records that were in flight must not
    /// count for those that are read again.
    fn renumber(&mut self, lane: Lane, bound: Pairing) {
        if let Some(mut state) = self.lanes.remove(&lane) {
            state.take_back();
            state.pairing = bound;
            let new = Lane(self.next_lane);
            self.next_lane += 1;
            self.by_source.insert(state.pairing.source.clone(), new);
            self.lanes.insert(new, state);
        }
    }
}
