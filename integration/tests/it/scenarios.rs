//! What MirrorMaker 2's own integration tests check of groups and checkpoints, asked of Kuroshio. Its names of them stand at each.

mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_core::mm2::Checkpoint;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, pair, until};
use rdkafka::message::Message;
use serde_json::{Value, json};

use crate::failover::ask;
use crate::groups::{commit, held, quick, until_follows};
use crate::regions::{WAIT, on_all, one_way, read, until_there};

const PARTITIONS: i32 = 3;
const LOAD: Load = Load {
    records: 3_000,
    partitions: PARTITIONS,
    rate: None,
};

/// Every checkpoint that was written of a topic, in order: source and target offset by partition.
async fn checkpoints(cluster: &Cluster, of: &str, topic: &str) -> Result<BTreeMap<i32, Vec<(i64, i64)>>> {
    let mut all: BTreeMap<i32, Vec<(i64, i64)>> = BTreeMap::new();
    for record in read(cluster, of).await? {
        let (key, value) = (
            record.key().unwrap_or_default(),
            record.payload().unwrap_or_default(),
        );
        let checkpoint = Checkpoint::parse(key, value).context("no checkpoint")?;
        if checkpoint.topic == topic {
            all.entry(checkpoint.partition)
                .or_default()
                .push((checkpoint.upstream, checkpoint.downstream));
        }
    }
    Ok(all)
}

/// With checkpoints, under aliases of its own: their topic is named after the source.
fn with_checkpoints(mut config: Value, name: &str) -> Value {
    let (tw, jp) = (config["clusters"]["tw"].clone(), config["clusters"]["jp"].clone());
    config["clusters"] = json!({ format!("{name}tw"): tw, format!("{name}jp"): jp });
    config["flows"][0]["source"] = json!(format!("{name}tw"));
    config["flows"][0]["target"] = json!(format!("{name}jp"));
    config["defaults"]["mm2_compat"] = json!({ "checkpoints": true });
    config
}

/// `testReplicationWithEmptyPartition`, `testOneWayReplicationWithAutoOffsetSync`, `testOneWayReplicationWithFrequentOffsetSyncs`,
/// `testReplicationWithoutOffsetSyncWillNotCreateOffsetSyncsTopic`.
#[tokio::test]
async fn empty_partitions_count_and_a_later_topic_joins_and_nothing_else_is_made() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, later, group) = ("scenario.empty", "scenario.empty.later", "scenario-empty.app");
    let flow = "scenario-empty-tw-jp";
    on_all(&[tw], topic, PARTITIONS).await?;
    let config = quick(
        one_way(pair, "scenario-empty", &["scenario[.]empty.*"]),
        "scenario-empty",
    );
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(97);
    let two = Load {
        records: 2_000,
        partitions: 2,
        ..LOAD
    };
    ledger.produce(tw, topic, two).await?;
    until_there(jp, topic, 2_000).await?;
    commit(tw, group, topic, [900, 10, 0], "").await?;
    until_follows(jp, flow, group, topic, [900, 10, 0]).await?;
    let there = held(jp, group, topic).await?;
    ensure!(there[&2].offset == 0, "{there:?}");

    on_all(&[tw], later, PARTITIONS).await?;
    ledger.produce(tw, later, LOAD).await?;
    until_there(jp, later, 3_000).await?;
    commit(tw, group, later, [900, 950, 1], "").await?;
    until_follows(jp, flow, group, later, [900, 950, 1]).await?;
    // No topic but the copies, and nothing on the source.
    let expected = [topic, later];
    for cluster in [tw, jp] {
        let topics = cluster.topics().await?;
        let ours: Vec<_> = topics
            .keys()
            .filter(|name| name.contains("scenario.empty"))
            .collect();
        ensure!(ours == expected, "{}: {ours:?}", cluster.alias());
        let made = |name: &&String| name.contains("mm2-offset-syncs") && name.contains("scenario");
        ensure!(topics.keys().find(made).is_none(), "{topics:?}");
    }
    Ok(())
}

