//! The configuration: [`load`] turns the file and the environment into a [`Config`], of which only valid
//! ones exist, or into the list of everything that is wrong with it.

mod compile;
mod cross;
mod current;
mod difference;
mod endpoint;
mod file;
mod layers;
mod mistakes;
mod names;
mod paths;
mod raw;
mod security;
mod settings;
mod values;
mod walk;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kuroshio_core::routes::Router;
use kuroshio_core::secret::Secret;

pub use current::Current;
pub use difference::Difference;
pub use endpoint::Endpoint;
pub use file::File;
pub use layers::Environment;
pub use mistakes::{Mistake, Mistakes};
pub use values::{Pattern, Pumps, Start};
pub use words::{Compression, Delivery, Forward, LogFormat, LogLevel, OnDataLoss, OnTopicDelete, Partitions};

/// What the process does. Made by [`load`] or [`parse`] only.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file's `region`: run only flows with this target.
    pub region: Option<Arc<str>>,
    /// Clusters by alias.
    pub clusters: BTreeMap<Arc<str>, Cluster>,
    /// Flows in the order of the file, at least one.
    pub flows: Vec<Flow>,
    /// Where the HTTP server listens.
    pub http_listen: SocketAddr,
    /// Whether it takes commands.
    pub http_admin: bool,
    /// Its TLS; `None`: plaintext.
    pub http_tls: Option<HttpTls>,
    /// What its callers must show.
    pub http_token: Option<Secret>,
    /// This process among those of its flows.
    pub instance: Arc<str>,
    /// How long a stop may wait for records in flight.
    pub shutdown_grace: Duration,
    /// Logs.
    pub log: Log,
    /// Where traces are sent; `None`: there are none.
    pub otlp: Option<Endpoint>,
    /// Bytes of record data in flight in this process.
    pub memory: u64,
}

/// TLS of the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTls {
    /// PEM file with its certificate, and those between that and a root.
    pub cert_file: PathBuf,
    /// PEM file with the key.
    pub key_file: PathBuf,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// TLS; `None`: plaintext.
    pub tls: Option<Tls>,
    /// Who we are there; `None`: nobody in particular.
    pub sasl: Option<Sasl>,
    /// The rack that this process is in, where replicas near it are to be read (KIP-392).
    pub rack: Option<Arc<str>>,
    /// Further properties for librdkafka; none that the engine owns.
    pub librdkafka: BTreeMap<String, String>,
}

/// TLS towards a cluster's brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the roots to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How a cluster's brokers know us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// PLAIN.
    Plain(User),
    /// SCRAM-SHA-256.
    ScramSha256(User),
    /// SCRAM-SHA-512.
    ScramSha512(User),
    /// OAUTHBEARER, with tokens for client credentials (RFC 6749 §4.4).
    OauthBearer(TokenServer),
    /// OAUTHBEARER, with tokens that are signed for MSK.
    AwsMskIam {
        /// The cluster's region.
        region: Arc<str>,
        /// The role to assume; `None`: whoever this process is.
        role_arn: Option<Arc<str>>,
    },
}

/// A user with its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

/// Who gives tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenServer {
    /// Where.
    pub url: String,
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// For what.
    pub scope: Option<String>,
}

