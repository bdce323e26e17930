//! What the suites of MirrorMaker 2 and of Redpanda's migrator check of topics, where no other module has it. Their names stand at each.

use std::cell::Cell;

use anyhow::{Context, Result, ensure};
use kuroshio_core::origin;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Pair, RawRecord, append, pair, until};
use kuroshio_wire::{Committer, GroupOffset, Stored};
use rdkafka::message::{Headers, Message};
use serde_json::{Value, json};

use crate::both_ways::only_tag;
use crate::groups::{commit, quick, until_follows};
use crate::growth::until_wide;
use crate::regions::{ALL_SLOTS, WAIT, one_way, read, seat, until_there, wire, write};

/// A topic whose records may be old.
async fn kept(all: &[&Cluster], topic: &str, partitions: i32) -> Result<()> {
    for cluster in all {
        let configs = [("retention.ms", "-1")];
        cluster.create_topic(topic, partitions, &configs).await?;
    }
    Ok(())
}

/// `EmptyTopicReplication`: a topic without records is made nevertheless, with what is set on it, and stays empty.
#[tokio::test]
async fn an_empty_topic_is_there_and_empty() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "scenario.hollow";
    tw.create_topic(topic, 4, &[("retention.ms", "7654321")]).await?;
    let mut process = Kuroshio::run(one_way(pair().await?, "scenario-hollow", &["scenario[.]hollow"]))?;
    process.ready(WAIT).await?;
    until_wide(jp, topic, 4)
        .await
        .with_context(|| process.log_tail())?;
    ensure!(read(jp, topic).await?.is_empty());
    write(tw, (topic, 3), (b"k", Some(b"first")), Default::default()).await?;
    let copies = until_there(jp, topic, 1)
        .await
        .with_context(|| process.log_tail())?;
    ensure!(copies[0].partition() == 3);
    Ok(())
}

/// `OutputCustomHeaders`: whatever stands in headers of our name, the copy says where it came from, and everything else stays.
#[tokio::test]
async fn no_header_of_the_user_passes_for_provenance() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let topic = "scenario.forged";
    kept(&[tw, jp], topic, 1).await?;
    let check = String::from_utf8(origin::check(Some(b"k"), Some(b"v")).text().to_vec())?;
    let forged: [&[&str]; 6] = [
        &[""],
        &["jp"],
        // Of other bytes; of another topic, partition or name; well formed, but not the last word.
        &["jp/scenario.forged/0/5#AAAAAA"],
        &[&format!("jp/scenario.other/0/5#{check}")],
        &[&format!("jp/scenario.forged/1/5#{check}")],
        &[
            &format!("jp/scenario.forged/0/5=other#{check}"),
            "jp/scenario.forged/0/5#AAAAAA",
        ],
    ];
    for tags in forged {
        let own = (b"own".to_vec(), Some(b"stays".to_vec()));
        let tag = |tag: &&str| (origin::HEADER.as_bytes().to_vec(), Some(tag.as_bytes().to_vec()));
        let record = RawRecord {
            key: Some(b"k".to_vec()),
            value: Some(b"v".to_vec()),
            headers: std::iter::once(own.clone())
                .chain(tags.iter().map(tag))
                .chain([own])
                .collect(),
            timestamp: 1_700_000_000_000 + i64::from(tags.len() > 1),
        };
        append(tw, topic, 0, &[record]).await?;
    }
    let mut process = Kuroshio::run(one_way(pair().await?, "scenario-forged", &["scenario[.]forged"]))?;
    process.ready(WAIT).await?;
    let copies = until_there(jp, topic, forged.len())
        .await
        .with_context(|| process.log_tail())?;
    for (copy, offset) in copies.iter().zip(0..) {
        let birth = only_tag(copy)?.birth();
        ensure!(birth.cluster == "tw" && birth.offset.0 == offset, "{copy:?}");
        let all = copy.headers().context("no headers")?;
        let own = all.iter().filter(|header| header.key == "own").count();
        ensure!(own == 2 && all.count() == 3, "{copy:?}");
    }
    Ok(())
}

