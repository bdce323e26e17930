//! When a topic that was deleted on the source is deleted on the target too (INTERFACE `on_topic_delete: delete`). A topic may look
//! deleted that is not: to a principal that may no longer describe it, at a broker that knows little yet, on another cluster
//! under the same alias. In doubt nothing is deleted.

use std::time::Duration;

use crate::types::Time;

/// Looks in a row in which all of the source said that the topic is gone, and the time from the first to the last.
pub const CERTAIN: (u32, Duration) = (3, Duration::from_secs(10));

/// What one broker of the source says when it is asked for the topic by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// It is of the cluster that the flow began with.
    pub same_cluster: bool,
    /// It knows no topic of this name. A topic that we may not see is refused, not unknown (`KafkaApis.handleTopicMetadataRequest`).
    pub unknown: bool,
    /// It knows topics: a broker that has just started and knows none knows nothing.
    pub knows_others: bool,
}

/// Whether all of the source says that a topic is gone. `brokers`: how many there are; each must have answered.
#[must_use]
pub fn is_gone(brokers: usize, answers: &[Answer]) -> bool {
    let says = |answer: &Answer| answer.same_cluster && answer.unknown && answer.knows_others;
    brokers > 0 && answers.len() == brokers && answers.iter().all(says)
}

/// What was seen of a topic that the source no longer lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    looks: u32,
    first: Time,
    last: Time,
}

impl Departure {
    /// A look: whether all of the source said that it is gone.
    pub fn look(&mut self, gone: bool, now: Time) {
        if !gone {
            self.looks = 0;
            return;
        }
        if self.looks == 0 {
            self.first = now;
        }
        self.looks = self.looks.saturating_add(1);
        self.last = now;
    }

    fn is_certain(&self) -> bool {
        self.looks >= CERTAIN.0 && self.last.since(self.first) >= CERTAIN.1
    }
}

/// What the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The flow's setting `on_topic_delete` is `delete`.
    pub wanted: bool,
    /// The topic is Kuroshio's own, Kafka's or another replicator's.
    pub reserved: bool,
    /// The routes select it still.
    pub selected: bool,
    /// The flow decides about the topic: the flow back does not have the authority.
    pub rules: bool,
    /// The flow copied it: its positions on the target are of the log that is gone, of this cluster.
    pub copied: bool,
    /// What was seen.
    pub seen: Departure,
}

/// What becomes of the target topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for good and for this reason.
    Keep(&'static str),
    /// It stays until more is known.
    Wait,
    /// It goes.
    Delete,
}

/// What becomes of the copy of a topic that the source no longer lists.
#[must_use]
pub fn decide(facts: &Facts) -> Verdict {
    let keeps = [
        (!facts.wanted, "on_topic_delete is keep"),
        (facts.reserved, "topics of this kind are never deleted"),
        (!facts.selected, "it is not selected any more"),
        (!facts.rules, "the flow back has the authority"),
        (!facts.copied, "it has no position of this flow"),
    ];
    if let Some((_, why)) = keeps.into_iter().find(|(keep, _)| *keep) {
        return Verdict::Keep(why);
    }
    if facts.seen.is_certain() {
        Verdict::Delete
    } else {
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GONE: Answer = Answer {
        same_cluster: true,
        unknown: true,
        knows_others: true,
    };

    #[test]
    fn gone_is_what_all_brokers_say_is_gone() {
        let but = |change: fn(&mut Answer)| {
            let mut answer = GONE;
            change(&mut answer);
            answer
        };
        for (name, brokers, answers, gone) in [
            ("all say so", 3, vec![GONE; 3], true),
            ("the only one says so", 1, vec![GONE], true),
            ("one did not answer", 3, vec![GONE; 2], false),
            ("nobody is there", 0, vec![], false),
            ("one has it", 2, vec![GONE, but(|a| a.unknown = false)], false),
            (
                "one knows nothing",
                2,
                vec![GONE, but(|a| a.knows_others = false)],
                false,
            ),
            ("another cluster", 1, vec![but(|a| a.same_cluster = false)], false),
        ] {
            assert_eq!(is_gone(brokers, &answers), gone, "{name}");
        }
    }

    /// Looks a few seconds apart.
    fn seen(looks: &[(u64, bool)]) -> Departure {
        let mut departure = Departure::default();
        for (second, gone) in looks {
            departure.look(*gone, Time::from_millis(second * 1_000));
        }
        departure
    }

    #[test]
    fn it_takes_several_looks_in_a_row() {
        let sure = [(5, true), (10, true), (15, true)];
        for (looks, certain) in [
            (&sure[..], true),
            (&sure[..2], false),
            (&[], false),
            // Too soon after each other.
            (&[(1, true), (2, true), (3, true), (4, true)], false),
            // One doubt, and it begins anew.
            (&[(5, true), (10, false), (15, true), (20, true)], false),
            (
                &[(5, true), (10, false), (15, true), (20, true), (25, true)],
                true,
            ),
            (&[(5, true), (10, true), (15, true), (20, false)], false),
        ] {
            assert_eq!(seen(looks).is_certain(), certain, "{looks:?}");
        }
    }

    #[test]
    fn what_is_ours_to_delete() {
        let certain = seen(&[(0, true), (5, true), (10, true)]);
        let facts = Facts {
            wanted: true,
            reserved: false,
            selected: true,
            rules: true,
            copied: true,
            seen: certain,
        };
        assert_eq!(decide(&facts), Verdict::Delete);
        assert_eq!(
            decide(&Facts {
                seen: Departure::default(),
                ..facts
            }),
            Verdict::Wait
        );
        for kept in [
            Facts {
                wanted: false,
                ..facts
            },
            Facts {
                reserved: true,
                ..facts
            },
            Facts {
                selected: false,
                ..facts
            },
            Facts {
                rules: false,
                ..facts
            },
            Facts {
                copied: false,
                ..facts
            },
        ] {
            assert!(matches!(decide(&kept), Verdict::Keep(_)), "{kept:?}");
        }
    }

    proptest! {
        /// Whatever was seen before: nothing is deleted unless the last looks all said so, for long enough.
        #[test]
        fn nothing_goes_in_doubt(looks in proptest::collection::vec((0_u64..20, any::<bool>()), 0..12)) {
            let mut departure = Departure::default();
            let (mut now, mut run): (u64, Vec<u64>) = (0, Vec::new());
            for (pause, gone) in looks {
                now += pause;
                departure.look(gone, Time::from_millis(now * 1_000));
                if gone { run.push(now) } else { run.clear() }
            }
            let long = run.first().is_some_and(|first| now - first >= 10);
            prop_assert_eq!(departure.is_certain(), run.len() >= 3 && long);
        }
    }
}