/// One direction, every setting resolved: the flow's own over `defaults` over what is built in.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its name.
    pub name: Arc<str>,
    /// Alias of the source.
    pub source: Arc<str>,
    /// Alias of the target.
    pub target: Arc<str>,
    /// Which topics, and their names on the target; residency is in it.
    pub router: Router,
    /// Topics that `topics.include` spells out.
    pub spelled: Vec<Arc<str>>,
    /// Time between two looks at the clusters' topics.
    pub refresh: Duration,
    /// Which records.
    pub forward: Forward,
    /// How often a record may arrive.
    pub delivery: Delivery,
    /// How long a transaction or a batch of positions stays open under load.
    pub commit_interval: Duration,
    /// Where partitions begin when the flow first starts.
    pub start: Start,
    /// When records are gone before they were copied.
    pub on_data_loss: OnDataLoss,
    /// When a topic is deleted on the source.
    pub on_topic_delete: OnTopicDelete,
    /// Of topics that are created; -1: the target broker's default.
    pub replication_factor: i16,
    /// Whether target topics grow.
    pub partitions: Partitions,
    /// The alias whose configs count where both flows of a pair match a topic.
    pub authority: Arc<str>,
    /// Topic configs.
    pub configs: TopicConfigs,
    /// ACLs of topics; `None`: they are not copied.
    pub acls: Option<Acls>,
    /// Consumer groups.
    pub groups: Groups,
    /// Compression on the target.
    pub compression: Compression,
    /// Bytes of records per second; `None`: as fast as it goes.
    pub throttle: Option<NonZeroU64>,
    /// Threads of this process for this flow.
    pub pumps: Pumps,
    /// This flow's part of [`Config::memory`], where it has one of its own.
    pub memory: Option<u64>,
    /// Time between two heartbeats on the source; `None`: there are none.
    pub heartbeats: Option<Duration>,
    /// Whether positions are also committed on the source.
    pub positions_on_source: bool,
    /// Topics in MirrorMaker 2's formats.
    pub mm2: Mm2Compat,
}

/// Which topics are written in MirrorMaker 2's formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mm2Compat {
    /// Its heartbeats.
    pub heartbeats: bool,
    /// Its checkpoints.
    pub checkpoints: bool,
    /// Between an alias and what follows it in their names.
    pub separator: String,
}

/// Which configs of topics follow on the target.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfigs {
    /// Whether any do, beyond what is needed to hold the data of a topic that is created.
    pub sync: bool,
    /// Names of configs that do not.
    pub exclude: Vec<Pattern>,
    /// Time between two comparisons.
    pub interval: Duration,
}

impl TopicConfigs {
    /// Whether the config of this name follows.
    #[must_use]
    pub fn follows(&self, name: &str) -> bool {
        !self.exclude.iter().any(|pattern| pattern.matches(name))
    }
}

/// How ACLs of topics follow on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acls {
    /// Time between two comparisons.
    pub interval: Duration,
    /// Whether those that the flow created are deleted once they are gone from the source.
    pub delete: bool,
}

/// Which groups' offsets follow on the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    /// Whether any do.
    pub sync: bool,
    /// Groups that do.
    pub include: Vec<Pattern>,
    /// Of these, groups that do not.
    pub exclude: Vec<Pattern>,
    /// Time between two looks at them.
    pub interval: Duration,
}

impl Groups {
    /// Whether the offsets of a group of this name follow.
    #[must_use]
    pub fn selects(&self, group: &str) -> bool {
        self.unselected(group).is_none()
    }

    /// Why the offsets of a group of this name do not follow; `None`: they do.
    #[must_use]
    pub fn unselected(&self, group: &str) -> Option<String> {
        let matching = |patterns: &[Pattern]| patterns.iter().find(|pattern| pattern.matches(group)).cloned();
        if matching(&self.include).is_none() {
            return Some("not in groups.include".to_owned());
        }
        matching(&self.exclude).map(|pattern| format!("excluded by {:?}", pattern.as_str()))
    }
}

impl Flow {
    /// Whether this flow's source decides about the topic that is called `source` there and `target` on the target: its configs,
    /// its ACLs, its end. It does unless a flow back among `flows` copies the one into the other and has the authority.
    #[must_use]
    pub fn rules(&self, flows: &[Self], source: &str, target: &str) -> bool {
        let copies_back = |back: &Self| back.router.route(target).is_ok_and(|name| *name == *source);
        self.authority == self.source || !self.back(flows).is_some_and(copies_back)
    }

    /// The same of names that may end with `*`, for all that begin so: whether it decides about any of them.
    #[must_use]
    pub fn may_rule(&self, flows: &[Self], source: &str, target: &str) -> bool {
        if !source.ends_with('*') {
            return self.rules(flows, source, target);
        }
        let copies_all_back = |back: &Self| back.router.mirrors(&self.router);
        self.authority == self.source || !self.back(flows).is_some_and(copies_all_back)
    }

