//! Coming from MirrorMaker 2: `import --resume` goes on where a real one stopped, in the middle of a load.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_core::groups::Mark;
use kuroshio_integration::{Cluster, Ended, Kuroshio, Ledger, Load, Mm2, Pair, command, pair, until};

use crate::groups::{commit, held};
use crate::regions::{WAIT, ends, on_all, stay_silent, until_there, wire};

const PARTITIONS: i32 = 3;
const LOAD: Load = Load {
    records: 6_000,
    partitions: PARTITIONS,
    rate: Some(200),
};
/// Before MirrorMaker 2 is there.
const FIRST: Load = Load {
    records: 900,
    partitions: PARTITIONS,
    rate: None,
};
/// Two workers start one after the other, on cores that are shared with a build.
pub(crate) const SLOW: Duration = Duration::from_secs(180);

/// The `mm2.properties` of a flow from `<name>tw` to `<name>jp`; nothing waits for its minute.
pub(crate) fn properties(pair: &Pair, name: &str, topics: &str, more: &[&str]) -> Result<String> {
    let (tw, jp) = (format!("{name}tw"), format!("{name}jp"));
    let mut text = format!(
        "clusters = {tw}, {jp}\n{tw}.bootstrap.servers = {}\n{jp}.bootstrap.servers = {}\n\
         {tw}->{jp}.enabled = true\n{tw}->{jp}.topics = {topics}\n{jp}->{tw}.enabled = false\n",
        pair.tw.bootstrap(),
        pair.jp.bootstrap(),
    );
    text.push_str(Mm2::ONE_BROKER);
    for line in more {
        writeln!(text, "{line}")?;
    }
    Ok(text)
}

/// Runs `kuroshio import` on `properties`.
async fn import(properties: &str, arguments: &[&str]) -> Result<Ended> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("mm2.properties");
    std::fs::write(&file, properties)?;
    let path = file.display().to_string();
    let all = [&["import", &path], arguments].concat();
    command(&all, None, WAIT * 2).await
}

