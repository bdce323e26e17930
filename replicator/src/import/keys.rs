//! What becomes of each key of MirrorMaker 2.

/// What a key becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// Read by the code that makes the flow or the cluster.
    Mapped,
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Nothing, and something is lost by it.
    Lost(&'static str),
}

use Becomes::{Lost, Mapped, Nothing};

const CONNECT: &str = "Kafka Connect's own; there is no Connect here";
const SYNCS: &str = "offsets are translated by the logs themselves; there are no offset-syncs";
const BYTES: &str = "records are copied as they are";
const SELF_TUNED: &str = "the clients tune themselves, from `memory` and what they measure";
const CHECKPOINTS: &str =
    "group sync writes offsets itself; for RemoteClusterUtils there is mm2_compat.checkpoints";
const HEARTBEATS: &str =
    "Kuroshio's heartbeats are called `heartbeats`; MirrorMaker 2's are mm2_compat.heartbeats";

/// Keys of a flow, without `<source>-><target>.`, by how they begin (`*`) or in full.
const FLOW: &[(&str, Becomes)] = &[
    ("enabled", Mapped),
    ("topics", Mapped),
    ("topics.exclude", Mapped),
    ("topics.blacklist", Mapped),
    ("groups", Mapped),
    ("groups.exclude", Mapped),
    ("groups.blacklist", Mapped),
    ("replication.factor", Mapped),
    ("replication.policy.class", Mapped),
    ("replication.policy.separator", Mapped),
    ("refresh.topics.interval.seconds", Mapped),
    ("sync.group.offsets.enabled", Mapped),
    ("sync.group.offsets.interval.seconds", Mapped),
    ("sync.topic.configs.enabled", Mapped),
    ("sync.topic.configs.interval.seconds", Mapped),
    ("config.properties.exclude", Mapped),
    ("config.properties.blacklist", Mapped),
    ("consumer.auto.offset.reset", Mapped),
    ("source.consumer.auto.offset.reset", Mapped),
    ("producer.compression.type", Mapped),
    ("producer.override.compression.type", Mapped),
    ("target.producer.compression.type", Mapped),
    ("refresh.topics.enabled", Lost("new topics are always found")),
    (
        "refresh.groups.*",
        Nothing("groups are looked at every groups.interval"),
    ),
    ("sync.topic.acls.enabled", Mapped),
    ("sync.topic.acls.interval.seconds", Mapped),
    (
        "transforms*",
        Lost("records are copied unchanged; there are no transforms"),
    ),
    (
        "predicates*",
        Lost("records are copied unchanged; there are no predicates"),
    ),
    (
        "topic.filter.class",
        Lost("topics are chosen by topics.include and topics.exclude alone"),
    ),
    (
        "group.filter.class",
        Lost("groups are chosen by groups.include and groups.exclude alone"),
    ),
    (
        "config.property.filter.class",
        Lost("configs are chosen by configs.exclude alone"),
    ),
    (
        "forwarding.admin.class",
        Lost("topics are created by Kuroshio itself"),
    ),
    (
        "use.defaults.from",
        Lost("configs at their default keep the target's default"),
    ),
    ("exactly.once.*", Nothing("delivery is exactly_once by default")),
    ("emit.checkpoints.*", Nothing(CHECKPOINTS)),
    ("checkpoints.*", Nothing(CHECKPOINTS)),
    ("emit.heartbeats.*", Nothing(HEARTBEATS)),
    ("heartbeats.*", Nothing(HEARTBEATS)),
    ("emit.offset-syncs.*", Nothing(SYNCS)),
    ("offset-syncs.*", Nothing(SYNCS)),
    ("offset.lag.max", Nothing(SYNCS)),
    (
        "tasks.max",
        Nothing("one pump does the work of many tasks; `pumps` has the rest"),
    ),
    ("consumer.*", Nothing(SELF_TUNED)),
    ("producer.*", Nothing(SELF_TUNED)),
    ("admin.*", Nothing(SELF_TUNED)),
    ("source.*", Nothing(SELF_TUNED)),
    ("target.*", Nothing(SELF_TUNED)),
    ("key.converter*", Nothing(BYTES)),
    ("value.converter*", Nothing(BYTES)),
    ("header.converter*", Nothing(BYTES)),
    ("add.source.alias.to.metrics", Nothing("metrics carry the flow")),
    ("metric*", Nothing("metrics are at /metrics")),
    (
        "replication.policy.internal.topic.separator.enabled",
        Nothing(SYNCS),
    ),
    ("name", Nothing(CONNECT)),
    ("connector.class", Nothing(CONNECT)),
    ("provider.class", Nothing(CONNECT)),
    ("errors.*", Nothing(CONNECT)),
    ("offset.*", Nothing(CONNECT)),
    ("offsets.*", Nothing(CONNECT)),
    ("config.*", Nothing(CONNECT)),
    ("status.*", Nothing(CONNECT)),
    ("group.id", Nothing(CONNECT)),
    ("listeners", Nothing(CONNECT)),
    ("rest.*", Nothing(CONNECT)),
    ("plugin.*", Nothing(CONNECT)),
    (
        "dedicated.mode.enable.internal.rest",
        Nothing("processes of a flow need no way to each other"),
    ),
    ("task.*", Nothing(CONNECT)),
    ("worker.*", Nothing(CONNECT)),
];

/// Keys of a cluster, without its alias.
const CLUSTER: &[(&str, Becomes)] = &[
    ("bootstrap.servers", Mapped),
    ("security.protocol", Mapped),
    ("sasl.mechanism", Mapped),
    ("sasl.jaas.config", Mapped),
    ("sasl.client.callback.handler.class", Mapped),
    ("client.rack", Mapped),
    ("consumer.client.rack", Mapped),
    ("ssl.truststore.*", Mapped),
    ("ssl.keystore.*", Mapped),
    ("ssl.key.password", Mapped),
    (
        "ssl.endpoint.identification.algorithm",
        Lost("names in certificates are always checked"),
    ),
    ("ssl.*", Nothing("TLS has no further settings")),
    ("sasl.*", Nothing("SASL has no further settings here")),
    ("alias", Nothing("the alias is the key of the cluster")),
];

/// What becomes of a key of a flow.
pub(super) fn of_flow(key: &str) -> Becomes {
    find(key, FLOW).unwrap_or(Lost("unknown"))
}

/// What becomes of a key of a cluster. Some of a flow's are taken there by MirrorMaker 2, for all flows of the cluster.
pub(super) fn of_cluster(key: &str) -> Becomes {
    let of_flow = || match of_flow(key) {
        Mapped => Lost("said of a cluster: say it of its flows"),
        other => other,
    };
    find(key, CLUSTER).unwrap_or_else(of_flow)
}

/// By the first entry that it fits.
fn find(key: &str, table: &[(&str, Becomes)]) -> Option<Becomes> {
    let fits = |(pattern, _): &&(&str, Becomes)| match pattern.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == *pattern,
    };
    table.iter().find(fits).map(|(_, becomes)| *becomes)
}

/// The comment on a key that is not mapped.
pub(super) fn comment(name: &str, becomes: Becomes) -> Option<String> {
    match becomes {
        Mapped => None,
        Nothing(why) => Some(format!("{name}: not needed: {why}")),
        Lost(why) => Some(format!("{name}: NO EQUIVALENT: {why}")),
    }
}
