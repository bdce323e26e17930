//! The composition root: builds everything, starts everything, stops everything. A task that ends unasked ends
//! the process.

mod engines;
mod flows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kuroshio_librdkafka::ClientSettings;
use kuroshio_wire::{Cluster, ClusterSettings};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::FlowBoard;
use crate::config::{self, Config, Current};
use crate::control;
use crate::exporter::{Exporter, Neighbour};
use crate::http::{self, Draw, Shown};
use crate::metrics::{Metrics, RegistryError};
use crate::regions::{self, Seen};
use crate::reload::{Followed, Hearers, Reload};
use crate::security::{self, Exchange, Rotation};
use crate::status::{ClusterStatus, FlowStatus, Health, Status};

pub use flows::FlowError;
use flows::FlowRun;

/// What to run.
pub struct Job {
    /// The configuration.
    pub config: Config,
    /// The flows of it that this process runs.
    pub flows: Vec<config::Flow>,
    /// The clusters are embedded in this process (`demo`).
    pub embedded: bool,
    /// Where the configuration comes from, which may change; `None`: from nowhere.
    pub file: Option<Followed>,
}

/// A cluster's alias, and what its checks find.
type Checked = (Arc<str>, watch::Receiver<Seen>);

/// How the process is asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Cancelled: finish what is open and end.
    pub now: CancellationToken,
    leave: Arc<AtomicBool>,
}

impl Stop {
    /// Ends; `leave`: for good, so others take the slots over at once instead of after the session timeout.
    pub fn stop(&self, leave: bool) {
        self.leave.store(leave, Ordering::SeqCst);
        self.now.cancel();
    }

    /// Whether the group is to be left.
    #[must_use]
    pub fn leaves(&self) -> bool {
        self.leave.load(Ordering::SeqCst)
    }
}

/// Why the process ended unasked, or not as asked.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The HTTP server.
    #[error("{0}")]
    Http(#[from] std::io::Error),
    /// The metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(#[from] RegistryError),
    /// A flow ended.
    #[error("flow {flow}: {why}")]
    Flow {
        /// The flow.
        flow: Arc<str>,
        /// Why.
        why: FlowError,
    },
    /// A task panicked or was lost.
    #[error("a task ended unasked: {0}")]
    Task(String),
    /// Records in flight when the grace was over.
    #[error("not drained within shutdown_grace ({0:?}): what was open will be copied again")]
    NotDrained(Duration),
}

/// Runs until stopped.
///
/// # Errors
/// Whatever ended it unasked.
pub async fn run(mut job: Job, stop: Stop) -> Result<(), AppError> {
    let metrics = Arc::new(Metrics::new()?);
    let health = Arc::new(Health::default());
    let clusters = clusters(&job);
    let boards = boards(&job.flows);
    let door = http::bind(job.config.http_listen, job.config.http_tls.clone()).await?;

    let mut services = JoinSet::new();
    let (exchange_token, token) = watch::channel(job.config.http_token.clone());
    let clients = clients(&job, &clusters);
    let (tell_flows, all) = watch::channel(job.config.flows.clone().into());
    let reload = job.file.as_ref().map(|followed| followed.ask.clone());
    if let Some(followed) = job.file.take() {
        let hearers = Hearers {
            flows: tell_flows,
            rotation: Rotation::new(&job.config, clusters.clone(), exchange(&clients), exchange_token),
            boards: boards.clone(),
            successful: metrics.reloaded(),
        };
        services.spawn(for_ever(Reload::new(followed, job.config.clone(), hearers).run()));
    }
    let checked = watch_clusters(&job, &all, &clusters, &boards, &metrics, &mut services);
    let http_stop = CancellationToken::new();
    let (commands, asked) = lines(&job.flows);
    let shown = Shown {
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        status: status(&job, &boards, &checked),
        clusters: Arc::new(move || checked.iter().map(cluster_status).collect()),
        commands: job.config.http_admin.then_some(Arc::new(commands)),
        reload: reload.filter(|_| job.config.http_admin),
        token,
    };
    let server = http::serve(door, shown, http_stop.clone());
    services.spawn(async move {
        server.await;
        Ok(())
    });

    let mut flows = JoinSet::new();
    for ((flow, board), asked) in job.flows.iter().zip(boards).zip(asked) {
        let run = FlowRun {
            memory: job.config.memory_of(flow, job.flows.len()),
            instance: Arc::clone(&job.config.instance),
            source: clusters[&flow.source].clone(),
            target: clusters[&flow.target].clone(),
            clients: [&flow.source, &flow.target].map(|alias| clients[alias].subscribe()),
            rack: job
                .config
                .clusters
                .get(&flow.source)
                .and_then(|cluster| cluster.rack.clone()),
            metrics: metrics.flow(&flow.name),
            health: Arc::clone(&health),
            admin: job.config.http_admin,
            stop: stop.clone(),
            flow: Current::new(flow, all.clone()),
            embedded: job.embedded,
            board,
        };
        flows.spawn(async move {
            let name = Arc::clone(&run.flow.name);
            run.keep_running(asked)
                .await
                .map_err(|why| AppError::Flow { flow: name, why })
        });
    }
    let result = watch_over(&mut flows, &mut services, &stop, job.config.shutdown_grace).await;
    // Metrics can be scraped to the end.
    http_stop.cancel();
    services.shutdown().await;
    result
}

