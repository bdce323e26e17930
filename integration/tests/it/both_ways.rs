//! The main job: topics flow both ways between two clusters, and every side ends with everything, once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_core::origin::{self, Tag};
use kuroshio_integration::{Kuroshio, Ledger, Load, Pair, Process, pair};
use rdkafka::message::{Headers, Message, OwnedHeaders, OwnedMessage};
use serde_json::json;

use crate::regions::{
    WAIT, assert_exact, both_ways, headers, on_all, read, stay_silent, until_copied, until_there, write,
};

/// Records born on each side; `KUROSHIO_RECORDS=1000000` is the whole run.
fn records() -> Result<u64> {
    match std::env::var("KUROSHIO_RECORDS") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("KUROSHIO_RECORDS={text} is not a number")),
        Err(_) => Ok(20_000),
    }
}

/// Half of the records of a topic on both sides.
async fn half(pair: &Pair, ledger: &Ledger, topic: &str, partitions: i32, records: u64) -> Result<()> {
    let load = Load {
        records,
        partitions,
        rate: None,
    };
    tokio::try_join!(
        ledger.produce(&pair.tw, topic, load),
        ledger.produce(&pair.jp, topic, load)
    )?;
    Ok(())
}

#[tokio::test]
async fn everything_arrives_once_and_then_there_is_silence() -> Result<()> {
    let pair = pair().await?;
    let (ledger, records) = (Ledger::new(10), records()?);
    let topics = [("both.orders", 3), ("both.payments", 4)];
    for (topic, partitions) in topics {
        on_all(&[&pair.tw, &pair.jp], topic, partitions).await?;
        half(pair, &ledger, topic, partitions, records / 4).await?;
    }
    let started = Instant::now();
    let mut process = Kuroshio::run(both_ways(pair, "both", &["both[.].*"]))?;
    process.ready(WAIT).await?;
    for (topic, partitions) in topics {
        half(pair, &ledger, topic, partitions, records / 4).await?;
    }
    let within = WAIT + Duration::from_millis(records / 2);
    let born = |side| {
        topics
            .iter()
            .map(|(topic, _)| ledger.count(side, topic))
            .sum::<u64>()
    };
    until_copied(&process, "both-tw-jp", born("tw"), within).await?;
    until_copied(&process, "both-jp-tw", born("jp"), within).await?;
    let (took, cpu) = (
        started.elapsed().as_secs_f64(),
        Process { pid: process.pid() }.cpu()?.as_secs_f64(),
    );

    for (topic, _) in topics {
        assert_exact(pair, &ledger, topic, within).await?;
    }
    let period = Duration::from_secs(if records >= 1_000_000 { 30 } else { 5 });
    let names = topics.map(|(topic, _)| topic);
    stay_silent(&[&pair.tw, &pair.jp], &names, period).await?;
    let copied = (born("tw") + born("jp")) as f64;
    println!(
        "{copied} records copied, {} born on each side, in {took:.1} s ({:.0}/s, producers included); silent for {period:?}",
        born("tw"),
        copied / took
    );
    println!(
        "CPU {cpu:.2} s of kuroshio: {:.2} µs per record copied",
        cpu * 1e6 / copied
    );
    process.terminate()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    // Counted again by readers: nothing came after the end either.
    for (topic, _) in topics {
        assert_exact(pair, &ledger, topic, within).await?;
    }
    Ok(())
}

#[tokio::test]
async fn at_least_once_loses_nothing_and_keeps_order() -> Result<()> {
    let pair = pair().await?;
    let ledger = Ledger::new(11);
    let topic = "once-or-more.orders";
    on_all(&[&pair.tw, &pair.jp], topic, 3).await?;
    half(pair, &ledger, topic, 3, 3_000).await?;
    let mut config = both_ways(pair, "once-or-more", &["once-or-more[.].*"]);
    config["defaults"]["delivery"] = json!("at_least_once");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    half(pair, &ledger, topic, 3, 3_000).await?;
    // Without faults there is no reason for a record to come twice either.
    assert_exact(pair, &ledger, topic, WAIT)
        .await
        .with_context(|| process.log_tail())?;
    process.terminate()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    // What was stored at the end is where it goes on.
    process.restart()?;
    process.ready(WAIT).await?;
    half(pair, &ledger, topic, 3, 1_000).await?;
    assert_exact(pair, &ledger, topic, WAIT)
        .await
        .with_context(|| process.log_tail())?;
    stay_silent(&[&pair.tw, &pair.jp], &[topic], Duration::from_secs(2)).await
}

