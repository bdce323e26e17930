//! One pump as the product drives it, in simulated time: its loop, its member and its clerk. An answer or a
//! piece of news changes nothing before the loop has come round to it, as in the product.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::engine::{BatchForm, Codec, Commit, Ended, Engine, EngineError, Fact, Hauled, LaneSpec};
use kuroshio_core::flow::{Assigned, Flow, FlowSettings, Order, Pairing, Quarantine};
use kuroshio_core::origin::{Forward, Guard};
use kuroshio_core::slots::{Assignment, Claims};
use kuroshio_core::types::{Copies, Lane, Membership, Position, SourceOffset, Time, TopicPartition};

use crate::clerk::Clerk;
use crate::engine::SimEngine;
use crate::member::Seat;
use crate::net::{Ev, Rep, Shared};

const LOOP: u64 = 500;

/// What the slow tasks tell a pump.
#[derive(Clone, Debug)]
pub enum News {
    Rebalancing,
    JoinFailed,
    Joined(i32),
    Assigned(Membership, Assignment),
    SeatLost,
    Fenced,
    Opened(Lane, i64),
    OpenFailed(Lane),
    OpenStale(Lane),
    Tried(Lane, bool),
    Stored(Vec<(Lane, Position)>),
    Stop,
}

/// What a pump asks of the slow tasks.
#[derive(Clone, Debug)]
pub enum Errand {
    Join(Option<Claims>),
    Open(Vec<(Lane, Pairing)>, Membership),
    Store(Membership, Vec<(Lane, TopicPartition, Position)>),
}

pub enum Busy {
    Committing(Commit, Vec<(Lane, Position)>),
    Aborting,
}

/// Why a pump ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Fenced,
    Halted(String),
    Drained,
}

pub struct Pump {
    pub net: Shared,
    pub at: usize,
    pub life: u32,
    /// `group.instance.id` and transactional id.
    pub name: Arc<str>,
    pub group: Arc<str>,
    pub flow: Flow,
    engine: SimEngine,
    pub busy: Option<Busy>,
    pub news: VecDeque<News>,
    pairings: BTreeMap<Lane, Pairing>,
    pub seat: Seat,
    pub clerk: Clerk,
    /// Known from JoinGroup: what a broken driver would commit with.
    joined: Option<i32>,
    idle_wakes: u32,
    /// When the newest news and errand arrive: none overtakes another.
    pub told: Cell<u64>,
    went: Cell<u64>,
}

impl Pump {
    pub fn new(net: &Shared, at: usize, life: u32, name: &Arc<str>) -> Self {
        let delivery = net.borrow().delivery;
        let flow = net.borrow().pumps[at];
        let group = format!("kuroshio.{}", net.borrow().flows[flow].name).into();
        let settings = FlowSettings {
            delivery,
            commit_interval: Duration::from_millis(100),
            commit_bytes: 4_000,
            hold_limit: Duration::from_secs(8),
        };
        let engine = SimEngine::new(net.clone(), at, life, Arc::clone(name));
        Self {
            net: net.clone(),
            at,
            life,
            name: Arc::clone(name),
            group,
            flow: Flow::new(settings),
            busy: None,
            engine,
            news: VecDeque::new(),
            pairings: BTreeMap::new(),
            seat: Seat::default(),
            clerk: Clerk::default(),
            joined: None,
            idle_wakes: 0,
            told: Cell::default(),
            went: Cell::default(),
        }
    }

    pub fn now(&self) -> Time {
        Time::from_millis(self.net.borrow().now)
    }

    pub fn after(&self, ms: u64, ev: Ev) {
        self.net.borrow_mut().after(ms, ev);
    }

    /// An answer for the engine: what it had to wait for may be over.
    pub fn engine_hears(&mut self, token: u64, rep: Rep) -> Option<End> {
        self.engine.hear(token, rep);
        let mut facts = Vec::new();
        match self.busy.take() {
            Some(Busy::Committing(commit, positions)) if self.engine.is_ready() => {
                let ended = self.engine.commit(&commit, &mut facts);
                self.take_in(&facts);
                if let Ok(ended) = &ended {
                    if let Ended::Unknown { .. } = ended {
                        self.net.borrow_mut().saw("commit of unknown outcome");
                    }
                    let now = self.now();
                    self.flow.ended(now, ended, positions);
                }
                self.resume(ended.err())
            }
            Some(Busy::Aborting) if self.engine.is_ready() => {
                let result = self.engine.abort();
                if result.is_ok() {
                    let ended = Ended::Aborted {
                        why: "taken back".into(),
                        rejoin: false,
                    };
                    let now = self.now();
                    self.flow.ended(now, &ended, Vec::new());
                }
                self.resume(result.err())
            }
            busy => {
                self.busy = busy;
                None
            }
        }
    }

    fn resume(&mut self, fault: Option<EngineError>) -> Option<End> {
        fault.and_then(|fault| self.mend(fault)).or_else(|| self.step())
    }

