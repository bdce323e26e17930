//! What people tell a flow while it runs: to stand still and go on, to go slower, and to go by another file.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kuroshio_integration::{Kuroshio, Ledger, Load, command, pair, until};
use serde_json::{Value, json};

use crate::regions::{WAIT, on_all, one_way, until_status};
use crate::topics::arrived;

fn load(records: u64) -> Load {
    Load {
        records,
        partitions: 2,
        rate: None,
    }
}

/// `kuroshio pause` or `resume`, as people run it.
pub(crate) async fn tell(process: &Kuroshio, what: &str, flow: &str, about: &[&str]) -> Result<String> {
    let url = format!("http://{}", process.http());
    let args = [&[what, flow, "--url", &url][..], about].concat();
    let ended = command(&args, None, WAIT).await?;
    ensure!(ended.code == Some(0), "{ended:?}\n{}", process.log_tail());
    Ok(ended.stdout)
}

/// How many partitions of the topic are in this state, in this process.
fn count(flow: &Value, topic: &str, state: &str) -> usize {
    let lanes = flow["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is = |lane: &&Value| lane["topic"] == topic && lane["state"] == state;
    lanes.iter().filter(is).count()
}

#[tokio::test]
async fn what_is_paused_stands_still_in_every_process_until_it_is_resumed() -> Result<()> {
    let pair = pair().await?;
    for (delivery, name) in [("exactly_once", "paused-once"), ("at_least_once", "paused-least")] {
        let (held, free) = (&*format!("{name}.held"), &*format!("{name}.free"));
        let flow = &*format!("{name}-tw-jp");
        for topic in [held, free] {
            on_all(&[&pair.tw, &pair.jp], topic, 2).await?;
        }
        let mut config = one_way(pair, name, &[&format!("{name}[.].*")]);
        config["defaults"]["delivery"] = json!(delivery);
        config["http"]["admin"] = json!(true);
        let mut process = Kuroshio::run(config.clone())?;
        process.ready(WAIT).await?;
        let ledger = Ledger::new(90);
        for topic in [held, free] {
            ledger.produce(&pair.tw, topic, load(2_000)).await?;
            arrived(pair, &ledger, topic, &process).await?;
        }

        // Under load: what was begun is finished.
        let writing = ledger.produce(&pair.tw, held, load(5_000));
        let only = ["--topic", held];
        let (written, said) = tokio::join!(writing, tell(&process, "pause", flow, &only));
        written?;
        ensure!(said?.contains("are paused"));
        until_status(&mut process, flow, WAIT, |flow| count(flow, held, "paused") == 2).await?;
        // Without records in between nothing would show that it stands.
        ledger.produce(&pair.tw, held, load(1_000)).await?;
        ledger.produce(&pair.tw, free, load(1_000)).await?;
        arrived(pair, &ledger, free, &process).await?;
        let labels = [("flow", flow)];
        until(WAIT, "the paused partitions to be told", || async {
            let paused = process.metric("kuroshio_paused_partitions", &labels).await;
            let lag = process.status().await;
            match (paused, lag) {
                (Ok(Some(2.0)), Ok(status)) if status["flows"][0]["lag_records"].as_u64() >= Some(1_000) => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await?;

        // It stays so over a restart, and for a process that comes later.
        process.kill()?;
        process.restart()?;
        process.ready(WAIT).await?;
        config["instance"] = json!(format!("{name}-later"));
        let mut later = Kuroshio::run(config)?;
        later.ready(WAIT).await?;
        until(WAIT, "both processes to have paused their partitions", || async {
            let mut paused = 0;
            for one in [&process, &later] {
                let status = one.status().await.map_err(|why| format!("{why:#}"))?;
                let flow = &status["flows"][0];
                let running = count(flow, held, "running");
                if running > 0 {
                    return Err(format!("{running} run"));
                }
                paused += count(flow, held, "paused");
            }
            (paused == 2).then_some(()).ok_or(format!("{paused} paused"))
        })
        .await?;
        ledger.produce(&pair.tw, free, load(1_000)).await?;
        arrived(pair, &ledger, free, &process).await?;

        // One partition through the one process, the rest through the other.
        tell(&later, "resume", flow, &["--topic", held, "--partition", "1"]).await?;
        tell(&process, "resume", flow, &[]).await?;
        arrived(pair, &ledger, held, &process).await?;
        ensure!(
            process.logged("panicked")? + later.logged("panicked")? == 0,
            "{}",
            process.log_tail()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_is_kept_and_changed_while_the_flow_runs() -> Result<()> {
    let pair = pair().await?;
    let (topic, flow) = ("limited.orders", "limited-tw-jp");
    on_all(&[&pair.tw, &pair.jp], topic, 2).await?;
    let mut config = one_way(pair, "limited", &["limited[.].*"]);
    config["defaults"]["throttle"] = json!({ "bytes_per_second": "20KiB" });
    config["http"]["admin"] = json!(true);
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let labels = [("flow", flow), ("topic", topic)];
    let copied = async || {
        let bytes = process.metric("kuroshio_bytes_total", &labels).await?;
        anyhow::Ok((Instant::now(), bytes.unwrap_or(0.0)))
    };
    let ledger = Ledger::new(91);
    let began = Instant::now();
    ledger.produce(&pair.tw, topic, load(4_000)).await?;
    tokio::time::sleep(Duration::from_secs(5)).await; // the limit is one of time
    let (now, bytes) = copied().await?;
    // A batch may be taken beyond it, and is waited for afterwards.
    let allowed = 20_480.0 * (now - began).as_secs_f64() + 600_000.0;
    ensure!(bytes < allowed, "{bytes} of {allowed} bytes in {:?}", now - began);
    let pump = [("flow", flow), ("pump", "0")];
    let shown = process
        .metric("kuroshio_throttle_bytes_per_second", &pump)
        .await?;
    ensure!(shown == Some(20_480.0));

    process.rewrite_config(|config| config["defaults"]["throttle"] = json!({ "bytes_per_second": 0 }))?;
    process.hang_up()?;
    arrived(pair, &ledger, topic, &process).await?;
    ensure!(
        process.logged("the configuration file has changed")? == 1,
        "{}",
        process.log_tail()
    );
    Ok(())
}

#[tokio::test]
async fn another_file_is_followed_or_refused_whole() -> Result<()> {
    let pair = pair().await?;
    let (before, after, never) = ("reloaded.a", "other.b", "never.c");
    for topic in [before, after] {
        on_all(&[&pair.tw, &pair.jp], topic, 2).await?;
    }
    pair.tw.create_topic(never, 2, &[]).await?;
    let mut config = one_way(pair, "reloaded", &["reloaded[.].*"]);
    config["http"]["admin"] = json!(true);
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(92);
    for topic in [before, after, never] {
        ledger.produce(&pair.tw, topic, load(1_000)).await?;
    }
    arrived(pair, &ledger, before, &process).await?;
    process.rewrite_config(|config| {
        config["defaults"]["topics"]["include"] = json!(["reloaded[.].*", "other[.].*"]);
    })?;
    // Nobody says that it has changed.
    arrived(pair, &ledger, after, &process).await?;
    let in_force = async |wanted: f64| {
        until(WAIT, "what is told of the file", || async {
            match process
                .metric("kuroshio_config_last_reload_successful", &[])
                .await
            {
                Ok(Some(told)) if told == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    };
    let bad: [(&str, Value); 2] = [("delivery", json!("at_least_once")), ("naming", json!("suffix"))];
    for (key, value) in bad {
        process.rewrite_config(|config| {
            config["defaults"]["topics"]["include"] = json!([".*"]);
            config["defaults"][key] = value;
        })?;
        process.hang_up()?;
        in_force(0.0).await?;
        // The rest of the file would have had it copied.
        ledger.produce(&pair.tw, after, load(500)).await?;
        arrived(pair, &ledger, after, &process).await?;
        ensure!(!pair.jp.topics().await?.contains_key(never));
    }
    ensure!(process.logged("flows[0].delivery cannot change while the process runs")? > 0);
    process.rewrite_config(|config| {
        config["defaults"]["topics"]["include"] = json!(["other[.].*"]);
        config["defaults"]["delivery"] = Value::Null;
        config["defaults"]["naming"] = Value::Null;
    })?;
    in_force(1.0).await?;
    until_status(&mut process, "reloaded-tw-jp", WAIT, |flow| {
        count(flow, before, "running") == 0 && count(flow, after, "running") == 2
    })
    .await?;
    Ok(())
}
