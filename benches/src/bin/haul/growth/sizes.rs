//! Records of all sizes.

use anyhow::Result;
use kuroshio_integration::Kuroshio;

use super::source::{Load, Values};
use super::{Axis, Point, backlog, pair};
use crate::clusters::{Clusters, PARTITIONS, clean};
use crate::progress::Progress;
use crate::watch::Target;

/// Bytes of each backlog, but for the smallest records, of which that would be too many.
const BYTES: u64 = 512 << 20;
const MOST: u64 = 1_500_000;
/// A record of 1 MiB is larger than Kafka's default allows.
const LIMIT: [(&str, &str); 1] = [("max.message.bytes", "2097152")];

/// A source topic for each size, filled at its first use.
pub(super) struct Bench<'a> {
    clusters: &'a Clusters,
    filled: Vec<u64>,
    progress: &'a Progress,
}

fn topic(size: u64) -> String {
    format!("growth-size-{size}")
}

impl<'a> Bench<'a> {
    pub(super) fn start(clusters: &'a Clusters, progress: &'a Progress) -> Self {
        Self {
            clusters,
            filled: Vec::new(),
            progress,
        }
    }

    pub(super) async fn point(&mut self, size: u64) -> Result<Point> {
        let topic = topic(size);
        let records = (BYTES / size).min(MOST);
        let Clusters { source, target } = self.clusters;
        if !self.filled.contains(&size) {
            source.create_topic(&topic, PARTITIONS, &LIMIT).await?;
            let load = Load {
                topics: vec![topic.clone()],
                partitions: PARTITIONS,
                values: Values::Random(usize::try_from(size)?),
                records,
                row: (256 << 10) / size + 1,
                rate: None,
            };
            load.produce(source).await?;
            self.filled.push(size);
        }
        clean(target, false).await?;
        target.create_topic(&topic, PARTITIONS, &LIMIT).await?;
        let watched = Target::led(target, vec![topic.clone()], PARTITIONS).await?;
        let kuroshio = Kuroshio::run(pair(self.clusters, "sizes", &topic))?;
        backlog(kuroshio, vec![watched], records, records * size, self.progress).await
    }

    pub(super) async fn end(self) -> Result<()> {
        clean(&self.clusters.target, false).await?;
        for size in Axis::Sizes
            .points()
            .iter()
            .filter(|size| self.filled.contains(size))
        {
            self.clusters.source.delete_topic(&topic(*size)).await?;
        }
        Ok(())
    }
}