    /// One round of the pump's loop; the next is scheduled by the caller.
    pub fn step(&mut self) -> Option<End> {
        if self.busy.is_some() {
            return None;
        }
        if let Some(end) = self.hear().or_else(|| self.carry_out()) {
            return Some(end);
        }
        if self.busy.is_some() {
            return None;
        }
        if self.flow.is_drained() {
            return Some(End::Drained);
        }
        if self.is_open() {
            self.haul().or_else(|| self.carry_out())
        } else {
            // A seat is taken and lanes are opened while the engine gets ready.
            self.flow.tick(self.now());
            if self.flow.seat().0.is_some() {
                self.net.borrow_mut().saw("seat taken before the engine was open");
            }
            self.carry_out()
        }
    }

    /// How long until the next round.
    pub fn pause(&mut self) -> u64 {
        let now = self.net.borrow().now;
        let wake = self
            .flow
            .next_wake()
            .map_or(LOOP, |at| at.since(self.now()).as_millis() as u64);
        // A wake that is over and changes nothing would keep a core busy for nothing.
        let idle = wake == 0 && self.busy.is_none() && self.news.is_empty();
        self.idle_wakes = if idle { self.idle_wakes + 1 } else { 0 };
        if self.idle_wakes > 20 {
            self.net.borrow_mut().judge.fail(format!(
                "{} wakes again and again at {now}: {:?}",
                self.name, self.flow
            ));
        }
        let most = if self.flow.is_eager() { 10 } else { 120 };
        let ms = self.net.borrow_mut().rng.u64(1..most);
        ms.min(wake.max(1)).min(LOOP)
    }

    fn hear(&mut self) -> Option<End> {
        while let Some(news) = self.news.pop_front() {
            let now = self.now();
            match news {
                News::Rebalancing => self.flow.rebalancing(now),
                News::JoinFailed => self.flow.join_failed(now),
                News::Joined(generation) => {
                    self.joined = Some(generation);
                    if self.flow.is_eager() {
                        self.net.borrow_mut().saw("commit held between join and sync");
                    }
                    if !self.net.borrow().broken.joined_generation {
                        self.flow.joined(now);
                    }
                }
                News::Assigned(membership, assignment) => {
                    let slots = assignment.slots_of(&self.name);
                    self.flow.assigned(
                        now,
                        Assigned {
                            membership,
                            slot_count: assignment.slot_count(),
                            slots,
                            given_up: assignment.given_up_by(&self.name),
                            awaited: assignment.awaits(&self.name),
                        },
                    );
                }
                News::SeatLost => self.flow.seat_lost(now),
                News::Fenced => return Some(End::Fenced),
                News::Opened(lane, at) => {
                    let start = Position {
                        offset: SourceOffset(at),
                        leader_epoch: None,
                        copies: Copies::default(),
                    };
                    self.flow.opened(now, lane, &start);
                }
                News::OpenFailed(lane) => {
                    let why = Quarantine {
                        reason: "target_missing",
                        text: "by the sim".into(),
                    };
                    self.flow.open_failed(now, lane, why);
                }
                News::OpenStale(lane) => self.flow.open_stale(now, lane),
                News::Tried(lane, taken) => {
                    let why = Quarantine {
                        reason: "too_large",
                        text: "by the sim".into(),
                    };
                    self.flow.tried(now, lane, taken.then_some(()).ok_or(why));
                }
                News::Stored(positions) => self.flow.stored(now, positions),
                News::Stop => self.flow.stop(now),
            }
        }
        None
    }

    fn is_open(&mut self) -> bool {
        self.flow.may_open() && self.engine.open(Duration::ZERO, &mut Vec::new()) == Ok(true)
    }

    fn carry_out(&mut self) -> Option<End> {
        while self.busy.is_none() {
            let (open, clerk) = (self.is_open(), self.clerk.is_free());
            let order = self.flow.next_order(open, clerk)?;
            if !clerk && matches!(order, Order::Join { .. }) {
                self.net.borrow_mut().saw("a join did not wait for a busy clerk");
            }
            if let Some(end) = self.execute(order) {
                return Some(end);
            }
        }
        None
    }

    fn go(&self, errand: Errand) {
        let ms = self.net.borrow_mut().rng.u64(0..10);
        let at = self.went.get().max(self.net.borrow().now + ms);
        self.went.set(at);
        let ms = at - self.net.borrow().now;
        self.after(ms, Ev::Errand(self.at, self.life, errand));
    }

    fn open(&mut self, lanes: Vec<(Lane, Pairing)>, membership: Membership) {
        self.clerk.sent_for = true;
        self.go(Errand::Open(lanes, membership));
    }

    fn named(&self, positions: Vec<(Lane, Position)>) -> Vec<(Lane, TopicPartition, Position)> {
        let named =
            |(lane, position): (Lane, Position)| Some((lane, self.pairings.get(&lane)?.target(), position));
        positions.into_iter().filter_map(named).collect()
    }

