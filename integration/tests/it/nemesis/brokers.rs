//! Faults of brokers. At most one of a cluster is down at a time, so what was acknowledged survives.

use std::time::{Duration, Instant};

use anyhow::Result;
use kuroshio_integration::{Cluster, until};
use kuroshio_wire::ConfigChange;
use tokio::time::sleep;

use super::records::alter;
use super::stage::{Deployment, Scene, Side};
use super::strike::{Window, held};
use crate::regions::{WAIT, wire};

/// Whose coordinator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coordinator {
    Group,
    Transaction,
}

pub(super) async fn killed(scene: &Scene<'_>, side: Side, node: usize, hold: Duration) -> Result<Window> {
    let region = scene.stage.region(side);
    let _held = region.brokers.lock().await;
    let window = down(&region.kafka, node, hold).await?;
    region.whole().await?;
    Ok(window)
}

async fn down(kafka: &Cluster, node: usize, hold: Duration) -> Result<Window> {
    kafka.kill(node).await?;
    let window = held(hold).await;
    kafka.restart(node).await?;
    Ok(window)
}

pub(super) async fn frozen(scene: &Scene<'_>, side: Side, node: usize, hold: Duration) -> Result<Window> {
    let region = scene.stage.region(side);
    let _held = region.brokers.lock().await;
    region.kafka.pause(node).await?;
    let window = held(hold).await;
    region.kafka.unpause(node).await?;
    region.whole().await?;
    Ok(window)
}

/// Kills the broker that coordinates the exactly-once flow to this side, with a transaction open.
pub(super) async fn coordinator_killed(
    scene: &Scene<'_>,
    side: Side,
    whose: Coordinator,
    hold: Duration,
) -> Result<Window> {
    let region = scene.stage.region(side);
    let _held = region.brokers.lock().await;
    let flow = scene.deployments[0].flow_to(side);
    let instance = scene.deployments[0].instance(0);
    let transaction = format!("kuroshio.{flow}.{instance}.0");
    let node = match whose {
        Coordinator::Group => {
            leader_of(&region.kafka, "__consumer_offsets", &format!("kuroshio.{flow}")).await?
        }
        Coordinator::Transaction => leader_of(&region.kafka, "__transaction_state", &transaction).await?,
    };
    let cluster = wire(&region.kafka);
    let open = until(Duration::from_secs(10), "an open transaction", || async {
        match cluster.describe_transaction(&transaction).await {
            Ok(described) if &*described.state == "Ongoing" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    if let Err(why) = open.await {
        // Under other faults there may be none.
        println!("the coordinator of {flow} is killed all the same: {why:#}");
    }
    let window = down(&region.kafka, node, hold).await?;
    region.whole().await?;
    Ok(window)
}

/// Who leads the partition of one of Kafka's own topics that a name belongs to.
async fn leader_of(kafka: &Cluster, topic: &str, name: &str) -> Result<usize> {
    let what = format!("a coordinator of {name}");
    until(WAIT, &what, || async {
        let all = kafka.led().await.map_err(|why| format!("{why:#}"))?;
        let of: Vec<_> = all.iter().filter(|led| led.topic == topic).collect();
        let count = i32::try_from(of.len()).unwrap_or(0).max(1);
        let partition = (java_hash(name) & i32::MAX) % count;
        let led = of.into_iter().find(|led| led.partition == partition);
        match led.map(|led| usize::try_from(led.leader)) {
            Some(Ok(node)) => Ok(node),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// `String.hashCode` of a name of ASCII, by which Kafka finds coordinators.
fn java_hash(name: &str) -> i32 {
    name.bytes().fold(0_i32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte))
    })
}

pub(super) async fn leaders_moved(scene: &Scene<'_>, side: Side, hold: Duration) -> Result<Window> {
    const PAUSE: Duration = Duration::from_secs(2);
    let region = scene.stage.region(side);
    // A leader that is moved to a broker which is down does not move.
    let _held = region.brokers.lock().await;
    let from = Instant::now();
    while from.elapsed() < hold {
        region.kafka.move_leaders().await?;
        sleep(PAUSE).await; // between two moves of one fault
    }
    Ok((from, Instant::now()))
}

/// Three replicas must be in sync, and one broker is down: every write is refused as long, as on a cluster without space.
pub(super) async fn refusing(scene: &Scene<'_>, side: Side, node: usize, hold: Duration) -> Result<Window> {
    let region = scene.stage.region(side);
    let _held = region.brokers.lock().await;
    let key = "min.insync.replicas".to_owned();
    let topics: Vec<String> = scene.deployments.iter().flat_map(Deployment::topics).collect();
    alter(
        scene,
        side,
        &topics,
        &ConfigChange::Set(key.clone(), "3".to_owned()),
    )
    .await?;
    region.kafka.kill(node).await?;
    let window = held(hold).await;
    alter(scene, side, &topics, &ConfigChange::Unset(key)).await?;
    region.kafka.restart(node).await?;
    region.whole().await?;
    Ok(window)
}

#[test]
fn names_are_hashed_as_java_hashes_them() {
    assert_eq!(
        [java_hash(""), java_hash("a"), java_hash("kuroshio")],
        [0, 97, 1_630_623_714]
    );
}
