//! What the clusters' brokers answer to requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_core::engine::RefusalKind;
use kuroshio_core::slots::{Assignment, Subscription};
use kuroshio_core::types::{Membership, TopicPartition};

use crate::group::{Answer, Group, Refused, State};
use crate::log::{Rec, Speaker, TxnError};
use crate::net::{Caller, Ev, Net, Part, Rep, Req, TXN_TIMEOUT};

impl Net {
    pub fn arrive(&mut self, from: Caller, req: Req, lost_answer: bool) {
        let cluster = self.target(from.pump);
        let now = self.now;
        let rep = match req {
            Req::Init(id) => match self.clusters[cluster].init(&id) {
                Err(why) => Rep::Init(Err(why)),
                Ok((epoch, None)) => Rep::Init(Ok(epoch)),
                Ok((_, Some(txn))) => {
                    if from.part == Part::Clerk {
                        self.saw("orphan released by InitProducerId");
                    }
                    self.decide(cluster, txn, false);
                    Rep::Init(Err(TxnError::Concurrent))
                }
            },
            Req::Produce { who, tp, recs } => self.produce(cluster, who.as_ref(), &tp, recs),
            Req::TxnOffsets {
                who,
                membership,
                offsets,
            } => self.txn_offsets(cluster, &who, &membership, offsets),
            Req::End { who, commit } => match self.clusters[cluster].ending(&who) {
                Err(why) => Rep::Txn(Err(why)),
                Ok(txn) => {
                    if let Some(txn) = txn {
                        if lost_answer && commit {
                            self.saw("unknown outcome that was committed");
                        }
                        self.decide(cluster, txn, commit);
                    }
                    Rep::Txn(Ok(()))
                }
            },
            Req::Join { .. } | Req::Sync { .. } | Req::Leave(_) => {
                return self.arrive_group(cluster, from, req);
            }
            Req::Heartbeat(membership) => {
                Rep::Done(self.group(cluster, &membership.group).heartbeat(now, &membership))
            }
            Req::Fetch { group, partitions } => Rep::Offsets(self.fetch(cluster, &group, &partitions)),
            Req::Commit { membership, offsets } => {
                let verdict = self
                    .group(cluster, &membership.group)
                    .may_commit(&membership, false);
                if verdict.is_ok() {
                    self.judge_commit(cluster, &membership, &offsets);
                    let group = Arc::clone(&membership.group);
                    self.group(cluster, &group).offsets.extend(offsets.clone());
                    self.judge_positions(cluster, &group, &offsets);
                }
                Rep::Done(verdict)
            }
        };
        if !lost_answer {
            self.reply(from, rep);
        }
    }

    fn arrive_group(&mut self, cluster: usize, from: Caller, req: Req) {
        let now = self.now;
        let answers = match req {
            Req::Join {
                group,
                instance,
                member,
                metadata,
            } => {
                let claims = Subscription::decode(&metadata)
                    .expect("a subscription of ours")
                    .claims;
                if member.is_empty() && claims.is_some() {
                    self.judge
                        .fail(format!("(c) {instance} has no membership and claims slots"));
                }
                self.group(cluster, &group)
                    .join(now, from, &instance, &member, metadata)
            }
            Req::Sync {
                membership,
                assignment,
            } => {
                let group = self.group(cluster, &membership.group);
                let before = group.state;
                let answers = group.sync(now, from, &membership, assignment);
                if before == State::Completing && group.state == State::Stable {
                    let assignment = Assignment::decode(&group.assignment).expect("an assignment of ours");
                    self.assigned
                        .push((membership.group, membership.generation, assignment));
                }
                answers
            }
            Req::Leave(membership) => self.group(cluster, &membership.group).leave(now, &membership),
            _ => return,
        };
        self.answer(answers);
    }

    pub fn group(&mut self, cluster: usize, name: &Arc<str>) -> &mut Group {
        self.clusters[cluster].groups.entry(Arc::clone(name)).or_default()
    }

    pub fn answer(&mut self, answers: Vec<(Caller, Answer)>) {
        for (to, answer) in answers {
            if matches!(answer, Answer::Joined { taken_over: true, .. }) {
                self.saw("restart by static takeover without rebalance");
            }
            self.reply(to, Rep::Group(answer));
        }
    }

    fn produce(&mut self, cluster: usize, who: Option<&Speaker>, tp: &TopicPartition, recs: Vec<Rec>) -> Rep {
        if self.clusters[cluster].log(tp).is_none() {
            return Rep::NotPlaced(RefusalKind::TargetMissing);
        }
        if recs.iter().any(|rec| self.poison.contains(&rec.id)) {
            return Rep::NotPlaced(RefusalKind::TooLarge);
        }
        let txn = match who
            .map(|who| self.clusters[cluster].enter(self.now, who))
            .transpose()
        {
            Ok(txn) => txn,
            Err(why) => return Rep::Txn(Err(why)),
        };
        match self.clusters[cluster].write(tp, recs, txn) {
            None => Rep::NotPlaced(RefusalKind::TargetMissing),
            Some(base) => {
                self.judge_log(cluster, tp);
                Rep::Placed(base)
            }
        }
    }

    fn txn_offsets(
        &mut self,
        cluster: usize,
        who: &Speaker,
        membership: &Membership,
        offsets: Vec<(TopicPartition, i64)>,
    ) -> Rep {
        let txn = match self.clusters[cluster].enter(self.now, who) {
            Ok(txn) => txn,
            Err(why) => return Rep::Txn(Err(why)),
        };
        let verdict = self
            .group(cluster, &membership.group)
            .may_commit(membership, true);
        match verdict {
            Ok(()) => {
                self.judge_commit(cluster, membership, &offsets);
                self.clusters[cluster].hold_offsets(txn, &membership.group, offsets);
            }
            Err(Refused::IllegalGeneration) => self.saw("abort by stale generation"),
            Err(_) => self.saw("zombie's commit refused"),
        }
        Rep::Done(verdict)
    }

    fn fetch(
        &mut self,
        cluster: usize,
        group: &Arc<str>,
        partitions: &[TopicPartition],
    ) -> Option<BTreeMap<TopicPartition, i64>> {
        let plain = self.broken.plain_fetch;
        let group = self.group(cluster, group);
        if !plain && partitions.iter().any(|tp| group.unstable(tp)) {
            self.saw("unstable offsets seen");
            return None;
        }
        let known = partitions
            .iter()
            .filter_map(|tp| Some((tp.clone(), *group.offsets.get(tp)?)));
        Some(known.collect())
    }

    /// Ends sessions, transactions and rebalances that took too long.
    pub fn brokers(&mut self) {
        for cluster in 0..self.clusters.len() {
            let groups: Vec<Arc<str>> = self.clusters[cluster].groups.keys().cloned().collect();
            for group in groups {
                let now = self.now;
                let (lost, answers) = self.group(cluster, &group).tick(now);
                if lost > 0 {
                    self.saw("session expired");
                }
                self.answer(answers);
            }
            let old: Vec<usize> = self.clusters[cluster].running.iter().copied().collect();
            for txn in old {
                if self.now > self.clusters[cluster].txns[txn].begun + TXN_TIMEOUT {
                    self.saw("transaction timed out");
                    self.decide(cluster, txn, false);
                }
            }
        }
        self.after(100, Ev::Brokers);
    }
}
