//! The reading side of the simulated engine.

use std::collections::BTreeMap;

use kuroshio_core::engine::{Fact, ReadRun};
use kuroshio_core::origin::{SkipReason, Verdict};
use kuroshio_core::types::{Lane, SourceOffset};

use crate::engine::{Batch, LaneIo, SimEngine};
use crate::log::{Cluster, Entry, Rec};

impl SimEngine {
    /// Reads a random number of offsets of a lane, as far as its log is stable.
    pub fn read(&mut self, lane: Lane) {
        let Some(io) = self.lanes.get_mut(&lane).filter(|io| !io.refused) else {
            return;
        };
        let mut net = self.net.borrow_mut();
        let flow = &net.flows[net.pumps[self.me.pump]];
        let (source, target) = (flow.source, flow.target);
        let most = net.rng.i64(1..30);
        let cluster = &net.clusters[source];
        let Some(log) = cluster.log(&io.spec.source) else {
            return;
        };
        if io.at > log.end() {
            let at = SourceOffset(io.at);
            return self.facts.push(Fact::OutOfRange { lane, at });
        }
        let to = log.last_stable().min(io.at + most);
        if to <= io.at {
            return;
        }
        if to == log.end() && matches!(log.entries.last(), Some(Entry::Marker)) {
            net.saw("EOF past markers");
        }
        let (run, batches) = judge(&net.clusters[source], io, to, target);
        for mut rest in batches {
            // The producer cuts where it likes.
            let cut = net.rng.usize(1..=rest.len());
            while rest.len() > cut {
                let tail = rest.split_off(cut);
                io.queue.push_back(rest);
                rest = tail;
            }
            io.queue.push_back(rest);
        }
        io.at = to;
        self.facts.push(Fact::Read(run));
    }
}

/// The run up to `to`, and what is forwarded of it, in batches of consecutive offsets.
fn judge(cluster: &Cluster, io: &LaneIo, to: i64, target: usize) -> (ReadRun, Vec<Batch>) {
    let mut run = ReadRun {
        lane: io.spec.lane,
        first: SourceOffset(io.at),
        next: SourceOffset(to),
        forwarded: Vec::new(),
        skipped: Vec::new(),
        bytes: 0,
        leader_epoch: None,
    };
    let mut batches: Vec<Batch> = Vec::new();
    let mut skipped: BTreeMap<SkipReason, u64> = BTreeMap::new();
    for offset in io.at..to {
        let Some(rec) = cluster.committed(&io.spec.source, offset) else {
            continue;
        };
        let tags = rec.tags.iter().map(Vec::as_slice);
        let (earlier, check) = match io
            .spec
            .guard
            .judge(tags, rec.key.as_deref(), rec.value.as_deref())
        {
            Verdict::Skip(reason) => {
                *skipped.entry(reason).or_default() += 1;
                continue;
            }
            Verdict::Forward { earlier, check } => (earlier, check),
        };
        let at = SourceOffset(offset);
        let mut tag = Vec::new();
        io.spec.guard.write(&mut tag, earlier, at, check);
        let path = rec.path.iter().copied().chain([target]).collect();
        let copy = Rec {
            tags: vec![tag],
            path,
            from: offset,
            ..(**rec).clone()
        };
        run.bytes += 100;
        match (run.forwarded.last_mut(), batches.last_mut()) {
            (Some((_, end)), Some(batch)) if *end == at => {
                *end = at.plus(1);
                batch.push(copy);
            }
            _ => {
                run.forwarded.push((at, at.plus(1)));
                batches.push(vec![copy]);
            }
        }
    }
    run.skipped = skipped.into_iter().collect();
    (run, batches)
}
