//! Which users' groups would follow.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kuroshio_core::groups::{Facts, Left, Plan, plan};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{ByPartition, Error, GroupOffset, Stored};
use serde::Serialize;

use super::{Ends, Positions};
use crate::groups::{as_it_is, living, unselected};

/// The groups on a flow's source.
#[derive(Debug, Default, Serialize)]
pub struct Groups {
    /// `groups.sync`.
    pub sync: bool,
    /// By name.
    pub rows: Vec<GroupRow>,
}

/// What becomes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupAction {
    /// Its offsets follow on the target.
    Follow,
    /// It is selected, but its offsets are left as they are.
    Leave,
    /// It is not selected.
    Ignore,
}

/// A group on the source.
#[derive(Debug, Serialize)]
pub struct GroupRow {
    /// Its id.
    pub group: Arc<str>,
    /// What becomes of it.
    pub action: GroupAction,
    /// Partitions that are copied and in which it has an offset.
    pub partitions: usize,
    /// Of these, those whose offset on the target would be written now.
    pub behind: usize,
    /// Why it is left or ignored.
    pub note: Option<String>,
}

/// Offsets of a group, by partition of the source, with that of the target and where the flow stands.
type Offsets = BTreeMap<TopicPartition, GroupOffset>;

impl Ends<'_> {
    pub(super) async fn groups(&self, positions: &Positions) -> Result<Groups, Error> {
        let mut groups = Groups {
            sync: self.flow.groups.sync,
            rows: Vec::new(),
        };
        if !groups.sync {
            return Ok(groups);
        }
        let (listed, there) = tokio::try_join!(self.source.list_groups(), self.target.list_groups())?;
        let there: HashMap<Arc<str>, bool> = there
            .iter()
            .map(|group| (Arc::clone(&group.group), living(group)))
            .collect();
        let mut selected = BTreeMap::new();
        for listing in listed {
            match unselected(self.flow, &listing) {
                None => {
                    selected.insert(Arc::clone(&listing.group), living(&listing));
                }
                Some(why) => groups
                    .rows
                    .push(row(listing.group, GroupAction::Ignore, Some(why))),
            }
        }
        let names: Vec<Arc<str>> = selected.keys().cloned().collect();
        let mut stored = self.source.fetch_offsets_of(&names).await;
        let held: Vec<Arc<str>> = names
            .into_iter()
            .filter(|group| there.contains_key(group))
            .collect();
        let mut held = self.target.fetch_offsets_of(&held).await;
        let copied = positions.copied();
        for (group, living_on_source) in selected {
            let offsets = stored.remove(&group).transpose();
            let held = held.remove(&group).transpose();
            let planned = match (offsets, held) {
                (Ok(offsets), Ok(held)) => {
                    let living = (living_on_source, there.get(&group) == Some(&true));
                    let offsets = of_copied(offsets.unwrap_or_default(), &copied);
                    self.group(group, living, &offsets, &held.unwrap_or_default(), &copied)
                }
                (Err(error), _) | (_, Err(error)) => row(group, GroupAction::Leave, Some(error.to_string())),
            };
            groups.rows.push(planned);
        }
        groups.rows.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(groups)
    }

    fn group(
        &self,
        group: Arc<str>,
        (living_on_source, living_on_target): (bool, bool),
        offsets: &Offsets,
        held: &ByPartition<Stored>,
        copied: &HashMap<TopicPartition, (TopicPartition, i64)>,
    ) -> GroupRow {
        let (mut left, mut behind): (Option<Left>, usize) = (None, 0);
        for (partition, offset) in offsets {
            let Some((target, position)) = copied.get(partition) else {
                continue;
            };
            let decided = plan(&Facts {
                flow: &self.flow.name,
                source: Some(as_it_is(offset)),
                target: match held.get(target) {
                    Some(Ok(Stored::Offset(target))) => Some(as_it_is(target)),
                    _ => None,
                },
                living_on_source,
                living_on_target,
                position: *position,
            });
            match decided {
                Plan::Leave(why) => left = left.max(Some(why)),
                Plan::Translate(_) => behind += 1,
                Plan::Current => {}
            }
        }
        let (action, note) = match left {
            _ if offsets.is_empty() => (
                GroupAction::Leave,
                Some("it has no offsets in what is copied".to_owned()),
            ),
            Some(why) => (GroupAction::Leave, Some(why.to_string())),
            None => (GroupAction::Follow, None),
        };
        GroupRow {
            partitions: offsets.len(),
            behind,
            ..row(group, action, note)
        }
    }
}

fn row(group: Arc<str>, action: GroupAction, note: Option<String>) -> GroupRow {
    GroupRow {
        group,
        action,
        partitions: 0,
        behind: 0,
        note,
    }
}

fn of_copied(
    stored: ByPartition<Stored>,
    copied: &HashMap<TopicPartition, (TopicPartition, i64)>,
) -> Offsets {
    let offset = |(partition, stored)| match stored {
        Ok(Stored::Offset(offset)) if copied.contains_key(&partition) => Some((partition, offset)),
        _ => None,
    };
    stored.into_iter().filter_map(offset).collect()
}
