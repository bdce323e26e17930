//! Offsets of users' groups on the target follow those on the source: only what is ours, and never so that a record is skipped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_core::groups::Mark;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Process, pair, until};
use kuroshio_wire::{Committer, GroupOffset, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

use crate::regions::{WAIT, both_ways, headers, on_all, one_way, read, until_there, wire};

const PARTITIONS: i32 = 3;
const LOAD: Load = Load {
    records: 3_000,
    partitions: PARTITIONS,
    rate: None,
};

/// With groups looked at five times a second.
pub(crate) fn quick(mut config: Value, group: &str) -> Value {
    config["defaults"]["groups"] = json!({ "include": [format!("{group}[.].*")], "interval": "200ms" });
    config
}

/// Commits offsets of partitions 0, 1, 2 as a consumer that is not there any more, or as an administrator.
pub(crate) async fn commit(
    cluster: &Cluster,
    group: &str,
    topic: &str,
    offsets: [i64; 3],
    note: &str,
) -> Result<()> {
    let offset = |(partition, offset): (i32, i64)| {
        let offset = GroupOffset {
            offset,
            leader_epoch: None,
            metadata: note.into(),
        };
        (TopicPartition::new(topic, partition), offset)
    };
    let offsets: Vec<_> = (0..).zip(offsets).map(offset).collect();
    let written = wire(cluster)
        .commit_offsets(group, Committer::Observer, &offsets)
        .await?;
    for outcome in written.into_values() {
        outcome?;
    }
    Ok(())
}

/// What a group has, by partition.
pub(crate) async fn held(cluster: &Cluster, group: &str, topic: &str) -> Result<BTreeMap<i32, GroupOffset>> {
    let partitions: Vec<_> = (0..PARTITIONS)
        .map(|partition| TopicPartition::new(topic, partition))
        .collect();
    let stored = wire(cluster).fetch_offsets(group, Some(&partitions)).await?;
    let mut held = BTreeMap::new();
    for (partition, stored) in stored {
        if let Stored::Offset(offset) = stored? {
            held.insert(partition.partition, offset);
        }
    }
    Ok(held)
}

/// Waits until the group's offsets on `to` say that they were made from `offsets`, and compares them with the records: the first
/// unread one lies at each, and none before.
pub(crate) async fn until_follows(
    to: &Cluster,
    flow: &str,
    group: &str,
    topic: &str,
    offsets: [i64; 3],
) -> Result<()> {
    let made_from = |held: &BTreeMap<i32, GroupOffset>| -> Vec<i64> {
        let marks = held.values().filter_map(|held| Mark::parse(&held.metadata));
        marks
            .filter(|mark| mark.flow == flow)
            .map(|mark| mark.source)
            .collect()
    };
    until(WAIT, &format!("{group} on {}", to.alias()), || async {
        match held(to, group, topic).await {
            Ok(held) if made_from(&held) == offsets => Ok(()),
            Ok(held) => Err(format!("{held:?}, not {offsets:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    let held = held(to, group, topic).await?;
    for record in read(to, topic).await? {
        use rdkafka::message::Message;
        let tag = headers(&record, "kuroshio-origin").pop().context("no tag")?;
        let birth = kuroshio_core::origin::Tag::parse(tag)
            .context("no tag")?
            .birth()
            .offset
            .0;
        let partition = record.partition();
        let wanted = offsets[usize::try_from(partition)?];
        let at = held[&partition].offset;
        ensure!(
            (record.offset() >= at) == (birth >= wanted),
            "partition {partition}: {birth} lies at {}, and {wanted} became {at}",
            record.offset()
        );
    }
    Ok(())
}

/// A consumer that is there, as long as this is.
struct Living {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Living {
    async fn join(cluster: &Cluster, group: &str, topic: &str) -> Result<Self> {
        let mut config = cluster.client();
        config.set("group.id", group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            while matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                let _ = consumer.poll(Duration::from_millis(50));
            }
        });
        let name = group.into();
        until(WAIT, &format!("a member of {group}"), || async {
            match wire(cluster).describe_group(&name).await {
                Ok(group) if &*group.state == "Stable" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.stop.send(()).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[tokio::test]
async fn groups_follow_and_what_others_committed_is_left_alone() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let topic = "groups.follow";
    let flow = "groups-follow-tw-jp";
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let config = quick(
        one_way(pair, "groups-follow", &["groups[.]follow"]),
        "groups-follow",
    );
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(60);
    ledger.produce(tw, topic, LOAD).await?;
    until_there(jp, topic, 3_000).await?;

    // Somebody else's on the target; a group living there; one living on both sides.
    commit(jp, "groups-follow.other", topic, [5, 6, 7], "mine").await?;
    commit(tw, "groups-follow.other", topic, [500, 600, 700], "").await?;
    commit(jp, "groups-follow.living", topic, [1, 2, 3], "").await?;
    let _living = Living::join(jp, "groups-follow.living", topic).await?;
    commit(tw, "groups-follow.living", topic, [500, 600, 700], "").await?;
    commit(tw, "not-included", topic, [500, 600, 700], "").await?;

    // A new group is found, and followed forwards and backwards, over a restart too.
    let group = "groups-follow.a";
    commit(tw, group, topic, [0, 900, 333], "").await?;
    until_follows(jp, flow, group, topic, [0, 900, 333]).await?;
    commit(tw, group, topic, [700, 900, 334], "").await?;
    until_follows(jp, flow, group, topic, [700, 900, 334]).await?;
    process.kill()?;
    process.restart()?;
    process.ready(WAIT).await?;
    commit(tw, group, topic, [20, 901, 600], "").await?;
    until_follows(jp, flow, group, topic, [20, 901, 600]).await?;
    // What was there before this could be told.
    for (group, expected) in [
        ("groups-follow.other", [5, 6, 7]),
        ("groups-follow.living", [1, 2, 3]),
    ] {
        let held: Vec<i64> = held(jp, group, topic)
            .await?
            .values()
            .map(|held| held.offset)
            .collect();
        ensure!(held == expected, "{group}: {held:?}");
    }
    ensure!(held(jp, "not-included", topic).await?.is_empty());
    let series = format!("kuroshio_group_sync_age_seconds{{flow=\"{flow}\",group=\"{group}\"}}");
    let told = |text: &str| {
        let age = text
            .lines()
            .find_map(|line| line.strip_prefix(&series)?.trim().parse::<f64>().ok());
        age.is_some_and(|age| age < 30.0) && !text.contains(&series.replace(group, "groups-follow.other"))
    };
    process.until_http("/metrics", WAIT, told).await?;
    Ok(())
}

/// What a flow wrote for a group is no news for the flow back; once a consumer of the target has committed, it is.
#[tokio::test]
async fn a_translated_offset_is_no_source_for_the_way_back() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let topic = "groups.back";
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let config = quick(both_ways(pair, "groups-back", &["groups[.]back"]), "groups-back");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(61);
    ledger.produce(tw, topic, LOAD).await?;
    until_there(jp, topic, 3_000).await?;
    let group = "groups-back.a";
    commit(tw, group, topic, [100, 200, 300], "").await?;
    until_follows(jp, "groups-back-tw-jp", group, topic, [100, 200, 300]).await?;
    // Followed after it, so that both flows have looked at the first one.
    commit(tw, "groups-back.b", topic, [1, 2, 3], "").await?;
    until_follows(jp, "groups-back-tw-jp", "groups-back.b", topic, [1, 2, 3]).await?;
    commit(jp, "groups-back.c", topic, [10, 20, 30], "").await?;
    until(WAIT, "groups-back.c on tw", || async {
        match held(tw, "groups-back.c", topic).await {
            Ok(held) if held.len() == 3 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let held: Vec<_> = held(tw, group, topic).await?.into_values().collect();
    ensure!(
        held.iter()
            .map(|held| (held.offset, &*held.metadata))
            .eq([(100, ""), (200, ""), (300, "")]),
        "{held:?}"
    );
    Ok(())
}

/// A thousand groups, all of which move; then none does.
#[tokio::test]
async fn many_groups_are_followed() -> Result<()> {
    const GROUPS: usize = 1_000;
    const WIDTH: i32 = 20;
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let topic = "groups.many";
    on_all(&[tw, jp], topic, WIDTH).await?;
    let config = quick(one_way(pair, "groups-many", &["groups[.]many"]), "groups-many");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 40_000,
        partitions: WIDTH,
        rate: None,
    };
    Ledger::new(62).produce(tw, topic, load).await?;
    until_there(jp, topic, 40_000).await?;
    process.terminate()?;
    process.exited(WAIT).await?;
    let names: Vec<Arc<str>> = (0..GROUPS)
        .map(|number| format!("groups-many.{number}").into())
        .collect();
    let offsets = |number: usize| -> Vec<_> {
        let mut random = fastrand::Rng::with_seed(number as u64);
        let offset = |partition| {
            let offset = GroupOffset {
                offset: random.i64(0..1_500),
                leader_epoch: None,
                metadata: "".into(),
            };
            (TopicPartition::new(topic, partition), offset)
        };
        (0..WIDTH).map(offset).collect()
    };
    let source = wire(tw);
    for (number, name) in names.iter().enumerate() {
        source
            .commit_offsets(name, Committer::Observer, &offsets(number))
            .await?;
    }
    process.restart()?;
    process.ready(WAIT).await?;
    let started = Instant::now();
    let target = wire(jp);
    let there = async || -> Result<usize> {
        target.list_groups().await?;
        let held = target.fetch_offsets_of(&names).await;
        let right = |(number, name): (usize, &Arc<str>)| {
            let held = held.get(name)?.as_ref().ok()?;
            let all = offsets(number).into_iter().all(|(partition, offset)| {
                let mark = match held.get(&partition) {
                    Some(Ok(Stored::Offset(held))) => Mark::parse(&held.metadata),
                    _ => None,
                };
                mark.is_some_and(|mark| mark.source == offset.offset)
            });
            all.then_some(())
        };
        Ok(names.iter().enumerate().filter_map(right).count())
    };
    until(WAIT * 2, "a thousand groups on jp", || async {
        match there().await {
            Ok(GROUPS) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    println!(
        "{GROUPS} groups of {WIDTH} partitions: {:?} after the start",
        started.elapsed()
    );
    let cpu = Process { pid: process.pid() };
    let before = cpu.cpu()?;
    tokio::time::sleep(Duration::from_secs(5)).await; // what is measured
    println!(
        "nothing moves: {:?} of CPU in 5 s at five looks a second",
        cpu.cpu()? - before
    );
    Ok(())
}
