//! What the processes say of themselves, once a second.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use kuroshio_core::routes::HEARTBEATS;
use kuroshio_integration::{get, samples};
use tokio::task::JoinSet;

use super::stage::{Scene, Side};

const PACE: Duration = Duration::from_secs(1);
/// What is older says nothing of now: two looks, and an answer that takes its time.
const NOW: Duration = Duration::from_secs(4);

/// Flow, topic, partition.
pub(super) type Lane = (String, String, String);

/// What one process said at a moment.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) at: Instant,
    /// The same in UTC, as it stands in logs.
    pub(super) time: String,
    pub(super) deployment: usize,
    pub(super) instance: usize,
    pub(super) lag_seconds: BTreeMap<Lane, f64>,
    pub(super) lag_records: BTreeMap<Lane, f64>,
    pub(super) rpo_seconds: BTreeMap<String, f64>,
    pub(super) quarantined: BTreeMap<String, f64>,
    /// `kuroshio_lost_records_total`, with the reason truncation by topic, and with any other.
    pub(super) cut: BTreeMap<String, f64>,
    pub(super) lost: f64,
    /// `kuroshio_cluster_up`, of tw and jp.
    pub(super) up: [Option<f64>; 2],
    /// What `/health/region` answered.
    pub(super) health: [u16; 2],
}

impl Said {
    /// Asks a process.
    async fn ask(http: SocketAddr, deployment: usize, instance: usize) -> Result<Self> {
        let at = Instant::now();
        let (code, text) = get(http, "/metrics").await?;
        ensure!(code == 200, "{code} {text}");
        let mut health = [0; 2];
        for (health, side) in health.iter_mut().zip(Side::BOTH) {
            *health = get(http, &format!("/health/region/{}", side.alias())).await?.0;
        }
        let mut this = Self {
            at,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            deployment,
            instance,
            lag_seconds: BTreeMap::new(),
            lag_records: BTreeMap::new(),
            rpo_seconds: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            cut: BTreeMap::new(),
            lost: 0.0,
            up: [None; 2],
            health,
        };
        for sample in samples(&text) {
            let label = |key| sample.label(key).unwrap_or_default().to_owned();
            let lane = || (label("flow"), label("topic"), label("partition"));
            let value = sample.value;
            // Heartbeats never rest.
            if sample.label("topic") == Some(HEARTBEATS) {
                continue;
            }
            match sample.name {
                "kuroshio_lag_seconds" => drop(this.lag_seconds.insert(lane(), value)),
                "kuroshio_lag_records" => drop(this.lag_records.insert(lane(), value)),
                "kuroshio_rpo_seconds" => drop(this.rpo_seconds.insert(label("flow"), value)),
                "kuroshio_quarantined_partitions" => {
                    *this.quarantined.entry(label("flow")).or_default() += value;
                }
                "kuroshio_lost_records_total" if label("reason") == "truncation" => {
                    *this.cut.entry(label("topic")).or_default() += value;
                }
                "kuroshio_lost_records_total" => this.lost += value,
                "kuroshio_cluster_up" => {
                    let side = Side::BOTH
                        .iter()
                        .position(|side| side.alias() == label("cluster"));
                    if let Some(side) = side {
                        this.up[side] = Some(value);
                    }
                }
                _ => {}
            }
        }
        Ok(this)
    }
}

/// Everything that was said, in the order of time.
#[derive(Clone, Debug, Default)]
pub(super) struct History(pub(super) Vec<Said>);

impl fmt::Display for History {
    /// A line for each answer, with its time, for people who look at a failure beside the logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|said| writeln!(f, "{} {said:?}", said.time))
    }
}

impl History {
    /// What instances said within a time.
    pub(super) fn within(
        &self,
        deployment: usize,
        from: Instant,
        to: Instant,
    ) -> impl Iterator<Item = &Said> {
        self.0
            .iter()
            .filter(move |said| said.deployment == deployment && (from..=to).contains(&said.at))
    }

    /// A metric of every lane at a moment. Of several pods the least one is the truth (docs/metrics.md).
    pub(super) fn lanes_at(
        &self,
        deployment: usize,
        at: Instant,
        of: impl Fn(&Said) -> &BTreeMap<Lane, f64>,
    ) -> BTreeMap<Lane, f64> {
        let since = |ago: Duration| at.checked_sub(ago).unwrap_or(at);
        let (from, long_ago) = (since(NOW), since(NOW * 4));
        let mut newest = BTreeMap::new();
        // Answers are in the order in which they came, nearly that of their questions.
        for said in self.0.iter().rev().take_while(|said| said.at >= long_ago) {
            if said.deployment == deployment && (from..=at).contains(&said.at) {
                newest.entry(said.instance).or_insert(said);
            }
        }
        let mut lanes = BTreeMap::<Lane, f64>::new();
        for said in newest.into_values() {
            for (lane, value) in of(said) {
                let least = lanes.entry(lane.clone()).or_insert(*value);
                *least = least.min(*value);
            }
        }
        lanes
    }
}

/// Asks every process of a scene until dropped.
pub(super) struct Watch {
    said: Arc<Mutex<History>>,
    /// Ended with it.
    _askers: JoinSet<()>,
}

impl Watch {
    pub(super) async fn start(scene: &Scene<'_>) -> Self {
        let said = Arc::<Mutex<History>>::default();
        let mut askers = JoinSet::new();
        for (deployment, of) in scene.deployments.iter().enumerate() {
            for (instance, process) in of.instances.iter().enumerate() {
                let http = process.lock().await.http();
                let said = Arc::clone(&said);
                askers.spawn(async move {
                    loop {
                        // Who is dead or stands still says nothing.
                        if let Ok(answer) = Said::ask(http, deployment, instance).await {
                            said.lock().unwrap_or_else(PoisonError::into_inner).0.push(answer);
                        }
                        tokio::time::sleep(PACE).await;
                    }
                });
            }
        }
        Self {
            said,
            _askers: askers,
        }
    }

    /// Looks at what was said until now.
    pub(super) fn look<T>(&self, at: impl FnOnce(&History) -> T) -> T {
        at(&self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was said until now.
    pub(super) fn history(&self) -> History {
        self.look(History::clone)
    }
}
