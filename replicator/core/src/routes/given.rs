//! What copies are called.

use std::collections::{BTreeMap, BTreeSet};

use super::{Naming, RouteSettings};

/// How copies are called: residency holds for them too, whatever they are called where the flow finds them.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// What is put before names.
    prefixes: BTreeSet<String>,
    /// New names, each with the old ones.
    renamed: BTreeMap<String, BTreeSet<String>>,
}

impl Given {
    pub(super) fn add(&mut self, settings: &RouteSettings) {
        if let Naming::Prefix(separator) = &settings.naming {
            let aliases = settings.aliases.iter().chain([&settings.source]);
            self.prefixes
                .extend(aliases.map(|alias| format!("{alias}{separator}")));
        }
        for (topic, name) in &settings.rename {
            self.renamed
                .entry(name.clone())
                .or_default()
                .insert(topic.clone());
        }
    }

    /// The name, and all that the topic may have been called before.
    pub(super) fn births(&self, topic: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::from([topic.to_owned()]);
        let mut open = vec![topic.to_owned()];
        while let Some(name) = open.pop() {
            let stripped = self
                .prefixes
                .iter()
                .filter_map(|prefix| name.strip_prefix(prefix.as_str()));
            let renamed = self.renamed.get(&name).into_iter().flatten().map(String::as_str);
            for before in stripped.chain(renamed) {
                if !before.is_empty() && names.insert(before.to_owned()) {
                    open.push(before.to_owned());
                }
            }
        }
        names
    }
}
