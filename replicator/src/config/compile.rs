//! From the tree of values to the configuration: what fits the schema may still contradict itself.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use kuroshio_core::secret::Secret;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::{Map, Value};

use kuroshio_core::routes::{self, Residency, RouteError, RouteSettings, Router};

use super::mistakes::{Mistakes, below, item};
use super::raw::{RawCluster, RawConfig, RawEnds, RawResidency, RawSecret};
use super::settings::RawSettings;
use super::values::{Alias, Pattern};
use super::words::{Forward, Naming};
use super::{
    Acls, Cluster, Config, Flow, Groups, HttpTls, Log, Mm2Compat, TopicConfigs, cross, paths, schema,
    security, walk,
};

/// The configuration that the tree holds; `None` (or more mistakes than before): it is not valid.
pub(crate) fn compile(root: Value, mistakes: &mut Mistakes) -> Option<Config> {
    let schema = schema();
    let aliases: BTreeSet<String> = keys_of(&root, "clusters").map(Into::into).collect();
    let root = walk::walk(root, schema, "", schema, mistakes)?;
    let defaults = root
        .get("defaults")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let raw: RawConfig = read(root, "", mistakes)?;

    let clusters = clusters(raw.clusters, mistakes);
    let residency: Vec<Residency> = raw.residency.iter().flatten().map(residency).collect();
    let house = House {
        defaults: &defaults,
        aliases: &aliases,
        residency: &residency,
    };
    let mut placed = Vec::new();
    for (index, flow) in raw.flows.into_iter().enumerate() {
        placed.extend(flow.and_then(|flow| house.place(index, flow.0, mistakes)));
    }
    if placed.is_empty() && mistakes.0.is_empty() {
        mistakes.add(
            "flows",
            "is empty; name at least one flow, such as { source: tw, target: jp }",
        );
    }
    let process = cross::Process {
        region: raw.region.as_ref().map(|alias| &*alias.0),
        instance: raw.instance.as_ref().map(|name| &*name.0),
        memory: raw.defaults.memory,
    };
    cross::check(
        &placed,
        &raw.residency,
        &process,
        &cross::Context {
            aliases: &aliases,
            defaults: &defaults,
        },
        mistakes,
    );
    let routers: Vec<Router> = placed.iter().map(|placed| placed.flow.router.clone()).collect();
    for placed in &mut placed {
        placed.flow.router = placed.flow.router.clone().among(&routers);
    }
    cross::settle_authority(&mut placed, &defaults, mistakes);
    paths::refuse_double_paths(&placed, &defaults, mistakes);
    let http_token = raw.http.token.and_then(|token| http_token(token, mistakes));
    mistakes.once();
    Some(Config {
        region: raw.region.map(|alias| alias.0),
        clusters,
        flows: placed.into_iter().map(|placed| placed.flow).collect(),
        http_listen: raw.http.listen.0,
        http_admin: raw.http.admin,
        http_tls: raw.http.tls.map(|tls| HttpTls {
            cert_file: tls.cert_file.into(),
            key_file: tls.key_file.into(),
        }),
        http_token,
        instance: raw.instance?.0,
        shutdown_grace: raw.shutdown_grace.0,
        log: Log {
            format: raw.log.format,
            level: raw.log.level,
        },
        otlp: raw.otlp.endpoint,
        memory: raw.defaults.memory.0,
    })
}

/// What can be sent in a header, and is something.
fn http_token(RawSecret(token): RawSecret, mistakes: &mut Mistakes) -> Option<Secret> {
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        let why = "is not made of one or more visible ASCII characters; `openssl rand -hex 32` makes one";
        mistakes.add("http.token", why);
        return None;
    }
    Some(token.into())
}

/// Reads a walked tree; the walker has reported and dropped whatever does not fit the type.
fn read<'de, T: Deserialize<'de>>(value: Value, path: &str, mistakes: &mut Mistakes) -> Option<T> {
    T::deserialize(value.into_deserializer())
        .map_err(|error| mistakes.add(path, error.to_string()))
        .ok()
}

fn keys_of<'a>(root: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    root.get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
}

