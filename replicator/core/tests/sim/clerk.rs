//! The clerk beside a pump, which opens lanes and stores positions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_core::flow::Pairing;
use kuroshio_core::slots::{SLOT_COUNT, slot_of};
use kuroshio_core::types::{Lane, Membership, Position, TopicPartition};

use crate::log::TxnError;
use crate::net::{Caller, Ev, Part, Rep, Req};
use crate::pump::{News, Pump};

/// A new owner waits so long for a stable position before it releases the transaction of the owner before.
const ORPHAN: u64 = 500;

#[derive(Debug)]
pub enum Chore {
    /// Since when positions have been unstable; the lanes; who commits their starts.
    Open {
        since: u64,
        lanes: Vec<(Lane, Pairing)>,
        membership: Membership,
        init: bool,
    },
    Start {
        lanes: Vec<(Lane, Pairing)>,
        known: BTreeMap<TopicPartition, i64>,
    },
    Store(Vec<(Lane, TopicPartition, Position)>),
}

#[derive(Debug, Default)]
pub struct Clerk {
    pub chores: BTreeMap<u64, Chore>,
    /// An errand is on its way to it.
    pub sent_for: bool,
}

impl Clerk {
    /// It can open lanes: it does so one errand after the other.
    pub fn is_free(&self) -> bool {
        let opens = |chore: &Chore| !matches!(chore, Chore::Store(_));
        !self.sent_for && !self.chores.values().any(opens)
    }
}

impl Pump {
    pub fn fetch(&mut self, chore: Chore) {
        let Chore::Open { lanes, .. } = &chore else { return };
        let partitions = lanes.iter().map(|(_, pairing)| pairing.target()).collect();
        let token = self.ask(
            Part::Clerk,
            Req::Fetch {
                group: self.group.clone(),
                partitions,
            },
        );
        self.clerk.chores.insert(token, chore);
    }

    pub fn clerk_hears(&mut self, token: u64, rep: Rep) {
        match (self.clerk.chores.remove(&token), rep) {
            (
                Some(Chore::Open {
                    lanes, membership, ..
                }),
                Rep::Offsets(Some(known)),
            ) => {
                self.start(lanes, membership, known);
            }
            (
                Some(Chore::Open {
                    since,
                    lanes,
                    membership,
                    ..
                }),
                Rep::Offsets(None),
            ) => {
                let waited = self.net.borrow().now - since;
                let orphan = lanes.iter().find_map(|(_, pairing)| self.owner_before(pairing));
                let chore = Chore::Open {
                    since,
                    lanes,
                    membership,
                    init: waited >= ORPHAN,
                };
                match orphan.filter(|_| waited >= ORPHAN) {
                    Some(id) => {
                        let token = self.ask(Part::Clerk, Req::Init(id));
                        self.clerk.chores.insert(token, chore);
                    }
                    None => self.later(chore),
                }
            }
            (
                Some(Chore::Open {
                    since,
                    lanes,
                    membership,
                    init: true,
                }),
                Rep::Init(how),
            ) => {
                let since = if how == Err(TxnError::Concurrent) {
                    self.net.borrow().now
                } else {
                    since
                };
                self.later(Chore::Open {
                    since,
                    lanes,
                    membership,
                    init: false,
                });
            }
            (Some(Chore::Start { lanes, known }), Rep::Done(Ok(()))) => self.opened(&lanes, &known),
            (Some(Chore::Start { lanes, .. }), Rep::Done(Err(_))) => {
                lanes
                    .iter()
                    .for_each(|(lane, _)| self.tell(News::OpenStale(*lane)));
            }
            (Some(Chore::Store(positions)), Rep::Done(how)) => {
                let stored = positions.into_iter().map(|(lane, _, at)| (lane, at)).collect();
                self.tell(News::Stored(if how.is_ok() { stored } else { Vec::new() }));
            }
            (chore, _) => {
                chore.into_iter().for_each(|chore| self.fetch(chore));
            }
        }
    }

    /// Asks again in a while; the wait is a request that takes its time.
    fn later(&mut self, chore: Chore) {
        let Chore::Open { lanes, .. } = &chore else { return };
        let partitions = lanes.iter().map(|(_, pairing)| pairing.target()).collect();
        let token = self.net.borrow_mut().number();
        let caller = Caller {
            pump: self.at,
            life: self.life,
            part: Part::Clerk,
            token,
        };
        self.net.borrow_mut().after(
            100,
            Ev::Again(
                caller,
                Req::Fetch {
                    group: self.group.clone(),
                    partitions,
                },
            ),
        );
        self.clerk.chores.insert(token, chore);
    }

    fn owner_before(&self, pairing: &Pairing) -> Option<Arc<str>> {
        let slot = slot_of(&pairing.source.topic, pairing.source.partition, SLOT_COUNT);
        let share = self.seat.assignment.as_ref()?.slots.get(usize::from(slot.0))?;
        let last = share.last.as_deref().filter(|last| *last != &*self.name)?;
        Some(last.into())
    }

    /// Partitions without a position start at their first record, which is committed at once.
    fn start(
        &mut self,
        lanes: Vec<(Lane, Pairing)>,
        membership: Membership,
        mut known: BTreeMap<TopicPartition, i64>,
    ) {
        let cluster = self.net.borrow().target(self.at);
        let (there, gone): (Vec<_>, Vec<_>) = lanes.into_iter().partition(|(_, pairing)| {
            self.net.borrow().clusters[cluster]
                .log(&pairing.target())
                .is_some()
        });
        for (lane, _) in gone {
            self.net.borrow_mut().saw("target topic missing");
            self.tell(News::OpenFailed(lane));
        }
        let fresh: Vec<(TopicPartition, i64)> = there
            .iter()
            .map(|(_, pairing)| (pairing.target(), 0))
            .filter(|(tp, _)| !known.contains_key(tp))
            .collect();
        if fresh.is_empty() {
            return self.opened(&there, &known);
        }
        known.extend(fresh.clone());
        let token = self.ask(
            Part::Clerk,
            Req::Commit {
                membership,
                offsets: fresh,
            },
        );
        self.clerk
            .chores
            .insert(token, Chore::Start { lanes: there, known });
    }

    fn opened(&self, lanes: &[(Lane, Pairing)], known: &BTreeMap<TopicPartition, i64>) {
        for (lane, pairing) in lanes {
            self.tell(News::Opened(
                *lane,
                known.get(&pairing.target()).copied().unwrap_or(0),
            ));
        }
    }
}
