//! `kuroshio check` on brokers that authorise: what it asks for is enough for a run, and what is taken away is what it names.

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
    // The tool takes a second or two to start, and several operations on one thing.
    let mut things: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for permission in permissions {
        let (operation, thing) = permission.split_once(" on ").context("no permission")?;
        let (kind, name) = match thing {
            "the cluster" => ("cluster", ""),
            thing => thing.rsplit_once(' ').context("no name")?,
        };
        // It writes `DescribeConfigs`.
        let words = operation
            .split('_')
            .map(|word| word[..1].to_owned() + &word[1..].to_lowercase());
        things.entry((kind, name)).or_default().push(words.collect());
    }
    for ((kind, name), operations) in things {
        let option = format!("--{}", kind.replace(' ', "-"));
        let mut args = vec![verb, "--force", "--allow-principal", "User:ANONYMOUS"];
        args.extend(operations.iter().flat_map(|operation| ["--operation", operation]));
        args.push(&option);
        if kind != "cluster" {
            args.push(name.trim_end_matches('*'));
        }
        if name.ends_with('*') {
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

fn config(tw: &Cluster, jp: &Cluster) -> Value {
    json!({
        "clusters": clusters(&[tw, jp]),
        "flows": [
            { "name": "perm", "source": "tw", "target": "jp" },
            { "name": "back", "source": "jp", "target": "tw", "delivery": "at_least_once", "positions_on_source": false },
        ],
        "defaults": {
            "topics": { "include": ["perm[.]orders", "perm[.]made"], "refresh": "200ms" },
            "configs": { "interval": "1s" },
            "acls": { "sync": true, "interval": "1s" },
            "groups": { "interval": "200ms" },
            "heartbeats": { "enabled": true },
        },
        "instance": "perm",
        "log": { "format": "text" },
    })
}

async fn prepare(tw: &Cluster, jp: &Cluster) -> Result<()> {
    for topic in ["perm.orders", "perm.made"] {
        tw.create_topic(topic, 1, &[("retention.ms", "11111111")]).await?;
        write(tw, (topic, 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    jp.create_topic("perm.orders", 1, &[]).await?;
    write(jp, ("perm.orders", 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
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
async fn what_check_asks_for_is_enough_and_what_is_taken_away_is_named() -> Result<()> {
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
    // What the operator knows and nobody can see: the group. All else is what check asks for.
    set(&tw, "--add", &["DESCRIBE on group perm-app"]).await?;
    let mut granted = 0;
    for round in 0.. {
        let (missing, report, code) = check(&config).await?;
        if missing.is_empty() {
            ensure!(code == Some(0), "{report:#}");
            break;
        }
        ensure!(round < 6, "not content after {granted} ACLs: {missing:?}");
        granted += missing.len();
        let of = |kafka: &Cluster| -> Vec<&str> {
            let of_cluster = missing.iter().filter(|(cluster, _)| cluster == kafka.alias());
            of_cluster.map(|(_, acl)| acl.as_str()).collect()
        };
        let (of_tw, of_jp) = (of(&tw), of(&jp));
        tokio::try_join!(set(&tw, "--add", &of_tw), set(&jp, "--add", &of_jp))?;
        // Those are no longer missing a moment later.
        until(WAIT, "what was granted to be allowed", || async {
            let (now, ..) = check(&config).await.map_err(|why| format!("{why:#}"))?;
            let left: Vec<_> = now.iter().filter(|one| missing.contains(one)).collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await?;
    }

    // One of each kind is taken away.
    let cases = [
        (
            &tw,
            "READ on topic perm.orders",
            "kafka-cluster:ReadData on topic/perm.orders",
        ),
        (
            &jp,
            "WRITE on topic perm.orders",
            "kafka-cluster:WriteData on topic/perm.orders",
        ),
        (
            &jp,
            "CREATE on topic perm.made",
            "kafka-cluster:CreateTopic on topic/perm.made",
        ),
        (
            &jp,
            "READ on group kuroshio.perm",
            "kafka-cluster:AlterGroup on group/kuroshio.perm",
        ),
        (
            &jp,
            "WRITE on transactional id kuroshio.perm.*",
            "kafka-cluster:AlterTransactionalId on transactional-id/kuroshio.perm.*",
        ),
        (
            &tw,
            "DESCRIBE_CONFIGS on topic perm.orders",
            "kafka-cluster:DescribeTopicDynamicConfiguration on topic/perm.orders",
        ),
    ];
    let mut before: Option<(&Cluster, &str)> = None;
    for (kafka, acl, iam) in cases {
        let give_back = async {
            match before {
                Some((kafka, acl)) => set(kafka, "--add", &[acl]).await,
                None => Ok(()),
            }
        };
        let taken = [acl];
        tokio::try_join!(give_back, set(kafka, "--remove", &taken))?;
        before = Some((kafka, acl));
        let report = until_missing(&config, &[(kafka.alias(), acl)]).await?;
        let findings = report["findings"].as_array().context("no findings")?;
        let failed: Vec<&Value> = findings.iter().filter(|finding| finding["ok"] == false).collect();
        let named = format!("{acl} (cluster {}) is not allowed", kafka.alias());
        for finding in failed {
            let said = finding["detail"].as_str().unwrap_or_default();
            ensure!(said.starts_with(&named) && said.ends_with(iam), "{said}");
        }
    }
    if let Some((kafka, acl)) = before {
        set(kafka, "--add", &[acl]).await?;
    }
    until_missing(&config, &[]).await?;

    // And a run with these does all that it has to.
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let copied = async {
        for (kafka, topic, records) in [
            (&jp, "perm.orders", 2),
            (&jp, "perm.made", 1),
            (&tw, "perm.orders", 2),
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
