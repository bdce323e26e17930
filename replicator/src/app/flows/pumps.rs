//! What a pump of a flow is made of: its engine, and the tasks beside it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::control::Notes;
use kuroshio_core::flow::{FlowSettings, Pairing};
use kuroshio_core::slots::Slot;
use kuroshio_core::start::OnDataLoss;
use kuroshio_core::throttle::share;
use kuroshio_librdkafka::{Librdkafka, Outdated, Settings};
use kuroshio_wire::Backoff;
use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clerk::{Clerk, FirstStart};
use crate::config::{self, Delivery, Pumps, Start};
use crate::control::noted;
use crate::lanes::{LaneDesk, PumpView};
use crate::line::{PumpLine, WakeSlot};
use crate::member::{Member, Seating};
use crate::pump::{Errands, Limit, News, PumpParts, StoreErrand};
use crate::storer;
use crate::trial::{TrialErrand, Trials};

use super::{FlowError, FlowRun, REACH, Shared, Started, named};

/// A dead process's transaction blocks readers for so long at most; shorter than that of any pause a broker
/// makes in a rolling restart would abort work for nothing.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// News waiting for a pump.
const NEWS: usize = 1024;

impl FlowRun {
    pub(super) fn start_pump(
        &self,
        tasks: &mut JoinSet<&'static str>,
        shared: &Shared,
        number: u16,
        over: &CancellationToken,
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
            forward_catalog(shared.catalog.clone(), shared.notes.clone(), line.clone()),
        ));
        let member = Member {
            target: self.target.clone(),
            group: Arc::clone(&shared.group),
            instance: Arc::clone(&instance),
            incarnation: shared.incarnation,
            flow: self.flow.clone(),
            loads: shared.loads.clone(),
            leads: None,
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
            limit: self.limit(shared, number),
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
            stop: over.clone(),
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

    /// A pump's part of the flow's limit: as its partitions are to all.
    fn limit(&self, shared: &Shared, number: u16) -> Limit {
        let (mut flow, weights) = (self.flow.clone(), shared.weights.clone());
        let shown = self.metrics.throttle(&number.to_string());
        Box::new(move |slots| {
            flow.renew();
            let weights = weights.borrow();
            let weight = |slot: &Slot| weights.get(usize::from(slot.0)).copied().map_or(0, u64::from);
            let part = slots.iter().map(weight).sum();
            let whole = weights.iter().copied().map(u64::from).sum();
            let limit = flow.throttle.map(|limit| share(limit, part, whole));
            shown.set(limit.map_or(0.0, |limit| limit.get() as f64));
            limit
        })
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

    pub(super) fn pump_count(&self) -> u16 {
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

type Built = Result<Librdkafka, kuroshio_core::engine::EngineError>;

fn exactly_once(transactional_id: Arc<str>) -> kuroshio_librdkafka::Delivery {
    kuroshio_librdkafka::Delivery::ExactlyOnce {
        transactional_id,
        transaction_timeout: TRANSACTION_TIMEOUT,
    }
}

/// Nothing is told before it is known what is to stand still.
async fn forward_catalog(
    mut catalog: watch::Receiver<Arc<[Pairing]>>,
    mut notes: watch::Receiver<Option<Arc<Notes>>>,
    line: PumpLine,
) {
    // Ends with discovery or with the pump, which both end the flow.
    if catalog.changed().await.is_err() || notes.wait_for(Option::is_some).await.is_err() {
        return;
    }
    loop {
        let pairings = noted(&catalog.borrow_and_update(), notes.borrow_and_update().as_deref());
        if line.tell(News::Catalog(pairings)).await.is_err() {
            return;
        }
        let changed = tokio::select! {
            changed = catalog.changed() => changed,
            changed = notes.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
