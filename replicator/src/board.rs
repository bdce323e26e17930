//! What is known about a flow in this process, for `/status`: written by its tasks, read by nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kuroshio_core::flow::Phase;
use kuroshio_core::types::TopicPartition;
use tokio::sync::watch;

use crate::lanes::{LaneView, PumpView};
use crate::status::{ErrorStatus, FlowStatus, LaneStatus};

/// Errors kept for people.
const ERRORS: usize = 20;

/// A flow's board.
#[derive(Debug)]
pub struct FlowBoard {
    head: FlowStatus,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: String,
    errors: VecDeque<ErrorStatus>,
    pumps: Vec<watch::Receiver<PumpView>>,
    lag: BTreeMap<TopicPartition, u64>,
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
            inner: Mutex::new(inner),
        }
    }

    /// What the flow is about, in words.
    pub fn state(&self, state: impl Into<String>) {
        self.inner().state = state.into();
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

    /// A pump whose view belongs to the flow.
    pub fn pump(&self, view: watch::Receiver<PumpView>) {
        self.inner().pumps.push(view);
    }

    /// The lag of the flow's lanes, in offsets.
    pub fn lag(&self, lag: BTreeMap<TopicPartition, u64>) {
        self.inner().lag = lag;
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
        let lanes = views.iter().flat_map(|view| view.lanes.iter());
        FlowStatus {
            state: inner.state.clone(),
            generation: views.iter().filter_map(|view| view.generation).max(),
            slots: views
                .iter()
                .flat_map(|view| view.slots.iter().map(|slot| u32::from(slot.0)))
                .collect(),
            lanes: lanes.map(|lane| lane_status(lane, &inner.lag)).collect(),
            errors: inner.errors.iter().cloned().collect(),
            ..self.head.clone()
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lane_status(lane: &LaneView, lag: &BTreeMap<TopicPartition, u64>) -> LaneStatus {
    let (state, quarantined) = match &lane.phase {
        Phase::New | Phase::Opening => ("starting", None),
        Phase::Running => ("running", None),
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
        lag_records: lag.get(source).and_then(|records| i64::try_from(*records).ok()),
        quarantined,
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
