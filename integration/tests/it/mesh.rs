//! Three clusters: every record once on every one of them, whatever the ways between them, and topics that stay at home.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_core::origin;
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, command, pair, third, until};
use rdkafka::message::{Message, OwnedHeaders};
use serde_json::{Value, json};

use crate::both_ways::only_tag;
use crate::regions::{WAIT, clusters, ends, headers, on_all, read, stay_silent, until_there, write};

const PARTITIONS: i32 = 3;
/// Records born on each cluster at once.
const LOAD: Load = Load {
    records: 1_000,
    partitions: PARTITIONS,
    rate: None,
};
const BIRTHS: [&str; 3] = ["tw", "jp", "us"];

/// Taiwan, Japan, the United States.
async fn all() -> Result<[&'static Cluster; 3]> {
    let (pair, us) = tokio::try_join!(pair(), third())?;
    Ok([&pair.tw, &pair.jp, us])
}

/// Flows `source>target` for the topics that match, called `<name>-<source>-<target>`.
fn flows(all: &[&Cluster], name: &str, forward: &str, ways: &[&str]) -> Value {
    let flow = |way: &&str| {
        let (source, target) = way.split_once('>').unwrap_or_default();
        json!({ "name": format!("{name}-{source}-{target}"), "source": source, "target": target })
    };
    json!({
        "clusters": clusters(all),
        "flows": ways.iter().map(flow).collect::<Vec<_>>(),
        "defaults": {
            "forward": forward,
            "topics": { "include": [format!("{name}[.].*")], "refresh": "200ms" },
        },
        "log": { "format": "text" },
    })
}

async fn born(all: &[&Cluster], ledger: &Ledger, topic: &str) -> Result<()> {
    for cluster in all {
        ledger.produce(cluster, topic, LOAD).await?;
    }
    Ok(())
}

/// Every record that was born anywhere is everywhere, once, in order; and nothing moves any more.
async fn once_everywhere(
    all: &[&Cluster],
    ledger: &Ledger,
    topic: &str,
    processes: &[&Kuroshio],
) -> Result<()> {
    let tails = || {
        processes
            .iter()
            .map(|process| process.log_tail())
            .collect::<String>()
    };
    for cluster in all {
        let births = BIRTHS.map(|birth| (birth, topic));
        let report = ledger.compare(cluster, topic, &births, WAIT).await?;
        ensure!(
            report.is_exact(),
            "{topic} on {}: {report}\n{}",
            cluster.alias(),
            tails()
        );
    }
    stay_silent(all, &[topic], Duration::from_secs(2))
        .await
        .with_context(tails)
}

/// How many records came to a cluster on each of the ways that a tag can tell; those without one were born there.
async fn came_by(cluster: &Cluster, topic: &str, ways: &[&[&str]]) -> Result<Vec<u64>> {
    let mut came = vec![0; ways.len()];
    for record in read(cluster, topic).await? {
        let way: Vec<String> = if headers(&record, origin::HEADER).is_empty() {
            Vec::new()
        } else {
            only_tag(&record)?
                .hops()
                .map(|hop| hop.cluster.to_owned())
                .collect()
        };
        let found = ways.iter().position(|known| *known == way.as_slice());
        let found = found.with_context(|| format!("a record came to {} by {way:?}", cluster.alias()))?;
        came[found] += 1;
    }
    Ok(came)
}

