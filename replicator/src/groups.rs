//! Keeps the offsets of users' groups on the target where they are on the source (DESIGN D4): only what is ours, only groups
//! without members there, never so that a record would be skipped.

mod writing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use kuroshio_client::{Anchor, Hint};
use kuroshio_core::flow::{Pairing, Phase};
use kuroshio_core::groups::{Facts, Left, Mark, Offset, Plan, plan};
use kuroshio_core::types::{SourceOffset, TopicPartition};
use kuroshio_wire::{ByPartition, Cluster, Error, GroupListing, GroupOffset, Stored};
use tracing::Instrument;

use crate::board::{FlowBoard, GroupView, seated};
use crate::config;
use crate::lanes::Whereabouts;
use crate::metrics::{FlowMetrics, Gauge};
use crate::spans;
use crate::translation::Due;

/// Looks at the source alone until the target is looked at again, whether or not anything moved: somebody may have taken an
/// offset away.
const LOOKS: u32 = 12;

/// Syncs the groups of one flow, for the partitions that this process owns.
pub struct GroupSync {
    /// The flow; records of a topic may come over several.
    pub flow: config::Current,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// The flow's metrics.
    pub metrics: FlowMetrics,
    /// What is known of each group.
    pub known: BTreeMap<Arc<str>, Known>,
    /// What went wrong this time: how often, and the first of it.
    pub failed: Option<(usize, String)>,
}

/// A group.
pub struct Known {
    /// When its offsets on the target were last known right.
    right: Instant,
    /// For each source partition the source offset that the target's was made from.
    synced: HashMap<TopicPartition, i64>,
    left: Option<Left>,
    /// Of what is left alone nobody says when it is right.
    age: Option<Gauge>,
}

/// A partition that this process copies.
pub(crate) struct Owned {
    pub(crate) pairing: Pairing,
    pub(crate) position: i64,
    /// Where its records went; only in `exactly_once`, where nothing else of the flow can lie there.
    whereabouts: Option<Whereabouts>,
}

impl Owned {
    /// Where the flow put what lies at `wanted`, if it remembers.
    pub(crate) fn hint(&self, wanted: SourceOffset) -> Option<Hint> {
        self.whereabouts.as_ref()?.find(wanted)
    }
}

impl GroupSync {
    /// Syncs for ever.
    pub async fn run(mut self) {
        let mut looks = 0_u32;
        loop {
            self.flow.sleep(self.flow.groups.interval).await;
            let owned = owned(&self.flow, &self.board);
            if !self.flow.groups.sync {
                self.forget(&BTreeMap::new());
            } else if owned.is_empty() {
                // Without a seat they only get older.
                if seated(&self.board.views()) {
                    self.forget(&BTreeMap::new());
                }
            } else {
                let span = spans::sync_groups(&self.flow.name, owned.len());
                let synced = self.sync(&owned, looks.is_multiple_of(LOOKS));
                match synced.instrument(span.clone()).await {
                    Ok(()) => looks = looks.wrapping_add(1),
                    Err(error) => self.fail(error.to_string()),
                }
                span.record("groups", self.known.len());
                if let Some((_, first)) = &self.failed {
                    spans::failed(&span, first);
                }
            }
            if let Some((count, first)) = self.failed.take() {
                self.board
                    .error(format!("groups are not synced, {count} times; first: {first}"));
            }
            let mut views = Vec::with_capacity(self.known.len());
            for (group, known) in &mut self.known {
                if known.left.is_none() {
                    let age = known
                        .age
                        .get_or_insert_with(|| self.metrics.group_sync_age(group));
                    age.set(known.right.elapsed().as_secs_f64());
                } else {
                    known.age = None;
                }
                views.push(GroupView {
                    group: Arc::clone(group),
                    right: known.right,
                    left: known.left,
                });
            }
            self.board.groups(views);
        }
    }

