//! The page for people at `/`: drawn here as a whole from the document behind `/status`; a few lines of script fetch its
//! middle anew every two seconds, and where there is no script the browser loads the page again.

use maud::{DOCTYPE, Markup, html};

use crate::figures::{grouped, moment, seconds};
use crate::status::{ClusterStatus, FlowStatus, Status};

/// `/page.css`.
pub const STYLE: &str = include_str!("page/page.css");
/// `/page.js`.
pub const SCRIPT: &str = include_str!("page/page.js");
/// Lanes and groups shown of a flow, those that are worst off.
const ROWS: usize = 10;
/// Lags that are warned of and that are critical, in seconds; the alert rules have the same.
const LAG: (f64, f64) = (2.0, 5.0);
/// Width and height of a plot, in its own units.
const PLOT: (f64, f64) = (300.0, 48.0);

/// The whole page.
#[must_use]
pub fn page(status: &Status) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Kuroshio " (status.instance) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="page.css";
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                header {
                    h1 { "Kuroshio" }
                    p { (status.instance) " · " (status.version) " · " a href="status" { "status" } " · " a href="metrics" { "metrics" } }
                    p id="stale" {}
                }
                main { (middle(status)) }
                script src="page.js" {}
            }
        }
    };
    page.into_string()
}

/// What changes from moment to moment.
#[must_use]
pub fn middle(status: &Status) -> Markup {
    let pair = if status.clusters.len() == 2 {
        "map pair"
    } else {
        "map"
    };
    html! {
        div class=(pair) {
            @for cluster in &status.clusters { (region(cluster)) }
            div class="flows" {
                @if status.flows.is_empty() { p class="faint" { "No flow runs here." } }
                @for one in &status.flows { (flow(one)) }
            }
        }
        (quarantined(status))
        (partitions(status))
        (groups(status))
        (errors(status))
    }
}

fn region(cluster: &ClusterStatus) -> Markup {
    let (class, word) = match cluster.healthy {
        Some(true) => ("good", "healthy"),
        Some(false) => ("badly", "not healthy"),
        None => ("faint", "not checked yet"),
    };
    html! {
        section class=(if cluster.healthy == Some(false) { "card bad" } else { "card" }) data-cluster=(cluster.alias) {
            div class="top" {
                h3 { (cluster.alias) }
                span class={ "pill " (class) } { (word) }
            }
            dl {
                div { dt { "brokers answering" } dd { (cluster.answered) " of " (cluster.addresses) } }
                div { dt { "failed checks" } dd { (cluster.failed_checks) } }
            }
            @if let Some(error) = &cluster.error { p class="badly" { (error) } }
            @if let Some(id) = &cluster.id { p class="faint" { "cluster id " (id) } }
        }
    }
}

fn flow(flow: &FlowStatus) -> Markup {
    let recent = &flow.recent;
    let late = flow.lag_seconds > LAG.0 || flow.rpo_seconds.is_some_and(|rpo| rpo > LAG.0);
    let calm = flow.state == "running" && flow.quarantined == 0 && !late;
    html! {
        section class="card" data-flow=(flow.name) {
            div class="top" {
                h3 { (flow.source) " → " (flow.target) " " span class="faint" { (flow.name) } }
                span class={ "pill " (if calm { "good" } else { "warn" }) } { (flow.state) @if late { ", behind" } }
            }
            dl {
                div { dt { "RPO" } dd class=(flow.rpo_seconds.map_or("", grade)) { (flow.rpo_seconds.map_or_else(|| "–".to_owned(), seconds)) } }
                div { dt { "lag" } dd class=(grade(flow.lag_seconds)) { (seconds(flow.lag_seconds)) } }
                div { dt { "lag, records" } dd { (grouped(flow.lag_records as f64)) } }
                div { dt { "records/s" } dd { (grouped(flow.records_per_second)) } }
                div { dt { "MB/s" } dd { (format!("{:.2}", flow.bytes_per_second / 1e6)) } }
                div { dt { "partitions" } dd { (flow.partitions) } }
                @if flow.paused > 0 { div { dt { "paused" } dd { (flow.paused) } } }
                div { dt { "quarantined" } dd class=(if flow.quarantined > 0 { "badly" } else { "" }) { (flow.quarantined) } }
                div { dt { "delivery" } dd { (flow.delivery) } }
            }
            (plot("lag, seconds", &recent.lag_seconds, Some(LAG.1), seconds))
            (plot("records/s", &recent.records_per_second, None, grouped))
        }
    }
}

