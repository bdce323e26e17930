//! The invariants of DESIGN §4, looked at whenever a log, a position or an ownership changes. The judge goes by
//! the truth that records carry, never by what the product thinks of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_core::flow::Delivery;
use kuroshio_core::origin::{Tag, check};
use kuroshio_core::slots::{Assignment, SLOT_COUNT, slot_of};
use kuroshio_core::types::{Membership, TopicPartition};

use crate::group::State;
use crate::log::{Entry, Rec};
use crate::net::{FlowSpec, Net};

/// What each flow must copy and has copied, by source partition.
#[derive(Debug)]
pub struct Judge {
    /// Offsets that a read_committed reader of the source sees and the flow must forward, in order.
    pub must: Vec<BTreeMap<TopicPartition, Vec<i64>>>,
    /// How many of them a read_committed reader of the target has seen.
    pub copied: Vec<BTreeMap<TopicPartition, usize>>,
    pub again: u64,
    /// The first invariant that did not hold, and how.
    pub fault: Option<String>,
}

impl Judge {
    pub fn new(flows: usize) -> Self {
        let (must, copied) = (vec![BTreeMap::new(); flows], vec![BTreeMap::new(); flows]);
        Self {
            must,
            copied,
            again: 0,
            fault: None,
        }
    }

    pub fn fail(&mut self, why: String) {
        self.fault.get_or_insert(why);
    }

    fn owed(&self, flow: usize, tp: &TopicPartition) -> &[i64] {
        self.must[flow].get(tp).map_or(&[], Vec::as_slice)
    }

    /// Records that the flow has not copied yet, over all partitions.
    pub fn missing(&self, flow: usize) -> Vec<(TopicPartition, i64)> {
        let rest = |(tp, must): (&TopicPartition, &Vec<i64>)| {
            let done = self.copied[flow].get(tp).copied().unwrap_or(0);
            must.get(done).map(|next| (tp.clone(), *next))
        };
        self.must[flow].iter().filter_map(rest).collect()
    }
}

/// Whether a flow forwards a record with this path, told by truth alone.
fn is_owed(flow: &FlowSpec, rec: &Rec) -> bool {
    if flow.relay {
        !rec.path.contains(&flow.target)
    } else {
        rec.path.len() == 1
    }
}

impl Net {
    fn flow_between(&self, source: usize, target: usize) -> Option<usize> {
        self.flows
            .iter()
            .position(|flow| flow.source == source && flow.target == target)
    }

    /// Looks at what a read_committed reader of the partition newly sees.
    pub fn judge_log(&mut self, cluster: usize, tp: &TopicPartition) {
        let Some(log) = self.clusters[cluster].log(tp) else {
            return;
        };
        let (from, to) = (log.judged, log.last_stable());
        for offset in from..to {
            let Some(rec) = self.clusters[cluster].committed(tp, offset).cloned() else {
                continue;
            };
            for (flow, spec) in self.flows.iter().enumerate() {
                if spec.source == cluster && is_owed(spec, &rec) {
                    self.judge.must[flow].entry(tp.clone()).or_default().push(offset);
                }
            }
            if rec.path.len() > 1 {
                self.judge_copy(cluster, tp, offset, &rec);
            }
        }
        if let Some(log) = self.clusters[cluster].log_mut(tp) {
            log.judged = log.judged.max(to);
        }
    }

