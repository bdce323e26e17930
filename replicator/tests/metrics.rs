//! The metrics as Prometheus sees them.

use std::sync::Arc;
use std::time::Duration;

use kuroshio::metrics::{Metrics, Outcome};
use kuroshio_core::origin::SkipReason;
use kuroshio_core::start::LossReason;

/// INTERFACE "Metrics", as far as this version has it.
const METRICS: &[(&str, &str)] = &[
    ("kuroshio_records_total", "counter"),
    ("kuroshio_bytes_total", "counter"),
    ("kuroshio_skipped_records_total", "counter"),
    ("kuroshio_lag_records", "gauge"),
    ("kuroshio_lag_seconds", "gauge"),
    ("kuroshio_source_unstable_records", "gauge"),
    ("kuroshio_replication_latency_seconds", "histogram"),
    ("kuroshio_lost_records_total", "counter"),
    ("kuroshio_quarantined_partitions", "gauge"),
    ("kuroshio_cluster_up", "gauge"),
    ("kuroshio_flow_up", "gauge"),
    ("kuroshio_transactions_total", "counter"),
    ("kuroshio_rebalances_total", "counter"),
    ("kuroshio_build_info", "gauge"),
];

#[test]
fn every_metric_has_its_name_help_and_type() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let flow = metrics.flow("tw-jp");
    let lane = flow.lane("orders", 3);
    metrics.cluster_up("tw", true);
    flow.up(true);
    flow.latency(Duration::from_millis(20));
    flow.rebalanced();
    flow.transaction(Outcome::Committed);
    flow.quarantined("too_large", 1);
    lane.placed(10, 3520);
    lane.skipped(SkipReason::Replicated, 4);
    flow.lost("orders", 3, LossReason::Retention, 7);
    lane.lag(5, Duration::from_millis(1500));
    lane.unstable(2);

    let text = metrics.text().unwrap();
    for (name, kind) in METRICS {
        assert!(
            text.contains(&format!("# TYPE {name} {kind}\n")),
            "{name} {kind} is missing in\n{text}"
        );
        let help = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(
            help.is_some_and(|help| help.ends_with('.')),
            "{name} has no sentence of help"
        );
    }
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        assert!(
            METRICS.iter().any(|(known, _)| *known == name),
            "{name} is not documented"
        );
    }
    for line in [
        r#"kuroshio_records_total{flow="tw-jp",topic="orders"} 10"#,
        r#"kuroshio_bytes_total{flow="tw-jp",topic="orders"} 3520"#,
        r#"kuroshio_skipped_records_total{flow="tw-jp",reason="replicated",topic="orders"} 4"#,
        r#"kuroshio_lag_records{flow="tw-jp",partition="3",topic="orders"} 5"#,
        r#"kuroshio_lag_seconds{flow="tw-jp",partition="3",topic="orders"} 1.5"#,
        r#"kuroshio_source_unstable_records{flow="tw-jp",partition="3",topic="orders"} 2"#,
        r#"kuroshio_replication_latency_seconds_count{flow="tw-jp"} 1"#,
        r#"kuroshio_replication_latency_seconds_bucket{flow="tw-jp",le="0.025"} 1"#,
        r#"kuroshio_lost_records_total{flow="tw-jp",partition="3",reason="retention",topic="orders"} 7"#,
        r#"kuroshio_quarantined_partitions{flow="tw-jp",reason="too_large"} 1"#,
        r#"kuroshio_cluster_up{cluster="tw"} 1"#,
        r#"kuroshio_flow_up{flow="tw-jp"} 1"#,
        r#"kuroshio_transactions_total{flow="tw-jp",outcome="committed"} 1"#,
        r#"kuroshio_transactions_total{flow="tw-jp",outcome="aborted"} 0"#,
        r#"kuroshio_rebalances_total{flow="tw-jp"} 1"#,
    ] {
        assert!(
            text.contains(&format!("{line}\n")),
            "{line} is missing in\n{text}"
        );
    }
}

#[test]
fn gauges_go_with_the_lane_and_counters_stay() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let flow = metrics.flow("tw-jp");
    let lane = flow.lane("orders", 3);
    lane.placed(1, 1);
    lane.lag(5, Duration::ZERO);
    // The slot moves to another pump of this process: its lane begins before ours ends.
    let next = flow.lane("orders", 3);
    drop(lane);
    next.lag(6, Duration::ZERO);
    assert!(
        metrics
            .text()
            .unwrap()
            .contains(r#"kuroshio_lag_records{flow="tw-jp",partition="3",topic="orders"} 6"#)
    );
    drop(next);
    let text = metrics.text().unwrap();
    for gone in [
        "kuroshio_lag_records",
        "kuroshio_lag_seconds",
        "kuroshio_source_unstable_records",
    ] {
        assert!(!text.contains(gone), "{gone} is still in\n{text}");
    }
    assert!(
        text.contains(r#"kuroshio_records_total{flow="tw-jp",topic="orders"} 1"#),
        "{text}"
    );

    flow.quarantined("too_large", 1);
    flow.quarantined("too_large", 0);
    flow.quarantined("too_large", 0);
    assert!(
        !metrics
            .text()
            .unwrap()
            .contains("kuroshio_quarantined_partitions")
    );
}
