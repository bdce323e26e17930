//! Retention overtakes a flow: what the source deleted before it was copied is counted to the record, and given up as the flow is
//! told to. What compaction or a transaction left out was never there to be lost.

use anyhow::{Context, Result, ensure};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Spec, pair, until};
use kuroshio_wire::Stored;
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::loss::{holds, write_all};
use crate::operations::tell;
use crate::regions::{WAIT, clusters, one_way, position, read, until_status, until_stored, wire, write};

/// The source deletes everything before `offset`.
pub(crate) async fn delete_before(kafka: &Cluster, topic: &str, offset: i64) -> Result<()> {
    let partition = TopicPartition::new(topic, 0);
    let mut starts = wire(kafka).delete_records([(partition.clone(), offset)]).await;
    let start = starts.remove(&partition).context("no answer")??;
    ensure!(start == offset, "the log starts at {start}");
    Ok(())
}

/// What the process has counted as lost.
pub(crate) async fn lost(process: &Kuroshio, reason: &str) -> Result<Option<f64>> {
    process
        .metric("kuroshio_lost_records_total", &[("reason", reason)])
        .await
}

/// Ends the process as a rolling update does.
pub(crate) async fn stop(process: &mut Kuroshio) -> Result<()> {
    process.terminate()?;
    let ended = process.exited(WAIT).await?;
    ensure!(ended.code() == Some(0), "{}", process.log_tail());
    Ok(())
}

/// Whether a lane of the topic is quarantined for this reason.
pub(crate) fn is_quarantined(flow: &Value, topic: &str, reason: &str) -> bool {
    let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let why = |lane: &Value| {
        lane["quarantined"]
            .as_str()
            .map(str::to_owned)
            .unwrap_or_default()
    };
    lanes
        .iter()
        .any(|lane| lane["topic"] == topic && why(lane).starts_with(&format!("{reason}:")))
}

/// `kuroshio resume`, as people run it.
pub(crate) async fn resume(process: &Kuroshio, flow: &str, about: &[&str]) -> Result<String> {
    tell(process, "resume", flow, about).await
}

