//! The history checker: what applications wrote against what lies on both sides, `kuroshio verify` beside it, and what the metrics said.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kuroshio_integration::{Report, until};

use super::cut;
use super::faults::{Fault, Struck};
use super::stage::{Deployment, Scene, Side, Stage};
use super::truth::{self, Named};
use super::watch::{History, Said, Watch};
use crate::regions::{WAIT, stay_silent};
use crate::verify::verify;

/// Everything has arrived so long after everything was healed, and the metrics say so. What takes its time: a broker's session (9 s) and ours
/// (10 s), a transaction that nobody ends (10 s, and up to 10 s until the coordinator looks), connections that are tried again (10 s), a refused
/// partition that is tried again after as long as it was refused at most (5 s, 10 s, 20 s…); and some of them wait for others.
const BOUND: Duration = Duration::from_secs(180);
/// Nothing may come behind the end: no copy of a copy, no record out of nowhere.
const SILENCE: Duration = Duration::from_secs(2);

/// What became of a deployment.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) delivery: &'static str,
    pub(super) records: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// `kuroshio_lost_records_total`.
    pub(super) told_lost: f64,
    /// From the end of the last fault until both flows were fresh again; none: the load had ended before.
    pub(super) recovered: Option<Duration>,
    /// From when all was healed and all acknowledged until nothing was missing.
    pub(super) converged: Duration,
    /// Claims of the metrics that were looked at.
    pub(super) claims: usize,
}

/// Waits until both deployments have begun to copy: who never knew a position has no lag to tell.
pub(super) async fn begun(scene: &Scene<'_>, watch: &Watch) -> Result<()> {
    for (number, of) in scene.deployments.iter().enumerate() {
        let named = Named::of(scene, number, &[]);
        until(WAIT, &format!("{} to begin", of.delivery), || async {
            let lanes = |history: &History| {
                history
                    .lanes_at(number, Instant::now(), |said| &said.lag_records)
                    .len()
            };
            match watch.look(lanes) {
                all if all == named.lanes => Ok(()),
                some => Err(format!("{some} of {} lanes", named.lanes)),
            }
        })
        .await?;
    }
    Ok(())
}

/// Judges a story that is over: everything is healed, and nobody writes any more.
pub(super) async fn judge(scene: &Scene<'_>, watch: &Watch, story: &[Struck]) -> Result<[Outcome; 2]> {
    let healed = Instant::now();
    let [exactly, at_least] = &scene.deployments;
    let (exactly, at_least) = tokio::try_join!(
        deployment(scene, watch, story, (0, exactly), healed),
        deployment(scene, watch, story, (1, at_least), healed),
    )?;
    for of in &scene.deployments {
        let topics = of.topics();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let both = Side::BOTH.map(|side| scene.stage.kafka(side));
        stay_silent(&both, &topics, SILENCE).await?;
    }
    Ok([exactly, at_least])
}

async fn deployment(
    scene: &Scene<'_>,
    watch: &Watch,
    story: &[Struck],
    (number, of): (usize, &Deployment),
    healed: Instant,
) -> Result<Outcome> {
    let name = of.delivery;
    let named = Named::of(scene, number, story);
    let converged = until(BOUND, &format!("{name} to converge"), || async {
        watch
            .look(|history| at_rest(history, &named))
            .map(|()| healed.elapsed())
    })
    .await?;
    let history = watch.history();
    let verdict = truth::judge(&history, story, &named);
    ensure!(verdict.lies.is_empty(), "{name}: {}", verdict.lies.join("\n"));
    let has = |fault: fn(&Fault) -> bool| story.iter().any(|struck| fault(&struck.fault));
    let deleted = has(|fault| matches!(fault, Fault::DeletedAhead(_)));
    let was_cut = has(|fault| matches!(fault, Fault::Cut(_)));
    let told_lost = counted(&history, number, |said| said.lost);
    let within = BOUND
        .saturating_sub(healed.elapsed())
        .max(Duration::from_secs(20));
    let within = if deleted { Duration::from_secs(10) } else { within };
    let mut all = Report::default();
    for report in compare(scene.stage, of, within).await? {
        let faults = (report.altered, report.foreign, report.reordered);
        ensure!(report.at_end && faults == (0, 0, 0), "{name}: {report}");
        all.expected += report.expected;
        all.lost += report.lost;
        all.duplicated += report.duplicated;
        all.reordered += report.reordered;
        all.examples.extend(report.examples);
    }
    ensure!(
        all.lost as f64 == told_lost && deleted == (all.lost > 0),
        "{name}: {all}, and kuroshio_lost_records_total says {told_lost}"
    );
    told_cut(&history, story, (number, of))?;
    ensure!(!of.is_exact() || all.duplicated == 0, "{name}: {all}");
    if was_cut {
        let (records, doubled) = cut::judge(scene, number).await.context(name)?;
        all.expected += records;
        all.duplicated += doubled;
    }
    // Copies of what was cut off at the source are there and nowhere else, and are called so: unexpected.
    if !was_cut {
        verified(scene, of, &all, deleted).await.context(name)?;
    }
    let last = story.iter().map(|struck| struck.to).max().unwrap_or(healed);
    Ok(Outcome {
        delivery: name,
        records: all.expected,
        lost: all.lost,
        duplicated: all.duplicated,
        reordered: all.reordered,
        told_lost,
        recovered: truth::fresh_from(&history, last, &named).map(|fresh| fresh - last),
        converged,
        claims: verdict.looked_at,
    })
}