fn clusters(raw: BTreeMap<String, RawCluster>, mistakes: &mut Mistakes) -> BTreeMap<Arc<str>, Cluster> {
    let mut clusters = BTreeMap::new();
    let mut brokers: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for (alias, raw) in raw {
        let path = below("clusters", &alias);
        let alias = match alias.parse::<Alias>() {
            Ok(alias) => alias.0,
            Err(why) => {
                mistakes.add(path, why);
                continue;
            }
        };
        for server in &raw.bootstrap_servers.0 {
            if let Some(other) = brokers.insert(server.to_lowercase(), alias.clone())
                && other != alias
            {
                let why =
                    format!("the broker {server} is named by cluster {other} too; one cluster has one alias");
                mistakes.add(below(&path, "bootstrap_servers"), why);
            }
        }
        for property in raw.librdkafka.keys() {
            if let Some(reason) = owned_property(property) {
                let why = format!("is set by Kuroshio and cannot be changed: {reason}; remove it");
                mistakes.add(below(&below(&path, "librdkafka"), property), why);
            }
        }
        let cluster = Cluster {
            bootstrap_servers: raw.bootstrap_servers.0,
            sasl: raw
                .sasl
                .and_then(|sasl| security::sasl(sasl, raw.tls.is_some(), &below(&path, "sasl"), mistakes)),
            tls: raw
                .tls
                .and_then(|raw| security::tls(raw, &below(&path, "tls"), mistakes)),
            rack: raw.rack.map(|rack| rack.0.into()),
            librdkafka: raw
                .librdkafka
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect(),
        };
        clusters.insert(alias, cluster);
    }
    clusters
}

fn residency(raw: &RawResidency) -> Residency {
    Residency {
        topics: texts(&raw.topics),
        stay_in: raw.stay_in.iter().map(ToString::to_string).collect(),
    }
}

/// A flow and where it was written.
pub(crate) struct Placed {
    /// Its place in the list.
    pub index: usize,
    /// Its own settings, without those of `defaults`.
    written: Map<String, Value>,
    /// Its `topics.include`.
    pub include: Vec<Pattern>,
    /// Its routing.
    pub routes: RouteSettings,
    /// What it is.
    pub flow: Flow,
}

impl Placed {
    /// The key path of one of its settings.
    pub(crate) fn path(&self, defaults: &Map<String, Value>, keys: &[&str]) -> String {
        setting_path(self.index, &self.written, defaults, keys)
    }
}

/// The key path of a setting of a flow: in `defaults` if it was written there and not in the flow.
fn setting_path(
    index: usize,
    written: &Map<String, Value>,
    defaults: &Map<String, Value>,
    keys: &[&str],
) -> String {
    let has = |section: &Map<String, Value>| {
        let first = keys.first().and_then(|key| section.get(*key));
        first.is_some_and(|value| {
            keys[1..]
                .iter()
                .try_fold(value, |value, key| value.get(key))
                .is_some()
        })
    };
    let start = if has(defaults) && !has(written) {
        "defaults".to_owned()
    } else {
        item("flows", index)
    };
    keys.iter().fold(start, |path, key| below(&path, key))
}

/// What a flow is placed in.
struct House<'a> {
    defaults: &'a Map<String, Value>,
    aliases: &'a BTreeSet<String>,
    residency: &'a [Residency],
}

