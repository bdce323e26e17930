//! The lag exporter: how far users' groups are behind on a cluster, in records and in time.
//!
//! Time is the age of the first record that a group has not read. It is interpolated between our own samples of the log's end;
//! for what was written before the first sample the record itself is asked for its timestamp.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use kuroshio_core::ages::{Ages, Written};
use kuroshio_core::groups::Mark;
use kuroshio_core::lag::plausible_age;
use kuroshio_core::types::{Time, TopicPartition};
use kuroshio_wire::{
    ByPartition, Cluster, Error, GroupDescription, GroupListing, GroupOffset, Isolation, KafkaCode,
    ListedOffset, OffsetAt, Stored,
};
use tokio::time::MissedTickBehavior;

use crate::board::{FlowBoard, wall_ms};
use crate::config;
use crate::groups::{follows, living};
use crate::heartbeats;
use crate::metrics::{GroupMetrics, GroupPartitionMetrics, Metrics};
use crate::sampler::timestamp;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Looks that may fail in a row before what was seen last counts for nothing.
const STALE: u32 = 3;
/// Records whose timestamps are read in one look, and at the same time.
const DATED: (usize, usize) = (256, 16);

/// A flow between the cluster and another, as far as the exporter needs it.
pub struct Neighbour {
    /// The flow.
    pub flow: config::Current,
    /// Its board in this process.
    pub board: Arc<FlowBoard>,
}

/// Exports the lag of the groups on one cluster.
pub struct Exporter {
    cluster: Cluster,
    flows: Vec<Neighbour>,
    metrics: Arc<Metrics>,
    started: Instant,
    failed: u32,
    groups: BTreeMap<Arc<str>, Exported>,
    ages: HashMap<TopicPartition, Ages>,
    /// Records from before the first sample: how old they were when; `None`: they do not say.
    dated: HashMap<(TopicPartition, i64), Option<(Duration, Time)>>,
}

/// A group.
struct Exported {
    metrics: GroupMetrics,
    partitions: HashMap<TopicPartition, GroupPartitionMetrics>,
}

/// A group's offsets; `None`: a transaction is about to change it.
type Offsets = BTreeMap<TopicPartition, Option<GroupOffset>>;

/// What a look at the cluster found.
struct Look {
    listed: BTreeMap<Arc<str>, GroupListing>,
    offsets: BTreeMap<Arc<str>, Offsets>,
    described: HashMap<Arc<str>, Result<GroupDescription, Error>>,
    ends: Ends,
}

/// Ends of logs; `None`: the leader could not be asked.
type Ends = HashMap<TopicPartition, Option<i64>>;

impl Exporter {
    /// An exporter for the groups on `cluster` that `flows`, which begin or end there, look after.
    #[must_use]
    pub fn new(cluster: &Cluster, flows: Vec<Neighbour>, metrics: Arc<Metrics>) -> Self {
        Self {
            cluster: cluster.within(EVERY),
            flows,
            metrics,
            started: Instant::now(),
            failed: 0,
            groups: BTreeMap::new(),
            ages: HashMap::new(),
            dated: HashMap::new(),
        }
    }

