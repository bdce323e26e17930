//! Applications move between regions: nothing is skipped, and what is read again is what was announced.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use kuroshio_core::groups::Mark;
use kuroshio_integration::{Cluster, Ended, Kuroshio, Ledger, Load, command, pair, until};
use serde_json::{Value, json};

use crate::application::{Application, Birth};
use crate::groups::{commit, held};
use crate::regions::{WAIT, both_ways, on_all, one_way, until_stored, until_there};

const PARTITIONS: i32 = 3;

/// Runs a command about groups of `config`, and reads its report.
pub(crate) async fn ask(config: &Value, verb: &str, arguments: &[&str]) -> Result<(Ended, Value)> {
    let mut config = config.clone();
    config["instance"] = json!("operator");
    let mut all = vec![verb, "--config", "{config}", "--output", "json"];
    all.extend(arguments);
    let ended = command(&all, Some(&config), WAIT * 2).await?;
    let report = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
    Ok((ended, report))
}

/// Moves a group, and gives how many records it was told to read again.
async fn moved(config: &Value, from: &str, to: &str, group: &str) -> Result<u64> {
    let arguments = ["--from", from, "--to", to, "--group", group, "--count"];
    let (ended, report) = ask(config, "failover", &arguments).await?;
    ensure!(ended.code == Some(0) && report["moved"] == true, "{ended:?}");
    let partitions = report["groups"][0]["partitions"].as_array();
    let partitions = partitions.context("no partitions")?;
    for partition in partitions {
        ensure!(
            partition["exact"] == true && partition["ahead"] == 0,
            "{partition}"
        );
        ensure!(
            partition["moved"] == true && partition["marked"] == true,
            "{partition}"
        );
    }
    let again = partitions
        .iter()
        .filter_map(|partition| partition["read_again"].as_u64());
    Ok(again.sum())
}

/// What of `seen` is in `known`, or comes twice.
fn again(seen: &[Birth], known: &HashSet<Birth>) -> u64 {
    let mut all = known.clone();
    seen.iter().filter(|birth| !all.insert((*birth).clone())).count() as u64
}

/// Waits until it has read so many of these again: what is new in one partition may come before what is known in another.
async fn until_again(application: &Application, known: &HashSet<Birth>, count: u64) -> Result<()> {
    until(WAIT, &format!("{count} records to be read again"), || async {
        let repeated = again(&application.seen(), known);
        if repeated >= count {
            Ok(())
        } else {
            Err(format!("{repeated} were"))
        }
    })
    .await
}

#[tokio::test]
async fn an_application_moves_and_returns_under_load() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("failover.load", "failover-load.app");
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let config = both_ways(pair, "failover-load", &["failover[.]load"]);
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let ledger = Ledger::new(70);
    let load = Load {
        records: 8_000,
        partitions: PARTITIONS,
        rate: Some(400),
    };
    let (one, two) = (ledger.clone(), ledger.clone());
    let producing = tokio::spawn(async move {
        tokio::try_join!(one.produce(tw, topic, load), two.produce(jp, topic, load)).map(|_| ())
    });

    let mut known = HashSet::new();
    let here = Application::start(tw, group, topic)?;
    here.until_seen(&known, 2_000).await?;
    known.extend(here.stop().await?);
    let announced = moved(&config, "tw", "jp", group).await?;
    let there = Application::start(jp, group, topic)?;
    there.until_seen(&known, 2_000).await?;
    until_again(&there, &known, announced).await?;
    let seen = there.stop().await?;
    let repeated = again(&seen, &known);
    ensure!(
        repeated == announced,
        "{repeated} records were read again in jp, {announced} announced"
    );
    known.extend(seen);

    // Home again, after a while in which the group's offsets followed on tw.
    let announced_back = moved(&config, "jp", "tw", group).await?;
    let home = Application::start(tw, group, topic)?;
    producing.await??;
    let all = usize::try_from(ledger.count("tw", topic) + ledger.count("jp", topic))?;
    home.until_seen(&known, all - known.len()).await?;
    until_again(&home, &known, announced_back).await?;
    let seen = home.stop().await?;
    let repeated_back = again(&seen, &known);
    known.extend(seen);
    println!("{all} records; read again: {announced} in jp, {announced_back} at home");
    ensure!(
        repeated_back == announced_back,
        "{repeated_back} records were read again at home, {announced_back} announced"
    );
    ensure!(known.len() == all, "{} of {all} were seen", known.len());
    Ok(())
}

