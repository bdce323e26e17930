//! What `kuroshio plan` says is what a start does; the plan itself changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kuroshio_core::acls::{Acl, Operation};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Ended, Kuroshio, Pair, command, pair, until};
use kuroshio_wire::{Committer, ConfigSource, GroupOffset, Stored, Topics};
use rdkafka::message::OwnedHeaders;
use serde_json::{Value, json};

use crate::acls::{acl, create, guarded, until_acls};
use crate::regions::{WAIT, clusters, one_way, until_there, wire, write};

/// `kuroshio plan --output json`, and how it ended with `--detailed-exitcode`.
async fn plan(config: &Value) -> Result<(Value, Option<i32>)> {
    let args = [
        "plan",
        "--config",
        "{config}",
        "--output",
        "json",
        "--detailed-exitcode",
    ];
    let ended = command(&args, Some(config), WAIT).await?;
    let report = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    Ok((report, ended.code))
}

/// The same for people.
async fn text(config: &Value) -> Result<Ended> {
    command(&["plan", "--config", "{config}"], Some(config), WAIT).await
}

/// The row of a list of the first flow in which `key` has this value.
fn row<'a>(report: &'a Value, list: &str, key: &str, value: &str) -> Result<&'a Value> {
    let rows = report
        .pointer(&format!("/flows/0/{list}"))
        .and_then(Value::as_array);
    let row = rows.and_then(|rows| rows.iter().find(|row| row[key] == value));
    row.with_context(|| format!("no {key} {value} in {list}: {report:#}"))
}

/// All that a plan could have changed: topics with their ids and partitions, their configs, ACLs, offsets of groups.
async fn everything(kafka: &Cluster, topics: &[&str], groups: &[&str]) -> Result<String> {
    let cluster = wire(kafka);
    let names: Vec<Arc<str>> = topics.iter().map(|topic| (*topic).into()).collect();
    let mut seen = String::new();
    for topic in cluster.metadata(Topics::Named(&names)).await?.topics {
        let there = (topic.id, topic.partitions.len(), topic.error.is_some());
        seen += &format!("{} {there:?}\n", topic.name);
    }
    let configs: BTreeMap<_, _> = cluster.topic_configs(&names, None).await?.into_iter().collect();
    for (topic, entries) in configs {
        let own = entries
            .iter()
            .flatten()
            .filter(|entry| entry.source == ConfigSource::Topic);
        seen += &format!("{topic} {:?}\n", own.collect::<Vec<_>>());
    }
    for group in groups {
        let offsets: BTreeMap<_, _> = cluster
            .fetch_offsets(group, None)
            .await?
            .into_iter()
            .map(|(partition, stored)| (partition, format!("{stored:?}")))
            .collect();
        seen += &format!("{group} {offsets:?}\n");
    }
    match cluster.topic_acls().await {
        Ok(acls) => seen += &format!("{acls:?}"),
        Err(error) => seen += &error.code().map(|code| code.to_string()).unwrap_or_default(),
    }
    Ok(seen)
}

const TOPICS: [&str; 9] = [
    "plan.same",
    "plan.made",
    "plan.grown",
    "plan.more",
    "plan.drift",
    "plan.out",
    "plan.pii",
    "plan.old",
    "plan.new",
];

/// One flow of the topics `plan.*`, of which some are kept, renamed or left out.
fn planned(pair: &Pair) -> Value {
    let mut config = one_way(pair, "plan", &["plan[.].*"]);
    config["instance"] = json!("plan");
    config["residency"] = json!([{ "topics": ["plan[.]pii"], "stay_in": ["tw"] }]);
    let defaults = &mut config["defaults"];
    defaults["heartbeats"] = json!({ "enabled": false });
    defaults["configs"] = json!({ "interval": "1s" });
    defaults["topics"]["exclude"] = json!(["plan[.]o.t"]);
    defaults["topics"]["rename"] = json!({ "plan.old": "plan.new" });
    defaults["groups"] = json!({ "include": ["plan-.*"], "exclude": ["plan-not-.*"], "interval": "200ms" });
    config
}