    async fn sync(
        &mut self,
        owned: &HashMap<TopicPartition, Owned>,
        everything: bool,
    ) -> Result<(), kuroshio_client::Error> {
        let listed = self.source.list_groups().await?;
        let listed: BTreeMap<_, _> = listed
            .into_iter()
            .filter(|group| self.selects(group))
            .map(|group| (Arc::clone(&group.group), living(&group)))
            .collect();
        let names: Vec<_> = listed.keys().cloned().collect();
        let stored = self.source.fetch_offsets_of(&names).await;
        self.forget(&listed);
        let now = Instant::now();
        let mut moved = BTreeMap::new();
        for (group, outcome) in stored {
            let offsets = match outcome {
                Ok(offsets) => relevant(offsets, owned),
                Err(error) => {
                    self.fail(format!("group {group}: {error}"));
                    continue;
                }
            };
            if offsets.is_empty() {
                // Another process has its partitions.
                self.known.remove(&group);
                continue;
            }
            let known = self.known.entry(Arc::clone(&group)).or_insert_with(|| Known {
                right: now,
                synced: HashMap::new(),
                left: None,
                age: None,
            });
            let same = |(partition, offset): (&TopicPartition, &GroupOffset)| {
                let wanted = offset.offset.min(owned[partition].position);
                known.synced.get(partition) == Some(&wanted)
            };
            if everything || known.left.is_some() || !offsets.iter().all(same) {
                moved.insert(group, offsets);
            } else {
                known.right = now;
            }
        }
        if moved.is_empty() {
            return Ok(());
        }
        self.follow(owned, &listed, moved).await
    }

    fn selects(&self, group: &GroupListing) -> bool {
        follows(&self.flow, group)
    }

    fn forget(&mut self, listed: &BTreeMap<Arc<str>, bool>) {
        self.known.retain(|group, _| listed.contains_key(group));
    }

    /// Brings what moved to the target.
    async fn follow(
        &mut self,
        owned: &HashMap<TopicPartition, Owned>,
        listed: &BTreeMap<Arc<str>, bool>,
        moved: BTreeMap<Arc<str>, BTreeMap<TopicPartition, GroupOffset>>,
    ) -> Result<(), kuroshio_client::Error> {
        let there = self.target.list_groups().await?;
        let there: BTreeMap<_, _> = there
            .into_iter()
            .filter(|group| moved.contains_key(&group.group))
            .map(|group| (Arc::clone(&group.group), living(&group)))
            .collect();
        let names: Vec<_> = there.keys().cloned().collect();
        let mut held = self.target.fetch_offsets_of(&names).await;
        let mut due = Vec::new();
        for (group, offsets) in moved {
            let living = (
                listed.get(&group) == Some(&true),
                there.get(&group) == Some(&true),
            );
            match self.plan(owned, &group, living, &offsets, held.remove(&group)) {
                Ok(wanted) => due.extend(wanted),
                Err(error) => self.fail(format!("group {group}: {error}")),
            }
        }
        let translated = self.translate(due).await?;
        self.write(translated).await;
        Ok(())
    }

