//! Compacted logs: their gaps are no loss.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kuroshio_core::batch::Record;
use kuroshio_integration::{Cluster, Kuroshio, Pair, RawRecord, append, pair, until};
use kuroshio_wire::Stored;
use serde_json::json;

use super::{log, records};
use crate::regions::{WAIT, ends, now, one_way, position};

/// Writes versions of the keys `a` to `e`, in segments of their own.
async fn versions(kafka: &Cluster, topic: &str, from: usize) -> Result<()> {
    for version in from..from + 20 {
        let records: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|key| RawRecord {
                key: Some(key.into()),
                value: Some(format!("{version}").into_bytes()),
                timestamp: now().unwrap_or(0),
                ..RawRecord::default()
            })
            .into();
        append(kafka, topic, 0, &records).await?;
    }
    Ok(())
}

/// Waits until the cleaner was there: of all that lies before the offset only a few are left. Written to meanwhile, so that segments end.
async fn until_compacted(kafka: &Cluster, topic: &str, before: i64) -> Result<()> {
    until(WAIT * 2, &format!("{topic} to be compacted"), || async {
        let end = RawRecord {
            key: Some(b"roll".to_vec()),
            timestamp: now().unwrap_or(0),
            ..RawRecord::default()
        };
        append(kafka, topic, 0, &[end])
            .await
            .map_err(|why| format!("{why:#}"))?;
        let log = log(kafka, topic).await.and_then(|log| records(&log));
        let left = log.map_err(|why| format!("{why:#}"))?;
        let left = left.iter().filter(|record| record.offset < before).count();
        if left <= 10 {
            Ok(())
        } else {
            Err(format!("{left} left"))
        }
    })
    .await
}

/// Gaps are no loss: in a backlog, and where a position lies that its log was compacted over.
#[tokio::test]
async fn a_log_that_was_compacted_has_lost_nothing() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "fidelity.compacted";
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.0"),
        ("segment.ms", "100"),
        ("delete.retention.ms", "0"),
    ];
    tw.create_topic(topic, 1, &configs).await?;
    // What is copied must not be compacted, or it could not be counted.
    jp.create_topic(topic, 1, &[]).await?;
    versions(tw, topic, 0).await?;
    until_compacted(tw, topic, 95).await?;
    let mut config = one_way(pair().await?, "fidelity-compacted", &["fidelity[.]compacted"]);
    config["defaults"]["configs"] = json!({ "sync": false });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    // In step with the source at `end`, all of it there.
    let in_step = async |process: &Kuroshio| -> Result<i64> {
        let end = ends(tw, &[topic]).await?;
        let end = *end.values().next().context("no end")?;
        let what = format!("the position of {topic} at {end}");
        until(WAIT, &what, || async {
            match position(jp, "kuroshio.fidelity-compacted-tw-jp", topic, 0).await {
                Ok(Stored::Offset(at)) if at.offset == end => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .with_context(|| process.log_tail())?;
        Ok(end)
    };
    in_step(&process).await?;
    let values = |records: &[Record]| -> Vec<Bytes> {
        let versions = records
            .iter()
            .filter(|record| record.key.as_deref() != Some(b"roll"));
        versions.filter_map(|record| record.value.clone()).collect()
    };
    let copies = records(&log(jp, topic).await?)?;
    ensure!(
        values(&copies) == vec![Bytes::from("19"); 5],
        "{:?}\n{}",
        values(&copies),
        process.log_tail()
    );

    // Away while the log is written on, and compacted from before its position to far behind it.
    let began = Instant::now();
    process.terminate()?;
    process.exited(WAIT).await?;
    let end = ends(tw, &[topic]).await?;
    let end = *end.values().next().context("no end")?;
    versions(tw, topic, 20).await?;
    until_compacted(tw, topic, end + 95).await?;
    process.restart()?;
    process.ready(WAIT).await?;
    in_step(&process).await?;
    println!("compacted after {:?}", began.elapsed());
    let copies = records(&log(jp, topic).await?)?;
    let expected = [vec![Bytes::from("19"); 5], vec![Bytes::from("39"); 5]].concat();
    ensure!(
        values(&copies) == expected,
        "{:?}\n{}",
        values(&copies),
        process.log_tail()
    );
    let lost = process.metric("kuroshio_lost_records_total", &[]).await?;
    ensure!(lost.unwrap_or(0.0) == 0.0, "{lost:?}\n{}", process.log_tail());
    // It is looked at a few times a second.
    until(WAIT, "no lag", || async {
        let lag = process.metric("kuroshio_lag_records", &[("topic", topic)]).await;
        match lag {
            Ok(lag) if lag.is_none_or(|lag| lag == 0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
