//! What all parts share: clusters, requests under way, time, chance, the trace and the judge.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use kuroshio_core::engine::RefusalKind;
use kuroshio_core::flow::Delivery;
use kuroshio_core::slots::Assignment;
use kuroshio_core::types::{Membership, TopicPartition};

use crate::group::{Answer, Refused};
use crate::judge::Judge;
use crate::log::{Cluster, Place, Rec, Speaker, TxnError};

/// Longest life of a transaction.
pub const TXN_TIMEOUT: u64 = 15_000;

pub type Shared = Rc<RefCell<Net>>;

/// Which pump asks, in which life of its process, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    pub pump: usize,
    pub life: u32,
    pub part: Part,
    pub token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Engine,
    Member,
    Clerk,
}

/// Requests to the caller's target cluster.
#[derive(Clone, Debug)]
pub enum Req {
    Init(Arc<str>),
    Produce {
        who: Option<Speaker>,
        tp: TopicPartition,
        recs: Vec<Rec>,
    },
    TxnOffsets {
        who: Speaker,
        membership: Membership,
        offsets: Vec<(TopicPartition, i64)>,
    },
    End {
        who: Speaker,
        commit: bool,
    },
    Join {
        group: Arc<str>,
        instance: Arc<str>,
        member: Arc<str>,
        metadata: Vec<u8>,
    },
    Sync {
        membership: Membership,
        assignment: Option<Vec<u8>>,
    },
    Heartbeat(Membership),
    Leave(Membership),
    Fetch {
        group: Arc<str>,
        partitions: Vec<TopicPartition>,
    },
    Commit {
        membership: Membership,
        offsets: Vec<(TopicPartition, i64)>,
    },
}

#[derive(Clone, Debug)]
pub enum Rep {
    Init(Result<i32, TxnError>),
    Placed(i64),
    NotPlaced(RefusalKind),
    Txn(Result<(), TxnError>),
    Group(Answer),
    Done(Result<(), Refused>),
    /// `None`: a transaction is about to change one of them.
    Offsets(Option<BTreeMap<TopicPartition, i64>>),
    TimedOut,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Ev {
    Arrive(Caller, Req, bool),
    Reply(Caller, Rep),
    Again(Caller, Req),
    Marker(usize, usize, Place),
    Brokers,
    Step(usize, u32),
    Beat(usize, u32),
    Refresh(usize, u32),
    Errand(usize, u32, crate::pump::Errand),
    News(usize, u32, crate::pump::News),
    Start(usize),
    Wake(usize),
    Fault,
    Application,
    EndApplication(usize, u64, bool),
}

/// One direction.
#[derive(Clone, Debug)]
pub struct FlowSpec {
    pub name: Arc<str>,
    pub source: usize,
    pub target: usize,
    pub relay: bool,
}

/// Rules of the commit protocol, broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// (a) commits with the generation known from JoinGroup.
    pub joined_generation: bool,
    /// (b) rejoins while the transaction still holds what is given up.
    pub early_rejoin: bool,
    /// (c) claims survive the membership, and their generation is not looked at.
    pub old_claims: bool,
    /// (d) a slot taken from a member is given to another at once.
    pub hasty_leader: bool,
    /// (e) commits with generation -1 and no member id.
    pub unfenced: bool,
    /// (f) positions are fetched without require_stable.
    pub plain_fetch: bool,
}

pub struct Net {
    pub now: u64,
    pub rng: fastrand::Rng,
    pub clusters: Vec<Cluster>,
    pub flows: Vec<FlowSpec>,
    /// Flow of each pump.
    pub pumps: Vec<usize>,
    pub delivery: Delivery,
    pub broken: Broken,
    /// Faults may happen.
    pub stormy: bool,
    /// Topics that nobody can create on a cluster for now, and records that it does not take.
    pub missing: BTreeSet<(usize, Arc<str>)>,
    pub poison: BTreeSet<u64>,
    pub judge: Judge,
    pub seen: BTreeMap<&'static str, u64>,
    pub numbers: u64,
    /// What leaders answered and nobody has looked at yet.
    pub assigned: Vec<(Arc<str>, i32, Assignment)>,
    seq: u64,
    queue: BTreeMap<(u64, u64), Ev>,
    trace: DefaultHasher,
    story: Option<usize>,
}

