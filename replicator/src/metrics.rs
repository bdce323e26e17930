//! Every number that we export, in one struct over a registry of its own. No rule reads a metric.

mod family;
mod flow;
mod group;
mod region;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{HistogramOpts, HistogramVec, Registry, TextEncoder};

pub use family::{Counter, Gauge};
use family::{Counters, Gauges};
pub use flow::{FlowMetrics, LaneMetrics, Outcome};
pub use group::{GroupMetrics, GroupPartitionMetrics};
pub use region::RegionMetrics;

/// Two metrics or two series of one name: a fault of this file.
pub use prometheus::Error as RegistryError;

/// Latencies from a LAN's to those that page somebody, in seconds; the targets 1, 2, 3 and 5 are bounds.
const LATENCY_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// A metric's name, its help and the names of its labels.
struct Named(&'static str, &'static str, &'static [&'static str]);

const TOPIC: &[&str] = &["flow", "topic"];
const PARTITION: &[&str] = &["flow", "topic", "partition"];
const LOST_FROM: &[&str] = &["flow", "topic", "partition", "reason"];
const GROUP: &[&str] = &["cluster", "group"];
const GROUP_PARTITION: &[&str] = &["cluster", "group", "topic", "partition"];

const RECORDS: Named = Named("kuroshio_records_total", "Records durable on the target.", TOPIC);
const BYTES: Named = Named(
    "kuroshio_bytes_total",
    "Bytes of key, value and headers durable on the target.",
    TOPIC,
);
const SKIPPED: Named = Named(
    "kuroshio_skipped_records_total",
    "Records that a rule did not forward.",
    &["flow", "topic", "reason"],
);
const LAG_RECORDS: Named = Named(
    "kuroshio_lag_records",
    "Source high watermark minus position.",
    PARTITION,
);
const LAG_SECONDS: Named = Named(
    "kuroshio_lag_seconds",
    "Time since the source's end was first seen beyond the position; 0 when nothing is missing.",
    PARTITION,
);
const UNSTABLE: Named = Named(
    "kuroshio_source_unstable_records",
    "Source high watermark minus last stable offset: held back by an open transaction on the source.",
    PARTITION,
);
const RPO: Named = Named(
    "kuroshio_rpo_seconds",
    "What a disaster now would lose: the larger of the largest lag and the age of the newest heartbeat durable on the target.",
    &["flow"],
);
const LOST: Named = Named(
    "kuroshio_lost_records_total",
    "Records that the target will never have, or has no more.",
    LOST_FROM,
);
const QUARANTINED: Named = Named(
    "kuroshio_quarantined_partitions",
    "Partitions that stand still alone, by reason.",
    &["flow", "reason"],
);
const PAUSED: Named = Named(
    "kuroshio_paused_partitions",
    "Partitions that stand still because somebody paused them.",
    &["flow"],
);
const THROTTLE: Named = Named(
    "kuroshio_throttle_bytes_per_second",
    "What a pump may forward, its part of the flow's limit; 0: no limit.",
    &["flow", "pump"],
);
const RESTARTS: Named = Named(
    "kuroshio_flow_restarts_total",
    "Starts of the flow in this process after it had ended unasked.",
    &["flow"],
);
const RELOADED: Named = Named(
    "kuroshio_config_last_reload_successful",
    "Whether the configuration file, as it is now, is in force.",
    &[],
);
const KEPT: Named = Named(
    "kuroshio_kept_topics",
    "Topics of the source that residency keeps from the target.",
    &["flow"],
);
const GROUP_SYNC_AGE: Named = Named(
    "kuroshio_group_sync_age_seconds",
    "Since the group's offsets on the target were last known right.",
    &["flow", "group"],
);
const GROUP_LAG_RECORDS: Named = Named(
    "kuroshio_group_lag_records",
    "High watermark minus the group's offset.",
    GROUP_PARTITION,
);
const GROUP_LAG_SECONDS: Named = Named(
    "kuroshio_group_lag_seconds",
    "Age of the first record that the group has not read; 0 when there is none.",
    GROUP_PARTITION,
);
const GROUP_MEMBERS: Named = Named("kuroshio_group_members", "Living members of the group.", GROUP);
const GROUP_STATE: Named = Named(
    "kuroshio_group_state",
    "1, with the state of the group as its coordinator names it.",
    &["cluster", "group", "state"],
);
const GROUP_FOLLOWS: Named = Named(
    "kuroshio_group_follows",
    "1 while what the group has on the cluster was written by the flow, and by no consumer since.",
    &["cluster", "group", "flow"],
);
const CLUSTER_UP: Named = Named(
    "kuroshio_cluster_up",
    "1 if the cluster answered the last check.",
    &["cluster"],
);
const FAILED_CHECKS: Named = Named(
    "kuroshio_cluster_failed_checks",
    "Checks of the cluster that failed in a row.",
    &["cluster"],
);
const REGION_HEALTHY: Named = Named(
    "kuroshio_region_healthy",
    "1 while the region of the cluster is healthy: what /health/region answers.",
    &["cluster"],
);
const FLOW_UP: Named = Named(
    "kuroshio_flow_up",
    "1 while the flow runs in this process.",
    &["flow"],
);
const TRANSACTIONS: Named = Named(
    "kuroshio_transactions_total",
    "Transactions on the target by outcome.",
    &["flow", "outcome"],
);
const REBALANCES: Named = Named(
    "kuroshio_rebalances_total",
    "Assignments of slots applied.",
    &["flow"],
);
const BUILD: Named = Named(
    "kuroshio_build_info",
    "1, with the version of Kuroshio.",
    &["version"],
);

