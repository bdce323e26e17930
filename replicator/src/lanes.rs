//! What a pump knows of its lanes besides their rules: names, guards, what is stored with a position, where records went,
//! metric handles; and the view of them for status and metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kuroshio_client::Hint;
use kuroshio_core::engine::{Fact, LaneSpec, PlacedRun, RefusalKind};
use kuroshio_core::flow::{Flow, Pairing, Phase, refusal_label};
use kuroshio_core::origin::{Forward, Guard, GuardError};
use kuroshio_core::runs::{self, Run, Runs};
use kuroshio_core::slots::Slot;
use kuroshio_core::start::{LogId, Metadata};
use kuroshio_core::types::{Lane, Position, SourceOffset, TopicPartition};
use kuroshio_wire::{GroupOffset, TopicId};
use tokio::sync::Notify;

use crate::board::{FlowBoard, wall_ms};
use crate::metrics::{FlowMetrics, LaneMetrics, Outcome};

/// The two ends of a flow.
#[derive(Clone, Debug)]
pub struct FlowEnds {
    /// The flow's name.
    pub flow: Arc<str>,
    /// Alias of the source.
    pub source: Arc<str>,
    /// Alias of the target.
    pub target: Arc<str>,
    /// Kafka's id of the source cluster.
    pub source_id: Arc<str>,
    /// Which tagged records go on.
    pub forward: Forward,
}

impl FlowEnds {
    /// The source log of a pairing.
    #[must_use]
    pub fn log(&self, pairing: &Pairing) -> LogId {
        LogId {
            cluster: self.source_id.to_string(),
            topic: TopicId(pairing.topic_id).to_string(),
        }
    }

    /// What the engine needs to know of a lane.
    ///
    /// # Errors
    /// A name that cannot stand in a tag.
    pub fn spec(&self, lane: Lane, pairing: &Pairing, start: Position) -> Result<LaneSpec, GuardError> {
        let guard = Guard::new(
            &self.source,
            &pairing.source.topic,
            pairing.source.partition,
            &self.target,
            &pairing.target_topic,
            self.forward,
        )?;
        Ok(LaneSpec {
            lane,
            source: pairing.source.clone(),
            target_topic: Arc::clone(&pairing.target_topic),
            start,
            guard: Arc::new(guard),
            form: pairing.form,
        })
    }

    /// Kafka's id of the target topic, if it is there and its cluster names ids.
    #[must_use]
    pub fn target_topic(&self, pairing: &Pairing) -> Option<String> {
        let known = pairing.target_id.filter(|id| *id != [0; 16]);
        known.map(|id| TopicId(id).to_string())
    }

    /// A position as it is stored in a group.
    #[must_use]
    pub fn stored(&self, pairing: &Pairing, position: &Position) -> GroupOffset {
        GroupOffset {
            offset: position.offset.0,
            leader_epoch: position.leader_epoch,
            metadata: self.metadata(pairing, position),
        }
    }

    /// What is stored with a position.
    #[must_use]
    pub fn metadata(&self, pairing: &Pairing, position: &Position) -> Arc<str> {
        let metadata = Metadata {
            log: self.log(pairing),
            copies: position.copies,
            target: self.target_topic(pairing),
        };
        metadata.to_string().into()
    }
}

/// Runs kept for each lane. A transaction ends one: at a busy lane's ten a second these are some seconds, as far as groups that are up
/// to date lie behind.
const RUNS: usize = 64;

/// Where a lane's newest committed records lie on the target.
#[derive(Clone, Debug)]
pub struct Whereabouts(Arc<Mutex<Runs>>);

impl Default for Whereabouts {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Runs::new(RUNS))))
    }
}

impl Whereabouts {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the first record from `source` on lies, or will lie; `None`: unknown.
    #[must_use]
    pub fn find(&self, source: SourceOffset) -> Option<Hint> {
        match self.runs().find(source) {
            runs::Hint::Exact(at) | runs::Hint::After { next: at, .. } => Some(Hint::At(at.0)),
            runs::Hint::Behind(at) => Some(Hint::From(at.0)),
            runs::Hint::Unknown => None,
        }
    }
}

/// One lane in the view.
#[derive(Clone, Debug)]
pub struct LaneView {
    /// Its number, another one each time that it is opened.
    pub lane: Lane,
    /// What it binds.
    pub pairing: Pairing,
    /// Where it is in its life.
    pub phase: Phase,
    /// Next source offset: everything before it is durable or passed over.
    pub position: Option<SourceOffset>,
    /// The newest position that is committed.
    pub committed: Option<Position>,
    /// Where its records went.
    pub whereabouts: Whereabouts,
}

