//! What people tell a flow while it runs, as its pods pass it on to each other: notes in the metadata of offsets that nobody
//! reads from. Every pod looks at them; what it sees for the first time is done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::types::TopicPartition;

/// Commands to resume that are kept; a pod that was away for as many has missed some.
const KEPT: usize = 12;
/// Bytes of notes: brokers take 4,096 of metadata (`offset.metadata.max.bytes`).
const LONGEST: usize = 4_000;

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

    /// Whether it covers all that the other one does.
    fn holds(&self, other: &Self) -> bool {
        let topic = self.topic.is_none() || self.topic == other.topic;
        topic && (self.partition.is_none() || self.partition == other.partition)
    }

    /// Whether some partition may be among those of both.
    fn meets(&self, other: &Self) -> bool {
        let apart = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| a.is_some() && b.is_some() && a != b;
        let partitions =
            self.partition.is_none() || other.partition.is_none() || self.partition == other.partition;
        !apart(&self.topic, &other.topic) && partitions
    }
}

/// What may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stand still until told otherwise. It holds for processes that start later, too.
    Pause,
    /// Go on; what is quarantined is tried at once, whatever was lost.
    Resume,
}

impl Command {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// The notes would be longer than brokers take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many topics and partitions of the flow are paused one by one to remember one more: pause the flow or whole topics"
)]
pub struct TooMany;

/// Commands by number: later ones have larger numbers. Of a partition the last one that covers it holds. Written `1`, and for each
/// `;pause|resume <number> <topic or *> <partition or *>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<u64, (Command, Scope)>);

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

    /// These or what another place holds, whichever is newer: whoever writes notes has read all places.
    #[must_use]
    pub fn or_newer(self, other: Self) -> Self {
        if other.newest() > self.newest() {
            other
        } else {
            self
        }
    }

    /// Adds a command. `now_ms`, milliseconds since 1970, is its number if that is larger than all before: notes that were
    /// lost must not make later ones look like old ones.
    ///
    /// # Errors
    /// It cannot be remembered beside what is paused; nothing is added.
    pub fn add(&mut self, command: Command, scope: Scope, now_ms: u64) -> Result<(), TooMany> {
        let number = self.newest().saturating_add(1).max(now_ms);
        let mut notes = self.clone();
        notes.0.retain(|_, (_, earlier)| !scope.holds(earlier));
        notes.0.insert(number, (command, scope));
        notes.shorten(KEPT);
        if notes.to_string().len() > LONGEST {
            notes.shorten(1);
        }
        if notes.to_string().len() > LONGEST {
            return Err(TooMany);
        }
        *self = notes;
        Ok(())
    }

    /// Forgets the oldest commands to resume that nothing depends on, down to so many.
    fn shorten(&mut self, kept: usize) {
        let idle = |(number, (command, scope)): (&u64, &(Command, Scope))| {
            let mut before = self.0.range(..number);
            let undoes = before.any(|(_, (other, paused))| *other == Command::Pause && paused.meets(scope));
            (*command == Command::Resume && !undoes).then_some(*number)
        };
        let idle: Vec<u64> = self.0.iter().filter_map(idle).collect();
        for number in &idle[..idle.len().saturating_sub(kept)] {
            self.0.remove(number);
        }
    }

    /// The number of the newest note; 0: there is none.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// What is told to go on after the note with this number, oldest first.
    pub fn resumed_after(&self, number: u64) -> impl Iterator<Item = &Scope> {
        let later = self.0.range(number.saturating_add(1)..);
        later.filter_map(|(_, (command, scope))| (*command == Command::Resume).then_some(scope))
    }

    /// Whether a partition is to stand still.
    #[must_use]
    pub fn is_paused(&self, partition: &TopicPartition) -> bool {
        let mut last = self.0.values().rev();
        last.find(|(_, scope)| scope.covers(partition))
            .is_some_and(|(command, _)| *command == Command::Pause)
    }
}

