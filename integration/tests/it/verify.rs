//! `kuroshio verify`: says that all is well where it is, and each fault by its name where it was planted.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use kuroshio_core::origin::{Forward, Guard, HEADER, check};
use kuroshio_core::types::{SourceOffset, TopicPartition};
use kuroshio_core::verify::Sample;
use kuroshio_integration::{Cluster, Ended, Kuroshio, Ledger, Load, RawRecord, append, command, pair, until};
use kuroshio_wire::{Committer, GroupOffset};
use serde_json::{Value, json};

use crate::regions::{WAIT, both_ways, now, on_all, one_way, until_stored, until_there, wire};

/// What `kuroshio verify` says, and how it ended.
pub(crate) async fn verify(config: &Value, more: &[&str]) -> Result<(Ended, Value)> {
    let args = [&["verify", "--config", "{config}", "--output", "json"], more].concat();
    let ended = command(&args, Some(config), WAIT).await?;
    let report = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    Ok((ended, report))
}

fn totals(report: &Value, of: &[&str]) -> Vec<u64> {
    let totals = &report["flows"][0]["totals"];
    of.iter()
        .map(|name| totals[name].as_u64().unwrap_or(u64::MAX))
        .collect()
}

const FAULTS: [&str; 5] = ["lost", "doubled", "reordered", "altered", "unexpected"];

#[tokio::test]
async fn topics_that_are_written_on_both_sides_are_proved_while_they_are_copied() -> Result<()> {
    let pair = pair().await?;
    let topic = "proved.orders";
    on_all(&[&pair.tw, &pair.jp], topic, 3).await?;
    let mut config = both_ways(pair, "proved", &["proved[.].*"]);
    config["instance"] = json!("proved");
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 3_000,
        partitions: 3,
        rate: None,
    };
    let ledger = Ledger::new(211);
    for side in [&pair.tw, &pair.jp] {
        ledger.produce(side, topic, load).await?;
    }
    for side in [&pair.tw, &pair.jp] {
        until_there(side, topic, 6_000).await?;
    }
    // It may be asked at any time: what is not copied yet does not count.
    until(WAIT, "both flows to have copied all", || async {
        let (ended, report) = verify(&config, &[]).await.map_err(|why| format!("{why:#}"))?;
        let flows = report["flows"].as_array().cloned().unwrap_or_default();
        if ended.code != Some(0) || flows.len() != 2 {
            return Err(format!("{ended:?}"));
        }
        let whole = flows.iter().all(|flow| {
            let totals = &flow["totals"];
            totals["there"] == 3_000 && totals["expected"] == 3_000 && totals["skipped"] == 3_000
        });
        whole.then_some(()).ok_or_else(|| format!("{report}"))
    })
    .await?;
    let one = [
        "verify",
        "--config",
        "{config}",
        "--flow",
        "proved-tw-jp",
        "--topic",
        topic,
    ];
    let ended = command(&one, Some(&config), WAIT).await?;
    ensure!(
        ended.code == Some(0) && ended.stdout.contains("ok: everything") && ended.stdout.contains("3,000"),
        "{ended:?}"
    );
    let none = ["verify", "--config", "{config}", "--topic", "nowhere"];
    let ended = command(&none, Some(&config), WAIT).await?;
    ensure!(
        ended.code == Some(1) && ended.stderr.contains("--topic nowhere"),
        "{ended:?}"
    );
    process.terminate()?;
    process.exited(WAIT).await?;
    Ok(())
}

fn written(number: i64, timestamp: i64) -> RawRecord {
    RawRecord {
        key: Some(format!("k{}", number % 3).into_bytes()),
        value: Some(format!("v{number}").into_bytes()),
        headers: vec![(b"h".to_vec(), Some(b"1".to_vec()))],
        timestamp,
    }
}

/// The copy of a record that lies at `offset` in `topic` on `from`, as a flow to `to` would write it.
fn copy(record: &RawRecord, (from, to): (&str, &str), topic: &str, offset: i64) -> Result<RawRecord> {
    let guard = Guard::new(from, topic, 0, to, topic, Forward::Local)?;
    let mut tag = Vec::new();
    let check = check(record.key.as_deref(), record.value.as_deref());
    guard.write(&mut tag, None, SourceOffset(offset), check);
    let mut copy = record.clone();
    copy.headers.push((HEADER.as_bytes().to_vec(), Some(tag)));
    Ok(copy)
}

