//! The least that must be granted on one cluster for several flows together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Kind, Need, Permission};
use crate::acls::Operation;

/// Operations on one thing, or on all things whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// On what.
    pub kind: Kind,
    /// Its name, empty for [`Kind::Cluster`]; with `*` at the end: all that begin so.
    pub name: Arc<str>,
    /// What; at least one.
    pub operations: BTreeSet<Operation>,
    /// What for.
    pub why: BTreeSet<&'static str>,
}

impl Grant {
    /// One operation at a time.
    pub fn permissions(&self) -> impl Iterator<Item = Permission<'_>> {
        self.operations.iter().map(|operation| Permission {
            kind: self.kind,
            name: &self.name,
            operation: *operation,
        })
    }
}

/// What the needs come to; sorted by kind and name. A name is left out where a wider one has the same operation.
#[must_use]
pub fn grants<'a>(needs: impl IntoIterator<Item = &'a Need>) -> Vec<Grant> {
    type Names = BTreeMap<Arc<str>, BTreeSet<&'static str>>;
    let mut wanted: BTreeMap<(Kind, Operation), Names> = BTreeMap::new();
    for need in needs {
        for operation in &need.operations {
            let names = wanted.entry((need.kind, *operation)).or_default();
            for name in &need.names {
                names.entry(Arc::clone(name)).or_default().insert(need.why);
            }
        }
    }
    let mut grants: BTreeMap<(Kind, Arc<str>), Grant> = BTreeMap::new();
    for ((kind, operation), names) in wanted {
        let wide: Vec<Arc<str>> = names.keys().filter(|name| name.ends_with('*')).cloned().collect();
        for (name, why) in names {
            let wider = wide.iter().filter(|wide| covers(wide, &name));
            // The widest: of two that both cover the name, one covers the other.
            let name = wider.min_by_key(|wide| wide.len()).cloned().unwrap_or(name);
            let grant = grants.entry((kind, Arc::clone(&name))).or_insert_with(|| Grant {
                kind,
                name,
                operations: BTreeSet::new(),
                why: BTreeSet::new(),
            });
            grant.operations.insert(operation);
            grant.why.extend(why);
        }
    }
    grants.into_values().collect()
}

/// The same as ACLs of Kafka, where who may read, write, delete or alter something may describe it, and who may alter its configs may
/// describe them (`StandardAuthorizerData.IMPLIES_DESCRIBE`), and who may write to any topic may do so idempotently (KIP-679). IAM implies
/// nothing.
#[must_use]
pub fn acls(grants: &[Grant]) -> Vec<Grant> {
    let mut granted = grants.iter().filter(|grant| grant.kind == Kind::Topic);
    let writes = granted.any(|grant| grant.operations.contains(&Operation::WRITE));
    let left = |grant: &Grant| {
        let is_implied = |operation: &Operation| {
            if *operation == Operation::IDEMPOTENT_WRITE {
                return writes;
            }
            let over = grants
                .iter()
                .filter(|other| other.kind == grant.kind && covers(&other.name, &grant.name));
            over.flat_map(|other| &other.operations)
                .any(|other| implied_by(*other) == Some(*operation))
        };
        let operations = grant.operations.iter().copied();
        let operations: BTreeSet<Operation> = operations.filter(|operation| !is_implied(operation)).collect();
        (!operations.is_empty()).then(|| Grant {
            operations,
            ..grant.clone()
        })
    };
    grants.iter().filter_map(left).collect()
}

fn implied_by(operation: Operation) -> Option<Operation> {
    use Operation as O;
    match operation {
        O::READ | O::WRITE | O::DELETE | O::ALTER => Some(O::DESCRIBE),
        O::ALTER_CONFIGS => Some(O::DESCRIBE_CONFIGS),
        _ => None,
    }
}

/// Whether everything that `name` stands for begins as `wide` says, or is it.
fn covers(wide: &str, name: &str) -> bool {
    wide == name
        || wide
            .strip_suffix('*')
            .is_some_and(|start| name.starts_with(start))
}
