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
    short_lived: bool,
    settings: BTreeMap<String, String>,
    pub(crate) linked: bool,
    pub(crate) networked: bool,
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
    pub(crate) asks: Asks,
}

/// How clients of a listener say who they are.
#[derive(Clone, Debug)]
pub(crate) enum Asks {
    /// By their certificates, if at all.
    Nothing,
    /// By SASL, as users of tests.
    Users,
    /// As users of MSK's IAM; this jar knows them.
    Iam(Vec<u8>),
}

/// Where Kafka takes jars from.
pub(crate) const IAM_JAR: &str = "/opt/kafka/libs/iam-validator.jar";

/// Users that a listener [`Spec::with_users`] lets in by PLAIN, each with a password; those of SCRAM are made by
/// [`crate::Cluster::scram`].
pub const PLAIN_USERS: [(&str, &str); 2] = [("alice", "planted-plain-1"), ("bob", "planted-plain-2")];

/// The region of a listener [`Spec::with_iam`].
pub const IAM_REGION: &str = "ap-northeast-1";
/// Keys that it knows, and their secrets: one that lasts, and such as are given for a while: to a web identity, to a container, to a role.
pub const IAM_KEYS: [(&str, &str); 4] = [
    ("AKIATEST", "planted-iam-static"),
    ("ASIATESTWEB", "planted-iam-web"),
    ("ASIATESTPOD", "planted-iam-pod"),
    ("ASIATESTROLE", "planted-iam-role"),
];

impl Secured {
    /// Adds what the broker needs for it at this port, the same inside and outside of the container.
    fn add_to(&self, port: u16, settings: &mut BTreeMap<String, String>) {
        let name = self.name;
        let protocol = match self.asks {
            Asks::Nothing => "SSL",
            Asks::Users | Asks::Iam(_) => "SASL_SSL",
        };
        for (key, more) in [
            ("listeners", format!(",{name}://:{port}")),
            ("advertised.listeners", format!(",{name}://localhost:{port}")),
            ("listener.security.protocol.map", format!(",{name}:{protocol}")),
        ] {
            settings.entry(key.to_owned()).or_default().push_str(&more);
        }
        let mut of = |key: &str, value: &str| {
            let key = format!("listener.name.{}.{key}", name.to_lowercase());
            settings.insert(key, value.to_owned());
        };
        of("ssl.keystore.type", "PEM");
        of("ssl.keystore.location", &store(name, "keystore"));
        if self.clients.is_some() {
            of("ssl.truststore.type", "PEM");
            of("ssl.truststore.location", &store(name, "truststore"));
            of("ssl.client.auth", "required");
        }
        match self.asks {
            Asks::Nothing => return,
            Asks::Users => add_users(&mut of),
            Asks::Iam(_) => add_iam(&mut of),
        }
        // Clients say again who they are, within this time (KIP-368).
        of("connections.max.reauth.ms", "6000");
    }
}

/// Where the `keystore` or the `truststore` of a listener lies in the container.
pub(crate) fn store(listener: &str, kind: &str) -> String {
    format!("/tmp/{}-{kind}.pem", listener.to_lowercase())
}

/// Adds mechanisms, each with its login module and the options of that.
fn add_mechanisms(of: &mut impl FnMut(&str, &str), all: &[(&str, &str, &str)]) {
    let names: Vec<_> = all.iter().map(|(mechanism, _, _)| *mechanism).collect();
    of("sasl.enabled.mechanisms", &names.join(","));
    for (mechanism, module, options) in all {
        let module = format!("org.apache.kafka.common.security.{module}LoginModule");
        let key = format!("{}.sasl.jaas.config", mechanism.to_lowercase());
        of(&key, &format!("{module} required {options};"));
    }
}

fn add_users(of: &mut impl FnMut(&str, &str)) {
    let users = PLAIN_USERS.map(|(user, password)| format!("user_{user}=\"{password}\""));
    let all = [
        ("PLAIN", "plain.Plain", &*users.join(" ")),
        ("SCRAM-SHA-256", "scram.Scram", ""),
        ("SCRAM-SHA-512", "scram.Scram", ""),
        // Takes JSON Web Tokens that nobody has signed.
        ("OAUTHBEARER", "oauthbearer.OAuthBearer", ""),
    ];
    add_mechanisms(of, &all);
}

fn add_iam(of: &mut impl FnMut(&str, &str)) {
    add_mechanisms(of, &[("OAUTHBEARER", "oauthbearer.OAuthBearer", "")]);
    of("oauthbearer.sasl.server.callback.handler.class", "IamValidator");
    let keys = IAM_KEYS.map(|(key, secret)| format!("{key}:{secret}"));
    of("kuroshio.iam.keys", &keys.join(","));
    of("kuroshio.iam.region", IAM_REGION);
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
            short_lived: false,
            settings: BTreeMap::new(),
            linked: false,
            networked: false,
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

    /// For nodes that start often and serve little: Java compiles quickly, and not well. Six nodes that do otherwise keep two cores busy for
    /// their first two minutes.
    #[must_use]
    pub fn short_lived(mut self) -> Self {
        self.short_lived = true;
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

    /// In a network of its own, as those of several nodes are anyway: containers that are put into it reach the cluster
    /// ([`crate::Cluster::inside`]).
    #[must_use]
    pub fn networked(mut self) -> Self {
        self.networked = true;
        self
    }

    /// One more listener, with TLS, of this name (capital letters): see [`crate::Cluster::secured`]. With `clients`, the certificate of an
    /// authority, clients must show one that it has signed. For clusters of one node.
    #[must_use]
    pub fn secured(self, name: &'static str, identity: &Identity, clients: Option<&str>) -> Self {
        self.listener(name, identity, clients, Asks::Nothing)
    }

    /// One more listener, with TLS and SASL: PLAIN ([`PLAIN_USERS`]), SCRAM, and OAUTHBEARER with unsigned tokens. Everybody says again who they
    /// are after some seconds.
    #[must_use]
    pub fn with_users(self, name: &'static str, identity: &Identity) -> Self {
        self.listener(name, identity, None, Asks::Users)
    }

    /// One more listener, with TLS, for tokens of MSK's IAM that are signed with [`IAM_KEYS`] for [`IAM_REGION`]; `validator`: the jar of
    /// `IamValidator`, which looks at them. Everybody says again who they are after some seconds.
    #[must_use]
    pub fn with_iam(self, name: &'static str, identity: &Identity, validator: Vec<u8>) -> Self {
        self.listener(name, identity, None, Asks::Iam(validator))
    }

    fn listener(
        mut self,
        name: &'static str,
        identity: &Identity,
        clients: Option<&str>,
        asks: Asks,
    ) -> Self {
        self.secured.push(Secured {
            name,
            identity: identity.clone(),
            clients: clients.map(str::to_owned),
            asks,
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
        environment.extend(self.java());
        environment
    }

    /// Options of each node's Java.
    fn java(&self) -> [(String, String); 2] {
        let heap = format!("-Xms128m -Xmx{}m", self.heap_mib);
        let performance = if self.short_lived {
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        } else {
            "-server -XX:+UseSerialGC"
        };
        [
            ("KAFKA_HEAP_OPTS".to_owned(), heap),
            ("KAFKA_JVM_PERFORMANCE_OPTS".to_owned(), performance.to_owned()),
        ]
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
