//! Which configs of a topic on the target follow those of the topic on the source (INTERFACE `configs`; MirrorMaker 2:
//! `DefaultConfigPropertyFilter`, incremental changes of KIP-894).

use std::collections::BTreeMap;
use std::sync::Arc;

/// A copied record is larger by its tag: by so many bytes at most.
const TAG_ROOM: i64 = 1024;

/// Only ever raised. Each side's limit must be above the other's by the room for tags, so were both lowered and raised, they would
/// never rest.
const LARGEST: &str = "max.message.bytes";

/// What a target topic needs to hold the source's data.
const NEEDED: [&str; 7] = [
    "cleanup.policy",
    "compression.type",
    "retention.ms",
    "retention.bytes",
    "delete.retention.ms",
    "min.compaction.lag.ms",
    LARGEST,
];

/// A config in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its value.
    pub value: Arc<str>,
    /// It is set on the topic itself; otherwise the value is the broker's.
    pub own: bool,
}

/// All configs of a topic by name.
pub type Configs = BTreeMap<Arc<str>, Config>;

/// What is to be changed on the target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The config's name.
    pub name: Arc<str>,
    /// What it is set to; `None`: back to the broker's.
    pub value: Option<Arc<str>>,
}

impl Change {
    fn set(name: &str, value: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
        }
    }
}

/// The source's limit of a batch and the room for tags.
fn largest(source: &Configs) -> Option<i64> {
    let bytes: i64 = source.get(LARGEST)?.value.parse().ok()?;
    Some(bytes.saturating_add(TAG_ROOM).min(i64::from(i32::MAX)))
}

/// What a topic that is created takes over: what it needs to hold the data, and with `all` the rest of what is set on the source topic
/// itself, as far as it `follows`.
pub fn at_creation(source: &Configs, all: bool, follows: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let taken = |name: &str| NEEDED.contains(&name) || (all && follows(name));
    let own = source
        .iter()
        .filter(|(name, config)| config.own && &***name != LARGEST && taken(name))
        .map(|(name, config)| (name.to_string(), config.value.to_string()));
    let largest = largest(source).map(|bytes| (LARGEST.to_owned(), bytes.to_string()));
    own.chain(largest).collect()
}