/// Where commands to flows go, and come from.
type Lines = (
    BTreeMap<Arc<str>, mpsc::Sender<control::Asked>>,
    Vec<mpsc::Receiver<control::Asked>>,
);

fn lines(flows: &[config::Flow]) -> Lines {
    let line = |flow: &config::Flow| {
        let (line, asked) = mpsc::channel(control::WAITING);
        ((Arc::clone(&flow.name), line), asked)
    };
    flows.iter().map(line).unzip()
}

/// Starts the checks of the clusters and the exporters of their groups.
fn watch_clusters(
    job: &Job,
    all: &watch::Receiver<Arc<[config::Flow]>>,
    clusters: &BTreeMap<Arc<str>, Cluster>,
    boards: &[Arc<FlowBoard>],
    metrics: &Arc<Metrics>,
    services: &mut JoinSet<Result<(), AppError>>,
) -> Vec<Checked> {
    let mut checked = Vec::new();
    for alias in in_order(job) {
        let cluster = &clusters[alias];
        let (tell, seen) = watch::channel(Seen::default());
        checked.push((Arc::clone(alias), seen));
        let checks = regions::watch_over(cluster.clone(), Arc::clone(metrics), tell);
        services.spawn(for_ever(checks));
        // The embedded brokers of `demo` have no list of groups.
        if !job.embedded {
            let exporter = Exporter::new(cluster, neighbours(job, all, alias, boards), Arc::clone(metrics));
            services.spawn(for_ever(exporter.run()));
        }
    }
    checked
}

async fn watch_over(
    flows: &mut JoinSet<Result<(), AppError>>,
    services: &mut JoinSet<Result<(), AppError>>,
    stop: &Stop,
    grace: Duration,
) -> Result<(), AppError> {
    // In this order: a flow with nothing to drain returns in the moment in which it is told to stop.
    let first = tokio::select! {
        biased;
        () = stop.now.cancelled() => Ok(()),
        Some(ended) = flows.join_next() => ended_unasked(ended),
        Some(ended) = services.join_next() => ended_unasked(ended),
    };
    if let Err(error) = &first {
        tracing::error!(%error, "stopping");
    }
    stop.now.cancel();
    let drained = tokio::time::timeout(grace, async {
        let mut result = first;
        while let Some(ended) = flows.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(AppError::Task(error.to_string())));
            result = result.and(ended);
        }
        result
    });
    drained.await.unwrap_or(Err(AppError::NotDrained(grace)))
}

fn ended_unasked(ended: Result<Result<(), AppError>, tokio::task::JoinError>) -> Result<(), AppError> {
    match ended {
        Ok(Ok(())) => Err(AppError::Task("it returned".to_owned())),
        Ok(error) => error,
        Err(error) => Err(AppError::Task(error.to_string())),
    }
}

async fn for_ever(service: impl Future<Output = ()>) -> Result<(), AppError> {
    service.await;
    Ok(())
}

/// The flows of this process that begin or end at a cluster.
fn neighbours(
    job: &Job,
    all: &watch::Receiver<Arc<[config::Flow]>>,
    alias: &Arc<str>,
    boards: &[Arc<FlowBoard>],
) -> Vec<Neighbour> {
    let run = job.flows.iter().zip(boards);
    let there = run.filter(|(flow, _)| [&flow.source, &flow.target].contains(&alias));
    there
        .map(|(flow, board)| Neighbour {
            flow: Current::new(flow, all.clone()),
            board: Arc::clone(board),
        })
        .collect()
}

