//! `kuroshio import`: a configuration of MirrorMaker 2 as one of ours. Every key is mapped, or listed as a comment with the reason.

mod cluster;
mod flow;
mod keys;
mod mm2;
mod source;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::config::{self, Environment};
pub use mm2::Mm2Flow;
use source::Properties;

/// Why there is nothing to import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is no properties file.
    #[error("not a properties file: {0}")]
    Properties(String),
    /// The file begins like JSON and is none.
    #[error("not JSON: {0}")]
    Json(String),
    /// A connector does not say between which clusters.
    #[error(
        "no connector of MirrorMaker 2: `source.cluster.alias` and `target.cluster.alias` are missing (of Strimzi: \
         spec.clusters[].alias, spec.mirrors[].sourceCluster and targetCluster)"
    )]
    NoConnector,
    /// No clusters.
    #[error("`clusters` is missing: this is no configuration of MirrorMaker 2's dedicated mode")]
    NoClusters,
}

/// A part of the configuration that is made.
type Tree = Map<String, Value>;

/// What is found on the way.
#[derive(Debug, Default)]
struct Findings {
    /// Keys without equivalent.
    comments: Vec<String>,
    /// Variables that the result reads.
    variables: Vec<String>,
}

/// What a configuration of MirrorMaker 2 becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration that does what it does, with what has no equivalent as comments.
    pub config: String,
    /// Where it left its positions, if it ran.
    pub flows: Vec<Mm2Flow>,
}

/// Reads the configuration of a MirrorMaker 2. `offsets_topic`: Kafka Connect's topic of offsets, where the file does not say.
///
/// # Errors
/// [`ImportError`]
pub fn import(text: &str, offsets_topic: Option<&str>) -> Result<Imported, ImportError> {
    let (properties, form) = source::read(text)?;
    let aliases = properties.get("clusters").ok_or(ImportError::NoClusters)?;
    let aliases: Vec<&str> = aliases
        .split(',')
        .map(str::trim)
        .filter(|alias| !alias.is_empty())
        .collect();
    let scopes = Scopes {
        properties: &properties,
        aliases: &aliases,
    };
    let mut findings = Findings::default();
    let clusters: Tree = aliases
        .iter()
        .map(|alias| {
            let cluster = cluster::tree(alias, &scopes.of_cluster(alias), &mut findings);
            ((*alias).to_owned(), Value::Object(cluster))
        })
        .collect();
    let flows: Vec<Value> = scopes
        .flows()
        .map(|(source, target)| {
            let mut tree = flow::tree(
                &scopes.of_flow(source, target),
                &format!("{source}->{target}."),
                &mut findings,
            );
            tree.insert("source".to_owned(), source.into());
            tree.insert("target".to_owned(), target.into());
            Value::Object(tree)
        })
        .collect();
    let mut defaults = flow::tree(&scopes.global(), "", &mut findings);
    flow::mm2_defaults(&mut defaults);
    if defaults.get("naming").is_some_and(|naming| naming == "prefix") && aliases.len() > 2 {
        findings.comments.push(
            "copies of copies: MirrorMaker 2 passes topics on that came from another cluster; where that is wanted, set forward: relay"
                .to_owned(),
        );
    }
    let mut out = "# Made by `kuroshio import` from a configuration of MirrorMaker 2.\n".to_owned();
    for (key, value) in [
        ("clusters", Value::Object(clusters)),
        ("flows", Value::Array(flows)),
        ("defaults", Value::Object(defaults)),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{key}:");
        write(&value, 1, &mut out);
    }
    annotate(&findings, &mut out);
    let flows = scopes
        .flows()
        .map(|ends| mm2::flow(scopes, form, ends, offsets_topic));
    Ok(Imported {
        flows: flows.collect(),
        config: out,
    })
}

