//! Exactly once means once: whatever is killed, and however often the slots move between two instances.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use kuroshio_integration::{Kuroshio, Ledger, Pair, pair, until};
use serde_json::{Value, json};

use crate::regions::{
    ALL_SLOTS, WAIT, assert_exact, both_ways, diagnosis, on_all, seat, slots, stay_silent, under_load,
    until_status,
};
use crate::verify::verify;

/// Longest wait for all to arrive after the last fault: a session timeout and what piled up.
const HEAL: Duration = Duration::from_secs(90);

/// Seeds faults; `KUROSHIO_SEED` repeats a run.
fn rng(test: &str) -> Result<Rng> {
    let seed = match std::env::var("KUROSHIO_SEED") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("KUROSHIO_SEED={text} is not a number"))?,
        Err(_) => fastrand::u64(..),
    };
    println!("{test}: repeat with KUROSHIO_SEED={seed}");
    Ok(Rng::with_seed(seed))
}

/// What both stories begin with: a topic on both sides, and one process that runs both flows.
struct Scene {
    pair: &'static Pair,
    ledger: Ledger,
    topic: String,
    rng: Rng,
    config: Value,
    flows: [String; 2],
    first: Kuroshio,
}

async fn scene(name: &str, seed: u64, partitions: i32) -> Result<Scene> {
    let pair = pair().await?;
    let topic = format!("{name}.orders");
    on_all(&[&pair.tw, &pair.jp], &topic, partitions).await?;
    let config = both_ways(pair, name, &[&format!("{name}[.].*")]);
    let mut first = instance(&config, &format!("{name}-a"))?;
    first.ready(WAIT).await?;
    Ok(Scene {
        pair,
        ledger: Ledger::new(seed),
        topic,
        rng: rng(name)?,
        config,
        flows: [format!("{name}-tw-jp"), format!("{name}-jp-tw")],
        first,
    })
}

/// A process of its own instance for the flows of a test.
fn instance(config: &Value, name: &str) -> Result<Kuroshio> {
    let mut config = config.clone();
    config["instance"] = json!(name);
    Kuroshio::run(config)
}

#[tokio::test]
async fn killed_ten_times_under_load() -> Result<()> {
    let Scene {
        pair,
        ledger,
        topic,
        mut rng,
        mut config,
        first: mut process,
        ..
    } = scene("kills", 20, 4).await?;
    let topic = &*topic;
    let kills = async {
        for kill in 1..=10 {
            // The moment of the kill is the input of this test: from before the first join to full flow.
            tokio::time::sleep(Duration::from_millis(rng.u64(20..2_500))).await;
            process.kill().with_context(|| format!("kill {kill}"))?;
            process.restart()?;
        }
        Ok(())
    };
    under_load(pair, &ledger, (topic, 4), kills).await?;
    process.ready(WAIT).await?;
    if let Err(why) = assert_exact(pair, &ledger, topic, HEAL).await {
        bail!(
            "{why:#}\n{}",
            diagnosis(&[&pair.tw, &pair.jp], topic, &[&process]).await
        );
    }
    stay_silent(&[&pair.tw, &pair.jp], &[topic], Duration::from_secs(2)).await?;
    // What users are told agrees with the ledger.
    config["instance"] = json!("kills-verify");
    let (ended, report) = verify(&config, &[]).await?;
    ensure!(ended.code == Some(0), "{report}");
    Ok(())
}

#[tokio::test]
async fn rebalanced_ten_times_between_two_instances() -> Result<()> {
    let Scene {
        pair,
        ledger,
        topic,
        mut rng,
        config,
        flows,
        mut first,
    } = scene("rebalanced", 21, 6).await?;
    let topic = &*topic;
    let mut second = instance(&config, "rebalanced-b")?;
    let moves = async {
        for round in 0..5 {
            // One rebalance: the second instance takes its part of the slots.
            for flow in &flows {
                until_status(&mut second, flow, WAIT, |flow| slots(flow) > 0)
                    .await
                    .with_context(|| format!("round {round}"))?;
            }
            tokio::time::sleep(Duration::from_millis(rng.u64(0..1_500))).await; // the moment is the input
            // Another one: they move back, at once or after the session timeout.
            match round % 3 {
                0 => {
                    second.interrupt()?;
                    ensure!(
                        second.exited(WAIT).await?.code() == Some(0),
                        "{}",
                        second.log_tail()
                    );
                }
                1 => second.kill()?,
                _ => {
                    second.terminate()?;
                    ensure!(
                        second.exited(WAIT).await?.code() == Some(0),
                        "{}",
                        second.log_tail()
                    );
                }
            }
            for flow in &flows {
                until_status(&mut first, flow, WAIT, |flow| slots(flow) == ALL_SLOTS)
                    .await
                    .with_context(|| format!("round {round}"))?;
            }
            second.restart()?;
        }
        anyhow::Ok(())
    };
    under_load(pair, &ledger, (topic, 6), moves).await?;
    second.ready(WAIT).await?;
    if let Err(why) = assert_exact(pair, &ledger, topic, HEAL).await {
        let all = diagnosis(&[&pair.tw, &pair.jp], topic, &[&first, &second]).await;
        bail!("{why:#}\n{all}");
    }
    stay_silent(&[&pair.tw, &pair.jp], &[topic], Duration::from_secs(2)).await?;
    for flow in &flows {
        // The second one's last rebalance may still be under way.
        until(WAIT, "two seats of one generation", || async {
            let seats = tokio::try_join!(seat(&first, flow), seat(&second, flow));
            let (a, b) = seats.map_err(|why| format!("{why:#}"))?;
            if a.0 + b.0 == ALL_SLOTS && a.1 == b.1 {
                Ok(())
            } else {
                Err(format!("{a:?} {b:?}"))
            }
        })
        .await?;
    }
    Ok(())
}
