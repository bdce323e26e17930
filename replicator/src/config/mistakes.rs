//! What is wrong with a configuration: everything at once, each with its key path.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// Where, such as `flows[0].topics.include[2]`; empty: the file as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.text);
        }
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// All mistakes of a configuration, at least one, in the order of the file's sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    pub(crate) fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.0.push(Mistake {
            path: path.into(),
            text: text.into(),
        });
    }

    /// Keeps each mistake once: one in `defaults` is found again for every flow.
    pub(crate) fn once(&mut self) {
        let mut seen = BTreeSet::new();
        self.0.retain(|mistake| seen.insert(mistake.clone()));
    }

    /// Names the environment variable behind each mistake that was made in one.
    pub(crate) fn name_variables(&mut self, variables: &[(String, String)]) {
        for mistake in &mut self.0 {
            if let Some((_, variable)) = variables.iter().find(|(path, _)| *path == mistake.path) {
                mistake
                    .text
                    .push_str(&format!(" (set by the environment variable {variable})"));
            }
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => only.fmt(f),
            all => {
                write!(f, "{} mistakes in the configuration:", all.len())?;
                all.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

/// The path of `key` below `path`; keys with other characters than those of ours stand in brackets.
pub(crate) fn below(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// The path of the item `index` of the list at `path`.
pub(crate) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
