//! Where consumers of one cluster go on in another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use kuroshio_core::search::Found;
use kuroshio_core::translate::{self, Place, Translation};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::Cluster;

use crate::legs::{Bounds, Leg, Legs, bounds};
use crate::log::Log;

/// Bytes read of each log for one partition, and more for each offset: a probe reads a whole batch, of up to a megabyte.
const BUDGET: usize = 64 << 20;
const EACH: usize = 8 << 20;
/// Partitions translated at the same time.
const AT_ONCE: usize = 8;

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

/// A translation that is known to be right for a consumer: once it stands at or behind `source`, it has read all that lies before
/// `target`. It says nothing of another consumer: the one may have been moved here, and have read elsewhere what lies behind
/// `source` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Offsets of the source behind the flow's position: at most so many records are not replicated yet.
    pub behind: u64,
}

/// Where a flow put its first record from a source offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// At this offset of the other log.
    At(i64),
    /// At this offset or behind it: it is not there yet, and others may write before it is.
    From(i64),
}

/// An offset to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// On the cluster that is translated from.
    pub offset: i64,
    /// What is known of its consumer already: it spares reading, and reading again.
    pub anchor: Option<Anchor>,
    /// Where the flow put what lies there. Only the flow itself knows.
    pub hint: Option<Hint>,
}

/// Offsets of one partition to be translated.
#[derive(Clone, Debug)]
pub struct Question {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The partition, from 0.
    pub partition: i32,
    /// The offsets.
    pub offsets: Vec<Asked>,
    /// Whether to count the records that will be read again, by reading them; else [`Translation::again`] is a bound.
    pub count: bool,
}

impl Question {
    fn here(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic.flow.topic), self.partition)
    }

    fn there(&self) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic.name), self.partition)
    }
}

/// What became of a question: its offsets, in their order.
pub type Answer = Result<Vec<Translated>, Error>;

/// Translates offsets of one cluster into those of another.
#[derive(Clone)]
pub struct Translator {
    from: Cluster,
    to: Cluster,
}

impl Translator {
    /// Between these clusters.
    #[must_use]
    pub fn new(from: Cluster, to: Cluster) -> Self {
        Self { from, to }
    }

    /// Answers questions, each with its own outcome, in their order.
    ///
    /// # Errors
    /// When a cluster cannot be asked where its flows stand.
    pub async fn translate(&self, questions: &[Question]) -> Result<Vec<Answer>, Error> {
        let (mut here, mut there) = (BTreeSet::new(), BTreeSet::new());
        let (mut into_from, mut into_to) = (BTreeMap::new(), BTreeMap::new());
        let note = |flows: &mut BTreeMap<_, BTreeSet<_>>, flow: &Flow, partition: &TopicPartition| {
            let partitions = flows.entry(Arc::clone(&flow.name)).or_default();
            partitions.insert(partition.clone());
        };
        for question in questions {
            let (topic, source, target) = (&question.topic, question.here(), question.there());
            note(&mut into_to, &topic.flow, &target);
            topic
                .into_to
                .iter()
                .for_each(|flow| note(&mut into_to, flow, &target));
            topic
                .into_from
                .iter()
                .for_each(|flow| note(&mut into_from, flow, &source));
            here.insert(source);
            there.insert(target);
        }
        // Positions before the logs: what is copied meanwhile lies behind them.
        let (to, from) = tokio::try_join!(Legs::ask(&self.to, &into_to), Legs::ask(&self.from, &into_from))?;
        let (read_from, read_to) = tokio::join!(bounds(&self.from, &here), bounds(&self.to, &there));
        let work: Vec<_> = questions
            .iter()
            .map(|question| self.work(question, (&from, &to), (&read_from, &read_to)))
            .collect();
        Ok(stream::iter(work).map(answer).buffered(AT_ONCE).collect().await)
    }

    fn work<'a>(
        &'a self,
        question: &'a Question,
        (from, to): (&Legs, &Legs),
        (read_from, read_to): (&Bounds, &Bounds),
    ) -> Result<Work<'a>, Error> {
        let (topic, here, there) = (&question.topic, question.here(), question.there());
        let flow = to.of(&topic.flow, &there)?;
        let flow = flow.ok_or_else(|| to.none(&topic.flow, &there))?;
        let known = |legs: &Legs, flows: &[Flow], partition| {
            let legs = flows.iter().map(|flow| legs.of(flow, partition));
            legs.filter_map(Result::transpose)
                .collect::<Result<Vec<Leg>, Error>>()
        };
        let range = |bounds: &Bounds, partition| bounds.get(partition).cloned().unwrap_or(Ok(0..0));
        let budget = BUDGET + EACH * question.offsets.len();
        Ok(Work {
            question,
            flow,
            others: known(to, &topic.into_to, &there)?,
            back: known(from, &topic.into_from, &here)?,
            read_from: range(read_from, &here)?,
            read_to: range(read_to, &there)?,
            from: Log::new(&self.from, here, budget),
            to: Log::new(&self.to, there, budget),
        })
    }
}

