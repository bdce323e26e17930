//! One lane as its flow sees it.

use std::time::Duration;

use super::orders::{Pairing, Quarantine};
use crate::engine::PlacedRun;
use crate::slots::Slot;
use crate::types::{Copies, Position, SourceOffset, TargetOffset, Time};
use crate::window::Window;

/// First and longest wait before a quarantined lane is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Where a lane is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its position is to be asked for: it is new, or its records were taken back by an abort.
    New,
    /// Its position is being read, or its start decided.
    Opening,
    /// It is read and forwarded.
    Running,
    /// As `Running`, but somebody wants it to stand still.
    Paused,
    /// No longer ours, or bound anew; detached, with records still in flight or a position that is not stored yet (at_least_once only).
    Leaving,
    /// Out of the flow until `retry_at`.
    Quarantined {
        /// Why.
        why: Quarantine,
        /// When it is tried again.
        retry_at: Time,
        /// It is being tried apart from the others.
        trial: bool,
    },
}

/// State of one lane.
#[derive(Clone, Debug)]
pub struct LaneState {
    /// What it binds.
    pub pairing: Pairing,
    /// The slot that it belongs to.
    pub slot: Slot,
    /// Where it is in its life.
    pub phase: Phase,
    /// Newest position known to be committed.
    pub committed: Option<Position>,
    pub(super) window: Window,
    pub(super) leader_epoch: Option<i32>,
    pub(super) copies: Copies,
    /// The target log was cut here, and since then nobody looked for what is gone.
    pub(super) cut: Option<TargetOffset>,
    /// To be detached and opened again (or dropped) as soon as no transaction holds records of it.
    pub(super) exit: Option<Exit>,
    /// The record for which it is in quarantine, if it is for one that the target refused.
    pub(super) refused: Option<SourceOffset>,
    /// What became of its last position while it leaves.
    pub(super) farewell: Farewell,
    failures: u32,
}

/// The last position of a lane that leaves without transactions: whoever opens the partition next begins there, and copies nothing
/// again that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// To be stored.
    Owed,
    /// Under way.
    Given,
    /// Stored, or refused: nothing is waited for.
    Done,
}

/// Why a lane must leave the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Its topic is no longer selected, another topic took its name, or its batches are written otherwise.
    Anew,
    /// Its position does not exist at the source.
    Reopen,
    /// The target refused the record of it at this offset: what is open must not be committed.
    Refused(SourceOffset, Quarantine),
    /// The target log was cut: what is open must not be committed, it lies behind a gap.
    Cut,
    /// The source will not let us read it: what was read of it counts.
    Unreadable(Quarantine),
}

impl LaneState {
    pub(super) fn new(pairing: Pairing, slot: Slot) -> Self {
        Self {
            pairing,
            slot,
            phase: Phase::New,
            committed: None,
            window: Window::new(SourceOffset(0)),
            leader_epoch: None,
            copies: Copies::default(),
            cut: None,
            exit: None,
            refused: None,
            farewell: Farewell::Owed,
            failures: 0,
        }
    }

    /// First source offset that is not settled: durable, or passed over by a rule.
    #[must_use]
    pub fn floor(&self) -> SourceOffset {
        self.window.floor()
    }

    /// Whether the engine may hold records of it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// The position to commit once everything read is placed.
    pub(super) fn next(&self) -> Position {
        // Where what is in flight will lie is not known yet.
        let end = self.copies.end.filter(|_| self.window.in_flight() == 0);
        Position {
            offset: self.window.next(),
            leader_epoch: self.leader_epoch,
            copies: Copies { end, ..self.copies },
        }
    }

    /// The position that may be committed now.
    pub(super) fn settled(&self) -> Position {
        Position {
            offset: self.window.floor(),
            leader_epoch: self.leader_epoch,
            copies: self.copies,
        }
    }

    /// Whether it leaves, and nothing of it is in flight any more.
    pub(super) fn has_arrived(&self) -> bool {
        self.phase == Phase::Leaving && self.window.in_flight() == 0
    }

