//! What kind of cluster to start.

use std::collections::BTreeMap;

use crate::authority::Identity;

/// The Kafka that tests run against unless they say otherwise.
const VERSION: &str = "4.3.1";

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) alias: String,
    pub(crate) version: String,
    pub(crate) nodes: u16,
    heap_mib: u32,
    settings: BTreeMap<String, String>,
    pub(crate) linked: bool,
    pub(crate) secured: Vec<Secured>,
}

/// A listener with TLS.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// Its name, in capitals.
    pub(crate) name: &'static str,
    pub(crate) identity: Identity,
    /// Who signs the certificates of clients; none: they need none.
    pub(crate) clients: Option<String>,
    /// Whether clients say who they are.
    pub(crate) sasl: bool,
}

/// Users that a listener [`Spec::with_users`] lets in by PLAIN, each with a password; those of SCRAM are made by
/// [`crate::Cluster::scram`].
pub const PLAIN_USERS: [(&str, &str); 2] = [("alice", "planted-plain-1"), ("bob", "planted-plain-2")];

impl Secured {
    /// Adds what the broker needs for it at this port, the same inside and outside of the container.
    fn add_to(&self, port: u16, settings: &mut BTreeMap<String, String>) {
        let name = self.name;
        for (key, more) in [
            ("listeners", format!(",{name}://:{port}")),
            ("advertised.listeners", format!(",{name}://localhost:{port}")),
            (
                "listener.security.protocol.map",
                format!(",{name}:{}", if self.sasl { "SASL_SSL" } else { "SSL" }),
            ),
        ] {
            settings.entry(key.to_owned()).or_default().push_str(&more);
        }
        let mut of = |key: &str, value: String| {
            settings.insert(format!("listener.name.{}.ssl.{key}", name.to_lowercase()), value);
        };
        of("keystore.type", "PEM".to_owned());
        of("keystore.location", self.file("keystore"));
        if self.clients.is_some() {
            of("truststore.type", "PEM".to_owned());
            of("truststore.location", self.file("truststore"));
            of("client.auth", "required".to_owned());
        }
        if self.sasl {
            self.add_users_to(settings);
        }
    }

    fn add_users_to(&self, settings: &mut BTreeMap<String, String>) {
        let mut of = |key: &str, value: String| {
            settings.insert(format!("listener.name.{}.{key}", self.name.to_lowercase()), value);
        };
        let users = PLAIN_USERS.map(|(user, password)| format!("user_{user}=\"{password}\""));
        let security = "org.apache.kafka.common.security";
        for (mechanism, module, options) in [
            ("PLAIN", "plain.PlainLoginModule", users.join(" ")),
            ("SCRAM-SHA-256", "scram.ScramLoginModule", String::new()),
            ("SCRAM-SHA-512", "scram.ScramLoginModule", String::new()),
            // Takes JSON Web Tokens that nobody has signed.
            ("OAUTHBEARER", "oauthbearer.OAuthBearerLoginModule", String::new()),
        ] {
            of(
                &format!("{}.sasl.jaas.config", mechanism.to_lowercase()),
                format!("{security}.{module} required {options};"),
            );
        }
        of(
            "sasl.enabled.mechanisms",
            "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned(),
        );
        // Clients say again who they are, within this time (KIP-368).
        of("connections.max.reauth.ms", "6000".to_owned());
    }

    /// Where its file of this kind lies in the container.
    pub(crate) fn file(&self, kind: &str) -> String {
        format!("/tmp/{}-{kind}.pem", self.name.to_lowercase())
    }
}

impl Spec {
    /// One node of Kafka 4.3.1; internal topics with few partitions, no delays before a group's first rebalance.
    #[must_use]
    pub fn new(alias: &str) -> Self {
        Self {
            alias: alias.to_owned(),
            version: VERSION.to_owned(),
            nodes: 1,
            heap_mib: 512,
            settings: BTreeMap::new(),
            linked: false,
            secured: Vec::new(),
        }
    }

    /// Another Kafka version, e.g. `3.9.1` (its image must be there: `make image-kafka`).
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// So many nodes, each broker and controller. Internal topics then have as many replicas.
    #[must_use]
    pub fn nodes(mut self, nodes: u16) -> Self {
        self.nodes = nodes;
        self
    }

    /// The limit of each node's Java heap in MiB; 512 unless told.
    #[must_use]
    pub fn heap_mib(mut self, heap_mib: u32) -> Self {
        self.heap_mib = heap_mib;
        self
    }

