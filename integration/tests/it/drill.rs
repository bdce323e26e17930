//! The drill (`make drill`): a region is lost while applications run, left, and returned to; then one comes back empty, under another
//! alias, and is filled again. Prints what it took; docs/drill.md says how to do the same with real regions.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kuroshio_integration::{Cluster, Kuroshio, Ledger, Load, Spec, until};
use serde_json::{Value, json};

use crate::application::{Application, Birth};
use crate::failover::ask;
use crate::groups::held;
use crate::regions::{WAIT, assert_exact_on, on_all, until_there};
use crate::verify::verify;

const TOPIC: &str = "drill.orders";
const GROUP: &str = "drill.app";
const PARTITIONS: i32 = 3;

fn load(records: u64) -> Load {
    Load {
        records,
        partitions: PARTITIONS,
        rate: None,
    }
}

/// Flows both ways, for the process beside `region`: it reaches the other one over the link. `None`: for an operator beside jp.
fn config([home, other]: [&Cluster; 2], forward: &str, region: Option<&str>) -> Result<Value> {
    let at_home = region.is_none_or(|region| region == home.alias());
    let (near, far) = if at_home { (home, other) } else { (other, home) };
    let reached = |bootstrap: &str| json!({ "bootstrap_servers": bootstrap });
    let (home, other) = (home.alias(), other.alias());
    let mut config = json!({
        "clusters": { near.alias(): reached(near.bootstrap()), far.alias(): reached(far.link()?.bootstrap()) },
        "flows": [
            { "name": format!("drill-{other}-{home}"), "source": other, "target": home },
            { "name": format!("drill-{home}-{other}"), "source": home, "target": other, "forward": forward },
        ],
        "defaults": {
            "topics": { "include": [TOPIC.replace('.', "[.]")], "refresh": "200ms" },
            "groups": { "include": [GROUP.replace('.', "[.]")] },
        },
        "instance": format!("drill-{}", region.unwrap_or("operator")),
        "log": { "format": "text" },
    });
    if let Some(region) = region {
        config["region"] = json!(region);
    }
    Ok(config)
}

/// What the applications have seen, and the report.
#[derive(Default)]
struct Story {
    known: HashSet<Birth>,
    rows: Vec<(&'static str, String)>,
}

impl Story {
    fn tell(&mut self, what: &'static str, how: impl Into<String>) {
        self.rows.push((what, how.into()));
    }

    /// Takes in what an application has seen; how much of it was known.
    fn again(&mut self, seen: Vec<Birth>) -> usize {
        seen.into_iter()
            .filter(|birth| !self.known.insert(birth.clone()))
            .count()
    }

