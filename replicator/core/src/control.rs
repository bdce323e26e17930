//! What people tell a flow while it runs, as its pods pass it on to each other: notes in the metadata of offsets that nobody
//! reads from. Every pod looks at them; what it sees for the first time is done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::types::TopicPartition;

/// Notes that are kept; a pod that was away for as many commands has missed some.
const KEPT: usize = 12;

/// The partitions that a command is about, by their names on the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this topic; `None`: all.
    pub topic: Option<Arc<str>>,
    /// Only this partition of it; `None`: all.
    pub partition: Option<i32>,
}

impl Scope {
    /// Whether the partition is among them.
    #[must_use]
    pub fn covers(&self, partition: &TopicPartition) -> bool {
        let topic = self.topic.as_ref().is_none_or(|topic| *topic == partition.topic);
        topic && self.partition.is_none_or(|number| number == partition.partition)
    }
}

/// Commands to resume, by number: later ones have larger numbers. Written `1`, and for each `;resume <number> <topic or *>
/// <partition or *>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<u64, Scope>);

impl Notes {
    /// What `Display` wrote; commands of later versions are left out, and anything else is no notes at all.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(';');
        if parts.next() != Some("1") {
            return Self::default();
        }
        Self(parts.filter_map(note).collect())
    }

    /// Takes in what another place of the notes holds.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
        while self.0.len() > KEPT {
            self.0.pop_first();
        }
    }

    /// Adds a command to resume. `now_ms`, milliseconds since 1970, is its number if that is larger than all before: notes that were
    /// lost must not make later ones look like old ones.
    pub fn resume(&mut self, scope: Scope, now_ms: u64) {
        let number = self.newest().saturating_add(1).max(now_ms);
        self.merge(Self([(number, scope)].into()));
    }

    /// The number of the newest note; 0: there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The commands after the one with this number, oldest first.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Scope> {
        self.0.range(number.saturating_add(1)..).map(|(_, scope)| scope)
    }
}

fn note(text: &str) -> Option<(u64, Scope)> {
    let words: Vec<&str> = text.split(' ').collect();
    let ["resume", number, topic, partition] = words[..] else {
        return None;
    };
    let partition = match partition {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    let scope = Scope {
        topic: (topic != "*").then(|| topic.into()),
        partition,
    };
    Some((number.parse().ok()?, scope))
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1")?;
        for (number, scope) in &self.0 {
            write!(f, ";resume {number} {}", scope.topic.as_deref().unwrap_or("*"))?;
            match scope.partition {
                Some(partition) => write!(f, " {partition}")?,
                None => f.write_str(" *")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(topic: Option<&str>, partition: Option<i32>) -> Scope {
        Scope {
            topic: topic.map(Into::into),
            partition,
        }
    }

    #[test]
    fn a_scope_covers_what_it_names() {
        let partition = TopicPartition::new("orders", 3);
        for (topic, number, covers) in [
            (None, None, true),
            (Some("orders"), None, true),
            (Some("orders"), Some(3), true),
            (Some("orders"), Some(4), false),
            (Some("order"), None, false),
            (None, Some(3), true),
        ] {
            assert_eq!(
                scope(topic, number).covers(&partition),
                covers,
                "{topic:?} {number:?}"
            );
        }
    }

    #[test]
    fn texts_of_others_are_no_notes() {
        let one = "1;resume 7 orders 3";
        for (text, newest) in [
            (one, 7),
            ("1;resume 7 * *;pause 9 orders *", 7),
            ("1;resume 7 *", 0),
            ("1;resume x * *", 0),
            ("2;resume 7 * *", 0),
            ("1", 0),
            ("", 0),
        ] {
            assert_eq!(Notes::parse(text).newest(), newest, "{text:?}");
        }
        assert_eq!(Notes::parse(one).to_string(), one);
    }

    #[test]
    fn what_was_seen_is_not_seen_again() {
        let mut notes = Notes::default();
        let (all, one) = (scope(None, None), scope(Some("orders"), Some(0)));
        notes.resume(all.clone(), 100);
        let seen = notes.newest();
        // The clock of another pod is behind.
        notes.resume(one.clone(), 90);
        assert_eq!((seen, notes.newest()), (100, 101));
        assert_eq!(notes.after(seen).collect::<Vec<_>>(), [&one]);
        assert_eq!(notes.after(0).collect::<Vec<_>>(), [&all, &one]);
        assert_eq!(notes.after(notes.newest()).count(), 0);
    }

    proptest! {
        #[test]
        fn notes_come_back_as_they_were(commands in proptest::collection::vec(
            (proptest::option::of("[a-zA-Z0-9._-]{1,249}"), proptest::option::of(0..i32::MAX), any::<u64>()), 0..20
        )) {
            let mut notes = Notes::default();
            let mut before = 0;
            for (topic, partition, now) in commands {
                notes.resume(scope(topic.as_deref(), partition), now / 2);
                prop_assert!(notes.newest() > before);
                before = notes.newest();
            }
            let text = notes.to_string();
            // Brokers take 4096 bytes of metadata by default.
            prop_assert!(text.len() < 4_000, "{}", text.len());
            prop_assert_eq!(Notes::parse(&text), notes);
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = Notes::parse(&text);
        }
    }
}
