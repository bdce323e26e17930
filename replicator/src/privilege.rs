//! `kuroshio acls` and `kuroshio iam-policy`: the least that a configuration must be allowed. From the file alone, so that it can be
//! granted before anything runs: where only the clusters know names, by how they begin.

mod commands;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::needs::{Facts, Grant, Kind, Own, Side, grants, needs};
use kuroshio_core::routes::is_reserved;

use crate::config::{Compression, Config, Delivery, Flow, Mistakes, OnTopicDelete, Partitions, Pattern};
use crate::own_topic::own_topics;

pub use commands::{Granting, acls, commands};
pub use policy::{Arn, Policy, policies, remarks};

/// What is needed on each cluster.
pub type Privileges = BTreeMap<Arc<str>, Vec<Grant>>;

/// All that the permissions of a flow depend on but names of topics and groups.
pub(crate) fn settings(flow: &Flow, flows: &[Flow], admin: bool) -> Facts {
    let into = |alias: &Arc<str>| {
        let others = flows.iter().filter(|other| other.target == *alias);
        let others = others.filter(|other| other.name != flow.name);
        others
            .map(|other| Arc::clone(&other.name))
            .collect::<BTreeSet<_>>()
    };
    Facts {
        flow: Arc::clone(&flow.name),
        others: [into(&flow.source), into(&flow.target)],
        exactly_once: flow.delivery == Delivery::ExactlyOnce,
        partitions: flow.partitions == Partitions::Sync,
        configs: flow.configs.sync,
        compression: flow.compression == Compression::Source,
        acls: flow.acls.is_some(),
        sync: flow.groups.sync,
        checkpoints: flow.mm2.checkpoints,
        positions_on_source: flow.positions_on_source,
        deletes: flow.on_topic_delete == OnTopicDelete::Delete,
        admin,
        ..Facts::default()
    }
}

/// With the names that the file tells; every topic may have to be made.
fn facts(flow: &Flow, flows: &[Flow], admin: bool) -> Facts {
    let routes = flow.router.reach();
    let ruled = routes
        .iter()
        .filter(|(source, target)| !is_reserved(source) && flow.may_rule(flows, source, target));
    let own = own_topics(flow, flows).into_iter();
    let groups = flow.groups.include.iter().flat_map(Pattern::names);
    Facts {
        missing: routes.values().cloned().collect(),
        ruled: ruled.map(|(_, target)| Arc::clone(target)).collect(),
        own: own
            .map(|(side, topic)| Own {
                side,
                topic,
                missing: true,
            })
            .collect(),
        groups: groups
            .filter(|group| group.ends_with('*') || flow.groups.selects(group))
            .collect(),
        routes,
        ..settings(flow, flows, admin)
    }
}

/// What these flows of the configuration need, on every cluster that they have.
#[must_use]
pub fn privileges(config: &Config, flows: &[&Flow]) -> Privileges {
    let mut needed: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
    for flow in flows {
        for need in needs(&facts(flow, &config.flows, config.http_admin)) {
            let alias = match need.side {
                Side::Source => &flow.source,
                Side::Target => &flow.target,
            };
            needed.entry(Arc::clone(alias)).or_default().push(need);
        }
    }
    needed
        .into_iter()
        .map(|(alias, needs)| (alias, grants(&needs)))
        .collect()
}

/// Those on one cluster only, if one is named.
///
/// # Errors
/// None of the flows has such a cluster.
pub fn on(mut privileges: Privileges, alias: Option<&str>) -> Result<Privileges, Mistakes> {
    let Some(alias) = alias else {
        return Ok(privileges);
    };
    let found = privileges.remove_entry(alias);
    found.map(|found| [found].into()).ok_or_else(|| {
        let known: Vec<&str> = privileges.keys().map(|alias| &**alias).collect();
        let mut mistakes = Mistakes::default();
        let why = format!(
            "no flow that is asked for has the cluster `{alias}`; theirs are {}",
            known.join(", ")
        );
        mistakes.add("--cluster", why);
        mistakes
    })
}

/// What the file leaves open, so that more is granted than will be used; a line each.
#[must_use]
pub fn wide(privileges: &Privileges) -> Vec<String> {
    let of = |alias: &Arc<str>, grants: &[Grant], kind: Kind, key: &str| {
        let all = grants
            .iter()
            .any(|grant| grant.kind == kind && &*grant.name == "*");
        all.then(|| {
            format!("cluster {alias}: `*` stands for all {kind}s, since {key} names no beginning; name more to grant less")
        })
    };
    let each = privileges.iter().flat_map(|(alias, grants)| {
        [
            of(alias, grants, Kind::Topic, "topics.include"),
            of(alias, grants, Kind::Group, "groups.include"),
        ]
    });
    each.flatten().collect()
}

#[cfg(test)]
mod tests;
