//! Whether a group may be moved to another cluster, and what is written for it there (INTERFACE `kuroshio failover`).

use std::fmt;
use std::sync::Arc;

use crate::groups::{Mark, Offset};
use crate::types::TopicPartition;

/// One partition of a group that is to be moved.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The flow that copies the partition.
    pub flow: &'a str,
    /// The group's offset on the source.
    pub source: i64,
    /// Where it goes on on the target.
    pub translated: i64,
    /// What the group has on the target now.
    pub held: Option<Offset<'a>>,
}

/// What to do with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the target has it, with the mark that says so.
    Keep,
    /// Write the translation.
    Write,
    /// Write it, which moves the group back: somebody committed this later offset on the target.
    Back(i64),
}

/// What moving the group does with a partition.
#[must_use]
pub fn step(facts: &Facts<'_>) -> Step {
    let Some(held) = facts.held else {
        return Step::Write;
    };
    match Mark::parse(held.metadata).filter(|mark| mark.flow == facts.flow) {
        Some(mark) if mark.source == facts.source && held.offset == facts.translated => Step::Keep,
        // What the flow itself wrote follows the source, back too.
        Some(_) => Step::Write,
        None if held.offset > facts.translated => Step::Back(held.offset),
        None => Step::Write,
    }
}

/// What stands against moving a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It has members on this cluster.
    Living {
        /// Alias.
        cluster: Arc<str>,
        /// How many.
        members: usize,
    },
    /// The source cannot be reached.
    Unreachable {
        /// Alias.
        cluster: Arc<str>,
        /// Why.
        why: String,
    },
    /// It has no offsets.
    Nothing,
    /// Not everything is on the target yet, and no more came.
    Lag {
        /// Partition on the source.
        partition: TopicPartition,
        /// Records, at most.
        records: u64,
    },
    /// It would move back on the target.
    Back {
        /// Partition on the target.
        partition: TopicPartition,
        /// What the group has there.
        held: i64,
        /// What it would get.
        translated: i64,
    },
    /// An offset cannot be translated.
    Unknown {
        /// Partition on the source.
        partition: TopicPartition,
        /// Why.
        why: String,
    },
}

impl Objection {
    /// Whether `--force` goes on nevertheless: never beside living members, whose next commit would undo it.
    #[must_use]
    pub fn yields_to_force(&self) -> bool {
        !matches!(self, Self::Living { .. })
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Living { cluster, members } => write!(
                f,
                "it has {members} living member(s) on {cluster}: stop its consumers there first"
            ),
            Self::Unreachable { cluster, why } => write!(
                f,
                "{cluster} cannot be asked ({why}): --force takes what was synced before"
            ),
            Self::Nothing => f.write_str("it has no offsets there"),
            Self::Lag { partition, records } => write!(
                f,
                "{partition}: up to {records} records are not replicated, and no more come: is the flow running? --force leaves them behind"
            ),
            Self::Back {
                partition,
                held,
                translated,
            } => write!(
                f,
                "{partition}: it stands at {held} there, by a commit of its own, and would go back to {translated}: only with --force"
            ),
            Self::Unknown { partition, why } => {
                write!(f, "{partition}: {why}; --force leaves it out")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_table() {
        for (held, expected) in [
            (None, Step::Write),
            (Some((70, "kuroshio:tw-jp:40")), Step::Keep),
            // The source moved on, or was rewound, or the target's log has changed.
            (Some((60, "kuroshio:tw-jp:30")), Step::Write),
            (Some((90, "kuroshio:tw-jp:50")), Step::Write),
            (Some((80, "kuroshio:tw-jp:40")), Step::Write),
            // A consumer's own.
            (Some((60, "")), Step::Write),
            (Some((70, "")), Step::Write),
            (Some((71, "")), Step::Back(71)),
            (Some((71, "kuroshio:kr-jp:40")), Step::Back(71)),
        ] {
            let facts = Facts {
                flow: "tw-jp",
                source: 40,
                translated: 70,
                held: held.map(|(offset, metadata)| Offset { offset, metadata }),
            };
            assert_eq!(step(&facts), expected, "{held:?}");
        }
    }

    #[test]
    fn only_living_members_are_never_overruled() {
        let partition = TopicPartition::new("t", 0);
        let why = String::new;
        for (objection, yields) in [
            (
                Objection::Living {
                    cluster: "tw".into(),
                    members: 1,
                },
                false,
            ),
            (
                Objection::Unreachable {
                    cluster: "tw".into(),
                    why: why(),
                },
                true,
            ),
            (
                Objection::Lag {
                    partition: partition.clone(),
                    records: 1,
                },
                true,
            ),
            (
                Objection::Back {
                    partition: partition.clone(),
                    held: 2,
                    translated: 1,
                },
                true,
            ),
            (
                Objection::Unknown {
                    partition,
                    why: why(),
                },
                true,
            ),
        ] {
            assert_eq!(objection.yields_to_force(), yields, "{objection}");
        }
    }
}
