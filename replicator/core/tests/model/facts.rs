//! The model's state, and what it tells the flow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::engine::{BatchForm, Codec, Fact, PlacedRun, ReadRun, Refusal, RefusalKind};
use kuroshio_core::flow::{Assigned, Delivery, Flow, FlowSettings, Pairing, Quarantine};
use kuroshio_core::slots::{SLOT_COUNT, Slot, slot_of};
use kuroshio_core::types::{
    Copies, Lane, Membership, Position, SourceOffset, TargetOffset, Time, TopicPartition,
};
use proptest::prelude::*;

const PARTITIONS: i32 = 4;
const HOLD: u64 = 5_000;
const TARGET: Option<[u8; 16]> = Some([2; 16]);

/// What happens next; numbers choose among what is possible.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Pass(u16),
    Rebalancing,
    Joined,
    Assigned(u8),
    JoinFailed,
    SeatLost,
    /// Other partitions are selected, or their batches are written otherwise.
    Catalog(u8),
    /// The target topic goes, comes back, or is made anew.
    Target(u8),
    /// Somebody wants these partitions to go on.
    Resume(u8),
    /// Somebody wants these to stand still, and the others not to.
    Pause(u8),
    Opened(u8),
    OpenFailed(u8),
    OpenStale(u8),
    Tried(bool),
    Read(u8, u8),
    Placed(u8),
    Refused(u8),
    /// The target log of a lane was cut.
    Cut(u8),
    OutOfRange(u8),
    Unreadable(u8),
    CaughtUp,
    Rebuilt,
    Fenced,
    /// Who opens lanes is free, or busy.
    Clerk(bool),
    Stored(bool),
    /// How the next transactions end.
    Fate(u8),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u16..3_000).prop_map(Step::Pass),
        1 => Just(Step::Rebalancing),
        3 => Just(Step::Joined),
        4 => any::<u8>().prop_map(Step::Assigned),
        1 => Just(Step::JoinFailed),
        1 => Just(Step::SeatLost),
        2 => any::<u8>().prop_map(Step::Catalog),
        1 => any::<u8>().prop_map(Step::Target),
        1 => any::<u8>().prop_map(Step::Resume),
        1 => any::<u8>().prop_map(Step::Pause),
        8 => any::<u8>().prop_map(Step::Opened),
        1 => any::<u8>().prop_map(Step::OpenFailed),
        1 => any::<u8>().prop_map(Step::OpenStale),
        2 => any::<bool>().prop_map(Step::Tried),
        8 => any::<(u8, u8)>().prop_map(|(lane, bits)| Step::Read(lane, bits)),
        8 => any::<u8>().prop_map(Step::Placed),
        1 => any::<u8>().prop_map(Step::Refused),
        1 => any::<u8>().prop_map(Step::Cut),
        1 => any::<u8>().prop_map(Step::OutOfRange),
        1 => any::<u8>().prop_map(Step::Unreadable),
        4 => Just(Step::CaughtUp),
        1 => Just(Step::Rebuilt),
        1 => Just(Step::Fenced),
        2 => any::<bool>().prop_map(Step::Clerk),
        3 => any::<bool>().prop_map(Step::Stored),
        2 => any::<u8>().prop_map(Step::Fate),
    ];
    proptest::collection::vec(step, 1..150)
}

/// A lane as the engine has it.
#[derive(Clone, Debug)]
pub struct Attached {
    pub pairing: Pairing,
    pub next: i64,
    pub in_flight: BTreeSet<i64>,
    pub refused: bool,
    /// Its target log was cut.
    pub cut: bool,
}

