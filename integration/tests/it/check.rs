//! `kuroshio acls` and `kuroshio check` on brokers that authorise: what the one prints is enough for a run, and what is taken away of it the
//! other names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use kuroshio_core::types::TopicPartition;
use kuroshio_integration::{Cluster, Kuroshio, Spec, command, until};
use kuroshio_wire::{Committer, GroupOffset, Stored};
use rdkafka::message::OwnedHeaders;
use serde_json::{Value, json};

use crate::regions::{WAIT, clusters, position, wire, write};

const TOOL: &str = "org.apache.kafka.tools.AclCommand";
/// Brokers, and Kafka's tools within the container, come from here; Kuroshio and the tests come from elsewhere.
const HERE: [&str; 2] = ["127.0.0.1", "0:0:0:0:0:0:0:1"];

/// Permissions as ACLs, for those who do not come from within: adds or removes these, such as `READ on topic orders`.
async fn set(kafka: &Cluster, verb: &str, permissions: &[&str]) -> Result<()> {
    // The tool takes a second or two to start, and one operation on several things.
    let mut alike: BTreeMap<(&str, &str, bool), Vec<&str>> = BTreeMap::new();
    for permission in permissions {
        let (operation, thing) = permission.split_once(" on ").context("no permission")?;
        let (kind, name) = match thing {
            "the cluster" => ("cluster", ""),
            thing => thing.rsplit_once(' ').context("no name")?,
        };
        let names = alike.entry((operation, kind, name.ends_with('*')));
        names.or_default().push(name.trim_end_matches('*'));
    }
    for ((operation, kind, prefixed), names) in alike {
        // It writes `DescribeConfigs`.
        let words = operation
            .split('_')
            .map(|word| word[..1].to_owned() + &word[1..].to_lowercase());
        let (operation, option): (String, _) = (words.collect(), format!("--{}", kind.replace(' ', "-")));
        let mut args = vec![verb, "--force", "--allow-principal", "User:ANONYMOUS"];
        args.extend(["--operation", &operation]);
        for name in names {
            args.push(&option);
            args.extend((kind != "cluster").then_some(name));
        }
        if prefixed {
            args.extend(["--resource-pattern-type", "prefixed"]);
        }
        kafka.tool(TOOL, &args).await?;
    }
    Ok(())
}

