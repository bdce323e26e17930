//! Forty groups all over a log of 200,000 records, translated by Kuroshio and by MirrorMaker 2 side by side, before and after a restart
//! of both.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_core::groups::Mark;
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Mm2, pair, until};
use kuroshio_wire::{Committer, GroupOffset, Stored};

use crate::application::Birth;
use crate::groups::quick;
use crate::regions::{WAIT, both_ways, ends, on_all, one_way, until_copied, until_there, wire};
use crate::takeover::{SLOW, properties, until_begun};
use crate::translation::{births, load, spread, transactions, write_again};

/// Five rounds of MirrorMaker 2's, as it is told here.
const ROUNDS: Duration = Duration::from_secs(5);

/// How far from the first unread record groups were put.
struct Row {
    what: &'static str,
    errors: Vec<i64>,
    /// Groups without an offset.
    none: usize,
}

impl Row {
    fn print(&mut self) {
        self.errors.sort_unstable();
        let (median, most) = (self.errors.get(self.errors.len() / 2), self.errors.last());
        println!(
            "| {} | {} of {} | {} | {} | {} |",
            self.what,
            self.errors.iter().filter(|error| **error == 0).count(),
            self.errors.len() + self.none,
            median.copied().unwrap_or_default(),
            most.copied().unwrap_or_default(),
            self.none
        );
    }
}

/// Commits an offset of partition 0 for each group.
async fn stand(cluster: &Cluster, topic: &str, groups: &BTreeMap<String, i64>) -> Result<()> {
    let cluster = wire(cluster);
    for (group, offset) in groups {
        let offset = GroupOffset {
            offset: *offset,
            leader_epoch: None,
            metadata: "".into(),
        };
        let written = cluster
            .commit_offsets(
                group,
                Committer::Observer,
                &[(TopicPartition::new(topic, 0), offset)],
            )
            .await?;
        written.into_values().collect::<Result<Vec<()>, _>>()?;
    }
    Ok(())
}

/// What groups have for partition 0.
async fn held(
    cluster: &Cluster,
    topic: &str,
    groups: &BTreeMap<String, i64>,
) -> Result<BTreeMap<String, GroupOffset>> {
    let names: Vec<_> = groups.keys().map(|group| group.as_str().into()).collect();
    let partition = TopicPartition::new(topic, 0);
    let mut held = BTreeMap::new();
    for (group, stored) in wire(cluster).fetch_offsets_of(&names).await {
        if let Some(Ok(Stored::Offset(offset))) = stored?.remove(&partition) {
            held.insert(group.to_string(), offset);
        }
    }
    Ok(held)
}

/// Waits until Kuroshio has put all groups of `from` where they belong on `to`, and compares with all records.
async fn judge(
    what: &'static str,
    (from, to): (&Cluster, &Cluster),
    topic: &str,
    groups: &BTreeMap<String, i64>,
) -> Result<Row> {
    let followed = until(WAIT * 2, "all groups to follow", || async {
        let held = held(to, topic, groups)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let right = groups.iter().all(|(group, wanted)| {
            let mark = held.get(group).and_then(|held| Mark::parse(&held.metadata));
            mark.is_some_and(|mark| mark.source == *wanted)
        });
        if right { Ok(held) } else { Err(format!("{held:?}")) }
    })
    .await?;
    let at_source: HashMap<Birth, i64> = births(from, topic)
        .await?
        .into_iter()
        .map(|(offset, birth)| (birth, offset))
        .collect();
    let there = births(to, topic).await?;
    let mut errors = Vec::new();
    for (group, wanted) in groups {
        let unread = there
            .iter()
            .find(|(_, birth)| at_source.get(birth).is_none_or(|at| at >= wanted));
        let end = ends(to, &[topic]).await?[&TopicPartition::new(topic, 0)];
        let truth = unread.map_or(end, |(at, _)| *at);
        let at = followed[group].offset;
        // Between the two there may be a marker, which nobody reads.
        let again = there
            .iter()
            .filter(|(other, _)| (at..truth).contains(other))
            .count();
        ensure!(
            at <= truth && again == 0,
            "{what}: {group} at {wanted} became {at}, not {truth}"
        );
        errors.push(i64::try_from(again)?);
    }
    Ok(Row {
        what,
        errors,
        none: 0,
    })
}

