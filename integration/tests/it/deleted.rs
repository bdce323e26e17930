//! Topics are deleted, on the source and underneath us on the target: nothing goes or comes back unasked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_core::departures::CERTAIN;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, Report, Spec, pair, until};
use kuroshio_wire::Stored;
use serde_json::{Value, json};

use crate::loss::{holds, write_all};
use crate::overtaken::{delete_before, is_quarantined, lost, resume, stop};
use crate::regions::{
    WAIT, both_ways, clusters, on_all, one_way, position, until_copied, until_status, until_stored, write,
};

/// Commands are taken.
fn commanded(mut config: Value) -> Value {
    config["http"] = json!({ "admin": true });
    config
}

/// Whether the process has a lane of the topic.
fn has_lane(flow: &Value, topic: &str) -> bool {
    let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    lanes.iter().any(|lane| lane["topic"] == topic)
}

async fn until_gone(kafka: &Cluster, topic: &str, process: &Kuroshio) -> Result<()> {
    until(
        WAIT,
        &format!("{topic} to be gone from {}", kafka.alias()),
        || async {
            match kafka.topics().await {
                Ok(topics) if !topics.contains_key(topic) => Ok(()),
                Ok(_) => Err("it is there".to_owned()),
                Err(why) => Err(format!("{why:#}")),
            }
        },
    )
    .await
    .with_context(|| process.log_tail())
}

/// For as long as a deletion takes that is certain, and half as long again, the topic is there.
async fn stays(kafka: &Cluster, topic: &str, process: &Kuroshio) -> Result<()> {
    let end = Instant::now() + CERTAIN.1 * 3 / 2;
    while Instant::now() < end {
        let there = kafka.topics().await?.contains_key(topic);
        ensure!(
            there,
            "{topic} was deleted on {}\n{}",
            kafka.alias(),
            process.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(250)).await; // between two looks of one observation
    }
    Ok(())
}