/// From now on nobody may do anything who does not come from within.
async fn lock(kafka: &Cluster) -> Result<()> {
    let mut args = vec!["--add", "--force", "--allow-principal", "User:ANONYMOUS"];
    for host in HERE {
        args.extend(["--allow-host", host]);
    }
    args.extend(["--operation", "ALL", "--cluster", "--topic", "*", "--group", "*"]);
    args.extend(["--transactional-id", "*"]);
    kafka.tool(TOOL, &args).await?;
    until(WAIT, &format!("{} to be locked", kafka.alias()), || async {
        match kafka.topics().await {
            Ok(topics) if topics.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// `kuroshio check --output json`: the permissions that are missing, to whatever flow, as (cluster, ACL), the whole report, and how it
/// ended.
async fn check(config: &Value) -> Result<(BTreeSet<(String, String)>, Value, Option<i32>)> {
    let args = ["check", "--config", "{config}", "--output", "json"];
    let ended = command(&args, Some(config), WAIT).await?;
    let report: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    let findings = report["findings"].as_array().context("no findings")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let missing = findings.iter().filter(|finding| finding["missing"].is_object());
    let missing = missing.map(|finding| {
        (
            text(&finding["missing"]["cluster"]),
            text(&finding["missing"]["acl"]),
        )
    });
    Ok((missing.collect(), report.clone(), ended.code))
}

/// Waits until exactly these are missing: brokers hear of ACLs a moment later.
async fn until_missing(config: &Value, expected: &[(&str, &str)]) -> Result<Value> {
    until(WAIT, &format!("check to miss {expected:?}"), || async {
        let (missing, report, code) = check(config).await.map_err(|why| format!("{why:#}"))?;
        let as_expected = missing.iter().map(|(cluster, acl)| (&**cluster, &**acl));
        if as_expected.eq(expected.iter().copied()) && code == Some(if expected.is_empty() { 0 } else { 2 }) {
            Ok(report)
        } else {
            Err(format!("{code:?} {missing:?} {report:#}"))
        }
    })
    .await
}

/// `kuroshio acls --output json`: by cluster, what is granted, such as `READ on topic orders`.
async fn printed_acls(config: &Value) -> Result<BTreeMap<String, Vec<String>>> {
    let args = ["acls", "--config", "{config}", "--output", "json"];
    let ended = command(&args, Some(config), WAIT).await?;
    let printed: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    let mut granted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (alias, acls) in printed.as_object().context("no clusters")? {
        for acl in acls.as_array().context("no ACLs")? {
            let text = |key: &str| acl[key].as_str().unwrap_or_default();
            let star = if text("pattern_type") == "PREFIXED" {
                "*"
            } else {
                ""
            };
            let thing = match text("resource_type") {
                "CLUSTER" => "the cluster".to_owned(),
                kind => format!("{} {}{star}", kind.to_lowercase().replace('_', " "), text("name")),
            };
            for operation in acl["operations"].as_array().context("no operations")? {
                let acl = format!("{} on {thing}", operation.as_str().unwrap_or_default());
                granted.entry(alias.clone()).or_default().push(acl);
            }
        }
    }
    Ok(granted)
}

/// `kuroshio acls`, as it is printed.
async fn printed_commands(config: &Value) -> Result<String> {
    let args = ["acls", "--config", "{config}", "--principal", "User:ANONYMOUS"];
    let ended = command(&args, Some(config), WAIT).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(ended.stdout)
}

/// Runs the commands that are printed for this cluster; only its address is another one within the container.
async fn grant(kafka: &Cluster, printed: &str) -> Result<()> {
    let heading = format!("# cluster {}", kafka.alias());
    let of_cluster = printed.lines().skip_while(|line| **line != *heading).skip(1);
    for line in of_cluster.take_while(|line| !line.starts_with('#')) {
        let begins = format!("kafka-acls --bootstrap-server {} ", kafka.bootstrap());
        let args = line.strip_prefix(&begins).with_context(|| line.to_owned())?;
        let args: Vec<&str> = args.split(' ').collect();
        kafka.tool(TOOL, &args).await?;
    }
    Ok(())
}

/// Takes these away from the cluster, an operation on a kind of things at a time, and gives them back.
async fn each_is_missed(kafka: &Cluster, config: &Value, granted: &[String]) -> Result<()> {
    let alias = kafka.alias();
    let mut alike: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    // That one is there, which the file does not tell.
    for acl in granted.iter().filter(|acl| *acl != "CREATE on topic perm.orders") {
        let (operation, thing) = acl.split_once(" on ").context("no permission")?;
        let kind = thing.split_once(' ').context("no kind")?.0;
        alike.entry((operation, kind)).or_default().push(acl);
    }
    for ((operation, _), taken) in alike {
        set(kafka, "--remove", &taken).await?;
        // What it implied is missing too.
        let part = match operation {
            "READ" | "WRITE" | "DELETE" | "ALTER" => "DESCRIBE",
            "ALTER_CONFIGS" => "DESCRIBE_CONFIGS",
            _ => operation,
        };
        let parts = taken.iter().map(|acl| acl.replacen(operation, part, 1));
        // Who may write to no topic at all may not do so idempotently either (KIP-679).
        let parts: Vec<String> = parts
            .chain(["IDEMPOTENT_WRITE on the cluster".to_owned()])
            .collect();
        until(WAIT, &format!("check to miss {taken:?} on {alias}"), || async {
            let (missing, report, code) = check(config).await.map_err(|why| format!("{why:#}"))?;
            let here: BTreeSet<&str> = missing
                .iter()
                .filter(|(cluster, _)| cluster == alias)
                .map(|(_, acl)| acl.as_str())
                .collect();
            let all = taken.iter().all(|acl| here.contains(acl));
            let is_one = |acl: &str| taken.contains(&acl) || parts.iter().any(|part| part == acl);
            if all && here.iter().all(|acl| is_one(acl)) && code == Some(2) && names_all(&report, alias) {
                Ok(())
            } else {
                Err(format!("{code:?} {missing:?} {report:#}"))
            }
        })
        .await?;
        set(kafka, "--add", &taken).await?;
    }
    Ok(())
}

/// Whether whatever of this cluster does not hold names the ACL and the action of IAM.
fn names_all(report: &Value, alias: &str) -> bool {
    let findings = report["findings"].as_array().into_iter().flatten();
    let mut failed =
        findings.filter(|finding| finding["ok"] == false && finding["missing"]["cluster"] == alias);
    failed.all(|finding| {
        let said = finding["detail"].as_str().unwrap_or_default();
        let text = |key: &str| finding["missing"][key].as_str().unwrap_or("absent");
        let named = format!("{} (cluster {alias}) is not allowed", text("acl"));
        said.starts_with(&named) && said.ends_with(text("iam"))
    })
}

fn config(tw: &Cluster, jp: &Cluster) -> Value {
    json!({
        "clusters": clusters(&[tw, jp]),
        "flows": [
            { "name": "perm", "source": "tw", "target": "jp", "topics": { "include": ["perm[.](orders|made)"] } },
            {
                "name": "back", "source": "jp", "target": "tw", "topics": { "include": ["perm[.](orders|back)"] },
                "delivery": "at_least_once", "positions_on_source": false,
            },
        ],
        "defaults": {
            "topics": { "refresh": "200ms" },
            "configs": { "interval": "1s" },
            "acls": { "sync": true, "interval": "1s" },
            "groups": { "include": ["perm-app"], "interval": "200ms" },
            "heartbeats": { "enabled": true },
        },
        "instance": "perm",
        "log": { "format": "text" },
    })
}

async fn prepare(tw: &Cluster, jp: &Cluster) -> Result<()> {
    for (kafka, topic) in [
        (tw, "perm.orders"),
        (tw, "perm.made"),
        (jp, "perm.orders"),
        (jp, "perm.back"),
    ] {
        let configs: &[(&str, &str)] = if kafka.alias() == "tw" {
            &[("retention.ms", "11111111")]
        } else {
            &[]
        };
        kafka.create_topic(topic, 1, configs).await?;
        write(kafka, (topic, 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    let offset = GroupOffset {
        offset: 1,
        leader_epoch: None,
        metadata: "".into(),
    };
    let offsets = [(TopicPartition::new("perm.orders", 0), offset)];
    let written = wire(tw)
        .commit_offsets("perm-app", Committer::Observer, &offsets)
        .await?;
    Ok(written.into_values().collect::<Result<(), _>>()?)
}

#[tokio::test]
async fn the_acls_that_are_printed_are_enough_and_each_is_needed() -> Result<()> {
    let spec = |alias| Spec::new(alias).with_acls();
    let (tw, jp) = tokio::try_join!(Cluster::start(spec("tw")), Cluster::start(spec("jp")))?;
    let config = config(&tw, &jp);
    prepare(&tw, &jp).await?;
    // Before there is an ACL everybody may do everything.
    until_missing(&config, &[]).await?;
    tokio::try_join!(lock(&tw), lock(&jp))?;

    // Somebody else's, to be copied.
    let audit = [
        "--add",
        "--force",
        "--allow-principal",
        "User:audit",
        "--operation",
        "Read",
    ];
    tw.tool(TOOL, &[&audit[..], &["--topic", "perm.orders"]].concat())
        .await?;
    // What is printed from the file alone is enough.
    let (granted, printed) = tokio::try_join!(printed_acls(&config), printed_commands(&config))?;
    let of = |kafka: &Cluster| granted.get(kafka.alias()).context("no ACLs for a cluster");
    tokio::try_join!(grant(&tw, &printed), grant(&jp, &printed))?;
    until_missing(&config, &[]).await?;

    // And all of it is needed: each is missed by its name, and nothing else that is not a part of it.
    tokio::try_join!(
        each_is_missed(&tw, &config, of(&tw)?),
        each_is_missed(&jp, &config, of(&jp)?)
    )?;
    until_missing(&config, &[]).await?;

    // And a run with these does all that it has to.
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let copied = async {
        for (kafka, topic, records) in [
            (&jp, "perm.orders", 2),
            (&jp, "perm.made", 1),
            (&tw, "perm.orders", 2),
            (&tw, "perm.back", 1),
        ] {
            let what = format!("{records} records of {topic} on {}", kafka.alias());
            until(WAIT, &what, || async {
                let partition = TopicPartition::new(topic, 0);
                match wire(kafka).read_committed(&partition, 0, 1 << 20).await {
                    Ok(read) if read.records.len() == records => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
        until(WAIT, "the group, ACLs and heartbeats to follow", || async {
            let followed = position(&jp, "perm-app", "perm.orders", 0).await;
            let copy = position(&tw, "kuroshio.perm", "perm.orders", 0).await;
            let acls = wire(&jp).topic_acls().await.map_err(|why| why.to_string())?;
            let audit = acls.iter().any(|acl| &*acl.principal == "User:audit");
            let status = process.status().await.map_err(|why| format!("{why:#}"))?;
            let rpo = |flow: usize| status["flows"][flow]["rpo_seconds"].as_f64();
            let fresh = [0, 1].iter().all(|flow| rpo(*flow).is_some_and(|rpo| rpo < 5.0));
            match (followed, copy) {
                (Ok(Stored::Offset(offset)), Ok(Stored::Offset(_)))
                    if &*offset.metadata == "kuroshio:perm:1" && audit && fresh =>
                {
                    Ok(status["flows"].to_string())
                }
                other => Err(format!("{other:?} {audit} {status}")),
            }
        })
        .await
    };
    let flows = copied.await.with_context(|| process.log_tail())?;
    ensure!(!flows.contains("AUTHORIZATION"), "{flows}");
    Ok(())
}

#[tokio::test]
async fn acl_sync_without_authorizer_and_topics_that_must_stay_are_told() -> Result<()> {
    let pair = kuroshio_integration::pair().await?;
    pair.tw.create_topic("kept.pii", 1, &[]).await?;
    let mut config = crate::regions::one_way(pair, "kept", &["kept[.].*"]);
    config["instance"] = json!("kept");
    config["residency"] = json!([{ "topics": ["kept[.]pii"], "stay_in": ["tw"] }]);
    let said = async |config: &Value, code| -> Result<String> {
        let ended = command(&["check", "--config", "{config}"], Some(config), WAIT).await?;
        ensure!(ended.code == Some(code), "{ended:?}");
        Ok(ended.stdout)
    };
    let report = said(&config, 0).await?;
    for line in [
        "flow kept-tw-jp: no topic of tw is selected",
        "flow kept-tw-jp: residency keeps 1 topic from jp: kept.pii",
        "cluster jp, flow kept-tw-jp: READ on group kuroshio.kept-tw-jp is allowed",
    ] {
        ensure!(report.contains(line), "no {line:?} in\n{report}");
    }
    config["defaults"]["acls"] = json!({ "sync": true });
    let report = said(&config, 2).await?;
    ensure!(report.contains("has no authorizer"), "{report}");
    Ok(())
}
