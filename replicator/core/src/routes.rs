//! Which topics a flow copies, and under which names (INTERFACE "Configuration": `topics`, `naming`,
//! `residency`).

mod fingerprint;
mod given;
mod names;
mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use given::Given;
pub use names::{BadName, Owner, is_reserved};
use names::{MM2_HEARTBEATS, bad_name, in_names, owner};
pub use reach::names_of;

/// The topic on the source into which Kuroshio writes its heartbeats.
pub const HEARTBEATS: &str = "kuroshio.heartbeats";

/// How topics are called on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// As on the source.
    Identity,
    /// Source alias, this separator, name on the source.
    Prefix(String),
}

/// Topics that stay in some clusters by law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// Full-match regular expressions.
    pub topics: Vec<String>,
    /// Aliases of the clusters they may be copied to.
    pub stay_in: Vec<String>,
}

/// All that the routing of a flow depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// Alias of the source.
    pub source: String,
    /// Alias of the target.
    pub target: String,
    /// Aliases of all clusters in the configuration.
    pub aliases: Vec<String>,
    /// Full-match regular expressions; a topic is selected if one of them matches.
    pub include: Vec<String>,
    /// Full-match regular expressions; a topic is not selected if one of them matches.
    pub exclude: Vec<String>,
    /// Names on the target.
    pub naming: Naming,
    /// Exact source name → target name; goes before `naming`.
    pub rename: BTreeMap<String, String>,
    /// `forward: relay`: topics that were copied into the source go on.
    pub relay: bool,
    /// Topics that never leave some clusters.
    pub residency: Vec<Residency>,
    /// Copy [`HEARTBEATS`], whatever the rest says.
    pub heartbeats: bool,
    /// Copy MirrorMaker 2's `heartbeats`, whatever the rest says, as the source's alias, this, and the same.
    pub mm2_heartbeats: Option<String>,
}

/// A mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not a regular expression.
    #[error("{key}: {pattern:?} is not a regular expression: {why}")]
    Pattern {
        /// Key path below the flow (`residency…`: below the root).
        key: String,
        /// The pattern.
        pattern: String,
        /// The regex crate's words.
        why: String,
    },
    /// A separator that cannot stand in a topic name.
    #[error("prefix_separator: {0:?} cannot separate a prefix: use letters, digits, '.', '_' or '-'")]
    Separator(String),
    /// A prefixed name could have come from either cluster.
    #[error(
        "prefix_separator: {prefix:?} also begins the alias {other:?}, so a name on the target could mean either; \
         choose another separator or alias"
    )]
    AmbiguousPrefix {
        /// Alias and separator.
        prefix: String,
        /// The alias that begins with it.
        other: String,
    },
    /// A new name that no topic can have.
    #[error("topics.rename.{topic}: {name:?} {why}")]
    Rename {
        /// Name on the source.
        topic: String,
        /// The name wanted.
        name: String,
        /// What is wrong with it.
        why: BadName,
    },
}

/// Why a topic is not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unselected {
    /// It is one of Kuroshio's, MM2's, MSK's or Kafka's own.
    Reserved(Owner),
    /// A residency rule keeps it.
    Residency {
        /// The rule's pattern.
        pattern: String,
    },
    /// No pattern of `topics.include` matches.
    NotIncluded,
    /// A pattern of `topics.exclude` matches.
    Excluded {
        /// The pattern.
        pattern: String,
    },
    /// Under prefix naming: it was copied into the source from this cluster, and the flow does not relay.
    Replica {
        /// The alias in its name.
        of: String,
    },
    /// Under prefix naming: it came through the target on its way to the source. Copied again it would have ever longer names.
    Returning {
        /// The target.
        to: String,
    },
    /// The target cannot have a topic of that name.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: BadName,
    },
}

impl fmt::Display for Unselected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(owner) => write!(f, "belongs to {owner}"),
            Self::Residency { pattern } => write!(f, "must stay where it is (residency {pattern:?})"),
            Self::NotIncluded => f.write_str("not in topics.include"),
            Self::Excluded { pattern } => write!(f, "excluded by {pattern:?}"),
            Self::Replica { of } => write!(f, "a copy from {of}, and forward is local"),
            Self::Returning { to } => write!(f, "a copy that has come through {to}"),
            Self::Name { name, why } => write!(f, "the name on the target, {name:?}, {why}"),
        }
    }
}

/// Two or more topics would have one name on the target: none of them is copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topics {} would all be {target:?} on the target: rename or exclude all but one", sources.join(", "))]
pub struct Conflict {
    /// The name on the target.
    pub target: Arc<str>,
    /// The names on the source, sorted.
    pub sources: Vec<Arc<str>>,
}