/// `testNoCheckpointsIfNoRecordsAreMirrored`: nothing is said of what was not replicated, until it is.
#[tokio::test]
async fn of_what_is_not_replicated_nothing_is_said() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("scenario.nothing", "scenario-nothing.app");
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let config = quick(
        one_way(pair, "scenario-nothing", &["scenario[.]nothing"]),
        "scenario-nothing",
    );
    Ledger::new(98).produce(tw, topic, LOAD).await?;
    commit(tw, group, topic, [5, 500, 900], "").await?;
    let ends = ["--from", "tw", "--to", "jp", "--group", group];
    let (asked, _) = ask(&config, "translate", &ends).await?;
    ensure!(
        asked.code == Some(2) && asked.stdout.contains("nothing of it is replicated yet"),
        "{asked:?}"
    );
    ensure!(held(jp, group, topic).await?.is_empty());
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    until_follows(jp, "scenario-nothing-tw-jp", group, topic, [5, 500, 900]).await?;
    let (asked, _) = ask(&config, "translate", &ends).await?;
    ensure!(asked.code == Some(0), "{asked:?}");
    Ok(())
}

/// `testOffsetTranslationBehindReplicationFlow`, `testRestartReplication`, and `testReplication` as far as checkpoints go: for each
/// partition, forwards with a group that goes on, back with one that goes back, over a restart too.
#[tokio::test]
async fn checkpoints_follow_a_group_that_lies_behind_forwards_and_back() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("scenario.behind", "scenario-behind.app");
    let of = "sbtw.checkpoints.internal";
    on_all(&[tw], topic, PARTITIONS).await?;
    let config = one_way(pair, "scenario-behind", &["scenario[.]behind"]);
    let config = with_checkpoints(quick(config, "scenario-behind"), "sb");
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 30_000,
        ..LOAD
    };
    Ledger::new(99).produce(tw, topic, load).await?;
    until_there(jp, topic, 30_000).await?;
    let stations: [[i64; 3]; 5] = [
        [1_000, 1_000, 1_000],
        [5_000, 4_000, 4_500],
        [9_000, 9_000, 9_000],
        [9_500, 9_001, 9_600],
        // Back.
        [1_000, 1_000, 1_000],
    ];
    for (number, wanted) in stations.into_iter().enumerate() {
        if number == 2 {
            process.kill()?;
            process.restart()?;
            process.ready(WAIT).await?;
        }
        commit(tw, group, topic, wanted, "").await?;
        until(WAIT, &format!("checkpoints of {wanted:?}"), || async {
            match checkpoints(jp, of, topic).await {
                Ok(all) => {
                    let last = |partition: &i32| all.get(partition)?.last().map(|(source, _)| *source);
                    if (0..PARTITIONS)
                        .map(|partition| last(&partition))
                        .eq(wanted.map(Some))
                    {
                        Ok(())
                    } else {
                        Err(format!("{all:?}"))
                    }
                }
                Err(why) => Err(format!("{why:#}")),
            }
        })
        .await
        .with_context(|| process.log_tail())?;
    }
    for (partition, written) in checkpoints(jp, of, topic).await? {
        for pair in written.windows(2) {
            let ((from, at), (to, then)) = (pair[0], pair[1]);
            ensure!(
                (to >= from) == (then >= at) || (to == from && then == at),
                "partition {partition}: {written:?}"
            );
        }
        // The same question has the same answer.
        let answers: Vec<_> = written
            .iter()
            .filter(|(source, _)| *source == 1_000)
            .map(|(_, at)| *at)
            .collect();
        ensure!(
            answers.len() >= 2 && answers.iter().all(|at| *at == answers[0]),
            "partition {partition}: {written:?}"
        );
    }
    process.terminate()?;
    process.exited(Duration::from_secs(60)).await?;
    Ok(())
}