    fn execute(&mut self, order: Order) -> Option<End> {
        let result = match order {
            Order::Join { claims } => {
                self.go(Errand::Join(claims));
                Ok(())
            }
            Order::Open {
                lanes,
                cuts,
                membership,
                ..
            } => {
                assert!(cuts.is_empty(), "nobody cuts logs here: {cuts:?}");
                self.open(lanes, membership);
                Ok(())
            }
            Order::Try { lane, .. } => {
                self.try_apart(lane);
                Ok(())
            }
            Order::Store {
                membership,
                positions,
            } => {
                self.go(Errand::Store(membership, self.named(positions)));
                Ok(())
            }
            Order::Attach(lanes) => self.attach(lanes),
            Order::Detach(lanes) => {
                for lane in &lanes {
                    if self.flow.lane(*lane).is_none() {
                        self.pairings.remove(lane);
                    }
                }
                self.engine.detach(&lanes)
            }
            Order::Begin => self.engine.begin(),
            Order::Commit {
                membership,
                positions,
            } => {
                let named = |(lane, position): &(Lane, Position)| {
                    Some((
                        self.pairings.get(lane)?.target(),
                        position.clone(),
                        "1 x y".into(),
                    ))
                };
                let named: Vec<_> = positions.iter().filter_map(named).collect();
                if named.len() != positions.len() {
                    self.net
                        .borrow_mut()
                        .judge
                        .fail(format!("{} commits lanes that are not attached", self.name));
                }
                let commit = Commit {
                    membership: self.committing(membership),
                    positions: named,
                };
                self.engine.start_commit(&commit);
                self.busy = Some(Busy::Committing(commit, positions));
                Ok(())
            }
            Order::Abort => {
                self.engine.start_abort();
                self.busy = Some(Busy::Aborting);
                Ok(())
            }
            Order::Halt(why) => return Some(End::Halted(why)),
        };
        result.err().and_then(|fault| self.mend(fault))
    }

    fn try_apart(&self, lane: Lane) {
        let taken = self.net.borrow().poison.is_empty();
        let saw = if taken {
            "a trial that passed"
        } else {
            "a trial that failed"
        };
        self.net.borrow_mut().saw(saw);
        self.tell(News::Tried(lane, taken));
    }

    fn committing(&self, membership: Membership) -> Membership {
        let broken = self.net.borrow().broken;
        if broken.unfenced {
            return Membership {
                member: "".into(),
                generation: -1,
                ..membership
            };
        }
        match self.joined {
            Some(generation) if broken.joined_generation => Membership {
                generation,
                ..membership
            },
            _ => membership,
        }
    }

    fn attach(&mut self, lanes: Vec<(Lane, Pairing, Position)>) -> Result<(), EngineError> {
        let mut specs = Vec::new();
        for (lane, pairing, start) in lanes {
            let net = self.net.borrow();
            let flow = &net.flows[net.pumps[self.at]];
            let (source, target) = (net.clusters[flow.source].alias, net.clusters[flow.target].alias);
            let forward = if flow.relay {
                Forward::Relay
            } else {
                Forward::Local
            };
            let TopicPartition { topic, partition } = &pairing.source;
            let guard = Guard::new(source, topic, *partition, target, &pairing.target_topic, forward);
            specs.push(LaneSpec {
                lane,
                source: pairing.source.clone(),
                target_topic: Arc::clone(&pairing.target_topic),
                start,
                guard: Arc::new(guard.expect("names of the sim")),
                form: BatchForm::of(Codec::None),
            });
            drop(net);
            self.pairings.insert(lane, pairing);
        }
        if specs.is_empty() {
            Ok(())
        } else {
            self.engine.attach(specs)
        }
    }

    fn haul(&mut self) -> Option<End> {
        let reading = self.flow.may_read();
        let mut facts = Vec::new();
        let result = if reading {
            self.engine.haul(Duration::ZERO, &mut facts)
        } else {
            let settled = self.engine.settle(Duration::ZERO, &mut facts);
            settled.map(|()| Hauled::Looked)
        };
        let full = matches!(result, Ok(Hauled::Full));
        let idle = !facts
            .iter()
            .any(|fact| matches!(fact, Fact::Read(run) if !run.forwarded.is_empty()));
        self.take_in(&facts);
        let now = self.now();
        if reading && idle && !full {
            self.flow.caught_up(now);
        } else {
            self.flow.tick(now);
        }
        result.err().and_then(|fault| self.mend(fault))
    }

    fn take_in(&mut self, facts: &[Fact]) {
        let now = self.now();
        for fact in facts {
            self.flow.engine(now, fact);
        }
    }

    fn mend(&mut self, fault: EngineError) -> Option<End> {
        match fault {
            EngineError::Fenced(_) => {
                self.net.borrow_mut().saw("a fenced engine asks the group");
                self.engine = SimEngine::new(self.net.clone(), self.at, self.life, Arc::clone(&self.name));
                let now = self.now();
                self.flow.fenced(now);
                None
            }
            EngineError::Fatal(why) => Some(End::Halted(why)),
            EngineError::Rebuild(_) => {
                self.engine = SimEngine::new(self.net.clone(), self.at, self.life, Arc::clone(&self.name));
                let now = self.now();
                self.flow.rebuilt(now);
                None
            }
        }
    }

    pub fn is_committing(&self) -> bool {
        matches!(self.busy, Some(Busy::Committing(..)))
    }
}