    fn judge_copy(&mut self, cluster: usize, tp: &TopicPartition, offset: i64, rec: &Rec) {
        let place = format!("{}/{tp}/{offset}", self.clusters[cluster].alias);
        let source = rec.path[rec.path.len() - 2];
        if rec.path[..rec.path.len() - 1].contains(&cluster) {
            self.judge.fail(format!(
                "a_record_never_returns_to_its_origin: {place} was in {:?}",
                rec.path
            ));
        }
        let tag = rec.tags.last().and_then(|tag| Tag::parse(tag));
        let fits = tag.is_some_and(|tag| {
            let (last, birth) = (tag.last(), tag.birth());
            tag.explains(
                &tp.topic,
                tp.partition,
                check(rec.key.as_deref(), rec.value.as_deref()),
            ) && last.cluster == self.clusters[source].alias
                && last.offset.0 == rec.from
                && birth.cluster == self.clusters[rec.path[0]].alias
                && tag.hops().count() == rec.path.len() - 1
        });
        if !fits {
            self.judge.fail(format!(
                "the tag of {place} does not say where it came from: {rec:?}"
            ));
        }
        let Some(flow) = self.flow_between(source, cluster) else {
            return;
        };
        let done = self.judge.copied[flow].get(tp).copied().unwrap_or(0);
        let owed = self.judge.owed(flow, tp);
        let known = owed[..done].binary_search(&rec.from).is_ok();
        match owed.get(done) {
            Some(next) if *next == rec.from => {
                self.judge.copied[flow].insert(tp.clone(), done + 1);
            }
            _ if known && self.delivery == Delivery::AtLeastOnce => self.judge.again += 1,
            _ if known => self.judge.fail(format!(
                "exactly_once_means_once: {place} is source {} again",
                rec.from
            )),
            next => {
                let why = format!("{place} is source {} where {next:?} comes next", rec.from);
                self.judge
                    .fail(format!("order_within_a_partition_is_kept: {why}"));
            }
        }
    }

    fn flow_of_group(&self, group: &str) -> Option<usize> {
        self.flows
            .iter()
            .position(|flow| group.strip_prefix("kuroshio.") == Some(&*flow.name))
    }

    /// Positions of a group that now count.
    pub fn judge_positions(&mut self, cluster: usize, group: &Arc<str>, moved: &[(TopicPartition, i64)]) {
        let Some(flow) = self.flow_of_group(group) else {
            return;
        };
        for (tp, position) in moved {
            let done = self.judge.copied[flow].get(tp).copied().unwrap_or(0);
            let Some(log) = self.clusters[cluster].log(tp) else {
                if self.judge.owed(flow, tp).iter().any(|owed| owed < position) {
                    self.judge.fail(format!(
                        "no_record_is_lost: {tp} at {position} without a target topic"
                    ));
                }
                continue;
            };
            // Durable, but behind a transaction whose marker is not there yet.
            let decided: Vec<i64> = log.entries[log.judged as usize..]
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Data(rec, txn) => {
                        let is_decided =
                            |txn: usize| self.clusters[cluster].txns[txn].committed == Some(true);
                        txn.is_none_or(is_decided).then_some(rec.from)
                    }
                    Entry::Marker | Entry::Gap => None,
                })
                .collect();
            let mut owed = self.judge.owed(flow, tp)[done..]
                .iter()
                .take_while(|owed| *owed < position);
            if let Some(lost) = owed.find(|owed| !decided.contains(owed)) {
                let why = format!(
                    "{}: {tp} was committed at {position} without {lost}",
                    self.flows[flow].name
                );
                self.judge.fail(format!("no_record_is_lost: {why}"));
            }
            let end = self.clusters[self.flows[flow].source]
                .log(tp)
                .map_or(0, crate::log::Log::last_stable);
            if *position > end {
                self.judge.fail(format!(
                    "no_record_is_lost: {tp} at {position} beyond the source's {end}"
                ));
            }
        }
    }

    /// A commit that the coordinator lets pass: it must be its sender's to make.
    pub fn judge_commit(&mut self, cluster: usize, who: &Membership, offsets: &[(TopicPartition, i64)]) {
        if self.flow_of_group(&who.group).is_none() || who.generation < 0 {
            return;
        }
        let group = self.group(cluster, &who.group);
        if group.state == State::Completing {
            self.judge.fail(format!(
                "(a) {} committed in a generation that has no assignment yet",
                who.member
            ));
            return;
        }
        let Ok(assignment) = Assignment::decode(&group.assignment) else {
            self.judge
                .fail(format!("(a) {} committed without any assignment", who.member));
            return;
        };
        let mut slots = assignment.slots_of(&who.instance);
        slots.extend(assignment.given_up_by(&who.instance));
        for (tp, _) in offsets {
            // Identity naming: the source partition has the same name.
            if !slots.contains(&slot_of(&tp.topic, tp.partition, SLOT_COUNT)) {
                self.judge.fail(format!(
                    "{} committed {tp}, whose slot is not its own",
                    who.member
                ));
            }
        }
    }
}