    /// A key of `server.properties`, over the harness's own.
    #[must_use]
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a [`crate::Link`], over which clients of another region come; others do not pass it.
    #[must_use]
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// One more listener, with TLS, of this name (capital letters): see [`crate::Cluster::secured`]. With `clients`, the certificate of an
    /// authority, clients must show one that it has signed. For clusters of one node.
    #[must_use]
    pub fn secured(mut self, name: &'static str, identity: &Identity, clients: Option<&str>) -> Self {
        self.secured.push(Secured {
            name,
            identity: identity.clone(),
            clients: clients.map(str::to_owned),
            sasl: false,
        });
        self
    }

    /// One more listener, with TLS and SASL: PLAIN ([`PLAIN_USERS`]), SCRAM, and OAUTHBEARER with unsigned tokens. Everybody says again who they
    /// are after some seconds.
    #[must_use]
    pub fn with_users(mut self, name: &'static str, identity: &Identity) -> Self {
        self.secured.push(Secured {
            name,
            identity: identity.clone(),
            clients: None,
            sasl: true,
        });
        self
    }

    /// Checks ACLs; what has none is allowed to everyone. Add rules with [`crate::Cluster::acl`].
    #[must_use]
    pub fn with_acls(self) -> Self {
        self.setting(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .setting("allow.everyone.if.no.acl.found", "true")
    }

    /// The environment of node `id` (from 1), whose clients use `port` of this machine, or `entrance`, the link's.
    pub(crate) fn environment(
        &self,
        id: u16,
        hosts: &[String],
        port: u16,
        entrance: Option<u16>,
        secured: &BTreeMap<&str, u16>,
    ) -> BTreeMap<String, String> {
        let voters: Vec<_> = (1..)
            .zip(hosts)
            .map(|(id, host)| format!("{id}@{host}:9093"))
            .collect();
        let host = &hosts[usize::from(id) - 1];
        let replicas = self.nodes.to_string();
        let in_sync = if self.nodes > 2 { "2" } else { "1" };
        let mut settings: BTreeMap<String, String> = [
            ("process.roles", "broker,controller"),
            ("node.id", &id.to_string()),
            ("controller.quorum.voters", &voters.join(",")),
            ("listeners", "CLIENT://:9092,CONTROLLER://:9093,INTERNAL://:9094"),
            (
                "advertised.listeners",
                &format!("CLIENT://127.0.0.1:{port},INTERNAL://{host}:9094"),
            ),
            (
                "listener.security.protocol.map",
                "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT",
            ),
            ("inter.broker.listener.name", "INTERNAL"),
            ("controller.listener.names", "CONTROLLER"),
            ("log.dirs", "/tmp/kraft-combined-logs"),
            ("auto.create.topics.enable", "false"),
            ("default.replication.factor", &replicas),
            ("offsets.topic.num.partitions", "4"),
            ("offsets.topic.replication.factor", &replicas),
            ("transaction.state.log.num.partitions", "4"),
            ("transaction.state.log.replication.factor", &replicas),
            ("transaction.state.log.min.isr", in_sync),
            (
                "transaction.abort.timed.out.transaction.cleanup.interval.ms",
                "500",
            ),
            ("group.initial.rebalance.delay.ms", "0"),
            ("share.coordinator.state.topic.replication.factor", &replicas),
            ("share.coordinator.state.topic.min.isr", in_sync),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        if let Some(entrance) = entrance {
            for (key, more) in [
                ("listeners", ",REMOTE://:9095".to_owned()),
                ("advertised.listeners", format!(",REMOTE://127.0.0.1:{entrance}")),
                ("listener.security.protocol.map", ",REMOTE:PLAINTEXT".to_owned()),
            ] {
                settings.entry(key.to_owned()).or_default().push_str(&more);
            }
        }
        for listener in &self.secured {
            let port = secured.get(listener.name).copied().unwrap_or(0);
            listener.add_to(port, &mut settings);
        }
        settings.extend(self.settings.clone());
        let mut environment: BTreeMap<String, String> = settings
            .into_iter()
            .map(|(key, value)| (variable(&key), value))
            .collect();
        environment.insert(
            "KAFKA_HEAP_OPTS".to_owned(),
            format!("-Xms128m -Xmx{}m", self.heap_mib),
        );
        environment.insert(
            "KAFKA_JVM_PERFORMANCE_OPTS".to_owned(),
            "-server -XX:+UseSerialGC".to_owned(),
        );
        environment
    }
}

/// The name under which Kafka's image takes a setting.
fn variable(key: &str) -> String {
    format!(
        "KAFKA_{}",
        key.replace('_', "__")
            .replace('-', "___")
            .replace('.', "_")
            .to_uppercase()
    )
}