pub struct Model {
    pub flow: Flow,
    pub delivery: Delivery,
    pub now: u64,
    pub fate: u8,
    pub generation: i32,
    /// A join was ordered and has not ended.
    pub joining: bool,
    /// JoinGroup was answered and no assignment came since; once it came, its generation is looked at.
    pub held: bool,
    pub slots: BTreeSet<Slot>,
    /// Taken from it, and nobody's yet.
    pub given_up: BTreeSet<Slot>,
    /// Slots were taken from it, or others wait for it: it must join again.
    pub owes_join: bool,
    pub selected: BTreeSet<i32>,
    pub paused: BTreeSet<i32>,
    /// How the batches of all are written.
    pub form: BatchForm,
    /// Id of the target topic; `None`: it is gone.
    pub target: Option<[u8; 16]>,
    pub opening: BTreeMap<Lane, Pairing>,
    /// What is being tried apart.
    pub trying: Option<(Lane, i32)>,
    /// Partitions of which a record was refused; none is read again before it was tried apart.
    pub refused: BTreeSet<i32>,
    /// Partitions whose target log was cut, and in which nobody looked for what is gone since.
    pub cut: BTreeSet<i32>,
    /// Where the target logs end.
    pub ends: BTreeMap<i32, i64>,
    /// Partitions of the last order to open that were to go on whatever was lost.
    pub resumed: BTreeSet<i32>,
    pub attached: BTreeMap<Lane, Attached>,
    /// Detached without transactions: their last position may still be stored.
    pub left: BTreeMap<Lane, Attached>,
    /// Detached with records in flight.
    pub ghosts: Vec<(Lane, i64)>,
    pub used: BTreeSet<Lane>,
    pub committed: BTreeMap<TopicPartition, i64>,
    pub open: bool,
    /// Lanes with something read in the open transaction.
    pub moved: BTreeSet<Lane>,
    pub storing: Option<Vec<(Lane, TopicPartition, i64)>>,
    pub halted: Option<String>,
    pub begun: u32,
    pub over: u32,
    pub stopping: bool,
    /// Who opens lanes is free.
    pub clerk: bool,
}

pub fn pairing(partition: i32) -> Pairing {
    Pairing {
        source: TopicPartition::new("orders", partition),
        topic_id: [1; 16],
        target_topic: "orders".into(),
        target_id: TARGET,
        form: BatchForm::of(Codec::None),
        paused: false,
    }
}

pub fn slot(partition: i32) -> Slot {
    slot_of("orders", partition, SLOT_COUNT)
}

pub fn some<T: Clone>(all: impl IntoIterator<Item = T>, which: u8) -> Option<T> {
    let all: Vec<T> = all.into_iter().collect();
    (!all.is_empty()).then(|| all[usize::from(which) % all.len()].clone())
}

impl Model {
    pub fn new(delivery: Delivery) -> Self {
        let settings = FlowSettings {
            delivery,
            commit_interval: Duration::from_millis(100),
            commit_bytes: 1_000,
            hold_limit: Duration::from_millis(HOLD),
        };
        let mut model = Self {
            flow: Flow::new(settings),
            delivery,
            now: 0,
            fate: 0,
            generation: 0,
            joining: false,
            held: false,
            slots: BTreeSet::new(),
            given_up: BTreeSet::new(),
            owes_join: false,
            selected: (0..PARTITIONS).collect(),
            paused: BTreeSet::new(),
            form: BatchForm::of(Codec::None),
            target: TARGET,
            opening: BTreeMap::new(),
            trying: None,
            refused: BTreeSet::new(),
            cut: BTreeSet::new(),
            ends: BTreeMap::new(),
            resumed: BTreeSet::new(),
            attached: BTreeMap::new(),
            left: BTreeMap::new(),
            ghosts: Vec::new(),
            used: BTreeSet::new(),
            committed: BTreeMap::new(),
            open: false,
            moved: BTreeSet::new(),
            storing: None,
            halted: None,
            begun: 0,
            over: 0,
            stopping: false,
            clerk: true,
        };
        model.flow.catalog(model.time(), (0..PARTITIONS).map(pairing));
        model
    }

    pub fn time(&self) -> Time {
        Time::from_millis(self.now)
    }

