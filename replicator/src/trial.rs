//! Tries what the target refused by itself before it is read again: in transactions of a producer of its own, which are always
//! aborted. Refused once more inside the pump's transaction it would take all other lanes' records with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::engine::{Engine, EngineError, Fact, LaneSpec};
use kuroshio_core::flow::{Pairing, Quarantine, refusal};
use kuroshio_core::types::{Lane, Position, SourceOffset};
use tokio::sync::mpsc;

use crate::lanes::FlowEnds;
use crate::line::PumpLine;
use crate::pump::News;

/// The longest single wait in the engine.
const SLICE: Duration = Duration::from_millis(100);
/// After this the trial says nothing, and the lane is read again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Many lanes are tried one after the other with the same clients; after this they are given up.
const IDLE: Duration = Duration::from_secs(1);

/// What is to be tried: see [`kuroshio_core::flow::Order::Try`].
#[derive(Debug)]
pub struct TrialErrand {
    /// The lane.
    pub lane: Lane,
    /// What it binds.
    pub pairing: Pairing,
    /// Where it would go on.
    pub start: Position,
    /// The record that was refused.
    pub refused: SourceOffset,
}

/// The trials of one pump.
pub struct Trials<F> {
    /// The flow's ends.
    pub ends: FlowEnds,
    /// The pump's name.
    pub pump: Arc<str>,
    /// Builds an engine with a transactional id of its own.
    pub build: F,
    /// From the pump.
    pub errands: mpsc::Receiver<TrialErrand>,
    /// To the pump.
    pub line: PumpLine,
}

impl<F> Trials<F> {
    /// Runs until the pump has ended; waits in the engine, so it has a thread of its own.
    pub async fn run<E: Engine>(mut self)
    where
        F: FnMut() -> Result<E, EngineError>,
    {
        let mut engine: Option<E> = None;
        loop {
            let errand = match tokio::time::timeout(IDLE, self.errands.recv()).await {
                Ok(Some(errand)) => errand,
                Ok(None) => return,
                Err(_) => {
                    drop(engine.take());
                    let Some(errand) = self.errands.recv().await else {
                        return;
                    };
                    errand
                }
            };
            let lane = errand.lane;
            let source = errand.pairing.source.clone();
            let at = errand.refused;
            // Where nothing could be found out the lane is read again as if it had not been tried.
            let outcome = self.one(&mut engine, errand).unwrap_or_else(|why| {
                engine = None;
                tracing::warn!(flow = %self.ends.flow, pump = %self.pump, error = why, "a refused record could not be tried apart");
                Ok(())
            });
            tracing::info!(
                flow = %self.ends.flow, pump = %self.pump, topic = %source.topic, partition = source.partition, offset = at.0,
                taken = outcome.is_ok(), "a refused record was tried again"
            );
            if self.line.tell(News::Tried(lane, outcome)).await.is_err() {
                return;
            }
        }
    }

    /// Tries one errand with this engine, or another one.
    fn one<E: Engine>(
        &mut self,
        engine: &mut Option<E>,
        errand: TrialErrand,
    ) -> Result<Result<(), Quarantine>, String>
    where
        F: FnMut() -> Result<E, EngineError>,
    {
        let spec = self.ends.spec(errand.lane, &errand.pairing, errand.start);
        let spec = spec.map_err(|fault| fault.to_string())?;
        let engine = match engine {
            Some(engine) => engine,
            None => engine.insert((self.build)().map_err(|fault| fault.to_string())?),
        };
        attempt(engine, spec, errand.refused).map_err(|fault| fault.to_string())
    }
}

/// Writes the lane's records up to the one that was refused, and takes them back. `Err` inside: refused again.
fn attempt<E: Engine>(
    engine: &mut E,
    spec: LaneSpec,
    refused: SourceOffset,
) -> Result<Result<(), Quarantine>, EngineError> {
    let end = Instant::now() + PATIENCE;
    let lane = spec.lane;
    while !engine.open(SLICE, &mut Vec::new())? {
        if Instant::now() >= end {
            return Ok(Ok(()));
        }
    }
    engine.begin()?;
    engine.attach(vec![spec])?;
    let outcome = watch(engine, refused, end)?;
    engine.abort()?;
    engine.detach(&[lane])?;
    Ok(outcome)
}

/// Until a record is refused, or all that was read up to and with `refused` is placed, or the time is over. The refused record's whole
/// batch was refused with it: what made it so may lie behind it, but was read in the same breath.
fn watch<E: Engine>(
    engine: &mut E,
    refused: SourceOffset,
    end: Instant,
) -> Result<Result<(), Quarantine>, EngineError> {
    let mut facts = Vec::new();
    let mut read = false;
    while Instant::now() < end {
        if read {
            engine.settle(SLICE, &mut facts)?;
        } else {
            engine.haul(SLICE, &mut facts)?;
        }
        for fact in facts.drain(..) {
            match fact {
                Fact::Refused { why, .. } => return Ok(Err(refusal(&why))),
                Fact::Read(run) => read |= run.next > refused,
                // Whoever opens the lane finds out what to do.
                Fact::OutOfRange { .. } | Fact::Unreadable { .. } => return Ok(Ok(())),
                Fact::Placed(_) | Fact::Trouble { .. } => {}
            }
        }
        if read && engine.in_flight_bytes() == 0 {
            break;
        }
    }
    Ok(Ok(()))
}