/// The last minutes as a line over its area, and a dashed line where it becomes critical.
fn plot(what: &str, values: &[f64], critical: Option<f64>, words: fn(f64) -> String) -> Markup {
    let most = values.iter().copied().fold(0.0, f64::max);
    let scale = most.max(critical.unwrap_or(1.0)).max(1e-9);
    let y = |value: f64| PLOT.1 - 2.0 - value / scale * (PLOT.1 - 4.0);
    // The newest sample is at the right edge, wherever the oldest is.
    let from = PLOT.0 - values.len().saturating_sub(1) as f64;
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, value)| format!("{:.1},{:.1}", from + at as f64, y(*value)))
        .collect();
    let points = points.join(" ");
    html! {
        figure {
            figcaption { span { (what) ", 5 min" } span { "most " (words(most)) } }
            svg viewBox={ "0 0 " (PLOT.0) " " (PLOT.1) } preserveAspectRatio="none" role="img" aria-label={ (what) ", most " (words(most)) } {
                @if !values.is_empty() {
                    polygon points={ (format!("{from:.1}")) "," (PLOT.1) " " (points) " " (PLOT.0) "," (PLOT.1) } {}
                    polyline points=(points) {}
                }
                @if let Some(critical) = critical {
                    line x1="0" x2=(PLOT.0) y1=(y(critical)) y2=(y(critical)) {}
                }
            }
        }
    }
}

fn quarantined(status: &Status) -> Markup {
    let lanes = status.flows.iter().flat_map(|flow| {
        let lanes = flow.lanes.iter().filter(|lane| lane.quarantined.is_some());
        lanes.map(move |lane| (flow, lane))
    });
    let lanes: Vec<_> = lanes.take(100).collect();
    html! {
        @if !lanes.is_empty() {
            h2 { "Quarantined partitions" }
            div class="card wide" {
                table id="quarantined" {
                    tr { th { "flow" } th { "partition" } th { "why" } }
                    @for (flow, lane) in lanes {
                        tr {
                            td { (flow.name) }
                            td { (lane.topic) "-" (lane.partition) }
                            td class="words badly" { (lane.quarantined.as_deref().unwrap_or_default()) }
                        }
                    }
                }
            }
        }
    }
}

fn partitions(status: &Status) -> Markup {
    let rows = status
        .flows
        .iter()
        .flat_map(|flow| flow.worst_lanes(ROWS).into_iter().map(move |lane| (flow, lane)));
    let rows: Vec<_> = rows.collect();
    html! {
        h2 { "Partitions furthest behind" }
        div class="card wide" {
            @if rows.is_empty() { p class="faint" { "None is behind." } }
            @else {
                table id="behind" {
                    tr { th { "partition" } th class="number" { "lag" } th class="number" { "records" } th { "state" } th { "flow" } }
                    @for (flow, lane) in rows {
                        tr {
                            td { (lane.topic) "-" (lane.partition) }
                            td class={ "number " (grade(lane.lag_seconds.unwrap_or(0.0))) } { (seconds(lane.lag_seconds.unwrap_or(0.0))) }
                            td class="number" { (grouped(lane.lag_records.unwrap_or(0) as f64)) }
                            td { (lane.state) }
                            td { (flow.name) }
                        }
                    }
                }
            }
        }
    }
}

