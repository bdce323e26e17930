//! Where a flow begins when it first starts, and that this is decided once.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kuroshio_integration::{Cluster, Kuroshio, Pair, RawRecord, append, pair, until};
use rdkafka::message::Message;
use serde_json::json;

use crate::bad_input::says;
use crate::growth::grow;
use crate::regions::{WAIT, one_way, read, until_status, until_stored};

/// The start, and how it is written: another zone, and a part of a second.
const START: i64 = 1_705_276_800_500;
const WRITTEN: &str = "2024-01-15T08:00:00.5+08:00";

/// Writes one batch of records this long after the start; -1 stays -1, which is no time at all.
async fn at(kafka: &Cluster, (topic, partition): (&str, i32), after_ms: &[i64]) -> Result<()> {
    let records: Vec<_> = after_ms
        .iter()
        .map(|after| RawRecord {
            key: Some(b"k".to_vec()),
            value: Some(after.to_string().into_bytes()),
            timestamp: START + after,
            ..RawRecord::default()
        })
        .collect();
    append(kafka, topic, partition, &records).await
}

/// Partition and value of each record, partitions in order.
async fn values(kafka: &Cluster, topic: &str) -> Result<BTreeMap<i32, Vec<i64>>> {
    let mut values: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in read(kafka, topic).await? {
        let value = std::str::from_utf8(record.payload().unwrap_or_default())?.parse()?;
        values.entry(record.partition()).or_default().push(value);
    }
    Ok(values)
}

async fn until_values(
    kafka: &Cluster,
    topic: &str,
    expected: &[(i32, &[i64])],
    process: &Kuroshio,
) -> Result<()> {
    let expected = expected
        .iter()
        .map(|(partition, values)| (*partition, values.to_vec()))
        .collect::<BTreeMap<_, _>>();
    until(WAIT, &format!("{expected:?} in {topic}"), || async {
        match values(kafka, topic).await {
            Ok(there) if there == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| process.log_tail())
}

#[tokio::test]
async fn a_timestamp_is_where_each_partition_begins_and_once() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (topic, later) = ("since.orders", "since.later");
    // These records are older than what is kept by default.
    let kept = [("retention.ms", "-1")];
    tw.create_topic(topic, 6, &kept).await?;
    // In the middle of a batch, with older ones behind the first that is new enough.
    at(tw, (topic, 0), &[-2, -1, 0, 1, -3, 2]).await?;
    // At the beginning of one.
    at(tw, (topic, 1), &[-20, -10]).await?;
    at(tw, (topic, 1), &[10, 20]).await?;
    // Nothing is new enough; everything is; nothing is there.
    at(tw, (topic, 2), &[-2, -1]).await?;
    at(tw, (topic, 3), &[5, 6]).await?;
    // Older ones alone in the newest batch.
    at(tw, (topic, 5), &[-5]).await?;
    at(tw, (topic, 5), &[7]).await?;
    at(tw, (topic, 5), &[-6]).await?;

    let mut config = one_way(pair().await?, "since", &["since[.].*"]);
    config["defaults"]["start"] = json!(WRITTEN);
    // Slots move between them while all is decided.
    config["defaults"]["pumps"] = json!(3);
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    for partition in 0..6 {
        until_stored(jp, "kuroshio.since-tw-jp", topic, partition)
            .await
            .with_context(|| process.log_tail())?;
    }
    let first: [(i32, &[i64]); 4] = [(0, &[0, 1, -3, 2]), (1, &[10, 20]), (3, &[5, 6]), (5, &[7, -6])];
    until_values(jp, topic, &first, &process).await?;

    // What comes from then on is copied, however old it says to be; so is all of what appears later.
    at(tw, (topic, 2), &[-100]).await?;
    at(tw, (topic, 4), &[-200, 200]).await?;
    grow(tw, topic, 7).await?;
    at(tw, (topic, 6), &[-300]).await?;
    tw.create_topic(later, 1, &kept).await?;
    at(tw, (later, 0), &[-1, 1]).await?;
    let second: [(i32, &[i64]); 3] = [(2, &[-100]), (4, &[-200, 200]), (6, &[-300])];
    let all = [&first[..], &second].concat();
    until_values(jp, topic, &all, &process).await?;
    until_values(jp, later, &[(0, &[-1, 1])], &process).await?;

    // A restart goes on; it does not begin again.
    for round in ["stopped", "killed"] {
        if round == "stopped" {
            process.terminate()?;
            process.exited(WAIT).await?;
        } else {
            process.kill()?;
        }
        at(tw, (topic, 2), &[-101]).await?;
        process.restart()?;
        process.ready(WAIT).await?;
        let twos: &[i64] = if round == "stopped" {
            &[-100, -101]
        } else {
            &[-100, -101, -101]
        };
        let all = all
            .iter()
            .map(|(partition, values)| (*partition, if *partition == 2 { twos } else { *values }))
            .collect::<Vec<_>>();
        until_values(jp, topic, &all, &process).await.context(round)?;
    }
    Ok(())
}

/// Whatever lies ahead of a start in the future is behind it: partitions begin at their ends.
#[tokio::test]
async fn a_start_in_the_future_begins_at_the_end() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "ahead.orders";
    let kept = [("retention.ms", "-1")];
    tw.create_topic(topic, 2, &kept).await?;
    at(tw, (topic, 0), &[1, 2]).await?;
    let mut config = one_way(pair().await?, "ahead", &["ahead[.].*"]);
    config["defaults"]["start"] = json!("2999-12-31T23:59:59Z");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    for partition in 0..2 {
        until_stored(jp, "kuroshio.ahead-tw-jp", topic, partition)
            .await
            .with_context(|| process.log_tail())?;
        at(tw, (topic, partition), &[3]).await?;
    }
    until_values(jp, topic, &[(0, &[3]), (1, &[3])], &process).await
}

/// The end is where it was when the flow first looked: that the target's topic was not there yet, because it takes long or was refused,
/// neither brings back what was before nor skips what came since.
#[tokio::test]
async fn the_end_is_that_of_the_first_look() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (topic, there) = ("look.orders", "look.there");
    let kept = [("retention.ms", "-1")];
    for topic in [topic, there] {
        tw.create_topic(topic, 2, &kept).await?;
        at(tw, (topic, 0), &[1, 2]).await?;
    }
    jp.create_topic(there, 2, &kept).await?;
    let mut config = one_way(pair().await?, "look", &["look[.].*"]);
    config["defaults"]["start"] = json!("latest");
    config["defaults"]["pumps"] = json!(3);
    // More replicas than there are brokers.
    config["defaults"]["replication_factor"] = json!(2);
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let refused = |flow: &serde_json::Value| says(flow, "cannot create topic look.orders");
    until_status(&mut process, "look-tw-jp", WAIT, refused).await?;
    until_stored(jp, "kuroshio.look-tw-jp", there, 0).await?;
    at(tw, (topic, 0), &[3]).await?;
    at(tw, (topic, 1), &[4]).await?;
    jp.create_topic(topic, 2, &kept).await?;
    until_values(jp, topic, &[(0, &[3]), (1, &[4])], &process).await?;
    at(tw, (topic, 0), &[5]).await?;
    until_values(jp, topic, &[(0, &[3, 5]), (1, &[4])], &process).await
}