/// What becomes of each topic of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePlan {
    /// Source name → target name of the topics to copy. No target name occurs twice.
    pub routes: BTreeMap<Arc<str>, Arc<str>>,
    /// Topics that are not copied, with the reason.
    pub unselected: BTreeMap<Arc<str>, Unselected>,
    /// Topics that are not copied because another one has the same target name; sorted by that name.
    pub conflicts: Vec<Conflict>,
}

/// The topic routing of one flow.
#[derive(Clone, Debug)]
pub struct Router {
    settings: RouteSettings,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// Patterns of the residency rules that keep topics from the target.
    kept: Vec<Pattern>,
    /// Names that flows give to copies.
    given: Given,
    fingerprint: u64,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    full: Regex,
}

impl Router {
    /// The router of these settings.
    ///
    /// # Errors
    /// Every mistake in the settings, in their order.
    pub fn new(settings: RouteSettings) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let include = compile("topics.include", &settings.include, &mut errors);
        let exclude = compile("topics.exclude", &settings.exclude, &mut errors);
        let mut kept = Vec::new();
        for (at, rule) in settings.residency.iter().enumerate() {
            let patterns = compile(&format!("residency[{at}].topics"), &rule.topics, &mut errors);
            if !rule.stay_in.contains(&settings.target) {
                kept.extend(patterns);
            }
        }
        check_prefixes(&settings, &mut errors);
        for (topic, name) in &settings.rename {
            if let Some(why) = bad_name(name) {
                errors.push(RouteError::Rename {
                    topic: topic.clone(),
                    name: name.clone(),
                    why,
                });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut given = Given::default();
        given.add(&settings);
        let fingerprint = fingerprint::of(&settings);
        Ok(Self {
            settings,
            include,
            exclude,
            kept,
            given,
            fingerprint,
        })
    }

    /// What it was made of.
    #[must_use]
    pub const fn settings(&self) -> &RouteSettings {
        &self.settings
    }

    /// The same router in the company of these: what they call a topic that must stay must stay too.
    #[must_use]
    pub fn among(mut self, routers: &[Self]) -> Self {
        for router in routers {
            self.given.add(&router.settings);
        }
        self
    }

    /// The name of `topic` on the target.
    ///
    /// # Errors
    /// [`Unselected`]: why it is not copied.
    pub fn route(&self, topic: &str) -> Result<Arc<str>, Unselected> {
        if topic == HEARTBEATS && self.settings.heartbeats {
            return Ok(topic.into());
        }
        if let Some(name) = self.mm2_heartbeats(topic) {
            return name;
        }
        if let Some(owner) = owner(topic) {
            return Err(Unselected::Reserved(owner));
        }
        if let Some(pattern) = self.kept(topic) {
            return Err(Unselected::Residency { pattern });
        }
        if matching(&self.include, topic).is_none() {
            return Err(Unselected::NotIncluded);
        }
        if let Some(pattern) = matching(&self.exclude, topic) {
            return Err(Unselected::Excluded { pattern });
        }
        let way = self.way(topic);
        match way.first() {
            Some(of) if !self.settings.relay => return Err(Unselected::Replica { of: (*of).to_owned() }),
            _ if way.contains(&self.settings.target.as_str()) => {
                let to = self.settings.target.clone();
                return Err(Unselected::Returning { to });
            }
            _ => {}
        }
        let name = match (self.settings.rename.get(topic), &self.settings.naming) {
            (Some(name), _) => name.clone(),
            (None, Naming::Identity) => topic.to_owned(),
            (None, Naming::Prefix(separator)) => format!("{}{separator}{topic}", self.settings.source),
        };
        match bad_name(&name) {
            Some(why) => Err(Unselected::Name { name, why }),
            None => Ok(name.into()),
        }
    }

    /// What becomes of MirrorMaker 2's heartbeats, where they are copied: the copies of other clusters' go no further.
    fn mm2_heartbeats(&self, topic: &str) -> Option<Result<Arc<str>, Unselected>> {
        let separator = self.settings.mm2_heartbeats.as_ref()?;
        let before = topic.strip_suffix(MM2_HEARTBEATS)?;
        if before.is_empty() {
            return Some(Ok(format!("{}{separator}{topic}", self.settings.source).into()));
        }
        let alias = before.strip_suffix(separator.as_str())?;
        let known = self.settings.aliases.iter().any(|known| known == alias);
        known.then_some(Err(Unselected::Reserved(Owner::MirrorMaker)))
    }

    /// The topic that is copied into `target`, if there can be one.
    #[must_use]
    pub fn source_of(&self, target: &str) -> Option<Arc<str>> {
        let renamed = self.settings.rename.iter().filter(|(_, name)| *name == target);
        let prefixed = match &self.settings.naming {
            Naming::Identity => Some(target),
            Naming::Prefix(separator) => target
                .strip_prefix(self.settings.source.as_str())
                .and_then(|rest| rest.strip_prefix(separator.as_str())),
        };
        let candidates = renamed.map(|(topic, _)| topic.as_str()).chain(prefixed);
        let mut candidates = candidates.chain([MM2_HEARTBEATS]);
        let found = candidates.find(|topic| self.route(topic).is_ok_and(|name| &*name == target))?;
        Some(found.into())
    }

    /// Under prefix naming: the clusters that the name begins with, the one that it came from last at first.
    fn way<'a>(&'a self, topic: &'a str) -> Vec<&'a str> {
        let Naming::Prefix(separator) = &self.settings.naming else {
            return Vec::new();
        };
        let (mut way, mut name) = (Vec::new(), topic);
        let step = |name: &'a str| {
            self.settings.aliases.iter().find_map(|alias| {
                let rest = name.strip_prefix(alias.as_str())?;
                let rest = rest.strip_prefix(separator.as_str())?;
                (!rest.is_empty()).then_some((alias.as_str(), rest))
            })
        };
        while let Some((alias, rest)) = step(name) {
            way.push(alias);
            name = rest;
        }
        way
    }

