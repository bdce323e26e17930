//! What endangers data is seen, counted and handled: topics that were deleted and made anew, logs that were cut.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Spec, pair, until};
use kuroshio_wire::NewTopic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, OwnedHeaders, OwnedMessage};
use serde_json::json;

use crate::regions::{WAIT, clusters, one_way, until_there, wire, write};

pub(crate) fn value(record: &OwnedMessage) -> String {
    String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()
}

/// Writes `word-0`, `word-1` and so on, one after the other.
pub(crate) async fn write_all(kafka: &Cluster, topic: &str, word: &str, count: usize) -> Result<Vec<String>> {
    let values: Vec<String> = (0..count).map(|number| format!("{word}-{number}")).collect();
    for value in &values {
        write(
            kafka,
            (topic, 0),
            (b"k", Some(value.as_bytes())),
            OwnedHeaders::new(),
        )
        .await?;
    }
    Ok(values)
}

/// All of these lie there, in this order, and nothing else.
pub(crate) async fn holds(
    kafka: &Cluster,
    topic: &str,
    expected: &[String],
    process: &Kuroshio,
) -> Result<()> {
    let there = until_there(kafka, topic, expected.len())
        .await
        .with_context(|| process.log_tail())?;
    let there: Vec<String> = there.iter().map(value).collect();
    ensure!(there == expected, "{there:?}\n{}", process.log_tail());
    Ok(())
}

#[tokio::test]
async fn a_topic_made_anew_is_copied_from_its_first_record() -> Result<()> {
    let pair = pair().await?;
    let topic = "anew.orders";
    pair.tw.create_topic(topic, 1, &[]).await?;
    let mut config = one_way(pair, "anew", &["anew[.].*"]);
    // Nobody finds out by chance.
    config["defaults"]["topics"]["refresh"] = json!("1h");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let mut expected = write_all(&pair.tw, topic, "old", 5).await?;
    holds(&pair.jp, topic, &expected, &process).await?;
    for round in ["second", "third"] {
        // The new log is longer than the old one when it is first seen: at the old offset there is a record.
        process.freeze()?;
        pair.tw.delete_topic(topic).await?;
        pair.tw.create_topic(topic, 1, &[]).await?;
        expected.extend(write_all(&pair.tw, topic, round, 9).await?);
        process.thaw()?;
        holds(&pair.jp, topic, &expected, &process).await?;
        expected.extend(write_all(&pair.tw, topic, "later", 3).await?);
        holds(&pair.jp, topic, &expected, &process).await?;
    }
    let told = process.status().await?["flows"][0]["errors"].to_string();
    ensure!(told.contains("recreated"), "{told}");
    Ok(())
}

/// Brokers of a topic's partition 0, its leader first.
async fn replicas(kafka: &Cluster, topic: &'static str) -> Result<Vec<usize>> {
    let consumer: BaseConsumer = kafka.client().create()?;
    let found = tokio::task::spawn_blocking(move || consumer.fetch_metadata(Some(topic), WAIT)).await??;
    let partition = found
        .topics()
        .first()
        .and_then(|topic| topic.partitions().first());
    let partition = partition.context("no partition")?;
    let others = partition
        .replicas()
        .iter()
        .filter(|node| **node != partition.leader());
    let all = std::iter::once(&partition.leader())
        .chain(others)
        .copied()
        .collect::<Vec<_>>();
    all.into_iter().map(|node| Ok(usize::try_from(node)?)).collect()
}

#[tokio::test]
async fn a_log_that_was_cut_and_grew_again_loses_nothing_new() -> Result<()> {
    let (pair, cut) = tokio::try_join!(pair(), Cluster::start(Spec::new("cut").nodes(3)))?;
    let topic = "cut.orders";
    let unclean = [
        ("unclean.leader.election.enable", "true"),
        ("min.insync.replicas", "1"),
    ];
    let new = NewTopic {
        name: topic.into(),
        partitions: 1,
        replication_factor: 2,
        configs: unclean
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    for (_, outcome) in wire(&cut).create_topics(&[new]).await? {
        outcome?;
    }
    let mut process = Kuroshio::run(json!({
        "clusters": clusters(&[&cut, &pair.jp]),
        "flows": [{ "name": "cut", "source": "cut", "target": "jp" }],
        "defaults": { "topics": { "include": ["cut[.].*"], "refresh": "200ms" } },
        "log": { "format": "text" },
    }))?;
    process.ready(WAIT).await?;
    let mut expected = write_all(&cut, topic, "both", 5).await?;
    holds(&pair.jp, topic, &expected, &process).await?;
    let [leader, follower] = replicas(&cut, topic).await?[..] else {
        anyhow::bail!("not two replicas");
    };
    // What only the leader has is copied, and then lost with it.
    cut.kill(follower).await?;
    expected.extend(write_all(&cut, topic, "alone", 4).await?);
    holds(&pair.jp, topic, &expected, &process).await?;
    process.freeze()?;
    cut.kill(leader).await?;
    cut.restart(follower).await?;
    let new_leader = until(WAIT * 2, "the other replica to lead", || async {
        match replicas(&cut, topic).await {
            Ok(replicas) if replicas[0] == follower => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    new_leader.await?;
    // The log is longer than ever when it is looked at again.
    expected.extend(write_all(&cut, topic, "anew", 12).await?);
    process.thaw()?;
    holds(&pair.jp, topic, &expected, &process).await?;
    let lost = process
        .metric("kuroshio_lost_records_total", &[("reason", "truncation")])
        .await?;
    ensure!(lost == Some(4.0), "{lost:?}\n{}", process.log_tail());
    tokio::time::timeout(Duration::from_secs(30), cut.restart(leader)).await??;
    expected.extend(write_all(&cut, topic, "after", 3).await?);
    holds(&pair.jp, topic, &expected, &process).await
}
