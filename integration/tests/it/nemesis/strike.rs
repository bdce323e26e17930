//! How faults are made and healed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use kuroshio_integration::{Direction, Held, Kuroshio, Part, Wan};
use tokio::time::sleep;

use super::brokers;
use super::cut;
use super::faults::{Fault, Struck};
use super::records;
use super::stage::Scene;

/// When a fault began, and when it was healed.
pub(super) type Window = (Instant, Instant);

impl Fault {
    /// Breaks, holds, heals; returns when everything is as it was, which may be later.
    pub(super) async fn strike(self, scene: &Scene<'_>, hold: Duration, rng: &mut Rng) -> Result<Struck> {
        let window = match self {
            Self::Killed(instance) => killed(scene, instance, hold).await,
            Self::KilledInBursts => killed_in_bursts(scene, hold, rng).await,
            Self::Frozen(instance) => frozen(scene, instance, hold).await,
            Self::ClockSet(instance, ahead) => clock_set(scene, instance, ahead, hold).await,
            Self::BrokerKilled(side, node) => brokers::killed(scene, side, node, hold).await,
            Self::BrokerFrozen(side, node) => brokers::frozen(scene, side, node, hold).await,
            Self::GroupCoordinatorKilled(side) => {
                brokers::coordinator_killed(scene, side, brokers::Coordinator::Group, hold).await
            }
            Self::TransactionCoordinatorKilled(side) => {
                brokers::coordinator_killed(scene, side, brokers::Coordinator::Transaction, hold).await
            }
            Self::LeadersMoved(side) => brokers::leaders_moved(scene, side, hold).await,
            Self::WritesRefused(side, node) => brokers::refusing(scene, side, node, hold).await,
            Self::TooLarge(side) => records::too_large(scene, side, hold).await,
            Self::DeletedBehind(side) => records::deleted_behind(scene, side, hold).await,
            Self::DeletedAhead(side) => records::deleted_ahead(scene, side, hold).await,
            Self::Cut(side) => cut::cut(scene, side, hold).await,
            Self::Slow(side) => {
                let region = scene.stage.region(side);
                let _held = region.wan.lock().await;
                let slow = Wan {
                    bytes_per_second: Some(128 << 10),
                    ..Wan::delay(Duration::from_millis(150))
                };
                region.kafka.link()?.set(slow);
                let window = held(hold).await;
                region.kafka.link()?.set(Wan::NONE);
                Ok(window)
            }
            Self::BrokerCut(..)
            | Self::ClusterCut(_)
            | Self::BrokerStalled(..)
            | Self::ClusterStalled(_)
            | Self::RequestsLost(..)
            | Self::AnswersLost(..) => {
                let line = self.on_the_line(scene)?;
                let window = held(hold).await;
                drop(line);
                Ok(window)
            }
        };
        let (from, to) = window.with_context(|| format!("{self:?}"))?;
        Ok(Struck {
            fault: self,
            from,
            to,
        })
    }

    /// What holds a link up.
    fn on_the_line(self, scene: &Scene<'_>) -> Result<Option<Held>> {
        let stalled = |side, broker, direction| {
            let link = scene.stage.kafka(side).link()?;
            Ok(Some(link.stall_part(Part { broker, direction })))
        };
        let cut = |side, broker| Ok(Some(scene.stage.kafka(side).link()?.cut_part(broker)));
        match self {
            Self::BrokerCut(side, node) => cut(side, Some(node)),
            Self::ClusterCut(side) => cut(side, None),
            Self::BrokerStalled(side, node) => stalled(side, Some(node), None),
            Self::ClusterStalled(side) => stalled(side, None, None),
            Self::RequestsLost(side, node) => stalled(side, node, Some(Direction::ToBroker)),
            Self::AnswersLost(side, node) => stalled(side, node, Some(Direction::FromBroker)),
            _ => Ok(None),
        }
    }
}

/// The fault itself lasts so long; nothing waits for it.
pub(super) async fn held(hold: Duration) -> Window {
    let from = Instant::now();
    sleep(hold).await;
    (from, Instant::now())
}

/// Does it to this instance of every deployment.
async fn each(scene: &Scene<'_>, instance: usize, act: impl Fn(&mut Kuroshio) -> Result<()>) -> Result<()> {
    for deployment in &scene.deployments {
        act(&mut *deployment.instances[instance].lock().await)?;
    }
    Ok(())
}

async fn killed(scene: &Scene<'_>, instance: usize, hold: Duration) -> Result<Window> {
    let _held = scene.hold(instance).await;
    each(scene, instance, Kuroshio::kill).await?;
    let window = held(hold).await;
    each(scene, instance, Kuroshio::restart).await?;
    Ok(window)
}

async fn killed_in_bursts(scene: &Scene<'_>, hold: Duration, rng: &mut Rng) -> Result<Window> {
    let _held = (scene.hold(0).await, scene.hold(1).await);
    let from = Instant::now();
    while from.elapsed() < hold {
        sleep(Duration::from_millis(rng.u64(20..1_200))).await; // how far it comes is the input
        let instance = rng.usize(..2);
        each(scene, instance, |process| {
            process.kill()?;
            process.restart()
        })
        .await?;
    }
    Ok((from, Instant::now()))
}

async fn frozen(scene: &Scene<'_>, instance: usize, hold: Duration) -> Result<Window> {
    let _held = scene.hold(instance).await;
    each(scene, instance, |process| process.freeze()).await?;
    let window = held(hold).await;
    each(scene, instance, |process| process.thaw()).await?;
    Ok(window)
}

async fn clock_set(scene: &Scene<'_>, instance: usize, ahead: i64, hold: Duration) -> Result<Window> {
    let _held = scene.hold(instance).await;
    scene.clocks[instance].set(ahead * 1_000)?;
    let window = held(hold).await;
    scene.clocks[instance].set(0)?;
    Ok(window)
}
