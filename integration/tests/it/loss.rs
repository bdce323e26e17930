//! What endangers data is seen, counted and handled: topics that were deleted and made anew, logs that were cut.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Spec, pair, until};
use kuroshio_wire::{NewTopic, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, OwnedHeaders, OwnedMessage};
use serde_json::json;

use crate::regions::{WAIT, clusters, one_way, position, until_there, wire, write};

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
async fn replicas(kafka: &Cluster, topic: &str) -> Result<Vec<usize>> {
    let (consumer, topic): (BaseConsumer, _) = (kafka.client().create()?, topic.to_owned());
    let found = tokio::task::spawn_blocking(move || consumer.fetch_metadata(Some(&topic), WAIT)).await??;
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

/// A topic of one partition on two brokers, either of which may lead it whatever it has.
async fn create_unclean(kafka: &Cluster, topic: &str) -> Result<()> {
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
    for (_, outcome) in wire(kafka).create_topics(&[new]).await? {
        outcome?;
    }
    Ok(())
}

/// The leader dies, and a broker that does not have its last records leads.
async fn cut_off(kafka: &Cluster, topic: &str, leader: usize, follower: usize) -> Result<()> {
    kafka.kill(leader).await?;
    kafka.restart(follower).await?;
    until_led(kafka, topic, follower).await
}

/// Waits until a broker leads partition 0.
pub(crate) async fn until_led(kafka: &Cluster, topic: &str, leader: usize) -> Result<()> {
    until(WAIT * 2, "the other replica to lead", || async {
        match replicas(kafka, topic).await {
            Ok(replicas) if replicas[0] == leader => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_log_that_was_cut_and_grew_again_loses_nothing_new() -> Result<()> {
    let (pair, cut) = tokio::try_join!(pair(), Cluster::start(Spec::new("cut").nodes(3)))?;
    let topic = "cut.orders";
    create_unclean(&cut, topic).await?;
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
    cut_off(&cut, topic, leader, follower).await?;
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

/// The copy of the position on the source is renewed every few seconds.
pub(crate) async fn until_copied_to_source(
    kafka: &Cluster,
    flow: &str,
    topic: &str,
    offset: i64,
) -> Result<()> {
    let group = format!("kuroshio.{flow}");
    until(WAIT, "the copy of the position on the source", || async {
        match position(kafka, &group, topic, 0).await {
            Ok(Stored::Offset(stored)) if stored.offset == offset => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// What a target had acknowledged and lost is copied again, in its place, whether records come or not, and whether anybody ran meanwhile.
#[tokio::test]
async fn a_target_log_that_was_cut_is_filled_again() -> Result<()> {
    let (pair, cut) = tokio::try_join!(pair(), Cluster::start(Spec::new("short").nodes(3)))?;
    for (name, delivery, runs, records_come) in [
        ("idle", "exactly_once", true, false),
        ("busy", "exactly_once", true, true),
        ("stopped", "at_least_once", false, true),
    ] {
        let topic = format!("short.{name}");
        let topic = topic.as_str();
        pair.tw.create_topic(topic, 1, &[]).await?;
        create_unclean(&cut, topic).await?;
        let mut process = Kuroshio::run(json!({
            "clusters": clusters(&[&pair.tw, &cut]),
            "flows": [{ "name": name, "source": "tw", "target": "short" }],
            "defaults": {
                "topics": { "include": [format!("short[.]{name}")], "refresh": "200ms" },
                "configs": { "sync": false },
                "delivery": delivery,
            },
            "log": { "format": "text" },
        }))?;
        process.ready(WAIT).await?;
        let mut expected = write_all(&pair.tw, topic, "both", 5).await?;
        holds(&cut, topic, &expected, &process).await?;
        let [leader, follower] = replicas(&cut, topic).await?[..] else {
            anyhow::bail!("not two replicas");
        };
        cut.kill(follower).await?;
        expected.extend(write_all(&pair.tw, topic, "alone", 4).await?);
        holds(&cut, topic, &expected, &process).await?;
        until_copied_to_source(&pair.tw, name, topic, 9).await?;
        if !runs {
            process.terminate()?;
            process.exited(WAIT).await?;
        }
        cut_off(&cut, topic, leader, follower).await?;
        if !runs {
            process.restart()?;
        }
        if records_come {
            expected.extend(write_all(&pair.tw, topic, "anew", 12).await?);
        }
        holds(&cut, topic, &expected, &process).await?;
        cut.restart(leader).await?;
        expected.extend(write_all(&pair.tw, topic, "after", 3).await?);
        holds(&cut, topic, &expected, &process).await?;
        let told = process.status().await?["flows"][0]["errors"].to_string();
        ensure!(told.contains("was cut at offset"), "{name}: {told}");
        let lost = process.metric("kuroshio_lost_records_total", &[]).await?;
        ensure!(lost.is_none(), "{name}: {lost:?}\n{}", process.log_tail());
        process.terminate()?;
        process.exited(WAIT).await?;
    }
    Ok(())
}
