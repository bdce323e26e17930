//! What MirrorMaker 2 was told, in the form of its dedicated mode, whatever form it had.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ImportError;

/// Keys and values of an `mm2.properties`.
pub(super) type Properties = BTreeMap<String, String>;

/// How the configuration was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Properties of the dedicated mode.
    Dedicated,
    /// Connectors in a Connect cluster.
    Connect,
    /// A resource of Strimzi.
    Strimzi,
}

/// Reads properties, connectors of Kafka Connect in JSON, or a KafkaMirrorMaker2 of Strimzi in JSON.
pub(super) fn read(text: &str) -> Result<(Properties, Form), ImportError> {
    if !text.trim_start().starts_with(['{', '[']) {
        let read = java_properties::read(text.as_bytes());
        let read = read.map_err(|error| ImportError::Properties(error.to_string()))?;
        return Ok((read.into_iter().collect(), Form::Dedicated));
    }
    let json: Value = serde_json::from_str(text).map_err(|error| ImportError::Json(error.to_string()))?;
    let mut properties = Properties::new();
    let form = match &json {
        Value::Array(connectors) => {
            connectors
                .iter()
                .try_for_each(|connector| connect(connector, &mut properties))?;
            Form::Connect
        }
        resource if resource["kind"] == "KafkaMirrorMaker2" => {
            strimzi(resource, &mut properties)?;
            Form::Strimzi
        }
        resource if resource["items"].is_array() => {
            let items = resource["items"].as_array().into_iter().flatten();
            for item in items {
                strimzi(item, &mut properties)?;
            }
            Form::Strimzi
        }
        connector => {
            connect(connector, &mut properties)?;
            Form::Connect
        }
    };
    Ok((properties, form))
}

/// Adds a connector: `{"name": …, "config": {…}}`, or the configuration alone.
fn connect(connector: &Value, properties: &mut Properties) -> Result<(), ImportError> {
    let config = connector["config"].as_object().or(connector.as_object());
    let config = config.ok_or(ImportError::NoConnector)?;
    let alias = |side: &str| {
        let alias = config
            .get(&format!("{side}.cluster.alias"))
            .and_then(Value::as_str);
        alias.map(str::to_owned).ok_or(ImportError::NoConnector)
    };
    let (source, target) = (alias("source")?, alias("target")?);
    cluster(&source, properties);
    cluster(&target, properties);
    let flow = format!("{source}->{target}");
    properties.insert(format!("{flow}.enabled"), "true".to_owned());
    for (key, value) in config {
        let of_cluster = |side: &str, alias: &str| {
            let rest = key.strip_prefix(side)?.strip_prefix(".cluster.")?;
            Some(format!("{alias}.{rest}"))
        };
        let name = of_cluster("source", &source).or_else(|| of_cluster("target", &target));
        let (name, mut value) = (name.unwrap_or_else(|| format!("{flow}.{key}")), word(value));
        // Several connectors between the same clusters share their work by topics, and one flow does all of it.
        if let ("topics" | "groups", Some(known)) = (&**key, properties.get(&name))
            && *known != value
        {
            value = format!("{known},{value}");
        }
        properties.insert(name, value);
    }
    Ok(())
}

/// Adds a resource of Strimzi.
fn strimzi(resource: &Value, properties: &mut Properties) -> Result<(), ImportError> {
    let spec = &resource["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for described in list(&spec["clusters"]).iter().chain(spec.get("target")) {
        let alias = described["alias"].as_str().ok_or(ImportError::NoConnector)?;
        cluster(alias, properties);
        let name = |key: &str| format!("{alias}.{key}");
        properties.insert(name("bootstrap.servers"), word(&described["bootstrapServers"]));
        add(&described["config"], |key| name(key), properties);
        for (key, storage) in [
            ("groupId", "group.id"),
            ("offsetStorageTopic", "offset.storage.topic"),
        ] {
            if let Some(value) = described.get(key) {
                properties.insert(name(storage), word(value));
            }
        }
        let (tls, kind) = (
            described.get("tls").is_some(),
            described["authentication"]["type"].as_str(),
        );
        let protocol = match (tls, kind) {
            (true, None | Some("tls")) => "SSL",
            (true, Some(_)) => "SASL_SSL",
            (false, Some(_)) => "SASL_PLAINTEXT",
            (false, None) => "PLAINTEXT",
        };
        properties.insert(name("security.protocol"), protocol.to_owned());
        if let Some(mechanism) = kind.filter(|kind| *kind != "tls") {
            properties.insert(name("sasl.mechanism"), mechanism.to_uppercase());
            let user = word(&described["authentication"]["username"]);
            properties.insert(
                name("sasl.jaas.config"),
                format!("username=\"{user}\" password=\"\""),
            );
        }
    }
    for mirror in list(&spec["mirrors"]) {
        let target = mirror.get("targetCluster").or(spec["target"].get("alias"));
        let source = mirror.get("sourceCluster").or(mirror["source"].get("alias"));
        let (Some(source), Some(target)) = (source.and_then(Value::as_str), target.and_then(Value::as_str))
        else {
            return Err(ImportError::NoConnector);
        };
        let flow = format!("{source}->{target}");
        properties.insert(format!("{flow}.enabled"), "true".to_owned());
        for (key, name) in [
            ("topicsPattern", "topics"),
            ("topicsExcludePattern", "topics.exclude"),
            ("topicsBlacklistPattern", "topics.exclude"),
            ("groupsPattern", "groups"),
            ("groupsExcludePattern", "groups.exclude"),
            ("groupsBlacklistPattern", "groups.exclude"),
        ] {
            if let Some(value) = mirror.get(key) {
                properties.insert(format!("{flow}.{name}"), word(value));
            }
        }
        for connector in ["sourceConnector", "checkpointConnector", "heartbeatConnector"] {
            add(
                &mirror[connector]["config"],
                |key| format!("{flow}.{key}"),
                properties,
            );
        }
    }
    Ok(())
}

fn cluster(alias: &str, properties: &mut Properties) {
    let known = properties.entry("clusters".to_owned()).or_default();
    if !known.split(',').any(|other| other == alias) {
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(alias);
    }
}

fn add(config: &Value, name: impl Fn(&str) -> String, properties: &mut Properties) {
    let none = Map::new();
    for (key, value) in config.as_object().unwrap_or(&none) {
        properties.insert(name(key), word(value));
    }
}

/// A value as it stands in a properties file.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
