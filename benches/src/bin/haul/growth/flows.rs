//! Several flows in one process: eight directions between four clusters, of which so many are used.

use anyhow::{Context, Result};
use kuroshio_integration::{Cluster, Kuroshio, Spec};
use serde_json::{Value, json};

use super::source::{Load, Values};
use super::{Point, backlog};
use crate::clusters::clean;
use crate::progress::Progress;
use crate::watch::Target;

const CLUSTERS: [&str; 4] = ["tw", "jp", "kr", "us"];
/// Source and target of each flow.
const ENDS: [(usize, usize); 8] = [(0, 1), (1, 0), (2, 3), (3, 2), (0, 2), (1, 3), (2, 0), (3, 1)];
const PARTITIONS: i32 = 6;
/// Over all flows: what is copied is the same, however many share it.
const RECORDS: u64 = 800_000;

/// The clusters.
pub(super) struct Bench {
    clusters: Vec<Cluster>,
    runs: u32,
    progress: Progress,
}

impl Bench {
    pub(super) async fn start(progress: &Progress) -> Result<Self> {
        let mut clusters = Vec::new();
        for alias in CLUSTERS {
            let spec = Spec::new(alias).setting("log.segment.delete.delay.ms", "1000");
            clusters.push(Cluster::start(spec).await?);
        }
        Ok(Self {
            clusters,
            runs: 0,
            progress: progress.clone(),
        })
    }

    pub(super) async fn point(&mut self, flows: u64) -> Result<Point> {
        self.runs += 1;
        for cluster in &self.clusters {
            clean(cluster, false).await?;
        }
        let used = ENDS
            .get(..usize::try_from(flows)?)
            .context("more flows than directions")?;
        let (mut entries, mut targets, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (number, (source, target)) in used.iter().enumerate() {
            let topic = format!("growth-flow-{number}");
            for end in [source, target] {
                self.clusters[*end].create_topic(&topic, PARTITIONS, &[]).await?;
            }
            let load = Load {
                topics: vec![topic.clone()],
                partitions: PARTITIONS,
                values: Values::Orders,
                records: RECORDS / flows,
                row: 1000,
                rate: None,
            };
            bytes += load.produce(&self.clusters[*source]).await?;
            targets.push(Target::led(&self.clusters[*target], vec![topic.clone()], PARTITIONS).await?);
            entries.push(json!({
                "name": format!("growth-{}-{number}", self.runs),
                "source": CLUSTERS[*source],
                "target": CLUSTERS[*target],
                "topics": { "include": [topic] },
            }));
        }
        let clusters = self.clusters.iter().map(|cluster| {
            (
                cluster.alias().to_owned(),
                json!({ "bootstrap_servers": cluster.bootstrap() }),
            )
        });
        let config = json!({
            "clusters": clusters.collect::<serde_json::Map<_, Value>>(),
            "flows": entries,
            "log": { "format": "text" },
        });
        backlog(Kuroshio::run(config)?, targets, RECORDS, bytes, &self.progress).await
    }
}