    pub fn step(&mut self, step: Step) {
        let now = self.time();
        match step {
            Step::Pass(ms) => self.now += u64::from(ms),
            Step::Rebalancing => self.flow.rebalancing(now),
            Step::Clerk(free) => self.clerk = free,
            Step::Joined if self.joining => {
                self.held = true;
                self.flow.joined(now);
            }
            Step::Assigned(bits) if self.joining => {
                self.generation += 1;
                self.joining = false;
                let mine = |partition: &i32| bits >> partition & 1 == 1;
                let before =
                    std::mem::replace(&mut self.slots, (0..PARTITIONS).filter(mine).map(slot).collect());
                self.owes_join = bits > 200 || !before.is_subset(&self.slots);
                self.held = false;
                // A leader may have given away what it did not know to be held.
                self.given_up = before
                    .difference(&self.slots)
                    .filter(|_| bits % 2 == 0)
                    .copied()
                    .collect();
                let (slot_count, slots, given_up) = (SLOT_COUNT, self.slots.clone(), self.given_up.clone());
                let assigned = Assigned {
                    membership: self.membership(),
                    slot_count,
                    slots,
                    given_up,
                    awaited: bits > 200,
                };
                self.flow.assigned(now, assigned);
            }
            Step::JoinFailed if self.joining => {
                self.joining = false;
                self.flow.join_failed(now);
            }
            Step::SeatLost => {
                self.slots.clear();
                self.given_up.clear();
                self.held = false;
                self.flow.seat_lost(now);
            }
            Step::Catalog(bits) => {
                self.selected = (0..PARTITIONS)
                    .filter(|partition| bits >> partition & 3 != 0)
                    .collect();
                self.form = BatchForm::of(if bits > 127 { Codec::Zstd } else { Codec::None });
                self.catalog();
            }
            Step::Target(which) => {
                let target = [None, TARGET, Some([3; 16])][usize::from(which % 3)];
                if std::mem::replace(&mut self.target, target) != target {
                    // Another topic refused it.
                    self.refused.clear();
                    self.cut.clear();
                }
                self.catalog();
            }
            Step::Pause(bits) => {
                self.paused = (0..PARTITIONS)
                    .filter(|partition| bits >> partition & 1 == 1)
                    .collect();
                self.catalog();
            }
            Step::Resume(bits) => self.flow.resume(now, |source| bits >> source.partition & 1 == 1),
            Step::Opened(which) => {
                if let Some((lane, pairing)) = some(self.opening.clone(), which) {
                    self.opening.remove(&lane);
                    if self.flow.lane(lane).is_some() {
                        self.cut.remove(&pairing.source.partition);
                    }
                    let at = *self.committed.entry(pairing.source).or_insert(0);
                    self.flow.opened(now, lane, &position(at));
                }
            }
            Step::OpenFailed(which) => {
                if let Some((lane, _)) = some(self.opening.clone(), which) {
                    self.opening.remove(&lane);
                    self.flow.open_failed(
                        now,
                        lane,
                        Quarantine {
                            reason: "test",
                            text: String::new(),
                        },
                    );
                }
            }
            Step::OpenStale(which) => {
                if let Some((lane, _)) = some(self.opening.clone(), which) {
                    self.opening.remove(&lane);
                    self.flow.open_stale(now, lane);
                }
            }
            Step::Tried(good) => {
                if let Some((lane, partition)) = self.trying.take() {
                    if good && self.flow.lane(lane).is_some() {
                        self.refused.remove(&partition);
                    }
                    let why = Quarantine {
                        reason: "test",
                        text: String::new(),
                    };
                    self.flow.tried(now, lane, good.then_some(()).ok_or(why));
                }
            }
            Step::Read(which, bits) if self.flow.may_read() => self.read(which, bits),
            Step::Placed(which) => self.place(which),
            Step::Refused(which) => {
                if let Some((lane, _)) = some(self.ghosts.iter().copied(), which).filter(|_| which % 2 == 0) {
                    self.ghosts.retain(|ghost| ghost.0 != lane);
                    self.left.remove(&lane);
                    let why = Refusal {
                        kind: RefusalKind::TooLarge,
                        text: String::new(),
                    };
                    self.flow.engine(
                        now,
                        &Fact::Refused {
                            lane,
                            at: SourceOffset(0),
                            why,
                        },
                    );
                }
                let full = self
                    .attached
                    .iter()
                    .filter(|(_, io)| !io.in_flight.is_empty() && !io.refused);
                if let Some(lane) = some(full.map(|(lane, _)| *lane), which) {
                    let why = Refusal {
                        kind: RefusalKind::TooLarge,
                        text: String::new(),
                    };
                    let io = self.attached.get_mut(&lane).expect("just found");
                    io.refused = true;
                    self.refused.insert(io.pairing.source.partition);
                    let at = SourceOffset(*io.in_flight.first().expect("not empty"));
                    self.flow.engine(now, &Fact::Refused { lane, at, why });
                    // What else may come before the flow has looked.
                    match which % 3 {
                        0 => self.flow.engine(
                            now,
                            &Fact::Unreadable {
                                lane,
                                why: String::new(),
                            },
                        ),
                        1 => {
                            self.selected.clear();
                            self.flow.catalog(now, []);
                        }
                        _ => {}
                    }
                }
            }
            Step::Cut(which) => {
                let whole = self.attached.iter().filter(|(_, io)| !io.refused);
                if let Some(lane) = some(whole.map(|(lane, _)| *lane), which) {
                    let io = self.attached.get_mut(&lane).expect("just found");
                    io.cut = true;
                    self.cut.insert(io.pairing.source.partition);
                    self.flow.target_cut(now, lane, TargetOffset(0));
                }
            }
            Step::OutOfRange(which) => {
                if let Some(lane) = some(self.attached.keys().copied(), which) {
                    self.flow.engine(
                        now,
                        &Fact::OutOfRange {
                            lane,
                            at: SourceOffset(0),
                        },
                    );
                }
            }
            Step::Unreadable(which) => {
                if let Some(lane) = some(self.attached.keys().copied(), which) {
                    self.flow.engine(
                        now,
                        &Fact::Unreadable {
                            lane,
                            why: String::new(),
                        },
                    );
                }
            }
            Step::CaughtUp => self.flow.caught_up(now),
            Step::Rebuilt => {
                self.lose_engine();
                self.flow.rebuilt(now);
            }
            Step::Fenced => {
                self.lose_engine();
                self.held = true;
                self.owes_join |= !self.joining;
                self.flow.fenced(now);
            }
            Step::Stored(good) => self.stored(good),
            Step::Fate(fate) => self.fate = fate,
            _ => {}
        }
        self.flow.tick(self.time());
        self.carry_out();
    }