    fn print(&self) {
        println!("| drill | |\n|---|---|");
        for (what, how) in &self.rows {
            println!("| {what} | {how} |");
        }
    }
}

/// Moves the group; whether that took `--force`. Members that died with a region are gone after their session timeout.
async fn moved(config: &Value, from: &str, to: &str) -> Result<bool> {
    let arguments = ["--from", from, "--to", to, "--group", GROUP];
    until(WAIT, "the group to be moved", || async {
        for force in [false, true] {
            let more: &[&str] = if force { &["--force"] } else { &[] };
            let asked = ask(config, "failover", &[&arguments[..], more].concat()).await;
            let (ended, report) = asked.map_err(|why| format!("{why:#}"))?;
            if ended.code == Some(0) && report["moved"] == true {
                return Ok(force);
            }
            if force || ended.stdout.contains("living member") {
                return Err(format!("{ended:?}"));
            }
        }
        Err("refused".to_owned())
    })
    .await
}

/// How long it takes until the region's health, as the process sees it, says this.
async fn until_health(process: &Kuroshio, region: &str, code: u16) -> Result<()> {
    until(WAIT, &format!("health of {region}: {code}"), || async {
        match process.get(&format!("/health/region/{region}")).await {
            Ok((said, _)) if said == code => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_lost_region_is_left_returned_to_and_filled_again() -> Result<()> {
    let spec = |alias| Cluster::start(Spec::new(alias).linked());
    let (tw, jp) = tokio::try_join!(spec("tw"), spec("jp"))?;
    on_all(&[&tw, &jp], TOPIC, PARTITIONS).await?;
    let both = [&jp, &tw];
    let mut at_jp = Kuroshio::run(config(both, "local", Some("jp"))?)?;
    let mut at_tw = Kuroshio::run(config(both, "local", Some("tw"))?)?;
    at_jp.ready(WAIT).await?;
    at_tw.ready(WAIT).await?;
    let (mut story, ledger) = (Story::default(), Ledger::new(99));

    lose(&mut story, &ledger, (&tw, &jp), (&at_jp, &mut at_tw)).await?;
    back(&mut story, &ledger, (&tw, &jp), (&mut at_jp, &mut at_tw)).await?;

    // Again, and this time nothing of it comes back.
    at_tw.kill()?;
    tw.kill(1).await?;
    at_jp.terminate()?;
    at_jp.exited(WAIT).await?;
    empty(&mut story, &ledger, &jp).await?;
    story.print();
    Ok(())
}

/// tw is lost while its application runs and something is under way; the application goes on in jp.
async fn lose(
    story: &mut Story,
    ledger: &Ledger,
    (tw, jp): (&Cluster, &Cluster),
    (at_jp, at_tw): (&Kuroshio, &mut Kuroshio),
) -> Result<()> {
    tokio::try_join!(
        ledger.produce(tw, TOPIC, load(3_000)),
        ledger.produce(jp, TOPIC, load(1_000))
    )?;
    tokio::try_join!(until_there(tw, TOPIC, 4_000), until_there(jp, TOPIC, 4_000))?;
    let first = Application::start(tw, GROUP, TOPIC)?;
    first.until_seen(&story.known, 4_000).await?;
    story.again(first.stop().await?);
    until(WAIT, "offsets of the group in jp", || async {
        match held(jp, GROUP, TOPIC).await {
            Ok(held) if held.len() == 3 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // It goes on reading without committing, and the way to jp is cut before its last records can leave.
    ledger.produce(tw, TOPIC, load(600)).await?;
    until_there(jp, TOPIC, 4_600).await?;
    let killed = Application::start(tw, GROUP, TOPIC)?;
    killed.until_seen(&story.known, 600).await?;
    tw.link()?.cut();
    ledger.produce(tw, TOPIC, load(200)).await?;
    let lost = Instant::now();
    at_tw.kill()?;
    tw.kill(1).await?;
    story.again(killed.seen());
    drop(killed);

    until_health(at_jp, "tw", 503).await?;
    story.tell(
        "the region's health turned after",
        format!("{:.1} s", lost.elapsed().as_secs_f64()),
    );
    let operator = config([jp, tw], "local", None)?;
    ensure!(
        moved(&operator, "tw", "jp").await?,
        "a lost source is left only by force"
    );
    let there = Application::start(jp, GROUP, TOPIC)?;
    until(WAIT, "the first record in jp", || async {
        (!there.seen().is_empty()).then_some(()).ok_or("none".to_owned())
    })
    .await?;
    story.tell(
        "RTO: the application reads in jp after",
        format!("{:.1} s", lost.elapsed().as_secs_f64()),
    );
    ledger.produce(jp, TOPIC, load(500)).await?;
    there.until_seen(&story.known, 500).await?;
    let again = story.again(there.stop().await?);
    story.tell(
        "RPO: records that were not in jp when tw was lost",
        "200 (all come when tw is back)",
    );
    story.tell(
        "records read again in jp",
        format!("{again} (what was read after the last commit that was synced)"),
    );
    // What it had read and not committed, and in topics that both write what lies between.
    ensure!(again <= 4_600, "{again}");
    Ok(())
}

/// tw comes back with what it had, and the application returns.
async fn back(
    story: &mut Story,
    ledger: &Ledger,
    (tw, jp): (&Cluster, &Cluster),
    (at_jp, at_tw): (&mut Kuroshio, &mut Kuroshio),
) -> Result<()> {
    let back = Instant::now();
    tw.restart(1).await?;
    tw.link()?.resume();
    at_tw.restart()?;
    until_health(at_jp, "tw", 200).await?;
    story.tell(
        "tw back: its health turned after",
        format!("{:.1} s", back.elapsed().as_secs_f64()),
    );
    assert_exact_on([tw, jp], ledger, TOPIC, WAIT)
        .await
        .with_context(|| format!("{}\n{}", at_jp.log_tail(), at_tw.log_tail()))?;
    story.tell(
        "both regions had all 5,300 records, once, after",
        format!("{:.1} s", back.elapsed().as_secs_f64()),
    );
    let operator = config([jp, tw], "local", None)?;
    let forced = moved(&operator, "jp", "tw").await?;
    let home = Application::start(tw, GROUP, TOPIC)?;
    ledger.produce(tw, TOPIC, load(300)).await?;
    let all = usize::try_from(ledger.count("tw", TOPIC) + ledger.count("jp", TOPIC))?;
    home.until_seen(&story.known, all - story.known.len()).await?;
    let again = story.again(home.stop().await?);
    ensure!(
        story.known.len() == all,
        "{} of {all} were seen",
        story.known.len()
    );
    story.tell(
        "records read again at home",
        format!(
            "{again}{}",
            if forced { ", the move back by --force" } else { "" }
        ),
    );
    story.tell("records that the applications never saw", "0");
    proved(&operator).await?;
    story.tell("verify, both flows", "ok");
    Ok(())
}

/// A new cluster without anything, under an alias of its own, gets all that jp has, also what was born in the lost one.
async fn empty(story: &mut Story, ledger: &Ledger, jp: &Cluster) -> Result<()> {
    let began = Instant::now();
    let tw2 = Cluster::start(Spec::new("tw2").linked()).await?;
    let both = [jp, &tw2];
    let mut at_jp = Kuroshio::run(config(both, "relay", Some("jp"))?)?;
    let mut at_tw2 = Kuroshio::run(config(both, "relay", Some("tw2"))?)?;
    at_jp.ready(WAIT).await?;
    at_tw2.ready(WAIT).await?;
    let all = usize::try_from(ledger.count("tw", TOPIC) + ledger.count("jp", TOPIC))?;
    let there = until(WAIT, "the topic on tw2", || async {
        until_there(&tw2, TOPIC, all)
            .await
            .map_err(|why| format!("{why:#}"))
    });
    let log = there.await.with_context(|| at_tw2.log_tail())?;
    ensure!(log.len() == all, "{} of {all}", log.len());
    story.tell(
        "an empty region under a new alias was full after",
        format!("{:.1} s, its start included", began.elapsed().as_secs_f64()),
    );
    let operator = config(both, "relay", None)?;
    moved(&operator, "jp", "tw2").await?;
    let home = Application::start(&tw2, GROUP, TOPIC)?;
    ledger.produce(&tw2, TOPIC, load(100)).await?;
    home.until_seen(&story.known, 100).await?;
    let again = story.again(home.stop().await?);
    story.tell("records read again there", again.to_string());
    until_there(jp, TOPIC, all + 100).await?;
    proved(&operator).await?;
    story.tell("verify, both flows of the new region", "ok");
    Ok(())
}

/// `kuroshio verify` says that all is there.
async fn proved(operator: &Value) -> Result<()> {
    until(WAIT, "verify", || async {
        let (ended, report) = verify(operator, &[]).await.map_err(|why| format!("{why:#}"))?;
        let flows = report["flows"].as_array().map_or(0, Vec::len);
        if ended.code == Some(0) && flows == 2 {
            Ok(())
        } else {
            Err(report.to_string())
        }
    })
    .await
}
