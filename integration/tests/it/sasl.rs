//! SASL towards brokers: each mechanism in both clients, said again in time, and what is wrong is named without its secrets.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{
    Authority, Cluster, Kuroshio, Ledger, Load, PLAIN_USERS, Spec, TokenServer, pair, until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::regions::{
    WAIT, assert_exact_on, both_ways_between, clusters, on_all, until_copied, until_status,
};
use crate::tls::{file, is_told};

/// What every password and secret here begins with.
pub(crate) const PLANTED: &str = "planted-";
/// Longer than two times of the listener, after which clients say again who they are, and than two lives of a token.
const LONG: u64 = 15;

struct Scene {
    dir: TempDir,
    ca: String,
    tokens: TokenServer,
    jp: Cluster,
}

async fn scene() -> Result<Scene> {
    let authority = Authority::new("Kuroshio tests")?;
    let good = authority.sign("localhost", false)?;
    let spec = Spec::new("jp").with_users("USERS", &good);
    let life = Duration::from_secs(6);
    let (jp, tokens) = tokio::try_join!(
        Cluster::start(spec),
        TokenServer::start(&good, ("carol", "planted-secret"), life)
    )?;
    jp.scram("SCRAM-SHA-256", "dave", "planted-scram").await?;
    jp.scram("SCRAM-SHA-512", "erin", "planted-scram").await?;
    let dir = tempfile::tempdir()?;
    let ca = file(&dir, "ca.pem", authority.pem())?;
    Ok(Scene { dir, ca, tokens, jp })
}

impl Scene {
    /// Each mechanism as it should be.
    fn good(&self) -> [Value; 4] {
        let (alice, password) = PLAIN_USERS[0];
        let scram = |mechanism: &str, user: &str| json!({ "mechanism": mechanism, "username": user, "password": "planted-scram" });
        [
            json!({ "mechanism": "plain", "username": alice, "password": password }),
            scram("scram-sha-256", "dave"),
            scram("scram-sha-512", "erin"),
            self.oauth("planted-secret"),
        ]
    }

    fn oauth(&self, secret: &str) -> Value {
        json!({
            "mechanism": "oauthbearer", "token_url": self.tokens.url(), "client_id": "carol", "client_secret": secret,
            "scope": "kafka",
        })
    }

    fn config(&self, tw: &Cluster, name: &str, sasl: &Value) -> Result<Value> {
        Ok(between(tw, &self.jp.secured("USERS")?, &self.ca, name, sasl))
    }
}

/// Both flows between tw and the cluster at this address, which is called jp, as somebody, for one topic.
pub(crate) fn between(tw: &Cluster, address: &str, ca: &str, name: &str, sasl: &Value) -> Value {
    let mut clusters = clusters(&[tw]);
    clusters["jp"] = json!({ "bootstrap_servers": address, "tls": { "ca_file": ca }, "sasl": sasl });
    let mut config = both_ways_between(&clusters, name, &[name]);
    config["instance"] = json!(name);
    config["log"]["level"] = json!("debug");
    config
}

#[tokio::test]
async fn records_flow_as_each_kind_of_user_and_what_is_wrong_is_named() -> Result<()> {
    let tw = &pair().await?.tw;
    let scene = scene().await?;
    wrong(tw, &scene).await?;
    let [plain, scram, longer, bearer] = scene.good();
    tokio::try_join!(
        flows_as(tw, &scene, &plain),
        flows_as(tw, &scene, &scram),
        flows_as(tw, &scene, &longer),
        flows_as(tw, &scene, &bearer),
    )?;
    // Renewed ahead of time by both clients of both flows, and never refused.
    let (given, refused) = scene.tokens.given();
    ensure!(given > 6, "{given} tokens");
    println!("{given} tokens given, {refused} refused");
    Ok(())
}

async fn flows_as(tw: &Cluster, scene: &Scene, sasl: &Value) -> Result<()> {
    let topic = format!("sasl-{}", sasl["mechanism"].as_str().unwrap_or_default());
    let config = scene.config(tw, &topic, sasl)?;
    flow_for_long([tw, &scene.jp], &topic, &[], config).await
}

