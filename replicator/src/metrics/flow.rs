//! What a flow and its lanes count.

use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::origin::SkipReason;
use kuroshio_core::start::LossReason;
use prometheus::Histogram;

use super::{Counter, Gauge, Metrics};

/// How a transaction ended; the names are labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It counts.
    Committed,
    /// Nothing of it counts.
    Aborted,
    /// No answer came.
    Unknown,
}

impl Metrics {
    /// Handles for a flow.
    #[must_use]
    pub fn flow(self: &Arc<Self>, flow: &str) -> FlowMetrics {
        FlowMetrics {
            latency: self.latency.with_label_values(&[flow]),
            up: self.flow_up.with([flow]),
            rebalances: self.rebalances.with([flow]),
            restarts: self.restarts.with([flow]),
            outcomes: ["committed", "aborted", "unknown"]
                .map(|outcome| self.transactions.with([flow, outcome])),
            metrics: Arc::clone(self),
            flow: flow.to_owned(),
        }
    }
}

/// A flow's metrics.
#[derive(Clone, Debug)]
pub struct FlowMetrics {
    metrics: Arc<Metrics>,
    flow: String,
    latency: Histogram,
    up: Gauge,
    rebalances: Counter,
    restarts: Counter,
    outcomes: [Counter; 3],
}

impl FlowMetrics {
    /// A run of records became durable; `latency` is that of its oldest record.
    pub fn latency(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    /// Whether the flow runs.
    pub fn up(&self, up: bool) {
        self.up.set(f64::from(up));
    }

    /// An assignment was applied.
    pub fn rebalanced(&self) {
        self.rebalances.add(1);
    }

    /// A transaction ended.
    pub fn transaction(&self, outcome: Outcome) {
        let [committed, aborted, unknown] = &self.outcomes;
        match outcome {
            Outcome::Committed => committed.add(1),
            Outcome::Aborted => aborted.add(1),
            Outcome::Unknown => unknown.add(1),
        }
    }

    /// A handle for the number of partitions quarantined for `reason`.
    #[must_use]
    pub fn quarantined(&self, reason: &str) -> Gauge {
        self.metrics.quarantined.with([&self.flow, reason])
    }

    /// A handle for the number of partitions that somebody paused.
    #[must_use]
    pub fn paused(&self) -> Gauge {
        self.metrics.paused.with([&self.flow])
    }

    /// A handle for what a pump may forward, in bytes per second.
    #[must_use]
    pub fn throttle(&self, pump: &str) -> Gauge {
        self.metrics.throttle.with([&self.flow, pump])
    }

    /// The flow had ended unasked, and starts again.
    pub fn restarted(&self) {
        self.restarts.add(1);
    }

    /// A handle for the number of the source's topics that residency keeps from the target.
    #[must_use]
    pub fn kept_topics(&self) -> Gauge {
        self.metrics.kept.with([&self.flow])
    }

    /// A handle for what a disaster now would lose, in seconds.
    #[must_use]
    pub fn rpo(&self) -> Gauge {
        self.metrics.rpo.with([&self.flow])
    }

    /// A handle for the time since a group's offsets on the target were last known right, in seconds.
    #[must_use]
    pub fn group_sync_age(&self, group: &str) -> Gauge {
        self.metrics.group_sync_age.with([&self.flow, group])
    }

    /// Records were lost. The series exists only from the first loss on.
    pub fn lost(&self, topic: &str, partition: i32, reason: LossReason, records: u64) {
        let labels = [&self.flow, topic, &partition.to_string(), reason.as_str()];
        self.metrics.lost.with(labels).add(records);
    }

    /// Handles for a lane of this flow, by its topic on the source.
    #[must_use]
    pub fn lane(&self, topic: &str, partition: i32) -> LaneMetrics {
        let metrics = &self.metrics;
        let number = partition.to_string();
        let labels = [&*self.flow, topic, &number];
        let skipped = |reason: SkipReason| metrics.skipped.with([&self.flow, topic, reason.as_str()]);
        LaneMetrics {
            records: metrics.records.with([&self.flow, topic]),
            bytes: metrics.bytes.with([&self.flow, topic]),
            replicated: skipped(SkipReason::Replicated),
            looped: skipped(SkipReason::Loop),
            too_many_hops: skipped(SkipReason::TooManyHops),
            lag_records: metrics.lag_records.with(labels),
            lag_seconds: metrics.lag_seconds.with(labels),
            unstable: metrics.unstable.with(labels),
        }
    }
}

/// A lane's metrics. Its gauges vanish with it; counters stay, as Prometheus expects of counters.
#[derive(Debug)]
pub struct LaneMetrics {
    records: Counter,
    bytes: Counter,
    replicated: Counter,
    looped: Counter,
    too_many_hops: Counter,
    lag_records: Gauge,
    lag_seconds: Gauge,
    unstable: Gauge,
}

impl LaneMetrics {
    /// Records became durable on the target.
    pub fn placed(&self, records: u64, bytes: u64) {
        self.records.add(records);
        self.bytes.add(bytes);
    }

    /// Records were not forwarded.
    pub fn skipped(&self, reason: SkipReason, records: u64) {
        match reason {
            SkipReason::Replicated => &self.replicated,
            SkipReason::Loop => &self.looped,
            SkipReason::TooManyHops => &self.too_many_hops,
        }
        .add(records);
    }

    /// How far the position is behind the source's end, in offsets and in time.
    pub fn lag(&self, records: u64, time: Duration) {
        self.lag_records.set(records as f64);
        self.lag_seconds.set(time.as_secs_f64());
    }

    /// Offsets between the source's last stable offset and its end.
    pub fn unstable(&self, records: u64) {
        self.unstable.set(records as f64);
    }
}
