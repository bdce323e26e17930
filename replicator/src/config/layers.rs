//! The file and the environment, merged into one tree of values: file, over it the variables
//! `KUROSHIO__…`, then every `${env:NAME}` and `${file:/path}` replaced by what it names.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::mistakes::{Mistakes, below, item};
use super::{file, yaml};

/// Environment variables by name. Handed in, so that nothing but `main` reads the process's own.
pub type Environment = BTreeMap<String, String>;

const PREFIX: &str = "KUROSHIO__";
const SEPARATOR: &str = "__";

/// The merged tree.
pub(crate) struct Tree {
    /// A mapping.
    pub root: Value,
    /// Key paths set by environment variables, with the variable's name.
    pub variables: Vec<(String, String)>,
}

/// Reads a YAML text and lays the environment over it.
///
/// # Errors
/// The text is not YAML, or its root is not a mapping.
pub(crate) fn merge(text: &str, environment: &Environment, mistakes: &mut Mistakes) -> Option<Tree> {
    let mut root = match yaml::read(text) {
        Ok(root) => root,
        Err(error) => {
            mistakes.add("", format!("the file is not a YAML mapping: {error}"));
            return None;
        }
    };
    let variables = overlay(&mut root, environment, mistakes);
    if let Some(root) = root.as_object_mut() {
        root.entry("instance").or_insert_with(|| "${env:HOSTNAME}".into());
    }
    resolve(&mut root, "", environment, mistakes);
    Some(Tree { root, variables })
}

/// Sets the values of `KUROSHIO__…`. A segment matches an existing key whatever its case, else it is a new
/// key in lower case; in a list it is an index, of which the next free one adds an item.
fn overlay(root: &mut Value, environment: &Environment, mistakes: &mut Mistakes) -> Vec<(String, String)> {
    let mut settings: Vec<_> = environment
        .iter()
        .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)))
        .map(|(name, rest, value)| (rest.split(SEPARATOR).collect::<Vec<_>>(), name, value))
        .collect();
    // `…__2` before `…__10`: items are added in the order of their indexes.
    settings.sort_by_cached_key(|(segments, _, _)| {
        segments
            .iter()
            .map(|segment| (segment.parse::<usize>().ok(), (*segment).to_owned()))
            .collect::<Vec<_>>()
    });
    let mut variables = Vec::new();
    for (segments, name, value) in settings {
        match set(root, &segments, value) {
            Ok(path) => variables.push((path, name.clone())),
            Err(why) => mistakes.add("", format!("the environment variable {name} {why}")),
        }
    }
    variables
}

/// Sets one value and gives back its key path.
fn set(root: &mut Value, segments: &[&str], value: &str) -> Result<String, String> {
    if segments.len() > yaml::DEPTH {
        return Err(format!("has more than {} parts", yaml::DEPTH));
    }
    let mut path = String::new();
    let mut place = root;
    for segment in segments {
        if segment.is_empty() {
            return Err("has an empty part; separate keys by exactly two underscores".to_owned());
        }
        if place.is_null() {
            // Lists are made item by item; mappings have no key `0`.
            *place = if *segment == "0" {
                Value::Array(Vec::new())
            } else {
                Value::Object(Map::new())
            };
        }
        match place {
            Value::Object(map) => {
                let found = map.keys().find(|key| *key == segment);
                let found = found.or_else(|| map.keys().find(|key| key.eq_ignore_ascii_case(segment)));
                let key = found.cloned().unwrap_or_else(|| segment.to_lowercase());
                path = below(&path, &key);
                place = map.entry(key).or_insert(Value::Null);
            }
            Value::Array(list) => {
                let index = segment
                    .parse::<usize>()
                    .ok()
                    .filter(|index| *index <= list.len())
                    .ok_or_else(|| {
                        format!(
                            "has `{segment}` where an index of the list {path} is expected, 0 to {}",
                            list.len()
                        )
                    })?;
                if index == list.len() {
                    list.push(Value::Null);
                }
                path = item(&path, index);
                place = &mut list[index];
            }
            _ => return Err(format!("goes below {path}, which is a single value")),
        }
    }
    if place.is_object() || place.is_array() {
        return Err(format!(
            "would replace the whole of {path}; name the keys or items below it"
        ));
    }
    *place = Value::String(value.to_owned());
    Ok(path)
}

