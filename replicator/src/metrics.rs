//! Every number that we export, in one struct over a registry of its own. No rule reads a metric.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kuroshio_core::origin::SkipReason;
use kuroshio_core::start::LossReason;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Two metrics or two series of one name: a fault of this file.
pub use prometheus::Error as RegistryError;

/// Latencies from a LAN's to those that page somebody, in seconds; the targets 1, 2, 3 and 5 are bounds.
const LATENCY_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    records: IntCounterVec,
    bytes: IntCounterVec,
    skipped: IntCounterVec,
    lag_records: IntGaugeVec,
    lag_seconds: GaugeVec,
    unstable: IntGaugeVec,
    latency: HistogramVec,
    lost: IntCounterVec,
    quarantined: IntGaugeVec,
    group_sync_age: GaugeVec,
    cluster_up: IntGaugeVec,
    flow_up: IntGaugeVec,
    transactions: IntCounterVec,
    rebalances: IntCounterVec,
    /// Lanes alive per series of gauges: while a slot moves between pumps of this process, two may be.
    lanes: Mutex<HashMap<[String; 3], usize>>,
}

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
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Two metrics of one name: a fault of this file, which any test of it finds.
    pub fn new() -> Result<Self, RegistryError> {
        let registry = Registry::new();
        let r = &registry;
        let topic = ["flow", "topic"];
        let partition = ["flow", "topic", "partition"];
        let lost = ["flow", "topic", "partition", "reason"];
        let metrics = Self {
            records: counter(r, "kuroshio_records_total", "Records durable on the target.", &topic)?,
            bytes: counter(r, "kuroshio_bytes_total", "Bytes of key, value and headers durable on the target.", &topic)?,
            skipped: counter(r, "kuroshio_skipped_records_total", "Records that a rule did not forward.", &["flow", "topic", "reason"])?,
            lag_records: gauge(r, "kuroshio_lag_records", "Source high watermark minus position.", &partition)?,
            lag_seconds: register(r, GaugeVec::new(opts("kuroshio_lag_seconds", "Time since the source's end was first seen beyond the position; 0 when nothing is missing."), &partition)?)?,
            unstable: gauge(r, "kuroshio_source_unstable_records", "Source high watermark minus last stable offset: held back by an open transaction on the source.", &partition)?,
            latency: register(r, HistogramVec::new(HistogramOpts::new("kuroshio_replication_latency_seconds", "Durable on the target minus record timestamp; one observation per run of records, of its oldest.").buckets(LATENCY_BUCKETS.to_vec()), &["flow"])?)?,
            lost: counter(r, "kuroshio_lost_records_total", "Records gone from the source before they were copied.", &lost)?,
            quarantined: gauge(r, "kuroshio_quarantined_partitions", "Partitions that stand still alone, by reason.", &["flow", "reason"])?,
            group_sync_age: register(r, GaugeVec::new(opts("kuroshio_group_sync_age_seconds", "Since the group's offsets on the target were last known right."), &["flow", "group"])?)?,
            cluster_up: gauge(r, "kuroshio_cluster_up", "1 if the cluster answered the last time it was asked.", &["cluster"])?,
            flow_up: gauge(r, "kuroshio_flow_up", "1 while the flow runs in this process.", &["flow"])?,
            transactions: counter(r, "kuroshio_transactions_total", "Transactions on the target by outcome.", &["flow", "outcome"])?,
            rebalances: counter(r, "kuroshio_rebalances_total", "Assignments of slots applied.", &["flow"])?,
            lanes: Mutex::default(),
            registry: registry.clone(),
        };
        let build = gauge(
            r,
            "kuroshio_build_info",
            "1, with the version of Kuroshio.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(metrics)
    }

    /// The text exposition of everything.
    ///
    /// # Errors
    /// Two series of one name and labels: a fault of ours.
    pub fn text(&self) -> Result<String, RegistryError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Whether the cluster answered.
    pub fn cluster_up(&self, cluster: &str, up: bool) {
        self.cluster_up.with_label_values(&[cluster]).set(i64::from(up));
    }

    /// Handles for a flow.
    #[must_use]
    pub fn flow(self: &Arc<Self>, flow: &str) -> FlowMetrics {
        FlowMetrics {
            latency: self.latency.with_label_values(&[flow]),
            up: self.flow_up.with_label_values(&[flow]),
            rebalances: self.rebalances.with_label_values(&[flow]),
            outcomes: ["committed", "aborted", "unknown"]
                .map(|outcome| self.transactions.with_label_values(&[flow, outcome])),
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
    up: IntGauge,
    rebalances: IntCounter,
    outcomes: [IntCounter; 3],
}

impl FlowMetrics {
    /// A run of records became durable; `latency` is that of its oldest record.
    pub fn latency(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    /// Whether the flow runs.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// An assignment was applied.
    pub fn rebalanced(&self) {
        self.rebalances.inc();
    }

    /// A transaction ended.
    pub fn transaction(&self, outcome: Outcome) {
        let [committed, aborted, unknown] = &self.outcomes;
        match outcome {
            Outcome::Committed => committed.inc(),
            Outcome::Aborted => aborted.inc(),
            Outcome::Unknown => unknown.inc(),
        }
    }

    /// Partitions quarantined now for `reason`; none removes the series.
    pub fn quarantined(&self, reason: &str, partitions: usize) {
        let labels = [self.flow.as_str(), reason];
        if partitions > 0 {
            self.metrics
                .quarantined
                .with_label_values(&labels)
                .set(i64::try_from(partitions).unwrap_or(i64::MAX));
            return;
        }
        remove(self.metrics.quarantined.remove_label_values(&labels));
    }

    /// How long ago a group's offsets on the target were last known right; `None` removes the series.
    pub fn group_sync_age(&self, group: &str, age: Option<Duration>) {
        let labels = [self.flow.as_str(), group];
        let ages = &self.metrics.group_sync_age;
        match age {
            Some(age) => ages.with_label_values(&labels).set(age.as_secs_f64()),
            None => remove(ages.remove_label_values(&labels)),
        }
    }

    /// Records were lost. The series exists only from the first loss on.
    pub fn lost(&self, topic: &str, partition: i32, reason: LossReason, records: u64) {
        let labels = [self.flow.as_str(), topic, &partition.to_string(), reason.as_str()];
        self.metrics.lost.with_label_values(&labels).inc_by(records);
    }

    /// Handles for a lane of this flow, by its topic on the source.
    #[must_use]
    pub fn lane(&self, topic: &str, partition: i32) -> LaneMetrics {
        let metrics = &self.metrics;
        let series = [self.flow.clone(), topic.to_owned(), partition.to_string()];
        let labels = series.each_ref().map(String::as_str);
        let by_topic = [self.flow.as_str(), topic];
        let skipped = |reason: SkipReason| {
            metrics
                .skipped
                .with_label_values(&[self.flow.as_str(), topic, reason.as_str()])
        };
        // Counted before the gauges are made: a lane that ends meanwhile then leaves them alone.
        *metrics
            .lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(series.clone())
            .or_default() += 1;
        LaneMetrics {
            records: metrics.records.with_label_values(&by_topic),
            bytes: metrics.bytes.with_label_values(&by_topic),
            replicated: skipped(SkipReason::Replicated),
            looped: skipped(SkipReason::Loop),
            too_many_hops: skipped(SkipReason::TooManyHops),
            lag_records: metrics.lag_records.with_label_values(&labels),
            lag_seconds: metrics.lag_seconds.with_label_values(&labels),
            unstable: metrics.unstable.with_label_values(&labels),
            metrics: Arc::clone(metrics),
            series,
        }
    }
}

/// A lane's metrics. Its gauges vanish with it; counters stay, as Prometheus expects of counters.
#[derive(Debug)]
pub struct LaneMetrics {
    metrics: Arc<Metrics>,
    series: [String; 3],
    records: IntCounter,
    bytes: IntCounter,
    replicated: IntCounter,
    looped: IntCounter,
    too_many_hops: IntCounter,
    lag_records: IntGauge,
    lag_seconds: Gauge,
    unstable: IntGauge,
}

impl LaneMetrics {
    /// Records became durable on the target.
    pub fn placed(&self, records: u64, bytes: u64) {
        self.records.inc_by(records);
        self.bytes.inc_by(bytes);
    }

    /// Records were not forwarded.
    pub fn skipped(&self, reason: SkipReason, records: u64) {
        match reason {
            SkipReason::Replicated => &self.replicated,
            SkipReason::Loop => &self.looped,
            SkipReason::TooManyHops => &self.too_many_hops,
        }
        .inc_by(records);
    }

    /// How far the position is behind the source's end, in offsets and in time.
    pub fn lag(&self, records: u64, time: Duration) {
        self.lag_records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.lag_seconds.set(time.as_secs_f64());
    }

    /// Offsets between the source's last stable offset and its end.
    pub fn unstable(&self, records: u64) {
        self.unstable.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
}

impl Drop for LaneMetrics {
    fn drop(&mut self) {
        let metrics = &self.metrics;
        // Held to the end: a new lane of the same partition must not get handles of series that go.
        let mut lanes = metrics.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = lanes.get_mut(&self.series);
        if let Some(alive) = alive {
            *alive -= 1;
            if *alive > 0 {
                return;
            }
        }
        lanes.remove(&self.series);
        let labels = self.series.each_ref().map(String::as_str);
        remove(metrics.lag_records.remove_label_values(&labels));
        remove(metrics.lag_seconds.remove_label_values(&labels));
        remove(metrics.unstable.remove_label_values(&labels));
    }
}

/// The only error is that the series is gone already, which is what was asked for.
fn remove(removed: Result<(), RegistryError>) {
    if let Err(error) = removed {
        tracing::trace!(%error, "series was gone already");
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help)
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, RegistryError> {
    register(registry, IntCounterVec::new(opts(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, RegistryError> {
    register(registry, IntGaugeVec::new(opts(name, help), labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, RegistryError> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
