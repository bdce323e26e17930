//! What the process says about itself: the document behind `/status`, and the health behind the probes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The document of `/status`: a snapshot, replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of Kuroshio.
    pub version: String,
    /// `instance` of the configuration.
    pub instance: String,
    /// Flows that this process runs.
    pub flows: Vec<FlowStatus>,
    /// Clusters of those flows.
    pub clusters: Vec<ClusterStatus>,
}

/// A flow in this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowStatus {
    /// Its name.
    pub name: String,
    /// Alias of the source.
    pub source: String,
    /// Alias of the target.
    pub target: String,
    /// `exactly_once` or `at_least_once`.
    pub delivery: String,
    /// In words: `running`, `joining`, or why it stands still.
    pub state: String,
    /// Of the newest applied assignment, where this process is a member.
    pub generation: Option<i32>,
    /// Slots owned by this process.
    pub slots: Vec<u32>,
    /// Offsets that its partitions are behind, together.
    pub lag_records: u64,
    /// How long the oldest record that is missing on the target has been missing.
    pub lag_seconds: f64,
    /// What a disaster now would lose; `None`: another process knows.
    pub rpo_seconds: Option<f64>,
    /// Records made durable on the target, over the last seconds.
    pub records_per_second: f64,
    /// Their bytes of key, value and headers.
    pub bytes_per_second: f64,
    /// How many partitions it moves, of which `lanes` may show the worst only.
    pub partitions: usize,
    /// How many of them are quarantined.
    pub quarantined: usize,
    /// How many of them stand still because somebody wants them to.
    #[serde(default)]
    pub paused: usize,
    /// Partitions that it moves.
    pub lanes: Vec<LaneStatus>,
    /// Groups whose offsets follow on the target.
    pub groups: Vec<GroupStatus>,
    /// The newest errors, newest last; few.
    pub errors: Vec<ErrorStatus>,
    /// The last minutes, a sample per second, newest last.
    pub recent: Recent,
}

impl FlowStatus {
    /// Leaves the `top` lanes and groups that are worst off.
    pub fn shorten(&mut self, top: usize) {
        self.lanes.sort_by(LaneStatus::worse);
        self.lanes.truncate(top);
        self.groups.sort_by(GroupStatus::worse);
        self.groups.truncate(top);
    }

    /// The `top` lanes that are quarantined or behind, worst first.
    #[must_use]
    pub fn worst_lanes(&self, top: usize) -> Vec<&LaneStatus> {
        let behind = |lane: &LaneStatus| lane.lag_seconds.is_some_and(|lag| lag > ON_ITS_WAY);
        let bad = |lane: &&LaneStatus| lane.quarantined.is_some() || behind(lane);
        let mut lanes: Vec<_> = self.lanes.iter().filter(bad).collect();
        lanes.sort_by(|a, b| a.worse(b));
        lanes.truncate(top);
        lanes
    }

    /// The `top` groups whose offsets were longest not known right, worst first.
    #[must_use]
    pub fn worst_groups(&self, top: usize) -> Vec<&GroupStatus> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by(|a, b| a.worse(b));
        groups.truncate(top);
        groups
    }
}

/// A flow's last minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// As [`FlowStatus::lag_seconds`].
    pub lag_seconds: Vec<f64>,
    /// As [`FlowStatus::rpo_seconds`].
    pub rpo_seconds: Vec<Option<f64>>,
    /// In that second.
    pub records_per_second: Vec<f64>,
}

/// A group whose offsets a flow looks after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its id.
    pub group: String,
    /// Since its offsets on the target were last known right.
    pub sync_age_seconds: Option<f64>,
    /// Why they are left as they are.
    pub left: Option<String>,
}

impl GroupStatus {
    /// Before those that are better off: longest not known right; those left alone last.
    fn worse(&self, other: &Self) -> std::cmp::Ordering {
        let age = |group: &Self| group.sync_age_seconds.unwrap_or(-1.0);
        age(other).total_cmp(&age(self))
    }
}

/// Records missing for so many seconds are on their way, not behind.
const ON_ITS_WAY: f64 = 0.25;

/// A source partition in the hands of this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Topic on the source.
    pub topic: String,
    /// Topic on the target.
    pub target_topic: String,
    /// Partition on both.
    pub partition: i32,
    /// In words: `running`, `starting`, `paused`, `quarantined`.
    pub state: String,
    /// Next source offset to read, as committed.
    pub position: Option<i64>,
    /// Source high watermark minus position, in offsets.
    pub lag_records: Option<i64>,
    /// How long its oldest missing record has been missing.
    pub lag_seconds: Option<f64>,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
}

impl LaneStatus {
    /// Before those that are better off: quarantined, then by lag.
    fn worse(&self, other: &Self) -> std::cmp::Ordering {
        let lag = |lane: &Self| lane.lag_seconds.unwrap_or(0.0);
        let quarantined = other.quarantined.is_some().cmp(&self.quarantined.is_some());
        let time = lag(other).total_cmp(&lag(self));
        let records = other.lag_records.cmp(&self.lag_records);
        quarantined.then(time).then(records)
    }
}

