//! One haul: a carrier is started on a full source topic and watched until everything is on the target.

use anyhow::{Context, Result, ensure};
use kuroshio_integration::Cluster;

use crate::carriers::{Carrier, Job, Running};
use crate::clusters::{Clusters, PARTITIONS, clean, create};
use crate::count;
use crate::data::Full;
use crate::progress::Progress;
use crate::results::HaulRun;
use crate::watch::{Target, Watch};

/// Runs one haul and checks that the target has what the source has.
pub(crate) async fn haul(
    clusters: &Clusters,
    carrier: Carrier,
    full: &Full,
    progress: &Progress,
) -> Result<HaulRun> {
    let target = prepare(clusters, &clusters.target, full).await?;
    let running = carrier.start(&job(clusters, &target, full))?;
    let measured = watched(&running, &target, full, progress).await;
    let measured = measured.with_context(|| running.last_words())?;
    tokio::task::spawn_blocking(move || drop(running)).await?;
    let (target, full) = (clusters.target.bootstrap().to_owned(), full.clone());
    tokio::task::spawn_blocking(move || count::check(&target, &full, carrier.tags()))
        .await?
        .context("the copy is not what it should be")?;
    Ok(measured)
}

async fn watched(running: &Running, target: &str, full: &Full, progress: &Progress) -> Result<HaulRun> {
    let process = running.process();
    let (start_seconds, mut watch) = first(running, target, full.topic).await?;
    watch.all(full.records, progress).await?;
    let figures = watch.figures();
    Ok(HaulRun {
        seconds: figures.seconds,
        share: figures.share,
        cpu_seconds: figures.cpu_seconds,
        cpu_whole_seconds: watch.last.cpu.as_secs_f64(),
        peak_rss_bytes: process.peak_rss()?,
        start_seconds,
        records: full.records,
    })
}

/// Seconds from the start of the carrier's process to its first record on `target`.
pub(crate) async fn start(
    clusters: &Clusters,
    target: &Cluster,
    carrier: Carrier,
    full: &Full,
) -> Result<f64> {
    let bootstrap = prepare(clusters, target, full).await?;
    let running = carrier.start(&job(clusters, &bootstrap, full))?;
    let first = first(&running, &bootstrap, full.topic).await;
    let (seconds, _) = first.with_context(|| running.last_words())?;
    Ok(seconds)
}

/// Removes what others left and makes the topic anew; gives the target's address.
async fn prepare(clusters: &Clusters, target: &Cluster, full: &Full) -> Result<String> {
    clean(target, false).await?;
    clean(&clusters.source, true).await?;
    create(target, full.topic).await?;
    Ok(target.bootstrap().to_owned())
}

fn job<'a>(clusters: &'a Clusters, target: &'a str, full: &Full) -> Job<'a> {
    Job {
        source: clusters.source.bootstrap(),
        target,
        topics: full.topic,
        codec: full.data.codec(),
    }
}

/// Waits for the first record. Gives the age that the process then had in seconds.
async fn first(running: &Running, target: &str, topic: &str) -> Result<(f64, Watch<'static>)> {
    let target = Target::new(target, vec![topic.to_owned()], PARTITIONS)?;
    let mut watch = Watch::new(running.process(), vec![target], None)?;
    ensure!(watch.began_at() == 0, "{topic} holds records before it should");
    Ok((watch.first().await?, watch))
}