impl Net {
    pub fn new(
        seed: u64,
        clusters: Vec<Cluster>,
        flows: Vec<FlowSpec>,
        delivery: Delivery,
        broken: Broken,
    ) -> Self {
        let story = std::env::var("KUROSHIO_SIM_STORY")
            .ok()
            .map(|lines| lines.parse().unwrap_or(0));
        Self {
            now: 0,
            rng: fastrand::Rng::with_seed(seed),
            judge: Judge::new(flows.len()),
            clusters,
            flows,
            pumps: Vec::new(),
            delivery,
            broken,
            stormy: true,
            missing: BTreeSet::new(),
            poison: BTreeSet::new(),
            seen: BTreeMap::new(),
            numbers: 0,
            assigned: Vec::new(),
            seq: 0,
            queue: BTreeMap::new(),
            trace: DefaultHasher::new(),
            story,
        }
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// True once in `n` times, in stormy weather.
    pub fn mishap(&mut self, n: u32) -> bool {
        self.stormy && self.rng.u32(0..n) == 0
    }

    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn after(&mut self, ms: u64, ev: Ev) {
        self.seq += 1;
        self.queue.insert((self.now + ms, self.seq), ev);
    }

    pub fn next(&mut self) -> Option<Ev> {
        let ((at, seq), ev) = self.queue.pop_first()?;
        self.now = at;
        (at, seq).hash(&mut self.trace);
        let text = format!("{ev:?}");
        text.hash(&mut self.trace);
        if self.story.is_some_and(|from| at >= from as u64) && !matches!(ev, Ev::Step(..) | Ev::Brokers) {
            println!("{at} {}", text.chars().take(400).collect::<String>());
        }
        Some(ev)
    }

    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub fn target(&self, pump: usize) -> usize {
        self.flows[self.pumps[pump]].target
    }

    fn delay(&mut self) -> u64 {
        if self.mishap(200) {
            self.rng.u64(200..2_000)
        } else {
            self.rng.u64(1..15)
        }
    }

    /// Sends a request. Only EndTxn is ever lost or answered too late: an idempotent produce is retried until
    /// it is answered, and the others look the same to us as a long delay.
    pub fn send(&mut self, from: Caller, req: Req) {
        let mut delay = self.delay();
        let mut lost_answer = false;
        if matches!(req, Req::End { .. }) && self.mishap(25) {
            self.after(1_000, Ev::Reply(from, Rep::TimedOut));
            match self.rng.u8(0..3) {
                0 => return,
                1 => delay = self.rng.u64(1..4_000),
                _ => {}
            }
            lost_answer = true;
        }
        self.after(delay, Ev::Arrive(from, req, lost_answer));
    }

    pub fn reply(&mut self, to: Caller, rep: Rep) {
        let delay = self.delay();
        self.after(delay, Ev::Reply(to, rep));
    }

    pub fn decide(&mut self, cluster: usize, txn: usize, commit: bool) {
        let places = self.clusters[cluster].decide(txn, commit);
        // Markers of one transaction take their time, each its own.
        for place in places {
            let ms = if self.mishap(8) {
                self.rng.u64(50..900)
            } else {
                self.rng.u64(1..20)
            };
            self.after(ms, Ev::Marker(cluster, txn, place));
        }
    }

    pub fn marker(&mut self, cluster: usize, txn: usize, place: &Place) {
        let moved = self.clusters[cluster].mark(txn, place);
        match place {
            Place::Partition(tp) => self.judge_log(cluster, tp),
            Place::Group(group) => self.judge_positions(cluster, &group.clone(), &moved),
        }
    }
}