/// Records of a topic in both directions for longer than brokers believe what was said once; no secret is shown.
pub(crate) async fn flow_for_long(
    both: [&Cluster; 2],
    topic: &str,
    environment: &[(&str, String)],
    config: Value,
) -> Result<()> {
    on_all(&both, topic, 3).await?;
    let mut process = Kuroshio::run_in(environment, config)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(81);
    let load = Load {
        records: 100 * LONG,
        partitions: 3,
        rate: Some(100),
    };
    let [tw, jp] = both;
    tokio::try_join!(ledger.produce(tw, topic, load), ledger.produce(jp, topic, load))?;
    let exact = assert_exact_on(both, &ledger, topic, WAIT).await;
    exact.with_context(|| process.log_tail())?;
    ensure!(process.logged(PLANTED)? == 0, "{topic}: the log holds a secret");
    for path in ["/status", "/metrics", "/"] {
        let text = process.until_http(path, WAIT, |text| !text.is_empty()).await?;
        ensure!(!text.contains(PLANTED), "{topic}: {path} holds a secret: {text}");
    }
    Ok(())
}

/// Another user takes over, whose name and password come from files, under load in both directions.
#[tokio::test]
async fn credentials_are_exchanged_under_load() -> Result<()> {
    let tw = &pair().await?.tw;
    let scene = scene().await?;
    let (jp, topic) = (&scene.jp, "sasl-rotated");
    on_all(&[tw, jp], topic, 3).await?;
    let write = |(user, password): (&str, &str)| -> Result<[String; 2]> {
        Ok([
            file(&scene.dir, "user", &format!("{user}\n"))?,
            file(&scene.dir, "password", &format!("{password}\n"))?,
        ])
    };
    let [user, password] = write(PLAIN_USERS[0])?.map(|path| format!("${{file:{path}}}"));
    let sasl = json!({ "mechanism": "plain", "username": user, "password": password });
    let mut process = Kuroshio::run(scene.config(tw, topic, &sasl)?)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(82);
    let load = Load {
        records: 200 * LONG,
        partitions: 3,
        rate: Some(200),
    };
    let exchanged = async {
        tokio::time::sleep(Duration::from_secs(3)).await; // under way
        write(PLAIN_USERS[1])
    };
    tokio::try_join!(
        ledger.produce(tw, topic, load),
        ledger.produce(jp, topic, load),
        exchanged
    )?;
    until_logged(&process, "its secrets have changed").await?;
    tokio::try_join!(ledger.produce(tw, topic, load), ledger.produce(jp, topic, load))?;
    let exact = assert_exact_on([tw, jp], &ledger, topic, WAIT * 2).await;
    exact.with_context(|| process.log_tail())?;
    ensure!(process.logged(PLANTED)? == 0, "the log holds a secret");
    let flow = until_status(&mut process, "sasl-rotated-tw-jp", WAIT, |flow| {
        flow["state"] == "running"
    })
    .await?;
    ensure!(!flow.to_string().contains(PLANTED), "{flow}");
    Ok(())
}

