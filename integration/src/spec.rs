//! What kind of cluster to start.

use std::collections::BTreeMap;

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
