//! The metrics as Prometheus sees them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio::metrics::{Metrics, Outcome};
use kuroshio_core::health::Health;
use kuroshio_core::origin::SkipReason;
use kuroshio_core::start::LossReason;
use kuroshio_core::types::TopicPartition;

/// Something of everything that is exported, and what its series live with.
fn filled() -> (Arc<Metrics>, impl Sized) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let flow = metrics.flow("tw-jp");
    let lane = flow.lane("orders", 3);
    let mut health = Health::default();
    health.check(true);
    health.check(false);
    flow.up(true);
    let gauges = [
        flow.rpo(),
        flow.quarantined("too_large"),
        flow.group_sync_age("billing"),
        flow.kept_topics(),
        flow.paused(),
        flow.throttle("0"),
        metrics.reloaded(),
    ];
    for (gauge, value) in gauges.iter().zip([0.75, 1.0, 4.0, 2.0, 1.0, 0.0, 1.0]) {
        gauge.set(value);
    }
    let region = metrics.region("tw");
    region.checked(false, health);
    flow.latency(Duration::from_millis(20));
    flow.rebalanced();
    flow.transaction(Outcome::Committed);
    lane.placed(10, 3520);
    lane.skipped(SkipReason::Replicated, 4);
    flow.lost("orders", 3, LossReason::Retention, 7);
    lane.lag(5, Duration::from_millis(1500));
    lane.unstable(2);
    let mut group = metrics.group("tw", "billing");
    group.members(2);
    group.state(Some("Stable"));
    group.follows(Some("tw-jp"));
    let partition = group.partition(&TopicPartition::new("orders", 3));
    partition.lag(12, Duration::from_secs(9));
    (metrics, (flow, lane, gauges, region, group, partition))
}

/// A metric as its page describes it, or as it is exported.
#[derive(Debug, Default, PartialEq)]
struct Described {
    kind: String,
    labels: BTreeSet<String>,
    means: String,
}

/// The tables of docs/metrics.md: name, type, labels, meaning.
fn documented() -> BTreeMap<String, Described> {
    let page = std::fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, means] = cells[..] else {
            panic!("not four cells: {line}")
        };
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let described = Described {
            kind: kind.to_owned(),
            labels: labels.map(str::to_owned).collect(),
            means: means.to_owned(),
        };
        (name.trim_matches('`').to_owned(), described)
    };
    rows.map(row).collect()
}

fn exported(text: &str) -> BTreeMap<String, Described> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, means)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            all.entry(name.to_owned()).or_default().means = means.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        {
            all.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((name, labels)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            let labels = labels.split_once('}').unwrap().0.split(',');
            let labels = labels.map(|label| label.split_once('=').unwrap().0.to_owned());
            let described = all.get_mut(name).unwrap();
            described.labels.extend(labels.filter(|label| label != "le"));
        }
    }
    all
}