/// A question with all that was asked for it.
struct Work<'a> {
    question: &'a Question,
    flow: Leg,
    /// Flows into the cluster that is translated to, and into the one that is translated from.
    others: Vec<Leg>,
    back: Vec<Leg>,
    read_from: Range<i64>,
    read_to: Range<i64>,
    from: Log<'a>,
    to: Log<'a>,
}

/// Records that come over a leg, or (`None`) that were born on the cluster that is translated to; for each offset the first of them
/// that is not read, in the log where they come from, and whether that is sure.
type Part<'l> = (Option<&'l Leg>, Vec<(i64, bool)>);

async fn answer(work: Result<Work<'_>, Error>) -> Answer {
    work?.run().await
}

impl Work<'_> {
    async fn run(mut self) -> Answer {
        let (start, end) = (self.read_to.start, self.read_to.end);
        let floor = |asked: &Asked| {
            // One behind the end is of a log that was cut since.
            let trusted = |anchor: &Anchor| anchor.source <= asked.offset && anchor.target <= end;
            let anchor = asked.anchor.filter(trusted);
            anchor.map_or(start, |anchor| anchor.target.max(start))
        };
        let known: Vec<Range<i64>> = self
            .question
            .offsets
            .iter()
            .map(|asked| floor(asked)..end)
            .collect();
        let offsets: Vec<i64> = self.question.offsets.iter().map(|asked| asked.offset).collect();
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); offsets.len()];
        let wanted: Vec<_> = offsets.iter().map(|offset| (*offset, true)).collect();
        let hinted = |(asked, known): (&Asked, &Range<i64>)| match asked.hint {
            Some(Hint::At(hint)) if known.contains(&hint) || hint == end => hint..hint,
            Some(Hint::From(hint)) if known.contains(&hint) => hint..end,
            _ => known.clone(),
        };
        let hinted: Vec<_> = self.question.offsets.iter().zip(&known).map(hinted).collect();
        self.to.search(&self.flow, &wanted, &hinted, &mut found).await?;
        self.untagged(&offsets, &known, &mut found);
        let mut parts: Vec<Part<'_>> = vec![(Some(&self.flow), wanted)];
        for leg in &self.back {
            let unread = self.from.unread(leg, &offsets, &self.read_from).await?;
            let born_there = leg.source == *self.to.cluster.alias();
            let all_copied = born_there && leg.position >= end;
            let wanted: Vec<_> = unread
                .iter()
                .zip(&offsets)
                .map(|(unread, offset)| {
                    let in_order = leg.in_order().is_some_and(|from| from <= *offset);
                    translate::unread_from(*unread, leg.position, in_order || all_copied)
                })
                .collect();
            if born_there {
                self.to.first_born(&wanted, &known, &mut found).await?;
                parts.push((None, wanted));
            } else if let Some(forward) = self.others.iter().find(|other| other.source == leg.source) {
                self.to.search(forward, &wanted, &known, &mut found).await?;
                parts.push((Some(forward), wanted));
            }
        }
        let mut translated = Vec::with_capacity(offsets.len());
        for (number, ((found, offset), known)) in found.iter().zip(&offsets).zip(&known).enumerate() {
            let mut translation = translate::answer(found).unwrap_or(Translation {
                offset: known.start,
                exact: false,
                again: 0,
            });
            if self.question.count {
                translation.again = count(&mut self.to, translation.offset..end, &parts, number).await?;
            }
            translated.push(Translated {
                translation,
                missing: u64::try_from(offset - self.flow.position).unwrap_or(0),
                behind: u64::try_from(self.read_from.end - self.flow.position).unwrap_or(0),
            });
        }
        Ok(translated)
    }

    /// What another replicator copied before has no tags and looks as if it were born there: nothing of it may be skipped.
    fn untagged(&self, offsets: &[i64], known: &[Range<i64>], found: &mut [Vec<Found>]) {
        let Some(tagged_from) = self.flow.copies.tagged_from else {
            return;
        };
        for ((offset, known), found) in offsets.iter().zip(known).zip(found) {
            if *offset < tagged_from.0 {
                found.push(Found {
                    at: known.start,
                    exact: false,
                });
            }
        }
    }
}

/// Counts the records in `range` of `to` that the consumer of offset number `number` has read already.
async fn count(to: &mut Log<'_>, range: Range<i64>, parts: &[Part<'_>], number: usize) -> Result<u64, Error> {
    let partition = to.partition.clone();
    let here = Place {
        cluster: to.cluster.alias(),
        topic: &partition.topic,
        partition: partition.partition,
    };
    let mut known = Vec::with_capacity(parts.len());
    for (leg, unread) in parts {
        let of = leg.map_or(here, |leg| leg.of(partition.partition));
        known.extend(unread.get(number).map(|(unread, _)| (of, *unread)));
    }
    Ok(to.count_known(range, &known).await?)
}
