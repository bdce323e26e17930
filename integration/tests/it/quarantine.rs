//! A partition whose records the target refuses stops alone, is tried apart, and goes on by itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_core::engine::Codec;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, pair, until};
use kuroshio_wire::{ConfigChange, Isolation, OffsetAt, Read};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::regions::{WAIT, on_all, one_way, until_status, until_there, wire, write};

/// Random bytes, so that it does not become small by compression.
fn large(size: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect()
}

/// Reason and text of each quarantined lane of a flow, by topic.
fn quarantined(flow: &Value) -> Vec<(String, String)> {
    let lanes = flow["lanes"].as_array().into_iter().flatten();
    let told = lanes.filter_map(|lane| {
        let why = lane["quarantined"].as_str()?;
        Some((lane["topic"].as_str()?.to_owned(), why.to_owned()))
    });
    told.collect()
}

/// The largest lag of a topic's partitions.
fn lag(flow: &Value, topic: &str) -> f64 {
    let lanes = flow["lanes"].as_array().into_iter().flatten();
    let of = lanes.filter(|lane| lane["topic"] == topic);
    of.filter_map(|lane| lane["lag_seconds"].as_f64())
        .fold(0.0, f64::max)
}

/// Waits for so many trials, and gives the largest lag that the topic's partitions had meanwhile.
async fn until_tried(process: &mut Kuroshio, flow: &str, topic: &str, trials: usize) -> Result<f64> {
    let mut largest = 0.0_f64;
    loop {
        let status = until_status(process, flow, WAIT, |_| true).await?;
        largest = largest.max(lag(&status, topic));
        if process.logged("a refused record was tried again")? >= trials {
            return Ok(largest);
        }
        tokio::time::sleep(Duration::from_millis(200)).await; // between two looks of one observation
    }
}

async fn alter(kafka: &Cluster, topic: &str, key: &str, value: &str) -> Result<()> {
    let change = ConfigChange::Set(key.to_owned(), value.to_owned());
    let altered = wire(kafka)
        .alter_topic_configs(&[(topic.into(), vec![change])])
        .await?;
    for (_, outcome) in altered {
        outcome?;
    }
    Ok(())
}

/// How the last batch of partition 0 is compressed that is no marker.
async fn newest_codec(kafka: &Cluster, topic: &str) -> Result<Codec> {
    let (kafka, partition) = (wire(kafka), TopicPartition::new(topic, 0));
    let end = kafka
        .list_offset(&partition, OffsetAt::Latest, Isolation::ReadUncommitted)
        .await?;
    let read = Read {
        offset: end.context("no end")?.offset - 2,
        max_bytes: 1 << 20,
        isolation: Isolation::ReadUncommitted,
        max_wait: Duration::ZERO,
    };
    let chunk = kafka.read(&partition, read).await?;
    kuroshio_core::batch::last_codec(chunk.records)?.context("no batch")
}

/// What is told each time that a refusal costs the other partitions something: an aborted transaction, or another engine.
const REFUSED: &str = "refused the record at source offset";

/// 99 partitions with a load, one of a topic by itself with a record that is too large.
async fn stops_alone(name: &str, delivery: &str) -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (good, bad, flow) = (
        format!("{name}.good"),
        format!("{name}.bad"),
        format!("{name}-tw-jp"),
    );
    on_all(&[tw, jp], &good, 99).await?;
    tw.create_topic(&bad, 1, &[]).await?;
    jp.create_topic(&bad, 1, &[("max.message.bytes", "100000")])
        .await?;
    let mut config = one_way(pair().await?, name, &[&format!("{name}[.].*")]);
    config["defaults"]["delivery"] = json!(delivery);
    // Nobody raises the limit.
    config["defaults"]["configs"] = json!({ "sync": false });
    config["defaults"]["compression"] = json!("none");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(70);
    let load = Load {
        records: 20_000,
        partitions: 99,
        rate: Some(1_000),
    };
    let story = async {
        write(tw, (&bad, 0), (b"before", Some(b"v")), OwnedHeaders::new()).await?;
        until_there(jp, &bad, 1).await?;
        let value = large(300_000);
        for (key, value) in [("large", &value[..]), ("behind", b"v")] {
            write(tw, (&bad, 0), (key.as_bytes(), Some(value)), OwnedHeaders::new()).await?;
        }
        let told = until_status(&mut process, &flow, WAIT, |flow| flow["quarantined"] == 1).await?;
        let told = quarantined(&told);
        ensure!(
            matches!(&told[..], [(topic, why)] if *topic == bad && why.starts_with("too_large: ") && why.contains("size too large")),
            "{told:?}"
        );
        let largest = until_tried(&mut process, &flow, &good, 2).await?;
        println!("{delivery}: largest lag of 99 partitions beside a refused one {largest:.1} s");
        ensure!(process.logged(REFUSED)? == 1, "{}", process.log_tail());
        alter(jp, &bad, "max.message.bytes", "400000").await?;
        until_there(jp, &bad, 3)
            .await
            .with_context(|| process.log_tail())?;
        until_status(&mut process, &flow, WAIT, |flow| flow["quarantined"] == 0).await?;
        ensure!(process.logged(REFUSED)? == 1, "{}", process.log_tail());
        Ok(())
    };
    tokio::try_join!(ledger.produce(tw, &good, load), story)?;
    let there = until_there(jp, &bad, 3).await?;
    ensure!(there.len() == 3, "{} records", there.len());
    let report = ledger.compare(jp, &good, &[("tw", &good)], WAIT).await?;
    let held = if delivery == "exactly_once" {
        report.is_exact()
    } else {
        report.lost == 0 && report.altered == 0 && report.foreign == 0
    };
    ensure!(held, "{report}\n{}", process.log_tail());
    Ok(())
}

