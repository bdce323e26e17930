//! Keeps the ACLs of target topics as they are on the source (INTERFACE `acls`). What the flow created is remembered in the group
//! `kuroshio.<flow>.acls` on the target: as metadata of offsets that nobody reads from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::acls::{Acl, PatternType, Plan, plan, recall, remember, wanted};
use kuroshio_core::flow::Pairing;
use kuroshio_core::routes::is_reserved;
use kuroshio_core::types::{TopicPartition, group_of};
use kuroshio_wire::{Cluster, Committer, Error, GroupOffset, KafkaCode, Stored};
use tokio::sync::watch;
use tracing::Instrument;

use crate::board::FlowBoard;
use crate::config;
use crate::heartbeats;
use crate::spans;

/// Bytes remembered with one topic: below the brokers' `offset.metadata.max.bytes`, by default 4096.
const LIMIT: usize = 4_000;
/// ACLs in one request.
const AT_ONCE: usize = 500;
/// What did not change is written again this often: offsets of a group without members are forgotten
/// (`offsets.retention.minutes`).
const RENEW: Duration = Duration::from_secs(12 * 3600);

/// The sync of ACLs of one flow.
pub struct AclSync {
    /// The flow; the flow back may have the authority.
    pub flow: config::Current,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// The partitions that are copied.
    pub catalog: watch::Receiver<Arc<[Pairing]>>,
    /// When all that is remembered was last written.
    pub renewed: Option<Instant>,
}

/// ACLs that the flow created, by the target topic with which they are remembered.
type Ours = BTreeMap<Arc<str>, BTreeSet<Acl>>;

impl AclSync {
    /// Syncs for ever, while this process owns the slot of heartbeats.
    pub async fn run(mut self) {
        let mut disabled = false;
        loop {
            let Some(acls) = self.flow.acls else {
                self.flow.changed().await;
                continue;
            };
            let routes = self.routes();
            if self.board.owns(heartbeats::slot()) == Some(true) && !routes.is_empty() {
                let span = spans::sync_acls(&self.flow.name);
                if let Err(error) = self.sync(acls, &routes).instrument(span.clone()).await {
                    spans::failed(&span, &error);
                    if error.code() != Some(KafkaCode::SecurityDisabled) {
                        self.board.error(format!("ACLs are not synced: {error}"));
                    } else if !std::mem::replace(&mut disabled, true) {
                        self.board.error(format!(
                            "no ACLs are copied: a cluster without authorizer has none ({error}); set acls.sync to false"
                        ));
                    }
                }
                self.flow.sleep(acls.interval).await;
            } else {
                self.flow.sleep(acls.interval.min(Duration::from_secs(1))).await;
            }
        }
    }

    /// The topics about which the source decides, with their names on the target.
    fn routes(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let catalog = self.catalog.borrow();
        let pairings = catalog.iter().filter(|pairing| {
            let (source, target) = (&pairing.source, &pairing.target_topic);
            source.partition == 0
                && !is_reserved(&source.topic)
                && self.flow.rules(self.flow.all(), &source.topic, target)
        });
        pairings
            .map(|pairing| {
                (
                    Arc::clone(&pairing.source.topic),
                    Arc::clone(&pairing.target_topic),
                )
            })
            .collect()
    }

