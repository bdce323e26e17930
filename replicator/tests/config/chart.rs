//! `values.schema.json` of the chart: its `config` is made from the schema of the file.

use std::path::Path;

use kuroshio::config;
use serde_json::{Map, Value, json};

/// Keys whose values `refuseSecrets` of the chart wants to be references.
const SECRETS: [&str; 3] = ["client_secret", "password", "token"];

fn chart(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../helm/kuroshio")
        .join(file)
}

/// The schema for values: what our formats and bounds are, other validators do not know, or know otherwise (`duration`); what is no text
/// may be a reference to one.
fn for_values(schema: &Value) -> Value {
    let Value::Object(schema) = schema else {
        return schema.clone();
    };
    let mut out = Map::new();
    for (key, value) in schema {
        let made = match (key.as_str(), value) {
            ("format" | "x-min" | "x-max" | "title" | "$schema", _) => continue,
            ("properties", Value::Object(keys)) => {
                let keys = keys.iter().map(|(key, value)| (key.clone(), for_values(value)));
                Value::Object(keys.collect())
            }
            ("items" | "additionalProperties", value) => for_values(value),
            (_, value) => value.clone(),
        };
        out.insert(key.clone(), made);
    }
    let types = match out.get("type") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => vec![],
    };
    let has = |wanted: &str| types.iter().any(|of| of == wanted);
    let plain = out.contains_key("enum") || ((has("integer") || has("boolean")) && !has("string"));
    if plain {
        let mut itself = Map::new();
        for key in ["enum", "type", "minimum", "maximum"] {
            itself.extend(out.remove(key).map(|value| (key.to_owned(), value)));
        }
        let reference = json!({ "type": "string", "pattern": "\\$\\{(env|file):" });
        out.insert("anyOf".into(), json!([itself, reference]));
    }
    Value::Object(out)
}

#[test]
fn the_schema_of_the_charts_values_follows() {
    let path = chart("values.schema.json");
    let written = std::fs::read_to_string(&path).unwrap();
    let mut schema: Value = serde_json::from_str(&written).unwrap();
    let mut config = for_values(config::schema());
    // The chart sets it.
    config["properties"]
        .as_object_mut()
        .unwrap()
        .remove("instance")
        .unwrap();
    schema["properties"]["config"] = config;
    let right = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, &right).unwrap();
        return;
    }
    assert!(
        written == right,
        "helm/kuroshio/values.schema.json is not what `kuroshio config schema` says: \
         WRITE=1 cargo test -p kuroshio --test config chart, and look at the difference"
    );
}

#[test]
fn the_chart_knows_what_is_secret() {
    fn secrets(schema: &Value, key: &str, found: &mut Vec<String>) {
        if schema.get("writeOnly").is_some() {
            found.push(key.to_owned());
        }
        for (key, below) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            secrets(below, key, found);
        }
        for inner in ["additionalProperties", "items"] {
            if let Some(inner) = schema.get(inner) {
                secrets(inner, key, found);
            }
        }
    }
    let mut found = Vec::new();
    secrets(config::schema(), "", &mut found);
    found.sort();
    found.dedup();
    assert_eq!(found, SECRETS);
    let template = std::fs::read_to_string(chart("templates/_config.tpl")).unwrap();
    assert!(template.contains(r#"(list "password" "client_secret" "token")"#));
}

#[test]
fn the_chart_has_the_version_of_the_binary() {
    let chart = std::fs::read_to_string(chart("Chart.yaml")).unwrap();
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(chart.contains(&line), "{key}");
    }
}
