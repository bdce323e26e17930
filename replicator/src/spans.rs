//! The spans of the application, all of them: one for each batch or round, never one for each record; static names, few
//! attributes. Where no exporter is set nobody listens to their target, and a span is a look at a static.

use std::fmt::Display;

use tracing::field::Empty;
use tracing::{Span, info_span};

/// The target of every span; logs leave it out whatever their filter says.
pub const TARGET: &str = "kuroshio::spans";

/// In `exactly_once`: from the first run of records that was read to the end of the transaction.
#[must_use]
pub fn transaction(flow: &str, pump: &str) -> Span {
    info_span!(
        target: TARGET, parent: None, "transaction", flow, pump, records = Empty, bytes = Empty, lanes = Empty,
        outcome = Empty, otel.status_code = Empty, otel.status_description = Empty
    )
}

/// In `at_least_once`: from the first run of records that was read to the answer about its positions.
#[must_use]
pub fn batch(flow: &str, pump: &str) -> Span {
    info_span!(
        target: TARGET, parent: None, "batch", flow, pump, records = Empty, bytes = Empty, lanes = Empty,
        outcome = Empty, otel.status_code = Empty, otel.status_description = Empty
    )
}

/// The commit of a transaction or batch: of so many positions.
#[must_use]
pub fn commit(of: &Span, positions: usize) -> Span {
    info_span!(target: TARGET, parent: of, "commit", positions)
}

/// Finding out where so many lanes start.
#[must_use]
pub fn open_lanes(flow: &str, pump: &str, lanes: usize) -> Span {
    info_span!(target: TARGET, parent: None, "open_lanes", flow, pump, lanes)
}

/// A pump that takes its seat in the flow's group.
#[must_use]
pub fn join(flow: &str, pump: &str) -> Span {
    info_span!(
        target: TARGET, parent: None, "join", flow, pump, generation = Empty,
        otel.status_code = Empty, otel.status_description = Empty
    )
}

/// A look at the topics of both clusters; `partitions`: that are copied after it.
#[must_use]
pub fn discover(flow: &str) -> Span {
    info_span!(
        target: TARGET, parent: None, "discover", flow, partitions = Empty,
        otel.status_code = Empty, otel.status_description = Empty
    )
}

/// A comparison of the configs of so many topics.
#[must_use]
pub fn sync_configs(flow: &str, topics: usize) -> Span {
    info_span!(
        target: TARGET, parent: None, "sync_configs", flow, topics,
        otel.status_code = Empty, otel.status_description = Empty
    )
}

/// A comparison of the ACLs of topics.
#[must_use]
pub fn sync_acls(flow: &str) -> Span {
    info_span!(
        target: TARGET, parent: None, "sync_acls", flow, otel.status_code = Empty, otel.status_description = Empty
    )
}

/// A look at the groups on the source, for so many partitions; `groups`: that are followed after it.
#[must_use]
pub fn sync_groups(flow: &str, partitions: usize) -> Span {
    info_span!(
        target: TARGET, parent: None, "sync_groups", flow, partitions, groups = Empty,
        otel.status_code = Empty, otel.status_description = Empty
    )
}

/// Marks a span as that of something that went wrong.
pub fn failed(span: &Span, why: &dyn Display) {
    if !span.is_disabled() {
        span.record("otel.status_code", "error");
        span.record("otel.status_description", tracing::field::display(why));
    }
}
