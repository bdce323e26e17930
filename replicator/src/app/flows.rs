//! One flow in this process: its tasks and pumps, from start to drain.

mod pumps;
mod supervise;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kuroshio_core::control::Notes;
use kuroshio_core::flow::Pairing;
use kuroshio_librdkafka::ClientSettings;
use kuroshio_wire::{Backoff, Cluster};
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::app::Stop;
use crate::board::FlowBoard;
use crate::config;
use crate::control::{Asked, Control};
use crate::cuts::Cuts;
use crate::first_look::FirstLook;
use crate::lanes::{FlowEnds, PumpView};
use crate::line::PumpLine;
use crate::member::Seating;
use crate::metrics::FlowMetrics;
use crate::pump::PumpError;
use crate::status::{Health, Latch};

/// Between two attempts to reach a cluster at the start.
const REACH: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Before a flow that ended unasked starts again.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A flow that ran for so long starts again as if for the first time.
const STEADY: Duration = Duration::from_secs(600);
/// How long pumps of a flow that ended unasked may take to notice; whoever takes longer is fenced.
const GIVING_UP: Duration = Duration::from_secs(30);

/// Why a flow ended.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// A pump ended.
    #[error("{0}")]
    Pump(#[from] PumpError),
    /// Source and target are one cluster.
    #[error(
        "clusters {source_alias} and {target_alias} are the same cluster (id {id}): one cluster has one alias"
    )]
    OneCluster {
        /// Alias of the source.
        source_alias: Arc<str>,
        /// Alias of the target.
        target_alias: Arc<str>,
        /// Their id.
        id: Arc<str>,
    },
    /// The operating system gave no thread.
    #[error("no thread for a pump: {0}")]
    Thread(std::io::Error),
    /// A pump's thread panicked, or a task beside it ended.
    #[error("{0}")]
    Lost(String),
}

impl FlowError {
    /// Starting again would only take the name from who has it now, who would do the same.
    fn is_final(&self) -> bool {
        matches!(self, Self::Pump(PumpError::Fenced { .. }))
    }
}

/// A flow to run.
pub(super) struct FlowRun {
    /// As configured.
    pub flow: config::Current,
    /// Its clusters are embedded in this process.
    pub embedded: bool,
    /// The process's name.
    pub instance: Arc<str>,
    /// Bytes of record data in flight.
    pub memory: u64,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// The engine's clients: source, target.
    pub clients: [watch::Receiver<ClientSettings>; 2],
    /// The rack that the source is read from, where replicas near it are to be read.
    pub rack: Option<Arc<str>>,
    /// The flow's metrics.
    pub metrics: FlowMetrics,
    /// Readiness and liveness.
    pub health: Arc<Health>,
    /// What is known of the flow.
    pub board: Arc<FlowBoard>,
    /// Whether commands are taken.
    pub admin: bool,
    /// How it ends.
    pub stop: Stop,
}

/// What all pumps of a flow share.
struct Shared {
    ends: FlowEnds,
    group: Arc<str>,
    incarnation: u64,
    started: Instant,
    catalog: watch::Receiver<Arc<[Pairing]>>,
    notes: watch::Receiver<Option<Arc<Notes>>>,
    first_look: watch::Receiver<Option<Arc<FirstLook>>>,
    first: Arc<AtomicBool>,
    weights: watch::Receiver<Arc<[u32]>>,
    loads: watch::Receiver<Arc<[u32]>>,
    look: Arc<Notify>,
}

/// A started pump.
struct Started {
    line: PumpLine,
    ended: oneshot::Receiver<Result<(), PumpError>>,
    view: watch::Receiver<PumpView>,
    seating: watch::Receiver<Option<Seating>>,
}

impl FlowRun {
    /// Runs until stopped. What ends unasked starts again after a while: nothing that is wrong with one flow touches the others.
    ///
    /// # Errors
    /// Another process has our name.
    pub(super) async fn keep_running(self, asked: mpsc::Receiver<Asked>) -> Result<(), FlowError> {
        let asked = Arc::new(Mutex::new(asked));
        let mut backoff = Backoff::new(RESTART.0, RESTART.1);
        loop {
            let began = Instant::now();
            let error = match self.run(&asked).await {
                Err(error) if !error.is_final() && !self.stop.now.is_cancelled() => error,
                ended => return ended,
            };
            if began.elapsed() > STEADY {
                backoff.reset();
            }
            let pause = backoff.pause();
            self.board.error(format!(
                "the flow ended: {error}; it starts again in {:.0} s",
                pause.as_secs_f64()
            ));
            self.board.state("failed");
            let _unready = self.unready();
            tokio::select! {
                () = tokio::time::sleep(pause) => self.metrics.restarted(),
                () = self.stop.now.cancelled() => return Ok(()),
            }
        }
    }