/// Replaces references in every text of the tree; a text that cannot be resolved is reported and dropped.
fn resolve(value: &mut Value, path: &str, environment: &Environment, mistakes: &mut Mistakes) {
    match value {
        Value::String(text) => match interpolate(text, environment) {
            Ok(resolved) => *text = resolved,
            Err(why) => {
                mistakes.add(path, why);
                *value = Value::Null;
            }
        },
        Value::Array(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                resolve(value, &item(path, index), environment, mistakes);
            }
        }
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                resolve(value, &below(path, key), environment, mistakes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `${env:NAME}` and `${file:/path}` replaced (a file without its last line break); `$${` stands for `${`.
fn interpolate(text: &str, environment: &Environment) -> Result<String, String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            resolved.push_str(before);
            resolved.push_str("${");
            rest = &reference[2..];
            continue;
        }
        resolved.push_str(before);
        let end = reference
            .find('}')
            .ok_or_else(|| format!("`{reference}` has no closing brace"))?;
        resolved.push_str(&look_up(&reference[2..end], environment)?);
        rest = &reference[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

fn look_up(reference: &str, environment: &Environment) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) => environment.get(name).cloned().ok_or_else(|| {
            format!("the environment variable {name} is not set; set it or write the value in the file")
        }),
        Some(("file", path)) => match file::text(Path::new(path)) {
            Ok(content) => {
                let content = content.strip_suffix('\n').unwrap_or(&content);
                Ok(content.strip_suffix('\r').unwrap_or(content).to_owned())
            }
            Err(error) => Err(format!("the file {path} cannot be read: {error}")),
        },
        _ => Err(format!(
            "`${{{reference}}}` is not a reference; write ${{env:NAME}} or ${{file:/path}}, or $${{ for the characters as they are"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn variables_override_the_file() {
        let text = "clusters: {Tw: {bootstrap_servers: 'a:1'}}\nflows: [{source: Tw, target: jp}]\n";
        let environment = environment(&[
            ("HOSTNAME", "h"),
            ("KUROSHIO__CLUSTERS__TW__RACK", "az1"),
            ("KUROSHIO__FLOWS__0__DELIVERY", "at_least_once"),
            ("KUROSHIO__FLOWS__1__SOURCE", "jp"),
            ("KUROSHIO__DEFAULTS__TOPICS__INCLUDE__0", "a"),
            ("KUROSHIO_SERVICE_HOST", "injected by Kubernetes, not ours"),
        ]);
        let mut mistakes = Mistakes::default();
        let tree = merge(text, &environment, &mut mistakes).unwrap();
        assert_eq!(mistakes.0, []);
        assert_eq!(
            tree.root,
            json!({
                "clusters": { "Tw": { "bootstrap_servers": "a:1", "rack": "az1" } },
                "flows": [{ "source": "Tw", "target": "jp", "delivery": "at_least_once" }, { "source": "jp" }],
                "defaults": { "topics": { "include": ["a"] } },
                "instance": "h",
            })
        );
    }

    #[test]
    fn more_than_ten_items_keep_their_order() {
        let variables: Vec<_> = (0..12)
            .map(|i| (format!("KUROSHIO__A__{i}"), format!("{i}")))
            .chain([("HOSTNAME".into(), "h".into())])
            .collect();
        let mut mistakes = Mistakes::default();
        let tree = merge("{}", &variables.into_iter().collect(), &mut mistakes).unwrap();
        assert_eq!(mistakes.0, []);
        assert_eq!(tree.root["a"][11], "11");
    }

    #[test]
    fn a_variable_goes_no_deeper_than_a_file() {
        let merged = |depth: usize| {
            let name = format!("{PREFIX}A{}", "__A".repeat(depth - 1));
            let mut mistakes = Mistakes::default();
            merge("instance: a", &environment(&[(&name, "x")]), &mut mistakes);
            mistakes.0
        };
        assert_eq!(merged(yaml::DEPTH), []);
        for depth in [yaml::DEPTH + 1, 40_000] {
            let said = merged(depth).remove(0).to_string();
            assert!(said.contains("more than 32 parts"), "{said}");
        }
    }

    #[test]
    fn references() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let path = file.path().display();
        let environment = environment(&[("A", "x"), ("B", "${env:A}")]);
        let resolved = |text: &str| interpolate(text, &environment);
        assert_eq!(resolved("${env:A}-${env:A}"), Ok("x-x".into()));
        assert_eq!(resolved(&format!("${{file:{path}}}")), Ok("secret".into()));
        assert_eq!(resolved("$${env:A}"), Ok("${env:A}".into()));
        // What a variable holds is not read as a reference again.
        assert_eq!(resolved("${env:B}"), Ok("${env:A}".into()));
        for (text, says) in [
            ("${env:NONE}", "the environment variable NONE is not set"),
            ("${file:/nowhere/x}", "the file /nowhere/x cannot be read"),
            ("${A}", "write ${env:NAME} or ${file:/path}"),
            ("${env:A", "no closing brace"),
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_without_references_is_untouched(text in "[^$]{0,40}") {
            prop_assert_eq!(interpolate(&text, &Environment::new()), Ok(text));
        }

        #[test]
        fn any_text_is_resolved_or_refused(text in ".{0,40}", name in "[${}:a-z]{0,12}") {
            drop(interpolate(&format!("{text}${{{name}"), &Environment::new()));
        }

        #[test]
        fn any_variable_name_is_taken_or_refused(rest in "[A-Z0-9_.]{0,30}") {
            let environment = environment(&[("HOSTNAME", "h"), (&format!("{PREFIX}{rest}"), "x")]);
            let mut mistakes = Mistakes::default();
            let merged = merge("flows: [{source: a}]", &environment, &mut mistakes);
            prop_assert!(merged.is_some());
        }
    }
}