    async fn sync(&mut self, acls: config::Acls, routes: &BTreeMap<Arc<str>, Arc<str>>) -> Result<(), Error> {
        let found = difference(&self.flow, acls, routes, &self.source, &self.target).await?;
        let (plan, mut ours) = (found.plan, found.ours);
        let before = ours.clone();
        for acls in ours.values_mut() {
            acls.retain(|acl| !plan.forget.contains(acl));
        }
        for acl in &plan.create {
            if let Some(topic) = home(acl, routes) {
                ours.entry(topic).or_default().insert(acl.clone());
            }
        }
        // First it is remembered, then done: what a process created that was killed in between is ours all the same.
        self.remember(&before, &ours).await?;
        let before = ours.clone();
        let create: Vec<Acl> = plan.create.into_iter().collect();
        for part in create.chunks(AT_ONCE) {
            let outcomes = self.target.create_acls(part).await?;
            let refused = part.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err());
            for (acl, _) in refused {
                for acls in ours.values_mut() {
                    acls.remove(acl);
                }
            }
            self.tell("created", part, outcomes);
        }
        let delete: Vec<Acl> = plan.delete.into_iter().collect();
        for part in delete.chunks(AT_ONCE) {
            let outcomes = self.target.delete_acls(part).await?;
            self.tell("deleted", part, outcomes);
        }
        self.remember(&before, &ours).await
    }

    fn tell(&self, done: &str, acls: &[Acl], outcomes: Vec<Result<(), Error>>) {
        for (acl, outcome) in acls.iter().zip(outcomes) {
            match outcome {
                Ok(()) => tracing::info!(flow = %self.flow.name, %acl, "ACL {done} on the target"),
                Err(error) => self.board.error(format!("ACL not {done} ({acl}): {error}")),
            }
        }
    }

    /// Writes what changed, and from time to time all of it.
    async fn remember(&mut self, before: &Ours, ours: &Ours) -> Result<(), Error> {
        let renew = self.renewed.is_none_or(|at| at.elapsed() > RENEW);
        let changed = ours
            .iter()
            .filter(|(topic, acls)| renew || before.get(*topic) != Some(*acls));
        let offsets: Vec<(TopicPartition, GroupOffset)> = changed
            .map(|(topic, acls)| {
                let offset = GroupOffset {
                    offset: 0,
                    leader_epoch: None,
                    metadata: remember(acls, LIMIT).into(),
                };
                (TopicPartition::new(Arc::clone(topic), 0), offset)
            })
            .collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let outcomes = self
            .target
            .commit_offsets(&group(&self.flow), Committer::Observer, &offsets)
            .await?;
        for (partition, outcome) in outcomes {
            // A topic that is gone took its ACLs' memory with it.
            outcome.or_else(|error| {
                let gone = error.code() == Some(KafkaCode::UnknownTopicOrPartition);
                tracing::debug!(%partition, %error, "ACLs not remembered");
                if gone { Ok(()) } else { Err(error) }
            })?;
        }
        self.renewed = Some(Instant::now());
        Ok(())
    }
}

/// What there is to do about ACLs.
pub(crate) struct Difference {
    pub(crate) plan: Plan,
    ours: Ours,
}

/// Compares the ACLs of both sides. `routes`: the topics about which the source decides, with their names on the target.
pub(crate) async fn difference(
    flow: &config::Flow,
    acls: config::Acls,
    routes: &BTreeMap<Arc<str>, Arc<str>>,
    source: &Cluster,
    target: &Cluster,
) -> Result<Difference, Error> {
    let (source, there, ours) =
        tokio::try_join!(source.topic_acls(), target.topic_acls(), created(flow, target))?;
    let wanted = wanted(&source, routes, flow.router.prefix().as_deref());
    let known = ours.values().flatten().cloned().collect();
    let plan = plan(&wanted, &there, &known, acls.delete);
    Ok(Difference { plan, ours })
}

/// What the flow created.
async fn created(flow: &config::Flow, target: &Cluster) -> Result<Ours, Error> {
    let stored = target.fetch_offsets(&group(flow), None).await?;
    let mut ours = Ours::new();
    for (partition, stored) in stored {
        if let Ok(Stored::Offset(offset)) = stored {
            ours.insert(partition.topic, recall(&offset.metadata));
        }
    }
    Ok(ours)
}

fn group(flow: &config::Flow) -> String {
    format!("{}.acls", group_of(&flow.name))
}

/// The target topic with which an ACL is remembered.
fn home(acl: &Acl, routes: &BTreeMap<Arc<str>, Arc<str>>) -> Option<Arc<str>> {
    let is_home = |target: &&Arc<str>| match acl.pattern {
        PatternType::Literal => **target == acl.name,
        PatternType::Prefixed => target.starts_with(&*acl.name),
    };
    routes.values().find(is_home).cloned()
}