#[tokio::test]
async fn one_bad_partition_of_a_hundred_stops_alone() -> Result<()> {
    stops_alone("badonce", "exactly_once").await
}

#[tokio::test]
async fn one_bad_partition_of_a_hundred_stops_alone_at_least_once() -> Result<()> {
    stops_alone("badleast", "at_least_once").await
}

/// In batches of a few records.
async fn write_many(
    kafka: &Cluster,
    topic: &'static str,
    count: usize,
    value: impl Fn() -> Vec<u8>,
) -> Result<()> {
    let producer: BaseProducer = kafka.client().set("batch.size", "3000").create()?;
    for _ in 0..count {
        let value = value();
        let record = BaseRecord::<str, [u8]>::to(topic).key("k").payload(&value);
        producer.send(record).map_err(|(why, _)| why)?;
        producer.poll(Duration::ZERO);
    }
    tokio::task::spawn_blocking(move || producer.flush(WAIT)).await??;
    Ok(())
}

#[tokio::test]
async fn batches_are_no_larger_than_the_target_takes_them() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "small.orders";
    // Each record fits, and what its producer put into a batch; what has gathered meanwhile would not.
    let limit = [("max.message.bytes", "20000")];
    tw.create_topic(topic, 1, &limit).await?;
    jp.create_topic(topic, 1, &limit).await?;
    write_many(tw, topic, 2_000, || large(1_000)).await?;
    let mut config = one_way(pair().await?, "small", &["small[.].*"]);
    config["defaults"]["configs"] = json!({ "sync": false });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    until_there(jp, topic, 2_000)
        .await
        .with_context(|| process.log_tail())?;
    ensure!(process.logged(REFUSED)? == 0, "{}", process.log_tail());
    // Changed while it is copied.
    alter(jp, topic, "max.message.bytes", "5000").await?;
    alter(tw, topic, "compression.type", "gzip").await?;
    until(WAIT, "another form of batches", || async {
        match process.logged("codec=Gzip limit=5000") {
            Ok(0) => Err(process.log_tail()),
            Ok(_) => Ok(()),
            Err(why) => Err(why.to_string()),
        }
    })
    .await?;
    write_many(tw, topic, 500, || large(1_000)).await?;
    until_there(jp, topic, 2_500)
        .await
        .with_context(|| process.log_tail())?;
    ensure!(process.logged(REFUSED)? == 0, "{}", process.log_tail());
    // What does not become smaller is left as it is by producers.
    write_many(tw, topic, 10, || vec![b'x'; 1_000]).await?;
    until_there(jp, topic, 2_510).await?;
    let codec = newest_codec(jp, topic).await?;
    ensure!(codec == Codec::Gzip, "{codec:?}");
    Ok(())
}

async fn produce(kafka: &Cluster, topic: &'static str, key: Option<&'static str>, at: i64) -> Result<()> {
    let producer: BaseProducer = kafka.client().create()?;
    let mut record = BaseRecord::<str, str>::to(topic).payload("v").timestamp(at);
    record.key = key;
    producer.send(record).map_err(|(why, _)| why)?;
    tokio::task::spawn_blocking(move || producer.flush(WAIT)).await??;
    Ok(())
}

#[tokio::test]
async fn what_the_target_refuses_is_named() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (old, keyless) = ("named.old", "named.keyless");
    on_all(&[tw], old, 1).await?;
    on_all(&[tw], keyless, 1).await?;
    jp.create_topic(old, 1, &[("message.timestamp.before.max.ms", "86400000")])
        .await?;
    // A compacted topic takes no record without a key.
    jp.create_topic(keyless, 1, &[("cleanup.policy", "compact")])
        .await?;
    let mut config = one_way(pair().await?, "named", &["named[.].*"]);
    config["defaults"]["configs"] = json!({ "sync": false });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now = i64::try_from(now.as_millis())?;
    produce(tw, old, Some("k"), now - 2 * 86_400_000).await?;
    produce(tw, keyless, None, now).await?;
    let flow = until_status(&mut process, "named-tw-jp", WAIT, |flow| flow["quarantined"] == 2).await?;
    let told = quarantined(&flow);
    for (topic, reason, error) in [
        (old, "timestamp", "INVALID_TIMESTAMP"),
        (keyless, "invalid", "INVALID_RECORD"),
    ] {
        let why = told.iter().find(|(of, _)| of == topic).context(topic)?;
        ensure!(why.1.starts_with(reason) && why.1.contains(error), "{told:?}");
        until(WAIT, "the metric", || async {
            let labels = [("flow", "named-tw-jp"), ("reason", reason)];
            match process.metric("kuroshio_quarantined_partitions", &labels).await {
                Ok(Some(1.0)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        ensure!(process.logged(error)? > 0, "{}", process.log_tail());
    }
    Ok(())
}
