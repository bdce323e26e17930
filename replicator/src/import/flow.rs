//! The settings of a flow of MirrorMaker 2, or of all.

use serde_json::{Value, json};

use super::{Findings, Keys, Tree, keys};

/// Its groups are nobody's business on the target.
const OWN_GROUPS: &str = "kuroshio.*";

/// The settings that `keys` ask for; what becomes of the others goes to the findings, with `prefix` before it.
pub(super) fn tree(keys: &Keys<'_>, prefix: &str, findings: &mut Findings) -> Tree {
    let get = |names: &[&str]| {
        let value = |name: &&str| keys.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        names.iter().find_map(value)
    };
    let mut tree = Tree::new();
    let mut put = |path: &[&str], value: Option<Value>| {
        if let Some(value) = value {
            insert(&mut tree, path, value);
        }
    };
    let seconds = |name: &str| get(&[name]).map(|value| json!(format!("{value}s")));
    let flag = |name: &str| get(&[name]).map(|value| json!(value == "true"));
    put(&["topics", "include"], get(&["topics"]).map(patterns));
    put(
        &["topics", "exclude"],
        get(&["topics.exclude", "topics.blacklist"]).map(patterns),
    );
    put(&["topics", "refresh"], seconds("refresh.topics.interval.seconds"));
    put(&["groups", "sync"], flag("sync.group.offsets.enabled"));
    put(&["groups", "include"], get(&["groups"]).map(patterns));
    let excluded = get(&["groups.exclude", "groups.blacklist"]).map(patterns);
    put(&["groups", "exclude"], excluded.map(with_own));
    put(
        &["groups", "interval"],
        seconds("sync.group.offsets.interval.seconds"),
    );
    put(&["configs", "sync"], flag("sync.topic.configs.enabled"));
    put(
        &["configs", "interval"],
        seconds("sync.topic.configs.interval.seconds"),
    );
    put(&["acls", "sync"], flag("sync.topic.acls.enabled"));
    put(&["acls", "interval"], seconds("sync.topic.acls.interval.seconds"));
    put(
        &["configs", "exclude"],
        get(&["config.properties.exclude", "config.properties.blacklist"]).map(patterns),
    );
    let factor = get(&["replication.factor"]).and_then(|factor| factor.parse::<i16>().ok());
    put(&["replication_factor"], factor.map(Value::from));
    put(
        &["prefix_separator"],
        get(&["replication.policy.separator"]).map(Value::from),
    );
    let reset = get(&["source.consumer.auto.offset.reset", "consumer.auto.offset.reset"]);
    put(&["start"], reset.map(Value::from));
    let compression = get(&[
        "target.producer.compression.type",
        "producer.override.compression.type",
        "producer.compression.type",
    ]);
    put(&["compression"], compression.map(Value::from));
    if let Some(class) = get(&["replication.policy.class"]) {
        match class.rsplit('.').next() {
            Some("DefaultReplicationPolicy") => put(&["naming"], Some("prefix".into())),
            Some("IdentityReplicationPolicy") => put(&["naming"], Some("identity".into())),
            _ => findings.comments.push(format!(
                "{prefix}replication.policy.class: NO EQUIVALENT: {class} names topics by code; see naming and topics.rename"
            )),
        }
    }
    for (key, _) in keys {
        let comment = keys::comment(&format!("{prefix}{key}"), keys::of_flow(key));
        findings.comments.extend(comment);
    }
    tree
}

/// What MirrorMaker 2 does where it was told nothing, and Kuroshio would do otherwise.
pub(super) fn mm2_defaults(defaults: &mut Tree) {
    for (path, value) in [
        (&["naming"][..], json!("prefix")),
        (&["replication_factor"], json!(2)),
        (&["groups", "sync"], json!(false)),
        (&["acls", "sync"], json!(true)),
    ] {
        insert(defaults, path, value);
    }
}

/// Puts a value where none is.
fn insert(tree: &mut Tree, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            tree.entry(*last).or_insert(value);
        }
        [first, rest @ ..] => {
            let inner = tree.entry(*first).or_insert_with(|| Value::Object(Tree::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Regular expressions that match the whole name, separated by commas.
fn patterns(list: &str) -> Value {
    let patterns = list
        .split(',')
        .map(str::trim)
        .filter(|pattern| !pattern.is_empty());
    patterns.collect()
}

fn with_own(mut excluded: Value) -> Value {
    if let Value::Array(excluded) = &mut excluded {
        excluded.push(OWN_GROUPS.into());
    }
    excluded
}
