//! Partitions: targets grow, nothing shrinks, and what is not copied is told.

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, pair, until};
use rdkafka::message::{Message, OwnedHeaders};
use serde_json::json;

use crate::bad_input::says;
use crate::regions::{
    WAIT, assert_exact, both_ways, one_way, read, stay_silent, until_status, until_there, wire, write,
};

const fn load(records: u64, partitions: i32) -> Load {
    Load {
        records,
        partitions,
        rate: None,
    }
}

/// Waits until all these partitions have a leader.
pub(crate) async fn until_wide(kafka: &Cluster, topic: &str, partitions: usize) -> Result<()> {
    let what = format!("{partitions} partitions of {topic} on {}", kafka.alias());
    until(WAIT, &what, || async {
        match kafka.topics().await {
            Ok(topics) if topics.get(topic) == Some(&partitions) => Ok(()),
            other => Err(format!("{:?}", other.map(|topics| topics.get(topic).copied()))),
        }
    })
    .await
}

/// Gives a topic so many partitions.
pub(crate) async fn grow(kafka: &Cluster, topic: &str, partitions: i32) -> Result<()> {
    for (_, outcome) in wire(kafka)
        .create_partitions(&[(topic.into(), partitions)])
        .await?
    {
        outcome?;
    }
    until_wide(kafka, topic, usize::try_from(partitions)?).await
}

/// Until the flow's topic is complete on jp.
async fn arrived(ledger: &Ledger, topic: &str, process: &Kuroshio) -> Result<()> {
    let report = ledger
        .compare(&pair().await?.jp, topic, &[("tw", topic)], WAIT)
        .await?;
    ensure!(report.is_exact(), "{topic}: {report}\n{}", process.log_tail());
    Ok(())
}

/// MM2: `testRefreshTopicPartitionsTopicOnTargetFirst`, `testCreatePartitionsUseProvidedForwardingAdmin`.
#[tokio::test]
async fn a_target_made_beforehand_grows_and_never_shrinks() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let ledger = Ledger::new(110);
    let (few, many) = ("grows.few", "grows.many");
    for (topic, here, there) in [(few, 6, 2), (many, 2, 6)] {
        tw.create_topic(topic, here, &[]).await?;
        jp.create_topic(topic, there, &[]).await?;
        ledger.produce(tw, topic, load(600, here)).await?;
    }
    let mut process = Kuroshio::run(one_way(pair().await?, "grows", &["grows[.].*"]))?;
    process.ready(WAIT).await?;
    until_wide(jp, few, 6).await.with_context(|| process.log_tail())?;
    for topic in [few, many] {
        arrived(&ledger, topic, &process).await?;
    }
    // Up to what the target has, and beyond.
    for (partitions, there) in [(5, 6), (8, 8)] {
        grow(tw, many, partitions).await?;
        ledger.produce(tw, many, load(600, partitions)).await?;
        arrived(&ledger, many, &process).await?;
        until_wide(jp, many, there)
            .await
            .with_context(|| process.log_tail())?;
    }
    Ok(())
}

#[tokio::test]
async fn partitions_that_have_no_place_on_the_target_are_told() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (topic, flow) = ("narrow.orders", "narrow-tw-jp");
    tw.create_topic(topic, 4, &[]).await?;
    jp.create_topic(topic, 2, &[]).await?;
    let record = async |partition: i32, value: &str| {
        write(
            tw,
            (topic, partition),
            (b"k", Some(value.as_bytes())),
            OwnedHeaders::new(),
        )
        .await
    };
    for partition in 0..4 {
        record(partition, &format!("first of {partition}")).await?;
    }
    let mut config = one_way(pair().await?, "narrow", &["narrow[.].*"]);
    config["defaults"]["partitions"] = json!("none");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let told = |count: i32| {
        format!("topic {topic} has {count} partitions on cluster tw and 2, as {topic}, on cluster jp")
    };
    until_status(&mut process, flow, WAIT, |flow| says(flow, &told(4))).await?;
    until_there(jp, topic, 2)
        .await
        .with_context(|| process.log_tail())?;
    grow(tw, topic, 5).await?;
    until_status(&mut process, flow, WAIT, |flow| says(flow, &told(5))).await?;
    ensure!(jp.topics().await?.get(topic) == Some(&2));
    // Somebody makes room: all of it is copied, from its first record on.
    grow(jp, topic, 5).await?;
    record(4, "first of 4").await?;
    until_there(jp, topic, 5)
        .await
        .with_context(|| process.log_tail())?;
    let mut there: Vec<_> = read(jp, topic)
        .await?
        .iter()
        .map(|copy| {
            (
                copy.partition(),
                String::from_utf8_lossy(copy.payload().unwrap_or_default()).into_owned(),
            )
        })
        .collect();
    there.sort();
    let expected: Vec<_> = (0..5)
        .map(|partition| (partition, format!("first of {partition}")))
        .collect();
    ensure!(there == expected, "{there:?}");

    // What is made is made whole.
    tw.create_topic("narrow.new", 3, &[]).await?;
    until_wide(jp, "narrow.new", 3)
        .await
        .with_context(|| process.log_tail())
}

#[tokio::test]
async fn both_sides_grow() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (ledger, topic) = (Ledger::new(111), "grow.both");
    let born = async |partitions: i32| {
        tokio::try_join!(
            ledger.produce(tw, topic, load(600, partitions)),
            ledger.produce(jp, topic, load(600, partitions))
        )
    };
    tokio::try_join!(tw.create_topic(topic, 2, &[]), jp.create_topic(topic, 2, &[]))?;
    born(2).await?;
    let mut process = Kuroshio::run(both_ways(pair().await?, "grow-both", &["grow[.]both"]))?;
    process.ready(WAIT).await?;
    for (here, there) in [(4, 5), (7, 6)] {
        // One of the two may find that the other was faster.
        for (kafka, partitions) in [(tw, here), (jp, there)] {
            let grown = [(topic.into(), partitions)];
            wire(kafka).create_partitions(&grown).await?;
        }
        let widest = usize::try_from(here.max(there))?;
        for kafka in [tw, jp] {
            until_wide(kafka, topic, widest)
                .await
                .with_context(|| process.log_tail())?;
        }
        born(here.max(there)).await?;
        assert_exact(pair().await?, &ledger, topic, WAIT)
            .await
            .with_context(|| process.log_tail())?;
    }
    stay_silent(&[tw, jp], &[topic], std::time::Duration::from_secs(2)).await
}
