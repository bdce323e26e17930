//! Where flows stand, and what can be read of the partitions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::start::Metadata;
use kuroshio_core::translate::Place;
use kuroshio_core::types::{Copies, TopicPartition, group_of};
use kuroshio_wire::{ByPartition, Cluster, GroupOffset, Isolation, OffsetAt, Stored};

use crate::translator::{Error, Flow};

/// Until what was committed before we asked can be read.
const VISIBLE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// A flow's state at its target, for one partition.
pub(crate) struct Leg {
    pub(crate) source: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) position: i64,
    pub(crate) copies: Copies,
    pub(crate) producers: Arc<HashSet<i64>>,
}

impl Leg {
    pub(crate) fn of(&self, partition: i32) -> Place<'_> {
        Place {
            cluster: &self.source,
            topic: &self.topic,
            partition,
        }
    }

    pub(crate) fn in_order(&self) -> Option<i64> {
        self.copies.in_order.map(|offset| offset.0)
    }
}

/// Where the flows into a cluster stand.
pub(crate) struct Legs {
    cluster: Arc<str>,
    positions: HashMap<Arc<str>, ByPartition<Stored>>,
    producers: HashMap<Arc<str>, Arc<HashSet<i64>>>,
}

impl Legs {
    /// Asks `cluster` for the positions of flows, each for its partitions.
    pub(crate) async fn ask(
        cluster: &Cluster,
        wanted: &BTreeMap<Arc<str>, BTreeSet<TopicPartition>>,
    ) -> Result<Self, Error> {
        let mut legs = Self {
            cluster: Arc::clone(cluster.alias()),
            positions: HashMap::new(),
            producers: HashMap::new(),
        };
        if wanted.is_empty() {
            return Ok(legs);
        }
        let transactions = cluster.list_transactions().await?;
        for (flow, partitions) in wanted {
            let group = group_of(flow);
            let partitions = partitions.iter().cloned().collect();
            legs.positions
                .insert(Arc::clone(flow), settled(cluster, &group, partitions).await?);
            let prefix = format!("{group}.");
            let own = transactions
                .iter()
                .filter(|listed| listed.transactional_id.starts_with(&prefix));
            let own = own.map(|listed| listed.producer_id).collect();
            legs.producers.insert(Arc::clone(flow), Arc::new(own));
        }
        Ok(legs)
    }

    /// A flow's state for one partition of its target; `None`: it has no position.
    pub(crate) fn of(&self, flow: &Flow, partition: &TopicPartition) -> Result<Option<Leg>, Error> {
        let stored = self
            .positions
            .get(&flow.name)
            .and_then(|stored| stored.get(partition));
        let GroupOffset { offset, metadata, .. } = match stored {
            Some(Ok(Stored::Offset(offset))) => offset,
            Some(Ok(Stored::Nothing)) | None => return Ok(None),
            Some(Ok(Stored::Unstable)) => {
                return Err(Error::Unstable {
                    flow: Arc::clone(&flow.name),
                    partition: partition.clone(),
                });
            }
            Some(Err(error)) => return Err(error.clone().into()),
        };
        Ok(Some(Leg {
            source: Arc::clone(&flow.source),
            topic: Arc::clone(&flow.topic),
            position: *offset,
            copies: Metadata::parse(metadata).map_or(Copies::default(), |metadata| metadata.copies),
            producers: self.producers.get(&flow.name).cloned().unwrap_or_default(),
        }))
    }

    /// The error of a flow without position.
    pub(crate) fn none(&self, flow: &Flow, partition: &TopicPartition) -> Error {
        Error::NoPosition {
            flow: Arc::clone(&flow.name),
            partition: partition.clone(),
            cluster: Arc::clone(&self.cluster),
        }
    }
}

/// What a flow has stored. Under load a transaction is about to change it every other moment: that is waited for.
async fn settled(
    cluster: &Cluster,
    group: &str,
    mut partitions: Vec<TopicPartition>,
) -> Result<ByPartition<Stored>, Error> {
    let deadline = Instant::now() + VISIBLE;
    let mut all = HashMap::new();
    loop {
        let stored = cluster.fetch_offsets(group, Some(&partitions)).await?;
        let unstable =
            |(_, stored): &(&TopicPartition, &Result<Stored, _>)| matches!(stored, Ok(Stored::Unstable));
        partitions = stored
            .iter()
            .filter(unstable)
            .map(|(partition, _)| partition.clone())
            .collect();
        all.extend(stored);
        if partitions.is_empty() || Instant::now() > deadline {
            return Ok(all);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What can be read of partitions.
pub(crate) type Bounds = HashMap<TopicPartition, Result<Range<i64>, kuroshio_wire::Error>>;

/// What a read_committed consumer can read of partitions, once everything is visible that is there now.
pub(crate) async fn bounds(cluster: &Cluster, partitions: &BTreeSet<TopicPartition>) -> Bounds {
    let list = async |at, isolation| {
        let wanted = partitions.iter().map(|partition| (partition.clone(), at));
        let listed = cluster.list_offsets(wanted, isolation).await;
        let offset =
            |(partition, listed): (TopicPartition, Result<Option<kuroshio_wire::ListedOffset>, _>)| {
                (
                    partition,
                    listed.map(|listed| listed.map_or(0, |listed| listed.offset)),
                )
            };
        listed
            .into_iter()
            .map(offset)
            .collect::<HashMap<_, Result<i64, kuroshio_wire::Error>>>()
    };
    let (starts, written) = tokio::join!(
        list(OffsetAt::Earliest, Isolation::ReadCommitted),
        list(OffsetAt::Latest, Isolation::ReadUncommitted)
    );
    let visible = async {
        loop {
            let ends = list(OffsetAt::Latest, Isolation::ReadCommitted).await;
            let behind =
                |(partition, end): (&TopicPartition, &Result<i64, _>)| match (end, written.get(partition)) {
                    (Ok(end), Some(Ok(written))) => end < written,
                    _ => false,
                };
            if !ends.iter().any(behind) {
                return ends;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let ends = match tokio::time::timeout(VISIBLE, visible).await {
        Ok(ends) => ends,
        // An application's transaction is open for longer: what is in it is not there yet.
        Err(_) => list(OffsetAt::Latest, Isolation::ReadCommitted).await,
    };
    let range = |(partition, end): (TopicPartition, Result<i64, kuroshio_wire::Error>)| {
        let start = starts.get(&partition).cloned();
        let range = end.and_then(|end| {
            let start = start.unwrap_or(Ok(0))?;
            Ok(start..end.max(start))
        });
        (partition, range)
    };
    ends.into_iter().map(range).collect()
}