/// What makes the target topic's configs those of the source topic, as far as they `follow`: what is set on the source is set on the
/// target, what is not is not.
pub fn changes(source: &Configs, target: &Configs, follows: impl Fn(&str) -> bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let apart = |name: &str| name == LARGEST || !follows(name);
    for (name, wanted) in source.iter().filter(|(name, wanted)| wanted.own && !apart(name)) {
        if target.get(name) != Some(wanted) {
            changes.push(Change::set(name, Arc::clone(&wanted.value)));
        }
    }
    for (name, _) in target.iter().filter(|(name, there)| there.own && !apart(name)) {
        if !source.get(name).is_some_and(|wanted| wanted.own) {
            changes.push(Change {
                name: Arc::clone(name),
                value: None,
            });
        }
    }
    let there = target
        .get(LARGEST)
        .and_then(|config| config.value.parse::<i64>().ok());
    if let (Some(wanted), Some(there)) = (largest(source), there)
        && wanted > there
        && follows(LARGEST)
    {
        changes.push(Change::set(LARGEST, wanted.to_string()));
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `name=value` is set on the topic itself, `name:value` is the broker's.
    fn configs(text: &str) -> Configs {
        let config = |word: &str| {
            let at = word.find(['=', ':']).unwrap();
            let config = Config {
                value: word[at + 1..].into(),
                own: &word[at..=at] == "=",
            };
            (word[..at].into(), config)
        };
        text.split_whitespace().map(config).collect()
    }

    fn words(changes: &[Change]) -> String {
        let word = |change: &Change| match &change.value {
            Some(value) => format!("{}={value}", change.name),
            None => format!("{}-", change.name),
        };
        changes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn follows(name: &str) -> bool {
        name != "min.insync.replicas"
    }

    #[test]
    fn what_is_set_on_the_source_is_set_on_the_target_and_nothing_else() {
        for (source, target, expected) in [
            ("", "", ""),
            ("retention.ms=5", "retention.ms:9", "retention.ms=5"),
            // A broker's value that is equal today may be another one tomorrow.
            ("retention.ms=5", "retention.ms:5", "retention.ms=5"),
            ("retention.ms=5", "retention.ms=5", ""),
            ("retention.ms=5", "retention.ms=9", "retention.ms=5"),
            // Back to the broker's once the source has none, and where somebody set it on the target.
            ("retention.ms:7", "retention.ms=5", "retention.ms-"),
            ("", "segment.ms=5", "segment.ms-"),
            ("retention.ms:7", "retention.ms:9", ""),
            // Each cluster's own.
            ("min.insync.replicas=1", "min.insync.replicas=2", ""),
            ("min.insync.replicas=1", "min.insync.replicas:1", ""),
            ("min.insync.replicas:1", "min.insync.replicas=2", ""),
        ] {
            let changes = changes(&configs(source), &configs(target), follows);
            assert_eq!(words(&changes), expected, "{source} to {target}");
        }
    }

    #[test]
    fn the_limit_of_a_batch_is_only_raised() {
        for (source, target, expected) in [
            (":1000", ":1000", "2024"),
            ("=1000", ":2024", ""),
            ("=1000", ":2023", "2024"),
            (":1000", "=2023", "2024"),
            (":1000", "=9999", ""),
            ("=2147483647", ":1000", "2147483647"),
            ("=2147483647", "=2147483647", ""),
            (":no", ":number", ""),
        ] {
            let side = |side: &str| configs(&format!("{LARGEST}{side}"));
            let (source, target) = (side(source), side(target));
            let raised = words(&changes(&source, &target, follows));
            assert_eq!(raised.trim_start_matches("max.message.bytes="), expected);
            // Where users exclude it.
            assert_eq!(changes(&source, &target, |name| name != LARGEST), []);
        }
    }

    #[test]
    fn a_new_topic_takes_over_what_was_set_on_the_source() {
        let source = configs(
            "cleanup.policy=compact retention.ms:604800000 max.message.bytes:1048588 segment.bytes=1048576 min.insync.replicas=2",
        );
        let made = |all| {
            let made = at_creation(&source, all, follows);
            let words = made.iter().map(|(name, value)| format!("{name}={value}"));
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(made(false), "cleanup.policy=compact max.message.bytes=1049612");
        assert_eq!(
            made(true),
            "cleanup.policy=compact segment.bytes=1048576 max.message.bytes=1049612"
        );
    }

    const NAMES: [&str; 4] = ["retention.ms", "segment.ms", "min.insync.replicas", LARGEST];

    fn any_configs() -> impl Strategy<Value = Configs> {
        let config = (0..4_i64, any::<bool>()).prop_map(|(value, own)| Config {
            value: (value * 600).to_string().into(),
            own,
        });
        prop::collection::vec(prop::option::weighted(0.8, config), NAMES.len()).prop_map(|configs| {
            let named = NAMES.iter().zip(configs);
            named
                .filter_map(|(name, config)| Some(((*name).into(), config?)))
                .collect()
        })
    }

    /// What a broker does whose own values are these.
    fn apply(changes: &[Change], topic: &mut Configs, broker: &Configs) {
        for change in changes {
            let default = || broker.get(&change.name).map(|config| Arc::clone(&config.value));
            match change
                .value
                .clone()
                .map(|value| (value, true))
                .or_else(|| Some((default()?, false)))
            {
                Some((value, own)) => topic.insert(Arc::clone(&change.name), Config { value, own }),
                None => topic.remove(&change.name),
            };
        }
    }

    proptest! {
        #[test]
        fn once_changed_there_is_nothing_to_change(
            source in any_configs(), mut target in any_configs(), broker in any_configs()
        ) {
            let before = target.clone();
            apply(&changes(&source, &target, follows), &mut target, &broker);
            prop_assert_eq!(changes(&source, &target, follows), []);
            for name in NAMES {
                let (wanted, was, is) = (source.get(name), before.get(name), target.get(name));
                if !follows(name) {
                    prop_assert_eq!(was, is);
                } else if name == LARGEST {
                    let bytes = |config: Option<&Config>| config.and_then(|config| config.value.parse::<i64>().ok());
                    prop_assert!(bytes(is) >= bytes(was), "{:?} became {:?}", was, is);
                } else if wanted.is_some_and(|wanted| wanted.own) {
                    prop_assert_eq!(wanted, is);
                } else {
                    prop_assert!(!is.is_some_and(|config| config.own));
                }
            }
        }
    }
}