fn groups(status: &Status) -> Markup {
    let total: usize = status.flows.iter().map(|flow| flow.groups.len()).sum();
    let rows = status.flows.iter().flat_map(|flow| {
        flow.worst_groups(ROWS)
            .into_iter()
            .map(move |group| (flow, group))
    });
    html! {
        h2 { "Groups" }
        div class="card wide" {
            @if total == 0 { p class="faint" { "None is followed." } }
            @else {
                table id="groups" {
                    tr { th { "group" } th class="number" { "right on the target" } th { "left alone because" } th { "flow" } }
                    @for (flow, group) in rows {
                        tr {
                            td { (group.group) }
                            td class="number" { (group.sync_age_seconds.map_or_else(|| "–".to_owned(), |age| format!("{} ago", seconds(age)))) }
                            td class="words" { (group.left.as_deref().unwrap_or_default()) }
                            td { (flow.name) }
                        }
                    }
                }
                p class="faint" { (total) " followed" }
            }
        }
    }
}

fn errors(status: &Status) -> Markup {
    let errors = status
        .flows
        .iter()
        .flat_map(|flow| flow.errors.iter().map(move |error| (flow, error)));
    let mut errors: Vec<_> = errors.collect();
    errors.sort_by_key(|(_, error)| std::cmp::Reverse(error.at_ms));
    html! {
        h2 { "Last errors" }
        div class="card" {
            @if errors.is_empty() { p class="faint" { "None." } }
            ol id="errors" {
                @for (flow, error) in errors {
                    li { time { (moment(error.at_ms)) } b { (flow.name) } " " (error.text) }
                }
            }
        }
    }
}

fn grade(lag_seconds: f64) -> &'static str {
    match lag_seconds {
        lag if lag > LAG.1 => "badly",
        lag if lag > LAG.0 => "warn",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ErrorStatus, LaneStatus, Recent};

    fn status() -> Status {
        let lane = |partition, lag: f64, why: Option<&str>| LaneStatus {
            topic: "orders".into(),
            partition,
            state: "running".into(),
            lag_records: Some(lag as i64),
            lag_seconds: Some(lag),
            quarantined: why.map(str::to_owned),
            ..LaneStatus::default()
        };
        Status {
            clusters: vec![
                ClusterStatus {
                    alias: "tw".into(),
                    healthy: Some(true),
                    ..ClusterStatus::default()
                },
                ClusterStatus {
                    alias: "jp".into(),
                    healthy: Some(false),
                    error: Some("<refused>".into()),
                    ..ClusterStatus::default()
                },
            ],
            flows: vec![FlowStatus {
                name: "tw-jp".into(),
                source: "tw".into(),
                target: "jp".into(),
                state: "running".into(),
                lag_seconds: 7.25,
                lag_records: 1_234_567,
                rpo_seconds: Some(61.0),
                quarantined: 1,
                lanes: (0..100)
                    .map(|partition| {
                        lane(
                            partition,
                            f64::from(partition),
                            (partition == 3).then_some("too_large: <b>"),
                        )
                    })
                    .collect(),
                errors: vec![ErrorStatus {
                    at_ms: 1_800_000_000_000,
                    text: "cluster jp refused".into(),
                }],
                recent: Recent {
                    lag_seconds: vec![0.0, 1.0, 7.25],
                    ..Recent::default()
                },
                ..FlowStatus::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn it_says_what_is_wrong_and_takes_nothing_for_markup() {
        let page = page(&status());
        for part in [
            "tw → jp",
            "not healthy",
            "&lt;refused&gt;",
            "too_large: &lt;b&gt;",
            "1,234,567",
            r#"<dd class="badly">7.25 s</dd>"#,
            "61 s",
            "orders-99",
            "2027-01-15 08:00:00 UTC",
            r#"<div class="map pair">"#,
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        assert!(!page.contains("<refused>") && !page.contains(": <b>"));
        assert!(!page.contains("orders-50"), "only the worst are shown");
        assert!(
            !page.contains("http://") && !page.contains("https://"),
            "nothing from outside"
        );
    }
}
