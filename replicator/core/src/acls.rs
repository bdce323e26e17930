//! Which ACLs of topics follow on the target (INTERFACE `acls`; MirrorMaker 2: `MirrorSourceConnector.syncTopicAcls`, which copies LITERAL
//! ones only and removes none).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What a topic name stands for in an ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatternType {
    /// The topic of this name, or `*`: all of them.
    Literal,
    /// All topics whose names begin so.
    Prefixed,
}

/// What an ACL is about, by Kafka's number (`AclOperation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(pub i8);

impl Operation {
    /// Every operation.
    pub const ALL: Self = Self(2);
    /// `READ`.
    pub const READ: Self = Self(3);
    /// `WRITE`.
    pub const WRITE: Self = Self(4);
    /// `CREATE`.
    pub const CREATE: Self = Self(5);
    /// `DELETE`.
    pub const DELETE: Self = Self(6);
    /// `ALTER`.
    pub const ALTER: Self = Self(7);
    /// `DESCRIBE`.
    pub const DESCRIBE: Self = Self(8);
    /// `DESCRIBE_CONFIGS`.
    pub const DESCRIBE_CONFIGS: Self = Self(10);
    /// `ALTER_CONFIGS`.
    pub const ALTER_CONFIGS: Self = Self(11);
    /// `IDEMPOTENT_WRITE`.
    pub const IDEMPOTENT_WRITE: Self = Self(12);

    const NAMES: [&str; 11] = [
        "ALL",
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "ALTER",
        "DESCRIBE",
        "CLUSTER_ACTION",
        "DESCRIBE_CONFIGS",
        "ALTER_CONFIGS",
        "IDEMPOTENT_WRITE",
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(i16::from(self.0) - 2)
            .ok()
            .and_then(|at| Self::NAMES.get(at));
        match name {
            Some(name) => f.write_str(name),
            None => write!(f, "operation {}", self.0),
        }
    }
}

/// An ACL of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// How the name is meant.
    pub pattern: PatternType,
    /// The topic, or how its name begins.
    pub name: Arc<str>,
    /// Whom it is about, such as `User:billing`.
    pub principal: Arc<str>,
    /// From where; `*`: from anywhere.
    pub host: Arc<str>,
    /// What.
    pub operation: Operation,
    /// Allowed, or denied.
    pub allow: bool,
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, star) = match (self.allow, self.pattern) {
            (true, PatternType::Literal) => ("allow", ""),
            (true, PatternType::Prefixed) => ("allow", "*"),
            (false, PatternType::Literal) => ("deny", ""),
            (false, PatternType::Prefixed) => ("deny", "*"),
        };
        let (principal, host, operation, name) = (&self.principal, &self.host, self.operation, &self.name);
        write!(f, "{verb} {principal} from {host} {operation} on {name}{star}")
    }
}

/// What is to be done on the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// ACLs to create.
    pub create: BTreeSet<Acl>,
    /// ACLs to delete, all of which are ours.
    pub delete: BTreeSet<Acl>,
    /// ACLs that were ours and are gone from the target, whoever took them away. One that is still wanted is not among them: what was just
    /// created need not be seen yet by the broker that is asked.
    pub forget: BTreeSet<Acl>,
}

/// The ACLs that the target should have. `routes`: source name → target name of the topics about which the source decides. `prefix`: what
/// the flow puts before names, if it does.
pub fn wanted(
    source: &BTreeSet<Acl>,
    routes: &BTreeMap<Arc<str>, Arc<str>>,
    prefix: Option<&str>,
) -> BTreeSet<Acl> {
    let mut wanted = BTreeSet::new();
    for acl in source {
        match acl.pattern {
            PatternType::Literal => {
                wanted.extend(routes.get(&acl.name).map(|target| under(acl, target, prefix)));
            }
            PatternType::Prefixed => {
                let begin_so = routes.iter().filter(|(topic, _)| topic.starts_with(&*acl.name));
                for (topic, target) in begin_so {
                    let moved = format!("{}{topic}", prefix.unwrap_or_default());
                    wanted.insert(if moved == **target {
                        let name = format!("{}{}", prefix.unwrap_or_default(), acl.name);
                        under(acl, &name.into(), prefix)
                    } else {
                        // Its name on the target begins otherwise.
                        let literal = Acl {
                            pattern: PatternType::Literal,
                            ..acl.clone()
                        };
                        under(&literal, target, prefix)
                    });
                }
            }
        }
    }
    wanted
}

