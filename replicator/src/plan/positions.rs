//! Where each partition would resume.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kuroshio_core::lag;
use kuroshio_core::start::{self, Committed, Configured, Facts, Loss, Metadata, OnDataLoss, Start, Tail};
use kuroshio_core::types::{Copies, Position, SourceOffset, TargetOffset, TopicPartition, group_of};
use kuroshio_wire::{ByPartition, EpochEnd, Error, GroupOffset, Isolation, ListedOffset, OffsetAt, Stored};
use serde::Serialize;

use super::Ends;
use crate::clerk::identity::{Epochs, judge_epochs};
use crate::config;
use crate::survey::{Lane, Survey};

/// The positions of a flow.
#[derive(Debug, Default, Serialize)]
pub struct Positions {
    /// Pumps that run now: positions move while there are any.
    pub pumps: usize,
    /// By topic and partition of the source.
    pub rows: Vec<PositionRow>,
}

/// How a partition resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resumes {
    /// At its position.
    Committed,
    /// It has none: at its start.
    Begins,
    /// Its position cannot be gone on with: somewhere else.
    Elsewhere,
    /// Not at all.
    Stands,
    /// It cannot be told.
    Unknown,
}

/// Where a partition resumes.
#[derive(Debug, Serialize)]
pub struct PositionRow {
    /// Topic on the source.
    pub topic: Arc<str>,
    /// Partition, from 0, on both sides.
    pub partition: i32,
    /// Topic on the target.
    pub target_topic: Arc<str>,
    /// How it resumes.
    pub resumes: Resumes,
    /// The next source offset to be read.
    pub offset: Option<i64>,
    /// Offsets of the source from there to its end.
    pub lag: Option<u64>,
    /// Why there.
    pub note: Option<String>,
}

/// What the rule is asked with, of all partitions.
struct Found {
    stored: ByPartition<Stored>,
    starts: ByPartition<Option<ListedOffset>>,
    ends: ByPartition<Option<ListedOffset>>,
    /// Where the target's logs end.
    placed: ByPartition<Option<ListedOffset>>,
    /// First offsets from a configured time on.
    timed: ByPartition<Option<ListedOffset>>,
    epochs: ByPartition<EpochEnd>,
    /// Of the positions, on the source.
    copies: BTreeMap<TopicPartition, GroupOffset>,
    /// The flow has no position at all.
    fresh: bool,
}

impl Positions {
    /// The partitions that go on, by their names on the source: their names on the target, and where they go on.
    pub(super) fn copied(&self) -> HashMap<TopicPartition, (TopicPartition, i64)> {
        let copied = |row: &PositionRow| {
            let name = |topic: &Arc<str>| TopicPartition::new(Arc::clone(topic), row.partition);
            Some((name(&row.topic), (name(&row.target_topic), row.offset?)))
        };
        self.rows.iter().filter_map(copied).collect()
    }
}

