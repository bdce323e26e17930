//! The wire client against real brokers: every call once, and the answers that Kuroshio's rules rest on.

mod brokers;
mod logs;
mod members;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use kuroshio_integration::{Cluster as Kafka, Spec};
use kuroshio_wire::{Cluster, Error, GroupOffset, Joined, KafkaCode};

fn at(offset: i64, metadata: &str) -> GroupOffset {
    GroupOffset {
        offset,
        leader_epoch: Some(0),
        metadata: metadata.into(),
    }
}

async fn sync(cluster: &Cluster, joined: &Joined) -> Result<Bytes> {
    let mut assignments = Vec::new();
    if joined.leader && !joined.skip_assignment {
        for member in &joined.members {
            let instance = member.instance.as_deref().unwrap_or_default();
            anyhow::ensure!(member.metadata == instance.as_bytes(), "{member:?}");
            assignments.push((Arc::clone(&member.member), Bytes::from(format!("for {instance}"))));
        }
    }
    Ok(cluster
        .sync_group(joined, &assignments, Duration::from_secs(10))
        .await?)
}

/// The code with which a call was refused.
fn refusal<T>(outcome: Result<T, Error>) -> Option<KafkaCode> {
    outcome.err().and_then(|error| error.code())
}

/// An older broker: other versions of nearly every request.
#[tokio::test]
async fn speaks_with_kafka_3_9() -> Result<()> {
    let kafka = Kafka::start(Spec::new("old").version("3.9.1")).await?;
    topics::life_of_a_topic(&kafka).await?;
    topics::configs_are_changed(&kafka).await?;
    logs::offsets_are_found(&kafka).await?;
    logs::records_are_read(&kafka).await?;
    logs::orphans_are_released(&kafka).await?;
    members::static_members(&kafka).await?;
    members::commits_are_fenced(&kafka).await
}