/// The ACL for another name. What is written under a prefix is the flow's alone: who may write there may read here.
fn under(acl: &Acl, name: &Arc<str>, prefix: Option<&str>) -> Acl {
    let writes = [Operation::WRITE, Operation::ALL].contains(&acl.operation);
    let operation = if acl.allow && prefix.is_some() && writes {
        Operation::READ
    } else {
        acl.operation
    };
    Acl {
        name: Arc::clone(name),
        operation,
        ..acl.clone()
    }
}

/// What makes the target's ACLs those that are wanted. `ours`: what the flow has created before. Of what others created nothing is ever
/// deleted.
#[must_use]
pub fn plan(wanted: &BTreeSet<Acl>, there: &BTreeSet<Acl>, ours: &BTreeSet<Acl>, delete: bool) -> Plan {
    let gone = ours.intersection(there).filter(|acl| !wanted.contains(*acl));
    let forget = ours
        .difference(there)
        .filter(|acl| !wanted.contains(*acl))
        .cloned()
        .collect();
    Plan {
        forget,
        create: wanted.difference(there).cloned().collect(),
        delete: gone.filter(|_| delete).cloned().collect(),
    }
}

/// ACLs as they are remembered with a topic, in at most `limit` bytes; those that do not fit are left out.
#[must_use]
pub fn remember(acls: &BTreeSet<Acl>, limit: usize) -> String {
    let mut text = String::new();
    for acl in acls {
        let pattern = match acl.pattern {
            PatternType::Literal => 'L',
            PatternType::Prefixed => 'P',
        };
        let permission = if acl.allow { '+' } else { '-' };
        let Operation(operation) = acl.operation;
        let line = format!(
            "{pattern}{permission}{operation}\t{}\t{}\t{}\n",
            acl.name, acl.principal, acl.host
        );
        if text.len() + line.len() <= limit {
            text.push_str(&line);
        }
    }
    text
}

/// What [`remember`] wrote; lines that it would not write are passed over.
#[must_use]
pub fn recall(text: &str) -> BTreeSet<Acl> {
    text.lines().filter_map(recall_one).collect()
}

