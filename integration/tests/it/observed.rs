//! What an operator sees: metrics as a real Prometheus takes them, alerts, health, the page in a real browser.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{
    Browser, Cluster, Ended, Kuroshio, Ledger, Load, Pair, Prometheus, Spec, binary, command, until,
};
use kuroshio_wire::Committer;
use serde_json::{Value, json};

use crate::exported::at;
use crate::regions::{WAIT, assert_exact, both_ways, on_all, wire};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Runs a tool to its end and returns what it said.
pub(crate) fn tool(program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(repository(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program} (`make test` installs it)"))?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(input.unwrap_or_default().as_bytes())?;
    drop(stdin);
    let ended = child.wait_with_output()?;
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(
        ended.status.success(),
        "{program} {args:?}: {}\n{said}",
        ended.status
    );
    Ok(said)
}

#[test]
fn rules_alertmanager_and_dashboard_hold_what_their_tools_ask() -> Result<()> {
    tool(
        "promtool",
        &["check", "rules", "helm/kuroshio/rules/kuroshio.yaml"],
        None,
    )?;
    println!(
        "{}",
        tool("promtool", &["test", "rules", "helm/tests/rules.yaml"], None)?
    );
    tool(
        "amtool",
        &["check-config", "helm/kuroshio/examples/alertmanager.yaml"],
        None,
    )?;
    println!("{}", tool("helm/tests/dashboard.sh", &[], None)?);
    Ok(())
}

/// Every expression of the dashboard, with its variables filled in.
fn dashboard_queries() -> Result<Vec<String>> {
    let text = std::fs::read_to_string(repository("helm/kuroshio/dashboards/kuroshio.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let mut queries = Vec::new();
    let mut panels: Vec<&Value> = dashboard["panels"]
        .as_array()
        .context("no panels")?
        .iter()
        .collect();
    while let Some(panel) = panels.pop() {
        panels.extend(panel["panels"].as_array().into_iter().flatten());
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("a target without expr")?;
            let filled = ["flow", "cluster", "group", "topic", "instance"].iter().fold(
                expression.to_owned(),
                |expression, name| {
                    expression
                        .replace(&format!("${{{name}}}"), ".*")
                        .replace(&format!("${name}"), ".*")
                },
            );
            queries.push(
                filled
                    .replace("$__rate_interval", "30s")
                    .replace("$__range", "5m")
                    .replace("$__interval", "5s"),
            );
        }
    }
    Ok(queries)
}

/// Queries of the dashboard that have nothing to show while all is well.
const QUIET: [&str; 4] = [
    "kuroshio_lost_records_total",
    "kuroshio_quarantined_partitions",
    "kuroshio_group_follows",
    "kuroshio_skipped_records_total",
];

/// The names of the alerts that fire, with their severities.
async fn firing(prometheus: &Prometheus) -> Result<Vec<(String, String)>> {
    let word = |labels: &Value, name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    let firing = prometheus.firing().await?;
    Ok(firing
        .iter()
        .map(|labels| (word(labels, "alertname"), word(labels, "severity")))
        .collect())
}

async fn until_firing(prometheus: &Prometheus, wanted: &[(&str, &str)]) -> Result<()> {
    until(WAIT * 3, &format!("alerts {wanted:?}"), || async {
        let firing = firing(prometheus).await.map_err(|why| format!("{why:#}"))?;
        let there = |(name, severity): &(&str, &str)| {
            firing
                .iter()
                .any(|(n, s)| (n.as_str(), s.as_str()) == (*name, *severity))
        };
        if wanted.iter().all(there) {
            Ok(())
        } else {
            Err(format!("{firing:?}"))
        }
    })
    .await
}

pub(crate) async fn metric(process: &Kuroshio, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
    let value = process.metric(name, labels).await?;
    value.with_context(|| format!("no {name} {labels:?}"))
}

async fn status_of(process: &Kuroshio, args: &[&str]) -> Result<Ended> {
    let url = format!("http://{}", process.http());
    let all: Vec<_> = ["status", "--url", &url].iter().chain(args).copied().collect();
    command(&all, None, WAIT).await
}

/// The first lines of `status --watch --output json`.
async fn watched(process: &Kuroshio, lines: usize) -> Result<Vec<Value>> {
    let url = format!("http://{}", process.http());
    let mut child = Command::new(binary()?)
        .args(["status", "--url", &url, "--watch", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = BufReader::new(child.stdout.take().context("a pipe")?);
    let read = tokio::task::spawn_blocking(move || {
        let lines = out.lines().take(lines);
        lines
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect::<Result<Vec<Value>>>()
    });
    let read = tokio::time::timeout(WAIT, read).await;
    child.kill()?;
    child.wait()?;
    read??
}

/// What is on the page in a window of that size.
async fn look(process: &Kuroshio, size: (u32, u32), dark: bool, name: &str) -> Result<String> {
    let browser = Browser::open(size.0, size.1, dark).await?;
    browser.load(&format!("http://{}/", process.http())).await?;
    // The script has drawn it anew at least once: then it is marked so that the first drawing cannot be meant.
    browser.run("document.querySelector('main').dataset.first = 'yes'; document.querySelector('.map').dataset.first = 'yes'").await?;
    until(WAIT, "the page to renew itself", || async {
        let old = browser
            .run("return document.querySelector('.map').dataset.first || ''")
            .await;
        match old {
            Ok(old) if old == "" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let wide = browser
        .run("return [document.documentElement.scrollWidth, window.innerWidth]")
        .await?;
    ensure!(
        wide[0].as_f64() <= wide[1].as_f64(),
        "{name} is wider than the window: {wide}"
    );
    let ground = browser
        .run("return getComputedStyle(document.body).backgroundColor")
        .await?;
    let is_dark = ground.as_str().is_some_and(|ground| ground.starts_with("rgb(1"));
    ensure!(is_dark == dark, "{name}: {ground}");
    println!("{}", browser.picture(name).await?.display());
    browser.text().await
}

#[tokio::test]
async fn a_stopped_region_is_seen_everywhere_and_nothing_is_lost() -> Result<()> {
    let (tw, jp) = tokio::try_join!(Cluster::start(Spec::new("tw")), Cluster::start(Spec::new("jp")))?;
    let pair = Pair { tw, jp };
    let (ledger, topic) = (Ledger::new(600), "observed.orders");
    on_all(&[&pair.tw, &pair.jp], topic, 4).await?;
    let mut config = both_ways(&pair, "observed", &["observed[.].*"]);
    config["defaults"]["heartbeats"] = json!({ "enabled": true });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let rules = repository("helm/kuroshio/rules/kuroshio.yaml");
    let prometheus = Prometheus::start(&[process.http()], &rules).await?;
    let load = |records| Load {
        records,
        partitions: 4,
        rate: Some(200),
    };
    let group = [at(topic, 0, 0)];
    wire(&pair.tw)
        .commit_offsets("observed-billing", Committer::Observer, &group)
        .await?;
    tokio::try_join!(
        ledger.produce(&pair.tw, topic, load(2_000)),
        ledger.produce(&pair.jp, topic, load(2_000))
    )?;
    process
        .until_http("/metrics", WAIT, |text| {
            text.contains("kuroshio_group_lag_seconds{")
        })
        .await?;
    calm(&process, &prometheus).await?;

    let before = look(&process, (1280, 900), false, "calm").await?;
    for words in ["tw → jp", "jp → tw", "healthy", "RPO", "observed-billing"] {
        ensure!(before.contains(words), "{words} is not on the page:\n{before}");
    }
    ensure!(!before.contains("not healthy"), "{before}");
    let stopped = Instant::now();
    pair.jp.stop(1).await?;
    let outage = async {
        let down = until(WAIT, "503", || async {
            match process.get("/health/region/jp").await {
                Ok((503, why)) => Ok(why),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        println!("/health/region/jp turned after {:?}: {down}", stopped.elapsed());
        ensure!(process.get("/health/region/tw").await?.0 == 200, "tw is there");
        let flow = [("flow", "observed-tw-jp")];
        let lag = || async { metric(&process, "kuroshio_lag_seconds", &[flow[0], ("topic", topic)]).await };
        let (early, rpo) = (
            lag().await?,
            metric(&process, "kuroshio_rpo_seconds", &flow).await?,
        );
        until_firing(
            &prometheus,
            &[
                ("KuroshioClusterUnreachable", "critical"),
                ("KuroshioRegionDown", "emergency"),
                ("KuroshioLag", "warning"),
                ("KuroshioLag", "critical"),
                ("KuroshioRpoGrowing", "emergency"),
            ],
        )
        .await?;
        println!("all alerts fire after {:?}", stopped.elapsed());
        let (late, later) = (
            lag().await?,
            metric(&process, "kuroshio_rpo_seconds", &flow).await?,
        );
        ensure!(
            late > early && early > 0.0 && later > rpo,
            "lag {early} then {late}, RPO {rpo} then {later}"
        );
        let page = look(&process, (1280, 900), true, "outage").await?;
        ensure!(page.contains("not healthy"), "{page}");
        let phone = look(&process, (390, 844), false, "outage-phone").await?;
        ensure!(phone.contains("not healthy"), "{phone}");
        let told = status_of(&process, &[]).await?;
        ensure!(
            told.code == Some(0) && told.stdout.contains("NOT HEALTHY"),
            "{told:?}"
        );
        for status in watched(&process, 2).await? {
            let lag = status["flows"][0]["lag_seconds"].as_f64();
            ensure!(
                lag > Some(5.0) && status["clusters"][1]["healthy"] == false,
                "{status}"
            );
        }
        anyhow::Ok(())
    };
    // Records are born on the source all the time.
    tokio::try_join!(outage, ledger.produce(&pair.tw, topic, load(12_000)))?;
    tokio::time::sleep(Duration::from_secs(60).saturating_sub(stopped.elapsed())).await; // a minute, as was promised
    pair.jp.restart(1).await?;
    pair.jp.ready().await?;
    let back = Instant::now();
    assert_exact(&pair, &ledger, topic, WAIT * 3)
        .await
        .with_context(|| process.log_tail())?;
    println!("all there {:?} after the region", back.elapsed());
    calm(&process, &prometheus).await?;
    ensure!(
        metric(&process, "kuroshio_lost_records_total", &[])
            .await
            .is_err(),
        "nothing is lost"
    );
    every_query(&prometheus).await?;
    let (code, text) = process.get("/metrics").await?;
    ensure!(code == 200);
    tool("promtool", &["check", "metrics"], Some(&text))?;
    let json = status_of(&process, &["--output", "json"]).await?;
    let status: Value = serde_json::from_str(&json.stdout)?;
    ensure!(
        status["clusters"][0]["healthy"] == true && status["flows"][0]["lag_seconds"].as_f64() < Some(2.0),
        "{status}"
    );
    Ok(())
}

/// Both regions are healthy, nothing is missing, no alert fires.
async fn calm(process: &Kuroshio, prometheus: &Prometheus) -> Result<()> {
    until(WAIT * 3, "calm", || async {
        let look = async {
            for alias in ["tw", "jp"] {
                let (code, why) = process.get(&format!("/health/region/{alias}")).await?;
                ensure!(code == 200, "{alias}: {code} {why}");
            }
            for flow in ["observed-tw-jp", "observed-jp-tw"] {
                let lag = metric(process, "kuroshio_lag_seconds", &[("flow", flow)]).await?;
                let rpo = metric(process, "kuroshio_rpo_seconds", &[("flow", flow)]).await?;
                // A heartbeat is always on its way.
                ensure!(lag < 2.0 && rpo < 5.0, "{flow}: lag {lag}, RPO {rpo}");
            }
            let firing = firing(prometheus).await?;
            ensure!(firing.is_empty(), "{firing:?}");
            Ok(())
        };
        look.await.map_err(|why: anyhow::Error| format!("{why:#}"))
    })
    .await
    .with_context(|| process.log_tail())
}

/// Prometheus takes every query of the dashboard, and has an answer unless there is nothing to tell.
async fn every_query(prometheus: &Prometheus) -> Result<()> {
    let queries = dashboard_queries()?;
    ensure!(queries.len() > 20, "{} queries", queries.len());
    for query in queries {
        let answer = prometheus.query(&query).await?;
        let quiet = QUIET.iter().any(|name| query.contains(name));
        ensure!(quiet || !answer.is_empty(), "nothing for {query}");
    }
    Ok(())
}
