//! The member of the group beside a pump, which also leads the group when chosen.

use std::collections::VecDeque;
use std::sync::Arc;

use kuroshio_core::slots::{self, Assignment, Claims, Member, Round, SLOT_COUNT, Subscription};
use kuroshio_core::types::Membership;

use crate::clerk::Chore;
use crate::group::{Answer, Refused};
use crate::net::{Caller, Ev, Part, Rep, Req};
use crate::pump::{Errand, News, Pump};

#[derive(Debug, Default)]
enum Talk {
    #[default]
    Nothing,
    Joining,
    Syncing(Membership),
}

/// The member's side of the group.
#[derive(Debug, Default)]
pub struct Seat {
    talk: Talk,
    token: u64,
    beat: u64,
    member: Option<Arc<str>>,
    /// Of the newest SyncGroup.
    pub synced: Option<Membership>,
    pub assignment: Option<Assignment>,
    queue: VecDeque<Option<Claims>>,
    old_claims: Option<Claims>,
}

impl Seat {
    pub fn is_syncing(&self) -> bool {
        matches!(self.talk, Talk::Syncing(_))
    }
}

impl Pump {
    pub fn ask(&self, part: Part, req: Req) -> u64 {
        let token = self.net.borrow_mut().number();
        self.net.borrow_mut().send(
            Caller {
                pump: self.at,
                life: self.life,
                part,
                token,
            },
            req,
        );
        token
    }

    /// In the order told, as through a channel.
    pub fn tell(&self, news: News) {
        let ms = self.net.borrow_mut().rng.u64(0..10);
        let at = self.told.get().max(self.net.borrow().now + ms);
        self.told.set(at);
        let ms = at - self.net.borrow().now;
        self.net
            .borrow_mut()
            .after(ms, Ev::News(self.at, self.life, news));
    }

    pub fn errand(&mut self, errand: Errand) {
        match errand {
            Errand::Join(claims) => {
                self.seat.queue.push_back(claims);
                let broken = self.net.borrow().broken.early_rejoin;
                if broken {
                    self.seat.queue.truncate(1);
                } else if self.seat.queue.len() > 1 || !matches!(self.seat.talk, Talk::Nothing) {
                    self.net
                        .borrow_mut()
                        .judge
                        .fail(format!("(c) {} orders join after join", self.name));
                }
                self.join();
            }
            Errand::Open(lanes, membership) => {
                self.clerk.sent_for = false;
                let since = self.net.borrow().now;
                self.fetch(Chore::Open {
                    since,
                    lanes,
                    membership,
                    init: false,
                });
            }
            Errand::Store(membership, positions) => {
                let offsets = positions
                    .iter()
                    .map(|(_, tp, at)| (tp.clone(), at.offset.0))
                    .collect();
                let token = self.ask(Part::Clerk, Req::Commit { membership, offsets });
                self.clerk.chores.insert(token, Chore::Store(positions));
            }
        }
    }

    fn join(&mut self) {
        if !matches!(self.seat.talk, Talk::Nothing) {
            return;
        }
        let Some(claims) = self.seat.queue.pop_front() else {
            return;
        };
        // The order may have been given before the pump heard that its seat is lost.
        let mut claims = claims.filter(|_| self.seat.member.is_some());
        if self.net.borrow().broken.old_claims {
            claims = claims.or_else(|| self.seat.old_claims.clone());
            self.seat.old_claims = claims.clone();
        }
        let subscription = Subscription {
            transactional_id: self.name.to_string(),
            claims,
            fingerprint: 7,
            incarnation: u64::from(self.life),
        };
        let metadata = subscription.encode().expect("a subscription is JSON");
        let member = self.seat.member.clone().unwrap_or_else(|| "".into());
        let (group, instance) = (self.group.clone(), self.name.clone());
        self.seat.token = self.ask(
            Part::Member,
            Req::Join {
                group,
                instance,
                member,
                metadata,
            },
        );
        self.seat.talk = Talk::Joining;
    }

    pub fn beat(&mut self) {
        if let (Talk::Nothing, Some(membership)) = (&self.seat.talk, &self.seat.synced) {
            self.seat.beat = self.ask(Part::Member, Req::Heartbeat(membership.clone()));
        }
        self.net.borrow_mut().after(500, Ev::Beat(self.at, self.life));
    }

