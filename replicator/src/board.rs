//! What is known about a flow in this process, for `/status`: written by its tasks, read by nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kuroshio_core::flow::Phase;
use kuroshio_core::groups::Left;
use kuroshio_core::slots::Slot;
use kuroshio_core::types::TopicPartition;
use tokio::sync::watch;

use crate::lanes::{LaneView, PumpView};
use crate::status::{ErrorStatus, FlowStatus, GroupStatus, LaneStatus, Recent};

/// Errors kept for people.
const ERRORS: usize = 20;
/// Samples kept for plots: five minutes of one per second.
const MOMENTS: usize = 300;
/// The last of them over which rates are told.
const RATE_OVER: usize = 10;

/// How far one partition is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Behind {
    /// In offsets.
    pub records: u64,
    /// In time.
    pub time: Duration,
}

/// One sample of a flow.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// How far its lanes are behind.
    pub lag: BTreeMap<TopicPartition, Behind>,
    /// What a disaster now would lose; `None`: another process knows.
    pub rpo: Option<Duration>,
    /// Time since the sample before.
    pub after: Duration,
}

/// What is known of a group's offsets on the target.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// Its id.
    pub group: Arc<str>,
    /// When they were last known right.
    pub right: Instant,
    /// Why they are left as they are.
    pub left: Option<Left>,
}

/// A flow's board.
#[derive(Debug)]
pub struct FlowBoard {
    head: FlowStatus,
    records: AtomicU64,
    bytes: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: String,
    errors: VecDeque<ErrorStatus>,
    pumps: Vec<watch::Receiver<PumpView>>,
    sample: Sample,
    counted: (u64, u64),
    moments: VecDeque<Moment>,
    groups: Vec<GroupView>,
}

/// What plots show of a second.
#[derive(Clone, Copy, Debug)]
struct Moment {
    lag: Duration,
    rpo: Option<Duration>,
    records: f64,
    bytes: f64,
}

impl Sample {
    /// The largest lag of a lane.
    #[must_use]
    pub fn largest(&self) -> Duration {
        self.lag
            .values()
            .map(|behind| behind.time)
            .max()
            .unwrap_or_default()
    }
}

