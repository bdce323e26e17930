//! Several pumps of one flow in one process.

use anyhow::Result;
use kuroshio_integration::Kuroshio;
use serde_json::json;

use super::source::{Load, Values};
use super::{Point, backlog, pair};
use crate::clusters::{Clusters, PARTITIONS, clean, create};
use crate::progress::Progress;
use crate::watch::Target;

const TOPIC: &str = "growth-pumps";
const RECORDS: u64 = 1_000_000;

/// The source topic, filled once.
pub(super) struct Bench<'a> {
    clusters: &'a Clusters,
    bytes: u64,
    progress: &'a Progress,
}

impl<'a> Bench<'a> {
    pub(super) async fn start(clusters: &'a Clusters, progress: &'a Progress) -> Result<Self> {
        create(&clusters.source, TOPIC).await?;
        let load = Load {
            topics: vec![TOPIC.to_owned()],
            partitions: PARTITIONS,
            values: Values::Orders,
            records: RECORDS,
            row: 1000,
            rate: None,
        };
        let bytes = load.produce(&clusters.source).await?;
        Ok(Self {
            clusters,
            bytes,
            progress,
        })
    }

    pub(super) async fn point(&mut self, pumps: u64) -> Result<Point> {
        let target = &self.clusters.target;
        clean(target, false).await?;
        create(target, TOPIC).await?;
        let mut config = pair(self.clusters, "pumps", TOPIC);
        config["defaults"]["pumps"] = json!(pumps);
        let watched = Target::new(target.bootstrap(), vec![TOPIC.to_owned()], PARTITIONS)?;
        let kuroshio = Kuroshio::run(config)?;
        backlog(kuroshio, vec![watched], RECORDS, self.bytes, self.progress).await
    }

    pub(super) async fn end(self) -> Result<()> {
        clean(&self.clusters.target, false).await?;
        self.clusters.source.delete_topic(TOPIC).await
    }
}