/// Waits until all of a process's flows have skipped so many records for this reason.
async fn until_skipped(process: &Kuroshio, reason: &str, expected: f64) -> Result<()> {
    until(WAIT, &format!("{expected} records skipped: {reason}"), || async {
        let labels = [("reason", reason)];
        match process.metric("kuroshio_skipped_records_total", &labels).await {
            Ok(Some(count)) if count == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .with_context(|| process.log_tail())
}

#[tokio::test]
async fn a_full_mesh_with_a_process_in_each_region() -> Result<()> {
    let all = all().await?;
    let (ledger, topic) = (Ledger::new(120), "mesh.orders");
    on_all(&all, topic, PARTITIONS).await?;
    born(&all, &ledger, topic).await?;
    let ways = ["tw>jp", "jp>tw", "jp>us", "us>jp", "us>tw", "tw>us"];
    let mut processes = Vec::new();
    for region in BIRTHS {
        let mut config = flows(&all, "mesh", "local", &ways);
        config["region"] = json!(region);
        processes.push(Kuroshio::run(config)?);
    }
    for (process, region) in processes.iter_mut().zip(BIRTHS) {
        process.ready(WAIT).await?;
        let status = process.status().await?;
        let of = status["flows"].as_array().context("no flows")?;
        ensure!(
            of.len() == 2 && of.iter().all(|flow| flow["target"] == region),
            "{region}: {status}"
        );
    }
    born(&all, &ledger, topic).await?;
    let running: Vec<_> = processes.iter().collect();
    once_everywhere(&all, &ledger, topic, &running).await?;
    // Two copies of every record came to each source, and were left there by each of its two flows.
    for process in &processes {
        until_skipped(process, "replicated", 8_000.0).await?;
    }
    let ways: [&[&str]; 3] = [&[], &["jp"], &["us"]];
    let came = came_by(all[0], topic, &ways).await?;
    ensure!(came == [2_000; 3], "{came:?}");
    Ok(())
}

#[tokio::test]
async fn a_ring_of_three_relays_and_falls_silent() -> Result<()> {
    let all = all().await?;
    let (ledger, topic) = (Ledger::new(13), "ring.orders");
    on_all(&all, topic, PARTITIONS).await?;
    born(&all, &ledger, topic).await?;
    let mut process = Kuroshio::run(flows(&all, "ring", "relay", &["tw>jp", "jp>us", "us>tw"]))?;
    process.ready(WAIT).await?;
    once_everywhere(&all, &ledger, topic, &[&process]).await?;
    let ways: [&[&str]; 3] = [&[], &["jp"], &["tw", "jp"]];
    let came = came_by(all[2], topic, &ways).await?;
    ensure!(came == [1_000; 3], "{came:?}");
    until_skipped(&process, "loop", 3_000.0).await
}

#[tokio::test]
async fn a_hub_relays_from_each_spoke_to_the_other() -> Result<()> {
    let all = all().await?;
    let (ledger, topic) = (Ledger::new(121), "hub.orders");
    on_all(&all, topic, PARTITIONS).await?;
    born(&all, &ledger, topic).await?;
    let ways = ["tw>jp", "jp>tw", "us>jp", "jp>us"];
    let mut process = Kuroshio::run(flows(&all, "hub", "relay", &ways))?;
    process.ready(WAIT).await?;
    born(&all, &ledger, topic).await?;
    once_everywhere(&all, &ledger, topic, &[&process]).await?;
    let ways: [&[&str]; 3] = [&[], &["jp"], &["us", "jp"]];
    let came = came_by(all[0], topic, &ways).await?;
    ensure!(came == [2_000; 3], "{came:?}");
    Ok(())
}

/// A record in which a cluster says its name.
async fn speak(cluster: &Cluster, topic: &str) -> Result<()> {
    let value = Some(cluster.alias().as_bytes());
    write(cluster, (topic, 0), (b"k", value), OwnedHeaders::new()).await
}

/// MM2: `testNoCycles`. Names tell the way here, and no topic is made of a name that a cluster gave itself.
#[tokio::test]
async fn prefixes_behind_a_hub_do_not_pile_up() -> Result<()> {
    let all = all().await?;
    let [tw, jp, us] = all;
    for cluster in all {
        cluster.create_topic("piles.orders", 1, &[]).await?;
        speak(cluster, "piles.orders").await?;
    }
    let mut config = flows(&all, "piles", "relay", &["tw>jp", "jp>tw", "us>jp", "jp>us"]);
    config["defaults"]["naming"] = json!("prefix");
    config["defaults"]["topics"]["include"] = json!(["(.*[.])?piles[.].*"]);
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let wanted: [(&Cluster, &[(&str, &str)]); 3] = [
        (tw, &[("jp.piles.orders", "jp"), ("jp.us.piles.orders", "us")]),
        (jp, &[("tw.piles.orders", "tw"), ("us.piles.orders", "us")]),
        (us, &[("jp.piles.orders", "jp"), ("jp.tw.piles.orders", "tw")]),
    ];
    // The second round comes when every name had the time to become another one.
    for round in 1..=2 {
        for (cluster, copies) in wanted {
            for (topic, birth) in copies {
                let there = until_there(cluster, topic, round)
                    .await
                    .with_context(|| process.log_tail())?;
                ensure!(
                    there.len() == round && there.iter().all(|copy| copy.payload() == Some(birth.as_bytes())),
                    "{topic} on {}: {there:?}",
                    cluster.alias()
                );
            }
            let topics = cluster.topics().await?.into_keys();
            let made = topics
                .filter(|topic| topic.contains("piles."))
                .collect::<Vec<_>>();
            let mut expected: Vec<_> = copies.iter().map(|(topic, _)| *topic).collect();
            expected.push("piles.orders");
            expected.sort_unstable();
            ensure!(made == expected, "on {}: {made:?}", cluster.alias());
        }
        for cluster in all {
            speak(cluster, "piles.orders").await?;
        }
    }
    Ok(())
}

/// A second way for one topic would bring its records twice: that the process at hand runs but a part of it changes nothing.
#[tokio::test]
async fn two_ways_are_refused_whatever_part_of_the_file_runs() -> Result<()> {
    let entry = |port: u16| json!({ "bootstrap_servers": format!("127.0.0.1:{port}") });
    let config = json!({
        "clusters": { "tw": entry(1), "jp": entry(2), "us": entry(3) },
        "flows": [
            { "source": "tw", "target": "jp" },
            { "source": "jp", "target": "us", "forward": "relay" },
            { "source": "tw", "target": "us" },
        ],
        "instance": "two-ways",
    });
    for args in [
        &["check", "--config", "{config}", "--offline"][..],
        &["check", "--config", "{config}"],
        &["run", "--config", "{config}"],
        &["run", "--config", "{config}", "--region", "jp"],
        &["run", "--config", "{config}", "--flow", "tw-us"],
        &["run", "--config", "{config}", "--region", "us", "--flow", "tw-us"],
    ] {
        let ended = command(args, Some(&config), WAIT).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(
            ended.code == Some(64)
                && said.contains("records born in tw would reach us by two paths, tw-jp > jp-us and tw-us"),
            "{args:?}: {ended:?}"
        );
    }
    let mut one_region = config.clone();
    one_region["region"] = json!("jp");
    let ended = command(&["run", "--config", "{config}"], Some(&one_region), WAIT).await?;
    ensure!(
        ended.code == Some(64) && ended.stderr.contains("two paths"),
        "{ended:?}"
    );
    Ok(())
}

/// What must stay in tw, from where it would go on to us.
#[tokio::test]
async fn what_must_stay_stays_under_every_name() -> Result<()> {
    let all = all().await?;
    let [tw, jp, us] = all;
    let mut config = flows(&all, "stays", "relay", &["tw>jp", "jp>us", "jp>tw"]);
    config["residency"] = json!([{ "topics": ["stays[.]pii[.].*"], "stay_in": ["tw"] }]);
    // By its name, under another name, and under a prefix.
    config["flows"][0]["topics"] = json!({
        "include": ["stays[.]pii[.]named", "stays[.].*"],
        "rename": { "stays.pii.renamed": "stays.anonymous" },
    });
    config["flows"][1]["topics"] = json!({ "include": ["(.*[.])?stays[.].*"] });
    config["flows"][1]["naming"] = json!("prefix");
    let here = [
        "stays.pii.named",
        "stays.pii.renamed",
        "stays.pii.plain",
        "stays.open",
    ];
    // As if they had been copied before there was a law; and one that was born on jp, which may come home.
    let there = [
        "stays.anonymous",
        "tw.stays.pii.prefixed",
        "jp.tw.stays.pii.twice",
        "stays.pii.born",
    ];
    for (cluster, topics) in [(tw, &here), (jp, &there)] {
        for topic in topics {
            cluster.create_topic(topic, 1, &[]).await?;
            write(
                cluster,
                (topic, 0),
                (b"k", Some(topic.as_bytes())),
                OwnedHeaders::new(),
            )
            .await?;
        }
    }
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    // Everything is looked at anew many times until these have come, the second over jp.
    for (cluster, topic, value) in [
        (jp, "stays.open", "stays.open"),
        (us, "jp.stays.open", "stays.open"),
        (tw, "stays.pii.born", "stays.pii.born"),
    ] {
        let copies = until_there(cluster, topic, 1)
            .await
            .with_context(|| process.log_tail())?;
        ensure!(copies[0].payload() == Some(value.as_bytes()), "{copies:?}");
    }
    write(
        tw,
        ("stays.open", 0),
        (b"k", Some(b"the last")),
        OwnedHeaders::new(),
    )
    .await?;
    until_there(us, "jp.stays.open", 2)
        .await
        .with_context(|| process.log_tail())?;
    let of = async |cluster: &Cluster| -> Result<Vec<String>> {
        let topics = cluster.topics().await?.into_keys();
        Ok(topics.filter(|topic| topic.contains("stays.")).collect())
    };
    ensure!(of(us).await? == ["jp.stays.open"], "{:?}", of(us).await?);
    let mut expected = [&there[..], &["stays.open"]].concat();
    expected.sort_unstable();
    ensure!(of(jp).await? == expected, "{:?}", of(jp).await?);
    let end = ends(jp, &["stays.anonymous"]).await?;
    ensure!(end.values().eq([&1]), "{end:?}");
    // In /status none of them is a lane.
    until(WAIT, "the lanes of what may go", || async {
        let status = process.status().await.map_err(|why| format!("{why:#}"))?;
        let mut lanes: Vec<_> = status["flows"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|flow| {
                flow["lanes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|lane| format!("{} {}", flow["target"], lane["topic"]))
            })
            .collect();
        lanes.sort();
        let expected = [
            r#""jp" "stays.open""#,
            r#""tw" "stays.anonymous""#, // comes home, and goes no further
            r#""tw" "stays.open""#,
            r#""tw" "stays.pii.born""#,
            r#""us" "stays.open""#,
        ];
        if lanes == expected {
            Ok(())
        } else {
            Err(format!("{lanes:?}"))
        }
    })
    .await
    .with_context(|| process.log_tail())
}
