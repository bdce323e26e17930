//! How lanes leave: nothing of them counts twice, and nothing is lost that has arrived.

use super::Flow;
use super::lane::{Exit, Farewell, LaneState, Phase};
use super::orders::{Delivery, Order};
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
            let stays = self.owns(lane) && self.selects(lane);
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
            let exit = if stays {
                state.exit.take()
            } else {
                Some(Exit::Dropped)
            };
            match exit {
                None if stays_on => state.phase = Phase::Leaving,
                // It is to stand still.
                Some(Exit::Reopen | Exit::Cut) | None => {
                    state.phase = Phase::New;
                    self.renumber(lane);
                }
                Some(Exit::Refused(at, why)) => {
                    state.refused = Some(at);
                    state.quarantine(now, why);
                    self.renumber(lane);
                }
                Some(Exit::Unreadable(why)) => {
                    state.quarantine(now, why);
                    self.renumber(lane);
                }
                Some(Exit::Dropped) if stays_on => state.phase = Phase::Leaving,
                Some(Exit::Dropped) => self.forget(lane),
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
            self.forget(lane);
        }
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
    fn renumber(&mut self, lane: Lane) {
        if let Some(mut state) = self.lanes.remove(&lane) {
            state.take_back();
            let new = Lane(self.next_lane);
            self.next_lane += 1;
            self.by_source.insert(state.pairing.source.clone(), new);
            self.lanes.insert(new, state);
        }
    }
}
