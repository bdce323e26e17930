//! Topics in MirrorMaker 2's formats (`mm2_compat`), for services that read them with its classes: `RemoteClusterUtils`, `MirrorClient`.

mod checkpoints;

use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::mm2::{HEARTBEATS, Heartbeat};
use kuroshio_wire::{Cluster, NewRecord};

use crate::board::{FlowBoard, wall_ms};
use crate::config;
use crate::own_topic::OwnTopic;

pub use checkpoints::Checkpoints;

/// MirrorMaker 2's `emit.heartbeats.interval.seconds`.
const BEAT: Duration = Duration::from_secs(1);
/// As it makes its own topics.
const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact")];

/// Writes heartbeats for ever: on the target, and on the source where no flow back does, as MirrorMaker 2's pair of connectors. The
/// source's are copied to the target as `<source>.heartbeats`, by which its classes know who is upstream.
pub async fn heartbeats(flow: config::Current, source: Cluster, target: Cluster, board: Arc<FlowBoard>) {
    let mut ends = vec![(&target, &source)];
    if !beats_back(&flow, flow.all()) {
        ends.push((&source, &target));
    }
    let beat = async |(to, from): (&Cluster, &Cluster)| {
        let topic = OwnTopic::new(to, HEARTBEATS.into(), flow.replication_factor, COMPACTED);
        loop {
            let timestamp = wall_ms();
            let heartbeat = Heartbeat {
                source: from.alias().to_string(),
                target: to.alias().to_string(),
                timestamp,
            };
            if let Some(key) = heartbeat.key() {
                let record = NewRecord {
                    key,
                    value: heartbeat.value(),
                };
                if let Err(error) = topic.append(&[record], timestamp).await {
                    board.error(format!("heartbeats for MirrorMaker 2's classes: {error}"));
                }
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    futures_util::future::join_all(ends.into_iter().map(beat)).await;
}

/// Whether the flow back writes those on the source.
pub(crate) fn beats_back(flow: &config::Flow, flows: &[config::Flow]) -> bool {
    let back = |other: &config::Flow| {
        other.mm2.heartbeats && (&other.source, &other.target) == (&flow.target, &flow.source)
    };
    flows.iter().any(back)
}