/// The metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    records: Counters,
    bytes: Counters,
    skipped: Counters,
    lag_records: Gauges,
    lag_seconds: Gauges,
    unstable: Gauges,
    latency: HistogramVec,
    lost: Counters,
    quarantined: Gauges,
    paused: Gauges,
    throttle: Gauges,
    restarts: Counters,
    reloaded: Gauges,
    kept: Gauges,
    rpo: Gauges,
    group_sync_age: Gauges,
    group_lag_records: Gauges,
    group_lag_seconds: Gauges,
    group_members: Gauges,
    group_state: Gauges,
    group_follows: Gauges,
    cluster_up: Gauges,
    failed_checks: Gauges,
    region_healthy: Gauges,
    flow_up: Gauges,
    transactions: Counters,
    rebalances: Counters,
    _build: Gauge,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Two metrics of one name: a fault of this file, which any test of it finds.
    pub fn new() -> Result<Self, RegistryError> {
        let registry = Registry::new();
        let r = &registry;
        let build = gauge(r, &BUILD)?.with([env!("CARGO_PKG_VERSION")]);
        build.set(1.0);
        r.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            records: counter(r, &RECORDS)?,
            bytes: counter(r, &BYTES)?,
            skipped: counter(r, &SKIPPED)?,
            lag_records: gauge(r, &LAG_RECORDS)?,
            lag_seconds: gauge(r, &LAG_SECONDS)?,
            unstable: gauge(r, &UNSTABLE)?,
            rpo: gauge(r, &RPO)?,
            lost: counter(r, &LOST)?,
            quarantined: gauge(r, &QUARANTINED)?,
            paused: gauge(r, &PAUSED)?,
            throttle: gauge(r, &THROTTLE)?,
            restarts: counter(r, &RESTARTS)?,
            reloaded: gauge(r, &RELOADED)?,
            kept: gauge(r, &KEPT)?,
            group_sync_age: gauge(r, &GROUP_SYNC_AGE)?,
            group_lag_records: gauge(r, &GROUP_LAG_RECORDS)?,
            group_lag_seconds: gauge(r, &GROUP_LAG_SECONDS)?,
            group_members: gauge(r, &GROUP_MEMBERS)?,
            group_state: gauge(r, &GROUP_STATE)?,
            group_follows: gauge(r, &GROUP_FOLLOWS)?,
            cluster_up: gauge(r, &CLUSTER_UP)?,
            failed_checks: gauge(r, &FAILED_CHECKS)?,
            region_healthy: gauge(r, &REGION_HEALTHY)?,
            flow_up: gauge(r, &FLOW_UP)?,
            transactions: counter(r, &TRANSACTIONS)?,
            rebalances: counter(r, &REBALANCES)?,
            latency: latency(r)?,
            _build: build,
            registry: registry.clone(),
        })
    }

    /// A handle for whether the configuration file is in force.
    #[must_use]
    pub fn reloaded(&self) -> Gauge {
        self.reloaded.with([])
    }

    /// The text exposition of everything.
    ///
    /// # Errors
    /// Two series of one name and labels: a fault of ours.
    pub fn text(&self) -> Result<String, RegistryError> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counter(registry: &Registry, Named(name, help, labels): &Named) -> Result<Counters, RegistryError> {
    register(registry, Counters::new(name, help, labels)?)
}

fn gauge(registry: &Registry, Named(name, help, labels): &Named) -> Result<Gauges, RegistryError> {
    register(registry, Gauges::new(name, help, labels)?)
}

fn latency(registry: &Registry) -> Result<HistogramVec, RegistryError> {
    let opts = HistogramOpts::new(
        "kuroshio_replication_latency_seconds",
        "Durable on the target minus record timestamp; one observation per run of records, of its oldest.",
    );
    let opts = opts.buckets(LATENCY_BUCKETS.to_vec());
    register(registry, HistogramVec::new(opts, &["flow"])?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, RegistryError> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
