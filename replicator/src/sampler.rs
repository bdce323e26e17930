//! Compares positions with the ends of the source logs, for metrics and status, and asks both clusters whether
//! they are there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::flow::Phase;
use kuroshio_core::lag::Lag;
use kuroshio_core::types::{SourceOffset, Time, TopicPartition};
use kuroshio_wire::{Cluster, Isolation, OffsetAt, Read, Topics};
use tokio::sync::watch;

use crate::board::{FlowBoard, wall_ms};
use crate::lanes::LaneView;
use crate::metrics::{FlowMetrics, LaneMetrics, Metrics};

/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// Between two questions whether a cluster is there, and how long one may take.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(4));

/// Samples the lag of one flow's lanes in this process.
pub struct Sampler {
    /// The source.
    pub source: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// The flow's metrics.
    pub metrics: FlowMetrics,
    /// The start of time.
    pub started: Instant,
    /// What is known of each partition.
    pub tracks: HashMap<TopicPartition, Track>,
    /// Reasons that were counted the last time.
    pub reasons: BTreeMap<&'static str, usize>,
}

/// The lag of one partition.
pub struct Track {
    lag: Lag,
    metrics: LaneMetrics,
    dated: bool,
}

impl Sampler {
    /// Samples for ever.
    pub async fn run(mut self) {
        loop {
            let lanes: Vec<LaneView> = self
                .board
                .views()
                .iter()
                .flat_map(|view| view.lanes.iter().cloned())
                .collect();
            self.quarantined(&lanes);
            self.sample(&lanes).await;
            tokio::time::sleep(SAMPLE).await;
        }
    }

    async fn sample(&mut self, lanes: &[LaneView]) {
        let positions: BTreeMap<TopicPartition, SourceOffset> = lanes
            .iter()
            .filter_map(|lane| Some((lane.pairing.source.clone(), lane.position?)))
            .collect();
        self.tracks
            .retain(|partition, _| positions.contains_key(partition));
        let ends = |isolation| {
            let wanted = positions
                .keys()
                .map(|partition| (partition.clone(), OffsetAt::Latest));
            self.source.list_offsets(wanted, isolation)
        };
        let (mut high, mut stable) =
            tokio::join!(ends(Isolation::ReadUncommitted), ends(Isolation::ReadCommitted));
        let now = Time::at(self.started.elapsed());
        let mut by_partition = BTreeMap::new();
        for (partition, position) in positions {
            let track = self.tracks.entry(partition.clone()).or_insert_with(|| Track {
                lag: Lag::new(position),
                metrics: self.metrics.lane(&partition.topic, partition.partition),
                dated: false,
            });
            if let Some(Ok(Some(end))) = high.remove(&partition) {
                track.lag.observe(SourceOffset(end.offset), now);
                if let Some(Ok(Some(lso))) = stable.remove(&partition) {
                    track
                        .metrics
                        .unstable(u64::try_from(end.offset - lso.offset).unwrap_or(0));
                }
            }
            track.lag.advance(position, now);
            if !track.dated {
                track.dated = true;
                if track.lag.records() > 0
                    && let Some(timestamp) = oldest(&self.source, &partition, position).await
                {
                    track.lag.backlog(timestamp, wall_ms(), now);
                }
            }
            track.metrics.lag(track.lag.records(), track.lag.behind(now));
            by_partition.insert(partition, track.lag.records());
        }
        self.board.lag(by_partition);
    }

    fn quarantined(&mut self, lanes: &[LaneView]) {
        let mut reasons: BTreeMap<&'static str, usize> =
            self.reasons.keys().map(|reason| (*reason, 0)).collect();
        for lane in lanes {
            if let Phase::Quarantined { why, .. } = &lane.phase {
                *reasons.entry(why.reason).or_default() += 1;
            }
        }
        for (reason, count) in &reasons {
            self.metrics.quarantined(reason, *count);
        }
        reasons.retain(|_, count| *count > 0);
        self.reasons = reasons;
    }
}

/// The timestamp of the first record that a backlog waits with.
async fn oldest(source: &Cluster, partition: &TopicPartition, position: SourceOffset) -> Option<i64> {
    let read = Read {
        offset: position.0,
        max_bytes: 1 << 16,
        isolation: Isolation::ReadUncommitted,
        max_wait: Duration::ZERO,
    };
    let chunk = source.read(partition, read).await.ok()?;
    let batches = chunk.batches(1 << 24).filter_map(Result::ok);
    let mut records = batches.flat_map(|batch| batch.records()).filter_map(Result::ok);
    records
        .find(|record| record.offset >= position.0)
        .map(|record| record.timestamp)
        .filter(|timestamp| *timestamp > 0)
}

/// What was seen of a cluster the last time it was asked.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// It answered.
    pub up: bool,
    /// Its id, once known.
    pub id: Option<Arc<str>>,
}

/// Asks a cluster again and again whether it is there.
pub async fn ping(cluster: Cluster, metrics: Arc<Metrics>, tell: watch::Sender<Seen>) {
    let cluster = cluster.within(PING.1);
    loop {
        let answer = cluster.metadata(Topics::None).await;
        if let Err(error) = &answer {
            tracing::warn!(cluster = %cluster.alias(), %error, "cluster does not answer");
        }
        metrics.cluster_up(cluster.alias(), answer.is_ok());
        tell.send_modify(|seen| {
            seen.up = answer.is_ok();
            seen.id = answer
                .ok()
                .and_then(|metadata| metadata.cluster_id)
                .or(seen.id.take());
        });
        tokio::time::sleep(PING.0).await;
    }
}