async fn commit(kafka: &Cluster, group: &str, topic: &str, offset: i64) -> Result<()> {
    let offset = GroupOffset {
        offset,
        leader_epoch: None,
        metadata: "".into(),
    };
    let offsets = [(TopicPartition::new(topic, 0), offset)];
    let written = wire(kafka)
        .commit_offsets(group, Committer::Observer, &offsets)
        .await?;
    Ok(written.into_values().collect::<Result<(), _>>()?)
}

/// What lies around before the flow's first start.
async fn prepare(Pair { tw, jp }: &Pair) -> Result<()> {
    for (topic, partitions, configs) in [
        ("plan.same", 2, &[][..]),
        ("plan.made", 3, &[("cleanup.policy", "compact")]),
        ("plan.grown", 3, &[]),
        ("plan.more", 1, &[]),
        ("plan.drift", 1, &[("retention.ms", "11111111")]),
        ("plan.out", 1, &[]),
        ("plan.pii", 1, &[]),
        ("plan.old", 1, &[]),
    ] {
        tw.create_topic(topic, partitions, configs).await?;
    }
    for (topic, partitions, configs) in [
        ("plan.same", 2, &[][..]),
        ("plan.grown", 1, &[]),
        ("plan.more", 4, &[]),
        (
            "plan.drift",
            1,
            &[("retention.ms", "22222222"), ("segment.ms", "7777777")],
        ),
    ] {
        jp.create_topic(topic, partitions, configs).await?;
    }
    for _ in 0..5 {
        write(tw, ("plan.same", 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    for group in ["plan-app", "plan-not-app", "plan-elsewhere"] {
        let topic = if group == "plan-elsewhere" {
            "plan.out"
        } else {
            "plan.same"
        };
        commit(tw, group, topic, 3).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_plan_says_what_a_start_does_and_changes_nothing() -> Result<()> {
    let pair = pair().await?;
    let Pair { tw, jp } = pair;
    prepare(pair).await?;
    let config = planned(pair);
    let groups = ["plan-app", "kuroshio.plan-tw-jp", "kuroshio.plan-tw-jp.acls"];
    let before = (
        everything(tw, &TOPICS, &groups).await?,
        everything(jp, &TOPICS, &groups).await?,
    );
    let (report, code) = plan(&config).await?;
    let after = (
        everything(tw, &TOPICS, &groups).await?,
        everything(jp, &TOPICS, &groups).await?,
    );
    ensure!(before == after, "{before:#?} became {after:#?}");
    ensure!(code == Some(2) && report["problems"] == 0, "{code:?} {report:#}");

    for (topic, action, target, note) in [
        ("plan.same", "copy", json!("plan.same"), ""),
        ("plan.made", "create", json!("plan.made"), ""),
        ("plan.grown", "grow", json!("plan.grown"), ""),
        (
            "plan.more",
            "copy",
            json!("plan.more"),
            "4 partitions, which is fine",
        ),
        ("plan.old", "create", json!("plan.new"), ""),
        ("plan.out", "leave", Value::Null, "excluded by"),
        ("plan.pii", "leave", Value::Null, "must stay where it is"),
        ("__consumer_offsets", "leave", Value::Null, "belongs to Kafka"),
    ] {
        let row = row(&report, "topics/rows", "topic", topic)?;
        let said = row["note"].as_str().unwrap_or_default();
        let as_planned = row["action"] == action && row["target_topic"] == target && said.contains(note);
        ensure!(as_planned, "{topic}: {row}");
    }
    let made = row(&report, "topics/rows", "topic", "plan.made")?;
    let creation = json!({
        "replication_factor": -1,
        "configs": { "cleanup.policy": "compact", "max.message.bytes": "1049612" },
    });
    ensure!(made["partitions"] == 3 && made["creation"] == creation, "{made}");
    let drifted: BTreeSet<String> = report["flows"][0]["configs"]["rows"]
        .as_array()
        .context("no configs")?
        .iter()
        .filter(|row| row["topic"] == "plan.drift")
        .map(|row| format!("{} {}", row["name"], row["to"]))
        .collect();
    let expected = [
        r#""max.message.bytes" "1049612""#,
        r#""retention.ms" "11111111""#,
        r#""segment.ms" null"#,
    ];
    ensure!(drifted.iter().eq(expected.iter()), "{drifted:?}");
    ensure!(report["flows"][0]["acls"]["none"] == "off", "{report:#}");
    for (group, action, note) in [
        ("plan-app", "follow", ""),
        ("plan-not-app", "ignore", "excluded by"),
        ("plan-elsewhere", "leave", "no offsets in what is copied"),
    ] {
        let row = row(&report, "groups/rows", "group", group)?;
        let said = row["note"].as_str().unwrap_or_default();
        ensure!(row["action"] == action && said.contains(note), "{group}: {row}");
    }
    let position = row(&report, "positions/rows", "topic", "plan.same")?;
    let begins = json!({
        "topic": "plan.same", "partition": 0, "target_topic": "plan.same", "resumes": "begins", "offset": 0, "lag": 5,
        "note": "earliest",
    });
    ensure!(*position == begins, "{position}");
    let ended = text(&config).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    for line in [
        "topics: 6 copied, of which 2 are created and 1 grow; ",
        "  create      plan.made, 3 partitions, replication factor: the target's default, cleanup.policy=compact",
        "  create      plan.old as plan.new, 1 partition",
        "  grow        plan.grown, from 1 to 3 partitions",
        "  not copied  plan.pii: must stay where it is (residency \"plan[.]pii\")",
        "  set         plan.drift retention.ms=11111111 (now 22222222)",
        "  unset       plan.drift segment.ms (now 7777777)",
        "ACLs: left alone (acls.sync is off)",
        "  follow      plan-app, 1 partition, 1 to be written",
        "  begin       plan.same-0 at 0, 5 behind: earliest",
    ] {
        ensure!(ended.stdout.contains(line), "no {line:?} in\n{}", ended.stdout);
    }

    // Once a run has done all that, there is nothing to do.
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    until_there(jp, "plan.same", 5)
        .await
        .with_context(|| process.log_tail())?;
    let idle = until(WAIT, "a plan with nothing to do", || async {
        match plan(&config).await {
            Ok((report, Some(0))) => Ok(report),
            other => Err(format!("{other:?}")),
        }
    });
    let idle = idle.await.with_context(|| process.log_tail())?;
    ensure!(
        idle["changes"] == 0 && idle["flows"][0]["positions"]["pumps"] == 1,
        "{idle:#}"
    );
    let kept = process
        .metric("kuroshio_kept_topics", &[("flow", "plan-tw-jp")])
        .await?;
    ensure!(kept == Some(1.0), "{kept:?}");
    process.terminate()?;
    process.exited(WAIT).await?;

    // What is known to be wrong with positions is said: records gone by retention, another topic under the name.
    let ends = BTreeMap::from([(TopicPartition::new("plan.same", 0), 7)]);
    for _ in 0..2 {
        write(tw, ("plan.same", 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    for (_, outcome) in wire(tw).delete_records(ends).await {
        outcome?;
    }
    tw.delete_topic("plan.old").await?;
    tw.create_topic("plan.old", 1, &[]).await?;
    let (report, code) = plan(&config).await?;
    ensure!(code == Some(2) && report["problems"] == 2, "{report:#}");
    for (topic, offset, note) in [
        ("plan.same", 7, "offsets 5 to 7 are gone by retention"),
        ("plan.old", 0, "was deleted and made anew"),
    ] {
        let row = row(&report, "positions/rows", "topic", topic)?;
        let said = row["note"].as_str().unwrap_or_default();
        let as_known = row["resumes"] == "elsewhere" && row["offset"] == offset && said.contains(note);
        ensure!(as_known, "{row}");
    }
    Ok(())
}

#[tokio::test]
async fn a_plan_names_conflicts_and_what_it_cannot_ask() -> Result<()> {
    let pair = pair().await?;
    for topic in ["planned.a", "planned.b"] {
        pair.tw.create_topic(topic, 1, &[]).await?;
    }
    let mut config = one_way(pair, "planned", &["planned[.].*"]);
    config["instance"] = json!("planned");
    config["defaults"]["topics"]["rename"] = json!({ "planned.a": "planned.b" });
    let (report, code) = plan(&config).await?;
    ensure!(code == Some(2) && report["problems"] == 1, "{report:#}");
    for topic in ["planned.a", "planned.b"] {
        let row = row(&report, "topics/rows", "topic", topic)?;
        ensure!(row["action"] == "leave", "{row}");
    }
    // More replicas than there are brokers; and with heartbeats a topic of our own.
    config["defaults"]["topics"]["rename"] = json!({});
    config["defaults"]["replication_factor"] = json!(5);
    let ended = text(&config).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let refused = "planned.a cannot be made: cluster jp: CreateTopics";
    ensure!(ended.stdout.contains(refused), "{}", ended.stdout);
    // Flows are selected as `run` selects them.
    let args = ["plan", "--config", "{config}", "--flow", "nobody"];
    let ended = command(&args, Some(&config), WAIT).await?;
    ensure!(
        ended.code == Some(64) && ended.stderr.contains("nobody"),
        "{ended:?}"
    );
    config["clusters"]["jp"]["bootstrap_servers"] = json!("127.0.0.1:1");
    let ended = text(&config).await?;
    ensure!(
        ended.code == Some(1) && ended.stderr.contains("127.0.0.1:1"),
        "{ended:?}"
    );
    Ok(())
}

#[tokio::test]
async fn acls_are_planned_and_another_cluster_under_an_alias_is_named() -> Result<()> {
    let (tw, jp) = tokio::try_join!(Cluster::start(guarded("tw")), Cluster::start(guarded("jp")))?;
    let stranger = &pair().await?.tw;
    for kafka in [&tw, &jp, stranger] {
        kafka.create_topic("aclplan.orders", 1, &[]).await?;
    }
    let orders = acl("reader", Operation::READ, "aclplan.orders");
    let local = acl("local", Operation::READ, "aclplan.orders");
    create(&tw, std::slice::from_ref(&orders)).await?;
    create(&jp, std::slice::from_ref(&local)).await?;
    let mut config = json!({
        "clusters": clusters(&[&tw, &jp]),
        "flows": [{ "name": "aclplan", "source": "tw", "target": "jp" }],
        "defaults": {
            "topics": { "include": ["aclplan[.].*"], "refresh": "200ms" },
            "acls": { "sync": true, "interval": "1s", "delete": true },
            "heartbeats": { "enabled": true },
        },
        "instance": "aclplan",
        "log": { "format": "text" },
    });
    let acls = |report: &Value| report["flows"][0]["acls"].clone();
    let (report, code) = plan(&config).await?;
    let expected = json!({ "none": null, "create": [orders.to_string()], "delete": [] });
    ensure!(code == Some(2) && acls(&report) == expected, "{report:#}");
    ensure!(wire(&jp).topic_acls().await? == BTreeSet::from([local.clone()]));
    // Heartbeats are made on the source, and copied.
    let heartbeats = |cluster| json!({ "topic": "kuroshio.heartbeats", "cluster": cluster });
    let own = &report["flows"][0]["topics"]["own"];
    ensure!(*own == json!([heartbeats("tw"), heartbeats("jp")]), "{own}");

    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let both: BTreeSet<Acl> = [orders.clone(), local.clone()].into();
    until_acls(&jp, |there| *there == both)
        .await
        .with_context(|| process.log_tail())?;
    until(WAIT, "a plan with nothing to do", || async {
        match plan(&config).await {
            Ok((_, Some(0))) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    process.terminate()?;
    process.exited(WAIT).await?;
    for outcome in wire(&tw).delete_acls(std::slice::from_ref(&orders)).await? {
        outcome?;
    }
    until_acls(&tw, BTreeSet::is_empty).await?;
    let (report, code) = plan(&config).await?;
    let expected = json!({ "none": null, "create": [], "delete": [orders.to_string()] });
    ensure!(code == Some(2) && acls(&report) == expected, "{report:#}");
    ensure!(wire(&jp).topic_acls().await? == both);

    // Another cluster takes the source's place.
    let stored = wire(&jp).fetch_offsets("kuroshio.aclplan", None).await?;
    ensure!(
        stored
            .values()
            .all(|stored| matches!(stored, Ok(Stored::Offset(_)))),
        "{stored:?}"
    );
    config["clusters"]["tw"]["bootstrap_servers"] = json!(stranger.bootstrap());
    let (report, code) = plan(&config).await?;
    let said = report["flows"][0]["problems"].to_string();
    ensure!(
        code == Some(2) && said.contains("give the new cluster a new alias"),
        "{report:#}"
    );
    ensure!(
        said.contains("without authorizer") && acls(&report)["none"] == "no_authorizer",
        "{report:#}"
    );
    Ok(())
}
