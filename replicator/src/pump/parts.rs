//! What a pump is made of, what it is told and what it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use kuroshio_core::control::Scope;
use kuroshio_core::engine::EngineError;
use kuroshio_core::flow::{Assigned, FlowSettings, Pairing, Quarantine};
use kuroshio_core::slots::{Claims, Slot};
use kuroshio_core::types::{Lane, Membership, Position, TargetOffset};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::lanes::{LaneDesk, PumpView};
use crate::status::Pulse;
use crate::trial::TrialErrand;

/// What the slow tasks tell a pump.
#[derive(Debug)]
pub enum News {
    /// The partitions that the routes select now.
    Catalog(Arc<[Pairing]>),
    /// See [`kuroshio_core::flow::Flow::resume`].
    Resume(Scope),
    /// See [`kuroshio_core::flow::Flow::rebalancing`].
    Rebalancing,
    /// See [`kuroshio_core::flow::Flow::join_failed`].
    JoinFailed,
    /// See [`kuroshio_core::flow::Flow::joined`].
    Joined,
    /// See [`kuroshio_core::flow::Flow::assigned`].
    Assigned(Assigned),
    /// See [`kuroshio_core::flow::Flow::seat_lost`].
    SeatLost,
    /// Another process uses our `group.instance.id`.
    Fenced(String),
    /// See [`kuroshio_core::flow::Flow::opened`].
    Opened(Lane, Position),
    /// See [`kuroshio_core::flow::Flow::open_failed`].
    OpenFailed(Lane, Quarantine),
    /// See [`kuroshio_core::flow::Flow::open_stale`].
    OpenStale(Lane),
    /// See [`kuroshio_core::flow::Flow::tried`].
    Tried(Lane, Result<(), Quarantine>),
    /// See [`kuroshio_core::flow::Flow::target_cut`].
    TargetCut(Lane, TargetOffset),
    /// See [`kuroshio_core::flow::Flow::stored`].
    Stored(Vec<(Lane, Position)>),
    /// Something that must not go on, in words.
    Halt(String),
    /// Finish what is open and end.
    Stop,
}

/// Lanes to open, see [`kuroshio_core::flow::Order::Open`].
#[derive(Debug)]
pub struct OpenErrand {
    /// The lanes.
    pub lanes: Vec<(Lane, Pairing)>,
    /// Of these, those that go on whatever was lost.
    pub resumed: BTreeSet<Lane>,
    /// Of these, those whose target log was cut, and where.
    pub cuts: BTreeMap<Lane, TargetOffset>,
    /// Who opens them.
    pub membership: Membership,
}
/// Positions to commit outside a transaction, and who commits them.
pub type StoreErrand = (Membership, Vec<(Lane, Pairing, Position)>);

/// Why a pump ended unasked.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// Another process has our name.
    #[error(
        "pump {pump}: fenced: {why}; another process uses this instance: give every process its own `instance`, or let this one stay down"
    )]
    Fenced {
        /// The pump's instance name.
        pump: Arc<str>,
        /// The broker's words.
        why: String,
    },
    /// Something that cannot be true was said, or cannot be mended by trying again.
    #[error("pump {pump}: {why}")]
    Halted {
        /// The pump's instance name.
        pump: Arc<str>,
        /// What.
        why: String,
    },
}

/// Bytes per second that a pump with these slots may forward; `None`: there is no limit.
pub type Limit = Box<dyn FnMut(&BTreeSet<Slot>) -> Option<NonZeroU64> + Send>;

/// What a pump is made of.
pub struct PumpParts<F> {
    /// `kuroshio.<flow>.<instance>.<pump>`.
    pub name: Arc<str>,
    /// The flow's rules.
    pub settings: FlowSettings,
    /// Asked again and again.
    pub limit: Limit,
    /// Builds an engine, which is not open yet.
    pub build: F,
    /// What the slow tasks say.
    pub news: mpsc::Receiver<News>,
    /// What they are asked.
    pub errands: Errands,
    /// Names, guards and metric handles of lanes.
    pub desk: LaneDesk,
    /// Where the view for status and metrics is put.
    pub view: watch::Sender<PumpView>,
    /// Our sign of life.
    pub pulse: Pulse,
    /// The start of time.
    pub started: Instant,
    /// Cancelled when the process ends: an engine that is not open is waited for no longer.
    pub stop: CancellationToken,
}

impl<F> PumpParts<F> {
    /// The end of this pump, for something that trying again does not mend.
    pub(super) fn halted(&self, why: String) -> PumpError {
        PumpError::Halted {
            pump: Arc::clone(&self.name),
            why,
        }
    }

    /// Sends an errand. None is asked for before the one before it was answered, or while there is no room.
    pub(super) fn ask<T>(&self, whom: &str, line: &mpsc::Sender<T>, errand: T) -> Result<(), PumpError> {
        line.try_send(errand)
            .map_err(|refused| self.halted(format!("its {whom} takes no errand: {refused}")))
    }

    /// Another engine.
    pub(super) fn engine<E>(&mut self) -> Result<E, PumpError>
    where
        F: FnMut() -> Result<E, EngineError>,
    {
        (self.build)().map_err(|fault| self.halted(fault.to_string()))
    }
}

/// Bounded ways to the slow tasks; each has room for one errand beside the one that is being done.
#[derive(Clone)]
pub struct Errands {
    /// To the member.
    pub member: mpsc::Sender<Option<Claims>>,
    /// To the clerk, which opens lanes.
    pub clerk: mpsc::Sender<OpenErrand>,
    /// To whoever tries refused records apart.
    pub trials: mpsc::Sender<TrialErrand>,
    /// To the storer.
    pub storer: mpsc::Sender<StoreErrand>,
}
