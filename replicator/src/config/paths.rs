//! Refuses relay graphs in which a record could reach a cluster by two paths: it would arrive twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use kuroshio_core::routes::Naming;

use super::compile::Placed;
use super::mistakes::Mistakes;
use super::values::Pattern;
use super::words::Forward;

/// Topics that may travel a path: their name at birth and their name where the path ends. `None`: any.
type Travellers = Option<BTreeMap<String, String>>;

/// Reports every pair of clusters between which two paths exist for one topic. The first flow of a path
/// forwards what was born in its source, each later one must relay; no path enters a cluster twice.
///
/// It is conservative: only `include` lists made of plain names are known not to overlap.
pub(crate) fn refuse_double_paths(flows: &[Placed], defaults: &Map<String, Value>, mistakes: &mut Mistakes) {
    let births: BTreeSet<&str> = flows.iter().map(|placed| &*placed.flow.source).collect();
    for birth in births {
        let mut search = Search {
            flows,
            defaults,
            found: BTreeMap::new(),
            reported: BTreeSet::new(),
            mistakes,
        };
        search.extend(&[birth], &[], &None);
    }
}

struct Search<'a> {
    flows: &'a [Placed],
    defaults: &'a Map<String, Value>,
    /// Paths by their end, as indexes into `flows`.
    found: BTreeMap<&'a str, Vec<(Vec<usize>, Travellers)>>,
    reported: BTreeSet<&'a str>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Search<'a> {
    fn extend(&mut self, clusters: &[&'a str], path: &[usize], travellers: &Travellers) {
        let Some(&here) = clusters.last() else { return };
        let flows = self.flows;
        for (at, placed) in flows.iter().enumerate() {
            let flow = &placed.flow;
            let goes_on = path.is_empty() || flow.forward == Forward::Relay;
            if *flow.source != *here || !goes_on || clusters.contains(&&*flow.target) {
                continue;
            }
            let same_ends =
                |other: &Placed| other.flow.source == flow.source && other.flow.target == flow.target;
            if flows[..at].iter().any(same_ends) {
                continue; // A duplicate flow, which has been reported as such.
            }
            let travellers = through(travellers, placed);
            if travellers.as_ref().is_some_and(BTreeMap::is_empty) {
                continue;
            }
            let path = [path, &[at]].concat();
            // A second path to here makes everything behind it double as well: said once is enough.
            if self.meets_another(&flow.target, &path, &travellers) {
                continue;
            }
            self.found
                .entry(&flow.target)
                .or_default()
                .push((path.clone(), travellers.clone()));
            self.extend(&[clusters, &[&*flow.target]].concat(), &path, &travellers);
        }
    }

    fn meets_another(&mut self, end: &'a str, path: &[usize], travellers: &Travellers) -> bool {
        let others = self.found.get(end).into_iter().flatten();
        let Some((other, _)) = others.into_iter().find(|(_, others)| overlap(others, travellers)) else {
            return false;
        };
        if self.reported.insert(end) {
            let names = |path: &[usize]| {
                path.iter()
                    .map(|at| &*self.flows[*at].flow.name)
                    .collect::<Vec<_>>()
                    .join(" > ")
            };
            // The last relaying flow of the longer path is the one to change.
            let longer = if other.len() > path.len() {
                other.as_slice()
            } else {
                path
            };
            let change = longer
                .last()
                .map(|at| self.flows[*at].path(self.defaults, &["forward"]));
            let birth = path.first().map_or("", |at| &*self.flows[*at].flow.source);
            self.mistakes.add(
                change.unwrap_or_default(),
                format!(
                    "records born in {birth} would reach {end} by two paths, {} and {}, and arrive twice; set forward: local, remove a flow, or let their topics.include name different topics",
                    names(other),
                    names(path),
                ),
            );
        }
        true
    }
}

/// What of `travellers` a flow lets pass, under the names that it gives them.
fn through(travellers: &Travellers, placed: &Placed) -> Travellers {
    let names = placed.include.iter().flat_map(Pattern::names);
    let named = names.map(|name| (!name.ends_with('*')).then(|| name.to_string()));
    let included: Option<BTreeSet<String>> = named.collect();
    let routes = &placed.routes;
    let renamed = |name: &str| match (routes.rename.get(name), &routes.naming) {
        (Some(name), _) => name.clone(),
        (None, Naming::Identity) => name.to_owned(),
        (None, Naming::Prefix(separator)) => format!("{}{separator}{name}", routes.source),
    };
    match (travellers, included) {
        (None, None) => None,
        // Plain names in the middle of a path: what they were called at birth is not known if some flow
        // before renames, so they are taken for what they are called here.
        (None, Some(names)) => Some(
            names
                .into_iter()
                .map(|name| (name.clone(), renamed(&name)))
                .collect(),
        ),
        (Some(travellers), _) => {
            let pass = travellers
                .iter()
                .filter(|(_, name)| placed.include.iter().any(|include| include.matches(name)));
            Some(pass.map(|(birth, name)| (birth.clone(), renamed(name))).collect())
        }
    }
}

fn overlap(one: &Travellers, other: &Travellers) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.keys().any(|birth| other.contains_key(birth)),
        _ => true,
    }
}