#[tokio::test]
async fn a_source_topic_that_is_deleted_leaves_its_copies() -> Result<()> {
    let pair = pair().await?;
    let (topic, other) = ("remains.orders", "remains.others");
    for topic in [topic, other] {
        pair.tw.create_topic(topic, 1, &[]).await?;
    }
    let mut process = Kuroshio::run(one_way(pair, "remains", &["remains[.].*"]))?;
    process.ready(WAIT).await?;
    let copied = write_all(&pair.tw, topic, "remains", 5).await?;
    holds(&pair.jp, topic, &copied, &process).await?;
    pair.tw.delete_topic(topic).await?;
    until_status(&mut process, "remains-tw-jp", WAIT, |flow| {
        !has_lane(flow, topic) && has_lane(flow, other)
    })
    .await?;
    until(WAIT, "its series to be gone", || async {
        match process.metric("kuroshio_lag_records", &[("topic", topic)]).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let others = write_all(&pair.tw, other, "other", 3).await?;
    holds(&pair.jp, other, &others, &process).await?;
    stays(&pair.jp, topic, &process).await?;
    holds(&pair.jp, topic, &copied, &process).await?;
    let (log, status) = (process.log_tail(), process.status().await?);
    ensure!(log.contains("the source no longer lists a topic"), "{log}");
    ensure!(status["flows"][0]["quarantined"] == 0, "{status}");
    let counted = process.metric("kuroshio_lost_records_total", &[]).await?;
    ensure!(counted.is_none(), "{counted:?}\n{log}");
    Ok(())
}

#[tokio::test]
async fn deletions_follow_from_the_side_with_the_authority() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (gone, kept, back) = ("deleted.gone", "deleted.kept", "deleted.back");
    for topic in [gone, kept, back] {
        tw.create_topic(topic, 1, &[]).await?;
    }
    let mut config = both_ways(pair().await?, "deleted", &["deleted[.].*"]);
    config["defaults"]["on_topic_delete"] = json!("delete");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let mut copies = Vec::new();
    for topic in [gone, kept, back] {
        let copied = write_all(tw, topic, topic, 3).await?;
        holds(jp, topic, &copied, &process).await?;
        copies.push(copied);
    }
    // Both flows copy it, and have noted where they are.
    for group in ["kuroshio.deleted-tw-jp", "kuroshio.deleted-jp-tw"] {
        until_stored(if group.ends_with("jp") { jp } else { tw }, group, back, 0).await?;
    }
    tw.delete_topic(gone).await?;
    jp.delete_topic(back).await?;
    until_gone(jp, gone, &process).await?;
    // Not from the other side: there it is a target topic that somebody deleted.
    until_status(&mut process, "deleted-tw-jp", WAIT, |flow| {
        is_quarantined(flow, back, "target_deleted")
    })
    .await?;
    stays(tw, back, &process).await?;
    stays(jp, kept, &process).await?;
    holds(tw, back, &copies[2], &process).await?;
    ensure!(!tw.topics().await?.contains_key(gone), "it was made again on tw");
    ensure!(!jp.topics().await?.contains_key(back), "it was made again on jp");
    // A new topic of that name is a new topic.
    tw.create_topic(gone, 1, &[]).await?;
    let anew = write_all(tw, gone, "anew", 4).await?;
    holds(jp, gone, &anew, &process).await
}

#[tokio::test]
async fn what_may_not_be_seen_any_more_is_not_deleted() -> Result<()> {
    let (pair, secret) = tokio::try_join!(pair(), Cluster::start(Spec::new("secret").with_acls()))?;
    let (topic, other) = ("hidden.orders", "hidden.others");
    for topic in [topic, other] {
        secret.create_topic(topic, 1, &[]).await?;
    }
    let mut process = Kuroshio::run(json!({
        "clusters": clusters(&[&secret, &pair.jp]),
        "flows": [{ "name": "hidden", "source": "secret", "target": "jp" }],
        "defaults": {
            "topics": { "include": ["hidden[.].*"], "refresh": "200ms" }, "on_topic_delete": "delete"
        },
        "log": { "format": "text" },
    }))?;
    process.ready(WAIT).await?;
    let copied = write_all(&secret, topic, "hidden", 3).await?;
    holds(&pair.jp, topic, &copied, &process).await?;
    // From now on the source lists it no more.
    let deny = [
        "--deny-principal",
        "User:*",
        "--operation",
        "Describe",
        "--topic",
        topic,
    ];
    secret.acl(&deny).await?;
    until_status(&mut process, "hidden", WAIT, |flow| {
        !has_lane(flow, topic) && has_lane(flow, other)
    })
    .await?;
    stays(&pair.jp, topic, &process).await?;
    holds(&pair.jp, topic, &copied, &process).await
}

/// The largest lag of a topic while something goes on.
async fn largest_lag(process: &Kuroshio, topic: &str, over: impl Future<Output = Result<()>>) -> Result<f64> {
    let mut largest: f64 = 0.0;
    let watch = async {
        loop {
            let lag = process.metric("kuroshio_lag_seconds", &[("topic", topic)]).await;
            largest = largest.max(lag.ok().flatten().unwrap_or(0.0));
            tokio::time::sleep(Duration::from_millis(200)).await; // between two looks of one observation
        }
    };
    tokio::select! {
        done = over => done?,
        () = watch => {}
    }
    Ok(largest)
}

#[tokio::test]
async fn a_target_topic_that_was_deleted_stands_still_alone_until_it_is_resumed() -> Result<()> {
    let pair = pair().await?;
    for (name, delivery, refresh, before) in [
        ("vanished", "exactly_once", "200ms", 400),
        // Found out by what the target says to records; librdkafka believes it of topics that it has known for 10 s.
        ("missed", "exactly_once", "1h", 4_400),
        ("absent", "at_least_once", "200ms", 400),
    ] {
        let (topic, other, flow) = (
            format!("{name}.orders"),
            format!("{name}.others"),
            format!("{name}-tw-jp"),
        );
        let (topic, other) = (topic.as_str(), other.as_str());
        let ledger = Ledger::new(70);
        let once = delivery == "exactly_once";
        let is_there = |report: &Report| {
            let all = report.lost + report.altered + report.foreign == 0;
            all && (report.is_exact() || !once)
        };
        let load = |partitions, records| Load {
            records,
            partitions,
            rate: Some(400),
        };
        pair.tw.create_topic(topic, 2, &[]).await?;
        pair.tw.create_topic(other, 1, &[]).await?;
        let mut config = commanded(one_way(pair, name, &[&format!("{name}[.].*")]));
        config["defaults"]["delivery"] = json!(delivery);
        config["defaults"]["topics"]["refresh"] = json!(refresh);
        let mut process = Kuroshio::run(config)?;
        process.ready(WAIT).await?;
        ledger.produce(&pair.tw, topic, load(2, before)).await?;
        until_copied(&process, &flow, before, WAIT).await?;
        // Where it is written down that the records were copied once.
        for partition in 0..2 {
            until_stored(&pair.tw, &format!("kuroshio.{flow}"), topic, partition).await?;
        }
        let deletion = async {
            let loads = async {
                tokio::try_join!(
                    ledger.produce(&pair.tw, topic, load(2, 4_000)),
                    ledger.produce(&pair.tw, other, load(1, 4_000))
                )
            };
            let delete = async {
                until_copied(&process, &flow, before + 400, WAIT).await?;
                pair.jp.delete_topic(topic).await
            };
            tokio::try_join!(loads, delete)?;
            let report = ledger.compare(&pair.jp, other, &[("tw", other)], WAIT).await?;
            ensure!(is_there(&report), "{report}\n{}", process.log_tail());
            Ok(())
        };
        let lag = largest_lag(&process, other, deletion).await?;
        println!("{name}: the other topic was at most {lag} s behind");
        let standing =
            |flow: &Value| is_quarantined(flow, topic, "target_deleted") && flow["quarantined"] == 2;
        until_status(&mut process, &flow, WAIT, standing).await?;
        until(WAIT, "both partitions in the metrics", || async {
            let labels = [("reason", "target_deleted")];
            match process.metric("kuroshio_quarantined_partitions", &labels).await {
                Ok(Some(2.0)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        // Its positions went with it; the copies on the source tell a restart that it had been there.
        let dropped = position(&pair.jp, &format!("kuroshio.{flow}"), topic, 0).await?;
        ensure!(dropped == Stored::Nothing, "{dropped:?}");
        stop(&mut process).await?;
        process.restart()?;
        until_status(&mut process, &flow, WAIT, standing).await?;
        ensure!(
            !pair.jp.topics().await?.contains_key(topic),
            "{}",
            process.log_tail()
        );

        let said = resume(&process, &flow, &["--topic", topic]).await?;
        ensure!(
            said.contains("2 paused or quarantined") && said.contains("all pods"),
            "{said}"
        );
        until_status(&mut process, &flow, WAIT, |flow| flow["quarantined"] == 0).await?;
        for topic in [topic, other] {
            let report = ledger.compare(&pair.jp, topic, &[("tw", topic)], WAIT).await?;
            ensure!(is_there(&report), "{name}: {report}\n{}", process.log_tail());
        }
        // All of it could be copied again.
        ensure!(
            lost(&process, "target_recreated").await?.is_none(),
            "{}",
            process.log_tail()
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_pod_hears_of_a_command() -> Result<()> {
    let pair = pair().await?;
    let (topic, rest, flow) = ("heard.orders", "heard.rest", "heard-tw-jp");
    pair.tw.create_topic(topic, 16, &[]).await?;
    pair.tw.create_topic(rest, 1, &[]).await?;
    let config = commanded(one_way(pair, "heard", &["heard[.].*"]));
    let mut pods = [Kuroshio::run(config.clone())?, Kuroshio::run(config)?];
    for pod in &mut pods {
        pod.ready(WAIT).await?;
        until_status(pod, flow, WAIT, |flow| has_lane(flow, topic)).await?;
    }
    for partition in 0..16 {
        write(
            &pair.tw,
            (topic, partition),
            (b"k", Some(b"v")),
            rdkafka::message::OwnedHeaders::new(),
        )
        .await?;
        until_stored(&pair.jp, &format!("kuroshio.{flow}"), topic, partition).await?;
    }
    crate::regions::until_there(&pair.jp, topic, 16).await?;
    pair.jp.delete_topic(topic).await?;
    for pod in &mut pods {
        until_status(pod, flow, WAIT, |flow| {
            is_quarantined(flow, topic, "target_deleted")
        })
        .await?;
    }
    resume(&pods[0], flow, &[]).await?;
    crate::regions::until_there(&pair.jp, topic, 16)
        .await
        .with_context(|| format!("{}\n{}", pods[0].log_tail(), pods[1].log_tail()))?;
    for pod in &mut pods {
        until_status(pod, flow, WAIT, |flow| flow["quarantined"] == 0).await?;
    }
    Ok(())
}

/// Whether it is among the errors that a target partition is filled again from this source offset.
fn told_of(flow: &Value, from: i64) -> bool {
    let errors = flow["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let end = format!("going on at offset {from}");
    let is_it = |text: &str| text.contains("deleted and made anew") && text.ends_with(&end);
    errors
        .iter()
        .any(|error| error["text"].as_str().is_some_and(is_it))
}

/// The old topic's copies are gone, a new one has its name, and nobody saw it missing.
#[tokio::test]
async fn a_target_topic_made_anew_is_filled_again() -> Result<()> {
    let pair = pair().await?;
    for (name, policy, seen) in [
        ("refilled", "continue", "running"),
        ("restarted", "continue", "stopped"),
        ("withheld", "halt", "stopped"),
    ] {
        let (topic, flow) = (format!("{name}.orders"), format!("{name}-tw-jp"));
        let topic = topic.as_str();
        pair.tw.create_topic(topic, 1, &[]).await?;
        let mut config = commanded(one_way(pair, name, &[&format!("{name}[.].*")]));
        config["defaults"]["on_data_loss"] = json!(policy);
        let mut process = Kuroshio::run(config)?;
        process.ready(WAIT).await?;
        let mut all = write_all(&pair.tw, topic, "first", 6).await?;
        holds(&pair.jp, topic, &all, &process).await?;
        // Where it is written down that the records were copied once.
        until(WAIT, "the copy of the position", || async {
            match position(&pair.tw, &format!("kuroshio.{flow}"), topic, 0).await {
                Ok(Stored::Offset(copy)) if copy.offset == 6 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        for first in [0, 4] {
            // The second time the source has lost what it had first.
            if first > 0 {
                delete_before(&pair.tw, topic, first).await?;
            }
            let still = usize::try_from(first)?;
            if seen == "running" {
                process.freeze()?;
            } else {
                stop(&mut process).await?;
            }
            pair.jp.delete_topic(topic).await?;
            on_all(&[&pair.jp], topic, 1).await?;
            if seen == "running" {
                // What it copied before it looked would be there twice.
                process.thaw()?;
                until_status(&mut process, &flow, WAIT, |flow| told_of(flow, first)).await?;
            }
            all.extend(write_all(&pair.tw, topic, "later", 3).await?);
            if seen == "stopped" {
                process.restart()?;
            }
            if policy == "halt" {
                let halted = |flow: &Value| is_quarantined(flow, topic, "data_loss");
                until_status(&mut process, &flow, WAIT, halted).await?;
                ensure!(
                    crate::regions::read(&pair.jp, topic).await?.is_empty(),
                    "{}",
                    process.log_tail()
                );
                resume(&process, &flow, &["--topic", topic]).await?;
            }
            holds(&pair.jp, topic, &all[still..], &process)
                .await
                .with_context(|| format!("{name} from {first}"))?;
            until_status(&mut process, &flow, WAIT, |flow| told_of(flow, first)).await?;
            // What was copied before the source's log start is gone, and nobody knows how much the target still had of it.
            let counted = lost(&process, "target_recreated").await?;
            let expected = (first > 0).then_some(1.0);
            ensure!(
                counted == expected,
                "{name} from {first}: {counted:?}\n{}",
                process.log_tail()
            );
            until(WAIT, "the copy of the position", || async {
                match position(&pair.tw, &format!("kuroshio.{flow}"), topic, 0).await {
                    Ok(Stored::Offset(copy)) if copy.offset == all.len() as i64 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
    }
    Ok(())
}