/// Adds what has no equivalent, and what this version does not take yet.
fn annotate(findings: &Findings, out: &mut String) {
    if !findings.comments.is_empty() {
        out.push_str("\n# What became of the other keys:\n");
        for comment in &findings.comments {
            let _ = writeln!(out, "# - {}", one_line(comment));
        }
    }
    let mut environment = Environment::from([("HOSTNAME".to_owned(), "import".to_owned())]);
    environment.extend(
        findings
            .variables
            .iter()
            .map(|name| (name.clone(), "x".to_owned())),
    );
    if let Err(mistakes) = config::parse(out, &environment) {
        out.push_str("\n# Not accepted as it stands:\n");
        for mistake in &mistakes.0 {
            let _ = writeln!(out, "# - {}", one_line(&mistake.to_string()));
        }
    }
}

/// Keys and values of others stand in comments: what would end a line there would begin a key of ours.
fn one_line(text: &str) -> String {
    text.replace(
        |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'),
        " ",
    )
}

/// Writes YAML: mappings and lists of mappings in blocks, everything else as JSON, which is YAML too.
fn write(value: &Value, level: usize, out: &mut String) {
    let indent = "  ".repeat(level);
    match value {
        Value::Object(tree) => {
            for (key, value) in tree {
                let key = scalar(key);
                let _ = match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        let done = writeln!(out, "{indent}{key}:");
                        write(value, level + 1, out);
                        done
                    }
                    other => writeln!(out, "{indent}{key}: {other}"),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                let from = out.len();
                write(item, level + 1, out);
                // The first key stands behind the dash.
                out.replace_range(from + indent.len()..from + indent.len() + 1, "-");
            }
        }
        other => {
            let _ = writeln!(out, "{indent}{other}");
        }
    }
}

fn scalar(text: &str) -> String {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let word = ["null", "true", "false"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if plain && !word && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

/// Whose a key is.
#[derive(Clone, Copy)]
struct Scopes<'a> {
    properties: &'a Properties,
    aliases: &'a [&'a str],
}

/// Keys without what says whose they are, and their values.
type Keys<'a> = Vec<(&'a str, &'a str)>;

impl<'a> Scopes<'a> {
    /// The cluster that a key is about: of several aliases that it begins with the longest.
    fn cluster(&self, key: &str) -> Option<&'a str> {
        let begins = |alias: &&&str| {
            key.strip_prefix(**alias)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        self.aliases
            .iter()
            .filter(begins)
            .max_by_key(|alias| alias.len())
            .copied()
    }

    fn some(&self, prefix: &str, wanted: impl Fn(&str) -> bool) -> Keys<'a> {
        let keys = self.properties.iter().filter(|(key, _)| wanted(key));
        keys.filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value.trim())))
            .collect()
    }

    fn of_cluster(&self, alias: &str) -> Keys<'a> {
        let prefix = format!("{alias}.");
        self.some(&prefix, |key| {
            key.starts_with(&prefix) && self.cluster(key) == Some(alias)
        })
    }

    fn of_flow(&self, source: &str, target: &str) -> Keys<'a> {
        let prefix = format!("{source}->{target}.");
        self.some(&prefix, |key| key.starts_with(&prefix))
    }

    fn global(&self) -> Keys<'a> {
        self.some("", |key| {
            key != "clusters" && !key.contains("->") && self.cluster(key).is_none()
        })
    }

    /// Source and target of each flow that is enabled, in the order of the clusters.
    fn flows(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let place = |alias: &str| self.aliases.iter().position(|known| *known == alias);
        let enabled = self.properties.iter().filter(|(_, value)| value.trim() == "true");
        let mut flows: Vec<_> = enabled
            .filter_map(|(key, _)| {
                let (source, target) = key.strip_suffix(".enabled")?.split_once("->")?;
                Some((place(source)?, place(target)?))
            })
            .filter(|(source, target)| source != target)
            .collect();
        flows.sort_unstable();
        flows
            .into_iter()
            .map(move |(source, target)| (self.aliases[source], self.aliases[target]))
    }
}
