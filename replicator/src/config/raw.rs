//! The file as it is written. The JSON Schema is made from these types, and so are the walker's rules:
//! what is a key, what its value may be, and what holds where it is absent.
//!
//! Items of `flows` and `residency` are `None` where the walker found a mistake, so that the others keep
//! their index. `x-min` and `x-max` bound durations and sizes, `minimum` and `maximum` plain numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::endpoint::Endpoint;
use super::settings::RawSettings;
use super::values::{Alias, Listen, Name, Pattern, Scalar, Servers, Span};
use super::words::{LogFormat, LogLevel, Mechanism};

/// The configuration of Kuroshio.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Kuroshio configuration")]
pub(crate) struct RawConfig {
    /// Run only the flows whose target is this cluster; absent: all flows.
    #[serde(default)]
    pub region: Option<Alias>,
    /// The clusters by alias: the cluster's name in tags, topic prefixes and metrics.
    pub clusters: BTreeMap<String, RawCluster>,
    /// The flows: one direction each.
    #[schemars(with = "Vec<RawFlow>")]
    pub flows: Vec<Option<RawFlow>>,
    /// What holds for every flow that does not say otherwise.
    #[serde(default)]
    pub defaults: RawSettings,
    /// Topics that never leave some clusters, whatever the flows say.
    #[serde(default)]
    #[schemars(with = "Vec<RawResidency>")]
    pub residency: Vec<Option<RawResidency>>,
    /// The HTTP server for metrics, probes and status.
    #[serde(default)]
    pub http: RawHttp,
    /// This process among those of its flows: stable over restarts, one process each.
    #[serde(default)]
    #[schemars(extend("default" = "${env:HOSTNAME}"))]
    pub instance: Option<Name>,
    /// How long a stop may wait for records in flight.
    #[serde(default = "default_shutdown_grace")]
    #[schemars(extend("x-max" = "1h"))]
    pub shutdown_grace: Span,
    /// Logs on stderr.
    #[serde(default)]
    pub log: RawLog,
    /// OpenTelemetry traces.
    #[serde(default)]
    pub otlp: RawOtlp,
}

fn default_shutdown_grace() -> Span {
    Span(Duration::from_secs(30))
}

/// A cluster.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCluster {
    /// Brokers to begin with, `host:port`, several separated by commas.
    pub bootstrap_servers: Servers,
    /// TLS; absent: plaintext, `{}`: the system's roots.
    #[serde(default)]
    pub tls: Option<RawTls>,
    /// Authentication.
    #[serde(default)]
    pub sasl: Option<RawSasl>,
    /// Where this process runs, in the brokers' words: read from the nearest replica (KIP-392).
    #[serde(default)]
    pub rack: Option<Scalar>,
    /// Other properties of librdkafka, for that engine's clients of this cluster.
    #[serde(default)]
    pub librdkafka: BTreeMap<String, Scalar>,
}

/// TLS towards a cluster.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTls {
    /// PEM file with the roots to trust.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// PEM file with the client's certificate.
    #[serde(default)]
    pub cert_file: Option<String>,
    /// PEM file with the client's key.
    #[serde(default)]
    pub key_file: Option<String>,
}

/// Authentication towards a cluster.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSasl {
    /// The mechanism; it decides which of the other keys count.
    pub mechanism: Mechanism,
    /// plain, scram: the user.
    #[serde(default)]
    pub username: Option<String>,
    /// plain, scram: the password.
    #[serde(default)]
    pub password: Option<RawSecret>,
    /// oauthbearer: where tokens are fetched.
    #[serde(default)]
    pub token_url: Option<String>,
    /// oauthbearer: the client's id.
    #[serde(default)]
    pub client_id: Option<String>,
    /// oauthbearer: the client's secret.
    #[serde(default)]
    pub client_secret: Option<RawSecret>,
    /// oauthbearer: the scope asked for.
    #[serde(default)]
    pub scope: Option<String>,
    /// aws-msk-iam: the region of the cluster.
    #[serde(default)]
    pub aws_region: Option<String>,
    /// aws-msk-iam: a role to assume.
    #[serde(default)]
    pub role_arn: Option<String>,
}

/// A text that is not printed.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("writeOnly" = true))]
pub(crate) struct RawSecret(pub String);

impl std::fmt::Debug for RawSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// One direction: the keys `name`, `source`, `target`, and every key of `defaults`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct RawFlow(pub Map<String, Value>);

/// What only a flow has.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEnds {
    /// The flow's name; default: `<source>-<target>`.
    #[serde(default)]
    pub name: Option<Name>,
    /// The cluster whose records are copied.
    pub source: Alias,
    /// The cluster that they are copied to.
    pub target: Alias,
}

impl RawEnds {
    /// Its keys, which stand beside the settings in the file.
    pub(crate) const KEYS: [&str; 3] = ["name", "source", "target"];
}

impl JsonSchema for RawFlow {
    fn schema_name() -> Cow<'static, str> {
        "RawFlow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut flow = RawEnds::json_schema(generator);
        let settings = RawSettings::json_schema(generator);
        let settings = settings
            .get("properties")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if let Some(keys) = flow.get_mut("properties").and_then(Value::as_object_mut) {
            keys.extend(settings);
        }
        flow.insert(
            "description".into(),
            "One direction, with every key of `defaults`.".into(),
        );
        flow
    }
}

/// Topics that never leave some clusters.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawResidency {
    /// Which topics, by the name in the cluster they were born in.
    pub topics: Vec<Pattern>,
    /// The clusters they stay in.
    pub stay_in: Vec<Alias>,
}

/// The HTTP server.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHttp {
    /// IP address and port.
    pub listen: Listen,
    /// Whether flows can be paused and resumed through it.
    pub admin: bool,
    /// TLS of the server.
    pub tls: Option<RawHttpTls>,
    /// Bearer token that callers must show, but for probes and health checks.
    pub token: Option<RawSecret>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            listen: Listen(([0, 0, 0, 0], 8080).into()),
            admin: false,
            tls: None,
            token: None,
        }
    }
}

/// TLS of the HTTP server.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHttpTls {
    /// PEM file with the server's certificate, and those between it and a root.
    pub cert_file: String,
    /// PEM file with its key.
    pub key_file: String,
}

/// Logs.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    /// One JSON object per line, or text for people.
    pub format: LogFormat,
    /// The least important level shown; the environment variable `RUST_LOG` wins.
    pub level: LogLevel,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: LogLevel::Info,
        }
    }
}

/// OpenTelemetry.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawOtlp {
    /// Where traces are sent, as OTLP over gRPC.
    pub endpoint: Option<Endpoint>,
}
