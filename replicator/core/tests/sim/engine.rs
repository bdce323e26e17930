//! The engine seam over the simulated clusters. What takes time (building, committing, aborting) is begun with
//! `start_…`; the driver calls the seam's method when `is_ready`, so that a pump can be frozen in the middle.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::engine::{Commit, Ended, Engine, EngineError, Fact, Hauled, LaneSpec, PlacedRun, Refusal};
use kuroshio_core::flow::Delivery;
use kuroshio_core::types::{Lane, SourceOffset, TargetOffset, TopicPartition};

use crate::group::Refused;
use crate::log::{Rec, Speaker, TxnError};
use crate::net::{Caller, Part, Rep, Req, Shared};

pub type Batch = Vec<Rec>;

pub struct LaneIo {
    pub spec: LaneSpec,
    pub at: i64,
    pub queue: VecDeque<Batch>,
    /// Token and batch of the one request under way.
    pub sent: Option<(u64, Batch)>,
    pub refused: bool,
}

enum Work {
    None,
    New,
    Building,
    Flushing(Commit),
    Offsets(Commit),
    Committing,
    /// Asked to commit and not answered; a new producer is on its way.
    Reviving,
    Aborting(Ended),
    Ready(Result<Ended, EngineError>),
}

pub struct SimEngine {
    pub net: Shared,
    pub me: Caller,
    id: Arc<str>,
    epoch: i32,
    client: u64,
    /// The producer was ended: another engine is needed.
    over: bool,
    pub lanes: BTreeMap<Lane, LaneIo>,
    /// Detached with records still under way.
    ghosts: Vec<LaneIo>,
    pub facts: Vec<Fact>,
    trouble: Option<EngineError>,
    work: Work,
    token: u64,
}

impl SimEngine {
    pub fn new(net: Shared, pump: usize, life: u32, id: Arc<str>) -> Self {
        let token = net.borrow_mut().number();
        let me = Caller {
            pump,
            life,
            part: Part::Engine,
            token,
        };
        let exactly_once = net.borrow().delivery == Delivery::ExactlyOnce;
        Self {
            net,
            me,
            id,
            epoch: -1,
            client: 0,
            over: false,
            lanes: BTreeMap::new(),
            ghosts: Vec::new(),
            facts: Vec::new(),
            trouble: None,
            work: if exactly_once { Work::New } else { Work::None },
            token,
        }
    }