/// What others may know of a pump, renewed twice a second and when it got ready or not ready.
#[derive(Clone, Debug, Default)]
pub struct PumpView {
    /// The engine is open.
    pub open: bool,
    /// Generation of the applied assignment.
    pub generation: Option<i32>,
    /// The slots it owns.
    pub slots: Arc<[Slot]>,
    /// Its lanes.
    pub lanes: Arc<[LaneView]>,
}

impl PumpView {
    /// The pump has a seat in the group and an engine that moves records.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.open && self.generation.is_some()
    }
}

/// Counts of one lane that are not durable yet.
#[derive(Debug)]
struct Pending {
    source: TopicPartition,
    metrics: LaneMetrics,
    records: u64,
    bytes: u64,
    oldest: Option<i64>,
    placed: Vec<PlacedRun>,
    whereabouts: Whereabouts,
}

impl Pending {
    /// Notes where the durable records lie.
    fn locate(&self) {
        let mut runs = self.whereabouts.runs();
        for placed in &self.placed {
            if placed.base.0 < 0 {
                runs.forget(placed.first.plus(placed.count));
            } else {
                runs.place(Run {
                    source: placed.first,
                    target: placed.base,
                    count: placed.count,
                });
            }
        }
    }
}

/// A pump's desk.
#[derive(Debug)]
pub struct LaneDesk {
    ends: FlowEnds,
    metrics: FlowMetrics,
    board: Arc<FlowBoard>,
    /// Makes discovery look at once.
    look: Arc<Notify>,
    lanes: HashMap<Lane, Pending>,
    moved: Vec<Lane>,
}

impl LaneDesk {
    /// An empty desk.
    #[must_use]
    pub fn new(ends: FlowEnds, metrics: FlowMetrics, board: Arc<FlowBoard>, look: Arc<Notify>) -> Self {
        Self {
            ends,
            metrics,
            board,
            look,
            lanes: HashMap::new(),
            moved: Vec::new(),
        }
    }

    /// What the engine needs to know of a lane; from now on what it tells of it is counted.
    ///
    /// # Errors
    /// A name that cannot stand in a tag.
    pub fn spec(&mut self, lane: Lane, pairing: &Pairing, start: Position) -> Result<LaneSpec, GuardError> {
        let metrics = self.metrics.lane(&pairing.source.topic, pairing.source.partition);
        self.lanes.insert(
            lane,
            Pending {
                source: pairing.source.clone(),
                metrics,
                records: 0,
                bytes: 0,
                oldest: None,
                placed: Vec::new(),
                whereabouts: Whereabouts::default(),
            },
        );
        self.ends.spec(lane, pairing, start)
    }

    /// The flow's name.
    #[must_use]
    pub fn flow(&self) -> Arc<str> {
        Arc::clone(&self.ends.flow)
    }

    /// What is stored with a position of this lane.
    #[must_use]
    pub fn metadata(&self, pairing: &Pairing, position: &Position) -> Arc<str> {
        self.ends.metadata(pairing, position)
    }

    /// The lane left.
    pub fn forget(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
    }

    /// Counts what the engine tells.
    pub fn record(&mut self, fact: &Fact) {
        match fact {
            Fact::Read(run) => {
                if let Some(pending) = self.lanes.get(&run.lane) {
                    for (reason, count) in &run.skipped {
                        pending.metrics.skipped(*reason, *count);
                    }
                }
            }
            Fact::Placed(run) => {
                if let Some(pending) = self.lanes.get_mut(&run.lane) {
                    if pending.records == 0 {
                        self.moved.push(run.lane);
                    }
                    pending.records += run.count;
                    pending.bytes += run.bytes;
                    pending.oldest = [pending.oldest, run.oldest_timestamp].into_iter().flatten().min();
                    pending.placed.push(run.clone());
                }
            }
            Fact::Refused { lane, at, why } => {
                let (target, partition) = (&self.ends.target, self.source_of(*lane));
                if why.kind == RefusalKind::TargetMissing {
                    self.doubt();
                }
                self.board.error(format!(
                    "cluster {target} refused the record at source offset {at} of {partition} ({}): {}",
                    refusal_label(why.kind),
                    why.text
                ));
            }
            Fact::OutOfRange { lane, at } => {
                let source = self.source_of(*lane);
                tracing::warn!(
                    flow = %self.ends.flow, topic = %source.topic, partition = source.partition, offset = at.0,
                    "position not in the source log"
                );
            }
            Fact::Unreadable { lane, why } => {
                let source = self.source_of(*lane);
                tracing::warn!(
                    flow = %self.ends.flow, topic = %source.topic, partition = source.partition, error = why,
                    "source partition cannot be read"
                );
                self.doubt();
            }
            Fact::Trouble { source, why } => {
                let cluster = if *source {
                    &self.ends.source
                } else {
                    &self.ends.target
                };
                tracing::warn!(flow = %self.ends.flow, %cluster, error = why, "connection trouble");
            }
        }
    }