impl Ends<'_> {
    pub(super) async fn positions(
        &self,
        survey: &Survey,
        (source_id, copies): (&str, BTreeMap<TopicPartition, GroupOffset>),
        problems: &mut Vec<String>,
    ) -> Result<Positions, Error> {
        let lanes = survey.lanes(self.flow, source_id);
        let group: Arc<str> = group_of(&self.flow.name).into();
        let (described, stored) = tokio::try_join!(
            self.target.describe_group(&group),
            self.target.fetch_offsets(&group, None)
        )?;
        let mut found = self.ask(&lanes, stored, copies).await;
        let mut positions = Positions {
            pumps: described.members.len(),
            rows: Vec::with_capacity(lanes.len()),
        };
        for lane in &lanes {
            let mut row = PositionRow {
                topic: Arc::clone(&lane.source.topic),
                partition: lane.source.partition,
                target_topic: Arc::clone(&lane.target.topic),
                resumes: Resumes::Unknown,
                offset: None,
                lag: None,
                note: None,
            };
            match self.resume(lane, &mut found, &mut row).await {
                Ok(problem) => problems.extend(problem),
                Err(error) => {
                    problems.push(format!("where {} resumes is not known: {error}", lane.source));
                    row.note = Some(error.to_string());
                }
            }
            positions.rows.push(row);
        }
        // Of another cluster are all positions of the flow, or none.
        problems.dedup();
        Ok(positions)
    }

    async fn ask(
        &self,
        lanes: &[Lane],
        stored: ByPartition<Stored>,
        copies: BTreeMap<TopicPartition, GroupOffset>,
    ) -> Found {
        let offset_of = |lane: &Lane| match stored.get(&lane.target) {
            Some(Ok(Stored::Offset(offset))) => Some(offset.clone()),
            _ => None,
        };
        let list = |lanes: Vec<TopicPartition>, at| {
            let wanted = lanes.into_iter().map(move |partition| (partition, at));
            self.source.list_offsets(wanted, Isolation::ReadUncommitted)
        };
        let all = || lanes.iter().map(|lane| lane.source.clone()).collect::<Vec<_>>();
        let fresh = stored.is_empty();
        let timed = match self.flow.start {
            config::Start::Timestamp(ms) if fresh => Some(ms),
            _ => None,
        };
        let timed = async {
            match timed {
                Some(ms) => list(all(), OffsetAt::Timestamp(ms)).await,
                None => HashMap::new(),
            }
        };
        let epochs = lanes
            .iter()
            .filter_map(|lane| Some((lane.source.clone(), offset_of(lane)?.leader_epoch?)))
            .collect::<Vec<_>>();
        // Where there is no position nothing was copied; what is to be made is not asked for, which would be waited for.
        let targets = lanes
            .iter()
            .filter(|lane| lane.target_id.is_some() && offset_of(lane).is_some());
        let targets: Vec<_> = targets
            .map(|lane| (lane.target.clone(), OffsetAt::Latest))
            .collect();
        let (starts, ends, placed, timed, epochs) = tokio::join!(
            list(all(), OffsetAt::Earliest),
            list(all(), OffsetAt::Latest),
            self.target.list_offsets(targets, Isolation::ReadUncommitted),
            timed,
            self.source.offsets_for_leader_epochs(epochs)
        );
        Found {
            stored,
            starts,
            ends,
            placed,
            timed,
            epochs,
            copies,
            fresh,
        }
    }

    /// Fills the row; what is wrong is returned.
    async fn resume(
        &self,
        lane: &Lane,
        found: &mut Found,
        row: &mut PositionRow,
    ) -> Result<Option<String>, Error> {
        let stored = match found.stored.remove(&lane.target).transpose()? {
            Some(Stored::Offset(offset)) => Some(offset),
            Some(Stored::Unstable) => {
                row.note = Some("a transaction is about to change its position".to_owned());
                return Ok(None);
            }
            Some(Stored::Nothing) | None => None,
        };
        let offset = |listed: &mut ByPartition<Option<ListedOffset>>| {
            let listed = listed.remove(&lane.source).transpose()?.flatten();
            Ok::<_, Error>(listed.map(|listed| SourceOffset(listed.offset)))
        };
        let (start, end) = (offset(&mut found.starts)?, offset(&mut found.ends)?);
        let (Some(log_start), Some(log_end)) = (start, end) else {
            row.note = Some("the source does not say where its log begins and ends".to_owned());
            return Ok(None);
        };
        let position = stored.as_ref().map_or(0, |stored| stored.offset);
        let epoch = found.epochs.remove(&lane.source).transpose()?;
        let epoch_end = match judge_epochs(self.source, &lane.source, epoch, position, log_end).await? {
            Epochs::Fine => None,
            Epochs::EndAt(end) => Some(end),
            Epochs::Unstable => {
                row.note = Some("a transaction on the source is open around its position".to_owned());
                return Ok(None);
            }
        };
        let placed = found.placed.remove(&lane.target).transpose()?.flatten();
        let facts = Facts {
            committed: stored.as_ref().map(|stored| committed(stored, epoch_end)),
            target_end: TargetOffset(placed.map_or(i64::MAX, |listed| listed.offset)),
            cut: None,
            copy: found
                .copies
                .get(&lane.source)
                .map(|copy| (SourceOffset(copy.offset), &*copy.metadata)),
            target: lane.target_id.as_deref().unwrap_or(start::NO_TOPIC_ID),
            source: &lane.log,
            log_start,
            log_end,
            first: found.fresh,
            configured: match self.flow.start {
                config::Start::Earliest => Configured::Earliest,
                config::Start::Latest => Configured::Latest(None),
                config::Start::Timestamp(_) => Configured::Timestamp(offset(&mut found.timed)?),
            },
            tail: Tail::Unread,
            on_data_loss: match self.flow.on_data_loss {
                config::OnDataLoss::Continue => OnDataLoss::Continue,
                config::OnDataLoss::Halt => OnDataLoss::Halt,
            },
        };
        Ok(judge(&facts, self.flow.start, row))
    }
}