    /// What of a group is to be translated.
    fn plan(
        &mut self,
        owned: &HashMap<TopicPartition, Owned>,
        group: &Arc<str>,
        (living_on_source, living_on_target): (bool, bool),
        offsets: &BTreeMap<TopicPartition, GroupOffset>,
        held: Option<Result<ByPartition<Stored>, Error>>,
    ) -> Result<Vec<Due>, Error> {
        let held = held.transpose()?.unwrap_or_default();
        let Some(known) = self.known.get_mut(group) else {
            return Ok(Vec::new());
        };
        let (mut due, mut left) = (Vec::new(), None);
        for (partition, offset) in offsets {
            let own = &owned[partition];
            let target = match held.get(&own.pairing.target()) {
                Some(Ok(Stored::Offset(target))) => Some(target),
                Some(Ok(Stored::Nothing)) | None => None,
                // Somebody is about to write there.
                Some(Ok(Stored::Unstable) | Err(_)) => continue,
            };
            let decided = plan(&Facts {
                flow: &self.flow.name,
                source: Some(as_it_is(offset)),
                target: target.map(as_it_is),
                living_on_source,
                living_on_target,
                position: own.position,
            });
            match decided {
                Plan::Leave(why) => left = left.max(Some(why)),
                Plan::Current => {
                    known
                        .synced
                        .insert(partition.clone(), offset.offset.min(own.position));
                }
                Plan::Translate(wanted) => {
                    let anchor = target.and_then(|target| {
                        Some(Anchor {
                            source: Mark::parse(&target.metadata)?.source,
                            target: target.offset,
                        })
                    });
                    due.push(Due {
                        group: Arc::clone(group),
                        source: partition.clone(),
                        target: own.pairing.target(),
                        wanted,
                        anchor,
                        hint: own.hint(SourceOffset(wanted)),
                    });
                }
            }
        }
        if left != known.left
            && let Some(why) = left
        {
            tracing::info!(flow = %self.flow.name, %group, reason = %why, "offsets of the group are left as they are");
        }
        known.left = left;
        if due.is_empty() && left.is_none() {
            known.right = Instant::now();
        }
        Ok(due)
    }

    fn fail(&mut self, what: String) {
        let (count, _) = self.failed.get_or_insert((0, what));
        *count += 1;
    }
}

/// Whether a group has members. What is older than Kafka 2.6 does not say: then the coordinator does, which refuses to write.
pub(crate) fn living(group: &GroupListing) -> bool {
    !matches!(group.state.as_deref(), None | Some("Empty" | "Dead"))
}

pub(crate) fn as_it_is(stored: &GroupOffset) -> Offset<'_> {
    Offset {
        offset: stored.offset,
        metadata: &stored.metadata,
    }
}

/// The partitions that this process copies, by their names on the source.
pub(crate) fn owned(flow: &config::Flow, board: &FlowBoard) -> HashMap<TopicPartition, Owned> {
    let views = board.views();
    let lanes = views.iter().flat_map(|view| view.lanes.iter());
    let running = lanes.filter(|lane| matches!(lane.phase, Phase::Running | Phase::Paused));
    let sure = flow.delivery == config::Delivery::ExactlyOnce;
    running
        .filter_map(|lane| {
            let owned = Owned {
                pairing: lane.pairing.clone(),
                position: lane.committed.as_ref()?.offset.0,
                whereabouts: sure.then(|| lane.whereabouts.clone()),
            };
            Some((lane.pairing.source.clone(), owned))
        })
        .collect()
}

/// Whether a group is one whose offsets the flow looks after.
pub(crate) fn follows(flow: &config::Flow, group: &GroupListing) -> bool {
    unselected(flow, group).is_none()
}

/// Why the flow does not look after the offsets of a group; `None`: it does. Only of consumers, since others commit offsets of other
/// kinds, or none.
pub(crate) fn unselected(flow: &config::Flow, group: &GroupListing) -> Option<String> {
    if group.kind.as_deref() == Some("Share") {
        return Some("it is a share group".to_owned());
    }
    match &*group.protocol_type {
        "consumer" | "" => flow.groups.unselected(&group.group),
        other => Some(format!("it is not of consumers, but of type {other}")),
    }
}

/// Offsets of the partitions that this process owns.
pub(crate) fn relevant(
    offsets: ByPartition<Stored>,
    owned: &HashMap<TopicPartition, Owned>,
) -> BTreeMap<TopicPartition, GroupOffset> {
    offsets
        .into_iter()
        .filter_map(|(partition, stored)| match stored {
            Ok(Stored::Offset(offset)) if owned.contains_key(&partition) => Some((partition, offset)),
            _ => None,
        })
        .collect()
}
