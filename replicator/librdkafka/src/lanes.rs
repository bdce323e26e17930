//! The engine's lanes: which record belongs to which, what may be forwarded, and the runs that are told.

use std::collections::HashMap;
use std::sync::Arc;

use kuroshio_core::engine::{Fact, PlacedRun, ReadRun};
use kuroshio_core::origin::{Guard, SkipReason};
use kuroshio_core::types::{Lane, SourceOffset, TargetOffset, TopicPartition};

use crate::native::Topic;

/// One lane.
pub(crate) struct LaneState {
    pub(crate) lane: Lane,
    pub(crate) source: TopicPartition,
    pub(crate) guard: Arc<Guard>,
    /// The target topic in the producer.
    pub(crate) target: Arc<Topic>,
    /// The source topic in the consumer; held so that its address goes on naming it.
    pinned: Arc<Topic>,
    /// The next source offset: what lies below was handed on or must not be.
    pub(crate) next: i64,
    /// Closed: something was refused or lost, so that nothing after it may be forwarded or told.
    pub(crate) open: bool,
    /// It cannot be read on; what is in flight of it counts.
    pub(crate) ended: bool,
    /// A refusal was told.
    pub(crate) refused: bool,
    /// Something of the open transaction, or of before it, is on the target or on its way.
    pub(crate) dirty: bool,
    /// Records that the producer holds.
    in_flight: u64,
    /// Read no more; it stays until what is in flight is told of.
    leaving: bool,
    read: Option<ReadRun>,
    placed: Option<PlacedRun>,
    touched: bool,
}

/// The lanes, found by a message's topic address and partition.
#[derive(Default)]
pub(crate) struct Lanes {
    slots: Vec<Option<LaneState>>,
    free: Vec<usize>,
    by_lane: HashMap<Lane, usize>,
    by_source: HashMap<(usize, i32), usize>,
    /// Where the last message belonged: messages come in rows of one partition.
    last: Option<(usize, i32, usize)>,
    /// How many lanes are leaving.
    leaving: usize,
    /// Slots with runs to tell.
    touched: Vec<usize>,
    /// Complete placed runs, in order; told behind what was read.
    placed: Vec<Fact>,
}

impl Lanes {
    /// Adds a lane whose first offset is `start`.
    pub(crate) fn add(
        &mut self,
        (lane, source, guard): (Lane, TopicPartition, Arc<Guard>),
        (pinned, target): (Arc<Topic>, Arc<Topic>),
        start: SourceOffset,
    ) {
        let at = self.free.pop().unwrap_or(self.slots.len());
        self.by_lane.insert(lane, at);
        self.by_source.insert((pinned.address(), source.partition), at);
        let state = LaneState {
            lane,
            source,
            guard,
            target,
            pinned,
            next: start.0,
            open: true,
            ended: false,
            refused: false,
            dirty: false,
            in_flight: 0,
            leaving: false,
            read: None,
            placed: None,
            touched: false,
        };
        if at == self.slots.len() {
            self.slots.push(Some(state));
        } else {
            self.slots[at] = Some(state);
        }
    }

    /// Stops a lane; tells its partition and next offset, `None` if there is no lane of this number. What is
    /// in flight of it is still told of.
    pub(crate) fn remove(&mut self, lane: Lane) -> Option<(TopicPartition, i64)> {
        let at = self.by_lane.remove(&lane)?;
        let state = self.slots[at].as_mut()?;
        self.by_source
            .remove(&(state.pinned.address(), state.source.partition));
        self.last = None;
        let out = (state.source.clone(), state.next);
        state.leaving = true;
        self.leaving += 1;
        self.sweep();
        Some(out)
    }

    /// Frees the slots of lanes that have left.
    fn sweep(&mut self) {
        if self.leaving == 0 {
            return;
        }
        for at in 0..self.slots.len() {
            let gone = |state: &LaneState| state.leaving && state.in_flight == 0 && !state.touched;
            if self.slots[at].as_ref().is_some_and(gone) {
                self.slots[at] = None;
                self.free.push(at);
                self.leaving -= 1;
            }
        }
    }

    /// How many are read.
    pub(crate) fn count(&self) -> u64 {
        self.by_lane.len() as u64
    }

    pub(crate) fn contains(&self, lane: Lane) -> bool {
        self.by_lane.contains_key(&lane)
    }

