//! `kuroshio import --resume`: goes on where a MirrorMaker 2 stopped. Its positions become ours, what it copied is told apart from
//! what is copied from now on, and the groups that it kept are kept on.

mod adopt;
mod look;
mod noted;
mod seam;

use std::collections::BTreeSet;
use std::sync::Arc;

use kuroshio_core::start::{LogId, Metadata};
use kuroshio_core::types::{Copies, SourceOffset, TopicPartition, group_of};
use kuroshio_wire::{Cluster, Committer, Error, GroupOffset, Isolation, OffsetAt, Stored};

use crate::app;
use crate::config::{Config, Flow};
use crate::import::Mm2Flow;
use seam::Seam;

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
    /// Nobody knows how far MirrorMaker 2 came.
    #[error(
        "cluster {cluster} has no topic {topic}, in which Kafka Connect would have noted how far MirrorMaker 2 came: name the right \
         one with --offsets-topic"
    )]
    NoNotes {
        /// The topic looked for.
        topic: String,
        /// MirrorMaker 2's target.
        cluster: String,
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
struct Mirrored {
    source: TopicPartition,
    target: TopicPartition,
    /// The source log, and the target's.
    logs: (LogId, LogId),
    /// The source log's start and end.
    bounds: (i64, i64),
    /// The last source offset that MirrorMaker 2 noted, if there is such an offset.
    noted: Option<i64>,
    seam: Seam,
}

impl Mirrored {
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
    partitions: Vec<Mirrored>,
    /// What is to be known of it.
    said: Vec<String>,
}

/// Takes over from each of `mm2`, and says what was done, a line each. Nothing is written unless all can be taken over; what
/// keeps a second attempt from being made is written last.
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
            let taken = takeover.partitions.iter().filter(|one| one.next().is_some());
            taken.map(|one| (Arc::clone(takeover.source.alias()), one.source.clone()))
        })
        .collect();
    let mut said = Vec::new();
    for takeover in &takeovers {
        said.extend(takeover.said.iter().cloned());
        takeover.reverse(config, &own, &mut said).await?;
    }
    for (takeover, stopped) in takeovers.iter().zip(mm2) {
        takeover.groups(&stopped.checkpoints_topic, &mut said).await?;
    }
    for takeover in &takeovers {
        takeover.positions(&mut said).await?;
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
            partitions: Vec::new(),
            said: Vec::new(),
        };
        takeover.refuse(mm2).await?;
        takeover.find_partitions(mm2).await?;
        takeover.find_seams().await?;
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

    /// Commits where the flow goes on.
    async fn positions(&self, said: &mut Vec<String>) -> Result<(), TakeoverError> {
        let name = &self.flow.name;
        let mut offsets = Vec::new();
        for one in &self.partitions {
            let (source, target) = (&one.source, &one.target);
            match (one.next(), one.noted, one.seam) {
                (None, _, Seam::Empty) => continue,
                (None, ..) => {
                    said.push(format!(
                        "flow {name}: {source} begins with its first record: MirrorMaker 2 noted nothing of it, and the records that \
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
            offsets.extend(one.next().map(|next| (target.clone(), stored(&one.logs.0, next))));
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
        let same = |one: &&Mirrored| one.source == one.target && one.next().is_some();
        let copied = self.partitions.iter().filter(same).filter(|one| {
            let noted = (Arc::clone(self.target.alias()), one.target.clone());
            !own.contains(&noted) && back.is_none_or(|back| back.router.route(&one.target.topic).is_ok())
        });
        let copied: Vec<&Mirrored> = copied.collect();
        if copied.is_empty() {
            return Ok(());
        }
        let ends = copied.iter().map(|one| (one.target.clone(), OffsetAt::Latest));
        let mut ends = self.target.list_offsets(ends, Isolation::ReadUncommitted).await;
        let names: Vec<TopicPartition> = copied.iter().map(|one| one.source.clone()).collect();
        let mut known = self
            .source
            .fetch_offsets(&group_of(&reverse), Some(&names))
            .await?;
        let mut offsets = Vec::new();
        for one in copied {
            // It ran already: what it has not returned yet must not be passed over.
            let ran = !matches!(
                known.remove(&one.source).transpose()?,
                None | Some(Stored::Nothing)
            );
            let end = ends.remove(&one.target).transpose()?.flatten();
            if let (false, Some(end)) = (ran, end) {
                offsets.push((one.source.clone(), stored(&one.logs.1, end.offset)));
            }
        }
        commit(&self.source, &reverse, &offsets).await?;
        let whose = match back {
            Some(_) => "",
            None => ", if you add it,",
        };
        said.push(format!(
            "flow {reverse}{whose} begins where {} partitions on {} end now: behind what MirrorMaker 2 wrote",
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
        target: None,
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