#[tokio::test]
async fn what_stands_against_a_move_is_told() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("failover.no", "failover-no.app");
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let mut config = one_way(pair, "failover-no", &["failover[.]no"]);
    config["defaults"]["groups"] = json!({ "sync": false });
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 3_000,
        partitions: PARTITIONS,
        rate: None,
    };
    Ledger::new(71).produce(tw, topic, load).await?;
    until_there(jp, topic, 3_000).await?;
    let ends = ["--from", "tw", "--to", "jp", "--group", group];
    let with = |more: &[&'static str]| [&ends, more].concat();
    let objection = |report: &Value| report["groups"][0]["objections"].to_string();

    // Nothing to move; nothing that leads there; no such cluster.
    let (ended, report) = ask(&config, "failover", &ends).await?;
    ensure!(
        ended.code == Some(1) && objection(&report).contains("no offsets"),
        "{ended:?}"
    );
    for (from, to) in [("jp", "tw"), ("tw", "kr")] {
        let (ended, _) = ask(
            &config,
            "failover",
            &["--from", from, "--to", to, "--group", group],
        )
        .await?;
        ensure!(ended.code == Some(64) && ended.stderr.contains("--"), "{ended:?}");
    }

    // Members on either side, whatever is forced.
    commit(tw, group, topic, [100, 200, 300], "").await?;
    for cluster in [tw, jp] {
        let living = Application::start(cluster, group, topic)?;
        living.until_seen(&HashSet::new(), 1).await?;
        let before = held(jp, group, topic).await?;
        let (ended, report) = ask(&config, "failover", &with(&["--force"])).await?;
        let told = objection(&report);
        ensure!(ended.code == Some(1) && report["moved"] == false, "{ended:?}");
        ensure!(
            told.contains("living") && told.contains(cluster.alias()),
            "{told}"
        );
        ensure!(held(jp, group, topic).await? == before);
        drop(living); // without a commit
    }

    // A dry run changes nothing, and says what would be.
    let (ended, report) = ask(&config, "failover", &with(&["--dry-run"])).await?;
    ensure!(ended.code == Some(0) && report["moved"] == false, "{ended:?}");
    let translated = |report: &Value| -> Vec<i64> {
        let partitions = report["groups"][0]["partitions"].as_array().into_iter().flatten();
        partitions
            .filter_map(|partition| partition["target_offset"].as_i64())
            .collect()
    };
    let would = translated(&report);
    ensure!(
        held(jp, group, topic).await?.is_empty() && would.len() == 3,
        "{report}"
    );
    let (ended, report) = ask(&config, "translate", &with(&["--topic", topic])).await?;
    ensure!(ended.code == Some(0) && translated(&report) == would, "{ended:?}");

    // Somebody was there before, further on.
    commit(jp, group, topic, [0, 900, 0], "mine").await?;
    let (ended, report) = ask(&config, "failover", &ends).await?;
    ensure!(
        ended.code == Some(1) && objection(&report).contains("900"),
        "{ended:?}"
    );
    let (ended, _) = ask(&config, "failover", &with(&["--force"])).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let now = held(jp, group, topic).await?;
    ensure!(now.values().map(|held| held.offset).eq(would), "{now:?}");
    let marks: Vec<_> = now
        .values()
        .filter_map(|held| Mark::parse(&held.metadata))
        .collect();
    ensure!(
        marks
            .iter()
            .map(|mark| (mark.flow, mark.source))
            .eq([100, 200, 300].map(|at| ("failover-no-tw-jp", at))),
        "{now:?}"
    );
    Ok(())
}

