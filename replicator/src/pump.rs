//! The pump: one thread that moves the records of the lanes it owns. It carries facts to the flow and orders
//! to the engine and to the slow tasks beside it; it decides nothing.

mod batches;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::engine::{Commit, Ended, Engine, EngineError, Fact, Hauled, LaneSpec};
use kuroshio_core::flow::{Delivery, Flow, Order, Pairing};
use kuroshio_core::throttle::Throttle;
use kuroshio_core::types::{Lane, Membership, Position, Time};
use tokio::sync::mpsc;

use batches::Batches;
pub use parts::{Errands, Limit, News, OpenErrand, PumpError, PumpParts, StoreErrand};

use crate::metrics::Outcome;
use crate::trial::TrialErrand;

/// Longest wait in the engine: the liveness probe reads how long ago the loop came round.
const LOOP: Duration = Duration::from_millis(500);

/// Longest wait for an engine that gets ready: news are heard in between.
const OPENING: Duration = Duration::from_millis(10);

/// Shortest and longest wait before clients that never got ready are built anew.
const REBUILD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Longest wait for deliveries where nothing may be read, and the shortest where that is so for less.
const SETTLING: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1));

/// How often the view for status and metrics is renewed.
const VIEW: Duration = Duration::from_millis(500);

/// One pump.
struct Pump<E, F> {
    parts: PumpParts<F>,
    flow: Flow,
    engine: E,
    /// The engine is ready to move records.
    open: bool,
    /// It has no memory for more: what it does not bring says nothing of the source.
    full: bool,
    /// Before the next rebuild; grows until an engine opens.
    pause: Duration,
    facts: Vec<Fact>,
    pairings: HashMap<Lane, Pairing>,
    throttle: Throttle,
    batches: Batches,
    viewed: Time,
}

/// Runs a pump until it is told to stop; tells `ended` how that went *before* the engine is dropped, because
/// ending its clients may take seconds.
pub fn run<E: Engine, F: FnMut() -> Result<E, EngineError>>(
    mut parts: PumpParts<F>,
    ended: impl FnOnce(Result<(), PumpError>),
) {
    let engine = match parts.engine() {
        Ok(engine) => engine,
        Err(error) => return ended(Err(error)),
    };
    let flow = Flow::new(parts.settings.clone());
    let batches = Batches::new(
        parts.desk.flow(),
        Arc::clone(&parts.name),
        parts.settings.delivery,
    );
    let mut pump = Pump {
        parts,
        flow,
        engine,
        open: false,
        full: false,
        pause: Duration::ZERO,
        facts: Vec::new(),
        pairings: HashMap::new(),
        throttle: Throttle::default(),
        batches,
        viewed: Time::default(),
    };
    ended(pump.run());
}

impl<E: Engine, F: FnMut() -> Result<E, EngineError>> Pump<E, F> {
    /// Moves records until told to stop; then drains and returns.
    fn run(&mut self) -> Result<(), PumpError> {
        loop {
            self.parts.pulse.beat();
            if self.engine.is_outdated() {
                // What is open is taken back and copied again: its clients will not be let in much longer.
                self.batches.lost(&"other credentials");
                self.rebuild()?;
            }
            self.hear()?;
            self.carry_out()?;
            // What was open is lost with clients that are gone; the next process copies it again.
            let given_up = !self.open && self.parts.stop.is_cancelled();
            if given_up || self.flow.is_drained() {
                self.show(true);
                return Ok(());
            }
            if self.open {
                self.haul()?;
            } else {
                self.get_ready()?;
            }
            self.show(false);
        }
    }

    fn now(&self) -> Time {
        Time::at(self.parts.started.elapsed())
    }