    /// Runs until stopped.
    ///
    /// # Errors
    /// Whatever ended it unasked.
    async fn run(&self, asked: &Arc<Mutex<mpsc::Receiver<Asked>>>) -> Result<(), FlowError> {
        let over = self.stop.now.child_token();
        self.board.begin();
        let latch = self.unready();
        self.board.state("reaching its clusters");
        let reached = tokio::select! {
            ids = self.reach() => Some(ids),
            () = self.stop.now.cancelled() => None,
        };
        let Some((source_id, target_id)) = reached else {
            return Ok(());
        };
        if source_id == target_id {
            return Err(FlowError::OneCluster {
                source_alias: Arc::clone(&self.flow.source),
                target_alias: Arc::clone(&self.flow.target),
                id: source_id,
            });
        }
        let mut tasks = JoinSet::new();
        let (remakes, to_remake) = mpsc::channel(1);
        // Nobody writes notes where no commands are taken, and to read them costs a permission and a request every other second.
        let notes = watch::Sender::new((!self.admin).then(Arc::default));
        let shared = self.start_tasks(&mut tasks, source_id, to_remake, notes.subscribe());
        let mut pumps = Vec::new();
        for number in 0..self.pump_count() {
            pumps.push(self.start_pump(&mut tasks, &shared, number, &over)?);
        }
        let cuts = Cuts {
            target: self.target.clone(),
            pumps: pumps
                .iter()
                .map(|pump| (pump.line.clone(), pump.view.clone()))
                .collect(),
        };
        tasks.spawn(named("cuts", cuts.run()));
        let control = Control {
            flow: Arc::clone(&self.flow.name),
            target: self.target.clone(),
            board: Arc::clone(&self.board),
            catalog: shared.catalog.clone(),
            remakes,
            lines: pumps.iter().map(|pump| pump.line.clone()).collect(),
            notes,
            asked: Arc::clone(asked),
        };
        if self.admin {
            tasks.spawn(named("commands", control.run()));
        }
        self.metrics.up(true);
        self.board.state("joining");
        let result = self.supervise(&mut tasks, &mut pumps, latch).await;
        let _unready = result.is_err().then(|| self.unready());
        over.cancel();
        self.metrics.up(false);
        self.board.state("stopped");
        if self.stop.leaves() && result.is_ok() {
            self.leave(&pumps).await;
        }
        tasks.shutdown().await;
        give_up(pumps).await;
        result
    }

    /// Holds the process's readiness back.
    fn unready(&self) -> Latch {
        self.health.latch(format!("flow {}", self.flow.name))
    }

    /// The ids of source and target; waits until both answer.
    async fn reach(&self) -> (Arc<str>, Arc<str>) {
        let id = async |cluster: &Cluster| {
            let mut backoff = Backoff::new(REACH.0, REACH.1);
            loop {
                match cluster.within(REACH.1).cluster_id().await {
                    Ok(Some(id)) => return id,
                    Ok(None) => self.board.error(format!(
                        "cluster {}: its brokers name no cluster id",
                        cluster.alias()
                    )),
                    Err(error) => self.board.error(error.to_string()),
                }
                tokio::time::sleep(backoff.pause()).await;
            }
        };
        tokio::join!(id(&self.source), id(&self.target))
    }
}

/// Pumps whose lines are gone end by themselves; two of one name would fence each other.
async fn give_up(pumps: Vec<Started>) {
    let views: Vec<_> = pumps.into_iter().map(|pump| pump.view).collect();
    let ended = async {
        for mut view in views {
            while view.changed().await.is_ok() {}
        }
    };
    if tokio::time::timeout(GIVING_UP, ended).await.is_err() {
        tracing::warn!("a pump has not ended; its successor fences it");
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}
