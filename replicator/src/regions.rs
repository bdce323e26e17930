//! Checks of the clusters, and what follows for the health of their regions.

use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::health::Health;
use kuroshio_wire::Cluster;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::metrics::Metrics;

/// Between the beginnings of two checks: the third failed one in a row turns the health, at most 18 s after the event.
const EVERY: Duration = Duration::from_secs(5);
/// How long a check waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the checks of a cluster found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether it is healthy.
    pub health: Health,
    /// It answered the last check.
    pub up: bool,
    /// Brokers at the last good check, addresses that answered the last check, addresses asked.
    pub brokers: (usize, usize, usize),
    /// Why the last check failed.
    pub error: Option<Arc<str>>,
    /// Its id, once known.
    pub id: Option<Arc<str>>,
}

/// Checks a cluster for ever.
pub async fn watch_over(cluster: Cluster, metrics: Arc<Metrics>, tell: watch::Sender<Seen>) {
    let cluster = cluster.within(PATIENCE);
    let shown = metrics.region(cluster.alias());
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = cluster.check().await;
        tell.send_modify(|seen| {
            let was_up = std::mem::replace(&mut seen.up, answer.is_ok());
            let turned = seen.health.check(seen.up);
            match answer {
                Ok(checked) => {
                    seen.error = None;
                    seen.brokers = (
                        checked.metadata.brokers.len(),
                        checked.answered,
                        checked.addresses,
                    );
                    seen.id = checked.metadata.cluster_id.or(seen.id.take());
                    if !was_up {
                        tracing::info!(cluster = %cluster.alias(), "cluster answers");
                    }
                }
                Err(error) => {
                    tracing::warn!(cluster = %cluster.alias(), %error, "cluster does not answer");
                    seen.error = Some(error.to_string().into());
                    seen.brokers.1 = 0;
                }
            }
            match turned {
                Some(true) => tracing::info!(cluster = %cluster.alias(), "region is healthy"),
                Some(false) => {
                    tracing::error!(cluster = %cluster.alias(), failed_checks = seen.health.failed_checks(), "region is not healthy");
                }
                None => {}
            }
            shown.checked(seen.up, seen.health);
        });
    }
}