fn recall_one(line: &str) -> Option<Acl> {
    let mut fields = line.split('\t');
    let (head, name, principal, host) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let pattern = match head.get(..1)? {
        "L" => PatternType::Literal,
        "P" => PatternType::Prefixed,
        _ => return None,
    };
    let allow = match head.get(1..2)? {
        "+" => true,
        "-" => false,
        _ => return None,
    };
    let acl = Acl {
        pattern,
        name: name.into(),
        principal: principal.into(),
        host: host.into(),
        operation: Operation(head.get(2..)?.parse().ok()?),
        allow,
    };
    fields.next().is_none().then_some(acl)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `+READ User:a orders`, `-ALL User:b pay*`.
    fn acl(text: &str) -> Acl {
        let [what, principal, name] = text.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{text}");
        };
        let operation = match &what[1..] {
            "ALL" => Operation::ALL,
            "READ" => Operation::READ,
            "WRITE" => Operation::WRITE,
            "DESCRIBE" => Operation(8),
            other => panic!("{other}"),
        };
        Acl {
            pattern: if name.len() > 1 && name.ends_with('*') {
                PatternType::Prefixed
            } else {
                PatternType::Literal
            },
            name: if name == "*" {
                "*"
            } else {
                name.trim_end_matches('*')
            }
            .into(),
            principal: principal.into(),
            host: "*".into(),
            operation,
            allow: what.starts_with('+'),
        }
    }

    fn acls(all: &[&str]) -> BTreeSet<Acl> {
        all.iter().map(|text| acl(text)).collect()
    }

    fn routes(all: &[(&str, &str)]) -> BTreeMap<Arc<str>, Arc<str>> {
        all.iter()
            .map(|(from, to)| ((*from).into(), (*to).into()))
            .collect()
    }

    const SOURCE: &[&str] = &[
        "+READ User:a orders",
        "+WRITE User:b orders",
        "+ALL User:c orders",
        "-WRITE User:d orders",
        "+WRITE User:e ord*",
        "+READ User:f pay*",
        "+READ User:g other",
        "+READ User:h *",
    ];

    #[test]
    fn under_the_same_names_the_same_is_allowed() {
        let routes = routes(&[("orders", "orders"), ("payments", "bills")]);
        let expected = acls(&[
            "+READ User:a orders",
            "+WRITE User:b orders",
            "+ALL User:c orders",
            "-WRITE User:d orders",
            "+WRITE User:e ord*",
            // Renamed: no other topic that begins like it is meant.
            "+READ User:f bills",
        ]);
        assert_eq!(wanted(&acls(SOURCE), &routes, None), expected);
    }

    #[test]
    fn under_a_prefix_writers_may_read() {
        let routes = routes(&[("orders", "tw.orders"), ("payments", "tw.payments")]);
        let expected = acls(&[
            "+READ User:a tw.orders",
            "+READ User:b tw.orders",
            "+READ User:c tw.orders",
            "-WRITE User:d tw.orders",
            "+READ User:e tw.ord*",
            "+READ User:f tw.pay*",
        ]);
        assert_eq!(wanted(&acls(SOURCE), &routes, Some("tw.")), expected);
    }

    #[test]
    fn only_what_is_ours_is_deleted() {
        // Created a moment ago, `new` is not yet seen by every broker.
        let wanted = acls(&[
            "+READ User:a orders",
            "+READ User:b orders",
            "+READ User:new orders",
        ]);
        let there = acls(&[
            "+READ User:b orders",
            "+READ User:old orders",
            "+READ User:theirs orders",
        ]);
        let ours = acls(&[
            "+READ User:b orders",
            "+READ User:old orders",
            "+READ User:gone orders",
            "+READ User:new orders",
        ]);
        let planned = Plan {
            create: acls(&["+READ User:a orders", "+READ User:new orders"]),
            delete: acls(&["+READ User:old orders"]),
            forget: acls(&["+READ User:gone orders"]),
        };
        assert_eq!(plan(&wanted, &there, &ours, true), planned);
        let kept = Plan {
            delete: BTreeSet::new(),
            ..planned
        };
        assert_eq!(plan(&wanted, &there, &ours, false), kept);
    }

    #[test]
    fn an_acl_reads_as_a_sentence() {
        assert_eq!(
            acl("+READ User:a ord*").to_string(),
            "allow User:a from * READ on ord*"
        );
        let denied = Acl {
            operation: Operation(11),
            host: "10.0.0.1".into(),
            ..acl("-ALL User:a orders")
        };
        assert_eq!(
            denied.to_string(),
            "deny User:a from 10.0.0.1 ALTER_CONFIGS on orders"
        );
    }

    fn any_acl() -> impl Strategy<Value = Acl> {
        let text = "[!-~]{1,12}";
        (any::<bool>(), text, text, text, any::<i8>(), any::<bool>()).prop_map(
            |(prefixed, name, principal, host, operation, allow)| Acl {
                pattern: if prefixed {
                    PatternType::Prefixed
                } else {
                    PatternType::Literal
                },
                name: name.into(),
                principal: principal.into(),
                host: host.into(),
                operation: Operation(operation),
                allow,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_recalled(acls in prop::collection::btree_set(any_acl(), 0..9), limit in 0..600_usize) {
            prop_assert_eq!(recall(&remember(&acls, usize::MAX)), acls.clone());
            let text = remember(&acls, limit);
            prop_assert!(text.len() <= limit);
            prop_assert!(recall(&text).is_subset(&acls));
        }

        #[test]
        fn any_text_is_recalled_or_passed_over(text in any::<String>()) {
            let acls = recall(&text);
            prop_assert_eq!(recall(&remember(&acls, usize::MAX)), acls);
        }
    }
}
