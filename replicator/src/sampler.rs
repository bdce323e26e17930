//! Compares positions with the ends of the source logs, for metrics and status.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use kuroshio_core::flow::Phase;
use kuroshio_core::lag::Lag;
use kuroshio_core::types::{SourceOffset, Time, TopicPartition};
use kuroshio_wire::{ByPartition, Cluster, Isolation, ListedOffset, OffsetAt, Read};

use crate::board::{Behind, FlowBoard, Sample, seated, wall_ms};
use crate::heartbeats;
use crate::lanes::LaneView;
use crate::metrics::{FlowMetrics, Gauge, LaneMetrics};

/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// How long the source may take to tell its ends; what is missing gets older meanwhile, whether it answers or not.
const PATIENCE: Duration = Duration::from_secs(3);
/// Backlogs whose first record is read for its timestamp: in one sample, and at the same time.
const DATED: (usize, usize) = (64, 16);

/// Samples the lag of one flow's lanes in this process.
pub struct Sampler {
    /// The source.
    pub source: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// The flow's metrics.
    pub metrics: FlowMetrics,
    /// The flow's heartbeats, where it has any.
    pub heartbeats: Option<heartbeats::Shared>,
    /// The start of time.
    pub started: Instant,
    /// What is known of each partition.
    pub tracks: HashMap<TopicPartition, Track>,
    /// What is shown of the flow as a whole.
    pub shown: Shown,
}

/// Handles of what not every process shows, and not always.
#[derive(Default)]
pub struct Shown {
    rpo: Option<Gauge>,
    paused: Option<Gauge>,
    quarantined: BTreeMap<&'static str, Gauge>,
    standing: HashSet<TopicPartition>,
}

/// The lag of one partition.
pub struct Track {
    lag: Lag,
    position: SourceOffset,
    metrics: LaneMetrics,
    dated: bool,
}

impl Sampler {
    /// Samples for ever.
    pub async fn run(mut self) {
        self.source = self.source.within(PATIENCE);
        let mut last = Instant::now();
        loop {
            let views = self.board.views();
            let seated = seated(&views);
            let lanes: Vec<LaneView> = views.iter().flat_map(|view| view.lanes.iter().cloned()).collect();
            self.standing(&lanes);
            self.say_quarantined(&lanes);
            self.follow(&lanes, seated);
            let [high, stable] = self.ends().await;
            let now = Time::at(self.started.elapsed());
            self.observe(&high, &stable, now);
            self.date(now).await;
            self.tell(&lanes, last.elapsed());
            last = Instant::now();
            tokio::time::sleep(SAMPLE).await;
        }
    }

    /// Takes the lanes' positions in. Without a seat nobody says who has which: then what was ours is still missing.
    fn follow(&mut self, lanes: &[LaneView], seated: bool) {
        let positions: HashMap<&TopicPartition, SourceOffset> = lanes
            .iter()
            .filter_map(|lane| Some((&lane.pairing.source, lane.position?)))
            .collect();
        if seated {
            // A lane that is opened again has no position for a moment, and is not less behind.
            let ours: HashSet<&TopicPartition> = lanes.iter().map(|lane| &lane.pairing.source).collect();
            self.tracks.retain(|partition, _| ours.contains(partition));
        }
        for (partition, position) in positions {
            let track = self.tracks.entry(partition.clone()).or_insert_with(|| Track {
                lag: Lag::new(position),
                position,
                metrics: self.metrics.lane(&partition.topic, partition.partition),
                dated: false,
            });
            track.position = position;
        }
    }

    async fn ends(&self) -> [ByPartition<Option<ListedOffset>>; 2] {
        let ends = |isolation| {
            let wanted = self
                .tracks
                .keys()
                .map(|partition| (partition.clone(), OffsetAt::Latest));
            self.source.list_offsets(wanted.collect::<Vec<_>>(), isolation)
        };
        tokio::join!(ends(Isolation::ReadUncommitted), ends(Isolation::ReadCommitted)).into()
    }

    fn observe(
        &mut self,
        high: &ByPartition<Option<ListedOffset>>,
        stable: &ByPartition<Option<ListedOffset>>,
        now: Time,
    ) {
        for (partition, track) in &mut self.tracks {
            if let Some(Ok(Some(end))) = high.get(partition) {
                track.lag.observe(SourceOffset(end.offset), now);
                if let Some(Ok(Some(lso))) = stable.get(partition) {
                    let unstable = u64::try_from(end.offset - lso.offset).unwrap_or(0);
                    track.metrics.unstable(unstable);
                }
            }
            track.lag.advance(track.position, now);
        }
    }

