//! Faults, alone and in random mixes, under load, between two clusters of three brokers each; both deliveries and both directions at once.
//! `docs/faults.md` says what is broken and what is held against it.

mod brokers;
mod cut;
mod faults;
mod judge;
mod records;
mod stage;
mod strike;
mod table;
mod truth;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use tokio::time::sleep;

use faults::{Fault, Struck};
use judge::Outcome;
use stage::{Scene, Stage};
use truth::Named;
use watch::Watch;

/// Load before the first fault of a story.
const CALM: Duration = Duration::from_secs(3);
/// How long a broker that comes back may take in a plan, in seconds, until another one of its cluster is broken; where it takes longer, the next
/// one waits.
const WHOLE: f64 = 20.0;
/// The longest load behind the last fault.
const LOADED: Duration = Duration::from_secs(30);

/// The faults of the minute in `make test`: the same for every change, so that what differs is the change.
const MINUTE: u64 = 1;

/// `KUROSHIO_SEED` repeats a run.
fn seed(test: &str) -> Result<u64> {
    let minute = std::env::var_os("NEMESIS_SECONDS").is_none();
    let drawn = if minute { MINUTE } else { fastrand::u64(..) };
    let seed = number("KUROSHIO_SEED", drawn)?;
    println!("{test}: repeat with KUROSHIO_SEED={seed}");
    Ok(seed)
}

fn number(variable: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable}={text} is not a number")),
        Err(_) => Ok(otherwise),
    }
}

/// A fault of a mix: when it begins after the start, and how long it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Planned {
    at: Duration,
    fault: Fault,
    hold: Duration,
}

/// Faults for so many seconds, the same for the same seed. Every kind comes before any comes again.
fn plan(rng: &mut Rng, seconds: u64) -> Vec<Planned> {
    let (mut at, end) = (0.0, seconds as f64);
    let (mut left, mut planned) = (Vec::<Fault>::new(), Vec::new());
    // A cluster of which a broker was down is whole again some time later.
    let mut whole = [0.0; 2];
    loop {
        // At times everything heals before the next one.
        at += if rng.u8(..6) == 0 { 15.0 } else { 0.0 } + rng.f64() * 7.0;
        if at > end - 1.0 {
            return planned;
        }
        if left.is_empty() {
            left = Fault::all(rng);
            left.retain(|fault| fault.mixes());
            rng.shuffle(&mut left);
        }
        let fits = |fault: &Fault| {
            let waits = fault
                .breaks_a_broker()
                .is_some_and(|side| at < whole[side as usize]);
            !waits && at + fault.hold().0 <= end
        };
        let Some(next) = left.iter().rposition(fits) else {
            continue;
        };
        let fault = left.remove(next);
        let (least, most) = fault.hold();
        let hold = (least + rng.f64() * (most - least)).min(end - at);
        if let Some(side) = fault.breaks_a_broker() {
            whole[side as usize] = at + hold + WHOLE;
        }
        planned.push(Planned {
            at: Duration::from_secs_f64(at),
            fault,
            hold: Duration::from_secs_f64(hold),
        });
    }
}

/// All that happens in a mix, each at its time; several may hold at once.
async fn mix(scene: &Scene<'_>, seed: u64, seconds: u64) -> Result<Vec<Struck>> {
    let mut rng = Rng::with_seed(seed);
    let planned = plan(&mut rng, seconds);
    let start = Instant::now();
    let faults = planned.into_iter().map(|Planned { at, fault, hold }| {
        let mut rng = rng.fork();
        async move {
            sleep(at).await;
            println!(
                "{:6.1} s  {fault:?} for {:.1} s",
                start.elapsed().as_secs_f64(),
                hold.as_secs_f64()
            );
            let struck = fault.strike(scene, hold, &mut rng).await?;
            let (from, to) = (struck.from - start, struck.to - start);
            println!(
                "{:6.1} s  {fault:?} was there from {from:.1?} to {to:.1?}",
                start.elapsed().as_secs_f64()
            );
            anyhow::Ok(struck)
        }
    });
    try_join_all(faults).await
}

/// A story from its start to the judgement.
async fn told<'s>(
    scene: &'s Scene<'s>,
    watch: &Watch,
    faults: impl Future<Output = Result<Vec<Struck>>>,
) -> Result<(Vec<Struck>, [Outcome; 2])> {
    let story = scene
        .under_load(async {
            judge::begun(scene, watch).await?;
            sleep(CALM).await;
            let story = faults.await?;
            recovered(watch, scene, &story).await;
            Ok(story)
        })
        .await?;
    let outcomes = judge::judge(scene, watch, &story).await?;
    Ok((story, outcomes))
}

