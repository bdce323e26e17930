//! A group coordinator with what matters of the classic protocol: static members, rebalances, fencing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::types::{Membership, TopicPartition};

use crate::net::Caller;

pub const SESSION: u64 = 10_000;
const REBALANCE: u64 = 15_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    UnknownMember,
    IllegalGeneration,
    Rebalance,
    FencedInstance,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub instance: Arc<str>,
    pub metadata: Vec<u8>,
    /// The last generation that it joined in time.
    pub joined: i32,
    joining: Option<Caller>,
    syncing: Option<Caller>,
    heard: u64,
}

/// What the coordinator answers to joins and syncs.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `members` for the leader only: member id and metadata.
    Joined {
        member: Arc<str>,
        generation: i32,
        members: Option<Vec<(Arc<str>, Vec<u8>)>>,
        taken_over: bool,
    },
    Assigned(Vec<u8>),
    No(Refused),
}

pub type Answers = Vec<(Caller, Answer)>;

#[derive(Debug, Default)]
pub struct Group {
    pub state: State,
    pub generation: i32,
    pub members: BTreeMap<Arc<str>, Member>,
    by_instance: BTreeMap<Arc<str>, Arc<str>>,
    leader: Option<Arc<str>>,
    pub assignment: Vec<u8>,
    pub offsets: BTreeMap<TopicPartition, i64>,
    pub pending: BTreeMap<usize, BTreeMap<TopicPartition, i64>>,
    join_by: u64,
    next_member: u64,
}

impl Group {
    fn check(&self, member: &str, instance: &str) -> Result<(), Refused> {
        match self.by_instance.get(instance) {
            Some(known) if &**known != member => Err(Refused::FencedInstance),
            _ if !self.members.contains_key(member) => Err(Refused::UnknownMember),
            _ => Ok(()),
        }
    }

    /// TxnOffsetCommit and OffsetCommit. Without member and generation nobody is fenced, as in Kafka.
    pub fn may_commit(&self, who: &Membership, in_transaction: bool) -> Result<(), Refused> {
        if who.generation < 0 && who.member.is_empty() {
            return Ok(());
        }
        self.check(&who.member, &who.instance)?;
        if who.generation != self.generation {
            return Err(Refused::IllegalGeneration);
        }
        // Only in a transaction is the new generation accepted before its assignment is there.
        if self.state == State::Completing && !in_transaction {
            return Err(Refused::Rebalance);
        }
        Ok(())
    }

