//! The two clusters of a move, and the flows between them.

use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Class, Cluster};

use super::FailoverError;
use crate::app;
use crate::config::{Config, Flow, Mistakes};

/// How long the source may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Both clusters.
pub(super) struct Ends<'a> {
    /// Where groups come from.
    pub(super) from: Cluster,
    /// Where they go.
    pub(super) to: Cluster,
    /// Flows from there to there, at least one.
    pub(super) flows: Vec<&'a Flow>,
    /// All flows of the configuration.
    pub(super) all: &'a [Flow],
    /// Why the source cannot be asked.
    pub(super) lost: Option<String>,
}

impl<'a> Ends<'a> {
    /// Looks the flows up, and whether the source is there; the target must be.
    pub(super) async fn of(config: &'a Config, from: &str, to: &str) -> Result<Self, FailoverError> {
        let mut mistakes = Mistakes::default();
        let mut cluster = |option: &'static str, alias: &str| {
            let cluster = app::cluster(config, alias, false);
            if cluster.is_none() {
                let known: Vec<&str> = config.clusters.keys().map(|alias| &**alias).collect();
                let known = known.join(", ");
                mistakes.add(
                    option,
                    format!("no cluster is named `{alias}`; clusters are {known}"),
                );
            }
            cluster
        };
        let (source, target) = (cluster("--from", from), cluster("--to", to));
        let (Some(source), Some(target)) = (source, target) else {
            return Err(mistakes.into());
        };
        let flows: Vec<&Flow> = flows(&config.flows, from, to).collect();
        if flows.is_empty() {
            mistakes.add("--from", format!("no flow leads from {from} to {to}"));
            return Err(mistakes.into());
        }
        target.metadata(kuroshio_wire::Topics::None).await?;
        let seen = source
            .within(PATIENCE)
            .metadata(kuroshio_wire::Topics::None)
            .await;
        let lost = match seen {
            Ok(_) => None,
            Err(error) if error.class() == Class::Retry => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            from: source,
            to: target,
            flows,
            all: &config.flows,
            lost,
        })
    }

    /// The flow that copies a partition of the target back into that of the source.
    pub(super) fn back(&self, source: &TopicPartition, target: &TopicPartition) -> Option<&'a Flow> {
        flows(self.all, self.to.alias(), self.from.alias()).find(|flow| {
            let routed: Option<Arc<str>> = flow.router.route(&target.topic).ok();
            routed.is_some_and(|topic| topic == source.topic)
        })
    }
}

fn flows<'a>(all: &'a [Flow], from: &str, to: &str) -> impl Iterator<Item = &'a Flow> {
    all.iter()
        .filter(move |flow| *flow.source == *from && *flow.target == *to)
}
