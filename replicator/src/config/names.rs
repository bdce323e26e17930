//! Names: of clusters, flows, instances and topics. Kafka gives them their characters and their length.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Kafka's limit for topic names, group ids, static member ids and transactional ids that we build.
const NAME_CHARACTERS_MAX: usize = 249;

/// Kafka's characters for names of topics, groups and members.
fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn parse_name(text: &str, what: &str) -> Result<Arc<str>, String> {
    if text.is_empty() {
        return Err(format!(
            "{what} must not be empty; use letters, digits, `.`, `_` and `-`"
        ));
    }
    if !text.chars().all(is_name_character) {
        return Err(format!(
            "`{text}` is not {what}; use only letters, digits, `.`, `_` and `-`"
        ));
    }
    if text.len() > NAME_CHARACTERS_MAX {
        return Err(format!(
            "{what} may have {NAME_CHARACTERS_MAX} characters, this one has {}",
            text.len()
        ));
    }
    Ok(text.into())
}

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident, $what:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
            pub(crate) struct $name(pub Arc<str>);

            impl FromStr for $name {
                type Err = String;
                fn from_str(text: &str) -> Result<Self, String> {
                    parse_name(text, $what).map(Self)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }
        )*
    };
}

name! {
    /// The alias of a cluster.
    Alias, "an alias";
    /// A name of ours that becomes part of group, member and transactional ids.
    Name, "a name";
    /// What stands between alias and topic under `naming: prefix`.
    Separator, "a separator";
}

/// The exact name of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicName(pub Arc<str>);

impl FromStr for TopicName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "." | "..") {
            return Err(format!("Kafka does not allow a topic named `{text}`"));
        }
        parse_name(text, "a topic name").map(Self)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