    /// The source partition of a lane, for words; a lane that has left is named by its number.
    fn source_of(&self, lane: Lane) -> TopicPartition {
        self.lanes.get(&lane).map_or_else(
            || TopicPartition::new(format!("(lane {})", lane.0), -1),
            |pending| pending.source.clone(),
        )
    }

    /// What was placed is durable (`true`), or does not count (`false`).
    pub fn settle(&mut self, durable: bool) {
        let now = wall_ms();
        for lane in self.moved.drain(..) {
            let Some(pending) = self.lanes.get_mut(&lane) else {
                continue;
            };
            if durable {
                pending.metrics.placed(pending.records, pending.bytes);
                self.board.placed(pending.records, pending.bytes);
                if let Some(oldest) = pending.oldest.filter(|t| *t > 0) {
                    // Clocks of producers may run ahead: never negative.
                    let ms = u64::try_from(now.saturating_sub(oldest)).unwrap_or(0);
                    self.metrics.latency(Duration::from_millis(ms));
                }
                pending.locate();
            }
            pending.placed.clear();
            (pending.records, pending.bytes, pending.oldest) = (0, 0, None);
        }
    }

    fn whereabouts(&self, lane: Lane) -> Whereabouts {
        let known = self.lanes.get(&lane).map(|pending| pending.whereabouts.clone());
        known.unwrap_or_default()
    }

    /// Something of the target may not be as discovery saw it.
    pub fn doubt(&self) {
        self.look.notify_one();
    }

    /// Counts how a transaction ended.
    pub fn transaction(&self, outcome: Outcome) {
        self.metrics.transaction(outcome);
    }

    /// The view of a flow whose engine is `open` or not.
    #[must_use]
    pub fn view(&self, flow: &Flow, open: bool) -> PumpView {
        let (membership, slots) = flow.seat();
        let lanes = flow
            .lanes()
            .map(|(lane, state)| LaneView {
                lane,
                pairing: state.pairing.clone(),
                phase: state.phase.clone(),
                position: flow.position(lane),
                committed: state.committed.clone(),
                whereabouts: self.whereabouts(lane),
            })
            .collect();
        PumpView {
            open,
            generation: membership.map(|m| m.generation),
            slots: slots.iter().copied().collect(),
            lanes,
        }
    }
}

#[cfg(test)]
mod tests {
    use kuroshio_core::engine::{BatchForm, Codec};
    use kuroshio_core::types::TargetOffset;

    use super::*;
    use crate::metrics::Metrics;
    use crate::status::FlowStatus;

    const LANE: Lane = Lane(1);

    fn desk() -> LaneDesk {
        let ends = FlowEnds {
            flow: "tw-jp".into(),
            source: "tw".into(),
            target: "jp".into(),
            source_id: "source-id".into(),
            forward: Forward::Local,
        };
        let metrics = Arc::new(Metrics::new().unwrap()).flow("tw-jp");
        let board = Arc::new(FlowBoard::new(FlowStatus::default()));
        let mut desk = LaneDesk::new(ends, metrics, board, Arc::default());
        let pairing = Pairing {
            source: TopicPartition::new("t", 0),
            topic_id: [1; 16],
            target_topic: "t".into(),
            target_id: Some([2; 16]),
            form: BatchForm::of(Codec::None),
            paused: false,
        };
        let start = Position {
            offset: SourceOffset(10),
            leader_epoch: None,
            copies: kuroshio_core::types::Copies::default(),
        };
        desk.spec(LANE, &pairing, start).unwrap();
        desk
    }

    fn placed(first: i64, base: i64, count: u64) -> Fact {
        Fact::Placed(PlacedRun {
            lane: LANE,
            first: SourceOffset(first),
            base: TargetOffset(base),
            count,
            bytes: 1,
            oldest_timestamp: None,
        })
    }

    #[test]
    fn only_what_is_durable_has_its_place() {
        let mut desk = desk();
        let whereabouts = desk.whereabouts(LANE);
        let find = |source| whereabouts.find(SourceOffset(source));
        desk.record(&placed(10, 100, 5));
        assert_eq!(find(12), None);
        desk.settle(false);
        assert_eq!(find(12), None, "aborted");
        desk.record(&placed(10, 107, 5));
        desk.settle(true);
        assert_eq!((find(12), find(9)), (Some(Hint::At(109)), None));
        assert_eq!(find(15), Some(Hint::From(112)), "others may write there first");
        // The broker took it for a duplicate.
        desk.record(&placed(15, -1, 1));
        desk.record(&placed(16, 115, 1));
        desk.settle(true);
        assert_eq!((find(12), find(15), find(16)), (None, None, Some(Hint::At(115))));
        desk.forget(LANE);
        assert_eq!(desk.whereabouts(LANE).find(SourceOffset(16)), None);
    }
}
