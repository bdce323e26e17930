//! Brokers that die, and the one that is not real.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster as Kafka, Spec, until};
use kuroshio_wire::{
    Cluster, ClusterSettings, Committer, GroupOffset, Isolation, KafkaCode, NewTopic, OffsetAt, Read, Stored,
    Topics,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{at, refusal, sync};
use crate::regions::{WAIT, join, stored, wire};

/// A broker dies: leaders, coordinators and perhaps the controller move, and calls follow them.
#[tokio::test]
async fn the_death_of_a_broker_is_survived() -> Result<()> {
    const GROUPS: usize = 8;
    let kafka = Kafka::start(Spec::new("three").nodes(3)).await?;
    let cluster = wire(&kafka).within(Duration::from_secs(60));
    let topic = "wire.three";
    kafka.create_topic(topic, 6, &[]).await?;
    let partitions: Vec<_> = (0..6).map(|number| TopicPartition::new(topic, number)).collect();
    // Each of the three hears of the topic in its own time; a call says at once what the broker asked knows.
    until(WAIT, "all brokers to know the topic", || async {
        let wanted = partitions
            .iter()
            .map(|partition| (partition.clone(), OffsetAt::Latest));
        let listed = cluster.list_offsets(wanted, Isolation::ReadCommitted).await;
        match listed.into_values().find_map(Result::err) {
            None => Ok(()),
            Some(error) => Err(error.to_string()),
        }
    })
    .await?;
    for (alive, offset) in [(3, 10), (2, 20)] {
        let wanted = partitions
            .iter()
            .map(|partition| (partition.clone(), OffsetAt::Latest));
        for (partition, outcome) in cluster.list_offsets(wanted, Isolation::ReadCommitted).await {
            ensure!(
                outcome?.is_some_and(|end| end.offset == 0),
                "{partition} with {alive} brokers"
            );
        }
        // So many groups have coordinators on every broker.
        for group in 0..GROUPS {
            let group = format!("kuroshio.wire-three-{group}");
            let offsets = partitions
                .iter()
                .map(|partition| (partition.clone(), at(offset, "")));
            let offsets: Vec<_> = offsets.collect();
            let committed = cluster
                .commit_offsets(&group, Committer::Observer, &offsets)
                .await?;
            ensure!(committed.values().all(Result::is_ok), "{committed:?}");
            ensure!(stored(&cluster, &group, &partitions[0]).await? == Stored::Offset(at(offset, "")));
        }
        let name = format!("wire.three.{alive}");
        let new = NewTopic {
            name: name.as_str().into(),
            partitions: 1,
            replication_factor: 1,
            configs: vec![],
        };
        let mut created = cluster.create_topics(&[new]).await?;
        let outcome = created.remove(name.as_str()).context("no outcome")?;
        // The broker that died may have been the one to answer: then the second attempt finds it done.
        let told = format!("{outcome:?}");
        ensure!(
            matches!(refusal(outcome), None | Some(KafkaCode::TopicAlreadyExists)),
            "{told}"
        );
        if alive == 3 {
            kafka.kill(1).await?;
        }
    }
    let groups = cluster.list_groups().await?;
    ensure!(
        groups
            .iter()
            .filter(|listed| listed.group.starts_with("kuroshio.wire-three"))
            .count()
            == GROUPS
    );
    Ok(())
}

/// The embedded broker of `demo`: what the demo needs of it works, with the older versions that it speaks.
#[tokio::test]
async fn the_embedded_broker_will_do() -> Result<()> {
    let mock = rdkafka::mocking::MockCluster::new(1)?;
    mock.create_topic("wire.mock", 2, 1)?;
    let mut settings = ClusterSettings::new("mock", vec![mock.bootstrap_servers()]);
    settings.embedded = true;
    let cluster = Cluster::new(settings);
    let topics = cluster.metadata(Topics::All).await?.topics;
    ensure!(
        topics.len() == 1 && topics[0].partitions.len() == 2 && topics[0].error.is_none(),
        "{topics:?}"
    );

    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .create()?;
    let record = BaseRecord::to("wire.mock")
        .partition(0)
        .key(b"k")
        .payload(b"value");
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(WAIT)?;
    let partition = TopicPartition::new("wire.mock", 0);
    let end = cluster
        .list_offset(&partition, OffsetAt::Latest, Isolation::ReadCommitted)
        .await?;
    ensure!(end.is_some_and(|end| end.offset == 1), "{end:?}");
    let read = Read {
        offset: 0,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadCommitted,
        max_wait: Duration::from_millis(100),
    };
    let batch = cluster
        .read(&partition, read)
        .await?
        .batches(1 << 20)
        .next()
        .context("no batch")??;
    let record = batch.records().next().context("no record")??;
    ensure!(
        record.key.as_deref() == Some(b"k") && record.value.as_deref() == Some(b"value"),
        "{record:?}"
    );

    let joined = cluster.join_group(&join("kuroshio.mock", "a", None)).await?;
    ensure!(joined.leader, "{joined:?}");
    ensure!(sync(&cluster, &joined).await? == "for a");
    cluster.heartbeat(&joined.membership).await?;
    let offset = GroupOffset {
        leader_epoch: None,
        ..at(1, "note")
    };
    let committer = Committer::Member(&joined.membership);
    let mut outcomes = cluster
        .commit_offsets("kuroshio.mock", committer, &[(partition.clone(), offset)])
        .await?;
    outcomes.remove(&partition).context("no outcome")??;
    let Stored::Offset(found) = stored(&cluster, "kuroshio.mock", &partition).await? else {
        bail!("nothing stored")
    };
    ensure!(found.offset == 1 && &*found.metadata == "note", "{found:?}");
    cluster.leave_group(&joined.membership).await?;
    Ok(())
}