#[tokio::test]
async fn what_is_deleted_while_nobody_copies_is_counted_to_the_record() -> Result<()> {
    let pair = pair().await?;
    for (delivery, topic) in [("exactly_once", "late.once"), ("at_least_once", "late.least")] {
        pair.tw.create_topic(topic, 1, &[]).await?;
        let flow = topic.replace('.', "-");
        let mut config = one_way(pair, &flow, &[topic]);
        config["defaults"]["delivery"] = json!(delivery);
        let mut process = Kuroshio::run(config)?;
        process.ready(WAIT).await?;
        let mut expected = write_all(&pair.tw, topic, "first", 5).await?;
        holds(&pair.jp, topic, &expected, &process).await?;
        until(WAIT, "the position behind the fifth record", || async {
            match position(&pair.jp, &format!("kuroshio.{flow}-tw-jp"), topic, 0).await {
                Ok(Stored::Offset(stored)) if stored.offset == 5 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        stop(&mut process).await?;
        let second = write_all(&pair.tw, topic, "second", 10).await?;
        delete_before(&pair.tw, topic, 12).await?;
        expected.extend_from_slice(&second[7..]);
        process.restart()?;
        holds(&pair.jp, topic, &expected, &process).await?;
        let counted = lost(&process, "retention").await?;
        ensure!(
            counted == Some(7.0),
            "{delivery}: {counted:?}\n{}",
            process.log_tail()
        );
        let told = process.status().await?["flows"][0]["errors"].to_string();
        ensure!(told.contains("offsets 5 to 12 are lost (retention)"), "{told}");
        // Counted once: the new position was written before the first record behind the gap.
        process.kill()?;
        process.restart()?;
        expected.extend(write_all(&pair.tw, topic, "third", 3).await?);
        holds(&pair.jp, topic, &expected, &process).await?;
        let counted = lost(&process, "retention").await?;
        ensure!(
            counted.is_none(),
            "{delivery}: {counted:?}\n{}",
            process.log_tail()
        );
    }
    Ok(())
}

/// The flow runs, and its source is out of reach: its next fetch is for an offset that is gone. What was copied before is not lost, whether its
/// position is stored by then or not.
#[tokio::test]
async fn what_is_deleted_while_the_source_is_away_is_counted_to_the_record() -> Result<()> {
    let (pair, far) = tokio::try_join!(pair(), Cluster::start(Spec::new("far").linked()))?;
    let link = far.link()?;
    let mut known = clusters(&[&far, &pair.jp]);
    known["far"]["bootstrap_servers"] = json!(link.bootstrap());
    for (delivery, topic) in [
        ("exactly_once", "overtaken.once"),
        ("at_least_once", "overtaken.least"),
    ] {
        far.create_topic(topic, 1, &[]).await?;
        let mut process = Kuroshio::run(json!({
            "clusters": known,
            "flows": [{ "name": topic.replace('.', "-"), "source": "far", "target": "jp" }],
            "defaults": {
                "delivery": delivery,
                "commit_interval": "10s",
                "topics": { "include": [topic], "refresh": "200ms" },
            },
            "log": { "format": "text" },
        }))?;
        process.ready(WAIT).await?;
        let mut expected = write_all(&far, topic, "first", 5).await?;
        holds(&pair.jp, topic, &expected, &process).await?;
        // Closes the connections with all that is under way, so that nothing of what follows is fetched.
        link.cut();
        let second = write_all(&far, topic, "second", 10).await?;
        delete_before(&far, topic, 11).await?;
        expected.extend_from_slice(&second[6..]);
        link.resume();
        holds(&pair.jp, topic, &expected, &process).await?;
        let counted = lost(&process, "retention").await?;
        ensure!(
            counted == Some(6.0),
            "{delivery}: {counted:?}\n{}",
            process.log_tail()
        );
    }
    Ok(())
}

#[tokio::test]
async fn halt_gives_nothing_up_before_it_is_told_to() -> Result<()> {
    let pair = pair().await?;
    let (topic, other) = ("halted.orders", "halted.others");
    for topic in [topic, other] {
        pair.tw.create_topic(topic, 1, &[]).await?;
    }
    let mut config = one_way(pair, "halted", &["halted[.].*"]);
    config["defaults"]["on_data_loss"] = json!("halt");
    config["http"] = json!({ "admin": true });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let mut expected = write_all(&pair.tw, topic, "first", 5).await?;
    holds(&pair.jp, topic, &expected, &process).await?;
    stop(&mut process).await?;
    let second = write_all(&pair.tw, topic, "second", 4).await?;
    delete_before(&pair.tw, topic, 7).await?;
    process.restart()?;
    let halted = |flow: &Value| is_quarantined(flow, topic, "data_loss");
    let flow = until_status(&mut process, "halted-tw-jp", WAIT, halted).await?;
    let why = flow["lanes"].to_string();
    ensure!(why.contains("offsets 5 to 7 are lost (retention)"), "{why}");
    // The others go on; nothing is counted, for nothing is given up.
    let others = write_all(&pair.tw, other, "other", 3).await?;
    holds(&pair.jp, other, &others, &process).await?;
    let gauge = ("kuroshio_quarantined_partitions", [("reason", "data_loss")]);
    until(WAIT, "the quarantined partition in the metrics", || async {
        match process.metric(gauge.0, &gauge.1).await {
            Ok(Some(1.0)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(
        lost(&process, "retention").await?.is_none(),
        "{}",
        process.log_tail()
    );
    // Tried again by itself it stays where it is.
    let tried = |flow: &Value| {
        let errors = flow["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let halt = |error: &&Value| {
            error["text"]
                .as_str()
                .is_some_and(|text| text.contains("on_data_loss: halt"))
        };
        errors.iter().find(halt).and_then(|error| error["at_ms"].as_u64())
    };
    let first = tried(&flow).context("not told")?;
    until_status(&mut process, "halted-tw-jp", WAIT, |flow| {
        tried(flow).is_some_and(|at| at > first) && halted(flow)
    })
    .await?;
    ensure!(read(&pair.jp, topic).await?.len() == 5, "{}", process.log_tail());

    let said = resume(&process, "halted-tw-jp", &["--topic", topic, "--partition", "0"]).await?;
    ensure!(said.contains("1 paused or quarantined"), "{said}");
    expected.extend_from_slice(&second[2..]);
    holds(&pair.jp, topic, &expected, &process).await?;
    let counted = lost(&process, "retention").await?;
    ensure!(counted == Some(2.0), "{counted:?}\n{}", process.log_tail());
    Ok(())
}

#[tokio::test]
async fn gaps_of_compaction_and_transactions_are_no_loss() -> Result<()> {
    let pair = pair().await?;
    let (topic, group) = ("gaps.orders", "kuroshio.gaps-tw-jp");
    // Every record begins a segment, and all but the last are compacted as soon as the cleaner comes round.
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "1"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("min.compaction.lag.ms", "0"),
        ("delete.retention.ms", "0"),
    ];
    pair.tw.create_topic(topic, 1, &configs).await?;
    let mut process = Kuroshio::run(one_way(pair, "gaps", &["gaps[.].*"]))?;
    process.ready(WAIT).await?;
    write_all(&pair.tw, topic, "first", 3).await?;
    // The position says that they were copied: both logs may have been compacted since.
    until(WAIT, "a position behind the first records", || async {
        match position(&pair.jp, group, topic, 0).await {
            Ok(Stored::Offset(at)) if at.offset >= 3 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| process.log_tail())?;
    stop(&mut process).await?;
    // Aborted transactions and markers right behind the position.
    let config = pair.tw.client().set("transactional.id", "gaps-app").clone();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(WAIT)?;
        for _ in 0..3 {
            producer.begin_transaction()?;
            let record = BaseRecord::<str, str>::to(topic)
                .partition(0)
                .key("k")
                .payload("aborted");
            producer.send(record).map_err(|(why, _)| why)?;
            producer.flush(WAIT)?;
            producer.abort_transaction(WAIT)?;
        }
        anyhow::Ok(())
    })
    .await??;
    write_all(&pair.tw, topic, "second", 8).await?;
    write(
        &pair.tw,
        (topic, 0),
        (b"last", Some(b"last")),
        OwnedHeaders::new(),
    )
    .await?;
    let position = until_stored(&pair.jp, group, topic, 0).await?.offset;
    until(WAIT * 2, "a compacted log", || async {
        let left = read(&pair.tw, topic).await.map_err(|why| format!("{why:#}"))?;
        let offsets: Vec<i64> = left.iter().map(Message::offset).collect();
        // Nothing is left of what was copied, nor for a long way behind the position.
        if offsets.first().is_some_and(|first| *first > position + 3) {
            Ok(())
        } else {
            Err(format!("{offsets:?}, the position is {position}"))
        }
    })
    .await?;
    process.restart()?;
    let copies = until(WAIT, "the last record on jp", || async {
        let copies = read(&pair.jp, topic).await.map_err(|why| format!("{why:#}"))?;
        match copies.last().and_then(Message::payload) {
            Some(b"last") => Ok(copies.len()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| process.log_tail())?;
    let counted = process.metric("kuroshio_lost_records_total", &[]).await?;
    ensure!(
        counted.is_none(),
        "{counted:?}, {copies} copies\n{}",
        process.log_tail()
    );
    Ok(())
}
