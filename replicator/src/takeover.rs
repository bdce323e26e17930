//! `kuroshio import --resume`: goes on where a MirrorMaker 2 stopped. Its positions become ours, what it copied is told apart from
//! what is copied from now on, and the groups that it kept are kept on.

mod adopt;
mod noted;
mod seam;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use kuroshio_core::start::{LogId, Metadata, NO_TOPIC_ID};
use kuroshio_core::types::{Copies, SourceOffset, TopicPartition, group_of};
use kuroshio_wire::{Cluster, Committer, Error, GroupOffset, Isolation, OffsetAt, Stored, TopicId, Topics};

use crate::app;
use crate::config::{Config, Flow};
use crate::import::Mm2Flow;
use seam::Seam;

/// Partitions looked at at the same time.
const AT_ONCE: usize = 8;

/// Why nothing is taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// A cluster did not answer, or refused.
    #[error(transparent)]
    Cluster(#[from] Error),
    /// The configuration does not lead where MirrorMaker 2 did.
    #[error("no flow leads from {from} to {to}")]
    NoFlow {
        /// MirrorMaker 2's source.
        from: String,
        /// MirrorMaker 2's target.
        to: String,
    },
    /// MirrorMaker 2 would go on copying beside us.
    #[error(
        "MirrorMaker 2 still runs: its group {group} on cluster {cluster} has {members} members; stop it, all of it, and try again"
    )]
    Running {
        /// The group of its workers.
        group: String,
        /// Its target.
        cluster: String,
        /// How many there are.
        members: usize,
    },
    /// The flow ran before.
    #[error(
        "flow {flow} has run already: group {group} on cluster {cluster} has positions. To take over from MirrorMaker 2 anew, \
         delete that group first; what was copied by the flow then comes twice"
    )]
    Begun {
        /// The flow.
        flow: Arc<str>,
        /// The group with its positions.
        group: String,
        /// The flow's target.
        cluster: Arc<str>,
    },
}

/// Where a partition goes on.
struct Seat {
    source: TopicPartition,
    target: TopicPartition,
    /// The source log, and the target's.
    logs: (LogId, LogId),
    /// The last source offset that MirrorMaker 2 noted.
    noted: Option<i64>,
    seam: Seam,
}

impl Seat {
    /// The next source offset, if anything was copied.
    fn next(&self) -> Option<i64> {
        match self.seam {
            Seam::Before(next) => Some(next),
            Seam::Empty | Seam::Unknown => self.noted.map(|noted| noted + 1),
        }
    }
}

/// A flow that takes over.
struct Takeover<'a> {
    flow: &'a Flow,
    source: Cluster,
    target: Cluster,
    seats: Vec<Seat>,
}

/// Takes over from each of `mm2`, and says what was done, a line each. Nothing is written unless all can be taken over.
///
/// # Errors
/// [`TakeoverError`]
pub async fn run(config: &Config, mm2: &[Mm2Flow]) -> Result<Vec<String>, TakeoverError> {
    let mut takeovers = Vec::new();
    for stopped in mm2 {
        takeovers.push(Takeover::look(config, stopped).await?);
    }
    let own: BTreeSet<(Arc<str>, TopicPartition)> = takeovers
        .iter()
        .flat_map(|takeover| {
            let taken = takeover.seats.iter().filter(|seat| seat.next().is_some());
            taken.map(|seat| (Arc::clone(takeover.source.alias()), seat.source.clone()))
        })
        .collect();
    let mut said = Vec::new();
    for (takeover, stopped) in takeovers.iter().zip(mm2) {
        takeover.groups(&stopped.checkpoints_topic, &mut said).await?;
        takeover.positions(&mut said).await?;
        takeover.reverse(config, &own, &mut said).await?;
    }
    Ok(said)
}

