//! The settings of a flow as they are written, in `defaults` or in the flow, with what is built in.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Alias, Pattern, Pumps, Separator, Size, Span, Start, TopicName};
use super::words::{
    Compression, Delivery, EngineName, Forward, Naming, OnDataLoss, OnTopicDelete, Partitions,
};

/// Settings of a flow.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSettings {
    /// Which topics.
    pub topics: RawTopics,
    /// `identity`: topics keep their names; `prefix`: `<source><prefix_separator><topic>`.
    pub naming: Naming,
    /// What stands between alias and topic under `naming: prefix`.
    pub prefix_separator: Separator,
    /// Which records: those born in the source, or also those passing through it.
    pub forward: Forward,
    /// How often a record may arrive.
    pub delivery: Delivery,
    /// How long a transaction or a batch of positions stays open under load.
    #[schemars(extend("x-min" = "1ms", "x-max" = "10s"))]
    pub commit_interval: Span,
    /// Where a partition without position begins when the flow first starts.
    pub start: Start,
    /// What to do when records are gone before they were copied.
    pub on_data_loss: OnDataLoss,
    /// What to do when a source topic is deleted.
    pub on_topic_delete: OnTopicDelete,
    /// Replicas of topics that are created; -1: the target broker's default.
    #[schemars(range(min = -1, max = 32767))]
    pub replication_factor: i16,
    /// Whether the target's topics grow with the source's.
    pub partitions: Partitions,
    /// `source`, or the alias whose configs count where both flows of a pair match a topic.
    pub authority: Alias,
    /// Topic configs.
    pub configs: RawConfigs,
    /// ACLs.
    pub acls: RawAcls,
    /// Consumer groups.
    pub groups: RawGroups,
    /// How batches are compressed on the target.
    pub compression: Compression,
    /// A limit on what is read.
    pub throttle: RawThrottle,
    /// What moves the records.
    pub engine: EngineName,
    /// Threads of this process for each flow.
    pub pumps: Pumps,
    /// Record data in flight in this process; inside a flow: that flow's part of it.
    #[schemars(extend("x-min" = "4MiB", "x-max" = "1TiB"))]
    pub memory: Size,
    /// Heartbeat records on the source.
    pub heartbeats: RawHeartbeats,
    /// Whether positions are also committed to the group of this flow on the source.
    pub positions_on_source: bool,
    /// Topics in MirrorMaker 2's formats.
    pub mm2_compat: RawMm2Compat,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            topics: RawTopics::default(),
            naming: Naming::Identity,
            prefix_separator: Separator(".".into()),
            forward: Forward::Local,
            delivery: Delivery::ExactlyOnce,
            commit_interval: Span(Duration::from_millis(100)),
            start: Start::Earliest,
            on_data_loss: OnDataLoss::Continue,
            on_topic_delete: OnTopicDelete::Keep,
            replication_factor: -1,
            partitions: Partitions::Sync,
            authority: Alias("source".into()),
            configs: RawConfigs::default(),
            acls: RawAcls::default(),
            groups: RawGroups::default(),
            compression: Compression::Source,
            throttle: RawThrottle::default(),
            engine: EngineName::Librdkafka,
            pumps: Pumps::Auto,
            memory: Size(128 << 20),
            heartbeats: RawHeartbeats::default(),
            positions_on_source: true,
            mm2_compat: RawMm2Compat::default(),
        }
    }
}

/// Which topics a flow copies.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTopics {
    /// Topics to copy.
    pub include: Vec<Pattern>,
    /// Topics not to copy, beside Kuroshio's, MirrorMaker 2's and MSK's own.
    pub exclude: Vec<Pattern>,
    /// How often new topics and partitions are looked for.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1h"))]
    pub refresh: Span,
    /// Exact source name to target name.
    pub rename: BTreeMap<String, TopicName>,
}

impl Default for RawTopics {
    fn default() -> Self {
        Self {
            include: patterns(&[".*"]),
            exclude: patterns(&[".*[.-]internal", "__.*", r".*\.replica"]),
            refresh: seconds(10),
            rename: BTreeMap::new(),
        }
    }
}

/// Topic configs.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfigs {
    /// Whether a topic that is created takes over the source topic's configs.
    pub sync: bool,
    /// Configs that each cluster has for itself.
    pub exclude: Vec<Pattern>,
    /// How often configs are compared.
    #[schemars(extend("x-min" = "1s", "x-max" = "1day"))]
    pub interval: Span,
}

/// As MirrorMaker 2 excludes them, with the names that KIP-937 and KIP-1030 put beside the old ones.
pub(crate) const CONFIGS_EXCLUDED: &[&str] = &[
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "message.timestamp.type",
    "message.timestamp.difference.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
];

impl Default for RawConfigs {
    fn default() -> Self {
        Self {
            sync: true,
            exclude: patterns(CONFIGS_EXCLUDED),
            interval: seconds(60),
        }
    }
}

/// ACLs.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAcls {
    /// Whether topic ACLs are copied.
    pub sync: bool,
    /// How often ACLs are compared.
    #[schemars(extend("x-min" = "1s", "x-max" = "1day"))]
    pub interval: Span,
    /// Whether ACLs that vanished on the source vanish on the target.
    pub delete: bool,
}

impl Default for RawAcls {
    fn default() -> Self {
        Self {
            sync: false,
            interval: seconds(60),
            delete: false,
        }
    }
}

/// Consumer groups.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawGroups {
    /// Whether groups' offsets are translated and committed on the target.
    pub sync: bool,
    /// Groups to translate.
    pub include: Vec<Pattern>,
    /// Groups not to translate.
    pub exclude: Vec<Pattern>,
    /// How often groups are looked at.
    #[schemars(extend("x-min" = "100ms", "x-max" = "1h"))]
    pub interval: Span,
}

impl Default for RawGroups {
    fn default() -> Self {
        Self {
            sync: true,
            include: patterns(&[".*"]),
            exclude: patterns(&["console-consumer-.*", "connect-.*", "__.*", "kuroshio.*"]),
            interval: seconds(5),
        }
    }
}

/// A limit on what is read.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawThrottle {
    /// Bytes of records per second; 0: none.
    pub bytes_per_second: Size,
}

impl Default for RawThrottle {
    fn default() -> Self {
        Self {
            bytes_per_second: Size(0),
        }
    }
}

/// Heartbeat records on the source.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHeartbeats {
    /// Whether they are written.
    pub enabled: bool,
    /// How often.
    #[schemars(extend("x-min" = "50ms", "x-max" = "1m"))]
    pub interval: Span,
}

impl Default for RawHeartbeats {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Span(Duration::from_millis(250)),
        }
    }
}

/// Topics in MirrorMaker 2's formats.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMm2Compat {
    /// Its heartbeats topic.
    pub heartbeats: bool,
    /// Its checkpoints topic.
    pub checkpoints: bool,
}

fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

/// Our own expressions: each is parsed by a test, so that none is left out silently.
fn patterns(expressions: &[&str]) -> Vec<Pattern> {
    expressions
        .iter()
        .filter_map(|expression| expression.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_expression_is_one() {
        let built_in = RawSettings::default();
        assert_eq!(built_in.topics.include.len(), 1);
        assert_eq!(built_in.topics.exclude.len(), 3);
        assert_eq!(built_in.groups.exclude.len(), 4);
        assert_eq!(built_in.configs.exclude.len(), CONFIGS_EXCLUDED.len());
    }
}
