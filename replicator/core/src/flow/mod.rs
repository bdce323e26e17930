//! The flow state machine: the data plane of one pump. Facts in, orders out, time as an argument.
//!
//! It holds the commit protocol of DESIGN D2, and each rule is one place here:
//! (a) [`Flow::assigned`] only stores an assignment; `apply_assignment` makes it the membership that
//!     commits, after the slots that are no longer ours have been ended and dropped;
//! (b) `join_if_wanted` waits until no transaction (nor, in at_least_once, any record in flight)
//!     holds records of a slot that is given up;
//! (c) claims carry the generation of the applied assignment; without membership nothing is claimed;
//! (d) belongs to the leader: `slots::assign`;
//! (e) a membership without member id or generation halts the flow;
//! (f) after an abort or an unknown outcome a lane leaves the engine and is opened again from the position
//!     that the target then has.

mod facts;
mod lane;
mod leaving;
mod orders;
mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::slots::{SLOT_COUNT, Slot};
use crate::types::{Lane, Membership, SourceOffset, Time, TopicPartition};

pub use facts::{refusal, refusal_label};
pub use lane::{LaneState, Phase};
pub use orders::{Assigned, Delivery, FlowSettings, Order, Pairing, Quarantine};

/// Positions that moved without a forwarded record (skips, gaps, markers) may wait this many commit
/// intervals: nothing is at risk, and a silent pair of clusters stays nearly silent.
const QUIET_INTERVALS: u32 = 10;

/// One pump's part of a flow.
#[derive(Debug)]
pub struct Flow {
    settings: FlowSettings,
    /// The partitions to copy, each with its slot.
    catalog: BTreeMap<TopicPartition, (Pairing, Slot)>,
    slot_count: u16,
    lanes: BTreeMap<Lane, LaneState>,
    by_source: BTreeMap<TopicPartition, Lane>,
    next_lane: u32,
    owned: BTreeSet<Slot>,
    /// Taken from us by the applied assignment, and nobody's yet.
    given_up: BTreeSet<Slot>,
    /// Partitions that are to go on, whatever was lost, when they are opened next.
    resumed: BTreeSet<TopicPartition>,
    seat: Seat,
    batch: Batch,
    /// Something happened after which lanes may have to leave or be opened: with thousands of them, not every
    /// call looks at all.
    restless: bool,
    /// There may be lanes that nobody opens yet.
    unopened: bool,
    retry_at: Option<Time>,
    /// A lane is being tried.
    trying: bool,
    stopping: bool,
    halted: bool,
    orders: VecDeque<Order>,
}

/// Our place in the group.
#[derive(Debug, Default)]
struct Seat {
    /// Of the newest applied assignment.
    membership: Option<Membership>,
    /// A join was ordered and has not been answered.
    joining: bool,
    /// The coordinator may have moved on to a generation whose assignment is not applied: commit nothing.
    held: bool,
    join_wanted: bool,
    /// The engine's producer was fenced: until the group has answered, the work may be another's.
    doubted: bool,
    pending: Option<Assigned>,
}

/// What was forwarded or passed over since the last commit.
#[derive(Debug, Default)]
struct Batch {
    state: BatchState,
    /// First record forwarded.
    since: Option<Time>,
    /// First position moved.
    moved: Option<Time>,
    bytes: u64,
    lanes: BTreeSet<Lane>,
    /// Commit as soon as allowed.
    hurry: bool,
    /// at_least_once: a `Store` is under way.
    storing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum BatchState {
    #[default]
    Closed,
    Open,
    Ending,
}

impl Flow {
    /// A flow that owns nothing; its first order is to join the group.
    #[must_use]
    pub fn new(settings: FlowSettings) -> Self {
        Self {
            settings,
            catalog: BTreeMap::new(),
            slot_count: SLOT_COUNT,
            lanes: BTreeMap::new(),
            by_source: BTreeMap::new(),
            next_lane: 0,
            owned: BTreeSet::new(),
            given_up: BTreeSet::new(),
            resumed: BTreeSet::new(),
            seat: Seat {
                join_wanted: true,
                ..Seat::default()
            },
            batch: Batch::default(),
            restless: true,
            unopened: false,
            retry_at: None,
            trying: false,
            stopping: false,
            halted: false,
            orders: VecDeque::new(),
        }
    }

    // ---- orders ----

    /// The next thing to do. As long as the engine is not `open`, what it would have to do waits; a seat is taken and
    /// lanes are opened meanwhile. An engine that is not open has nothing, so that nothing else depends on it. Lanes are
    /// opened only while `clerk` says that whoever opens them is free: no other order waits for that.
    pub fn next_order(&mut self, open: bool, clerk: bool) -> Option<Order> {
        let next = self
            .orders
            .iter()
            .position(|order| open || !order.is_for_engine());
        match next {
            Some(next) => self.orders.remove(next),
            None if clerk => self.order_to_open(),
            None => None,
        }
    }

    /// When `tick` is due, if nothing else happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Time> {
        // Only what `tick` can do something about: a moment that is over and changes nothing would wake the
        // pump again and again.
        if self.committer().is_none() {
            let held = self
                .batch
                .since
                .filter(|_| self.settings.delivery == Delivery::ExactlyOnce);
            return held.map(|t| t + self.settings.hold_limit);
        }
        let commit = self.due().filter(|_| !self.batch.storing);
        self.retry_at
            .filter(|_| !self.stopping)
            .into_iter()
            .chain(commit)
            .min()
    }

    /// Whether to ask the engine for more without waiting: records are open that could be committed at once.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.settings.delivery == Delivery::ExactlyOnce
            && self.batch.state == BatchState::Open
            && self.batch.since.is_some()
            && self.committer().is_some()
    }

    /// Whether an engine may get ready: taking a transactional id over fences whoever has it.
    #[must_use]
    pub fn may_open(&self) -> bool {
        !self.seat.doubted
    }

    /// Whether the engine may read and forward now.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.batch.state == BatchState::Open && !self.stopping && !self.halted
    }

    /// Whether everything forwarded is settled and, as far as we have a seat, committed after [`Flow::stop`].
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.stopping
            && self.orders.is_empty()
            && !self.batch.storing
            && match self.settings.delivery {
                Delivery::ExactlyOnce => self.batch.state == BatchState::Closed,
                // Positions that nobody is there to commit are given up: their records come once more.
                Delivery::AtLeastOnce => {
                    let seated =
                        self.committer().is_some() || self.seat.joining || self.seat.pending.is_some();
                    self.in_flight() == 0 && (self.unstored().is_empty() || !seated)
                }
            }
    }

    // ---- views, for status and metrics ----

    /// All lanes.
    pub fn lanes(&self) -> impl Iterator<Item = (Lane, &LaneState)> {
        self.lanes.iter().map(|(lane, state)| (*lane, state))
    }

    /// One lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> Option<&LaneState> {
        self.lanes.get(&lane)
    }

    /// The next source offset of a lane: everything before it is durable on the target, or passed over.
    #[must_use]
    pub fn position(&self, lane: Lane) -> Option<SourceOffset> {
        let state = self.lanes.get(&lane)?;
        let committed = state.committed.as_ref().map(|c| c.offset);
        match self.settings.delivery {
            Delivery::ExactlyOnce => committed,
            Delivery::AtLeastOnce => committed.map(|c| c.max(state.floor())),
        }
    }

    /// The membership that commits, and the slots it owns.
    #[must_use]
    pub fn seat(&self) -> (Option<&Membership>, &BTreeSet<Slot>) {
        (self.seat.membership.as_ref(), &self.owned)
    }
}
