//! The clerk of one pump: finds out where lanes start, and commits that before their first record.

mod answers;
pub(crate) mod identity;
mod orphans;
mod starts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::flow::{Pairing, Quarantine};
use kuroshio_core::start::{Loss, OnDataLoss};
use kuroshio_core::types::{Lane, Membership, Position, SourceOffset, TargetOffset, TopicPartition};
use kuroshio_wire::{
    ByPartition, Cluster, EpochEnd, Error, GroupOffset, Isolation, ListedOffset, OffsetAt, Stored,
};
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tracing::Instrument;

use crate::board::FlowBoard;
use crate::first_look::FirstLook;
use crate::lanes::FlowEnds;
use crate::line::{PumpGone, PumpLine};
use crate::member::Seating;
use crate::metrics::FlowMetrics;
use crate::pump::{News, OpenErrand};
use crate::spans;

/// A position that stays unstable for so long has an owner that died in a transaction.
const ORPHANED: Duration = Duration::from_millis(500);
/// Between two looks at an unstable position.
const LOOK: Duration = Duration::from_millis(50);
/// Before lanes whose cluster did not answer are tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Where a flow's partitions start when it first starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStart {
    /// At their first record.
    Earliest,
    /// At their end.
    Latest,
    /// At the first record of this time, in milliseconds since 1970, or later.
    Timestamp(i64),
}

/// One pump's clerk.
pub struct Clerk {
    /// The flow's ends.
    pub ends: FlowEnds,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// `kuroshio.<flow>`.
    pub group: Arc<str>,
    /// Our own instance name.
    pub instance: Arc<str>,
    /// The flow's setting `start`.
    pub first_start: FirstStart,
    /// The flow's setting `on_data_loss`.
    pub on_data_loss: OnDataLoss,
    /// The flow's setting `positions_on_source`.
    pub positions_on_source: bool,
    /// Of this flow's transactions, if it has any.
    pub transaction_timeout: Option<Duration>,
    /// The partitions that were there when this process first looked: only for them `start` counts.
    pub first_look: watch::Receiver<Option<Arc<FirstLook>>>,
    /// Makes discovery look at once.
    pub look: Arc<Notify>,
    /// What the member knows of our seat.
    pub seating: watch::Receiver<Option<Seating>>,
    /// To the pump.
    pub line: PumpLine,
    /// From the pump: open these lanes.
    pub errands: mpsc::Receiver<OpenErrand>,
    /// Errors for people.
    pub board: Arc<FlowBoard>,
    /// Counts losses.
    pub metrics: FlowMetrics,
    /// Owners whose transactions were ended since they were last seen alive.
    pub released: BTreeSet<String>,
    /// The generation in which transactions without an owner were looked for.
    pub searched: Option<i32>,
    /// Whether the source knows the flow, once it was asked.
    pub was_here: OnceCell<bool>,
}

/// Ends of the logs at which a lane begins and ends.
#[derive(Clone, Copy)]
struct Bounds {
    log_start: SourceOffset,
    log_end: SourceOffset,
    /// Uncommitted records counted: what is copied from now on lies at or behind it.
    target_end: ListedOffset,
    /// Where the leader epoch of the position ends, if it has one.
    epoch: Option<EpochEnd>,
}

/// What the pump knows of the lanes that it wants opened.
struct Told {
    /// They go on whatever was lost.
    resumed: BTreeSet<Lane>,
    /// Their target logs were cut, and where.
    cuts: BTreeMap<Lane, TargetOffset>,
}

/// What is known of a lane before it is looked at.
struct Was {
    /// Its position, as it is committed on the target.
    stored: Option<GroupOffset>,
    /// The copy of its position on the source, and its metadata.
    copy: Option<(SourceOffset, Arc<str>)>,
    /// Where its target log was cut, if the pump saw that.
    cut: Option<TargetOffset>,
    /// What to do about loss.
    on_data_loss: OnDataLoss,
}

/// What became of one lane.
enum Outcome {
    Starts {
        position: Position,
        /// To be committed before the first record.
        store: Option<GroupOffset>,
        /// Given up with that commit.
        loss: Option<Loss>,
    },
    Failed(Quarantine),
    /// The flow must not go on.
    Halted(String),
    Again,
}

impl Clerk {
    /// Runs until the pump has ended.
    pub async fn run(mut self) {
        while let Some(errand) = self.errands.recv().await {
            let span = spans::open_lanes(&self.ends.flow, &self.instance, errand.lanes.len());
            if self.open(errand).instrument(span).await.is_err() {
                tracing::debug!(flow = %self.ends.flow, pump = %self.instance, "the pump has ended before its clerk");
                return;
            }
        }
    }