/// The exact offsets for equal timestamps and for such that go back, which lookups by time cannot tell apart.
#[tokio::test]
async fn offsets_are_exact_whatever_the_timestamps_say() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (topic, group) = ("scenario.times", "scenario-times.app");
    let flow = "scenario-times-tw-jp";
    kept(&[tw, jp], topic, 3).await?;
    let config = quick(
        one_way(pair().await?, "scenario-times", &["scenario[.]times"]),
        "scenario-times",
    );
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let base = 1_700_000_000_000;
    let times: [fn(i64) -> i64; 3] = [|_| 0, |number| -number, |number| number % 3];
    // In two parts: behind the end of a transaction the target's offsets are others.
    for part in [0..100, 100..300] {
        let count = usize::try_from(part.end)?;
        for (partition, time) in (0..).zip(times) {
            let records: Vec<_> = part
                .clone()
                .map(|number| RawRecord {
                    value: Some(number.to_string().into_bytes()),
                    timestamp: base + time(number),
                    ..RawRecord::default()
                })
                .collect();
            append(tw, topic, partition, &records).await?;
        }
        until_there(jp, topic, 3 * count)
            .await
            .with_context(|| process.log_tail())?;
    }
    for offsets in [[1, 150, 299], [2, 151, 300], [0, 7, 8]] {
        commit(tw, group, topic, offsets, "").await?;
        until_follows(jp, flow, group, topic, offsets)
            .await
            .with_context(|| process.log_tail())?;
    }
    Ok(())
}

/// `JiraCON229`: four topics of four partitions with a thousand records each, and a group that reads all of them.
#[tokio::test]
async fn one_group_over_many_topics() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (ledger, group) = (Ledger::new(130), "scenario-con229.app");
    let topics = ["a", "b", "c", "d"].map(|name| format!("scenario.con229.{name}"));
    let load = Load {
        records: 1_000,
        partitions: 4,
        rate: None,
    };
    for topic in &topics {
        tw.create_topic(topic, 4, &[]).await?;
        ledger.produce(tw, topic, load).await?;
    }
    let config = quick(
        one_way(pair().await?, "scenario-con229", &["scenario[.]con229[.].*"]),
        "scenario-con229",
    );
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    for topic in &topics {
        let report = ledger.compare(jp, topic, &[("tw", topic)], WAIT).await?;
        ensure!(report.is_exact(), "{topic}: {report}\n{}", process.log_tail());
    }
    let offset = |topic: &String, partition: i32, offset: i64| {
        let offset = GroupOffset {
            offset,
            leader_epoch: None,
            metadata: "".into(),
        };
        (TopicPartition::new(topic.as_str(), partition), offset)
    };
    let committed: Vec<_> = topics
        .iter()
        .zip(1..)
        .flat_map(|(topic, number)| {
            (0..4).map(move |partition| offset(topic, partition, 40 * number + i64::from(partition)))
        })
        .collect();
    for outcome in wire(tw)
        .commit_offsets(group, Committer::Observer, &committed)
        .await?
        .into_values()
    {
        outcome?;
    }
    let partitions: Vec<_> = committed.iter().map(|(partition, _)| partition.clone()).collect();
    let held = until(WAIT, "offsets of all partitions", || async {
        let held = wire(jp).fetch_offsets(group, Some(&partitions)).await;
        let held = held.map_err(|why| why.to_string())?;
        let count = held
            .values()
            .filter(|stored| matches!(stored, Ok(Stored::Offset(_))))
            .count();
        if count == partitions.len() {
            Ok(held)
        } else {
            Err(format!("{count} of {}", partitions.len()))
        }
    })
    .await
    .with_context(|| process.log_tail())?;
    // Nothing but our copies lies there: the record at the offset is the one that the group had not read.
    for topic in &topics {
        let copies = read(jp, topic).await?;
        for (partition, wanted) in committed.iter().filter(|(at, _)| *at.topic == **topic) {
            let Some(Ok(Stored::Offset(at))) = held.get(partition) else {
                continue;
            };
            let copy = copies
                .iter()
                .find(|copy| copy.partition() == partition.partition && copy.offset() >= at.offset);
            let copy = copy.context("nothing lies behind the offset")?;
            let birth = only_tag(copy)?.birth().offset.0;
            ensure!(
                birth == wanted.offset,
                "{partition}: {birth} for {}",
                wanted.offset
            );
        }
    }
    Ok(())
}