impl<'a> Takeover<'a> {
    async fn look(config: &'a Config, mm2: &Mm2Flow) -> Result<Self, TakeoverError> {
        let ends = (&mm2.source, &mm2.target);
        let no_flow = || TakeoverError::NoFlow {
            from: mm2.source.clone(),
            to: mm2.target.clone(),
        };
        let flow = config
            .flows
            .iter()
            .find(|flow| (&*flow.source, &*flow.target) == (ends.0, ends.1));
        let flow = flow.ok_or_else(no_flow)?;
        let cluster = |alias| app::cluster(config, alias, false).ok_or_else(no_flow);
        let mut takeover = Self {
            flow,
            source: cluster(ends.0)?,
            target: cluster(ends.1)?,
            seats: Vec::new(),
        };
        takeover.refuse(mm2).await?;
        takeover.seats = takeover.seats(mm2).await?;
        Ok(takeover)
    }

    /// Two must not copy the same, now or before.
    async fn refuse(&self, mm2: &Mm2Flow) -> Result<(), TakeoverError> {
        if let Some(workers) = &mm2.workers {
            let described = self.target.describe_group(&workers.as_str().into()).await?;
            if !described.members.is_empty() {
                return Err(TakeoverError::Running {
                    group: workers.clone(),
                    cluster: mm2.target.clone(),
                    members: described.members.len(),
                });
            }
        }
        let group = group_of(&self.flow.name);
        let stored = self.target.fetch_offsets(&group, None).await?;
        if stored
            .values()
            .any(|stored| !matches!(stored, Ok(Stored::Nothing)))
        {
            return Err(TakeoverError::Begun {
                flow: Arc::clone(&self.flow.name),
                group,
                cluster: Arc::clone(self.target.alias()),
            });
        }
        Ok(())
    }

    /// The partitions that are on both sides, and where each goes on.
    async fn seats(&self, mm2: &Mm2Flow) -> Result<Vec<Seat>, TakeoverError> {
        let (here, there, noted) = tokio::try_join!(
            self.source.metadata(Topics::All),
            self.target.metadata(Topics::All),
            noted::offsets(&self.target, &mm2.offsets_topic, &mm2.source),
        )?;
        let log = |cluster: &Option<Arc<str>>, topic: Option<TopicId>| LogId {
            cluster: cluster.as_deref().unwrap_or("-").to_owned(),
            topic: topic.map_or_else(|| NO_TOPIC_ID.to_owned(), |id| id.to_string()),
        };
        let copies: BTreeMap<_, _> = there
            .topics
            .iter()
            .map(|topic| (Arc::clone(&topic.name), topic))
            .collect();
        let mut seats = Vec::new();
        for topic in here.topics.iter().filter(|topic| topic.error.is_none()) {
            let Some(copy) = self
                .flow
                .router
                .route(&topic.name)
                .ok()
                .and_then(|name| copies.get(&name))
            else {
                continue;
            };
            let count = topic.partition_count().min(copy.partition_count());
            seats.extend((0..count).map(|number| {
                let source = TopicPartition::new(Arc::clone(&topic.name), number);
                Seat {
                    target: TopicPartition::new(Arc::clone(&copy.name), number),
                    logs: (log(&here.cluster_id, topic.id), log(&there.cluster_id, copy.id)),
                    noted: noted.get(&source).copied(),
                    seam: Seam::Unknown,
                    source,
                }
            }));
        }
        let looks = seats.into_iter().map(|mut seat| async move {
            seat.seam = seam::find(
                (&self.source, &seat.source),
                (&self.target, &seat.target),
                seat.noted,
            )
            .await?;
            Ok::<_, Error>(seat)
        });
        let seats = stream::iter(looks).buffered(AT_ONCE).try_collect().await;
        seats.map_err(TakeoverError::from)
    }

