//! What a flow must be allowed to do on its clusters, and no more. The order of the list is that in which a run comes to it. Which request needs
//! what: Kafka's `KafkaApis`, `ControllerApis`; how IAM calls it: "Semantics of IAM authorization policy actions and resources" of Amazon MSK.

mod grants;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::acls::Operation;
use crate::routes::is_reserved;
use crate::types::group_of;

pub use grants::{Grant, acls, grants};

/// An end of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where records are copied from.
    Source,
    /// Where they are copied to.
    Target,
}

/// What is protected (Kafka's `ResourceType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The cluster as a whole, which has no name.
    Cluster,
    /// A topic.
    Topic,
    /// A group.
    Group,
    /// A transactional id.
    TransactionalId,
}

/// Operations that the flow must be allowed on some things of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// On which cluster.
    pub side: Side,
    /// On what.
    pub kind: Kind,
    /// Their names; one, empty, for [`Kind::Cluster`]. With `*` at the end: all that begin so.
    pub names: BTreeSet<Arc<str>>,
    /// What.
    pub operations: Vec<Operation>,
    /// What for.
    pub why: &'static str,
}

/// One operation on one thing, as people write it: `WRITE on topic orders`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission<'a> {
    /// On what.
    pub kind: Kind,
    /// Its name; with `*` at the end: all that begin so.
    pub name: &'a str,
    /// What.
    pub operation: Operation,
}

/// A topic beside those that are copied, which the flow makes where it is missing and writes itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Own {
    /// On which cluster.
    pub side: Side,
    /// Its name.
    pub topic: Arc<str>,
    /// Whether it must be made.
    pub missing: bool,
}

/// All that the list depends on. Where topics or groups are not known, `*` stands for all of them, `a*` for all that begin so.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The flow.
    pub flow: Arc<str>,
    /// Source name → target name of the topics that are copied.
    pub routes: BTreeMap<Arc<str>, Arc<str>>,
    /// Of these, by their names on the target: those that must be made.
    pub missing: BTreeSet<Arc<str>>,
    /// Of these, by their names on the target: those about which the source decides.
    pub ruled: BTreeSet<Arc<str>>,
    /// Topics that the flow writes itself.
    pub own: Vec<Own>,
    /// Users' groups that the flow looks after.
    pub groups: BTreeSet<Arc<str>>,
    /// Other flows whose target is the source, and such whose target is the target.
    pub others: [BTreeSet<Arc<str>>; 2],
    /// `delivery: exactly_once`.
    pub exactly_once: bool,
    /// `partitions: sync`.
    pub partitions: bool,
    /// `configs.sync`.
    pub configs: bool,
    /// `compression: source`.
    pub compression: bool,
    /// `acls.sync`.
    pub acls: bool,
    /// `groups.sync`.
    pub sync: bool,
    /// `mm2_compat.checkpoints`.
    pub checkpoints: bool,
    /// `positions_on_source`.
    pub positions_on_source: bool,
    /// `on_topic_delete: delete`.
    pub deletes: bool,
    /// `http.admin`.
    pub admin: bool,
}

/// What the flow needs.
#[must_use]
pub fn needs(facts: &Facts) -> Vec<Need> {
    let mut list = List(Vec::new());
    on_source(facts, &mut list);
    on_target(facts, &mut list);
    list.0
}

struct List(Vec<Need>);

impl List {
    fn add(
        &mut self,
        (side, kind): (Side, Kind),
        names: impl IntoIterator<Item = Arc<str>>,
        operations: &[Operation],
        why: &'static str,
    ) {
        let names: BTreeSet<Arc<str>> = names.into_iter().collect();
        if names.is_empty() {
            return;
        }
        self.0.push(Need {
            side,
            kind,
            names,
            operations: operations.to_vec(),
            why,
        });
    }

    fn commands(&mut self, own: &str) {
        use Operation as O;
        let notes = [format!("{own}.control").into()];
        let why = "commands are noted in it for all pods";
        self.add((Side::Target, Kind::Group), notes, &[O::DESCRIBE, O::READ], why);
    }

    /// What is the same on both sides.
    fn both(&mut self, side: Side, facts: &Facts) {
        if facts.acls && side == Side::Source {
            let cluster = (side, Kind::Cluster);
            self.add(cluster, ["".into()], &[Operation::DESCRIBE], "ACLs are read");
        }
        for own in facts.own.iter().filter(|own| own.side == side) {
            let write = [Operation::DESCRIBE, Operation::WRITE];
            let topic = [Arc::clone(&own.topic)];
            self.add(
                (side, Kind::Topic),
                topic.clone(),
                &write,
                "Kuroshio writes it itself",
            );
            if own.missing {
                self.add(
                    (side, Kind::Topic),
                    topic,
                    &[Operation::CREATE],
                    "Kuroshio makes it",
                );
            }
        }
        if facts.sync || facts.checkpoints {
            // Where else records come from, and which of them a flow wrote.
            let others = &facts.others[usize::from(side == Side::Target)];
            let groups = others.iter().map(|flow| group_of(flow).into());
            let why = "offsets of groups are translated by the positions of other flows";
            self.add((side, Kind::Group), groups, &[Operation::DESCRIBE], why);
            let ids = others.iter().map(|flow| transactional_ids(flow));
            self.add((side, Kind::TransactionalId), ids, &[Operation::DESCRIBE], why);
        }
    }
}