    /// Asks how old backlogs are that were there when we came.
    async fn date(&mut self, now: Time) {
        let seen = |track: &Track| track.lag.end().is_some();
        let undated = self
            .tracks
            .iter_mut()
            .filter(|(_, track)| !track.dated && seen(track));
        let mut wanted = Vec::new();
        for (partition, track) in undated {
            if track.lag.records() == 0 {
                track.dated = true;
            } else if wanted.len() < DATED.0 {
                wanted.push((partition.clone(), track.position));
            }
        }
        let reads = stream::iter(wanted).map(|(partition, position)| {
            let source = self.source.clone();
            async move {
                let written = timestamp(&source, &partition, position.0, Isolation::ReadUncommitted).await;
                (partition, written)
            }
        });
        let read: Vec<_> = reads.buffer_unordered(DATED.1).collect().await;
        for (partition, written) in read {
            // What cannot be read is asked again with the next sample.
            if let Some(track) = self.tracks.get_mut(&partition)
                && let Ok(written) = written
            {
                track.dated = true;
                if let Some(written) = written {
                    track.lag.backlog(written, wall_ms(), now);
                }
            }
        }
    }

    fn tell(&mut self, lanes: &[LaneView], after: Duration) {
        let now = Time::at(self.started.elapsed());
        let mut sample = Sample {
            after,
            ..Sample::default()
        };
        for (partition, track) in &self.tracks {
            let behind = Behind {
                records: track.lag.records(),
                time: track.lag.behind(now),
            };
            track.metrics.lag(behind.records, behind.time);
            sample.lag.insert(partition.clone(), behind);
        }
        sample.rpo = self.rpo(lanes, &sample, now);
        match sample.rpo {
            Some(rpo) => {
                let gauge = self.shown.rpo.get_or_insert_with(|| self.metrics.rpo());
                gauge.set(rpo.as_secs_f64());
            }
            None => self.shown.rpo = None,
        }
        self.board.sampled(sample);
    }

    /// What a disaster now would lose, as far as this process knows.
    fn rpo(&self, lanes: &[LaneView], sample: &Sample, now: Time) -> Option<Duration> {
        let lag = (!sample.lag.is_empty()).then(|| sample.largest());
        let heartbeats = match &self.heartbeats {
            Some(heartbeats) if self.board.owns(heartbeats::slot()) != Some(false) => heartbeats,
            _ => return lag,
        };
        let partition = heartbeats::partition();
        let mut lanes = lanes.iter().filter(|lane| lane.pairing.source == partition);
        let mut heartbeats = heartbeats.lock();
        if let Some(position) = lanes.next().and_then(|lane| lane.committed.as_ref()) {
            heartbeats.durable(position.offset);
        }
        lag.max(Some(heartbeats.age(now)))
    }

    /// Says which partitions stand still from now on, and which run again; those tried in between still stand.
    fn say_quarantined(&mut self, lanes: &[LaneView]) {
        let (flow, standing) = (self.board.name(), &mut self.shown.standing);
        for lane in lanes {
            let (topic, partition) = (&lane.pairing.source.topic, lane.pairing.source.partition);
            match &lane.phase {
                Phase::Quarantined { why, .. } if standing.insert(lane.pairing.source.clone()) => {
                    tracing::warn!(flow, %topic, partition, reason = why.reason, error = why.text, "partition quarantined");
                }
                Phase::Running if standing.remove(&lane.pairing.source) => {
                    tracing::info!(flow, %topic, partition, "partition runs again");
                }
                _ => {}
            }
        }
    }

    fn standing(&mut self, lanes: &[LaneView]) {
        let paused = lanes.iter().filter(|lane| lane.phase == Phase::Paused).count();
        let gauge = self.shown.paused.get_or_insert_with(|| self.metrics.paused());
        gauge.set(paused as f64);
        let mut reasons: BTreeMap<&'static str, u32> = BTreeMap::new();
        for lane in lanes {
            if let Phase::Quarantined { why, .. } = &lane.phase {
                *reasons.entry(why.reason).or_default() += 1;
            }
        }
        let shown = &mut self.shown.quarantined;
        shown.retain(|reason, _| reasons.contains_key(reason));
        for (reason, count) in reasons {
            let gauge = shown
                .entry(reason)
                .or_insert_with(|| self.metrics.quarantined(reason));
            gauge.set(f64::from(count));
        }
    }
}

/// The timestamp of the first record at `offset` or behind it, in milliseconds since 1970; `None`: there is none, or it says
/// nothing.
pub(crate) async fn timestamp(
    cluster: &Cluster,
    partition: &TopicPartition,
    offset: i64,
    isolation: Isolation,
) -> Result<Option<i64>, kuroshio_wire::Error> {
    let read = Read {
        offset,
        // One batch is sent whole, however large it is (KIP-74).
        max_bytes: 1,
        isolation,
        max_wait: Duration::ZERO,
    };
    let chunk = cluster.read(partition, read).await?;
    let batches = chunk.batches(1 << 24).filter_map(Result::ok);
    let mut records = batches.flat_map(|batch| batch.records()).filter_map(Result::ok);
    Ok(records
        .find(|record| record.offset >= offset)
        .map(|record| record.timestamp)
        .filter(|timestamp| *timestamp > 0))
}