    /// Commits where the flow goes on.
    async fn positions(&self, said: &mut Vec<String>) -> Result<(), TakeoverError> {
        let name = &self.flow.name;
        let mut offsets = Vec::new();
        for seat in &self.seats {
            let (source, target) = (&seat.source, &seat.target);
            match (seat.next(), seat.noted, seat.seam) {
                (None, _, Seam::Empty) => continue,
                (None, ..) => {
                    said.push(format!(
                        "flow {name}: {source} begins as `start` says: MirrorMaker 2 noted nothing of it, and the records that \
                         {target} ends with are not found there"
                    ));
                    continue;
                }
                (Some(next), noted, Seam::Before(_)) if noted.is_none_or(|noted| noted + 1 != next) => {
                    let noted = noted.map_or("nothing".to_owned(), |noted| format!("{noted}"));
                    said.push(format!(
                        "flow {name}: {source}: MirrorMaker 2 had noted {noted}, but {target} ends with the record before {next}"
                    ));
                }
                (Some(next), _, Seam::Unknown) => said.push(format!(
                    "flow {name}: {source} goes on at {next} as MirrorMaker 2 noted, but the records that {target} ends with are \
                     not found there: if it wrote any after that note, they come twice"
                )),
                _ => {}
            }
            offsets.extend(
                seat.next()
                    .map(|next| (target.clone(), stored(&seat.logs.0, next))),
            );
        }
        commit(&self.target, &self.flow.name, &offsets).await?;
        said.push(format!(
            "flow {name}: {} partitions go on where MirrorMaker 2 stopped",
            offsets.len()
        ));
        Ok(())
    }

    /// Under the same names the way back begins behind what MirrorMaker 2 wrote: without tags it looks as if it were born there.
    async fn reverse(
        &self,
        config: &Config,
        own: &BTreeSet<(Arc<str>, TopicPartition)>,
        said: &mut Vec<String>,
    ) -> Result<(), TakeoverError> {
        let back = config
            .flows
            .iter()
            .find(|back| (&back.source, &back.target) == (&self.flow.target, &self.flow.source));
        let reverse = back.map_or_else(
            || format!("{}-{}", self.flow.target, self.flow.source).into(),
            |back| Arc::clone(&back.name),
        );
        let same = |seat: &&Seat| seat.source == seat.target && seat.next().is_some();
        let copied = self.seats.iter().filter(same).filter(|seat| {
            let noted = (Arc::clone(self.target.alias()), seat.target.clone());
            !own.contains(&noted) && back.is_none_or(|back| back.router.route(&seat.target.topic).is_ok())
        });
        let copied: Vec<&Seat> = copied.collect();
        if copied.is_empty() {
            return Ok(());
        }
        let ends = copied.iter().map(|seat| (seat.target.clone(), OffsetAt::Latest));
        let mut ends = self.target.list_offsets(ends, Isolation::ReadUncommitted).await;
        let mut offsets = Vec::new();
        for seat in copied {
            if let Some(end) = ends.remove(&seat.target).transpose()?.flatten() {
                offsets.push((seat.source.clone(), stored(&seat.logs.1, end.offset)));
            }
        }
        commit(&self.source, &reverse, &offsets).await?;
        let whose = match back {
            Some(_) => "",
            None => ", if you add it,",
        };
        said.push(format!(
            "flow {reverse}{whose} begins behind what MirrorMaker 2 wrote to {} partitions on {}",
            offsets.len(),
            self.target.alias()
        ));
        Ok(())
    }
}

/// A position behind what was copied without tags.
fn stored(log: &LogId, next: i64) -> GroupOffset {
    let metadata = Metadata {
        log: log.clone(),
        copies: Copies {
            tagged_from: Some(SourceOffset(next)),
            ..Copies::default()
        },
    };
    GroupOffset {
        offset: next,
        leader_epoch: None,
        metadata: metadata.to_string().into(),
    }
}

async fn commit(
    target: &Cluster,
    flow: &str,
    offsets: &[(TopicPartition, GroupOffset)],
) -> Result<(), TakeoverError> {
    let written = target
        .commit_offsets(&group_of(flow), Committer::Observer, offsets)
        .await?;
    written.into_values().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}
