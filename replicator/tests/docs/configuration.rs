//! `docs/configuration.md`: every key as the schema has it.

use std::fmt::Write;

use kuroshio::config;
use serde_json::{Map, Value};

const PAGE: &str = "docs/configuration.md";

const HEAD: &str = "\
# Configuration

One YAML file. This page is made from its schema, which `kuroshio config schema` prints: editors complete and check by it. The file
with every default and longer comments is `config/reference.yaml`. What is wrong in a file is told all at once, each mistake with its key path
and what would be right: `kuroshio check --offline --config FILE` does nothing else.

- Only `clusters` and `flows` must be there. Unknown keys are refused. A key without a value (`null`) says nothing: its default holds.
- Every key of [`defaults`](#defaults) may be repeated inside a flow: mappings are merged key by key, a list replaces the list.
- `KUROSHIO__DEFAULTS__DELIVERY=at_least_once` in the environment goes before the file: `__` separates levels, items of a list are named by
  their index (`KUROSHIO__FLOWS__0__DELIVERY`).
- Any text may hold `${env:NAME}` or `${file:/path}`; `$${` stands for `${` itself. Keys that are *secret* are shown nowhere.
- Durations are written `250ms`, `10s`, `5m`; sizes `64KiB`, `16MiB`; patterns are regular expressions that match the whole name.
- A process that runs takes up `topics`, `groups`, `configs`, `acls`, `throttle` and `log.level`, and secrets in files
  ([While it runs](operations.md)); everything else holds from the next start on.
";

/// Sections of the page: a heading, what it is about, and where it is in the schema.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("The file", "", ""),
    (
        "clusters",
        "`clusters.ALIAS`. ",
        "/properties/clusters/additionalProperties",
    ),
    ("flows", "Items of `flows`. ", "/properties/flows/items"),
    ("defaults", "", "/properties/defaults"),
    (
        "residency",
        "Items of `residency`. ",
        "/properties/residency/items",
    ),
    ("http", "", "/properties/http"),
    ("log", "", "/properties/log"),
    ("otlp", "", "/properties/otlp"),
];

fn one<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get(key).filter(|value| !value.is_null())
}

/// Texts as they are written in the file; everything else as JSON, which YAML takes too.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What a value may be.
fn values(schema: &Value) -> String {
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        let choices: Vec<_> = choices
            .iter()
            .map(|choice| format!("`{}`", written(choice)))
            .collect();
        return choices.join(", ");
    }
    if let Some(items) = one(schema, "items") {
        return format!("list: {}", values(items));
    }
    let kind = match schema.get("type") {
        Some(Value::Array(several)) => several.iter().find_map(Value::as_str),
        Some(Value::String(one)) => Some(one.as_str()),
        _ => None,
    };
    let kind = match (schema.get("format").and_then(Value::as_str), kind) {
        (Some("int16"), _) => "whole number",
        (Some("servers"), _) => "`host:port,…`",
        (Some("scalar"), _) => "text, number or boolean",
        (Some("address"), _) => "`IP:port`",
        (Some("pumps"), _) => "`auto` or 1 to 256",
        (Some("start"), _) => "`earliest`, `latest` or an RFC 3339 time",
        (Some("endpoint"), _) => "URL",
        (Some(format), _) => format,
        (None, Some("string")) => "text",
        (None, Some("object")) => "mapping",
        (None, Some(kind)) => kind,
        (None, None) => panic!("what is {schema}?"),
    };
    let bound = |keys: [&str; 2]| {
        keys.iter()
            .find_map(|key| one(schema, key))
            .map(written)
            .map(|bound| format!("`{bound}`"))
    };
    let bounds = match (bound(["x-min", "minimum"]), bound(["x-max", "maximum"])) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", from {least}"),
        (None, Some(most)) => format!(", up to {most}"),
        (None, None) => String::new(),
    };
    let secret = if schema.get("writeOnly").is_some() {
        ", *secret*"
    } else {
        ""
    };
    format!("{kind}{bounds}{secret}")
}

/// A row for each key of `schema`, those below it behind it; `sections` have tables of their own.
fn rows(schema: &Value, path: &str, sections: &[&str], page: &mut String) {
    let none = Map::new();
    let keys = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let required = schema.get("required").and_then(Value::as_array);
    for (key, below) in keys {
        let path = format!("{path}{key}");
        let apart = sections.contains(&path.as_str());
        let mapping = one(below, "properties").is_some();
        let default = if required.is_some_and(|required| required.iter().any(|one| one == key)) {
            "**required**".to_owned()
        } else if (mapping && one(below, "default").is_some()) || apart {
            String::new()
        } else {
            below.get("default").map_or_else(String::new, |default| {
                format!("`{}`", written(default).replace('|', "\\|"))
            })
        };
        let means = below
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let name = if apart {
            format!("[`{path}`](#{path})")
        } else {
            format!("`{path}`")
        };
        writeln!(page, "| {name} | {} | {default} | {means} |", values(below)).unwrap();
        if mapping && !apart {
            rows(below, &format!("{path}."), sections, page);
        }
    }
}

/// A schema without the keys that another has.
fn without(schema: &Value, others: &Value) -> Value {
    let mut schema = schema.clone();
    let others = others["properties"].as_object().unwrap();
    let keys = schema["properties"].as_object_mut().unwrap();
    keys.retain(|key, _| !others.contains_key(key));
    schema
}

fn page() -> String {
    let schema = config::schema();
    let apart: Vec<_> = SECTIONS.iter().skip(1).map(|(name, ..)| *name).collect();
    let mut page = HEAD.to_owned();
    for (name, about, at) in SECTIONS {
        let mut part = schema.pointer(at).unwrap().clone();
        if *name == "flows" {
            part = without(&part, schema.pointer("/properties/defaults").unwrap());
        }
        let description = if at.is_empty() {
            ""
        } else {
            part["description"].as_str().unwrap()
        };
        let about = format!("{about}{description}");
        let gap = if about.is_empty() { "" } else { "\n\n" };
        write!(
            page,
            "\n## {name}\n\n{about}{gap}| key | value | default | is |\n|---|---|---|---|\n"
        )
        .unwrap();
        let sections = if at.is_empty() { apart.as_slice() } else { &[] };
        rows(&part, "", sections, &mut page);
    }
    page
}

#[test]
fn the_page_of_the_configuration_is_what_the_schema_says() {
    let right = page();
    let path = super::root().join(PAGE);
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, &right).unwrap();
        return;
    }
    assert!(
        super::text(PAGE) == right,
        "{PAGE} is not what `kuroshio config schema` says: WRITE=1 cargo test -p kuroshio --test docs configuration, and look at the \
         difference"
    );
    let rows = right.lines().filter(|line| line.starts_with("| ")).count();
    assert!(rows > 80, "only {rows} rows: is the schema still walked?");
}