/// An error that a flow met.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What, where, and what to do.
    pub text: String,
}

/// A cluster as this process sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its alias.
    pub alias: String,
    /// Whether it answered the last check.
    pub up: bool,
    /// What `/health/region` answers; `None`: not checked yet.
    pub healthy: Option<bool>,
    /// Checks that failed in a row.
    pub failed_checks: u32,
    /// Brokers that it said it has, at the last good check.
    pub brokers: usize,
    /// Addresses that answered the last check.
    pub answered: usize,
    /// Addresses that were asked.
    pub addresses: usize,
    /// Why the last check failed.
    pub error: Option<String>,
    /// Its id, once known.
    pub id: Option<String>,
}

/// How long a pump may stay away from the top of its loop before the process counts as dead: longer than
/// any wait of a healthy one (a commit waits for the target up to the transaction timeout).
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Readiness and liveness, shared by those who know and the HTTP server.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    awaited: Mutex<BTreeSet<Arc<str>>>,
    pulses: Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            awaited: Mutex::default(),
            pulses: Mutex::default(),
        }
    }
}

impl Health {
    /// The process is not ready before the latch is dropped. `what` is shown by `/readyz` until then; two
    /// latches have different names.
    #[must_use]
    pub fn latch(self: &Arc<Self>, what: impl Into<Arc<str>>) -> Latch {
        let what = what.into();
        lock(&self.awaited).insert(Arc::clone(&what));
        Latch {
            health: Arc::clone(self),
            what,
        }
    }

    /// The process counts as alive only while each pulse beats. `pump` names it; a second pulse of the name
    /// takes the place of the first.
    #[must_use]
    pub fn pulse(self: &Arc<Self>, pump: impl Into<Arc<str>>) -> Pulse {
        let pump = pump.into();
        let last = Arc::new(AtomicU64::new(self.now_ms()));
        lock(&self.pulses).insert(Arc::clone(&pump), Arc::clone(&last));
        Pulse {
            health: Arc::clone(self),
            pump,
            last,
        }
    }

    /// What is still waited for; empty: ready.
    #[must_use]
    pub fn awaited(&self) -> Vec<Arc<str>> {
        lock(&self.awaited).iter().cloned().collect()
    }

    /// Pumps whose loop has not come round for too long, with the time since; empty: alive.
    #[must_use]
    pub fn stuck(&self) -> Vec<(Arc<str>, Duration)> {
        self.silent_for(STUCK_AFTER)
    }

    fn silent_for(&self, limit: Duration) -> Vec<(Arc<str>, Duration)> {
        let now = self.now_ms();
        let since =
            |last: &AtomicU64| Duration::from_millis(now.saturating_sub(last.load(Ordering::Relaxed)));
        let pulses = lock(&self.pulses);
        let all = pulses.iter().map(|(pump, last)| (Arc::clone(pump), since(last)));
        all.filter(|(_, silent)| *silent >= limit).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Holds readiness back until it is dropped.
#[derive(Debug)]
pub struct Latch {
    health: Arc<Health>,
    what: Arc<str>,
}

impl Drop for Latch {
    fn drop(&mut self) {
        lock(&self.health.awaited).remove(&self.what);
    }
}

/// The sign of life of a pump; dropping it says that the pump ended as it should.
#[derive(Debug)]
pub struct Pulse {
    health: Arc<Health>,
    pump: Arc<str>,
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// The loop has come round.
    pub fn beat(&self) {
        self.last.store(self.health.now_ms(), Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        let mut pulses = lock(&self.health.pulses);
        // A newer pump of the same name keeps its own.
        if pulses
            .get(&self.pump)
            .is_some_and(|last| Arc::ptr_eq(last, &self.last))
        {
            pulses.remove(&self.pump);
        }
    }
}

/// Every state of these maps is valid, so one that a panicking thread left behind is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_latch_is_dropped() {
        let health = Arc::new(Health::default());
        let (one, two) = (health.latch("flow tw-jp"), health.latch("flow jp-tw"));
        drop(one);
        assert_eq!(health.awaited(), [Arc::from("flow jp-tw")]);
        drop(two);
        assert!(health.awaited().is_empty());
    }

    #[test]
    fn a_pump_that_ended_is_not_stuck() {
        let health = Arc::new(Health::default());
        let old = health.pulse("tw-jp/0");
        assert_eq!(health.silent_for(Duration::ZERO).len(), 1);
        assert!(health.stuck().is_empty());
        let new = health.pulse("tw-jp/0");
        drop(old);
        assert_eq!(health.silent_for(Duration::ZERO).len(), 1);
        new.beat();
        drop(new);
        assert!(health.silent_for(Duration::ZERO).is_empty());
    }
}