/// Where MirrorMaker 2 has put the groups, once it has had its time: it gives no sign of being done.
async fn judge_mm2(
    what: &'static str,
    (from, to): (&Cluster, &Cluster),
    (topic, copy): (&str, &str),
    groups: &BTreeMap<String, i64>,
) -> Result<Row> {
    // What did not change in five of its rounds is its answer.
    let held = until(SLOW, "MirrorMaker 2 to have nothing left to write", || async {
        let look = async || held(to, copy, groups).await.map_err(|error| format!("{error:#}"));
        let before = look().await?;
        tokio::time::sleep(ROUNDS).await;
        let now = look().await?;
        if now == before && !now.is_empty() {
            Ok(now)
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await?;
    let records = births(from, topic).await?;
    let (mut errors, mut none) = (Vec::new(), 0);
    for (group, wanted) in groups {
        // It copies record by record, without gaps.
        let truth = i64::try_from(records.iter().filter(|(at, _)| at < wanted).count())?;
        match held.get(group) {
            Some(held) => errors.push(truth - held.offset),
            None => none += 1,
        }
    }
    Ok(Row { what, errors, none })
}

fn groups(name: &str, seed: u64, end: i64) -> BTreeMap<String, i64> {
    let offsets = spread(seed, end).into_iter();
    (0..)
        .zip(offsets)
        .map(|(number, offset): (u32, _)| (format!("beside.{name}.{number:02}"), offset))
        .collect()
}

#[tokio::test]
async fn forty_groups_on_a_topic_of_200_000_records() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, copy) = ("beside.one", "bstw.beside.one");
    on_all(&[tw], topic, 1).await?;
    let mut process = Kuroshio::run(quick(one_way(pair, "beside-one", &["beside[.]one"]), "beside"))?;
    process.ready(WAIT).await?;
    let told = properties(
        pair,
        "bs",
        "beside[.]one",
        &[
            "groups = beside[.].*",
            "sync.group.offsets.enabled = true",
            "sync.group.offsets.interval.seconds = 1",
            "emit.checkpoints.interval.seconds = 1",
            "refresh.groups.interval.seconds = 1",
            "emit.heartbeats.enabled = false",
        ],
    )?;
    let ledger = Ledger::new(95);
    load(pair, &ledger, topic, &["tw"], 100_000).await?;
    let mm2 = Mm2::start(&told, "-Xms64m -Xmx512m")?;
    transactions(tw, topic, 300).await?;
    until_there(jp, topic, 102_000).await?;
    write_again(jp, topic, 1_000).await?;
    load(pair, &ledger, topic, &["tw"], 98_000).await?;
    let all = 100_000 + 2_000 + 98_000;
    until_begun(jp, copy, all, &mm2).await?;
    until_there(jp, topic, usize::try_from(all + 1_000)?).await?;
    let end = ends(tw, &[topic]).await?[&TopicPartition::new(topic, 0)];

    let first = groups("a", 1, end);
    stand(tw, topic, &first).await?;
    let mut rows = vec![
        judge("Kuroshio", (tw, jp), topic, &first).await?,
        judge_mm2("MirrorMaker 2", (tw, jp), (topic, copy), &first).await?,
    ];
    process.kill()?;
    process.restart()?;
    mm2.stop()?;
    let mm2 = Mm2::start(&told, "-Xms64m -Xmx512m")?;
    process.ready(WAIT).await?;
    let second = groups("b", 2, end);
    stand(tw, topic, &second).await?;
    rows.push(judge("Kuroshio, restarted", (tw, jp), topic, &second).await?);
    // What it had has gone on; it knows nothing of the new groups until it is there again.
    until(SLOW, "MirrorMaker 2 to write a group", || async {
        match held(jp, copy, &second).await {
            Ok(held) if !held.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| mm2.log_tail())?;
    rows.push(judge_mm2("MirrorMaker 2, restarted", (tw, jp), (topic, copy), &second).await?);
    drop(mm2);

    // Written on both sides: the first record that was not read, of whichever side.
    let topic = "beside.both";
    on_all(&[tw, jp], topic, 1).await?;
    let mut both = Kuroshio::run(quick(
        both_ways(pair, "beside-both", &["beside[.]both"]),
        "beside",
    ))?;
    both.ready(WAIT).await?;
    for _ in 0..4 {
        let part = Load {
            records: 5_000,
            partitions: 1,
            rate: None,
        };
        tokio::try_join!(ledger.produce(tw, topic, part), ledger.produce(jp, topic, part))?;
    }
    until_copied(&both, "beside-both-tw-jp", 20_000, WAIT).await?;
    until_copied(&both, "beside-both-jp-tw", 20_000, WAIT).await?;
    let end = ends(tw, &[topic]).await?[&TopicPartition::new(topic, 0)];
    // Groups stand behind what was committed.
    until_there(tw, topic, 40_000).await?;
    until_there(jp, topic, 40_000).await?;
    let third = groups("c", 3, end);
    stand(tw, topic, &third).await?;
    rows.push(judge("Kuroshio, active-active", (tw, jp), topic, &third).await?);
    both.kill()?;
    both.restart()?;
    both.ready(WAIT).await?;
    let fourth = groups("d", 4, end);
    stand(tw, topic, &fourth).await?;
    rows.push(judge("Kuroshio, active-active, restarted", (tw, jp), topic, &fourth).await?);

    println!("| | exact | records read again, median | most | without an offset |\n|---|---|---|---|---|");
    rows.iter_mut().for_each(Row::print);
    Ok(())
}
