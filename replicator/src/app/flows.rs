//! One flow in this process: its tasks and pumps, from start to drain.

mod supervise;
mod tasks;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kuroshio_core::flow::{FlowSettings, Pairing};
use kuroshio_core::start::OnDataLoss;
use kuroshio_librdkafka::{ClientSettings, Librdkafka, Outdated, Settings};
use kuroshio_wire::{Backoff, Cluster};
use tokio::sync::{Notify, OnceCell, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::app::Stop;
use crate::board::FlowBoard;
use crate::clerk::{Clerk, FirstStart};
use crate::config::{self, Delivery, Pumps, Start};
use crate::control::{Asked, Control};
use crate::cuts::Cuts;
use crate::first_look::FirstLook;
use crate::lanes::{FlowEnds, LaneDesk, PumpView};
use crate::line::{PumpLine, WakeSlot};
use crate::member::{Member, Seating};
use crate::metrics::FlowMetrics;
use crate::pump::{Errands, News, PumpError, PumpParts, StoreErrand};
use crate::status::Health;
use crate::storer;
use crate::trial::{TrialErrand, Trials};

/// A dead process's transaction blocks readers for so long at most; shorter than that of any pause a broker
/// makes in a rolling restart would abort work for nothing.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// News waiting for a pump.
const NEWS: usize = 1024;
/// Between two attempts to reach a cluster at the start.
const REACH: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

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

/// A flow to run.
pub(super) struct FlowRun {
    /// As configured.
    pub flow: config::Flow,
    /// All flows of the configuration.
    pub flows: Arc<[config::Flow]>,
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
    fingerprint: u64,
    started: Instant,
    catalog: watch::Receiver<Arc<[Pairing]>>,
    first_look: watch::Receiver<Option<Arc<FirstLook>>>,
    first: Arc<AtomicBool>,
    weights: watch::Receiver<Arc<[u32]>>,
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
    /// Runs until stopped.
    ///
    /// # Errors
    /// Whatever ended it unasked.
    pub(super) async fn run(self, asked: mpsc::Receiver<Asked>) -> Result<(), FlowError> {
        let latch = self.health.latch(format!("flow {}", self.flow.name));
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
        let shared = self.start_tasks(&mut tasks, source_id, to_remake);
        let mut pumps = Vec::new();
        for number in 0..self.pump_count() {
            pumps.push(self.start_pump(&mut tasks, &shared, number)?);
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
            asked,
        };
        // Nobody else writes notes, and to read them costs a permission and a request every other second.
        if self.admin {
            tasks.spawn(named("commands", control.run()));
        }
        self.metrics.up(true);
        self.board.state("joining");
        let result = self.supervise(&mut tasks, &mut pumps, latch).await;
        self.metrics.up(false);
        self.board.state("stopped");
        if self.stop.leaves() && result.is_ok() {
            self.leave(&pumps).await;
        }
        tasks.shutdown().await;
        result
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

    fn start_pump(
        &self,
        tasks: &mut JoinSet<&'static str>,
        shared: &Shared,
        number: u16,
    ) -> Result<Started, FlowError> {
        let instance: Arc<str> = format!("{}.{}.{number}", shared.group, self.instance).into();
        let (news_tell, news) = mpsc::channel(NEWS);
        let wake = WakeSlot::default();
        let line = PumpLine::new(news_tell, wake.clone());
        let (member_tell, member_orders) = mpsc::channel(1);
        let (clerk_tell, clerk_errands) = mpsc::channel(1);
        let (seating_tell, seating) = watch::channel(None);
        let (view_tell, view) = watch::channel(PumpView::default());
        self.board.pump(view.clone());

        tasks.spawn(named(
            "catalog",
            forward_catalog(shared.catalog.clone(), line.clone()),
        ));
        let member = Member {
            target: self.target.clone(),
            group: Arc::clone(&shared.group),
            instance: Arc::clone(&instance),
            incarnation: shared.incarnation,
            fingerprint: shared.fingerprint,
            weights: shared.weights.clone(),
            line: line.clone(),
            orders: member_orders,
            seating: seating_tell,
            board: Arc::clone(&self.board),
            metrics: self.metrics.clone(),
            first: Arc::clone(&shared.first),
            id: None,
            backoff: Backoff::new(REACH.0, REACH.1),
        };
        tasks.spawn(named("member", member.run()));
        tasks.spawn(named(
            "clerk",
            self.clerk(shared, &instance, line.clone(), clerk_errands, seating.clone())
                .run(),
        ));
        let storer = self.start_storer(tasks, shared, line.clone());
        let trials = self.start_trials(shared, &instance, line.clone())?;

        let parts = PumpParts {
            name: Arc::clone(&instance),
            settings: self.flow_settings(),
            build: self.engine(&instance, wake),
            news,
            errands: Errands {
                member: member_tell,
                clerk: clerk_tell,
                trials,
                storer,
            },
            desk: self.desk(shared),
            view: view_tell,
            pulse: self.health.pulse(Arc::clone(&instance)),
            started: shared.started,
            stop: self.stop.now.clone(),
        };
        let (done, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("pump-{number}"));
        // Nobody waits for the result once the process has given up on the drain.
        let tell = move |result| drop(done.send(result));
        thread
            .spawn(move || crate::pump::run(parts, tell))
            .map_err(FlowError::Thread)?;
        Ok(Started {
            line,
            ended,
            view,
            seating,
        })
    }

    fn start_storer(
        &self,
        tasks: &mut JoinSet<&'static str>,
        shared: &Shared,
        line: PumpLine,
    ) -> mpsc::Sender<StoreErrand> {
        let (tell, errands) = mpsc::channel(1);
        let storing = storer::store(shared.ends.clone(), self.target.clone(), line, errands);
        tasks.spawn(named("storer", storing));
        tell
    }

    fn start_trials(
        &self,
        shared: &Shared,
        pump: &Arc<str>,
        line: PumpLine,
    ) -> Result<mpsc::Sender<TrialErrand>, FlowError> {
        let (tell, errands) = mpsc::channel(1);
        let trials = Trials {
            ends: shared.ends.clone(),
            pump: Arc::clone(pump),
            build: self.trial_engine(pump),
            errands,
            line,
        };
        // It ends with its pump.
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("trials".to_owned());
        thread
            .spawn(move || runtime.block_on(trials.run()))
            .map_err(FlowError::Thread)?;
        Ok(tell)
    }

    fn desk(&self, shared: &Shared) -> LaneDesk {
        let (metrics, board) = (self.metrics.clone(), Arc::clone(&self.board));
        LaneDesk::new(shared.ends.clone(), metrics, board, Arc::clone(&shared.look))
    }

    fn clerk(
        &self,
        shared: &Shared,
        instance: &Arc<str>,
        line: PumpLine,
        errands: mpsc::Receiver<crate::pump::OpenErrand>,
        seating: watch::Receiver<Option<Seating>>,
    ) -> Clerk {
        Clerk {
            ends: shared.ends.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            group: Arc::clone(&shared.group),
            instance: Arc::clone(instance),
            first_start: match self.flow.start {
                Start::Earliest => FirstStart::Earliest,
                Start::Latest => FirstStart::Latest,
                Start::Timestamp(ms) => FirstStart::Timestamp(ms),
            },
            on_data_loss: match self.flow.on_data_loss {
                config::OnDataLoss::Continue => OnDataLoss::Continue,
                config::OnDataLoss::Halt => OnDataLoss::Halt,
            },
            positions_on_source: self.flow.positions_on_source,
            transaction_timeout: match self.flow.delivery {
                Delivery::ExactlyOnce => Some(TRANSACTION_TIMEOUT),
                Delivery::AtLeastOnce => None,
            },
            first_look: shared.first_look.clone(),
            look: Arc::clone(&shared.look),
            seating,
            line,
            errands,
            board: Arc::clone(&self.board),
            metrics: self.metrics.clone(),
            released: BTreeSet::new(),
            searched: None,
            was_here: OnceCell::new(),
        }
    }

    fn flow_settings(&self) -> FlowSettings {
        FlowSettings {
            delivery: match self.flow.delivery {
                Delivery::ExactlyOnce => kuroshio_core::flow::Delivery::ExactlyOnce,
                Delivery::AtLeastOnce => kuroshio_core::flow::Delivery::AtLeastOnce,
            },
            commit_interval: self.flow.commit_interval,
            commit_bytes: self.pump_memory() / 2,
            hold_limit: TRANSACTION_TIMEOUT / 2,
        }
    }

    /// Builds a pump's engine, as often as it is asked.
    fn engine(&self, instance: &Arc<str>, wake: WakeSlot) -> impl FnMut() -> Built + Send + use<> {
        let delivery = match self.flow.delivery {
            Delivery::ExactlyOnce => exactly_once(Arc::clone(instance)),
            Delivery::AtLeastOnce => kuroshio_librdkafka::Delivery::AtLeastOnce,
        };
        self.build(delivery, self.pump_memory(), wake)
    }

    /// Builds the engine that tries what a pump's was refused; in `at_least_once`, too, nothing of it is to count.
    fn trial_engine(&self, pump: &Arc<str>) -> impl FnMut() -> Built + Send + use<> {
        let delivery = exactly_once(format!("{pump}.trial").into());
        self.build(delivery, kuroshio_librdkafka::MEMORY_MIN, WakeSlot::default())
    }

    /// Builds engines, with the credentials of the moment.
    fn build(
        &self,
        delivery: kuroshio_librdkafka::Delivery,
        memory_bytes: u64,
        wake: WakeSlot,
    ) -> impl FnMut() -> Built + Send + use<> {
        let (flow, mut clients) = (Arc::clone(&self.flow.name), self.clients.clone());
        let rack = self.rack.as_ref().map(ToString::to_string);
        move || {
            let [source, target] = clients
                .each_mut()
                .map(|client| client.borrow_and_update().clone());
            let seen = clients.clone();
            // They are gone with the process only.
            let changed = move || seen.iter().any(|client| client.has_changed().unwrap_or(false));
            let engine = Librdkafka::new(Settings {
                flow: Arc::clone(&flow),
                source,
                target,
                delivery: delivery.clone(),
                memory_bytes,
                rack: rack.clone(),
                outdated: Outdated::new(changed),
            })?;
            let waker = engine.waker();
            wake.put(move || waker.wake());
            Ok(engine)
        }
    }

    fn pump_count(&self) -> u16 {
        match self.flow.pumps {
            // One pump keeps librdkafka's own threads busy on two cores; more are measured before they are chosen.
            Pumps::Auto => 1,
            Pumps::Count(count) => count,
        }
    }

    fn pump_memory(&self) -> u64 {
        (self.memory / u64::from(self.pump_count())).max(kuroshio_librdkafka::MEMORY_MIN)
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

type Built = Result<Librdkafka, kuroshio_core::engine::EngineError>;

fn exactly_once(transactional_id: Arc<str>) -> kuroshio_librdkafka::Delivery {
    kuroshio_librdkafka::Delivery::ExactlyOnce {
        transactional_id,
        transaction_timeout: TRANSACTION_TIMEOUT,
    }
}

async fn forward_catalog(mut catalog: watch::Receiver<Arc<[Pairing]>>, line: PumpLine) {
    // Ends with discovery or with the pump, which both end the flow.
    while catalog.changed().await.is_ok() {
        let pairings = Arc::clone(&catalog.borrow_and_update());
        if line.tell(News::Catalog(pairings)).await.is_err() {
            return;
        }
    }
}