/// Whether the newest that every process said is that nothing is missing, and all is well.
fn at_rest(history: &History, named: &Named) -> Result<(), String> {
    let (now, deployment) = (Instant::now(), named.number);
    for lag in [
        history.lanes_at(deployment, now, |said| &said.lag_records),
        history.lanes_at(deployment, now, |said| &said.lag_seconds),
    ] {
        let behind = lag.iter().find(|(_, lag)| **lag != 0.0);
        if lag.len() != named.lanes || behind.is_some() {
            return Err(format!("{} lanes, behind: {behind:?}", lag.len()));
        }
    }
    for instance in 0..2 {
        let said = history
            .0
            .iter()
            .rev()
            .find(|said| (said.deployment, said.instance) == (deployment, instance));
        let Some(said) = said.filter(|said| now - said.at < Duration::from_secs(4)) else {
            return Err(format!("instance {instance} says nothing"));
        };
        let quarantined: f64 = said.quarantined.values().sum();
        if said.up != [Some(1.0); 2] || said.health != [200; 2] || quarantined != 0.0 {
            return Err(format!("{said:?}"));
        }
    }
    Ok(())
}

/// What was cut off at the source after it had been copied is counted to the record, and nothing otherwise. Of copies that were cut off, offsets
/// are counted by the flow back, which cannot know what lay there.
fn told_cut(history: &History, story: &[Struck], (number, of): (usize, &Deployment)) -> Result<()> {
    for side in Side::BOTH {
        let was_cut = story.iter().any(|struck| struck.fault == Fault::Cut(side));
        let expected = if was_cut { cut::CUT as f64 } else { 0.0 };
        let topic = of.cut(side);
        let told = counted(history, number, |said| {
            said.cut.get(&topic).copied().unwrap_or(0.0)
        });
        ensure!(
            told == expected
                || (!was_cut
                    && story
                        .iter()
                        .any(|struck| struck.fault == Fault::Cut(side.other()))),
            "{expected} records of {topic} were cut off, and kuroshio_lost_records_total says {told}"
        );
    }
    let rest: f64 = of
        .topics()
        .iter()
        .map(|topic| {
            counted(history, number, |said| {
                said.cut.get(topic).copied().unwrap_or(0.0)
            })
        })
        .sum();
    ensure!(
        rest == 0.0,
        "no log was cut, and kuroshio_lost_records_total says {rest}"
    );
    Ok(())
}

/// What all processes have counted as lost, also those that were killed since. More than a process said last is what it said before it was
/// killed, or the next one's; a record that is counted twice shows here.
fn counted(history: &History, deployment: usize, count: impl Fn(&Said) -> f64) -> f64 {
    let mut lost = 0.0;
    for instance in 0..2 {
        let mut before = 0.0;
        let of = |said: &&Said| (said.deployment, said.instance) == (deployment, instance);
        for now in history.0.iter().filter(of).map(&count) {
            lost += if now < before { now } else { now - before };
            before = now;
        }
    }
    lost
}

/// Every topic on the side, or the sides, where records were copied to.
async fn compare(stage: &Stage, of: &Deployment, within: Duration) -> Result<Vec<Report>> {
    let (orders, from_tw, from_jp) = (of.orders(), of.from(Side::Tw), of.from(Side::Jp));
    let both = [("tw", &*orders), ("jp", &*orders)];
    let (tw, jp) = (stage.kafka(Side::Tw), stage.kafka(Side::Jp));
    let (from_tw_births, from_jp_births) = ([("tw", &*from_tw)], [("jp", &*from_jp)]);
    let (a, b, c, d) = tokio::try_join!(
        of.ledger.compare(tw, &orders, &both, within),
        of.ledger.compare(jp, &orders, &both, within),
        of.ledger.compare(jp, &from_tw, &from_tw_births, within),
        of.ledger.compare(tw, &from_jp, &from_jp_births, within),
    )?;
    Ok(vec![a, b, c, d])
}

/// What users are told agrees with the ledger.
async fn verified(scene: &Scene<'_>, of: &Deployment, all: &Report, deleted: bool) -> Result<()> {
    let config = of.verified(scene.stage);
    let (ended, report) = verify(&config, &[]).await?;
    let flows = report["flows"].as_array().context("no flows")?;
    let sum = |what: &str| -> u64 {
        flows
            .iter()
            .filter_map(|flow| flow["totals"][what].as_u64())
            .sum()
    };
    let wrong: u64 = ["lost", "reordered", "altered", "unexpected"]
        .map(sum)
        .iter()
        .sum();
    if ended.code != Some(0) || flows.len() != 2 || wrong > 0 {
        bail!("verify ended with {:?}: {report}", ended.code);
    }
    // What the source has deleted it cannot compare, and only counts: each offset before the first that it compares is a record, so what is
    // more is doubled.
    let partitions = flows
        .iter()
        .filter_map(|flow| flow["partitions"].as_array())
        .flatten();
    let doubled: u64 = partitions
        .map(|partition| {
            let of = |what: &str| partition[what].as_u64().unwrap_or(0);
            of("doubled") + of("before").saturating_sub(of("from"))
        })
        .sum();
    ensure!(
        deleted || doubled == all.duplicated,
        "verify found {doubled} doubles, the ledger {}: {report}",
        all.duplicated
    );
    Ok(())
}
