//! What holds between keys: names that must exist, pairs that must agree, ids that must differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::compile::Placed;
use super::mistakes::{Mistakes, below, item};
use super::raw::RawResidency;
use super::values::{Alias, Size, TopicName};
use super::walk::one_of;

/// Group, member and transactional ids are `kuroshio.<flow>.<instance>.<pump>`, at most 249 characters.
const OWN_PARTS_CHARACTERS_MAX: usize = 249 - "kuroshio...256".len();

/// What the checks refer to.
pub(crate) struct Context<'a> {
    /// Every key of `clusters`, also of those with mistakes.
    pub aliases: &'a BTreeSet<String>,
    /// `defaults` as written.
    pub defaults: &'a Map<String, Value>,
}

/// What holds for the whole process.
pub(crate) struct Process<'a> {
    pub region: Option<&'a str>,
    pub instance: Option<&'a str>,
    pub memory: Size,
}

/// Reports every contradiction.
pub(crate) fn check(
    flows: &[Placed],
    residency: &[Option<RawResidency>],
    process: &Process<'_>,
    context: &Context<'_>,
    mistakes: &mut Mistakes,
) {
    ends(flows, context, mistakes);
    names(flows, process.instance.unwrap_or_default(), mistakes);
    topics(flows, context, mistakes);
    for placed in flows
        .iter()
        .filter(|placed| placed.flow.memory.is_some_and(|bytes| bytes > process.memory.0))
    {
        let why = format!(
            "is a part of defaults.memory, which is {}; write at most that",
            process.memory
        );
        mistakes.add(placed.path(context.defaults, &["memory"]), why);
    }
    for (index, rule) in residency.iter().enumerate() {
        let path = item("residency", index);
        for (index, alias) in rule.iter().flat_map(|rule| &rule.stay_in).enumerate() {
            known(
                &alias.0,
                &item(&below(&path, "stay_in"), index),
                context,
                mistakes,
            );
        }
        if rule.as_ref().is_some_and(|rule| rule.stay_in.is_empty()) {
            mistakes.add(
                below(&path, "stay_in"),
                "is empty; name the clusters that the topics stay in",
            );
        }
    }
    let Some(region) = process.region else { return };
    let is_known = known(region, "region", context, mistakes);
    if is_known && !flows.iter().any(|placed| *placed.flow.target == *region) {
        mistakes.add(
            "region",
            format!(
                "no flow has the target `{region}`, so nothing would run; name a target or remove the key"
            ),
        );
    }
}

/// Whether the alias is a key of `clusters`.
fn known(alias: &str, path: &str, context: &Context<'_>, mistakes: &mut Mistakes) -> bool {
    if context.aliases.contains(alias) {
        return true;
    }
    let known: Vec<&str> = context.aliases.iter().map(|alias| &**alias).collect();
    let right = if known.is_empty() {
        "define it there".to_owned()
    } else {
        format!("write {}", one_of(&known))
    };
    mistakes.add(path, format!("`{alias}` is not a cluster in `clusters`; {right}"));
    false
}

/// Source and target exist and differ, and no two flows have the same.
fn ends(flows: &[Placed], context: &Context<'_>, mistakes: &mut Mistakes) {
    let mut pairs = BTreeMap::new();
    for Placed { index, flow, .. } in flows {
        let path = item("flows", *index);
        known(&flow.source, &below(&path, "source"), context, mistakes);
        known(&flow.target, &below(&path, "target"), context, mistakes);
        if flow.source == flow.target {
            let why = format!(
                "source and target are both `{}`; a flow goes from one cluster to another",
                flow.source
            );
            mistakes.add(&path, why);
        }
        if let Some(first) = pairs.insert((&flow.source, &flow.target), *index) {
            let why = format!(
                "duplicate flow: {} already goes from {} to {}; remove one, or name all topics in one",
                item("flows", first),
                flow.source,
                flow.target,
            );
            mistakes.add(&path, why);
        }
    }
}