#[tokio::test]
async fn names_change_by_prefix_and_rename() -> Result<()> {
    let pair = pair().await?;
    let ledger = Ledger::new(12);
    let load = Load {
        records: 500,
        partitions: 3,
        rate: None,
    };
    pair.tw.create_topic("naming.old", 3, &[]).await?;
    on_all(&[&pair.tw, &pair.jp], "naming.plain", 3).await?;
    for cluster in [&pair.tw, &pair.jp] {
        ledger.produce(cluster, "naming.plain", load).await?;
    }
    ledger.produce(&pair.tw, "naming.old", load).await?;
    let mut config = both_ways(pair, "naming", &[".*naming[.].*"]);
    config["defaults"]["naming"] = json!("prefix");
    config["flows"][0]["topics"] = json!({ "rename": { "naming.old": "naming.new" } });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let copies = [
        (&pair.jp, "tw.naming.plain", ("tw", "naming.plain")),
        (&pair.tw, "jp.naming.plain", ("jp", "naming.plain")),
        (&pair.jp, "naming.new", ("tw", "naming.old")),
    ];
    for (cluster, topic, birth) in copies {
        until_there(cluster, topic, 500)
            .await
            .with_context(|| process.log_tail())?;
        let report = ledger.compare(cluster, topic, &[birth], WAIT).await?;
        ensure!(report.is_exact() && report.tagged == 500, "{topic}: {report}");
    }
    for record in read(&pair.jp, "naming.new").await? {
        let tag = only_tag(&record)?;
        ensure!(
            tag.last().topic == "naming.old" && tag.last().name == Some("naming.new"),
            "{tag:?}"
        );
    }
    // The renamed copy is a topic of jp like any other, but its records are known as copies by their tags.
    stay_silent(
        &[&pair.tw, &pair.jp],
        &["tw.naming.plain", "jp.naming.plain", "naming.new"],
        Duration::from_secs(3),
    )
    .await?;
    let there = pair.tw.topics().await?;
    ensure!(
        !there
            .keys()
            .any(|topic| topic.contains("tw.naming") || topic == "naming.new"),
        "{there:?}"
    );
    if there.contains_key("jp.naming.new") {
        ensure!(
            read(&pair.tw, "jp.naming.new").await?.is_empty(),
            "a renamed copy came back"
        );
    }
    Ok(())
}

/// The tag of a copied record: one header, the last, and it fits the record's bytes.
pub(crate) fn only_tag(record: &OwnedMessage) -> Result<Tag<'_>> {
    let tags = headers(record, origin::HEADER);
    ensure!(tags.len() == 1, "{} tags in {record:?}", tags.len());
    let all = record.headers().context("no headers")?;
    ensure!(
        all.get(all.count() - 1).key == origin::HEADER,
        "the tag is not the last header"
    );
    let tag = Tag::parse(tags[0])
        .with_context(|| format!("not well formed: {}", String::from_utf8_lossy(tags[0])))?;
    let check = origin::check(record.key(), record.payload());
    ensure!(
        tag.explains(record.topic(), record.partition(), check),
        "{tag:?} does not explain {record:?}"
    );
    Ok(tag)
}

#[tokio::test]
async fn tags_are_written_as_documented() -> Result<()> {
    let pair = pair().await?;
    let topic = "tags.orders";
    pair.tw.create_topic(topic, 2, &[]).await?;
    // INTERFACE: null key (empty here, the same check), value 123456789.
    for value in ["123456789", "second"] {
        write(
            &pair.tw,
            (topic, 1),
            (b"", Some(value.as_bytes())),
            OwnedHeaders::new(),
        )
        .await?;
    }
    write(&pair.tw, (topic, 1), (b"gone", None), OwnedHeaders::new()).await?;
    let mut process = Kuroshio::run(both_ways(pair, "tags", &["tags[.].*"]))?;
    process.ready(WAIT).await?;
    let copies = until_there(&pair.jp, topic, 3)
        .await
        .with_context(|| process.log_tail())?;
    let first = headers(&copies[0], origin::HEADER);
    ensure!(
        first == [b"tw/tags.orders/1/0#4waSgw"],
        "{}",
        String::from_utf8_lossy(first[0])
    );
    for (copy, offset) in copies.iter().zip(0..) {
        let tag = only_tag(copy)?;
        let birth = tag.birth();
        ensure!(
            tag.hops().count() == 1 && birth.cluster == "tw" && birth.offset.0 == offset,
            "{tag:?}"
        );
    }
    ensure!(copies[2].payload().is_none(), "the tombstone got a value");

    // An application on jp copies headers into a topic of its own, as Kafka Streams does: born there.
    pair.jp.create_topic("tags.derived", 2, &[]).await?;
    let foreign = copies[0].headers().context("no headers")?.clone();
    write(&pair.jp, ("tags.derived", 1), (b"", Some(b"123456789")), foreign).await?;
    let derived = until_there(&pair.tw, "tags.derived", 1)
        .await
        .with_context(|| process.log_tail())?;
    let tag = only_tag(&derived[0])?;
    ensure!(
        tag.hops().count() == 1 && tag.birth().cluster == "jp" && tag.birth().topic == "tags.derived",
        "{tag:?}"
    );
    stay_silent(
        &[&pair.tw, &pair.jp],
        &[topic, "tags.derived"],
        Duration::from_secs(2),
    )
    .await
}

#[tokio::test]
async fn what_belongs_to_kuroshio_kafka_and_mirror_maker_is_not_copied() -> Result<()> {
    let pair = pair().await?;
    let own = [
        "kuroshio.reserved",
        "reserved.internal",
        "mm2-reserved.tw.internal",
        "__reserved",
    ];
    for topic in own.iter().chain(&["reserved.data"]) {
        pair.tw.create_topic(topic, 1, &[]).await?;
        write(&pair.tw, (topic, 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    // Excludes of one's own do not lift those that always hold.
    let mut config = both_ways(pair, "reserved", &[".*reserved.*"]);
    config["defaults"]["topics"]["exclude"] = json!([]);
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    until_there(&pair.jp, "reserved.data", 1)
        .await
        .with_context(|| process.log_tail())?;
    let there = pair.jp.topics().await?;
    ensure!(own.iter().all(|topic| !there.contains_key(*topic)), "{there:?}");
    Ok(())
}
