//! Where a consumer of one cluster goes on in another.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::search::{Ask, Found, NEAR, Search, Stretch};
use kuroshio_core::start::Metadata;
use kuroshio_core::translate::{self, Place, Translation, Unread};
use kuroshio_core::types::{Copies, TopicPartition};
use kuroshio_wire::{Cluster, Isolation, OffsetAt, Stored, TransactionListing};

use crate::log::{Log, PROBE, STEP};

/// Bytes read of each log for one partition, all offsets together.
const BUDGET: usize = 64 << 20;
/// Offsets looked at in front of one, for what lies before it.
const BEFORE: i64 = 200;
/// Until what was committed before we asked can be read.
const VISIBLE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// Why offsets cannot be translated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A cluster did not answer, or refused.
    #[error(transparent)]
    Cluster(#[from] kuroshio_wire::Error),
    /// The flow has not begun with this partition.
    #[error(
        "flow {flow} has no position for {partition} on cluster {cluster}: nothing of it is replicated yet, or the flow has \
         another name"
    )]
    NoPosition {
        /// Name of the flow.
        flow: Arc<str>,
        /// The partition on the flow's target.
        partition: TopicPartition,
        /// The flow's target.
        cluster: Arc<str>,
    },
    /// A transaction of the flow holds its position.
    #[error("flow {flow}: its position for {partition} is in an open transaction: try again")]
    Unstable {
        /// Name of the flow.
        flow: Arc<str>,
        /// The partition on the flow's target.
        partition: TopicPartition,
    },
}

/// A flow that brings records of a topic to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its name.
    pub name: Arc<str>,
    /// Alias of its source.
    pub source: Arc<str>,
    /// The topic's name there.
    pub topic: Arc<str>,
}

/// A topic on both clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The flow from the one cluster to the other.
    pub flow: Flow,
    /// The topic's name on the other.
    pub name: Arc<str>,
    /// All flows that bring records of this topic to the cluster that is translated from, the one back included: without it
    /// records that were born on the other cluster do not count.
    pub into_from: Vec<Flow>,
    /// Flows from further clusters that bring records of it to the cluster that is translated to.
    pub into_to: Vec<Flow>,
}

/// A translation that is known to be right: nothing unread of what is at or behind `source` lies before `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Offset in the log that is translated from.
    pub source: i64,
    /// Offset in the other.
    pub target: i64,
}

/// What became of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// Where to go on.
    pub translation: Translation,
    /// Records between the flow's position and the offset: the consumer is ahead of replication, and will see them again or, if the
    /// source is lost, never.
    pub missing: u64,
}

/// Translates offsets of one cluster into those of another.
pub struct Translator {
    from: Cluster,
    to: Cluster,
}

/// A flow's state at its target, for one partition.
struct Leg {
    source: Arc<str>,
    topic: Arc<str>,
    position: i64,
    copies: Copies,
    producers: HashSet<i64>,
}

impl Leg {
    fn of(&self, partition: i32) -> Place<'_> {
        Place {
            cluster: &self.source,
            topic: &self.topic,
            partition,
        }
    }

    fn in_order(&self) -> Option<i64> {
        self.copies.in_order.map(|offset| offset.0)
    }
}

impl Translator {
    /// Between these clusters.
    #[must_use]
    pub fn new(from: Cluster, to: Cluster) -> Self {
        Self { from, to }
    }