fn note(text: &str) -> Option<(u64, (Command, Scope))> {
    let words: Vec<&str> = text.split(' ').collect();
    let [command, number, topic, partition] = words[..] else {
        return None;
    };
    let command = [Command::Pause, Command::Resume]
        .into_iter()
        .find(|known| known.as_str() == command)?;
    let partition = match partition {
        "*" => None,
        number => Some(number.parse().ok()?),
    };
    let scope = Scope {
        topic: (topic != "*").then(|| topic.into()),
        partition,
    };
    Some((number.parse().ok()?, (command, scope)))
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1")?;
        for (number, (command, scope)) in &self.0 {
            let topic = scope.topic.as_deref().unwrap_or("*");
            write!(f, ";{} {number} {topic}", command.as_str())?;
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
        let one = "1;pause 5 orders *;resume 7 orders 3";
        for (text, newest) in [
            (one, 7),
            ("1;resume 7 * *;stop 9 orders *", 7),
            ("1;pause 7 *", 0),
            ("1;pause x * *", 0),
            ("2;pause 7 * *", 0),
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
        notes.add(Command::Resume, all.clone(), 100).unwrap();
        let seen = notes.newest();
        // The clock of another pod is behind.
        notes.add(Command::Resume, one.clone(), 90).unwrap();
        assert_eq!((seen, notes.newest()), (100, 101));
        assert_eq!(notes.resumed_after(seen).collect::<Vec<_>>(), [&one]);
        assert_eq!(notes.resumed_after(0).collect::<Vec<_>>(), [&all, &one]);
        assert_eq!(notes.resumed_after(notes.newest()).count(), 0);
    }

    /// Commands such as `p orders 3` and `r * *`.
    fn told(commands: &[&str]) -> Notes {
        let mut notes = Notes::default();
        for command in commands {
            let words: Vec<&str> = command.split(' ').collect();
            let text = format!(
                "1;{} 1 {} {}",
                if words[0] == "p" { "pause" } else { "resume" },
                words[1],
                words[2]
            );
            let (command, scope) = Notes::parse(&text).0.remove(&1).unwrap();
            notes.add(command, scope, 0).unwrap();
        }
        notes
    }

    #[test]
    fn the_last_word_on_a_partition_holds() {
        for (commands, paused, text) in [
            (&["p * *"][..], "a0 a1 b0", "1;pause 1 * *"),
            (&["p * *", "r a *"], "b0", "1;pause 1 * *;resume 2 a *"),
            (
                &["p * *", "r a *", "p a 1"],
                "a1 b0",
                "1;pause 1 * *;resume 2 a *;pause 3 a 1",
            ),
            (&["p * *", "r a *", "r * *"], "", "1;resume 3 * *"),
            (&["p a 0", "p a *"], "a0 a1", "1;pause 2 a *"),
            (&["p a *", "r a 1", "p a 1"], "a0 a1", "1;pause 1 a *;pause 3 a 1"),
            (&["p a 0", "r a 0", "r a 0"], "", "1;resume 3 a 0"),
            (&["r * *", "p b 0"], "b0", "1;resume 1 * *;pause 2 b 0"),
        ] {
            let notes = told(commands);
            let all = [("a", 0), ("a", 1), ("b", 0)];
            let paused_now: Vec<String> = all
                .into_iter()
                .filter(|(topic, number)| notes.is_paused(&TopicPartition::new(*topic, *number)))
                .map(|(topic, number)| format!("{topic}{number}"))
                .collect();
            assert_eq!(
                (&*paused_now.join(" "), &*notes.to_string()),
                (paused, text),
                "{commands:?}"
            );
        }
    }

    #[test]
    fn a_pause_is_never_forgotten_for_want_of_room() {
        let mut notes = Notes::default();
        let topic = |number: usize| scope(Some(&format!("{}{number}", "t".repeat(240))), None);
        let mut paused = 0;
        while notes.add(Command::Pause, topic(paused), 0).is_ok() {
            paused += 1;
        }
        let before = notes.clone();
        assert!(paused > 10);
        assert_eq!(notes.add(Command::Resume, topic(99), 0), Err(TooMany));
        assert_eq!(notes, before);
        assert!((0..paused).all(|at| notes.is_paused(&TopicPartition::new(topic(at).topic.unwrap(), 0))));
        notes.add(Command::Pause, scope(None, None), 0).unwrap();
        assert_eq!(notes.0.len(), 1);
        // Old commands to resume give way.
        let mut notes = Notes::default();
        for at in 0..20 {
            notes.add(Command::Resume, topic(at), 0).unwrap();
        }
        assert_eq!(notes.0.len(), KEPT);
    }

    #[test]
    fn of_two_places_the_newer_counts() {
        // The first one was not reached when what was paused went on, long ago.
        let (old, new) = (Notes::parse("1;pause 5 a *"), Notes::parse("1;resume 90 b *"));
        assert_eq!(old.clone().or_newer(new.clone()), new);
        assert_eq!(new.clone().or_newer(old), new);
    }

    proptest! {
        #[test]
        fn notes_come_back_as_they_were(commands in proptest::collection::vec((
            any::<bool>(), proptest::option::of("[a-zA-Z0-9._-]{1,249}"), proptest::option::of(0..i32::MAX), any::<u64>()
        ), 0..40)) {
            let mut notes = Notes::default();
            let mut before = 0;
            for (pause, topic, partition, now) in commands {
                let command = if pause { Command::Pause } else { Command::Resume };
                let was = notes.clone();
                match notes.add(command, scope(topic.as_deref(), partition), now / 2) {
                    Ok(()) => prop_assert!(notes.newest() > before),
                    Err(TooMany) => prop_assert_eq!(&notes, &was),
                }
                before = notes.newest();
            }
            let text = notes.to_string();
            prop_assert!(text.len() <= LONGEST, "{}", text.len());
            prop_assert_eq!(Notes::parse(&text), notes);
        }

        /// Whatever is forgotten, what is paused is what the last command that covered it said.
        #[test]
        fn forgetting_changes_nothing(commands in proptest::collection::vec(
            (any::<bool>(), proptest::option::of(0_u8..3), proptest::option::of(0_i32..3)), 0..60
        )) {
            let mut notes = Notes::default();
            let mut last = BTreeMap::new();
            for (pause, topic, partition) in commands {
                let topic = topic.map(|topic| topic.to_string());
                let scope = scope(topic.as_deref(), partition);
                let command = if pause { Command::Pause } else { Command::Resume };
                prop_assert!(notes.add(command, scope.clone(), 0).is_ok());
                for topic in 0..3 {
                    for partition in 0..3 {
                        let at = TopicPartition::new(topic.to_string(), partition);
                        if scope.covers(&at) {
                            last.insert(at.clone(), pause);
                        }
                        prop_assert_eq!(notes.is_paused(&at), last.get(&at).copied().unwrap_or(false));
                    }
                }
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = Notes::parse(&text);
        }
    }
}
