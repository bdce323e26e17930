//! What checks of a cluster find.

use kuroshio_core::health::Health;

use super::{Gauge, Metrics};

/// The metrics of a cluster's checks.
#[derive(Clone, Debug)]
pub struct RegionMetrics {
    up: Gauge,
    failed_checks: Gauge,
    healthy: Gauge,
}

impl Metrics {
    /// Handles for a cluster.
    #[must_use]
    pub fn region(&self, cluster: &str) -> RegionMetrics {
        RegionMetrics {
            up: self.cluster_up.with([cluster]),
            failed_checks: self.failed_checks.with([cluster]),
            healthy: self.region_healthy.with([cluster]),
        }
    }
}

impl RegionMetrics {
    /// A check ended.
    pub fn checked(&self, up: bool, health: Health) {
        self.up.set(f64::from(up));
        self.failed_checks.set(f64::from(health.failed_checks()));
        if let Some(healthy) = health.healthy() {
            self.healthy.set(f64::from(healthy));
        }
    }
}