#[test]
fn the_page_describes_what_is_exported_and_nothing_else() {
    let (metrics, _handles) = filled();
    let (documented, exported) = (documented(), exported(&metrics.text().unwrap()));
    for (name, described) in &documented {
        assert_eq!(Some(described), exported.get(name), "{name} of docs/metrics.md");
    }
    for (name, described) in &exported {
        assert!(
            documented.contains_key(name),
            "docs/metrics.md lacks {name}: {described:?}"
        );
        if name.starts_with("kuroshio_") {
            assert!(described.means.ends_with('.'), "{name} has no sentence of help");
        }
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn rules_and_dashboard_ask_for_what_there_is() {
    let documented = documented();
    let name = regex::Regex::new(r"\b(?:kuroshio|process)_[a-z_]+\b").unwrap();
    for file in ["rules/kuroshio.yaml", "dashboards/kuroshio.json"] {
        let text = std::fs::read_to_string(repository("helm/kuroshio").join(file)).unwrap();
        let asked: BTreeSet<&str> = name.find_iter(&text).map(|found| found.as_str()).collect();
        assert!(asked.len() > 10, "{file}: {asked:?}");
        for asked in asked {
            let histogram = ["_bucket", "_sum", "_count"];
            let stem = histogram.iter().find_map(|suffix| asked.strip_suffix(suffix));
            let there =
                documented.contains_key(asked) || stem.is_some_and(|stem| documented.contains_key(stem));
            assert!(there, "{file} asks for {asked}, which nobody exports");
        }
    }
}

#[test]
fn every_alert_has_its_page() {
    let rules = std::fs::read_to_string(repository("helm/kuroshio/rules/kuroshio.yaml")).unwrap();
    let index = std::fs::read_to_string(repository("docs/runbooks/README.md")).unwrap();
    let pages: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: "))
        .collect();
    assert!(pages.len() >= 10, "{pages:?}");
    for page in pages {
        assert!(repository(page).is_file(), "{page} is not there");
    }
    for alert in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        let rows = index
            .lines()
            .filter(|line| line.starts_with(&format!("| {alert} |")));
        let pages: Vec<_> = rows
            .filter_map(|row| row.split_once("](")?.1.split_once(')'))
            .map(|(page, _)| page)
            .collect();
        assert!(!pages.is_empty(), "{alert} is not in docs/runbooks/README.md");
        for page in pages {
            let page = std::fs::read_to_string(repository("docs/runbooks").join(page)).unwrap();
            let title = page.lines().next().unwrap();
            assert!(
                title.starts_with("# ") && title.contains(alert),
                "{alert}: {title}"
            );
        }
    }
}

#[test]
fn every_series_has_its_labels_and_value() {
    let (metrics, _handles) = filled();
    let text = metrics.text().unwrap();
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
        r#"kuroshio_cluster_up{cluster="tw"} 0"#,
        r#"kuroshio_cluster_failed_checks{cluster="tw"} 1"#,
        r#"kuroshio_region_healthy{cluster="tw"} 1"#,
        r#"kuroshio_rpo_seconds{flow="tw-jp"} 0.75"#,
        r#"kuroshio_group_lag_records{cluster="tw",group="billing",partition="3",topic="orders"} 12"#,
        r#"kuroshio_group_lag_seconds{cluster="tw",group="billing",partition="3",topic="orders"} 9"#,
        r#"kuroshio_group_members{cluster="tw",group="billing"} 2"#,
        r#"kuroshio_group_state{cluster="tw",group="billing",state="Stable"} 1"#,
        r#"kuroshio_group_follows{cluster="tw",flow="tw-jp",group="billing"} 1"#,
        r#"kuroshio_group_sync_age_seconds{flow="tw-jp",group="billing"} 4"#,
        r#"kuroshio_kept_topics{flow="tw-jp"} 2"#,
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
}

#[test]
fn the_series_of_a_group_go_with_it() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut group = metrics.group("tw", "billing");
    group.state(Some("Stable"));
    group.state(Some("Empty"));
    group.follows(Some("tw-jp"));
    let partition = group.partition(&TopicPartition::new("orders", 0));
    partition.lag(1, Duration::ZERO);
    let text = metrics.text().unwrap();
    assert!(
        text.contains(r#"state="Empty"} 1"#) && !text.contains("Stable"),
        "{text}"
    );
    group.follows(None);
    drop(partition);
    let text = metrics.text().unwrap();
    assert!(
        !text.contains("kuroshio_group_follows") && !text.contains("kuroshio_group_lag"),
        "{text}"
    );
    drop(group);
    assert!(!metrics.text().unwrap().contains("kuroshio_group_"), "{text}");
}

/// A run of it prints the cost: `cargo test --release --package kuroshio --test metrics -- --nocapture`.
#[test]
fn ten_thousand_partitions_are_told_at_once() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let flow = metrics.flow("tw-jp");
    let lanes: Vec<_> = (0..10_000)
        .map(|number| flow.lane(&format!("orders.{}", number / 100), number % 100))
        .collect();
    for (number, lane) in (0..).zip(&lanes) {
        lane.lag(number, Duration::from_millis(number));
        lane.placed(number, number);
    }
    let began = Instant::now();
    let text = metrics.text().unwrap();
    println!("{} bytes in {:?}", text.len(), began.elapsed());
    // Partition 12 of one topic is not partition 2 of another whose name ends in 1.
    let series = text
        .lines()
        .filter(|line| line.starts_with("kuroshio_lag_seconds{"));
    assert_eq!(series.count(), 10_000);
    let began = Instant::now();
    for _ in 0..1_000_000 {
        lanes[0].placed(1, 352);
    }
    println!("a run is counted in {:?}", began.elapsed() / 1_000_000);
    drop(lanes);
    assert!(!metrics.text().unwrap().contains("kuroshio_lag_seconds"));
}
