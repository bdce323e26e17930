//! Bad input: a clear error with its place, and everything else goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Spec, command, pair};
use rdkafka::message::OwnedHeaders;
use serde_json::{Value, json};

use crate::regions::{WAIT, both_ways, clusters, one_way, until_status, until_there, write};

/// A configuration, how `check` ends with it, and what it says.
struct Case {
    name: &'static str,
    change: fn(&mut Value),
    offline: bool,
    code: i32,
    says: &'static [&'static str],
}

const CASES: [Case; 11] = [
    Case {
        name: "good",
        change: |_| (),
        offline: false,
        code: 0,
        says: &["cluster tw", "cluster jp"],
    },
    Case {
        name: "good, offline",
        change: |_| (),
        offline: true,
        code: 0,
        says: &["2 clusters, 2 flows"],
    },
    Case {
        name: "unreachable broker",
        // A documentation address (RFC 5737): nobody answers.
        change: |config| config["clusters"]["jp"]["bootstrap_servers"] = json!("192.0.2.1:9092"),
        offline: false,
        code: 2,
        says: &["cluster jp", "192.0.2.1:9092", "unreachable"],
    },
    Case {
        name: "unreachable broker, offline",
        change: |config| config["clusters"]["jp"]["bootstrap_servers"] = json!("192.0.2.1:9092"),
        offline: true,
        code: 0,
        says: &["configuration"],
    },
    Case {
        name: "wrong port",
        change: |config| config["clusters"]["jp"]["bootstrap_servers"] = json!("127.0.0.1:1"),
        offline: false,
        code: 2,
        says: &["cluster jp", "127.0.0.1:1", "unreachable"],
    },
    Case {
        name: "unknown key",
        change: |config| config["defaults"]["delivry"] = json!("exactly_once"),
        offline: true,
        code: 64,
        says: &["defaults.delivry"],
    },
    Case {
        name: "duplicate flow",
        change: |config| config["flows"][1] = json!({ "name": "again", "source": "tw", "target": "jp" }),
        offline: true,
        code: 64,
        says: &["flows[1]", "duplicate flow"],
    },
    Case {
        name: "source = target",
        change: |config| config["flows"][0]["target"] = json!("tw"),
        offline: true,
        code: 64,
        says: &["flows[0]", "source and target are both `tw`"],
    },
    Case {
        name: "one cluster under two aliases",
        change: |config| {
            // By another name, or the file alone would tell.
            let servers = config["clusters"]["tw"]["bootstrap_servers"]
                .as_str()
                .map(|s| s.replace("127.0.0.1", "localhost"));
            config["clusters"]["jp"] = json!({ "bootstrap_servers": servers });
        },
        offline: false,
        code: 2,
        says: &["cluster", "is the same cluster as"],
    },
    Case {
        name: "two topics renamed to one name",
        change: |config| config["defaults"]["topics"]["rename"] = json!({ "a": "c", "b": "c" }),
        offline: true,
        code: 64,
        says: &["topics.rename.b", "two topics cannot be mapped to one name"],
    },
    Case {
        name: "several mistakes at once",
        change: |config| {
            config["flows"][0]["source"] = json!("nowhere");
            config["defaults"]["naming"] = json!("suffix");
        },
        offline: true,
        code: 64,
        says: &["flows[0].source", "`nowhere`", "defaults.naming", "suffix"],
    },
];

