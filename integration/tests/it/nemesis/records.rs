//! Faults of topics: records that are refused, or deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Part, until};
use kuroshio_wire::{ConfigChange, Stored};

use super::stage::{Deployment, PARTITIONS, Scene, Side};
use super::strike::{Window, held};
use crate::regions::{WAIT, ends, position, wire};

/// More than Kafka needs for a marker, which the limit holds for too: a transaction whose markers are refused never ends. And less than a
/// batch with one tag in it.
const FEW: &str = "100";

/// The topics with the copies of what the other side alone writes take nothing that has more than a few bytes.
pub(super) async fn too_large(scene: &Scene<'_>, side: Side, hold: Duration) -> Result<Window> {
    let topics: Vec<String> = scene
        .deployments
        .iter()
        .map(|deployment| deployment.from(side.other()))
        .collect();
    let limit = "max.message.bytes".to_owned();
    alter(
        scene,
        side,
        &topics,
        &ConfigChange::Set(limit.clone(), FEW.to_owned()),
    )
    .await?;
    let window = held(hold).await;
    alter(scene, side, &topics, &ConfigChange::Unset(limit)).await?;
    Ok(window)
}

/// Changes a config of topics.
pub(super) async fn alter(
    scene: &Scene<'_>,
    side: Side,
    topics: &[String],
    change: &ConfigChange,
) -> Result<()> {
    let kafka = scene.stage.kafka(side);
    let changes: Vec<(Arc<str>, Vec<ConfigChange>)> = topics
        .iter()
        .map(|topic| (topic.as_str().into(), vec![change.clone()]))
        .collect();
    until(WAIT, &format!("{change:?} on {}", kafka.alias()), || async {
        let altered = wire(kafka).alter_topic_configs(&changes).await;
        let altered = altered.map_err(|why| why.to_string())?;
        altered
            .into_values()
            .try_for_each(|outcome| outcome.map_err(|why| why.to_string()))
    })
    .await
}

/// The source deletes up to the positions of the flows that read it.
pub(super) async fn deleted_behind(scene: &Scene<'_>, side: Side, hold: Duration) -> Result<Window> {
    for deployment in &scene.deployments {
        let (topic, group) = group_of(deployment, side);
        let target = scene.stage.kafka(side.other());
        let mut before = Vec::new();
        for partition in 0..PARTITIONS {
            let what = format!("a position of {topic}-{partition}");
            let offset = until(WAIT, &what, || async {
                match position(target, &group, &topic, partition).await {
                    Ok(Stored::Offset(stored)) => Ok(stored.offset),
                    other => Err(format!("{other:?}")),
                }
            });
            before.push((TopicPartition::new(&*topic, partition), offset.await?));
        }
        delete(scene.stage.kafka(side), &before).await?;
    }
    Ok(held(hold).await)
}

/// The source deletes nearly all that was written while the flows could not read it.
pub(super) async fn deleted_ahead(scene: &Scene<'_>, side: Side, hold: Duration) -> Result<Window> {
    let kafka = scene.stage.kafka(side);
    let away = kafka.link()?.stall_part(Part::default());
    let window = held(hold).await;
    for deployment in &scene.deployments {
        let (topic, _) = group_of(deployment, side);
        let mut before = Vec::new();
        for (partition, end) in ends(kafka, &[&topic]).await? {
            before.push((partition, end - 5));
        }
        delete(kafka, &before).await?;
    }
    drop(away);
    Ok((window.0, Instant::now()))
}

/// The topic that is written on this side alone, and the group of its flow.
fn group_of(deployment: &Deployment, side: Side) -> (String, String) {
    let flow = deployment.flow_to(side.other());
    (deployment.from(side), format!("kuroshio.{flow}"))
}

async fn delete(kafka: &Cluster, before: &[(TopicPartition, i64)]) -> Result<()> {
    until(
        WAIT,
        &format!("records before {before:?} to be deleted"),
        || async {
            let starts = wire(kafka).delete_records(before.iter().cloned()).await;
            let asked = before.iter().map(|(partition, _)| starts.get(partition));
            for start in asked {
                start
                    .context("no answer")
                    .map_err(|why| why.to_string())?
                    .as_ref()
                    .map_err(|why| why.to_string())?;
            }
            Ok::<_, String>(())
        },
    )
    .await
}