fn on_source(facts: &Facts, list: &mut List) {
    use Operation as O;
    let topic = (Side::Source, Kind::Topic);
    let topics = facts.routes.keys().cloned();
    list.add(topic, topics, &[O::DESCRIBE, O::READ], "records are read");
    let described = facts.routes.iter().filter(|(_, target)| {
        facts.compression || facts.missing.contains(*target) || facts.configs && facts.ruled.contains(*target)
    });
    let topics = described.map(|(source, _)| Arc::clone(source));
    list.add(
        topic,
        topics,
        &[O::DESCRIBE_CONFIGS],
        "configs and compression follow",
    );
    let group = [group_of(&facts.flow).into()];
    let group_kind = (Side::Source, Kind::Group);
    if facts.positions_on_source {
        list.add(
            group_kind,
            group,
            &[O::DESCRIBE, O::READ],
            "positions are copied there",
        );
    } else {
        list.add(
            group_kind,
            group,
            &[O::DESCRIBE],
            "it says whether the flow ran before",
        );
    }
    let groups = facts.groups.iter().cloned();
    list.add(group_kind, groups, &[O::DESCRIBE], "their offsets are read");
    list.both(Side::Source, facts);
}

fn topics_on_target(facts: &Facts, list: &mut List) {
    use Operation as O;
    let topic = (Side::Target, Kind::Topic);
    list.add(
        topic,
        facts.missing.iter().cloned(),
        &[O::CREATE],
        "they are made",
    );
    let topics = || facts.routes.values().cloned();
    let why = "records are written, with their positions, and read to translate offsets";
    list.add(topic, topics(), &[O::DESCRIBE, O::READ, O::WRITE], why);
    list.add(
        topic,
        topics(),
        &[O::DESCRIBE_CONFIGS],
        "batches are no larger than the target takes them",
    );
    if facts.partitions {
        // Kuroshio's own have one.
        let grown = topics().filter(|target| !is_reserved(target));
        list.add(topic, grown, &[O::ALTER], "partitions are added");
    }
    if facts.configs {
        list.add(
            topic,
            facts.ruled.iter().cloned(),
            &[O::ALTER_CONFIGS],
            "configs follow",
        );
    }
    if facts.deletes {
        let why = "topics that were deleted on the source are deleted";
        list.add(topic, facts.ruled.iter().cloned(), &[O::DELETE], why);
    }
}

fn on_target(facts: &Facts, list: &mut List) {
    use Operation as O;
    topics_on_target(facts, list);
    let (group, cluster) = ((Side::Target, Kind::Group), (Side::Target, Kind::Cluster));
    let own = group_of(&facts.flow);
    let members = [own.as_str().into()];
    list.add(
        group,
        members,
        &[O::DESCRIBE, O::READ],
        "pumps are its members, positions its offsets",
    );
    let ids = (Side::Target, Kind::TransactionalId);
    let why = if facts.exactly_once {
        "records and positions are written in transactions"
    } else {
        "what was refused is tried in transactions that are aborted"
    };
    let names = [transactional_ids(&facts.flow)];
    list.add(ids, names, &[O::DESCRIBE, O::WRITE], why);
    if !facts.exactly_once {
        list.add(
            cluster,
            ["".into()],
            &[O::IDEMPOTENT_WRITE],
            "records are written once and in order",
        );
    }
    let groups = facts.groups.iter().cloned();
    if facts.sync {
        list.add(group, groups, &[O::DESCRIBE, O::READ], "their offsets follow");
    } else {
        list.add(group, groups, &[O::DESCRIBE], "their lag is exported");
    }
    if facts.acls {
        list.add(cluster, ["".into()], &[O::DESCRIBE, O::ALTER], "ACLs follow");
        let remembered = [format!("{own}.acls").into()];
        list.add(
            group,
            remembered,
            &[O::DESCRIBE, O::READ],
            "it remembers the ACLs that the flow created",
        );
    }
    if facts.admin {
        list.commands(&own);
    }
    list.both(Side::Target, facts);
}

/// The transactional ids of a flow's pumps.
fn transactional_ids(flow: &str) -> Arc<str> {
    format!("{}.*", group_of(flow)).into()
}

impl Need {
    /// One operation on each thing at a time.
    pub fn permissions(&self, operation: Operation) -> impl Iterator<Item = Permission<'_>> {
        self.names.iter().map(move |name| Permission {
            kind: self.kind,
            name,
            operation,
        })
    }
}

#[cfg(test)]
mod tests;