    pub fn unstable(&self, tp: &TopicPartition) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(tp))
    }

    pub fn heartbeat(&mut self, now: u64, who: &Membership) -> Result<(), Refused> {
        self.check(&who.member, &who.instance)?;
        if who.generation != self.generation {
            return Err(Refused::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(&who.member) {
            member.heard = now;
        }
        if self.state == State::Preparing {
            Err(Refused::Rebalance)
        } else {
            Ok(())
        }
    }

    pub fn join(
        &mut self,
        now: u64,
        from: Caller,
        instance: &Arc<str>,
        member: &str,
        metadata: Vec<u8>,
    ) -> Answers {
        let mut out = Answers::new();
        if member.is_empty() {
            if let Some(taken) = self.admit(now, from, instance, metadata, &mut out) {
                out.push(taken);
                return out;
            }
        } else {
            if let Err(why) = self.check(member, instance) {
                return vec![(from, Answer::No(why))];
            }
            let id: Arc<str> = member.into();
            let leads = self.leader.as_ref() == Some(&id);
            let Some(known) = self.members.get_mut(&id) else {
                return out;
            };
            let same = known.metadata == metadata;
            (known.metadata, known.heard) = (metadata, now);
            match self.state {
                State::Stable if same && !leads => {
                    let generation = self.generation;
                    out.push((
                        from,
                        Answer::Joined {
                            member: id,
                            generation,
                            members: None,
                            taken_over: false,
                        },
                    ));
                    return out;
                }
                State::Completing if same => {
                    out.push((from, self.answer_join(&id)));
                    return out;
                }
                _ => known.joining = Some(from),
            }
        }
        if self.state != State::Preparing {
            out.extend(self.prepare(now));
        }
        out.extend(self.complete_join(now));
        out
    }

    /// A member without id: a new one, or a restarted one that takes its old place over. In a stable group
    /// that is answered at once, without a rebalance.
    fn admit(
        &mut self,
        now: u64,
        from: Caller,
        instance: &Arc<str>,
        metadata: Vec<u8>,
        out: &mut Answers,
    ) -> Option<(Caller, Answer)> {
        self.next_member += 1;
        let id: Arc<str> = format!("{instance}-m{}", self.next_member).into();
        let old = self.by_instance.insert(Arc::clone(instance), Arc::clone(&id));
        let old = old.and_then(|old| Some((old.clone(), self.members.remove(&old)?)));
        let fresh = Member {
            instance: Arc::clone(instance),
            metadata,
            joined: 0,
            joining: None,
            syncing: None,
            heard: now,
        };
        self.members.insert(Arc::clone(&id), fresh);
        if let Some((old, mut before)) = old {
            if self.leader.as_ref() == Some(&old) {
                self.leader = Some(Arc::clone(&id));
            }
            for waiting in [before.joining.take(), before.syncing.take()]
                .into_iter()
                .flatten()
            {
                out.push((waiting, Answer::No(Refused::FencedInstance)));
            }
            if self.state == State::Stable {
                let generation = self.generation;
                let answer = Answer::Joined {
                    member: id,
                    generation,
                    members: None,
                    taken_over: true,
                };
                return Some((from, answer));
            }
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.joining = Some(from);
        }
        None
    }

    fn prepare(&mut self, now: u64) -> Answers {
        let first = self.state == State::Empty;
        self.state = State::Preparing;
        self.join_by = now + if first { 500 } else { REBALANCE };
        let waiting = self
            .members
            .values_mut()
            .filter_map(|member| member.syncing.take());
        waiting
            .map(|caller| (caller, Answer::No(Refused::Rebalance)))
            .collect()
    }

    fn complete_join(&mut self, now: u64) -> Answers {
        let all = self.members.values().all(|member| member.joining.is_some());
        // An empty group waits its initial delay out, so that it does not begin with one member.
        let initial = self.leader.is_none() && now < self.join_by;
        if self.state != State::Preparing || (!all && now < self.join_by) || initial {
            return Vec::new();
        }
        self.generation += 1;
        self.state = State::Completing;
        let joined = |id: &Arc<str>| {
            self.members
                .get(id)
                .is_some_and(|member| member.joining.is_some())
        };
        if !self.leader.as_ref().is_some_and(joined) {
            self.leader = self
                .members
                .iter()
                .find(|(_, member)| member.joining.is_some())
                .map(|(id, _)| id.clone());
        }
        if self.leader.is_none() {
            self.state = State::Empty;
            return Vec::new();
        }
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        let mut out = Answers::new();
        for id in ids {
            let caller = self.members.get_mut(&id).and_then(|member| {
                // Static members that did not join again stay, with what they said last (Kafka: onCompleteJoin).
                let caller = member.joining.take()?;
                (member.heard, member.joined) = (now, self.generation);
                Some(caller)
            });
            if let Some(caller) = caller {
                out.push((caller, self.answer_join(&id)));
            }
        }
        out
    }

    fn answer_join(&self, id: &Arc<str>) -> Answer {
        let all = || {
            self.members
                .iter()
                .map(|(id, member)| (id.clone(), member.metadata.clone()))
                .collect()
        };
        let members = (self.leader.as_ref() == Some(id)).then(all);
        Answer::Joined {
            member: id.clone(),
            generation: self.generation,
            members,
            taken_over: false,
        }
    }

    pub fn sync(&mut self, now: u64, from: Caller, who: &Membership, assignment: Option<Vec<u8>>) -> Answers {
        if let Err(why) = self.check(&who.member, &who.instance) {
            return vec![(from, Answer::No(why))];
        }
        if who.generation != self.generation {
            return vec![(from, Answer::No(Refused::IllegalGeneration))];
        }
        if let Some(member) = self.members.get_mut(&who.member) {
            member.heard = now;
        }
        match self.state {
            State::Empty | State::Preparing => vec![(from, Answer::No(Refused::Rebalance))],
            State::Stable => vec![(from, Answer::Assigned(self.assignment.clone()))],
            State::Completing => {
                if let Some(member) = self.members.get_mut(&who.member) {
                    member.syncing = Some(from);
                }
                if self.leader.as_ref() != Some(&who.member) {
                    return Vec::new();
                }
                self.assignment = assignment.unwrap_or_default();
                self.state = State::Stable;
                let waiting = self
                    .members
                    .values_mut()
                    .filter_map(|member| member.syncing.take());
                waiting
                    .map(|caller| (caller, Answer::Assigned(self.assignment.clone())))
                    .collect()
            }
        }
    }

    pub fn leave(&mut self, now: u64, who: &Membership) -> Answers {
        if self.check(&who.member, &who.instance).is_err() {
            return Vec::new();
        }
        self.remove(now, &BTreeSet::from([who.member.clone()]))
    }

    fn remove(&mut self, now: u64, gone: &BTreeSet<Arc<str>>) -> Answers {
        let mut out = Answers::new();
        for id in gone {
            if let Some(member) = self.members.remove(id) {
                self.by_instance.remove(&member.instance);
                for caller in [member.joining, member.syncing].into_iter().flatten() {
                    out.push((caller, Answer::No(Refused::UnknownMember)));
                }
            }
            self.leader.take_if(|leader| leader == id);
        }
        if self.members.is_empty() {
            self.state = State::Empty;
            return out;
        }
        if self.state != State::Preparing {
            out.extend(self.prepare(now));
            // Not an empty group: nobody is waited for but its members.
            if self.leader.is_none() {
                self.leader = self.members.keys().next().cloned();
            }
        }
        out.extend(self.complete_join(now));
        out
    }

    /// Sessions that ended, rebalances that waited long enough. Answers the number of members lost.
    pub fn tick(&mut self, now: u64) -> (usize, Answers) {
        let silent = |m: &Member| m.joining.is_none() && m.syncing.is_none() && now > m.heard + SESSION;
        let gone: BTreeSet<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| silent(member))
            .map(|(id, _)| id.clone())
            .collect();
        let mut out = if gone.is_empty() {
            Vec::new()
        } else {
            self.remove(now, &gone)
        };
        out.extend(self.complete_join(now));
        (gone.len(), out)
    }
}
