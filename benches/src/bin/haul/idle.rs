//! What a carrier costs that has nothing to do but watch many partitions.

use std::time::Duration;

use anyhow::{Context, Result};
use kuroshio_integration::until;

use crate::carriers::{Carrier, Job};
use crate::clusters::{Clusters, clean};
use crate::results::Idle;

const TOPICS: usize = 20;
const PARTITIONS: i32 = 100;
/// Until all topics are on the target.
const CREATED: Duration = Duration::from_secs(300);
/// Then positions are decided and metadata settles.
const SETTLE: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(30);

/// Makes the topics on the source.
pub(crate) async fn create(clusters: &Clusters) -> Result<()> {
    clean(&clusters.source, true).await?;
    for number in 0..TOPICS {
        clusters
            .source
            .create_topic(&format!("idle-{number}"), PARTITIONS, &[])
            .await?;
    }
    Ok(())
}

/// Measures one carrier, which makes the topics on the target by itself.
pub(crate) async fn measure(clusters: &Clusters, carrier: Carrier, invocation: usize) -> Result<Idle> {
    clean(&clusters.target, false).await?;
    let running = carrier.start(&Job {
        source: clusters.source.bootstrap(),
        target: clusters.target.bootstrap(),
        topics: "idle-.*",
        codec: "none",
    })?;
    let wanted = TOPICS * usize::try_from(PARTITIONS)?;
    until(CREATED, "2,000 partitions on the target", || async {
        let topics = clusters.target.topics().await.map_err(|why| format!("{why:#}"))?;
        let idle = topics.iter().filter(|(name, _)| name.starts_with("idle-"));
        match idle.map(|(_, partitions)| *partitions).sum::<usize>() {
            there if there == wanted => Ok(()),
            there => Err(format!("{there} partitions")),
        }
    })
    .await
    .with_context(|| running.last_words())?;
    tokio::time::sleep(SETTLE).await;
    let process = running.process();
    let before = process.cpu()?;
    tokio::time::sleep(MEASURED).await;
    let spent = process.cpu()?.saturating_sub(before);
    Ok(Idle {
        carrier,
        invocation,
        partitions: wanted,
        cores: spent.as_secs_f64() / MEASURED.as_secs_f64(),
        peak_rss_bytes: process.peak_rss()?,
    })
}
