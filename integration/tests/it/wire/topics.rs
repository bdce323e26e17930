//! Topics and their configurations.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster as Kafka, pair, until};
use kuroshio_wire::{
    Class, Cluster, ConfigChange, ConfigSource, CreatedTopic, Error, KafkaCode, NewTopic, TopicId, Topics,
};

use super::refusal;
use crate::regions::{WAIT, wire};

#[tokio::test]
async fn topics_are_created_grown_and_deleted() -> Result<()> {
    life_of_a_topic(&pair().await?.tw).await
}

#[tokio::test]
async fn configs_are_told_with_their_source() -> Result<()> {
    configs_are_changed(&pair().await?.tw).await
}

pub(super) async fn life_of_a_topic(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let topic: Arc<str> = "wire.topics".into();
    let created = create(&cluster, &topic, -1).await?;
    let refused = create(&cluster, "wire.topics.too-many", 7).await;
    let text = refused
        .as_ref()
        .err()
        .map(ToString::to_string)
        .unwrap_or_default();
    ensure!(
        text.contains("for topic wire.topics.too-many: INVALID_REPLICATION_FACTOR (38): "),
        "{text}"
    );
    ensure!(refusal(create(&cluster, &topic, -1).await) == Some(KafkaCode::TopicAlreadyExists));
    // The controller has made it; brokers hear of it in their own time.
    until(WAIT, "the topic to be told", || {
        is_told(&cluster, kafka, &topic, created.id)
    })
    .await?;

    ensure!(grow(&cluster, &topic, 5).await.is_ok());
    ensure!(refusal(grow(&cluster, &topic, 3).await) == Some(KafkaCode::InvalidPartitions));
    until(WAIT, "five partitions", || async {
        let told = cluster.metadata(Topics::Named(&[Arc::clone(&topic)])).await;
        let count = told.map_err(|error| error.to_string())?.topics[0]
            .partitions
            .len();
        if count == 5 {
            Ok(())
        } else {
            Err(format!("{count} partitions"))
        }
    })
    .await?;

    delete(&cluster, &topic).await?;
    let missing = delete(&cluster, "wire.topics.missing").await;
    ensure!(refusal(missing) == Some(KafkaCode::UnknownTopicOrPartition));
    Ok(())
}

async fn is_told(cluster: &Cluster, kafka: &Kafka, topic: &Arc<str>, id: Option<TopicId>) -> Result<()> {
    let names = [Arc::clone(topic), "wire.topics.missing".into()];
    let metadata = cluster.metadata(Topics::Named(&names)).await?;
    ensure!(
        metadata.cluster_id.as_deref() == Some(kafka.id()),
        "{:?}",
        metadata.cluster_id
    );
    let told = |name: &str| {
        metadata
            .topics
            .iter()
            .find(|told| &*told.name == name)
            .context("not told")
    };
    let found = told(topic)?;
    ensure!(
        found.id == id && id.is_some() && found.partitions.len() == 2 && !found.internal,
        "{found:?}"
    );
    let second = &found.partitions[1];
    ensure!(
        second.leader.is_some() && second.leader_epoch == Some(0) && second.offline == 0,
        "{found:?}"
    );
    let missing = told("wire.topics.missing")?.error.as_ref().and_then(Error::code);
    ensure!(missing == Some(KafkaCode::UnknownTopicOrPartition), "{missing:?}");
    let all = cluster.metadata(Topics::All).await?.topics;
    ensure!(
        all.iter().all(|told| &*told.name != "wire.topics.missing"),
        "asking created a topic"
    );
    Ok(())
}

async fn create(cluster: &Cluster, topic: &str, replication_factor: i16) -> Result<CreatedTopic, Error> {
    let configs = vec![("retention.ms".to_owned(), "123456789".to_owned())];
    let new = NewTopic {
        name: topic.into(),
        partitions: 2,
        replication_factor,
        configs,
    };
    cluster
        .create_topics(&[new])
        .await?
        .remove(topic)
        .expect("each topic has an outcome")
}

async fn grow(cluster: &Cluster, topic: &str, partitions: i32) -> Result<(), Error> {
    let outcomes = cluster.create_partitions(&[(topic.into(), partitions)]).await;
    outcomes?.remove(topic).expect("each topic has an outcome")
}

async fn delete(cluster: &Cluster, topic: &str) -> Result<(), Error> {
    cluster
        .delete_topics(&[topic.into()])
        .await?
        .remove(topic)
        .expect("each topic has an outcome")
}

pub(super) async fn configs_are_changed(kafka: &Kafka) -> Result<()> {
    let cluster = wire(kafka);
    let topic: Arc<str> = "wire.configs".into();
    let names = [Arc::clone(&topic)];
    kafka
        .create_topic(&topic, 1, &[("retention.ms", "123456789")])
        .await?;
    let changes = vec![
        ConfigChange::Unset("retention.ms".to_owned()),
        ConfigChange::Set("max.message.bytes".to_owned(), "2000000".to_owned()),
        ConfigChange::Append("cleanup.policy".to_owned(), "compact".to_owned()),
    ];
    cluster
        .alter_topic_configs(&[(Arc::clone(&topic), changes)])
        .await?
        .remove(&topic)
        .context("no outcome")??;
    let keys = ["retention.ms", "max.message.bytes", "cleanup.policy"];
    until(WAIT, "the changed configurations", || async {
        let told = cluster
            .topic_configs(&names, Some(&keys))
            .await
            .map_err(|error| error.to_string())?;
        let told = told[&topic].as_ref().map_err(ToString::to_string)?;
        let mut values: Vec<_> = told
            .iter()
            .map(|entry| {
                (
                    &*entry.key,
                    entry.value.as_deref().unwrap_or_default(),
                    entry.source,
                )
            })
            .collect();
        values.sort_unstable_by_key(|(key, _, _)| *key);
        let wanted = [
            ("cleanup.policy", "delete,compact", ConfigSource::Topic),
            ("max.message.bytes", "2000000", ConfigSource::Topic),
            ("retention.ms", "604800000", ConfigSource::Default),
        ];
        if values == wanted {
            Ok(())
        } else {
            Err(format!("{values:?}"))
        }
    })
    .await?;
    let bad = [(
        Arc::clone(&topic),
        vec![ConfigChange::Set("no.such.key".to_owned(), "1".to_owned())],
    )];
    let refused = cluster.alter_topic_configs(&bad).await?;
    ensure!(
        refused[&topic]
            .as_ref()
            .is_err_and(|error| error.class() == Class::Fatal),
        "{refused:?}"
    );
    let broker = cluster.metadata(Topics::None).await?.brokers[0].id;
    let configs = cluster
        .broker_configs(broker, Some(&["default.replication.factor"]))
        .await?;
    ensure!(
        configs.len() == 1 && configs[0].value.as_deref() == Some("1"),
        "{configs:?}"
    );
    Ok(())
}