    /// Translates offsets of one partition, in their order. `anchors` spare reading, as many as are known.
    ///
    /// # Errors
    /// When a cluster cannot be asked, or the flow has no position for the partition.
    pub async fn translate(
        &self,
        topic: &Topic,
        partition: i32,
        offsets: &[i64],
        anchors: &[Anchor],
    ) -> Result<Vec<Translated>, Error> {
        let there = TopicPartition::new(Arc::clone(&topic.name), partition);
        let here = TopicPartition::new(Arc::clone(&topic.flow.topic), partition);
        // Once for all flows of a cluster.
        let transactions = self.to.list_transactions().await?;
        let flow = leg(&self.to, &topic.flow, &there, &transactions)
            .await?
            .ok_or_else(|| Error::NoPosition {
                flow: Arc::clone(&topic.flow.name),
                partition: there.clone(),
                cluster: Arc::clone(self.to.alias()),
            })?;
        let mut others = Vec::new();
        for other in &topic.into_to {
            others.extend(leg(&self.to, other, &there, &transactions).await?);
        }
        let mut back = Vec::new();
        if !topic.into_from.is_empty() {
            let transactions = self.from.list_transactions().await?;
            for other in &topic.into_from {
                back.extend(leg(&self.from, other, &here, &transactions).await?);
            }
        }
        let (read_from, read_to) =
            tokio::try_join!(self.bounds(&self.from, &here), self.bounds(&self.to, &there))?;
        let mut from = Log {
            cluster: &self.from,
            partition: here,
            left: BUDGET,
        };
        let mut to = Log {
            cluster: &self.to,
            partition: there,
            left: BUDGET,
        };
        let floor = |offset: i64| {
            let known = anchors.iter().filter(|anchor| anchor.source <= offset);
            known.map(|anchor| anchor.target).max().unwrap_or(read_to.start)
        };
        let known: Vec<Range<i64>> = offsets.iter().map(|offset| floor(*offset)..read_to.end).collect();
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); offsets.len()];
        let wanted: Vec<_> = offsets.iter().map(|offset| (*offset, true)).collect();
        to.search(&flow, &wanted, &known, &mut found).await?;
        for leg in &back {
            let unread = from.unread(leg, offsets, &read_from).await?;
            let wanted: Vec<_> = unread
                .iter()
                .map(|unread| unread.unwrap_or((leg.position, true)))
                .collect();
            if leg.source == *self.to.alias() {
                to.first_born(&wanted, &known, &mut found).await?;
            } else if let Some(forward) = others.iter().find(|other| other.source == leg.source) {
                to.search(forward, &wanted, &known, &mut found).await?;
            }
        }
        let translated = found
            .iter()
            .zip(offsets)
            .zip(&known)
            .map(|((found, offset), known)| Translated {
                translation: translate::answer(found).unwrap_or(Translation {
                    offset: known.start,
                    exact: false,
                    again: 0,
                }),
                missing: u64::try_from(offset - flow.position).unwrap_or(0),
            });
        Ok(translated.collect())
    }

    /// What a read_committed consumer can read of a partition, once everything is visible that is there now.
    async fn bounds(&self, cluster: &Cluster, partition: &TopicPartition) -> Result<Range<i64>, Error> {
        let list = async |at, isolation| {
            let listed = cluster.list_offset(partition, at, isolation).await?;
            Ok::<_, Error>(listed.map_or(0, |listed| listed.offset))
        };
        let start = list(OffsetAt::Earliest, Isolation::ReadCommitted).await?;
        let written = list(OffsetAt::Latest, Isolation::ReadUncommitted).await?;
        let visible = async {
            loop {
                let end = list(OffsetAt::Latest, Isolation::ReadCommitted).await?;
                if end >= written {
                    return Ok::<_, Error>(end);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let end = match tokio::time::timeout(VISIBLE, visible).await {
            Ok(end) => end?,
            // An application's transaction is open for longer: what is in it is not there yet.
            Err(_) => list(OffsetAt::Latest, Isolation::ReadCommitted).await?,
        };
        Ok(start..end.max(start))
    }
}

/// A flow's position for a partition of its target; `None`: it has none.
async fn leg(
    target: &Cluster,
    flow: &Flow,
    partition: &TopicPartition,
    transactions: &[TransactionListing],
) -> Result<Option<Leg>, Error> {
    let group = format!("kuroshio.{}", flow.name);
    let mut stored = target
        .fetch_offsets(&group, Some(std::slice::from_ref(partition)))
        .await?;
    let offset = match stored.remove(partition) {
        Some(Ok(Stored::Offset(offset))) => offset,
        Some(Ok(Stored::Nothing)) | None => return Ok(None),
        Some(Ok(Stored::Unstable)) => {
            return Err(Error::Unstable {
                flow: Arc::clone(&flow.name),
                partition: partition.clone(),
            });
        }
        Some(Err(error)) => return Err(error.into()),
    };
    let prefix = format!("{group}.");
    let own = transactions
        .iter()
        .filter(|listed| listed.transactional_id.starts_with(&prefix));
    Ok(Some(Leg {
        source: Arc::clone(&flow.source),
        topic: Arc::clone(&flow.topic),
        position: offset.offset,
        copies: Metadata::parse(&offset.metadata).map_or(Copies::default(), |metadata| metadata.copies),
        producers: own.map(|listed| listed.producer_id).collect(),
    }))
}

impl Log<'_> {
    /// For each offset the first record in `known` that comes from the leg's source at or behind it. The offsets may themselves be
    /// less than what is right, which the answer then is too.
    async fn search(
        &mut self,
        leg: &Leg,
        wanted: &[(i64, bool)],
        known: &[Range<i64>],
        found: &mut [Vec<Found>],
    ) -> Result<(), Error> {
        let mut searches: Vec<Search> = wanted
            .iter()
            .zip(known)
            .map(|((wanted, _), known)| Search::new(*wanted, known.clone(), known.start, leg.in_order()))
            .collect();
        // What is read for one is read for all.
        let near = NEAR.saturating_mul(i64::try_from(searches.len()).unwrap_or(i64::MAX));
        let mut stuck = vec![false; searches.len()];
        while let Some((number, ask)) = searches
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| !stuck[*number])
            .find_map(|(number, search)| Some((number, search.ask(near)?)))
        {
            let (at, bytes) = match ask {
                Ask::Probe(at) => (at, PROBE),
                Ask::Scan(at) => (at, STEP),
            };
            let Some(chunk) = self.read(at, bytes).await? else {
                stuck[number] = true;
                continue;
            };
            let of = leg.of(self.partition.partition);
            let stretch = chunk.stretch(self.here(), of, &leg.producers);
            for search in &mut searches {
                search.read(&stretch);
            }
        }
        for ((search, (_, sure)), found) in searches.iter().zip(wanted).zip(found) {
            let Found { at, exact } = search.found();
            found.push(Found {
                at,
                exact: exact && *sure,
            });
        }
        Ok(())
    }

    /// For each offset the first record at or behind it that was born here; those behind what was found already do not matter.
    async fn first_born(
        &mut self,
        wanted: &[(i64, bool)],
        known: &[Range<i64>],
        found: &mut [Vec<Found>],
    ) -> Result<(), Error> {
        for (((wanted, sure), known), found) in wanted.iter().zip(known).zip(found) {
            let end = found.iter().map(|part| part.at).min().unwrap_or(known.end);
            let mut search = Search::new(*wanted, known.start..end, (*wanted).max(known.start), None);
            while let Some(Ask::Scan(at) | Ask::Probe(at)) = search.ask(NEAR) {
                let Some(chunk) = self.read(at, STEP).await? else {
                    break;
                };
                let here = self.here();
                search.read(&chunk.stretch(here, here, &HashSet::new()));
            }
            let part = search.found();
            found.push(Found {
                exact: part.exact && *sure,
                ..part
            });
        }
        Ok(())
    }

    /// For each offset the smallest one in the leg's source among the records from it on, and whether it is sure; `None`: there
    /// are none.
    async fn unread(
        &mut self,
        leg: &Leg,
        offsets: &[i64],
        log: &Range<i64>,
    ) -> Result<Vec<Option<(i64, bool)>>, Error> {
        let end = leg.copies.end.map_or(log.end, |end| end.0.min(log.end));
        let mut stretches = Vec::new();
        let mut all = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let from = (*offset).max(log.start);
            let mut unread = Unread::new(from..end, leg.in_order());
            let before = (from - BEFORE).max(log.start);
            if from < end
                && before < from
                && let Some(stretch) = self.stretch(leg, before, PROBE, &mut stretches).await?
            {
                unread.before(stretch);
                unread.read(stretch);
            }
            let mut known = true;
            // Copies are near, or far away.
            let mut bytes = PROBE;
            while let Some(at) = unread.ask() {
                match self.stretch(leg, at, bytes, &mut stretches).await? {
                    Some(stretch) => unread.read(stretch),
                    None => {
                        known = false;
                        break;
                    }
                }
                bytes = (bytes * 4).min(STEP);
            }
            all.push(if known {
                unread.smallest()
            } else {
                Some((0, false))
            });
        }
        Ok(all)
    }

    /// What comes from the leg's source, from `at` on, read unless it was before.
    async fn stretch<'a>(
        &mut self,
        leg: &Leg,
        at: i64,
        bytes: i32,
        known: &'a mut Vec<Stretch>,
    ) -> Result<Option<&'a Stretch>, Error> {
        if let Some(number) = known.iter().position(|stretch| stretch.offsets.contains(&at)) {
            return Ok(known.get(number));
        }
        let Some(chunk) = self.read(at, bytes).await? else {
            return Ok(None);
        };
        let of = leg.of(self.partition.partition);
        known.push(chunk.stretch(self.here(), of, &leg.producers));
        Ok(known.last())
    }
}