    fn hear(&mut self) -> Result<(), PumpError> {
        loop {
            let news = match self.parts.news.try_recv() {
                Ok(news) => news,
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                // Every task beside us is gone: the process is ending.
                Err(mpsc::error::TryRecvError::Disconnected) => News::Stop,
            };
            let now = self.now();
            let stopping = matches!(news, News::Stop);
            match news {
                News::Catalog(pairings) => self.flow.catalog(now, pairings.iter().cloned()),
                News::Resume(scope) => self.flow.resume(now, |source| scope.covers(source)),
                News::Rebalancing => self.flow.rebalancing(now),
                News::JoinFailed => self.flow.join_failed(now),
                News::Joined => self.flow.joined(now),
                News::Assigned(assigned) => {
                    tracing::info!(
                        flow = %self.parts.desk.flow(), pump = %self.parts.name, generation = assigned.membership.generation,
                        slots = assigned.slots.len(), "slots assigned"
                    );
                    self.flow.assigned(now, assigned);
                }
                News::SeatLost => {
                    tracing::warn!(flow = %self.parts.desk.flow(), pump = %self.parts.name, "membership lost; joining anew");
                    self.flow.seat_lost(now);
                }
                News::Fenced(why) => {
                    return Err(PumpError::Fenced {
                        pump: Arc::clone(&self.parts.name),
                        why,
                    });
                }
                News::Opened(lane, start) => self.flow.opened(now, lane, &start),
                News::OpenFailed(lane, why) => self.flow.open_failed(now, lane, why),
                News::OpenStale(lane) => self.flow.open_stale(now, lane),
                News::Tried(lane, outcome) => self.flow.tried(now, lane, outcome),
                News::TargetCut(lane, at) => self.flow.target_cut(now, lane, at),
                News::Stored(positions) => {
                    self.batches.stored(positions.len());
                    self.flow.stored(now, positions);
                }
                News::Halt(why) => return Err(self.parts.halted(why)),
                News::Stop => self.flow.stop(now),
            }
            if stopping {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self) -> Result<(), PumpError> {
        while let Some(order) = self
            .flow
            .next_order(self.open, self.parts.errands.clerk.capacity() > 0)
        {
            if let Err(fault) = self.execute(order)? {
                self.mend(fault)?;
            }
        }
        Ok(())
    }

    /// The outer error ends the pump, the inner one asks for another engine.
    fn execute(&mut self, order: Order) -> Result<Result<(), EngineError>, PumpError> {
        match order {
            Order::Join { claims } => self.parts.ask("member", &self.parts.errands.member, claims)?,
            Order::Open {
                lanes,
                resumed,
                cuts,
                membership,
            } => {
                let errand = OpenErrand {
                    lanes,
                    resumed,
                    cuts,
                    membership,
                };
                self.parts.ask("clerk", &self.parts.errands.clerk, errand)?;
            }
            Order::Try {
                lane,
                pairing,
                start,
                refused,
            } => {
                let errand = TrialErrand {
                    lane,
                    pairing,
                    start,
                    refused,
                };
                self.parts.ask("trials", &self.parts.errands.trials, errand)?;
            }
            Order::Store {
                membership,
                positions,
            } => {
                let positions: Vec<_> = positions
                    .into_iter()
                    .filter_map(|(lane, position)| Some((lane, self.pairings.get(&lane)?.clone(), position)))
                    .collect();
                self.batches.store(positions.len());
                self.parts
                    .ask("storer", &self.parts.errands.storer, (membership, positions))?;
            }
            Order::Attach(lanes) => return Ok(self.attach(lanes)),
            Order::Detach(lanes) => {
                // One that leaves without transactions is still told of what was in flight, which counts.
                let gone: Vec<Lane> = self
                    .pairings
                    .keys()
                    .copied()
                    .filter(|lane| self.flow.lane(*lane).is_none())
                    .collect();
                for lane in gone {
                    self.parts.desk.forget(lane);
                    self.pairings.remove(&lane);
                }
                return Ok(self.engine.detach(&lanes));
            }
            Order::Begin => return Ok(self.engine.begin()),
            Order::Commit {
                membership,
                positions,
            } => return Ok(self.commit(membership, positions)),
            Order::Abort => return Ok(self.abort()),
            Order::Halt(why) => return Err(self.parts.halted(why)),
        }
        Ok(Ok(()))
    }

    fn abort(&mut self) -> Result<(), EngineError> {
        self.engine.abort()?;
        self.parts.desk.transaction(Outcome::Aborted);
        let ended = Ended::Aborted {
            why: "taken back".to_owned(),
            rejoin: false,
        };
        self.batches.ended(&ended);
        self.flow.ended(self.now(), &ended, Vec::new());
        Ok(())
    }

    fn attach(&mut self, lanes: Vec<(Lane, Pairing, Position)>) -> Result<(), EngineError> {
        let mut specs: Vec<LaneSpec> = Vec::with_capacity(lanes.len());
        for (lane, pairing, start) in lanes {
            specs.push(
                self.parts
                    .desk
                    .spec(lane, &pairing, start)
                    .map_err(|error| EngineError::Fatal(error.to_string()))?,
            );
            self.pairings.insert(lane, pairing);
        }
        if specs.is_empty() {
            Ok(())
        } else {
            self.engine.attach(specs)
        }
    }

    fn commit(
        &mut self,
        membership: Membership,
        positions: Vec<(Lane, Position)>,
    ) -> Result<(), EngineError> {
        let named = positions
            .iter()
            .filter_map(|(lane, position)| {
                let pairing = self.pairings.get(lane)?;
                Some((
                    pairing.target(),
                    position.clone(),
                    self.parts.desk.metadata(pairing, position),
                ))
            })
            .collect();
        let commit = Commit {
            membership,
            positions: named,
        };
        let mut facts = std::mem::take(&mut self.facts);
        let span = self.batches.commit(positions.len());
        let ended = self.engine.commit(&commit, &mut facts);
        drop(span);
        self.take_in(facts);
        let ended = ended?;
        match &ended {
            Ended::Committed => self.parts.desk.transaction(Outcome::Committed),
            Ended::Aborted { why, .. } => {
                self.parts.desk.transaction(Outcome::Aborted);
                // Its target may be gone.
                self.parts.desk.doubt();
                tracing::warn!(flow = %self.parts.desk.flow(), pump = %self.parts.name, error = why, "transaction aborted");
            }
            Ended::Unknown { why } => {
                self.parts.desk.transaction(Outcome::Unknown);
                tracing::warn!(flow = %self.parts.desk.flow(), pump = %self.parts.name, error = why, "transaction ended in an unknown way");
            }
        }
        self.parts.desk.settle(matches!(ended, Ended::Committed));
        self.batches.ended(&ended);
        self.flow.ended(self.now(), &ended, positions);
        Ok(())
    }

    /// Meanwhile a seat is taken and lanes are opened: a restart costs the longer of both, not their sum.
    fn get_ready(&mut self) -> Result<(), PumpError> {
        if !self.flow.may_open() {
            // The group is asked first; its answer is heard after this wait.
            std::thread::sleep(OPENING);
            self.flow.tick(self.now());
            return Ok(());
        }
        let mut facts = std::mem::take(&mut self.facts);
        let result = self.engine.open(OPENING, &mut facts);
        self.take_in(facts);
        self.flow.tick(self.now());
        match result {
            Ok(open) => {
                self.open = open;
                if open {
                    tracing::info!(flow = %self.parts.desk.flow(), pump = %self.parts.name, "ready to move records");
                    self.pause = Duration::ZERO;
                }
                Ok(())
            }
            Err(fault) => self.mend(fault),
        }
    }

    fn haul(&mut self) -> Result<(), PumpError> {
        let now = self.now();
        let wake = self.flow.next_wake().map_or(LOOP, |at| at.since(now)).min(LOOP);
        // With records in the open transaction, ask without waiting: nothing more means commit at once.
        let eager = self.flow.is_eager() && !self.full;
        let mut facts = std::mem::take(&mut self.facts);
        let throttled = self.throttle.wait(now);
        let reading = self.flow.may_read() && throttled.is_zero();
        let patience = if throttled.is_zero() {
            SETTLING.0
        } else {
            throttled.clamp(SETTLING.1, SETTLING.0)
        };
        let result = if reading {
            self.engine
                .haul(if eager { Duration::ZERO } else { wake }, &mut facts)
        } else {
            self.engine
                .settle(wake.min(patience), &mut facts)
                .map(|()| Hauled::Looked)
        };
        self.full = matches!(result, Ok(Hauled::Full));
        let idle = !facts
            .iter()
            .any(|fact| matches!(fact, Fact::Read(run) if !run.forwarded.is_empty()));
        self.take_in(facts);
        let now = self.now();
        if reading && idle && !self.full {
            self.flow.caught_up(now);
        } else {
            self.flow.tick(now);
        }
        result.map_or_else(|fault| self.mend(fault), |_| Ok(()))
    }

    /// Tells the flow, and keeps the list for its memory.
    fn take_in(&mut self, mut facts: Vec<Fact>) {
        let now = self.now();
        for fact in facts.drain(..) {
            if let Fact::Read(run) = &fact {
                self.throttle.take(now, run.bytes);
            }
            self.parts.desk.record(&fact);
            self.batches.note(&fact);
            self.flow.engine(now, &fact);
        }
        self.facts = facts;
        if self.parts.settings.delivery == Delivery::AtLeastOnce {
            self.parts.desk.settle(true);
        }
    }

    /// Another engine in place of one that cannot go on.
    fn mend(&mut self, fault: EngineError) -> Result<(), PumpError> {
        self.batches.lost(&fault);
        match fault {
            EngineError::Fenced(why) => {
                tracing::warn!(flow = %self.parts.desk.flow(), pump = %self.parts.name, error = why, "fenced; asking the group whose the work is");
                self.replace()?;
                self.flow.fenced(self.now());
                Ok(())
            }
            EngineError::Fatal(why) => Err(self.parts.halted(why)),
            EngineError::Rebuild(why) => {
                tracing::warn!(flow = %self.parts.desk.flow(), pump = %self.parts.name, error = why, wait_ms = self.pause.as_millis(), "building the clients anew");
                std::thread::sleep(self.pause);
                self.pause = (self.pause * 2).clamp(REBUILD.0, REBUILD.1);
                self.rebuild()
            }
        }
    }

    fn rebuild(&mut self) -> Result<(), PumpError> {
        self.replace()?;
        self.flow.rebuilt(self.now());
        Ok(())
    }

    fn replace(&mut self) -> Result<(), PumpError> {
        self.parts.desk.settle(false);
        self.open = false;
        let successor = self.parts.engine()?;
        std::mem::replace(&mut self.engine, successor).retire();
        Ok(())
    }

    fn show(&mut self, last: bool) {
        let now = self.now();
        let ready = self.open && self.flow.seat().0.is_some();
        let turned = ready != self.parts.view.borrow().is_ready();
        if last || turned || now.since(self.viewed) >= VIEW {
            self.viewed = now;
            self.throttle.limit(now, (self.parts.limit)(self.flow.seat().1));
            let view = self.parts.desk.view(&self.flow, self.open);
            self.parts.view.send_replace(view);
        }
    }
}