    fn exactly_once(&self) -> bool {
        self.net.borrow().delivery == Delivery::ExactlyOnce
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.work, Work::Ready(_))
    }

    fn ask(&mut self, req: Req) -> u64 {
        let token = self.net.borrow_mut().number();
        self.token = token;
        self.net.borrow_mut().send(Caller { token, ..self.me }, req);
        token
    }

    fn speaker(&self) -> Speaker {
        Speaker {
            id: Arc::clone(&self.id),
            epoch: self.epoch,
            client: self.client,
        }
    }

    fn dispatch(&mut self) {
        let exactly_once = self.exactly_once();
        let who = exactly_once.then(|| self.speaker());
        let Self {
            lanes,
            ghosts,
            net,
            me,
            ..
        } = self;
        for io in lanes.values_mut().chain(ghosts.iter_mut()) {
            if io.sent.is_some() {
                continue;
            }
            let Some(batch) = io.queue.pop_front() else {
                continue;
            };
            let token = net.borrow_mut().number();
            let tp = TopicPartition::new(Arc::clone(&io.spec.target_topic), io.spec.source.partition);
            let req = Req::Produce {
                who: who.clone(),
                tp,
                recs: batch.clone(),
            };
            net.borrow_mut().send(Caller { token, ..*me }, req);
            io.sent = Some((token, batch));
        }
        ghosts.retain(|io| io.sent.is_some());
    }

    fn is_flushed(&self) -> bool {
        self.lanes
            .values()
            .chain(&self.ghosts)
            .all(|io| io.sent.is_none() && io.queue.is_empty())
    }

    /// An answer came. Whatever it means for the pump waits for the next call of the seam.
    pub fn hear(&mut self, token: u64, rep: Rep) {
        let produced = self
            .lanes
            .values_mut()
            .chain(&mut self.ghosts)
            .find(|io| io.sent.as_ref().is_some_and(|(sent, _)| *sent == token));
        if let Some(io) = produced {
            if matches!(rep, Rep::Txn(Err(TxnError::Concurrent))) {
                return self.again(token);
            }
            let Some((_, batch)) = io.sent.take() else { return };
            let lane = io.spec.lane;
            match rep {
                Rep::Placed(base) => self.facts.push(placed(lane, base, &batch)),
                Rep::NotPlaced(kind) => {
                    io.queue.clear();
                    io.refused = true;
                    let at = SourceOffset(batch[0].from);
                    self.facts.push(Fact::Refused {
                        lane,
                        at,
                        why: Refusal {
                            kind,
                            text: "by the sim".into(),
                        },
                    });
                }
                Rep::Txn(Err(TxnError::Fenced)) => self.trouble = Some(EngineError::Fenced("produce".into())),
                _ => self.trouble = Some(EngineError::Rebuild("the transaction is over".into())),
            }
            self.dispatch();
            return self.go_on();
        }
        if token == self.token {
            self.hear_work(rep);
        }
    }

    fn again(&mut self, token: u64) {
        let who = self.exactly_once().then(|| self.speaker());
        let caller = Caller { token, ..self.me };
        let req = self.lanes.values().chain(&self.ghosts).find_map(|io| {
            let (_, batch) = io.sent.as_ref().filter(|(sent, _)| *sent == token)?;
            let tp = TopicPartition::new(Arc::clone(&io.spec.target_topic), io.spec.source.partition);
            Some(Req::Produce {
                who: who.clone(),
                tp,
                recs: batch.clone(),
            })
        });
        if let Some(req) = req {
            self.net
                .borrow_mut()
                .after(20, crate::net::Ev::Again(caller, req));
        }
    }

    /// Asks again in a while, under the same token.
    fn soon(&self, req: Req) {
        let caller = Caller {
            token: self.token,
            ..self.me
        };
        self.net
            .borrow_mut()
            .after(20, crate::net::Ev::Again(caller, req));
    }

    fn hear_work(&mut self, rep: Rep) {
        let work = std::mem::replace(&mut self.work, Work::None);
        self.work = match (work, rep) {
            (Work::Building, Rep::Init(Ok(epoch))) => {
                self.epoch = epoch;
                Work::None
            }
            (Work::Reviving, Rep::Init(Ok(epoch))) => {
                self.epoch = epoch;
                Work::Ready(Ok(Ended::Unknown {
                    why: "no answer".into(),
                }))
            }
            (work @ (Work::Building | Work::Reviving), _) => {
                self.soon(Req::Init(Arc::clone(&self.id)));
                work
            }
            (Work::Offsets(commit), Rep::Done(Ok(()))) => {
                drop(commit);
                self.ask(Req::End {
                    who: self.speaker(),
                    commit: true,
                });
                Work::Committing
            }
            (Work::Offsets(_), Rep::Done(Err(Refused::FencedInstance))) => {
                Work::Ready(Err(EngineError::Fenced("FENCED_INSTANCE_ID".into())))
            }
            (Work::Offsets(_), Rep::Done(Err(why))) => {
                self.ask(Req::End {
                    who: self.speaker(),
                    commit: false,
                });
                Work::Aborting(Ended::Aborted {
                    why: format!("{why:?}"),
                    rejoin: true,
                })
            }
            (Work::Offsets(commit), Rep::Txn(Err(TxnError::Concurrent))) => {
                self.soon(self.offsets(&commit));
                Work::Offsets(commit)
            }
            (Work::Committing, Rep::Txn(Ok(()))) => Work::Ready(Ok(Ended::Committed)),
            (Work::Committing, Rep::TimedOut) => {
                self.net.borrow_mut().saw("unknown outcome");
                // Engines differ: one has a new producer at once, the other has to be built anew.
                self.over = self.net.borrow_mut().rng.bool();
                if !self.over {
                    self.ask(Req::Init(Arc::clone(&self.id)));
                    self.work = Work::Reviving;
                    return;
                }
                Work::Ready(Ok(Ended::Unknown {
                    why: "no answer".into(),
                }))
            }
            (Work::Aborting(how), Rep::Txn(Ok(()) | Err(TxnError::Over))) => Work::Ready(Ok(how)),
            (Work::Aborting(_), Rep::TimedOut) => Work::Ready(Err(EngineError::Rebuild("no answer".into()))),
            (_, Rep::Txn(Err(TxnError::Over))) => Work::Ready(Ok(Ended::Aborted {
                why: "timed out".into(),
                rejoin: false,
            })),
            (_, Rep::Txn(Err(_))) => Work::Ready(Err(EngineError::Fenced("transaction".into()))),
            (other, _) => other,
        };
    }

    fn offsets(&self, commit: &Commit) -> Req {
        let offsets = commit
            .positions
            .iter()
            .map(|(tp, position, _)| (tp.clone(), position.offset.0))
            .collect();
        Req::TxnOffsets {
            who: self.speaker(),
            membership: commit.membership.clone(),
            offsets,
        }
    }

    pub fn start_commit(&mut self, commit: &Commit) {
        self.work = Work::Flushing(commit.clone());
        self.go_on();
    }

    pub fn start_abort(&mut self) {
        self.drop_all();
        self.ask(Req::End {
            who: self.speaker(),
            commit: false,
        });
        self.work = Work::Aborting(Ended::Aborted {
            why: "taken back".into(),
            rejoin: false,
        });
    }

    /// Nothing of what was forwarded counts any more, and nothing more of it is sent.
    fn drop_all(&mut self) {
        self.ghosts.clear();
        for io in self.lanes.values_mut() {
            // Its lane leaves before it is read again: the flow knows that it had records in the transaction.
            io.refused |= io.sent.is_some() || !io.queue.is_empty();
            io.queue.clear();
            io.sent = None;
        }
    }

    fn go_on(&mut self) {
        let Work::Flushing(commit) = &self.work else {
            return;
        };
        if let Some(trouble) = self.trouble.take() {
            self.work = Work::Ready(Err(trouble));
        } else if self.lanes.values().chain(&self.ghosts).any(|io| io.refused) {
            self.net.borrow_mut().saw("refusal in a transaction");
            self.drop_all();
            self.ask(Req::End {
                who: self.speaker(),
                commit: false,
            });
            self.work = Work::Aborting(Ended::Aborted {
                why: "refused".into(),
                rejoin: false,
            });
        } else if self.is_flushed() {
            let commit = commit.clone();
            self.ask(self.offsets(&commit));
            self.work = Work::Offsets(commit);
        }
    }

    fn give(&mut self, facts: &mut Vec<Fact>) -> Result<(), EngineError> {
        facts.append(&mut self.facts);
        self.trouble.take().map_or(Ok(()), Err)
    }
}