    fn catalog(&mut self) {
        let paired = |partition: &i32| Pairing {
            target_id: self.target,
            form: self.form,
            paused: self.paused.contains(partition),
            ..pairing(*partition)
        };
        self.flow.catalog(self.time(), self.selected.iter().map(paired));
    }

    fn lose_engine(&mut self) {
        self.attached.clear();
        self.left.clear();
        self.ghosts.clear();
        self.moved.clear();
        self.over += u32::from(std::mem::take(&mut self.open));
    }

    pub fn membership(&self) -> Membership {
        let name: Arc<str> = "kuroshio.tw-jp.a.0".into();
        Membership {
            group: "g".into(),
            instance: name,
            member: "m".into(),
            generation: self.generation,
        }
    }

    pub fn read(&mut self, which: u8, bits: u8) {
        let Some(lane) = some(
            self.attached
                .iter()
                .filter(|(_, io)| !io.refused)
                .map(|(l, _)| *l),
            which,
        ) else {
            return;
        };
        let io = self.attached.get_mut(&lane).expect("just found");
        let first = io.next;
        io.next += i64::from(bits % 7) + 1;
        let forwarded: Vec<i64> = (first..io.next).filter(|at| bits >> (at % 8) & 1 == 1).collect();
        io.in_flight.extend(&forwarded);
        self.moved.insert(lane);
        let run = ReadRun {
            lane,
            first: SourceOffset(first),
            next: SourceOffset(io.next),
            forwarded: forwarded
                .iter()
                .map(|at| (SourceOffset(*at), SourceOffset(at + 1)))
                .collect(),
            skipped: Vec::new(),
            bytes: 100 * forwarded.len() as u64,
            leader_epoch: None,
        };
        self.flow.engine(self.time(), &Fact::Read(run));
    }

    pub fn place(&mut self, which: u8) {
        let moving = self.attached.iter().filter(|(_, io)| !io.refused);
        let known = moving.flat_map(|(lane, io)| io.in_flight.first().map(|at| (*lane, *at)));
        let Some((lane, at)) = some(known.chain(self.ghosts.iter().copied()), which) else {
            return;
        };
        for lanes in [&mut self.attached, &mut self.left] {
            if let Some(io) = lanes.get_mut(&lane) {
                io.in_flight.remove(&at);
            }
        }
        self.ghosts.retain(|ghost| *ghost != (lane, at));
        self.placed(lane, at);
    }

    pub fn placed(&mut self, lane: Lane, at: i64) {
        let known = [&self.attached, &self.left]
            .into_iter()
            .find_map(|lanes| lanes.get(&lane));
        let partition = known.map_or(0, |io| io.pairing.source.partition);
        let end = self.ends.entry(partition).or_insert(0);
        let (first, base) = (SourceOffset(at), TargetOffset(*end));
        *end += 1;
        let run = PlacedRun {
            lane,
            first,
            base,
            count: 1,
            bytes: 100,
            oldest_timestamp: None,
        };
        self.flow.engine(self.time(), &Fact::Placed(run));
    }

    pub fn stored(&mut self, good: bool) {
        let Some(positions) = self.storing.take() else {
            return;
        };
        let mut stored = Vec::new();
        for (lane, source, at) in positions.into_iter().filter(|_| good) {
            self.committed.insert(source, at);
            stored.push((lane, position(at)));
        }
        self.flow.stored(self.time(), stored);
    }
}

pub fn position(at: i64) -> Position {
    Position {
        offset: SourceOffset(at),
        leader_epoch: None,
        copies: Copies::default(),
    }
}