/// The load goes on until both flows keep up with it again, or for a while: how fast a machine is that does other work too is not judged.
async fn recovered(watch: &Watch, scene: &Scene<'_>, story: &[Struck]) {
    let Some(last) = story.iter().map(|struck| struck.to).max() else {
        return;
    };
    let deadline = Instant::now() + LOADED;
    while Instant::now() < deadline {
        let fresh = |number: usize| {
            watch.look(|history| truth::fresh_from(history, last, &Named::of(scene, number, story)))
        };
        // Two looks of every process agree.
        let since = [fresh(0), fresh(1)].into_iter().collect::<Option<Vec<_>>>();
        if since.is_some_and(|all| all.iter().all(|since| since.elapsed() > Duration::from_secs(2))) {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// One kind of fault by itself.
async fn alone(stage: &Stage, number: usize, fault: Fault, seed: u64) -> Result<[Outcome; 2]> {
    let scene = Scene::start(stage, &format!("fault{number}"), seed).await?;
    let mut rng = Rng::with_seed(seed);
    let hold = Duration::from_secs_f64(fault.hold().1);
    let watch = Watch::start(&scene).await;
    let outcome = told(&scene, &watch, async {
        Ok(vec![fault.strike(&scene, hold, &mut rng).await?])
    })
    .await;
    let logs = scene.keep_logs(&format!("{seed}-{number}"), &watch).await?;
    scene.end().await?;
    Ok(outcome.context(logs)?.1)
}

async fn random(name: &str, seconds: u64) -> Result<()> {
    let seed = seed(name)?;
    let started = Instant::now();
    let stage = Stage::start().await?;
    println!("two clusters of three brokers after {:.0?}", started.elapsed());
    let scene = Scene::start(&stage, name, seed).await?;
    println!("both deployments ready after {:.0?}", started.elapsed());
    let watch = Watch::start(&scene).await;
    let outcome = told(&scene, &watch, mix(&scene, seed, seconds)).await;
    let (story, outcomes) = outcome.context(scene.keep_logs(&seed.to_string(), &watch).await?)?;
    let what = format!("mix of {} faults in {seconds} s, seed {seed}", story.len());
    println!("{}", table::of(&[(what, Ok(outcomes))]));
    Ok(())
}

/// For a minute, or as long as `NEMESIS_SECONDS` says; `make nemesis` takes ten.
#[tokio::test]
async fn random_faults() -> Result<()> {
    random("nemesis", number("NEMESIS_SECONDS", 60)?).await
}

/// `NEMESIS_FAULT`: parts of the names of those that are tried, between commas.
#[tokio::test]
#[ignore = "takes half an hour: make faults"]
async fn every_fault_by_itself() -> Result<()> {
    let seed = seed("faults")?;
    let wanted = std::env::var("NEMESIS_FAULT").unwrap_or_default();
    let started = Instant::now();
    let stage = Stage::start().await?;
    println!("two clusters of three brokers after {:.0?}", started.elapsed());
    let mut rows = Vec::new();
    for (number, fault) in Fault::all(&mut Rng::with_seed(seed)).into_iter().enumerate() {
        if !wanted.split(',').any(|part| fault.name().contains(part)) {
            continue;
        }
        println!("{:6.1} s  {fault:?}", started.elapsed().as_secs_f64());
        let outcome = alone(&stage, number, fault, seed).await;
        if let Err(why) = &outcome {
            println!("{fault:?} FAILED: {why:?}");
        }
        rows.push((fault.name().to_owned(), outcome));
        println!("{}", table::of(&rows[rows.len() - 1..]));
    }
    println!("{}", table::of(&rows));
    let failed = rows.iter().filter(|(_, outcome)| outcome.is_err()).count();
    ensure!(
        !rows.is_empty() && failed == 0,
        "{failed} of {} faults; seed {seed}",
        rows.len()
    );
    Ok(())
}

#[test]
fn a_seed_plans_the_same_again_and_every_kind_before_any_comes_twice() {
    let planned = plan(&mut Rng::with_seed(7), 600);
    assert_eq!(planned, plan(&mut Rng::with_seed(7), 600));
    assert_ne!(planned, plan(&mut Rng::with_seed(8), 600));
    let mut names: Vec<_> = planned.iter().map(|planned| planned.fault.name()).collect();
    assert!(names.len() > 60, "{}", names.len());
    let all = Fault::all(&mut Rng::with_seed(7));
    let count = all.iter().filter(|fault| fault.mixes()).count();
    names.truncate(count);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