fn placed(lane: Lane, base: i64, batch: &[Rec]) -> Fact {
    Fact::Placed(PlacedRun {
        lane,
        first: SourceOffset(batch[0].from),
        base: TargetOffset(base),
        count: batch.len() as u64,
        bytes: 100 * batch.len() as u64,
        oldest_timestamp: None,
    })
}

impl Engine for SimEngine {
    fn open(&mut self, _wait: Duration, _facts: &mut Vec<Fact>) -> Result<bool, EngineError> {
        if matches!(self.work, Work::New) {
            self.work = Work::Building;
            self.ask(Req::Init(Arc::clone(&self.id)));
        }
        Ok(!matches!(self.work, Work::Building))
    }

    fn attach(&mut self, lanes: Vec<LaneSpec>) -> Result<(), EngineError> {
        for spec in lanes {
            let at = spec.start.offset.0;
            let io = LaneIo {
                at,
                queue: VecDeque::new(),
                sent: None,
                refused: false,
                spec,
            };
            let lane = io.spec.lane;
            if self.lanes.insert(lane, io).is_some() {
                self.net
                    .borrow_mut()
                    .judge
                    .fail(format!("lane {} was attached twice", lane.0));
            }
        }
        Ok(())
    }

    fn detach(&mut self, lanes: &[Lane]) -> Result<(), EngineError> {
        let gone = lanes.iter().filter_map(|lane| self.lanes.remove(lane));
        self.ghosts
            .extend(gone.filter(|io| io.sent.is_some() || !io.queue.is_empty()));
        Ok(())
    }

    fn haul(&mut self, wait: Duration, facts: &mut Vec<Fact>) -> Result<Hauled, EngineError> {
        if self.net.borrow_mut().mishap(40) {
            self.settle(wait, facts)?;
            return Ok(Hauled::Full);
        }
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        for lane in lanes {
            if self.net.borrow_mut().rng.u8(0..4) > 0 {
                self.read(lane);
            }
        }
        self.dispatch();
        if self.net.borrow_mut().mishap(3_000) {
            self.net.borrow_mut().saw("rebuild");
            self.trouble = Some(EngineError::Rebuild("a client died".into()));
        }
        self.settle(wait, facts).map(|()| Hauled::Looked)
    }

    fn settle(&mut self, _wait: Duration, facts: &mut Vec<Fact>) -> Result<(), EngineError> {
        self.give(facts)
    }

    fn begin(&mut self) -> Result<(), EngineError> {
        if self.over {
            return Err(EngineError::Rebuild("the producer was ended".into()));
        }
        self.client = self.net.borrow_mut().number();
        Ok(())
    }

    fn commit(&mut self, _commit: &Commit, facts: &mut Vec<Fact>) -> Result<Ended, EngineError> {
        facts.append(&mut self.facts);
        match std::mem::replace(&mut self.work, Work::None) {
            Work::Ready(how) => how,
            _ => Err(EngineError::Fatal(
                "the driver did not wait for the commit".into(),
            )),
        }
    }

    fn abort(&mut self) -> Result<(), EngineError> {
        self.facts.clear();
        match std::mem::replace(&mut self.work, Work::None) {
            Work::Ready(how) => how.map(|_| ()),
            _ => Err(EngineError::Fatal("the driver did not wait for the abort".into())),
        }
    }

    fn in_flight_bytes(&self) -> u64 {
        let batches = self
            .lanes
            .values()
            .flat_map(|io| io.queue.iter().chain(io.sent.as_ref().map(|(_, b)| b)));
        batches.map(|batch| 100 * batch.len() as u64).sum()
    }
}