    fn back<'a>(&self, flows: &'a [Self]) -> Option<&'a Self> {
        let mut flows = flows.iter();
        flows.find(|back| back.source == self.target && back.target == self.source)
    }
}

/// Logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form.
    pub format: LogFormat,
    /// Least important level; `RUST_LOG` wins.
    pub level: LogLevel,
}

impl Config {
    /// The flows that this process runs: those whose target is `region` (default: the file's), and of them
    /// those that are named, if any are.
    ///
    /// # Errors
    /// A region or flow that does not exist, a named flow outside the region, or nothing left to run.
    pub fn selected_flows(&self, region: Option<&str>, named: &[String]) -> Result<Vec<&Flow>, Mistakes> {
        let mut mistakes = Mistakes::default();
        let region = region.or(self.region.as_deref());
        if let Some(region) = region
            && !self.flows.iter().any(|flow| *flow.target == *region)
        {
            mistakes.add(
                "--region",
                format!("no flow has the target `{region}`; {}", self.targets()),
            );
        }
        for name in named {
            match self.flows.iter().find(|flow| *flow.name == **name) {
                None => mistakes.add("--flow", format!("no flow is named `{name}`; {}", self.names())),
                Some(flow) if region.is_some_and(|region| *flow.target != *region) => mistakes.add(
                    "--flow",
                    format!(
                        "the flow {name} has the target {}, not the region asked for",
                        flow.target
                    ),
                ),
                Some(_) => {}
            }
        }
        if !mistakes.0.is_empty() {
            return Err(mistakes);
        }
        let in_region = |flow: &&Flow| region.is_none_or(|region| *flow.target == *region);
        let is_named = |flow: &&Flow| named.is_empty() || named.iter().any(|name| **name == *flow.name);
        Ok(self.flows.iter().filter(in_region).filter(is_named).collect())
    }

    /// Bytes of record data that `flow` may have in flight while `running` flows share the process.
    #[must_use]
    pub fn memory_of(&self, flow: &Flow, running: usize) -> u64 {
        let share = self.memory / u64::try_from(running.max(1)).unwrap_or(1);
        flow.memory.unwrap_or(share)
    }

    fn targets(&self) -> String {
        let targets: std::collections::BTreeSet<&str> = self.flows.iter().map(|flow| &*flow.target).collect();
        format!(
            "targets are {}",
            targets.into_iter().collect::<Vec<_>>().join(", ")
        )
    }

    fn names(&self) -> String {
        format!(
            "flows are {}",
            self.flows
                .iter()
                .map(|flow| &*flow.name)
                .collect::<Vec<_>>()
                .join(", ")
        )
    }
}

/// Reads the file at `path`, with `environment` over it.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Mistakes> {
    parse(&read(path)?, environment)
}

fn read(path: &Path) -> Result<String, Mistakes> {
    file::text(path).map_err(|error| {
        let mut mistakes = Mistakes::default();
        mistakes.add(
            "--config",
            format!("the file {} cannot be read: {error}", path.display()),
        );
        mistakes
    })
}

/// Reads a YAML text, with `environment` over it.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn parse(text: &str, environment: &Environment) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes::default();
    match layers::merge(text, environment, &mut mistakes) {
        Some(tree) => made_of(tree, mistakes),
        None => Err(mistakes),
    }
}

/// The configuration of a tree, in which these mistakes were found already.
fn made_of(tree: layers::Tree, mut mistakes: Mistakes) -> Result<Config, Mistakes> {
    let config = compile::compile(tree.root, &mut mistakes);
    mistakes.name_variables(&tree.variables);
    match config {
        Some(config) if mistakes.0.is_empty() => Ok(config),
        _ => Err(mistakes),
    }
}

/// The JSON Schema of the file (draft 2020-12), without references. Made once.
#[must_use]
pub fn schema() -> &'static serde_json::Value {
    static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(|| {
        let settings = schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true);
        settings
            .into_generator()
            .into_root_schema_for::<raw::RawConfig>()
            .to_value()
    });
    &SCHEMA
}