    /// Whether more is settled than committed.
    pub(super) fn is_unstored(&self) -> bool {
        self.committed.as_ref().is_none_or(|c| c.offset < self.floor())
    }

    pub(super) fn start_at(&mut self, start: &Position) {
        self.window = Window::new(start.offset);
        self.leader_epoch = start.leader_epoch;
        self.copies = start.copies;
        self.cut = None;
        self.committed = Some(start.clone());
        self.phase = if self.pairing.paused {
            Phase::Paused
        } else {
            Phase::Running
        };
        self.refused = None;
    }

    /// It is to stand still, or to go on.
    pub(super) fn pause(&mut self, paused: bool) {
        self.pairing.paused = paused;
        if self.phase == Phase::Paused && !paused {
            self.phase = Phase::New;
        }
    }

    /// The engine has it, and is to have it no longer.
    pub(super) fn is_to_pause(&self) -> bool {
        self.pairing.paused && self.is_attached()
    }

    /// Records lie there now. Logs only grow: if others lay behind it, they are gone.
    pub(super) fn placed(&mut self, run: &PlacedRun) {
        // The broker did not say where they lie.
        let end = (run.base.0 >= 0).then(|| run.base.plus(run.count));
        if end.is_some() && self.copies.end.is_some_and(|known| run.base < known) {
            self.cut_at(run.base);
        }
        self.copies.end = end.map(|end| self.copies.end.map_or(end, |known| known.max(end)));
    }

    /// The target log was cut.
    pub(super) fn cut_at(&mut self, at: TargetOffset) {
        self.cut = Some(self.cut.map_or(at, |known| known.min(at)));
        if self.phase == Phase::Running {
            self.leave_by(Exit::Cut);
        }
    }

    /// It must leave. What must not be committed stays so, whatever else is said of the lane.
    pub(super) fn leave_by(&mut self, exit: Exit) {
        let weaker = match self.exit {
            Some(Exit::Refused(..)) => true,
            Some(Exit::Cut) => !matches!(exit, Exit::Refused(..)),
            _ => false,
        };
        if !weaker {
            self.exit = Some(exit);
        }
    }

    /// The target will not have what is in flight.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.exit, Some(Exit::Refused(..)))
    }

    /// Whether what is open must not be committed.
    pub(super) fn is_spoiled(&self) -> bool {
        matches!(self.exit, Some(Exit::Refused(..) | Exit::Cut))
    }

    /// Nothing beyond the committed position counts.
    pub(super) fn take_back(&mut self) {
        self.window = Window::new(self.committed.as_ref().map_or(SourceOffset(0), |c| c.offset));
    }

    /// How it leaves when the catalog has something else, or nothing (`None`), in its place.
    pub(super) fn exit_to(&self, entry: Option<&Pairing>) -> Exit {
        match entry {
            // Nothing that is open may be committed: the topic is gone, or another one has its name.
            Some(entry)
                if entry.target_topic == self.pairing.target_topic
                    && entry.target_id != self.pairing.target_id =>
            {
                let why = Quarantine {
                    reason: "target_deleted",
                    text: format!("the target topic {} was deleted", self.pairing.target_topic),
                };
                Exit::Refused(self.floor(), why)
            }
            _ => Exit::Anew,
        }
    }

    /// If it is quarantined, it is tried at once.
    pub(super) fn retry(&mut self, now: Time) {
        if let Phase::Quarantined { retry_at, .. } = &mut self.phase {
            *retry_at = now;
            self.failures = 0;
        }
    }

    /// A position was committed, and nothing is in flight: where copies end is known again.
    pub(super) fn committed_at(&mut self, mut position: Position) {
        if self.window.in_flight() == 0 {
            position.copies.end = self.copies.end;
        }
        self.committed = Some(position);
        self.failures = 0;
    }

    pub(super) fn quarantine(&mut self, now: Time, why: Quarantine) {
        let wait = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Quarantined {
            why,
            retry_at: now + wait,
            trial: false,
        };
        self.exit = None;
    }
}
