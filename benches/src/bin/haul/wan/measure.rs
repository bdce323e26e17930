//! One run over a link.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kuroshio_integration::{Link, Wan};
use tokio::time::sleep;

use super::{Backlog, Between, Regions, WanRun};
use crate::carriers::{Carrier, Job};
use crate::clusters::{PARTITIONS, ZONES, clean, create};
use crate::count;
use crate::data::Full;
use crate::progress::Progress;
use crate::watch::{INTERVAL, QUIET, Sample, Target, Watch};

/// After the first record, until a steady rate is believed in; a JVM has to compile first.
const WARM_UP: Duration = Duration::from_secs(2);
const WARM_UP_JVM: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(4);
/// Everything, where it is waited for.
const ALL: Duration = Duration::from_secs(150);
/// A stall, and from the beginning of one to the beginning of the next.
const STALL: Duration = Duration::from_secs(5);
const PERIOD: Duration = Duration::from_secs(15);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) carrier: Carrier,
    pub(super) backlog: Backlog,
    pub(super) between: Between,
    pub(super) invocation: usize,
}

/// Sets the link, starts the carrier on a clean target, measures, and takes all back.
pub(super) async fn run(
    regions: Regions<'_>,
    case: &Case,
    full: &Full,
    progress: &Progress,
) -> Result<WanRun> {
    let Regions { source, target } = regions;
    clean(target, false).await?;
    clean(source, true).await?;
    create(target, full.topic).await?;
    let (link, addresses) = if case.between.target_far {
        let link = target.link()?;
        (link, (source.bootstrap(), link.bootstrap()))
    } else {
        let link = source.link()?;
        (link, (link.bootstrap(), target.bootstrap()))
    };
    link.set(wan(case.between));
    let running = case.carrier.start(&Job {
        source: addresses.0,
        target: addresses.1,
        topics: full.topic,
        codec: full.data.codec(),
    })?;
    let process = running.process();
    let there = Target::new(target.bootstrap(), vec![full.topic.to_owned()], PARTITIONS)?;
    let mut watch = Watch::new(process, vec![there], Some(link))?;
    let measured = measure(&mut watch, case, link, full, progress).await;
    link.resume();
    let (start_seconds, figures) = measured.with_context(|| running.last_words())?;
    let peak_rss_bytes = process.peak_rss()?;
    tokio::task::spawn_blocking(move || drop(running)).await?;
    link.set(Wan::NONE);
    watch.still().await?;
    let exact = match case.between.stalls {
        true => Some(is_exact(target.bootstrap(), full, case.carrier, progress).await?),
        false => None,
    };
    Ok(WanRun {
        carrier: case.carrier,
        invocation: case.invocation,
        backlog: case.backlog,
        between: case.between,
        brokers: ZONES,
        seconds: (figures.to.at - figures.from.at).as_secs_f64(),
        stalled_seconds: figures.stalled.as_secs_f64(),
        bytes: (figures.to.end - figures.from.end) as f64 * full.bytes as f64 / full.records as f64,
        wire_bytes: figures.to.wire - figures.from.wire,
        cpu_seconds: figures.to.cpu.saturating_sub(figures.from.cpu).as_secs_f64(),
        peak_rss_bytes,
        start_seconds,
        exact,
    })
}

async fn is_exact(target: &str, full: &Full, carrier: Carrier, progress: &Progress) -> Result<bool> {
    let (target, full) = (target.to_owned(), full.clone());
    let checked = tokio::task::spawn_blocking(move || count::check(&target, &full, carrier.tags())).await?;
    if let Err(why) = &checked {
        progress.done(&format!("the copy is not exact: {why:#}"));
    }
    Ok(checked.is_ok())
}

fn wan(between: Between) -> Wan {
    Wan {
        round_trip: Duration::from_millis(between.round_trip),
        bytes_per_second: between.limit.map(|limit| limit * 1_000_000),
        window: between.window.map_or(Wan::NONE.window, |kib| kib << 10),
    }
}

/// Between two moments.
struct Figures {
    from: Sample,
    to: Sample,
    stalled: Duration,
}

/// The age of the process in seconds at the first record, and what came after it.
async fn measure(
    watch: &mut Watch<'_>,
    case: &Case,
    link: &Link,
    full: &Full,
    progress: &Progress,
) -> Result<(f64, Figures)> {
    ensure!(
        watch.began_at() == 0,
        "{} holds records before it should",
        full.topic
    );
    let start_seconds = watch.first().await?;
    let records = i64::try_from(full.records)?;
    let figures = if case.between.stalls {
        through_stalls(watch, link, records, progress).await?
    } else {
        let jvm = matches!(case.carrier, Carrier::Mm2Defaults | Carrier::Mm2Tuned);
        let warm_up = if jvm { WARM_UP_JVM } else { WARM_UP };
        steady(watch, warm_up, records, progress).await?
    };
    Ok((start_seconds, figures))
}

/// A few seconds in the middle, or up to the end of the backlog.
async fn steady(
    watch: &mut Watch<'_>,
    warm_up: Duration,
    records: i64,
    progress: &Progress,
) -> Result<Figures> {
    let start = watch.last;
    let mut from = start;
    loop {
        sleep(INTERVAL).await;
        let sample = watch.look()?;
        progress.say(&format!("{} of {records}", sample.end));
        if sample.at - start.at < warm_up && sample.end < records / 2 {
            from = sample;
        }
        // At the end of the backlog the last rows come as fast as they may.
        let over = sample.at - from.at > MEASURED || sample.end >= records / 20 * 19;
        if over {
            return Ok(Figures {
                from,
                to: sample,
                stalled: Duration::ZERO,
            });
        }
    }
}

/// Everything, while the link stalls again and again.
async fn through_stalls(
    watch: &mut Watch<'_>,
    link: &Link,
    records: i64,
    progress: &Progress,
) -> Result<Figures> {
    let from = watch.last;
    let mut stalled = Duration::ZERO;
    let mut since: Option<Instant> = None;
    let mut next = from.at + STALL;
    loop {
        sleep(INTERVAL).await;
        let sample = watch.look()?;
        progress.say(&format!("{} of {records}", sample.end));
        match since {
            Some(began) if sample.at - began >= STALL => {
                link.resume();
                stalled += sample.at - began;
                since = None;
            }
            None if sample.at >= next && sample.end < records => {
                link.stall();
                since = Some(sample.at);
                next += PERIOD;
            }
            _ => {}
        }
        if sample.end >= records && sample.at - watch.last.at > QUIET && since.is_none() {
            return Ok(Figures {
                from,
                to: watch.last,
                stalled,
            });
        }
        if sample.at - from.at > ALL {
            bail!("{} of {records} records came within {ALL:?}", watch.last.end);
        }
    }
}