/// Puts the position of a stopped flow behind `offset`, as if it had copied everything before.
async fn pretend(kafka: &Cluster, flow: &str, topic: &str, stored: GroupOffset, offset: i64) -> Result<()> {
    let offsets = [(TopicPartition::new(topic, 0), GroupOffset { offset, ..stored })];
    let group = format!("kuroshio.{flow}");
    until(WAIT, "the group to be empty", || async {
        let outcomes = wire(kafka)
            .commit_offsets(&group, Committer::Observer, &offsets)
            .await
            .map_err(|why| why.to_string())?;
        outcomes
            .into_values()
            .try_for_each(|outcome| outcome.map_err(|why| why.to_string()))
    })
    .await
}

#[tokio::test]
async fn each_planted_fault_is_named_with_its_offsets() -> Result<()> {
    let pair = pair().await?;
    let (topic, flow, ends) = ("planted.orders", "planted-tw-jp", ("tw", "jp"));
    for side in [&pair.tw, &pair.jp] {
        side.create_topic(topic, 1, &[]).await?;
    }
    let mut config = one_way(pair, "planted", &["planted[.].*"]);
    config["instance"] = json!("planted");
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let hour_ago = now()? - 3_600_000;
    let mut source: Vec<RawRecord> = (0..11).map(|number| written(number, hour_ago + number)).collect();
    append(&pair.tw, topic, 0, &source[..5]).await?;
    until_there(&pair.jp, topic, 5).await?;
    let stored = until_stored(&pair.jp, &format!("kuroshio.{flow}"), topic, 0).await?;
    process.terminate()?;
    process.exited(WAIT).await?;

    // One that came from jp is not copied back.
    source.push(copy(&written(11, hour_ago), ("jp", "tw"), topic, 77)?);
    append(&pair.tw, topic, 0, &source[5..]).await?;
    let honest = |offset: i64| copy(&source[usize::try_from(offset)?], ends, topic, offset);
    let mut other_value = honest(8)?;
    other_value.value = Some(b"v8!".to_vec());
    let mut other_header = honest(9)?;
    other_header.headers[0].1 = Some(b"1!".to_vec());
    let copies = [
        honest(5)?,
        honest(7)?,
        honest(6)?,
        other_value,
        other_header,
        honest(5)?,
        honest(11)?,
    ];
    append(&pair.jp, topic, 0, &copies).await?;
    pretend(&pair.jp, flow, topic, stored, 12).await?;

    let (ended, report) = verify(&config, &[]).await?;
    ensure!(ended.code == Some(2) && report["ok"] == false, "{ended:?}");
    ensure!(totals(&report, &FAULTS) == [1, 1, 1, 2, 1], "{report}");
    ensure!(
        totals(&report, &["expected", "there", "skipped"]) == [11, 10, 1],
        "{report}"
    );
    let ranges: Vec<_> = report["flows"][0]["partitions"][0]["faults"]
        .as_array()
        .context("no faults")?
        .iter()
        .map(|range| {
            let fault = range["fault"].as_str().unwrap_or_default();
            format!("{fault} {} {}", range["from"], range["to"])
        })
        .collect();
    let expected = [
        "reordered 6 7",
        "altered 9 10",
        "doubled 5 6",
        "unexpected 11 12",
        "altered 8 9",
        "lost 10 11",
    ];
    ensure!(ranges == expected, "{ranges:?}");
    let text = command(&["verify", "--config", "{config}"], Some(&config), WAIT).await?;
    ensure!(
        text.code == Some(2)
            && text.stdout.contains("NOT ok")
            && text
                .stdout
                .contains("planted.orders-0: lost: source offsets 10 to 10"),
        "{text:?}"
    );
    // None of it is young enough.
    let (ended, report) = verify(&config, &["--since", "30m"]).await?;
    ensure!(
        ended.code == Some(0) && totals(&report, &["expected"]) == [0],
        "{ended:?}"
    );
    let (ended, report) = verify(&config, &["--since", "2h"]).await?;
    ensure!(
        ended.code == Some(2) && totals(&report, &FAULTS) == [1, 1, 1, 2, 1],
        "{ended:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_compaction_took_is_not_lost() -> Result<()> {
    let pair = pair().await?;
    let (topic, flow) = ("tidied.orders", "tidied-tw-jp");
    for side in [&pair.tw, &pair.jp] {
        side.create_topic(topic, 1, &[("cleanup.policy", "compact")])
            .await?;
    }
    let mut config = one_way(pair, "tidied", &["tidied[.].*"]);
    config["instance"] = json!("tidied");
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let now = now()?;
    let source: Vec<RawRecord> = (0..8).map(|number| written(number, now)).collect();
    append(&pair.tw, topic, 0, &source[..3]).await?;
    until_there(&pair.jp, topic, 3).await?;
    let stored = until_stored(&pair.jp, &format!("kuroshio.{flow}"), topic, 0).await?;
    process.terminate()?;
    process.exited(WAIT).await?;
    // Of 3, 4, 5, 6, 7 only 6 is there: 3 has its key. 4 and 5 have successors with their keys too, 7 on the source, 8 on the target.
    append(&pair.tw, topic, 0, &source[3..]).await?;
    let mut born = written(8, now);
    born.key.clone_from(&source[5].key);
    append(
        &pair.jp,
        topic,
        0,
        &[copy(&source[6], ("tw", "jp"), topic, 6)?, born],
    )
    .await?;
    pretend(&pair.jp, flow, topic, stored, 8).await?;
    let (ended, report) = verify(&config, &[]).await?;
    let found = totals(&report, &["expected", "there", "compacted", "lost"]);
    // 7 itself has no successor.
    ensure!(ended.code == Some(2) && found == [8, 4, 3, 1], "{report}");
    Ok(())
}

#[tokio::test]
async fn a_sample_finds_what_lies_in_its_stretches() -> Result<()> {
    const COPIED: u64 = 25_000;
    const LOST: i64 = 12_000;
    let pair = pair().await?;
    let (topic, flow) = ("drawn.orders", "drawn-tw-jp");
    on_all(&[&pair.tw, &pair.jp], topic, 1).await?;
    let mut config = one_way(pair, "drawn", &["drawn[.].*"]);
    config["instance"] = json!("drawn");
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let load = Load {
        records: COPIED,
        partitions: 1,
        rate: None,
    };
    let ledger = Ledger::new(212);
    // Others write to the target, too: offsets are not those of the source.
    tokio::try_join!(
        ledger.produce(&pair.tw, topic, load),
        ledger.produce(
            &pair.jp,
            topic,
            Load {
                records: 3_000,
                ..load
            }
        )
    )?;
    until_there(&pair.jp, topic, 28_000).await?;
    process.terminate()?;
    process.exited(WAIT).await?;
    let copied = i64::try_from(COPIED)?;
    let partition = TopicPartition::new(topic, 0);
    let drawn = |seed, end| Sample { percent: 30.0, seed }.stretches(&partition, 0..end);
    let within = |stretches: &[Range<i64>], of: Range<i64>| -> i64 {
        let both = |one: &Range<i64>| (one.end.min(of.end) - one.start.max(of.start)).max(0);
        stretches.iter().map(both).sum()
    };
    let sampled = async |seed: u64| {
        let seed = seed.to_string();
        verify(&config, &["--sample", "30%", "--seed", &seed]).await
    };
    for seed in [1, 2, 3] {
        let (ended, report) = sampled(seed).await?;
        let expected = within(&drawn(seed, copied), 0..copied).unsigned_abs();
        ensure!(
            ended.code == Some(0) && totals(&report, &["expected", "there"]) == [expected, expected],
            "{expected} {report}"
        );
        ensure!(
            report["sample"] == json!({ "percent": 30.0, "seed": seed }),
            "{report}"
        );
    }

    let source: Vec<RawRecord> = (0..LOST)
        .map(|number| written(number, 1_700_000_000_000))
        .collect();
    for part in source.chunks(500) {
        append(&pair.tw, topic, 0, part).await?;
    }
    let stored = until_stored(&pair.jp, &format!("kuroshio.{flow}"), topic, 0).await?;
    pretend(&pair.jp, flow, topic, stored, copied + LOST).await?;
    let (ended, report) = verify(&config, &["--sample", "100"]).await?;
    let all = [COPIED + LOST.unsigned_abs(), COPIED, LOST.unsigned_abs()];
    ensure!(
        ended.code == Some(2) && totals(&report, &["expected", "there", "lost"]) == all,
        "{report}"
    );
    for seed in [1, 2, 3, 4] {
        let (ended, report) = sampled(seed).await?;
        let stretches = drawn(seed, copied + LOST);
        let lost = within(&stretches, copied..copied + LOST).unsigned_abs();
        let there = within(&stretches, 0..copied).unsigned_abs();
        ensure!(
            totals(&report, &["expected", "there", "lost"]) == [lost + there, there, lost]
                && ended.code == Some(if lost > 0 { 2 } else { 0 }),
            "seed {seed}, {stretches:?}: {report}"
        );
    }
    Ok(())
}
