//! `kuroshio translate` and `kuroshio failover`: where groups go on in another cluster, and moving them there.

mod ends;
mod lag;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indicatif::ProgressBar;
use kuroshio_client::Anchor;
use kuroshio_core::failover::{Facts, Objection, Step, step};
use kuroshio_core::groups::{Mark, Offset};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{ByPartition, Committer, GroupOffset, Stored};

use crate::config::{self, Config, Mistakes};
use crate::translation::{Between, Due};
use ends::Ends;
pub use report::{GroupReport, Report, Row};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Alias of the cluster that the groups come from.
    pub from: String,
    /// Alias of the cluster that they go to.
    pub to: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Only this topic of the source.
    pub topic: Option<String>,
    /// Whether to count what will be read again, by reading it.
    pub count: bool,
    /// What to do, beyond looking; `None`: look.
    pub moving: Option<Moving>,
}

/// How groups are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Change nothing, say what would be done.
    pub dry_run: bool,
    /// Accept lag, an unreachable source, moves back and what cannot be translated.
    pub force: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// The configuration has nothing that leads there.
    #[error(transparent)]
    Asked(#[from] Mistakes),
    /// A cluster did not answer, or refused.
    #[error(transparent)]
    Cluster(#[from] kuroshio_wire::Error),
    /// Offsets cannot be translated.
    #[error(transparent)]
    Translation(#[from] kuroshio_client::Error),
}

/// Translates the groups' offsets, and moves the groups if that is asked for and nothing stands against it.
///
/// # Errors
/// [`FailoverError`]; nothing is written then, but for groups that were moved before one whose commit failed.
pub async fn run(config: &Config, request: &Request) -> Result<Report, FailoverError> {
    let ends = Ends::of(config, &request.from, &request.to).await?;
    let mut report = Report::new(request, &ends);
    for name in &request.groups {
        report.groups.push(ends.gather(name, request).await?);
    }
    if let Some(moving) = request.moving {
        ends.object(&mut report).await?;
        if !moving.force && !moving.dry_run && ends.lost.is_none() && !report.is_hopeless() {
            lag::wait(&ends, &mut report).await?;
        }
    }
    if ends.lost.is_none() {
        ends.translate(&mut report, request.count).await?;
    }
    let Some(moving) = request.moving else {
        return Ok(report);
    };
    report.judge();
    report.refused = report
        .groups
        .iter()
        .any(|group| group.stands_against(moving.force));
    if !moving.dry_run && !report.refused {
        for group in &mut report.groups {
            ends.write(group).await?;
        }
        report.moved = true;
    }
    Ok(report)
}

impl Ends<'_> {
    /// The group's offsets as they are.
    async fn gather(&self, name: &str, request: &Request) -> Result<GroupReport, FailoverError> {
        let mut group = GroupReport::new(name);
        let held = self.to.fetch_offsets(name, None).await?;
        let stored = match self.lost {
            None => Some(self.from.fetch_offsets(name, None).await?),
            Some(_) => None,
        };
        let wanted = |topic: &str| request.topic.as_deref().is_none_or(|only| only == topic);
        group.partitions = match stored {
            Some(stored) => stored
                .into_iter()
                .filter(|(partition, _)| wanted(&partition.topic))
                .filter_map(|(partition, stored)| self.row(&partition, stored, &held))
                .collect(),
            None => held
                .into_iter()
                .filter_map(|(partition, held)| self.synced_row(&partition, held))
                .filter(|row| wanted(&row.topic))
                .collect(),
        };
        group
            .partitions
            .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(group)
    }

    /// A partition of a group on the source.
    fn row(
        &self,
        partition: &TopicPartition,
        stored: Result<Stored, kuroshio_wire::Error>,
        held: &ByPartition<Stored>,
    ) -> Option<Row> {
        let mut row = Row::new(&partition.topic, partition.partition);
        let route = self
            .flows
            .iter()
            .map(|flow| (*flow, flow.router.route(&partition.topic)));
        match stored {
            Ok(Stored::Offset(offset)) => row.source_offset = Some(offset.offset),
            Ok(Stored::Nothing) => return None,
            Ok(Stored::Unstable) => row.fails("a transaction of the group holds the offset: try again"),
            Err(error) => row.fails(&error.to_string()),
        }
        let mut why = None;
        for (flow, routed) in route {
            match routed {
                Ok(target) => {
                    row.routed(flow, &target);
                    break;
                }
                Err(unselected) => why = why.or(Some(unselected)),
            }
        }
        if let (None, Some(why)) = (&row.flow, why) {
            row.note = Some(format!("not replicated: {why}"));
        }
        if let Some(there) = row.target()
            && let Some(Ok(Stored::Offset(offset))) = held.get(&there)
        {
            row.held = Some(offset.clone());
        }
        Some(row)
    }

    /// A partition of a group on the target, where the source cannot be asked.
    fn synced_row(
        &self,
        partition: &TopicPartition,
        held: Result<Stored, kuroshio_wire::Error>,
    ) -> Option<Row> {
        let source = |flow: &&config::Flow| flow.router.source_of(&partition.topic);
        let (flow, topic) = self.flows.iter().find_map(|flow| Some((*flow, source(flow)?)))?;
        let mut row = Row::new(&topic, partition.partition);
        row.routed(flow, &partition.topic);
        match held {
            Ok(Stored::Offset(offset)) => {
                let mark = Mark::parse(&offset.metadata).filter(|mark| mark.flow == &*flow.name);
                row.source_offset = mark.map(|mark| mark.source);
                row.note = Some(if mark.is_some() {
                    "as it was synced last".to_owned()
                } else {
                    format!("committed on {} itself", self.to.alias())
                });
                row.target_offset = Some(offset.offset);
                row.held = Some(offset);
            }
            Ok(Stored::Nothing) => return None,
            Ok(Stored::Unstable) => row.fails("a transaction holds the offset: try again"),
            Err(error) => row.fails(&error.to_string()),
        }
        Some(row)
    }

    /// Who lives on either side, and whether the source is there.
    async fn object(&self, report: &mut Report) -> Result<(), FailoverError> {
        let names: Vec<Arc<str>> = report
            .groups
            .iter()
            .map(|group| Arc::clone(&group.group))
            .collect();
        let sides = [&self.from, &self.to];
        for cluster in sides.into_iter().skip(usize::from(self.lost.is_some())) {
            let described = cluster.describe_groups(&names).await;
            for group in &mut report.groups {
                let members = match described.get(&group.group) {
                    Some(Ok(described)) => described.members.len(),
                    Some(Err(error)) => return Err(error.clone().into()),
                    None => 0,
                };
                if members > 0 {
                    let cluster = Arc::clone(cluster.alias());
                    group.objections.push(Objection::Living { cluster, members });
                }
            }
        }
        if let Some(why) = &self.lost {
            for group in &mut report.groups {
                group.objections.push(Objection::Unreachable {
                    cluster: Arc::clone(self.from.alias()),
                    why: why.clone(),
                });
            }
        }
        Ok(())
    }

    async fn translate(&self, report: &mut Report, count: bool) -> Result<(), FailoverError> {
        let offsets: usize = report.groups.iter().map(|group| group.partitions.len()).sum();
        let bar = progress("translating", offsets as u64);
        for flow in &self.flows {
            let of_flow = |row: &&Row| row.flow.as_ref() == Some(&flow.name) && row.failed.is_none();
            let mut due = Vec::new();
            for group in &report.groups {
                due.extend(group.partitions.iter().filter(of_flow).filter_map(|row| {
                    Some(Due {
                        group: Arc::clone(&group.group),
                        source: row.source(),
                        target: row.target()?,
                        wanted: row.source_offset?,
                        anchor: row.anchor(),
                        hint: None,
                    })
                }));
            }
            let between = Between {
                flow,
                flows: self.all,
                source: &self.from,
                target: &self.to,
            };
            let done = bar.position();
            let translated = between
                .translate(due, count, |now| bar.set_position(done + now as u64))
                .await?;
            for (due, outcome) in translated {
                if let Some(row) = report.row_mut(&due.group, &due.source) {
                    row.translated(&outcome);
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Writes what is due of a group on the target, then notes on the source that the flow back may follow.
    async fn write(&self, group: &mut GroupReport) -> Result<(), FailoverError> {
        if self.lost.is_some() {
            // What was synced is there.
            for row in &mut group.partitions {
                row.moved = row.target_offset.is_some();
            }
            return Ok(());
        }
        let (mut there, mut here) = (Vec::new(), Vec::new());
        for row in &mut group.partitions {
            let (Some(flow), Some(target), Some(wanted), Some(translated), None) = (
                row.flow.clone(),
                row.target(),
                row.source_offset,
                row.target_offset,
                &row.failed,
            ) else {
                continue;
            };
            let mark = |flow: &str, source| Mark { flow, source }.to_string().into();
            if row.step() != Some(Step::Keep) {
                there.push((target.clone(), offset(translated, mark(&flow, wanted))));
            }
            if let Some(back) = self.back(&row.source(), &target) {
                here.push((row.source(), offset(wanted, mark(&back.name, translated))));
                row.marked = true;
            }
            row.moved = true;
        }
        for (cluster, offsets) in [(&self.to, there), (&self.from, here)] {
            if offsets.is_empty() {
                continue;
            }
            let written = cluster
                .commit_offsets(&group.group, Committer::Observer, &offsets)
                .await?;
            written.into_values().collect::<Result<Vec<()>, _>>()?;
        }
        Ok(())
    }
}

impl Row {
    /// What moving does with it; `None`: it is not moved.
    fn step(&self) -> Option<Step> {
        Some(step(&Facts {
            flow: self.flow.as_deref()?,
            source: self.source_offset?,
            translated: self.target_offset?,
            held: self.held.as_ref().map(|held| Offset {
                offset: held.offset,
                metadata: &held.metadata,
            }),
        }))
    }

    /// What an earlier translation says.
    fn anchor(&self) -> Option<Anchor> {
        let held = self.held.as_ref()?;
        let mark = Mark::parse(&held.metadata).filter(|mark| Some(mark.flow) == self.flow.as_deref())?;
        Some(Anchor {
            source: mark.source,
            target: held.offset,
        })
    }
}

impl Report {
    /// What stands against moving, as far as the translation shows.
    fn judge(&mut self) {
        let reachable = self.source_reachable;
        for group in &mut self.groups {
            if group.partitions.is_empty() {
                group.objections.push(Objection::Nothing);
            }
            for row in group.partitions.iter().filter(|row| row.flow.is_some()) {
                if let Some(why) = row.failed.clone() {
                    let partition = row.source();
                    group.objections.push(Objection::Unknown { partition, why });
                }
                if let (true, Some(Step::Back(held)), Some(translated), Some(partition)) =
                    (reachable, row.step(), row.target_offset, row.target())
                {
                    group.objections.push(Objection::Back {
                        partition,
                        held,
                        translated,
                    });
                }
            }
        }
    }
}

fn offset(offset: i64, metadata: Arc<str>) -> GroupOffset {
    GroupOffset {
        offset,
        leader_epoch: None,
        metadata,
    }
}

/// A bar on a terminal's stderr, and nothing elsewhere.
pub(crate) fn progress(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_message(what);
    bar
}

/// The partitions that groups have offsets for, by the flow that copies them.
fn partitions(report: &Report) -> BTreeMap<Arc<str>, BTreeSet<(TopicPartition, TopicPartition)>> {
    let mut by_flow: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for row in report.groups.iter().flat_map(|group| &group.partitions) {
        if let (Some(flow), Some(target)) = (&row.flow, row.target()) {
            by_flow
                .entry(Arc::clone(flow))
                .or_default()
                .insert((row.source(), target));
        }
    }
    by_flow
}