/// Waits until the process has written something with these words to its log.
pub(crate) async fn until_logged(process: &Kuroshio, words: &str) -> Result<()> {
    until(WAIT, &format!("{words:?} in the log"), || async {
        match process.logged(words) {
            Ok(times) if times > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// The broker knows another password before we do: nobody is let in until the file has it too, and then records go on.
#[tokio::test]
async fn a_password_that_ends_too_early_loses_nothing() -> Result<()> {
    let tw = &pair().await?.tw;
    let scene = scene().await?;
    let (jp, topic) = (&scene.jp, "sasl-early");
    on_all(&[tw, jp], topic, 3).await?;
    let path = file(&scene.dir, "password", "planted-scram")?;
    let password = format!("${{file:{path}}}");
    let sasl = json!({ "mechanism": "scram-sha-512", "username": "erin", "password": password });
    let mut process = Kuroshio::run(scene.config(tw, topic, &sasl)?)?;
    process.ready(WAIT).await?;
    let (ledger, over) = (Ledger::new(84), Cell::new(false));
    let load = async {
        while !over.get() {
            let load = Load {
                records: 400,
                partitions: 3,
                rate: Some(200),
            };
            tokio::try_join!(ledger.produce(tw, topic, load), ledger.produce(jp, topic, load))?;
        }
        anyhow::Ok(())
    };
    let exchanged = async {
        let exchanged = exchanged_late(&scene, &mut process).await;
        over.set(true);
        exchanged
    };
    // Whatever comes of it, the load ends while there are clusters for it.
    let (load, exchanged) = tokio::join!(load, exchanged);
    exchanged.with_context(|| process.log_tail())?;
    load?;
    let exact = assert_exact_on([tw, jp], &ledger, topic, WAIT * 2).await;
    exact.with_context(|| process.log_tail())?;
    ensure!(process.logged(PLANTED)? == 0, "the log holds a secret");
    Ok(())
}

/// The broker takes another password, and the file has it once nobody is let in with the old one; until records go on.
async fn exchanged_late(scene: &Scene, process: &mut Kuroshio) -> Result<()> {
    let flows = ["sasl-early-tw-jp", "sasl-early-jp-tw"];
    let other = "planted-other";
    for flow in flows {
        until_copied(process, flow, 1, WAIT).await?;
    }
    scene.jp.scram("SCRAM-SHA-512", "erin", other).await?;
    until_logged(process, "not authenticated as erin by SCRAM-SHA-512").await?;
    // Its last session has ended too.
    until_status(process, "sasl-early-tw-jp", WAIT, |flow| {
        flow["lag_seconds"].as_f64().is_some_and(|lag| lag > 5.0)
    })
    .await?;
    file(&scene.dir, "password", other)?;
    until_logged(process, "its secrets have changed").await?;
    let taken = Instant::now();
    for flow in flows {
        let copied = process
            .metric("kuroshio_records_total", &[("flow", flow)])
            .await?;
        until_copied(process, flow, copied.unwrap_or(0.0) as u64 + 1, WAIT * 2).await?;
        println!("{flow}: records go on after {:?}", taken.elapsed());
    }
    Ok(())
}

/// Each mistake, and what `check` says of it; a flow says the same, and waits.
async fn wrong(tw: &Cluster, scene: &Scene) -> Result<()> {
    let user = |mechanism: &str, name: &str, password: &str| json!({ "mechanism": mechanism, "username": name, "password": password });
    let mut nowhere = scene.oauth("planted-secret");
    nowhere["token_url"] = json!("https://localhost:1/token");
    for (sasl, says) in [
        (
            user("plain", "alice", "planted-wrong"),
            "not authenticated as alice by PLAIN: SASL_AUTHENTICATION_FAILED",
        ),
        (
            user("scram-sha-512", "erin", "planted-wrong"),
            "not authenticated as erin by SCRAM-SHA-512: SASL_AUTHENTICATION_FAILED",
        ),
        (
            user("scram-sha-256", "nobody", "planted-wrong"),
            "not authenticated as nobody by SCRAM-SHA-256: SASL_AUTHENTICATION_FAILED",
        ),
        (
            scene.oauth("planted-wrong"),
            "401 Unauthorized invalid_client nobody known",
        ),
        (nowhere, "token server https://localhost:1/token"),
        (Value::Null, "a listener that wants SASL?"),
    ] {
        let config = scene.config(tw, "sasl-wrong", &sasl)?;
        is_told(&sasl.to_string(), &[], &config, says, PLANTED).await?;
    }
    let config = scene.config(tw, "sasl-wrong", &user("plain", "alice", "planted-wrong"))?;
    let mut process = Kuroshio::run(config)?;
    until_status(&mut process, "sasl-wrong-tw-jp", WAIT, |flow| {
        flow["errors"]
            .to_string()
            .contains("not authenticated as alice by PLAIN")
    })
    .await?;
    ensure!(process.logged(PLANTED)? == 0, "the log holds a secret");
    Ok(())
}
