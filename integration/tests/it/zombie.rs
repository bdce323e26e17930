//! A process that stands still and wakes, and two processes with one name.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Kuroshio, Ledger, Load, pair, until};
use serde_json::{Value, json};

use crate::regions::{WAIT, assert_exact, ends, one_way, position, stay_silent, until_status};

/// Promised: a new owner works this soon after it took slots over.
const WORKS_WITHIN: Duration = Duration::from_secs(3);

fn has_all_slots(flow: &Value) -> bool {
    let all = usize::from(kuroshio_core::slots::SLOT_COUNT);
    flow["slots"].as_array().is_some_and(|slots| slots.len() == all)
}

#[tokio::test]
async fn a_process_that_stood_still_adds_nothing() -> Result<()> {
    let pair = pair().await?;
    let (ledger, topic, flow) = (Ledger::new(30), "zombie.orders", "zombie-tw-jp");
    for cluster in [&pair.tw, &pair.jp] {
        cluster.create_topic(topic, 3, &[]).await?;
    }
    let mut config = one_way(pair, "zombie", &["zombie[.].*"]);
    config["instance"] = json!("zombie-old");
    let mut old = Kuroshio::run(config.clone())?;
    old.ready(WAIT).await?;
    let load = Load {
        records: 25_000,
        partitions: 3,
        rate: Some(1_000),
    };
    let story = async {
        // Under way: records of an open transaction lie in the target's log when it stands still.
        until(WAIT, "the first records", || async {
            let there = ends(&pair.jp, &[topic]).await.map_err(|why| why.to_string())?;
            if there.values().all(|end| *end > 100) {
                Ok(())
            } else {
                Err(format!("{there:?}"))
            }
        })
        .await
        .with_context(|| old.log_tail())?;
        old.freeze()?;
        config["instance"] = json!("zombie-new");
        let mut new = Kuroshio::run(config)?;
        until_status(&mut new, flow, WAIT, has_all_slots).await?;
        let taken = Instant::now();
        let before = until(WAIT, "stable positions", || async {
            positions(pair, topic).await.map_err(|why| why.to_string())
        })
        .await
        .with_context(|| new.log_tail())?;
        until(WAIT, "positions to move", || async {
            let now = positions(pair, topic).await.map_err(|why| why.to_string())?;
            if now.iter().zip(&before).all(|(now, before)| now > before) {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        })
        .await
        .with_context(|| new.log_tail())?;
        // /status is half a second old at most.
        let works = taken.elapsed();
        println!("the new owner works {works:?} after it took the slots over");
        ensure!(works < WORKS_WITHIN, "{works:?}\n{}", new.log_tail());
        old.thaw()?;
        anyhow::Ok(new)
    };
    let produce = ledger.produce(&pair.tw, topic, load);
    let ((), mut new) = tokio::try_join!(produce, story)?;
    let report = ledger.compare(&pair.jp, topic, &[("tw", topic)], WAIT).await?;
    ensure!(
        report.is_exact(),
        "{report}\n{}\n{}",
        old.log_tail(),
        new.log_tail()
    );
    stay_silent(&[&pair.jp], &[topic], Duration::from_secs(3)).await?;

    // The woken one is a member again, or has said why it went.
    until(WAIT, "the zombie to join or to go", || async {
        match old.get("/readyz").await {
            Ok((200, _)) => Ok(()),
            Ok((code, body)) => Err(format!("{code} {body}")),
            Err(_) if old.log_tail().contains("fenced") => Ok(()),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await
    .with_context(|| old.log_tail())?;
    ledger
        .produce(
            &pair.tw,
            topic,
            Load {
                records: 1_000,
                partitions: 3,
                rate: None,
            },
        )
        .await?;
    let report = ledger.compare(&pair.jp, topic, &[("tw", topic)], WAIT).await?;
    ensure!(
        report.is_exact(),
        "{report}\n{}\n{}",
        old.log_tail(),
        new.log_tail()
    );
    new.ready(WAIT).await
}

/// The flow's positions, read stable; `None` where a transaction is open.
async fn positions(pair: &kuroshio_integration::Pair, topic: &str) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    for partition in 0..3 {
        match position(&pair.jp, "kuroshio.zombie-tw-jp", topic, partition).await? {
            kuroshio_wire::Stored::Offset(offset) => all.push(offset.offset),
            other => anyhow::bail!("partition {partition}: {other:?}"),
        }
    }
    Ok(all)
}

#[tokio::test]
async fn of_two_processes_with_one_instance_the_older_goes() -> Result<()> {
    let pair = pair().await?;
    let (ledger, topic) = (Ledger::new(31), "twins.orders");
    for cluster in [&pair.tw, &pair.jp] {
        cluster.create_topic(topic, 3, &[]).await?;
    }
    let mut config = crate::regions::both_ways(pair, "twins", &["twins[.].*"]);
    config["instance"] = json!("twin");
    let mut older = Kuroshio::run(config.clone())?;
    older.ready(WAIT).await?;
    let load = Load {
        records: 8_000,
        partitions: 3,
        rate: Some(1_000),
    };
    let twin = async {
        let mut newer = Kuroshio::run(config)?;
        let ended = older.exited(WAIT).await?;
        let log = older.log_tail();
        ensure!(ended.code() == Some(1), "{ended}\n{log}\n{}", newer.log_tail());
        ensure!(log.contains("another process uses this instance"), "{log}");
        newer.ready(WAIT).await?;
        anyhow::Ok(newer)
    };
    let produce = async {
        tokio::try_join!(
            ledger.produce(&pair.tw, topic, load),
            ledger.produce(&pair.jp, topic, load)
        )?;
        Ok(())
    };
    let (newer, ()) = tokio::try_join!(twin, produce)?;
    assert_exact(pair, &ledger, topic, WAIT)
        .await
        .with_context(|| newer.log_tail())
}