    pub fn leave(&self) {
        if let Some(membership) = &self.seat.synced {
            self.ask(Part::Member, Req::Leave(membership.clone()));
        }
    }

    fn lose_seat(&mut self, why: Refused) {
        self.seat.talk = Talk::Nothing;
        match why {
            Refused::FencedInstance => self.tell(News::Fenced),
            Refused::Rebalance | Refused::IllegalGeneration => {
                self.seat.synced = None;
                self.tell(News::Rebalancing);
            }
            Refused::UnknownMember => {
                (self.seat.member, self.seat.synced) = (None, None);
                self.tell(News::SeatLost);
            }
        }
    }

    pub fn member_hears(&mut self, token: u64, rep: Rep) {
        if token == self.seat.beat {
            match rep {
                Rep::Done(Err(why)) if matches!(self.seat.talk, Talk::Nothing) => self.lose_seat(why),
                _ => {}
            }
        } else if token == self.seat.token {
            match (std::mem::take(&mut self.seat.talk), rep) {
                (
                    Talk::Joining,
                    Rep::Group(Answer::Joined {
                        member,
                        generation,
                        members,
                        ..
                    }),
                ) => {
                    self.seat.member = Some(member.clone());
                    let (group, instance) = (self.group.clone(), self.name.clone());
                    let membership = Membership {
                        group,
                        instance,
                        member,
                        generation,
                    };
                    self.tell(News::Joined(generation));
                    let assignment = members.map(|members| self.lead(&membership, &members));
                    let sync = Req::Sync {
                        membership: membership.clone(),
                        assignment,
                    };
                    self.seat.token = self.ask(Part::Member, sync);
                    self.seat.talk = Talk::Syncing(membership);
                }
                (Talk::Syncing(membership), Rep::Group(Answer::Assigned(bytes))) => {
                    let assignment = Assignment::decode(&bytes).expect("an assignment of ours");
                    self.seat.synced = Some(membership.clone());
                    self.seat.assignment = Some(assignment.clone());
                    let slots = assignment.slots_of(&self.name);
                    if self.net.borrow().broken.early_rejoin && !self.flow.seat().1.is_subset(&slots) {
                        self.seat.queue.push_back(Some(Claims {
                            generation: membership.generation,
                            slot_count: SLOT_COUNT,
                            slots,
                        }));
                    }
                    self.tell(News::Assigned(membership, assignment));
                }
                (_, Rep::Group(Answer::No(why))) => {
                    self.lose_seat(why);
                    self.tell(News::JoinFailed);
                }
                (talk, _) => self.seat.talk = talk,
            }
            self.join();
        }
    }

    /// Divides the slots.
    fn lead(&self, me: &Membership, members: &[(Arc<str>, Vec<u8>)]) -> Vec<u8> {
        let broken = self.net.borrow().broken;
        let mut members: Vec<Member> = members
            .iter()
            .filter_map(|(id, bytes)| {
                Some(Member {
                    id: id.to_string(),
                    subscription: Subscription::decode(bytes).ok()?,
                })
            })
            .collect();
        let generations = members
            .iter()
            .filter_map(|m| Some(m.subscription.claims.as_ref()?.generation));
        let newest = generations.clone().max();
        if generations.min() != newest {
            self.net.borrow_mut().saw("old claim passed over");
        }
        if broken.old_claims {
            for claims in members
                .iter_mut()
                .filter_map(|member| member.subscription.claims.as_mut())
            {
                claims.generation = newest.unwrap_or(0);
            }
        }
        let round = Round {
            members: &members,
            leader: &me.member,
            weights: &[],
            previous: self.seat.assignment.as_ref(),
            fresh: false,
        };
        let mut assignment = slots::assign(&round);
        if assignment.slots.iter().any(|share| share.promised.is_some()) {
            self.net.borrow_mut().saw("slot taken in two phases");
        }
        if broken.hasty_leader {
            for share in &mut assignment.slots {
                share.owner = share.owner.take().or(share.promised.take());
            }
        }
        assignment.encode().expect("an assignment is JSON")
    }
}