#[tokio::test]
async fn check_names_what_is_wrong() -> Result<()> {
    let pair = pair().await?;
    for case in CASES {
        let mut config = both_ways(pair, "checked", &["checked[.].*"]);
        config["instance"] = json!("checked");
        (case.change)(&mut config);
        let mut args = vec!["check", "--config", "{config}"];
        args.extend(case.offline.then_some("--offline"));
        let ended = command(&args, Some(&config), WAIT).await.context(case.name)?;
        ensure!(ended.code == Some(case.code), "{}: {ended:?}", case.name);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        for text in case.says {
            ensure!(said.contains(text), "{}: no {text:?} in {said}", case.name);
        }
        // The same in JSON, for machines.
        args.extend(["--output", "json"]);
        let ended = command(&args, Some(&config), WAIT).await.context(case.name)?;
        let report: Value =
            serde_json::from_str(&ended.stdout).with_context(|| format!("{}: {ended:?}", case.name))?;
        ensure!(
            ended.code == Some(case.code) && report["ok"] == json!(case.code == 0),
            "{}: {report}",
            case.name
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_schema_is_json_and_usage_errors_end_with_64() -> Result<()> {
    let ended = command(&["config", "schema"], None, WAIT).await?;
    let schema: Value = serde_json::from_str(&ended.stdout)?;
    ensure!(
        ended.code == Some(0) && schema["properties"]["clusters"].is_object(),
        "{schema}"
    );
    for args in [
        &["run"][..],
        &["no-such-command"],
        &["run", "--config", "/no/such/file"],
        &["import", "/no/such/file"],
        &["import", "{config}"], // ours is none of MirrorMaker 2
    ] {
        let ended = command(args, Some(&json!({ "clusters": {} })), WAIT).await?;
        ensure!(
            ended.code == Some(64) && !ended.stderr.is_empty(),
            "{args:?}: {ended:?}"
        );
    }
    Ok(())
}

/// Whether a flow in `/status` has an error that contains this.
pub(crate) fn says(flow: &Value, text: &str) -> bool {
    flow["errors"].as_array().is_some_and(|errors| {
        errors
            .iter()
            .any(|error| error["text"].as_str().is_some_and(|said| said.contains(text)))
    })
}

#[tokio::test]
async fn two_topics_of_one_name_and_one_that_cannot_be_created_stay_behind_alone() -> Result<()> {
    let pair = pair().await?;
    // `there` exists on both sides; `missing` would have to be created with more replicas than there are brokers.
    pair.jp.create_topic("behind.there", 1, &[]).await?;
    for topic in ["behind.there", "behind.missing", "behind.a", "behind.b"] {
        pair.tw.create_topic(topic, 1, &[]).await?;
        write(&pair.tw, (topic, 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    let mut config = one_way(pair, "behind", &["behind[.].*"]);
    config["defaults"]["replication_factor"] = json!(5);
    // b is renamed to a name that another topic has by itself.
    config["defaults"]["topics"]["rename"] = json!({ "behind.b": "behind.a" });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    until_there(&pair.jp, "behind.there", 1)
        .await
        .with_context(|| process.log_tail())?;
    until_status(&mut process, "behind-tw-jp", WAIT, |flow| {
        says(flow, "behind.missing") && says(flow, "behind.a, behind.b")
    })
    .await?;
    let there = pair.jp.topics().await?;
    ensure!(
        !there.contains_key("behind.missing") && !there.contains_key("behind.a"),
        "{there:?}"
    );
    let status = process.status().await?;
    ensure!(status["flows"][0]["state"] == "running", "{status}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named_and_waited_for() -> Result<()> {
    let pair = pair().await?;
    pair.tw.create_topic("away.orders", 1, &[]).await?;
    let mut config = both_ways(pair, "away", &["away[.].*"]);
    config["clusters"]["jp"]["bootstrap_servers"] = json!("127.0.0.1:1");
    let mut process = Kuroshio::run(config)?;
    let flow = until_status(&mut process, "away-tw-jp", WAIT, |flow| says(flow, "127.0.0.1:1")).await?;
    ensure!(says(&flow, "jp"), "{flow}");
    let (code, body) = process.get("/readyz").await?;
    ensure!(code == 503 && body.contains("away-tw-jp"), "{code} {body}");
    ensure!(process.get("/livez").await?.0 == 200);
    process.terminate()?;
    ensure!(
        process.exited(WAIT).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    Ok(())
}

#[tokio::test]
async fn what_acls_forbid_stays_behind_alone() -> Result<()> {
    let (pair, guarded) = tokio::try_join!(pair(), Cluster::start(Spec::new("guarded").with_acls()))?;
    for topic in ["acls.open", "acls.locked", "acls.forbidden"] {
        pair.tw.create_topic(topic, 1, &[]).await?;
        write(&pair.tw, (topic, 0), (b"k", Some(b"v")), OwnedHeaders::new()).await?;
    }
    for topic in ["acls.open", "acls.locked"] {
        guarded.create_topic(topic, 1, &[]).await?;
    }
    // One may be seen but not be written; one may not be created, which the cluster's permission would allow.
    for rule in [
        ["--allow-principal", "Describe", "--topic=acls.locked"],
        ["--deny-principal", "Write", "--topic=acls.locked"],
        ["--deny-principal", "Create", "--topic=acls.forbidden"],
        ["--allow-principal", "All", "--cluster"],
        ["--deny-principal", "Create", "--cluster"],
    ] {
        let [principal, operation, resource] = rule;
        guarded
            .acl(&[principal, "User:*", "--operation", operation, resource])
            .await?;
    }
    let mut process = Kuroshio::run(json!({
        "clusters": clusters(&[&pair.tw, &guarded]),
        "flows": [{ "name": "acls", "source": "tw", "target": "guarded" }],
        "defaults": { "topics": { "include": ["acls[.].*"], "refresh": "200ms" } },
        "log": { "format": "text" },
    }))?;
    process.ready(WAIT).await?;
    until_there(&guarded, "acls.open", 1)
        .await
        .with_context(|| process.log_tail())?;
    let quarantined = |flow: &Value| {
        let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of = |topic: &str| lanes.iter().find(|lane| lane["topic"] == topic);
        of("acls.locked").is_some_and(|lane| lane["state"] == "quarantined")
            && of("acls.open").is_some_and(|lane| lane["state"] == "running")
    };
    let flow = until_status(&mut process, "acls", WAIT, |flow| {
        quarantined(flow) && says(flow, "acls.forbidden")
    })
    .await?;
    ensure!(!guarded.topics().await?.contains_key("acls.forbidden"), "{flow}");
    // The others go on, also later.
    write(
        &pair.tw,
        ("acls.open", 0),
        (b"k", Some(b"later")),
        OwnedHeaders::new(),
    )
    .await?;
    until_there(&guarded, "acls.open", 2)
        .await
        .with_context(|| process.log_tail())?;
    let count = process
        .metric("kuroshio_quarantined_partitions", &[("reason", "not_authorized")])
        .await?;
    ensure!(count == Some(1.0), "{count:?}");
    process.terminate()?;
    ensure!(
        process.exited(Duration::from_secs(40)).await?.code() == Some(0),
        "{}",
        process.log_tail()
    );
    Ok(())
}