/// Flow names, and the ids made of flow name and instance, are each used once.
fn names(flows: &[Placed], instance: &str, mistakes: &mut Mistakes) {
    for (at, Placed { index, flow, .. }) in flows.iter().enumerate() {
        let path = below(&item("flows", *index), "name");
        for other in flows.iter().filter(|other| other.index != *index) {
            let same_ends = other.flow.source == flow.source && other.flow.target == flow.target;
            if other.flow.name == flow.name
                && flows[..at].iter().any(|earlier| earlier.index == other.index)
                && !same_ends
            {
                let why = format!(
                    "`{}` is the name of {} too; give each flow a name of its own",
                    flow.name,
                    item("flows", other.index)
                );
                mistakes.add(&path, why);
            }
            // Flow `a` of instance `b.c` and flow `a.b` of instance `c` would fence each other for ever.
            if other
                .flow
                .name
                .strip_prefix(&*flow.name)
                .is_some_and(|rest| rest.starts_with('.'))
            {
                let why = format!(
                    "`{}` followed by a point begins the name `{}` of {}; their transactional ids could be equal, rename one",
                    flow.name,
                    other.flow.name,
                    item("flows", other.index),
                );
                mistakes.add(&path, why);
            }
        }
        let characters = flow.name.len() + instance.len();
        if characters > OWN_PARTS_CHARACTERS_MAX {
            let why = format!(
                "flow name and instance have {characters} characters together, of {OWN_PARTS_CHARACTERS_MAX} that Kafka's ids leave; shorten one"
            );
            mistakes.add(&path, why);
        }
    }
}

/// Renames start at legal names and lead to one target name each; something is included.
fn topics(flows: &[Placed], context: &Context<'_>, mistakes: &mut Mistakes) {
    for placed in flows {
        let path = placed.path(context.defaults, &["topics", "rename"]);
        let mut sources: BTreeMap<&str, &str> = BTreeMap::new();
        for (from, to) in &placed.routes.rename {
            if let Err(why) = from.parse::<TopicName>() {
                mistakes.add(below(&path, from), why);
            }
            if let Some(other) = sources.insert(to, from) {
                let why =
                    format!("`{other}` is renamed to `{to}` too; two topics cannot be mapped to one name");
                mistakes.add(below(&path, from), why);
            }
        }
        if placed.include.is_empty() {
            let why = "is empty, so nothing would be copied; name topics, such as [\".*\"]";
            mistakes.add(placed.path(context.defaults, &["topics", "include"]), why);
        }
    }
}

/// Puts an alias in the place of `source`: what one flow of a pair says holds for both, else the source of
/// the first of the two in the file.
pub(crate) fn settle_authority(flows: &mut [Placed], defaults: &Map<String, Value>, mistakes: &mut Mistakes) {
    let source = Alias("source".into());
    let said: Vec<Option<Arc<str>>> = flows
        .iter()
        .map(|placed| Some(placed.flow.authority.clone()).filter(|said| *said != source.0))
        .collect();
    let mut settled = Vec::new();
    for (at, placed) in flows.iter().enumerate() {
        let flow = &placed.flow;
        let is_back = |back: &Placed| back.flow.source == flow.target && back.flow.target == flow.source;
        let back = flows.iter().position(is_back);
        let back_is_first = back.is_some_and(|back| back < at);
        let back_said = back.and_then(|back| said[back].as_ref());
        match (&said[at], back_said) {
            (Some(alias), _) if *alias != flow.source && *alias != flow.target => {
                let ends = one_of(&["source", &flow.source, &flow.target]);
                let why = format!("`{alias}` is not an end of the flow {}; write {ends}", flow.name);
                mistakes.add(placed.path(defaults, &["authority"]), why);
            }
            (Some(alias), Some(other)) if alias != other && back_is_first => {
                let why = format!(
                    "`{alias}` contradicts `{other}` of the flow back; a pair of flows has one authority"
                );
                mistakes.add(placed.path(defaults, &["authority"]), why);
            }
            _ => {}
        }
        let first_source = if back_is_first { &flow.target } else { &flow.source };
        settled.push(said[at].as_ref().or(back_said).unwrap_or(first_source).clone());
    }
    for (placed, authority) in flows.iter_mut().zip(settled) {
        placed.flow.authority = authority;
    }
}
