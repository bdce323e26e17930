//! TLS towards brokers: both clients verify certificates and names, show their own, and say what is wrong.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{
    Authority, Cluster, Identity, Kuroshio, Ledger, Load, Spec, command, command_in, pair, self_signed,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::regions::{WAIT, assert_exact_on, both_ways_between, clusters, on_all, until_status};
use crate::sasl::until_logged;

const LOAD: Load = Load {
    records: 5_000,
    partitions: 3,
    rate: None,
};

/// Writes a file and gives its path.
pub(crate) fn file(dir: &TempDir, name: &str, text: &str) -> Result<String> {
    let path = dir.path().join(name);
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// Both flows between tw and the cluster at this address, which is called jp, for one topic.
fn config(tw: &Cluster, address: &str, tls: &Value, topic: &str) -> Value {
    let mut clusters = clusters(&[tw]);
    clusters["jp"] = json!({ "bootstrap_servers": address, "tls": tls });
    let mut config = both_ways_between(&clusters, topic, &[topic]);
    config["instance"] = json!(topic);
    config
}

/// `check` says of this configuration that the cluster jp cannot be used, and why; nothing that begins with `secret`.
pub(crate) async fn is_told(
    what: &str,
    environment: &[(&str, String)],
    config: &Value,
    says: &str,
    secret: &str,
) -> Result<()> {
    let started = Instant::now();
    let args = ["check", "--config", "{config}"];
    let checked = command_in(environment, &args, Some(config), WAIT).await?;
    println!("{what}: {:?}", started.elapsed());
    ensure!(checked.code == Some(2), "{what}: {checked:?}");
    let told = checked
        .stdout
        .lines()
        .any(|line| line.contains("cluster jp") && line.contains(says));
    ensure!(told, "{what}: not {says:?} in {checked:?}");
    ensure!(!format!("{checked:?}").contains(secret), "{checked:?}");
    Ok(())
}

struct Scene {
    dir: TempDir,
    ca: String,
    client: Identity,
    jp: Cluster,
}

/// A cluster whose listeners show good and bad certificates.
async fn scene() -> Result<Scene> {
    let authority = Authority::new("Kuroshio tests")?;
    let good = authority.sign("localhost", false)?;
    let spec = Spec::new("jp")
        .secured("GOOD", &good, None)
        .secured("MUTUAL", &good, Some(authority.pem()))
        .secured("EXPIRED", &authority.sign("localhost", true)?, None)
        .secured("ELSEWHERE", &authority.sign("elsewhere.example", false)?, None)
        .secured("ALONE", &self_signed("localhost")?, None);
    let dir = tempfile::tempdir()?;
    Ok(Scene {
        ca: file(&dir, "ca.pem", authority.pem())?,
        client: authority.sign("kuroshio", false)?,
        jp: Cluster::start(spec).await?,
        dir,
    })
}

#[tokio::test]
async fn records_flow_over_tls_and_what_is_wrong_is_named() -> Result<()> {
    let tw = &pair().await?.tw;
    let scene = scene().await?;
    let (jp, ca) = (&scene.jp, &scene.ca);
    wrong(tw, &scene).await?;

    // With a certificate of ours, in both directions.
    let topic = "tls-orders";
    on_all(&[tw, jp], topic, 3).await?;
    let ledger = Ledger::new(80);
    let tls = json!({
        "ca_file": ca,
        "cert_file": file(&scene.dir, "client.pem", &scene.client.certificate)?,
        "key_file": file(&scene.dir, "client.key", &scene.client.key)?,
    });
    let mut process = Kuroshio::run(config(tw, &jp.secured("MUTUAL")?, &tls, topic))?;
    process.ready(WAIT).await?;
    tokio::try_join!(ledger.produce(tw, topic, LOAD), ledger.produce(jp, topic, LOAD))?;
    let exact = assert_exact_on([tw, jp], &ledger, topic, WAIT).await;
    exact.with_context(|| process.log_tail())?;
    process.interrupt()?;
    process.exited(WAIT).await?;

    // Without one, and only by trust in the broker's.
    let mut process = Kuroshio::run(config(tw, &jp.secured("GOOD")?, &json!({ "ca_file": ca }), topic))?;
    process.ready(WAIT).await?;
    ledger.produce(tw, topic, LOAD).await?;
    let births = [("tw", topic), ("jp", topic)];
    let report = ledger.compare(jp, topic, &births, WAIT).await?;
    ensure!(report.is_exact(), "{report}\n{}", process.log_tail());
    Ok(())
}

/// Another authority signs for both sides from now on: certificate, key and roots are other files' contents, under load in both directions. The
/// broker takes both for a while, as one should have it, and then only what is new.
#[tokio::test]
async fn certificates_are_exchanged_under_load() -> Result<()> {
    let tw = &pair().await?.tw;
    let [old, new] = [
        Authority::new("Kuroshio tests")?,
        Authority::new("Their successor")?,
    ];
    let both = [old.pem(), new.pem()].concat();
    let broker = old.sign("localhost", false)?;
    let jp = &Cluster::start(Spec::new("jp").secured("MUTUAL", &broker, Some(&both))).await?;
    let dir = tempfile::tempdir()?;
    let write = |roots: &str, signer: &Authority| -> Result<Value> {
        let client = signer.sign("kuroshio", false)?;
        Ok(json!({
            "ca_file": file(&dir, "ca.pem", roots)?,
            "cert_file": file(&dir, "client.pem", &client.certificate)?,
            "key_file": file(&dir, "client.key", &client.key)?,
        }))
    };
    let topic = "tls-rotated";
    on_all(&[tw, jp], topic, 3).await?;
    let address = jp.secured("MUTUAL")?;
    let mut process = Kuroshio::run(config(tw, &address, &write(old.pem(), &old)?, topic))?;
    process.ready(WAIT).await?;

    let ledger = Ledger::new(83);
    let load = Load {
        records: 6_000,
        partitions: 3,
        rate: Some(400),
    };
    let exchanged = async {
        tokio::time::sleep(Duration::from_secs(3)).await; // under way
        write(&both, &new)?;
        until_logged(&process, "its secrets have changed").await
    };
    tokio::try_join!(
        ledger.produce(tw, topic, load),
        ledger.produce(jp, topic, load),
        exchanged
    )?;
    // Nobody who came before is there any more, and who comes with what was before is not let in, nor believes the broker.
    let closed = async {
        jp.resecure("MUTUAL", &new.sign("localhost", false)?, new.pem())
            .await?;
        jp.stop(1).await?;
        jp.restart(1).await?;
        jp.ready().await
    };
    tokio::try_join!(ledger.produce(tw, topic, load), closed)?;
    ledger.produce(jp, topic, load).await?;
    let exact = assert_exact_on([tw, jp], &ledger, topic, WAIT * 2).await;
    exact.with_context(|| process.log_tail())?;
    let before = json!({ "ca_file": file(&dir, "old.pem", old.pem())? });
    let config = config(tw, &address, &before, "tls-wrong");
    is_told(
        "the old roots",
        &[],
        &config,
        "signed by nobody who is trusted here",
        "PRIVATE KEY",
    )
    .await?;
    Ok(())
}

/// Each mistake, and what `check` says of it.
async fn wrong(tw: &Cluster, scene: &Scene) -> Result<()> {
    let (jp, ca) = (&scene.jp, &scene.ca);
    let other = file(&scene.dir, "other.pem", Authority::new("Others")?.pem())?;
    let no_pem = file(&scene.dir, "no.pem", "secret that is no certificate")?;
    let trusting = || json!({ "ca_file": ca });
    for (listener, tls, says) in [
        ("EXPIRED", trusting(), "the certificate of localhost has expired"),
        ("ELSEWHERE", trusting(), "is not for that name"),
        ("ALONE", trusting(), "signed by nobody who is trusted here"),
        (
            "GOOD",
            json!({ "ca_file": other }),
            "signed by nobody who is trusted here",
        ),
        ("GOOD", json!({}), "signed by nobody who is trusted here"),
        (
            "GOOD",
            json!({ "ca_file": no_pem }),
            "there is no certificate in it",
        ),
        ("GOOD", json!({ "ca_file": "/nowhere/ca.pem" }), "/nowhere/ca.pem"),
        ("MUTUAL", trusting(), "the broker refused us"),
        ("GOOD", Value::Null, "a listener that wants TLS"),
    ] {
        let config = config(tw, &jp.secured(listener)?, &tls, "tls-wrong");
        is_told(&format!("{listener} {tls}"), &[], &config, says, "secret that").await?;
    }
    let plaintext = config(tw, jp.bootstrap(), &trusting(), "tls-wrong");
    let checked = command(&["check", "--config", "{config}"], Some(&plaintext), WAIT).await?;
    ensure!(checked.stdout.contains("TLS"), "{checked:?}");
    // A flow that runs says the same, and waits.
    let mut process = Kuroshio::run(config(tw, &jp.secured("EXPIRED")?, &trusting(), "tls-wrong"))?;
    until_status(&mut process, "tls-wrong-tw-jp", WAIT, |flow| {
        flow["errors"].to_string().contains("has expired")
    })
    .await?;
    Ok(())
}