/// Waits until all slots of the flow are owned, some by each of these.
async fn until_shared(processes: &[Kuroshio], flow: &str) -> Result<()> {
    let what = format!("{} processes to share {flow}", processes.len());
    let shared = until(WAIT, &what, || async {
        let mut slots = Vec::new();
        for process in processes {
            slots.push(seat(process, flow).await.map_err(|why| format!("{why:#}"))?.0);
        }
        if slots.iter().sum::<usize>() == ALL_SLOTS && !slots.contains(&0) {
            Ok(())
        } else {
            Err(format!("{slots:?}"))
        }
    });
    shared
        .await
        .with_context(|| processes.iter().map(Kuroshio::log_tail).collect::<String>())
}

/// `testMultiNodeCluster`, `testSingleNodeCluster`: several processes in exactly_once, aliases that are not mere words, topics that appear
/// after the start, and a rolling restart with other rules, in the middle of which one process more is started.
#[tokio::test]
async fn a_rolling_restart_brings_new_rules_to_all() -> Result<()> {
    let Pair { tw, jp } = pair().await?;
    let (ledger, flow) = (Ledger::new(131), "rolling-tw-jp");
    let mut config = one_way(pair().await?, "rolling", &["rolling[.].*"]);
    let aliases = ("t.w_1-a", "j.p_2-b");
    config["clusters"] = json!({
        aliases.0: config["clusters"]["tw"],
        aliases.1: config["clusters"]["jp"],
    });
    config["flows"][0]["source"] = json!(aliases.0);
    config["flows"][0]["target"] = json!(aliases.1);
    config["defaults"]["naming"] = json!("prefix");
    let copy = |topic: &str| format!("{}.{topic}", aliases.0);
    let node = |number: usize| {
        let mut config = config.clone();
        config["instance"] = json!(format!("rolling-{number}"));
        config
    };
    let (old, late, new) = ("rolling.orders", "rolling.late", "rolled.orders");
    for topic in [old, new] {
        tw.create_topic(topic, 12, &[]).await?;
    }
    let load = |records| Load {
        records,
        partitions: 12,
        rate: Some(500),
    };
    ledger.produce(tw, new, load(500)).await?;
    // The first one divides the work, also when it is the last that knows the old rules.
    let mut processes = vec![Kuroshio::run(node(0))?];
    processes[0].ready(WAIT).await?;
    for number in 1..3 {
        processes.push(Kuroshio::run(node(number))?);
    }
    for process in &mut processes[1..] {
        process.ready(WAIT).await?;
    }
    until_shared(&processes, flow).await?;
    let over = Cell::new(false);
    let writing = async {
        while !over.get() {
            ledger.produce(tw, old, load(1_000)).await?;
        }
        anyhow::Ok(())
    };
    let rolling = async {
        tw.create_topic(late, 12, &[]).await?;
        ledger.produce(tw, late, load(500)).await?;
        let wider = |config: &mut Value| {
            config["defaults"]["topics"]["include"] = json!(["rolling[.].*", "rolled[.].*"]);
        };
        for at in [1, 2, 0] {
            processes[at].terminate()?;
            let ended = processes[at].exited(WAIT).await?;
            ensure!(ended.code() == Some(0), "{}", processes[at].log_tail());
            processes[at].rewrite_config(wider)?;
            processes[at].restart()?;
            processes[at].ready(WAIT).await?;
            if at == 1 {
                let mut config = node(3);
                wider(&mut config);
                let mut more = Kuroshio::run(config)?;
                more.ready(WAIT).await?;
                processes.push(more);
            }
        }
        until_shared(&processes, flow).await?;
        over.set(true);
        Ok(processes)
    };
    let (_, processes) = tokio::try_join!(writing, rolling)?;
    for topic in [old, late, new] {
        let report = ledger.compare(jp, &copy(topic), &[("tw", topic)], WAIT).await?;
        ensure!(
            report.is_exact(),
            "{topic}: {report}\n{}",
            processes.iter().map(Kuroshio::log_tail).collect::<String>()
        );
    }
    Ok(())
}
