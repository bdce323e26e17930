//! What is written for MirrorMaker 2's classes, read by these classes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Kuroshio, Ledger, Load, Pair, pair, until};
use serde_json::{Value, json};

use crate::groups::{commit, quick};
use crate::regions::{WAIT, clusters, headers, on_all, read, until_there};

const PARTITIONS: i32 = 3;

/// One flow between aliases of its own: topics of MirrorMaker 2 are named after them.
fn compatible(pair: &Pair, naming: &str, name: &str) -> Value {
    let known = clusters(&[&pair.tw, &pair.jp]);
    let (tw, jp) = (format!("{name}tw"), format!("{name}jp"));
    let mut config = json!({
        "flows": [{ "source": tw, "target": jp }],
        "defaults": {
            "topics": { "include": [format!("compat[.]{name}")], "refresh": "200ms" },
            "naming": naming,
            "mm2_compat": { "heartbeats": true, "checkpoints": true },
        },
        "log": { "format": "text" },
    });
    config["clusters"] = json!({ tw: known["tw"], jp: known["jp"] });
    quick(config, &format!("compat-{name}"))
}

/// What the classes say of the offsets of a group, by partition of the target.
fn offsets(said: &str) -> BTreeMap<&str, i64> {
    let words = said.lines().filter_map(|line| line.strip_prefix("offset "));
    words
        .filter_map(|line| {
            let (partition, rest) = line.split_once(' ')?;
            Some((partition, rest.split(' ').next()?.parse().ok()?))
        })
        .collect()
}

async fn are_read_by_its_classes(naming: &str, name: &str) -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = (format!("compat.{name}"), format!("compat-{name}.app"));
    let upstream = format!("{name}tw");
    on_all(&[tw], &topic, PARTITIONS).await?;
    let mut process = Kuroshio::run(compatible(pair, naming, name))?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 3_000,
        partitions: PARTITIONS,
        rate: None,
    };
    Ledger::new(90).produce(tw, &topic, load).await?;
    let copy = match naming {
        "prefix" => format!("{upstream}.{topic}"),
        _ => topic.clone(),
    };
    until_there(jp, &copy, 3_000).await?;
    for wanted in [[100, 900, 333], [700, 20, 900]] {
        commit(tw, &group, &topic, wanted, "note").await?;
        let said = until(WAIT * 2, "its classes to see the group", || async {
            let said = jp.java("Mm2Classes", &[&upstream, &group]).await;
            let said = said.map_err(|error| format!("{error:#}"))?;
            let seen = offsets(&said);
            // The copies lie as the records do, but for markers.
            let near = (0..).zip(wanted).all(|(partition, wanted)| {
                let at = seen.get(&*format!("{copy}-{partition}"));
                at.is_some_and(|at| (wanted..wanted + 200).contains(at))
            });
            let told = [
                "hops 1",
                &format!("{upstream}.heartbeats"),
                &format!("{upstream}.checkpoints.internal"),
                " note",
            ];
            if near && told.iter().all(|told| said.contains(told)) {
                Ok(said)
            } else {
                Err(format!("{said}, not {wanted:?} and {told:?}"))
            }
        })
        .await
        .with_context(|| process.log_tail())?;
        // Exactly the first record that was not read.
        let seen = offsets(&said);
        for record in read(jp, &copy).await? {
            use rdkafka::message::Message;
            let tag = headers(&record, "kuroshio-origin").pop().context("no tag")?;
            let birth = kuroshio_core::origin::Tag::parse(tag).context("no tag")?.birth();
            let partition = record.partition();
            let at = seen[&*format!("{copy}-{partition}")];
            let unread = birth.offset.0 >= wanted[usize::try_from(partition)?];
            ensure!(
                (record.offset() >= at) == unread,
                "partition {partition}: {birth:?} lies at {}, and {wanted:?} became {at}",
                record.offset()
            );
        }
    }
    // Its formatters, on what console tools show.
    let shown = async |topic: &str, formatter: &str| {
        let class = format!("org.apache.kafka.connect.mirror.formatters.{formatter}");
        let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let args = [
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            "3",
            "--formatter",
            &class,
        ];
        jp.tool(consumer, &args).await
    };
    let checkpoints = shown(&format!("{upstream}.checkpoints.internal"), "CheckpointFormatter").await?;
    ensure!(
        checkpoints.contains(&format!("consumerGroupId={group}")) && checkpoints.contains("metadata=note"),
        "{checkpoints}"
    );
    let beats = shown(&format!("{upstream}.heartbeats"), "HeartbeatFormatter").await?;
    ensure!(
        // The topic of the source is everybody's.
        beats.contains("Heartbeat{sourceClusterAlias="),
        "{beats}"
    );
    process.terminate()?;
    process.exited(Duration::from_secs(60)).await?;
    Ok(())
}

#[tokio::test]
async fn checkpoints_and_heartbeats_are_read_by_its_classes_under_the_same_names() -> Result<()> {
    are_read_by_its_classes("identity", "same").await
}

#[tokio::test]
async fn checkpoints_and_heartbeats_are_read_by_its_classes_under_prefixes() -> Result<()> {
    are_read_by_its_classes("prefix", "pre").await
}