impl FlowBoard {
    /// The board of the flow that this head names.
    #[must_use]
    pub fn new(head: FlowStatus) -> Self {
        let inner = Inner {
            state: "starting".to_owned(),
            ..Inner::default()
        };
        Self {
            head,
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// The flow's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.head.name
    }

    /// Records became durable on the target.
    pub fn placed(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What the flow is about, in words.
    pub fn state(&self, state: impl Into<String>) {
        let state = state.into();
        tracing::info!(flow = self.head.name, state, "the flow's state");
        self.inner().state = state;
    }

    /// An error for people; the same one again only renews its time.
    pub fn error(&self, text: String) {
        tracing::error!(flow = self.head.name, "{text}");
        let mut inner = self.inner();
        inner.errors.retain(|error| error.text != text);
        if inner.errors.len() == ERRORS {
            inner.errors.pop_front();
        }
        inner.errors.push_back(ErrorStatus {
            at_ms: u64::try_from(wall_ms()).unwrap_or(0),
            text,
        });
    }

    /// The flow starts, perhaps not for the first time: it has no pumps yet.
    pub fn begin(&self) {
        self.inner().pumps.clear();
    }

    /// A pump whose view belongs to the flow.
    pub fn pump(&self, view: watch::Receiver<PumpView>) {
        self.inner().pumps.push(view);
    }

    /// How far the flow's lanes are behind now.
    pub fn sampled(&self, sample: Sample) {
        let counted = (
            self.records.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        );
        let mut inner = self.inner();
        let before = std::mem::replace(&mut inner.counted, counted);
        let over = sample.after.as_secs_f64().max(0.001);
        let per_second = |now: u64, before: u64| (now - before) as f64 / over;
        let moment = Moment {
            lag: sample.largest(),
            rpo: sample.rpo,
            records: per_second(counted.0, before.0),
            bytes: per_second(counted.1, before.1),
        };
        // A sample that waited for a cluster stands for all its seconds.
        let seconds = (sample.after.as_secs_f64().round() as usize).clamp(1, MOMENTS);
        for _ in 0..seconds {
            if inner.moments.len() == MOMENTS {
                inner.moments.pop_front();
            }
            inner.moments.push_back(moment);
        }
        inner.sample = sample;
    }

    /// What is known of the groups whose offsets follow.
    pub fn groups(&self, groups: Vec<GroupView>) {
        self.inner().groups = groups;
    }

    /// Whether this process owns the slot; `None`: it has no seat in the group, so it does not know who does.
    #[must_use]
    pub fn owns(&self, slot: Slot) -> Option<bool> {
        let views = self.views();
        seated(&views).then(|| views.iter().any(|view| view.slots.contains(&slot)))
    }

    /// The views of all pumps.
    #[must_use]
    pub fn views(&self) -> Vec<PumpView> {
        self.inner()
            .pumps
            .iter()
            .map(|view| view.borrow().clone())
            .collect()
    }

    /// The document.
    #[must_use]
    pub fn status(&self) -> FlowStatus {
        let views = self.views();
        let inner = self.inner();
        let sample = &inner.sample;
        let lanes = views.iter().flat_map(|view| view.lanes.iter());
        let lanes: Vec<_> = lanes.map(|lane| lane_status(lane, &sample.lag)).collect();
        let last = inner.moments.iter().rev().take(RATE_OVER);
        let mean =
            |of: fn(&Moment) -> f64| rounded(last.clone().map(of).sum::<f64>() / last.len().max(1) as f64);
        FlowStatus {
            state: inner.state.clone(),
            generation: views.iter().filter_map(|view| view.generation).max(),
            slots: views
                .iter()
                .flat_map(|view| view.slots.iter().map(|slot| u32::from(slot.0)))
                .collect(),
            lag_records: sample.lag.values().map(|behind| behind.records).sum(),
            lag_seconds: seconds(sample.largest()),
            rpo_seconds: sample.rpo.map(seconds),
            records_per_second: mean(|moment| moment.records),
            bytes_per_second: mean(|moment| moment.bytes),
            partitions: lanes.len(),
            quarantined: lanes.iter().filter(|lane| lane.quarantined.is_some()).count(),
            paused: lanes.iter().filter(|lane| lane.state == "paused").count(),
            lanes,
            groups: inner.groups.iter().map(group_status).collect(),
            errors: inner.errors.iter().cloned().collect(),
            recent: Recent {
                lag_seconds: inner.moments.iter().map(|moment| seconds(moment.lag)).collect(),
                rpo_seconds: inner
                    .moments
                    .iter()
                    .map(|moment| moment.rpo.map(seconds))
                    .collect(),
                records_per_second: inner
                    .moments
                    .iter()
                    .map(|moment| rounded(moment.records))
                    .collect(),
            },
            ..self.head.clone()
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn group_status(view: &GroupView) -> GroupStatus {
    GroupStatus {
        group: view.group.to_string(),
        // Of what is left alone nobody says when it is right.
        sync_age_seconds: view.left.is_none().then(|| seconds(view.right.elapsed())),
        left: view.left.map(|left| left.to_string()),
    }
}

/// Milliseconds are as much as anybody reads.
fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn lane_status(lane: &LaneView, lag: &BTreeMap<TopicPartition, Behind>) -> LaneStatus {
    let (state, quarantined) = match &lane.phase {
        Phase::New | Phase::Opening => ("starting", None),
        Phase::Running => ("running", None),
        Phase::Paused => ("paused", None),
        Phase::Leaving => ("leaving", None),
        Phase::Quarantined { why, .. } => ("quarantined", Some(format!("{}: {}", why.reason, why.text))),
    };
    let source = &lane.pairing.source;
    LaneStatus {
        topic: source.topic.to_string(),
        target_topic: lane.pairing.target_topic.to_string(),
        partition: source.partition,
        state: state.to_owned(),
        position: lane.position.map(|position| position.0),
        lag_records: lag
            .get(source)
            .and_then(|behind| i64::try_from(behind.records).ok()),
        lag_seconds: lag.get(source).map(|behind| seconds(behind.time)),
        quarantined,
    }
}

/// Whether a pump has a seat in the group: without one nobody here knows who has what.
#[must_use]
pub fn seated(views: &[PumpView]) -> bool {
    views.iter().any(|view| view.generation.is_some())
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