    /// The pattern of the residency rule that keeps the topic from the target.
    fn kept(&self, topic: &str) -> Option<String> {
        if self.kept.is_empty() {
            return None;
        }
        let births = self.given.births(topic);
        births.iter().find_map(|name| matching(&self.kept, name))
    }

    /// What is put before names on the target, if anything is.
    #[must_use]
    pub fn prefix(&self) -> Option<String> {
        match &self.settings.naming {
            Naming::Identity => None,
            Naming::Prefix(separator) => Some(format!("{}{separator}", self.settings.source)),
        }
    }

    /// What becomes of each of the source's topics. The order in which they come does not matter.
    pub fn plan(&self, topics: impl IntoIterator<Item = impl AsRef<str>>) -> RoutePlan {
        let mut plan = RoutePlan::default();
        let mut by_target: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for topic in topics {
            let topic: Arc<str> = topic.as_ref().into();
            match self.route(&topic) {
                Ok(target) => {
                    by_target.entry(target).or_default().insert(topic);
                }
                Err(why) => {
                    plan.unselected.insert(topic, why);
                }
            }
        }
        for (target, sources) in by_target {
            if sources.len() > 1 {
                plan.conflicts.push(Conflict {
                    target,
                    sources: sources.into_iter().collect(),
                });
            } else {
                plan.routes
                    .extend(sources.into_iter().map(|source| (source, Arc::clone(&target))));
            }
        }
        plan
    }

    /// A number that differs (but for chance) between settings that could copy different topics or name them
    /// differently. The order of lists, where it means nothing, does not change it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn compile(key: &str, patterns: &[String], errors: &mut Vec<RouteError>) -> Vec<Pattern> {
    let mut compiled = Vec::with_capacity(patterns.len());
    for (at, pattern) in patterns.iter().enumerate() {
        // Alone first: `a)|(b` must not become valid by the group that makes it a full match.
        match Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?:{pattern})$"))) {
            Ok(full) => compiled.push(Pattern {
                text: pattern.clone(),
                full,
            }),
            Err(error) => errors.push(RouteError::Pattern {
                key: format!("{key}[{at}]"),
                pattern: pattern.clone(),
                why: error.to_string(),
            }),
        }
    }
    compiled
}

fn matching(patterns: &[Pattern], topic: &str) -> Option<String> {
    patterns
        .iter()
        .find(|pattern| pattern.full.is_match(topic))
        .map(|pattern| pattern.text.clone())
}

fn check_prefixes(settings: &RouteSettings, errors: &mut Vec<RouteError>) {
    let Naming::Prefix(separator) = &settings.naming else {
        return;
    };
    if separator.is_empty() || !separator.chars().all(in_names) {
        errors.push(RouteError::Separator(separator.clone()));
        return;
    }
    for alias in &settings.aliases {
        let prefix = format!("{alias}{separator}");
        for other in settings.aliases.iter().filter(|other| other.starts_with(&prefix)) {
            errors.push(RouteError::AmbiguousPrefix {
                prefix: prefix.clone(),
                other: other.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
