//! `config/reference.yaml` against the schema and what is built in.

use kuroshio::config;
use serde_json::Value;

use super::{REFERENCE, SMALLEST, parse};

#[test]
fn the_reference_shows_the_defaults() {
    assert_eq!(
        format!("{:#?}", parse(REFERENCE).unwrap()),
        format!("{:#?}", parse(SMALLEST).unwrap())
    );
}

/// Calls `each` with the path of every key of the schema, its last part, and its schema.
fn keys(schema: &Value, path: &str, each: &mut dyn FnMut(&str, &str, &Value)) {
    for (key, below) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("{path}/{key}");
        each(&path, key, below);
        keys(below, &path, each);
    }
    for inner in ["additionalProperties", "items"] {
        if let Some(inner) = schema.get(inner) {
            keys(inner, path, each);
        }
    }
}

/// Key paths of a YAML text as it is laid out in the reference: block style, two blanks per level, examples
/// commented out; with each whether a comment stands above it or behind it.
fn written_keys(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut commented = false;
    for line in text.lines() {
        let as_comment = line.trim_start().strip_prefix("# ");
        let example = as_comment.filter(|inner| {
            inner
                .trim_start_matches([' ', '-'])
                .split_once(':')
                .is_some_and(|(key, _)| {
                    !key.is_empty()
                        && key
                            .chars()
                            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                })
        });
        let (indent, body) = match (as_comment, example) {
            (Some(_), Some(inner)) => {
                let indent = line.len() - line.trim_start().len();
                (
                    indent + inner.len() - inner.trim_start_matches([' ', '-']).len(),
                    inner,
                )
            }
            (Some(_), None) => {
                commented = true;
                continue;
            }
            (None, _) => (line.len() - line.trim_start_matches([' ', '-']).len(), line),
        };
        let body = body.trim_start_matches([' ', '-']);
        if body.starts_with('#') {
            commented = true;
            continue;
        }
        let Some((key, rest)) = body.split_once(':') else {
            continue;
        };
        open.retain(|(level, _)| *level < indent);
        open.push((indent, key.to_owned()));
        let path: String = open.iter().map(|(_, key)| format!("/{key}")).collect();
        found.push((path, commented || rest.contains(" # ")));
        commented = false;
    }
    found
}

#[test]
fn the_reference_has_every_key_with_a_comment() {
    let written = written_keys(REFERENCE);
    let mut missing = Vec::new();
    keys(config::schema(), "", &mut |path, _, _| {
        // Settings inside a flow are those of `defaults`.
        let is_repeated = path.starts_with("/flows/")
            && !["/name", "/source", "/target"]
                .iter()
                .any(|end| path.ends_with(end));
        // The key below `clusters` is the alias; the reference's first cluster is `tw`.
        let path = path.replace("/clusters/", "/clusters/tw/");
        let at = written.iter().find(|(written, _)| *written == path);
        if !is_repeated && !at.is_some_and(|(_, commented)| *commented) {
            missing.push(format!(
                "{path} {}",
                if at.is_some() {
                    "has no comment"
                } else {
                    "is missing"
                }
            ));
        }
    });
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_key_of_the_schema_is_described() {
    let mut bare = Vec::new();
    let mut count = 0;
    keys(config::schema(), "", &mut |path, _, schema| {
        count += 1;
        if schema
            .get("description")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            bare.push(path.to_owned());
        }
    });
    assert_eq!(bare, Vec::<String>::new());
    assert!(count > 80, "only {count} keys: is the schema still walked?");
}

#[test]
fn the_schema_accepts_the_reference_and_knows_its_keys() {
    let schema = config::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["clusters", "flows"]));
    let flow = &schema["properties"]["flows"]["items"];
    assert_eq!(flow["required"], serde_json::json!(["source", "target"]));
    assert_eq!(flow["additionalProperties"], false);
    assert_eq!(
        flow["properties"]["delivery"]["enum"],
        serde_json::json!(["exactly_once", "at_least_once"])
    );
    assert_eq!(
        schema["properties"]["defaults"]["properties"]["memory"]["default"],
        "128MiB"
    );
}
