//! Where a MirrorMaker 2 keeps what it knows.

use super::Scopes;
use super::source::Form;
use kuroshio_core::mm2::checkpoints_topic;

/// A flow of a MirrorMaker 2 that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mm2Flow {
    /// Alias of its source.
    pub source: String,
    /// Alias of its target.
    pub target: String,
    /// Kafka Connect's topic of offsets, on the target.
    pub offsets_topic: String,
    /// The group of its workers on the target, where it is known: while it has members, MirrorMaker 2 runs.
    pub workers: Option<String>,
    /// Its topic of checkpoints, on the target.
    pub checkpoints_topic: String,
}

/// Where the flow from `source` to `target` left its traces; `offsets_topic` wins over what the file says.
pub(super) fn flow(
    scopes: Scopes<'_>,
    form: Form,
    (source, target): (&str, &str),
    offsets_topic: Option<&str>,
) -> Mm2Flow {
    let get = |keys: &[String]| {
        let value = |key: &String| scopes.properties.get(key).map(|value| value.trim().to_owned());
        keys.iter().find_map(value).filter(|value| !value.is_empty())
    };
    let of_flow = |key: &str| format!("{source}->{target}.{key}");
    let separator = get(&[
        of_flow("replication.policy.separator"),
        "replication.policy.separator".to_owned(),
    ]);
    let with_separator = get(&[
        of_flow("replication.policy.internal.topic.separator.enabled"),
        "replication.policy.internal.topic.separator.enabled".to_owned(),
    ]);
    let separator = separator.filter(|_| with_separator.as_deref() != Some("false"));
    let told = get(&[
        of_flow("offsets.storage.topic"),
        format!("{target}.offset.storage.topic"),
        "offset.storage.topic".to_owned(),
    ]);
    let workers = get(&[format!("{target}.group.id")]);
    // MirrorMakerConfig.workerConfig; Strimzi's defaults; the example files of Kafka Connect.
    let (topic, group) = match form {
        Form::Dedicated => (
            format!("mm2-offsets.{source}.internal"),
            Some(format!("{source}-mm2")),
        ),
        Form::Strimzi => (
            "mirrormaker2-cluster-offsets".to_owned(),
            Some("mirrormaker2-cluster".to_owned()),
        ),
        Form::Connect => ("connect-offsets".to_owned(), None),
    };
    Mm2Flow {
        source: source.to_owned(),
        target: target.to_owned(),
        offsets_topic: offsets_topic.map(str::to_owned).or(told).unwrap_or(topic),
        workers: workers.or(group),
        checkpoints_topic: checkpoints_topic(source, separator.as_deref().unwrap_or(".")),
    }
}