/// The flow stands still; then the source is gone.
#[tokio::test]
async fn a_move_waits_for_the_lag_and_does_without_the_source() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("failover.lag", "failover-lag.app");
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let config = crate::groups::quick(one_way(pair, "failover-lag", &["failover[.]lag"]), "failover-lag");
    let mut process = Kuroshio::run(config.clone())?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 3_000,
        partitions: PARTITIONS,
        rate: None,
    };
    let ledger = Ledger::new(72);
    ledger.produce(tw, topic, load).await?;
    until_there(jp, topic, 3_000).await?;
    commit(tw, group, topic, [100, 200, 300], "").await?;
    crate::groups::until_follows(jp, "failover-lag-tw-jp", group, topic, [100, 200, 300]).await?;
    process.terminate()?;
    process.exited(WAIT).await?;

    let synced = held(jp, group, topic).await?;
    ledger.produce(tw, topic, load).await?;
    commit(tw, group, topic, [100, 1_500, 300], "").await?;
    let ends = ["--from", "tw", "--to", "jp", "--group", group];
    let mut lost = config.clone();
    lost["clusters"]["tw"]["bootstrap_servers"] = json!("127.0.0.1:1");
    let (stalled, gone, forced) = tokio::try_join!(
        ask(&config, "failover", &ends),
        ask(&lost, "failover", &ends),
        ask(&lost, "translate", &ends),
    )?;
    ensure!(
        stalled.0.code == Some(1) && stalled.0.stdout.contains("not replicated"),
        "{stalled:?}"
    );
    ensure!(
        gone.0.code == Some(1) && gone.0.stdout.contains("cannot be asked"),
        "{gone:?}"
    );
    ensure!(forced.0.code == Some(0), "{forced:?}");
    let (ended, report) = ask(&lost, "failover", &[&ends[..], &["--force"]].concat()).await?;
    ensure!(
        ended.code == Some(0) && report["source_reachable"] == false,
        "{ended:?}"
    );
    for (partition, held) in &synced {
        let told = &report["groups"][0]["partitions"][usize::try_from(*partition)?];
        ensure!(told["target_offset"] == held.offset, "{told}, not {held:?}");
    }
    ensure!(held(jp, group, topic).await? == synced);

    // The group has read records that the target does not have; it is moved nevertheless.
    let position = until_stored(jp, "kuroshio.failover-lag-tw-jp", topic, 1)
        .await?
        .offset;
    let (ended, report) = ask(&config, "failover", &[&ends[..], &["--force"]].concat()).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let ahead = report["groups"][0]["partitions"][1]["ahead"].as_i64();
    ensure!(position < 1_500 && ahead == Some(1_500 - position), "{report}");

    // With the flow running the move waits for it.
    process.restart()?;
    process.ready(WAIT).await?;
    commit(tw, group, topic, [100, 1_500, 300], "").await?;
    let (ended, report) = ask(&config, "failover", &ends).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    for partition in report["groups"][0]["partitions"].as_array().context("none")? {
        ensure!(
            partition["exact"] == true && partition["ahead"] == 0,
            "{partition}"
        );
    }
    Ok(())
}

/// Offsets that a consumer of a region committed itself stay as they are, also while it is away.
#[tokio::test]
async fn one_group_in_both_regions_is_left_alone() -> Result<()> {
    let pair = pair().await?;
    let (tw, jp) = (&pair.tw, &pair.jp);
    let (topic, group) = ("failover.both", "failover-both.app");
    on_all(&[tw, jp], topic, PARTITIONS).await?;
    let config = crate::groups::quick(
        both_ways(pair, "failover-both", &["failover[.]both"]),
        "failover-both",
    );
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let load = Load {
        records: 3_000,
        partitions: PARTITIONS,
        rate: None,
    };
    let ledger = Ledger::new(73);
    ledger.produce(tw, topic, load).await?;
    until_there(jp, topic, 3_000).await?;
    let (here, there) = (
        Application::start(tw, group, topic)?,
        Application::start(jp, group, topic)?,
    );
    here.until_seen(&HashSet::new(), 3_000).await?;
    there.until_seen(&HashSet::new(), 3_000).await?;
    let seen = there.stop().await?;
    let away = held(jp, group, topic).await?;

    // It goes on in tw, while the one in jp is restarted. Another group shows that the sync has looked since.
    ledger.produce(tw, topic, load).await?;
    until_there(jp, topic, 6_000).await?;
    here.until_seen(&HashSet::new(), 6_000).await?;
    here.stop().await?;
    follows(tw, jp, topic).await?;
    ensure!(
        held(jp, group, topic).await? == away,
        "{:?}",
        held(jp, group, topic).await?
    );
    let back = Application::start(jp, group, topic)?;
    let known: HashSet<Birth> = seen.into_iter().collect();
    back.until_seen(&known, 3_000).await?;
    ensure!(again(&back.stop().await?, &known) == 0);
    Ok(())
}

/// Waits until another group's offsets have followed twice: what is left as it is now, stays so.
async fn follows(from: &Cluster, to: &Cluster, topic: &str) -> Result<()> {
    for offsets in [[10, 20, 30], [11, 21, 31]] {
        let group = "failover-both.other";
        commit(from, group, topic, offsets, "").await?;
        crate::groups::until_follows(to, "failover-both-tw-jp", group, topic, offsets).await?;
    }
    Ok(())
}