/// The aliases of the clusters in the order in which the flows name them.
fn in_order(job: &Job) -> Vec<&Arc<str>> {
    let mut aliases = Vec::new();
    for alias in job.flows.iter().flat_map(|flow| [&flow.source, &flow.target]) {
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    aliases
}

fn clusters(job: &Job) -> BTreeMap<Arc<str>, Cluster> {
    let aliases = job.flows.iter().flat_map(|flow| [&flow.source, &flow.target]);
    let cluster = |alias: &Arc<str>| Some((Arc::clone(alias), cluster(&job.config, alias, job.embedded)?));
    aliases.filter_map(cluster).collect()
}

/// A configured cluster; `None`: there is none of that alias.
#[must_use]
pub fn cluster(config: &Config, alias: &str, embedded: bool) -> Option<Cluster> {
    let configured = config.clusters.get(alias)?;
    let mut settings = ClusterSettings::new(alias, configured.bootstrap_servers.clone());
    settings.embedded = embedded;
    settings.security = security::wire(configured);
    settings.client_id = format!("kuroshio-{}", config.instance);
    Some(Cluster::new(settings))
}

/// Source and target of a flow of the configuration.
#[must_use]
pub fn ends(config: &Config, flow: &config::Flow) -> Option<(Cluster, Cluster)> {
    let cluster = |alias| cluster(config, alias, false);
    // Their aliases are among the clusters, or the configuration would not hold.
    Some((cluster(&flow.source)?, cluster(&flow.target)?))
}

/// librdkafka's settings for each cluster, which change with its secrets.
fn clients(
    job: &Job,
    clusters: &BTreeMap<Arc<str>, Cluster>,
) -> BTreeMap<Arc<str>, watch::Sender<ClientSettings>> {
    let settings = |alias: &Arc<str>| watch::Sender::new(engines::settings(&job.config, alias));
    let aliases = clusters.keys();
    aliases
        .map(|alias| (Arc::clone(alias), settings(alias)))
        .collect()
}

/// Gives the engines of a cluster other credentials.
fn exchange(clients: &BTreeMap<Arc<str>, watch::Sender<ClientSettings>>) -> Exchange {
    let clients = clients.clone();
    Box::new(move |alias, cluster| {
        if let Some(client) = clients.get(alias) {
            client.send_modify(|settings| settings.security = engines::security(cluster));
        }
    })
}

fn boards(flows: &[config::Flow]) -> Vec<Arc<FlowBoard>> {
    let board = |flow| Arc::new(FlowBoard::new(head(flow)));
    flows.iter().map(board).collect()
}

fn head(flow: &config::Flow) -> FlowStatus {
    FlowStatus {
        name: flow.name.to_string(),
        source: flow.source.to_string(),
        target: flow.target.to_string(),
        delivery: flow.delivery.as_str().to_owned(),
        ..FlowStatus::default()
    }
}

/// The document behind `/status`.
fn status(job: &Job, boards: &[Arc<FlowBoard>], checked: &[Checked]) -> Draw<Status> {
    let (instance, boards, checked) = (job.config.instance.to_string(), boards.to_vec(), checked.to_vec());
    Arc::new(move || Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: instance.clone(),
        flows: boards.iter().map(|board| board.status()).collect(),
        clusters: checked.iter().map(cluster_status).collect(),
    })
}

fn cluster_status((alias, seen): &Checked) -> ClusterStatus {
    let seen = seen.borrow();
    let (brokers, answered, addresses) = seen.brokers;
    ClusterStatus {
        alias: alias.to_string(),
        up: seen.up,
        healthy: seen.health.healthy(),
        failed_checks: seen.health.failed_checks(),
        brokers,
        answered,
        addresses,
        error: seen.error.as_ref().map(ToString::to_string),
        id: seen.id.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flow_that_stops_at_once_when_told_did_not_end_unasked() {
        // Often enough for an order that is left to chance to go wrong.
        for _ in 0..64 {
            let stop = Stop::default();
            let (mut flows, mut services) = (JoinSet::new(), JoinSet::new());
            let told = stop.now.clone();
            flows.spawn(async move {
                told.cancelled().await;
                Ok(())
            });
            stop.now.cancel();
            // The flow has returned before anybody looks.
            tokio::task::yield_now().await;
            let ended = watch_over(&mut flows, &mut services, &stop, Duration::from_secs(60)).await;
            assert!(ended.is_ok(), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn a_flow_that_returns_unasked_ends_the_process() {
        let (mut flows, mut services) = (JoinSet::new(), JoinSet::new());
        flows.spawn(async { Ok(()) });
        let ended = watch_over(
            &mut flows,
            &mut services,
            &Stop::default(),
            Duration::from_secs(60),
        )
        .await;
        assert!(matches!(ended, Err(AppError::Task(_))), "{ended:?}");
    }
}