    /// Looks again and again, while no other process does.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.flows.iter_mut().for_each(|flow| flow.flow.renew());
            // Of the processes of a flow the owner of the heartbeats' slot exports; without a seat nobody knows who that is.
            let ours = |flow: &Neighbour| flow.board.owns(heartbeats::slot()) != Some(false);
            if !self.flows.iter().any(ours) {
                self.groups.clear();
                continue;
            }
            match self.look().await {
                Ok(look) => {
                    self.failed = 0;
                    self.export(look).await;
                }
                Err(error) => {
                    tracing::warn!(cluster = %self.cluster.alias(), %error, "the lag of groups is not known");
                    self.failed += 1;
                    if self.failed >= STALE {
                        self.groups.clear();
                    }
                }
            }
        }
    }

    async fn look(&self) -> Result<Look, Error> {
        let all = self.cluster.list_groups().await?;
        let listed: BTreeMap<_, _> = all
            .into_iter()
            .filter(|group| self.flows.iter().any(|flow| follows(&flow.flow, group)))
            .map(|group| (Arc::clone(&group.group), group))
            .collect();
        let names: Vec<_> = listed.keys().cloned().collect();
        let living: Vec<_> = listed
            .values()
            .filter(|group| living(group))
            .map(|group| Arc::clone(&group.group))
            .collect();
        let (stored, described) = tokio::join!(
            self.cluster.fetch_offsets_of(&names),
            self.cluster.describe_groups(&living)
        );
        let mut offsets = BTreeMap::new();
        for (group, outcome) in stored {
            match outcome {
                Ok(stored) => {
                    offsets.insert(group, told(stored));
                }
                Err(error) => {
                    tracing::debug!(cluster = %self.cluster.alias(), %group, %error, "offsets not known");
                }
            }
        }
        let partitions: BTreeSet<_> = offsets.values().flat_map(BTreeMap::keys).cloned().collect();
        let wanted = partitions
            .into_iter()
            .map(|partition| (partition, OffsetAt::Latest));
        let ends = self
            .cluster
            .list_offsets(wanted, Isolation::ReadUncommitted)
            .await;
        let end = |(partition, end): (TopicPartition, Result<Option<ListedOffset>, Error>)| match end {
            Ok(end) => Some((partition, end.map(|end| end.offset))),
            // Nobody is behind in what is gone.
            Err(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => None,
            Err(_) => Some((partition, None)),
        };
        let ends = ends.into_iter().filter_map(end).collect();
        Ok(Look {
            listed,
            offsets,
            described,
            ends,
        })
    }

    async fn export(&mut self, look: Look) {
        let now = Time::at(self.started.elapsed());
        self.ages.retain(|partition, _| look.ends.contains_key(partition));
        for (partition, end) in &look.ends {
            if let Some(end) = end {
                self.ages.entry(partition.clone()).or_default().observe(*end, now);
            }
        }
        self.date(&look, now).await;
        self.groups.retain(|group, _| look.listed.contains_key(group));
        for (group, listing) in &look.listed {
            let mut exported = self.groups.remove(group).unwrap_or_else(|| Exported {
                metrics: self.metrics.group(self.cluster.alias(), group),
                partitions: HashMap::new(),
            });
            let described = look
                .described
                .get(group)
                .and_then(|described| described.as_ref().ok());
            exported
                .metrics
                .members(described.map_or(0, |described| described.members.len()));
            let state = described.map(|described| &*described.state);
            exported.metrics.state(state.or(listing.state.as_deref()));
            // Of what could not be asked this time the last time's holds.
            if let Some(offsets) = look.offsets.get(group) {
                exported.metrics.follows(self.written_by(offsets));
                self.export_offsets(&mut exported, offsets, &look.ends, now);
            }
            self.groups.insert(Arc::clone(group), exported);
        }
    }

    fn export_offsets(&self, exported: &mut Exported, offsets: &Offsets, ends: &Ends, now: Time) {
        let there =
            |partition: &TopicPartition| offsets.contains_key(partition) && ends.contains_key(partition);
        exported.partitions.retain(|partition, _| there(partition));
        for (partition, offset) in offsets {
            let (Some(offset), Some(Some(end))) = (offset, ends.get(partition)) else {
                continue;
            };
            let metrics = exported
                .partitions
                .entry(partition.clone())
                .or_insert_with(|| exported.metrics.partition(partition));
            let records = u64::try_from(end - offset.offset).unwrap_or(0);
            metrics.lag(records, self.age(partition, offset.offset, now));
        }
    }

    /// The flow that wrote all of these offsets; `None`: consumers wrote some.
    fn written_by(&self, offsets: &Offsets) -> Option<&str> {
        let here = |flow: &&Neighbour| *flow.flow.target == **self.cluster.alias();
        let mut offsets = offsets.values().flatten();
        let writer = |offset: &GroupOffset| {
            let mark = Mark::parse(&offset.metadata)?;
            let mut flows = self.flows.iter().filter(here);
            flows.find(|flow| *flow.flow.name == *mark.flow)
        };
        let first = writer(offsets.next()?)?;
        offsets
            .all(|offset| writer(offset).is_some())
            .then_some(&*first.flow.name)
    }

    fn age(&self, partition: &TopicPartition, offset: i64, now: Time) -> Duration {
        let written = self.ages.get(partition).map(|ages| ages.written(offset));
        match written {
            None | Some(Written::NotYet) => Duration::ZERO,
            Some(Written::At(at)) => now.since(at),
            Some(Written::Before(first)) => {
                let dated = self.dated.get(&(partition.clone(), offset)).copied().flatten();
                let said = dated.map(|(age, at)| now.since(at) + age);
                said.unwrap_or_default().max(now.since(first))
            }
        }
    }

    /// Asks for the timestamps of records that were written before the first sample, where groups stand.
    async fn date(&mut self, look: &Look, now: Time) {
        let (mut wanted, mut current) = (BTreeSet::new(), HashSet::new());
        for (partition, offset) in look.offsets.values().flatten() {
            let (Some(offset), Some(ages)) = (offset, self.ages.get(partition)) else {
                continue;
            };
            if matches!(ages.written(offset.offset), Written::Before(_)) {
                let place = (partition.clone(), offset.offset);
                if wanted.len() < DATED.0 && !self.dated.contains_key(&place) {
                    wanted.insert(place.clone());
                }
                current.insert(place);
            }
        }
        self.dated.retain(|place, _| current.contains(place));
        let reads = stream::iter(wanted).map(|(partition, offset)| {
            let cluster = self.cluster.clone();
            async move {
                let written = timestamp(&cluster, &partition, offset, Isolation::ReadUncommitted).await;
                ((partition, offset), written)
            }
        });
        let read: Vec<_> = reads.buffer_unordered(DATED.1).collect().await;
        let wall = wall_ms();
        for (place, written) in read {
            let written = match written {
                Ok(written) => written,
                // Retention was faster than the group.
                Err(error) if error.code() == Some(KafkaCode::OffsetOutOfRange) => None,
                // Asked again at the next look.
                Err(_) => continue,
            };
            let age = written.and_then(|written| plausible_age(written, wall));
            self.dated.insert(place, age.map(|age| (age, now)));
        }
    }
}

fn told(stored: ByPartition<Stored>) -> Offsets {
    let told = stored.into_iter().filter_map(|(partition, stored)| match stored {
        Ok(Stored::Offset(offset)) => Some((partition, Some(offset))),
        Ok(Stored::Unstable) => Some((partition, None)),
        Ok(Stored::Nothing) | Err(_) => None,
    });
    told.collect()
}