impl House<'_> {
    /// The flow with its settings: its own over `defaults` (mappings key by key, lists as a whole).
    fn place(&self, index: usize, keys: Map<String, Value>, mistakes: &mut Mistakes) -> Option<Placed> {
        let path = item("flows", index);
        let is_end = |(key, _): &(String, Value)| RawEnds::KEYS.contains(&key.as_str());
        let (ends, written): (Map<_, _>, Map<_, _>) = keys.into_iter().partition(is_end);
        let ends: RawEnds = read(Value::Object(ends), &path, mistakes)?;
        let mut merged = Value::Object(self.defaults.clone());
        lay_over(&mut merged, Value::Object(written.clone()));
        let raw: RawSettings = read(merged, &path, mistakes)?;
        let routes = self.routes(&ends, &raw);
        let router = Router::new(routes.clone()).map_err(|errors| {
            let path = |keys: &[&str]| setting_path(index, &written, self.defaults, keys);
            for error in errors {
                let (path, text) = match &error {
                    RouteError::Rename { topic, name, why } => (
                        below(&path(&["topics", "rename"]), topic),
                        format!("`{name}` {why}; choose another name"),
                    ),
                    RouteError::AmbiguousPrefix { .. } | RouteError::Separator(_) => {
                        let text = error.to_string();
                        let text = text.strip_prefix("prefix_separator: ").unwrap_or(&text);
                        (path(&["prefix_separator"]), text.to_owned())
                    }
                    RouteError::Pattern { .. } => (item("flows", index), error.to_string()),
                };
                mistakes.add(path, text);
            }
        });
        let include = raw.topics.include.clone();
        let mut flow = flow(ends, raw, router.ok()?);
        flow.memory = flow.memory.filter(|_| written.contains_key("memory"));
        Some(Placed {
            index,
            written,
            include,
            routes,
            flow,
        })
    }

    fn routes(&self, ends: &RawEnds, raw: &RawSettings) -> RouteSettings {
        let rename = raw
            .topics
            .rename
            .iter()
            .map(|(from, to)| (from.clone(), to.to_string()));
        RouteSettings {
            source: ends.source.to_string(),
            target: ends.target.to_string(),
            aliases: self.aliases.iter().cloned().collect(),
            include: texts(&raw.topics.include),
            exclude: texts(&raw.topics.exclude),
            naming: match raw.naming {
                Naming::Identity => routes::Naming::Identity,
                Naming::Prefix => routes::Naming::Prefix(raw.prefix_separator.to_string()),
            },
            rename: rename.collect(),
            relay: raw.forward == Forward::Relay,
            residency: self.residency.to_vec(),
            heartbeats: raw.heartbeats.enabled,
            mm2_heartbeats: raw
                .mm2_compat
                .heartbeats
                .then(|| raw.prefix_separator.to_string()),
        }
    }
}

fn texts(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(ToString::to_string).collect()
}

/// Mappings are merged key by key, everything else replaced.
fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn flow(ends: RawEnds, raw: RawSettings, router: Router) -> Flow {
    let (source, target) = (ends.source.0, ends.target.0);
    Flow {
        name: ends
            .name
            .map_or_else(|| format!("{source}-{target}").into(), |name| name.0),
        source,
        target,
        router,
        spelled: raw
            .topics
            .include
            .iter()
            .flat_map(Pattern::names)
            .filter(|name| !name.ends_with('*'))
            .collect(),
        refresh: raw.topics.refresh.0,
        forward: raw.forward,
        delivery: raw.delivery,
        commit_interval: raw.commit_interval.0,
        start: raw.start,
        on_data_loss: raw.on_data_loss,
        on_topic_delete: raw.on_topic_delete,
        replication_factor: raw.replication_factor,
        partitions: raw.partitions,
        authority: raw.authority.0,
        configs: TopicConfigs {
            sync: raw.configs.sync,
            exclude: raw.configs.exclude,
            interval: raw.configs.interval.0,
        },
        acls: raw.acls.sync.then_some(Acls {
            interval: raw.acls.interval.0,
            delete: raw.acls.delete,
        }),
        groups: Groups {
            sync: raw.groups.sync,
            include: raw.groups.include,
            exclude: raw.groups.exclude,
            interval: raw.groups.interval.0,
        },
        compression: raw.compression,
        throttle: NonZeroU64::new(raw.throttle.bytes_per_second.0),
        pumps: raw.pumps,
        memory: Some(raw.memory.0),
        heartbeats: raw.heartbeats.enabled.then_some(raw.heartbeats.interval.0),
        positions_on_source: raw.positions_on_source,
        mm2: Mm2Compat {
            heartbeats: raw.mm2_compat.heartbeats,
            checkpoints: raw.mm2_compat.checkpoints,
            separator: raw.prefix_separator.to_string(),
        },
    }
}

/// Why a property of librdkafka is not for the file, if it is one of those that the engine sets.
fn owned_property(property: &str) -> Option<&'static str> {
    let owned = kuroshio_librdkafka::owned_properties().iter();
    owned
        .copied()
        .find(|(name, _)| *name == property)
        .map(|(_, reason)| reason)
}