    pub(crate) fn by_lane(&mut self, lane: Lane) -> Option<&mut LaneState> {
        let at = *self.by_lane.get(&lane)?;
        self.slots[at].as_mut()
    }

    /// The slot of a message.
    pub(crate) fn find(&mut self, topic: usize, partition: i32) -> Option<usize> {
        match self.last {
            Some((t, p, at)) if t == topic && p == partition => Some(at),
            _ => {
                let at = *self.by_source.get(&(topic, partition))?;
                self.last = Some((topic, partition, at));
                Some(at)
            }
        }
    }

    pub(crate) fn at(&mut self, slot: usize) -> Option<&mut LaneState> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LaneState> {
        self.slots.iter_mut().flatten()
    }

    /// The producer holds one record of this lane more.
    pub(crate) fn sent(state: &mut LaneState) {
        state.dirty = true;
        state.in_flight += 1;
    }

    /// The lane of a record that the producer gave back, if it is still there.
    pub(crate) fn back(&mut self, slot: usize, lane: Lane) -> Option<&mut LaneState> {
        let state = self.at(slot).filter(|state| state.lane == lane)?;
        state.in_flight = state.in_flight.saturating_sub(1);
        Some(state)
    }

    /// Notes that the offsets up to `next` were read; the run goes on where the last one ended.
    pub(crate) fn passed(&mut self, slot: usize, next: i64) -> Option<&mut ReadRun> {
        self.touch(slot);
        let state = self.at(slot)?;
        let first = SourceOffset(state.next);
        state.next = next;
        let run = state.read.get_or_insert_with(|| ReadRun {
            lane: state.lane,
            first,
            next: first,
            forwarded: Vec::new(),
            skipped: Vec::new(),
            bytes: 0,
            leader_epoch: None,
        });
        run.next = SourceOffset(next);
        Some(run)
    }

    /// Notes that a record lies at `base` (negative: the broker did not say where).
    pub(crate) fn put(&mut self, slot: usize, offset: i64, base: i64, bytes: u64, timestamp: i64) {
        self.touch(slot);
        let Some(state) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let base = TargetOffset(base.max(-1));
        let oldest = (timestamp >= 0).then_some(timestamp);
        if let Some(run) = &mut state.placed {
            let follows =
                run.first.plus(run.count).0 == offset && base.0 >= 0 && run.base.plus(run.count) == base;
            if follows {
                run.count += 1;
                run.bytes += bytes;
                run.oldest_timestamp = run.oldest_timestamp.into_iter().chain(oldest).min();
                return;
            }
        }
        let first = SourceOffset(offset);
        let run = PlacedRun {
            lane: state.lane,
            first,
            base,
            count: 1,
            bytes,
            oldest_timestamp: oldest,
        };
        self.placed.extend(state.placed.replace(run).map(Fact::Placed));
    }

    fn touch(&mut self, slot: usize) {
        let Some(state) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        if !state.touched {
            state.touched = true;
            self.touched.push(slot);
        }
    }

    /// Moves all runs into `facts`: what was read before what was placed.
    pub(crate) fn tell(&mut self, facts: &mut Vec<Fact>) {
        for &slot in &self.touched {
            let Some(state) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            state.touched = false;
            facts.extend(state.read.take().map(Fact::Read));
            self.placed.extend(state.placed.take().map(Fact::Placed));
        }
        self.touched.clear();
        facts.append(&mut self.placed);
        self.sweep();
    }

    /// Drops the runs of lanes that are in doubt; see [`LaneState::open`].
    pub(crate) fn discard_placed(&mut self) {
        self.placed.clear();
        for state in self.iter_mut() {
            state.placed = None;
        }
    }
}

/// Notes in a run that the record at `offset` was forwarded.
pub(crate) fn forwarded(run: &mut ReadRun, offset: i64, bytes: u64) {
    run.bytes += bytes;
    match run.forwarded.last_mut() {
        Some((_, end)) if end.0 == offset => end.0 += 1,
        _ => run
            .forwarded
            .push((SourceOffset(offset), SourceOffset(offset + 1))),
    }
}

/// Notes in a run that a record was skipped.
pub(crate) fn skipped(run: &mut ReadRun, reason: SkipReason) {
    match run.skipped.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, count)) => *count += 1,
        None => run.skipped.push((reason, 1)),
    }
}