    async fn open(&mut self, errand: OpenErrand) -> Result<(), PumpGone> {
        let OpenErrand {
            lanes,
            resumed,
            cuts,
            membership,
        } = errand;
        let told = Told { resumed, cuts };
        let mut lanes = self.without_deleted(lanes).await?;
        self.release_the_dead(&lanes).await;
        let began = Instant::now();
        loop {
            lanes = self.round(lanes, &told, &membership).await?;
            if lanes.is_empty() {
                return Ok(());
            }
            if began.elapsed() > ORPHANED {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        // Their owner died after we looked, or its coordinator did not answer. The pump asks again for what is still
        // its own, and other lanes need not wait for these.
        self.released.clear();
        self.searched = None;
        let first = lanes[0].1.target();
        tracing::warn!(
            flow = %self.ends.flow, pump = %self.instance, lanes = lanes.len(), topic = %first.topic,
            partition = first.partition, "an open transaction holds the positions of lanes; this is the first"
        );
        self.stale(lanes.iter().map(|(lane, _)| *lane).collect()).await
    }

    /// Lanes whose target topic is gone are not opened; the others are left.
    async fn without_deleted(&self, lanes: Vec<(Lane, Pairing)>) -> Result<Vec<(Lane, Pairing)>, PumpGone> {
        let mut left = Vec::with_capacity(lanes.len());
        for (lane, pairing) in lanes {
            if pairing.target_id.is_some() {
                left.push((lane, pairing));
                continue;
            }
            let text = format!(
                "topic {} was deleted on cluster {}; `kuroshio resume {} --topic {}` has it made again",
                pairing.target_topic, self.ends.target, self.ends.flow, pairing.source.topic
            );
            let reason = "target_deleted";
            self.line
                .tell(News::OpenFailed(lane, Quarantine { reason, text }))
                .await?;
        }
        Ok(left)
    }

    /// Opens what can be opened and returns the lanes whose position is unstable.
    async fn round(
        &mut self,
        lanes: Vec<(Lane, Pairing)>,
        told: &Told,
        membership: &Membership,
    ) -> Result<Vec<(Lane, Pairing)>, PumpGone> {
        if lanes.is_empty() {
            return Ok(lanes);
        }
        let targets: Vec<TopicPartition> = lanes.iter().map(|(_, pairing)| pairing.target()).collect();
        let mut stored = match self.target.fetch_offsets(&self.group, Some(&targets)).await {
            Ok(stored) => stored,
            Err(error) => {
                self.put_off(&lanes, &error).await?;
                return Ok(Vec::new());
            }
        };
        let (mut unstable, mut stable) = (Vec::new(), Vec::new());
        for (lane, pairing) in lanes {
            match stored.remove(&pairing.target()) {
                Some(Ok(Stored::Unstable)) => unstable.push((lane, pairing)),
                Some(Ok(Stored::Nothing)) | None => stable.push((lane, pairing, None)),
                Some(Ok(Stored::Offset(offset))) => stable.push((lane, pairing, Some(offset))),
                Some(Err(error)) => self.put_off(&[(lane, pairing)], &error).await?,
            }
        }
        if stable.is_empty() {
            return Ok(unstable);
        }
        let others = match self.recreated(&stable).await {
            Ok(others) => others,
            Err(error) => {
                let lanes: Vec<_> = stable
                    .into_iter()
                    .map(|(lane, pairing, _)| (lane, pairing))
                    .collect();
                self.put_off(&lanes, &error).await?;
                return Ok(unstable);
            }
        };
        let decided = self.decide_all(stable, &others, told).await;
        self.write_and_tell(decided, membership).await?;
        Ok(unstable)
    }

    /// Where these lanes start; those of topics among `others` are asked for again.
    async fn decide_all(
        &self,
        stable: Vec<(Lane, Pairing, Option<GroupOffset>)>,
        others: &BTreeSet<Arc<str>>,
        told: &Told,
    ) -> Vec<(Lane, Pairing, Outcome)> {
        let sources = || stable.iter().map(|(_, pairing, _)| pairing.source.clone());
        let list = |at: OffsetAt| {
            self.source
                .list_offsets(sources().map(move |tp| (tp, at)), Isolation::ReadUncommitted)
        };
        let targets = stable
            .iter()
            .map(|(_, pairing, _)| (pairing.target(), OffsetAt::Latest));
        let epochs = stable.iter().filter_map(|(_, pairing, stored)| {
            Some((pairing.source.clone(), stored.as_ref()?.leader_epoch?))
        });
        let (mut starts, mut ends, mut placed, mut epochs, copies) = tokio::join!(
            list(OffsetAt::Earliest),
            list(OffsetAt::Latest),
            self.target.list_offsets(targets, Isolation::ReadUncommitted),
            self.source.offsets_for_leader_epochs(epochs.collect::<Vec<_>>()),
            self.copies_of_positions(&stable),
        );
        let mut decided = Vec::with_capacity(stable.len());
        for (lane, pairing, offset) in stable {
            if others.contains(&pairing.source.topic) {
                decided.push((lane, pairing, Outcome::Again));
                continue;
            }
            let mut bounds = || {
                Ok(Bounds {
                    log_start: SourceOffset(listed(&mut starts, &pairing.source)?.offset),
                    log_end: SourceOffset(listed(&mut ends, &pairing.source)?.offset),
                    target_end: listed(&mut placed, &pairing.target())?,
                    epoch: epochs.remove(&pairing.source).transpose().map_err(Some)?,
                })
            };
            let copy = match (&copies, &offset) {
                (Ok(copies), _) => copies
                    .get(&pairing.source)
                    .map(|copy| (SourceOffset(copy.offset), Arc::clone(&copy.metadata))),
                (Err(_), Some(_)) => None,
                (Err(error), None) => {
                    decided.push((lane, pairing, self.failed(error)));
                    continue;
                }
            };
            let was = Was {
                stored: offset,
                copy,
                cut: told.cuts.get(&lane).copied(),
                on_data_loss: if told.resumed.contains(&lane) {
                    OnDataLoss::Continue
                } else {
                    self.on_data_loss
                },
            };
            let outcome = match bounds() {
                Ok(bounds) => self.decide(&pairing, was, bounds).await,
                Err(None) => Outcome::Again,
                Err(Some(error)) => self.failed(&error),
            };
            decided.push((lane, pairing, outcome));
        }
        decided
    }
}

fn listed(
    offsets: &mut ByPartition<Option<ListedOffset>>,
    partition: &TopicPartition,
) -> Result<ListedOffset, Option<Error>> {
    match offsets.remove(partition) {
        Some(Ok(Some(listed))) => Ok(listed),
        Some(Err(error)) => Err(Some(error)),
        Some(Ok(None)) | None => Err(None),
    }
}
