//! Applications and administrators on both sides.

use std::sync::Arc;

use kuroshio_core::origin::{check, explains};
use kuroshio_core::types::TopicPartition;

use crate::log::{Entry, Log, Rec, Speaker};
use crate::net::{Ev, Net};

impl Net {
    pub fn add_topic(&mut self, cluster: usize, name: &str, partitions: usize) {
        let logs = self.clusters[cluster].topics.entry(name.into()).or_default();
        logs.resize_with(partitions.max(logs.len()), Log::default);
    }

    fn some_partition(&mut self, cluster: usize) -> TopicPartition {
        let topics: Vec<(Arc<str>, usize)> = self.clusters[cluster]
            .topics
            .iter()
            .map(|(name, logs)| (name.clone(), logs.len()))
            .collect();
        let topics: Vec<_> = topics
            .into_iter()
            .filter(|(_, partitions)| *partitions > 0)
            .collect();
        let (name, partitions) = &topics[self.rng.usize(0..topics.len())];
        TopicPartition::new(name.clone(), self.rng.i32(0..*partitions as i32))
    }

    fn fresh(&mut self, cluster: usize) -> Rec {
        let id = self.number();
        let key = self
            .rng
            .bool()
            .then(|| format!("k{}", self.rng.u8(0..9)).into_bytes());
        let value = (self.rng.u8(0..10) > 0).then(|| format!("v{id}").into_bytes());
        Rec {
            id,
            key,
            value,
            tags: Vec::new(),
            path: vec![cluster],
            from: -1,
        }
    }

    /// One thing that an application does.
    pub fn application(&mut self) {
        if !self.stormy {
            return;
        }
        let cluster = self.rng.usize(0..self.clusters.len());
        let tp = self.some_partition(cluster);
        match self.rng.u8(0..10) {
            0 | 1 => self.republish(cluster, &tp),
            2 | 3 => {
                let client = self.number();
                let who = Speaker {
                    id: format!("app-{client}").into(),
                    epoch: 0,
                    client,
                };
                for _ in 0..self.rng.usize(1..3) {
                    let tp = self.some_partition(cluster);
                    let recs = vec![self.fresh(cluster), self.fresh(cluster)];
                    if let Ok(txn) = self.clusters[cluster].enter(self.now, &who) {
                        self.clusters[cluster].write(&tp, recs, Some(txn));
                    }
                }
                let (ms, commit) = (self.rng.u64(1..3_000), self.rng.u8(0..3) > 0);
                self.after(ms, Ev::EndApplication(cluster, client, commit));
            }
            4 => {
                if let Some(log) = self.clusters[cluster].log_mut(&tp) {
                    log.entries.push(Entry::Gap);
                }
            }
            _ => {
                let count = self.rng.usize(1..9);
                let recs: Vec<Rec> = (0..count).map(|_| self.fresh(cluster)).collect();
                if self.mishap(60) {
                    self.poison.insert(recs[0].id);
                }
                self.clusters[cluster].write(&tp, recs, None);
                self.judge_log(cluster, &tp);
            }
        }
        let ms = self.rng.u64(20..400);
        self.after(ms, Ev::Application);
    }

    pub fn end_application(&mut self, cluster: usize, client: u64, commit: bool) {
        let who = Speaker {
            id: format!("app-{client}").into(),
            epoch: 0,
            client,
        };
        if let Ok(Some(txn)) = self.clusters[cluster].ending(&who) {
            self.decide(cluster, txn, commit);
        }
    }

    /// A stream application or dead-letter tool: takes any record and writes it elsewhere, headers and all.
    fn republish(&mut self, cluster: usize, from: &TopicPartition) {
        let end = self.clusters[cluster].log(from).map_or(0, Log::last_stable);
        if end == 0 {
            return;
        }
        let offset = self.rng.i64(0..end);
        let Some(rec) = self.clusters[cluster].committed(from, offset).cloned() else {
            return;
        };
        let to = if self.rng.bool() { "dead" } else { "derived" };
        self.add_topic(cluster, to, 2);
        let to = if self.rng.u8(0..3) == 0 {
            self.some_partition(cluster)
        } else {
            TopicPartition::new(to, from.partition.min(1))
        };
        let mut copy = Rec {
            id: self.number(),
            path: vec![cluster],
            from: -1,
            ..(*rec).clone()
        };
        if self.rng.bool() {
            copy.value = Some(format!("derived {}", copy.id).into_bytes());
        }
        // Left open, and documented: an unchanged record, published again into its own partition.
        let fits = check(copy.key.as_deref(), copy.value.as_deref());
        if copy
            .tags
            .iter()
            .any(|tag| explains(tag, &to.topic, to.partition, fits))
        {
            return;
        }
        if !copy.tags.is_empty() {
            self.saw("copied header in a record born here");
        }
        self.clusters[cluster].write(&to, vec![copy], None);
        self.judge_log(cluster, &to);
    }

    /// New topics and partitions, topics that cannot be created for a while, records that are not taken.
    pub fn topic_trouble(&mut self) {
        let cluster = self.rng.usize(0..self.clusters.len());
        match self.rng.u8(0..4) {
            0 => {
                let name = format!("new-{}", self.rng.u8(0..4));
                let partitions = self.rng.usize(1..4);
                for other in 0..self.clusters.len() {
                    let known = self.clusters[other].topics.contains_key(&*name);
                    if other != cluster && !known && self.rng.bool() {
                        self.missing.insert((other, name.as_str().into()));
                    }
                }
                self.add_topic(cluster, &name, partitions);
            }
            1 => {
                let tp = self.some_partition(cluster);
                let more = self.clusters[cluster].topics[&tp.topic].len() + 1;
                if more < 6 {
                    self.add_topic(cluster, &tp.topic, more);
                    self.saw("partitions added");
                }
            }
            2 => self.missing.clear(),
            _ => self.poison.clear(),
        }
    }
}