/// Fills the row with what the rule says; what is wrong is returned. `first`: the flow's setting `start`.
fn judge(facts: &Facts<'_>, first: config::Start, row: &mut PositionRow) -> Option<String> {
    let mut decided = start::decide(facts);
    let searched = decided == Start::AskTail { before: None };
    if searched {
        decided = start::decide(&Facts {
            tail: Tail::NoTag,
            ..facts.clone()
        });
    }
    if let Start::AskTail { before: Some(cut) } = decided {
        // Where it goes on the target's records say, which a plan does not read.
        let note =
            format!("the log of the target partition was cut at {cut}: what is missing is copied again");
        let problem = format!("{}-{}: {note}", row.topic, row.partition);
        (row.resumes, row.note) = (Resumes::Elsewhere, Some(note));
        return Some(problem);
    }
    let (resumes, offset, note) = match decided {
        Start::At(position) if searched => {
            let why = if facts.first {
                first.to_string()
            } else {
                "earliest".to_owned()
            };
            (Resumes::Begins, Some(position.offset), Some(why))
        }
        Start::At(position) => (Resumes::Committed, Some(position.offset), None),
        Start::Lost(loss) => (Resumes::Elsewhere, Some(loss.then), Some(loss_text(&loss))),
        Start::Halt(loss) => {
            let note = format!("{} (on_data_loss: halt)", loss_text(&loss));
            (Resumes::Stands, None, Some(note))
        }
        Start::WrongCluster { known, now } => {
            row.resumes = Resumes::Stands;
            return Some(format!(
                "the source is the cluster {now}, but positions are of the cluster {known}: the flow would stop; give the new \
                     cluster a new alias"
            ));
        }
        // Asked only with a tail that was read.
        Start::AskTail { .. } | Start::AskRecord(_) => (Resumes::Unknown, None, None),
    };
    row.resumes = resumes;
    row.offset = offset.map(|offset| offset.0);
    row.lag = offset.map(|offset| lag::records(facts.log_end, offset));
    let wrong = matches!(resumes, Resumes::Elsewhere | Resumes::Stands);
    let problem = note.as_ref().filter(|_| wrong);
    let problem = problem.map(|note| format!("{}-{}: {note}", row.topic, row.partition));
    row.note = note;
    problem
}

fn committed(stored: &GroupOffset, epoch_end: Option<SourceOffset>) -> Committed<'_> {
    Committed {
        position: Position {
            offset: SourceOffset(stored.offset),
            leader_epoch: stored.leader_epoch,
            copies: Metadata::parse(&stored.metadata).map_or(Copies::default(), |kept| kept.copies),
        },
        metadata: &stored.metadata,
        epoch_end,
    }
}

fn loss_text(loss: &Loss) -> String {
    use kuroshio_core::start::LossReason;
    let Loss { from, to, .. } = loss;
    match loss.reason {
        LossReason::Retention => format!("offsets {from} to {to} are gone by retention"),
        LossReason::Truncation => format!("the log was cut at {from}, before the position {to}"),
        LossReason::Recreated => format!("the topic was deleted and made anew since the position {from}"),
        LossReason::TargetRecreated => {
            format!(
                "the target topic was deleted and made anew: copied again from offset {}",
                loss.then
            )
        }
        LossReason::TargetTruncation => {
            "the log of the target partition was cut: what is missing is copied again".to_owned()
        }
        LossReason::Position => format!("the position {from} was not written by this flow"),
    }
}

#[cfg(test)]
mod tests;