/// Waits until `topic` has at least so many records.
pub(crate) async fn until_begun(cluster: &Cluster, topic: &str, records: i64, mm2: &Mm2) -> Result<()> {
    until(SLOW, &format!("MirrorMaker 2 to copy {topic}"), || async {
        match ends(cluster, &[topic]).await {
            Ok(ends) if ends.values().sum::<i64>() >= records => Ok(()),
            Ok(ends) => Err(format!("{ends:?}")),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await
    .with_context(|| mm2.log_tail())
}

#[tokio::test]
async fn a_stopped_mirror_maker_is_taken_over_and_the_way_back_begins_then() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("takeover.same", "takeover-same.app");
    on_all(&[tw], topic, PARTITIONS).await?;
    let properties = properties(
        pair,
        "ts",
        "takeover[.]same",
        &[
            "replication.policy.class = org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
            "groups = takeover-same[.].*",
            "sync.group.offsets.enabled = true",
            "sync.group.offsets.interval.seconds = 1",
            "emit.checkpoints.interval.seconds = 1",
            "refresh.groups.interval.seconds = 1",
            "offset.lag.max = 10",
        ],
    )?;
    let mm2 = Mm2::start(&properties, "-Xms64m -Xmx512m")?;
    let ledger = Ledger::new(80);
    ledger.produce(tw, topic, FIRST).await?;
    until_begun(jp, topic, 900, &mm2).await?;
    let load = ledger.clone();
    let producing = tokio::spawn(async move { load.produce(tw, topic, LOAD).await });
    commit(tw, group, topic, [300, 200, 100], "").await?;
    until(SLOW, "MirrorMaker 2 to write the group", || async {
        match held(jp, group, topic).await {
            Ok(held) if held.len() == 3 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| mm2.log_tail())?;

    // Not beside it.
    let refused = import(&properties, &["--resume"]).await?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("still runs: its group tstw-mm2"),
        "{refused:?}"
    );
    mm2.stop()?;
    let before = held(jp, group, topic).await?;
    let stopped_at: i64 = ends(jp, &[topic]).await?.values().sum();
    ensure!(!producing.is_finished(), "MirrorMaker 2 has copied everything");
    let imported = import(&properties, &["--resume"]).await?;
    ensure!(imported.code == Some(0), "{imported:?}");
    println!("{}", imported.stdout);
    // One more where MirrorMaker 2 has seen the heartbeats of other tests by then: it copies every topic that ends with that word.
    let partitions = imported
        .stdout
        .matches("kuroshio.heartbeats-0 goes on at")
        .count()
        + 3;
    for told in [
        format!("flow tstw-tsjp: {partitions} partitions go on where MirrorMaker 2 stopped"),
        format!("flow tsjp-tstw, if you add it, begins where {partitions} partitions on tsjp end now"),
        "1 groups whose offsets MirrorMaker 2 kept".to_owned(),
    ] {
        ensure!(
            imported.stdout.contains(&told),
            "{told} is not in {}",
            imported.stdout
        );
    }
    let adopted = held(jp, group, topic).await?;
    for (partition, held) in &adopted {
        let mark = Mark::parse(&held.metadata).context("no mark")?;
        ensure!(
            mark.flow == "tstw-tsjp" && held.offset == before[partition].offset,
            "{adopted:?}"
        );
    }

    // The same files, and a way back.
    let config = imported.stdout.replace(
        "defaults:",
        "  - { source: \"tsjp\", target: \"tstw\", topics: { include: [\"takeover[.]same\"] }, naming: identity }\ndefaults:",
    );
    let mut process = Kuroshio::run_printed(&config)?;
    process.ready(WAIT).await?;
    ledger.produce(jp, topic, FIRST).await?;
    producing.await??;
    for cluster in [tw, jp] {
        let report = ledger
            .compare(cluster, topic, &[("tw", topic), ("jp", topic)], WAIT)
            .await?;
        ensure!(
            report.is_exact() && report.expected == 7_800,
            "{}: {report}\n{}",
            cluster.alias(),
            process.log_tail()
        );
    }
    stay_silent(&[tw, jp], &[topic], Duration::from_secs(3)).await?;
    println!("{stopped_at} records were there when MirrorMaker 2 stopped");

    // Behind the take-over offsets are exact; before it nothing is skipped, and it says so.
    commit(tw, group, topic, [250, 150, 2_299], "").await?;
    until(WAIT, "the group to follow", || async {
        let held = held(jp, group, topic)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let made_from: Vec<i64> = held
            .values()
            .filter_map(|held| Some(Mark::parse(&held.metadata)?.source))
            .collect();
        if made_from == [250, 150, 2_299] {
            Ok(())
        } else {
            Err(format!("{held:?}"))
        }
    })
    .await
    .with_context(|| process.log_tail())?;
    let now = held(jp, group, topic).await?;
    for (partition, wanted) in [(0, 250), (1, 150)] {
        let at = now[&partition].offset;
        ensure!(
            at <= wanted,
            "partition {partition}: {wanted} became {at}: records are skipped"
        );
    }
    let unread = wire(jp)
        .list_offset(
            &kuroshio_core::types::TopicPartition::new(topic, 2),
            kuroshio_wire::OffsetAt::Latest,
            kuroshio_wire::Isolation::ReadCommitted,
        )
        .await?;
    ensure!(now[&2].offset < unread.context("no end")?.offset, "{now:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_mirror_maker_is_taken_over_by_what_it_wrote() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let topic = "takeover.killed";
    on_all(&[tw], topic, PARTITIONS).await?;
    // It notes how far it came once in a minute: never, here.
    let properties = properties(
        pair,
        "tk",
        "takeover[.]killed",
        &["refresh.topics.interval.seconds = 1"],
    )?;
    let mm2 = Mm2::start(&properties, "-Xms64m -Xmx512m")?;
    let ledger = Ledger::new(81);
    ledger.produce(tw, topic, FIRST).await?;
    let copy = "tktw.takeover.killed";
    until_begun(jp, copy, 900, &mm2).await?;
    let load = ledger.clone();
    let producing = tokio::spawn(async move { load.produce(tw, topic, LOAD).await });
    until_begun(jp, copy, 1_500, &mm2).await?;
    mm2.kill()?;
    // Its worker has left no word: the group holds it for a member until the session is over.
    let resume = async || import(&properties, &["--resume"]).await;
    let imported = until(WAIT, "the worker's session to end", || async {
        match resume().await {
            Ok(ended) if ended.stderr.contains("still runs") => Err(ended.stderr),
            Ok(ended) => Ok(ended),
            Err(why) => Err(format!("{why:#}")),
        }
    })
    .await?;
    ensure!(imported.code == Some(0), "{imported:?}");
    ensure!(
        imported
            .stdout
            .contains("MirrorMaker 2 had noted nothing, but tktw.takeover.killed-"),
        "{}",
        imported.stdout
    );
    // Once is enough.
    let again = resume().await?;
    ensure!(
        again.code == Some(1) && again.stderr.contains("has run already"),
        "{again:?}"
    );
    let mut process = Kuroshio::run_printed(&imported.stdout)?;
    process.ready(WAIT).await?;
    producing.await??;
    until_there(jp, copy, 6_900).await?;
    let report = ledger.compare(jp, copy, &[("tw", topic)], WAIT).await?;
    ensure!(report.is_exact(), "{report}\n{}", process.log_tail());
    Ok(())
}
