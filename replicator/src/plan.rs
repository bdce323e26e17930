//! `kuroshio plan`: what a start would do. Asks, validates, and changes nothing.

mod acls;
mod configs;
mod groups;
mod positions;
mod report;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kuroshio_core::types::{TopicPartition, group_of};
use kuroshio_wire::{Cluster, Error, GroupOffset};

use crate::app;
use crate::config::{Config, Flow, Mistakes};
use crate::storer;
use crate::survey::Survey;
use crate::topics::is_of;
pub use acls::{Acls, NoAcls};
pub use configs::{ConfigRow, Configs};
pub use groups::{GroupAction, GroupRow, Groups};
pub use positions::{PositionRow, Positions, Resumes};
pub use report::{FlowPlan, Report};
pub use topics::{Creation, Make, TopicAction, TopicRow, Topics};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The flows asked for are not there.
    #[error(transparent)]
    Asked(#[from] Mistakes),
    /// A cluster did not answer, or refused.
    #[error("flow {flow}: {why}")]
    Cluster {
        /// The flow.
        flow: Arc<str>,
        /// What it said.
        why: Error,
    },
}

/// A flow and its clusters.
#[derive(Clone, Copy)]
struct Ends<'a> {
    flow: &'a Flow,
    flows: &'a [Flow],
    source: &'a Cluster,
    target: &'a Cluster,
}

/// The plan of the flows that `kuroshio run` would run with this region and these names.
///
/// # Errors
/// [`PlanError`]
pub async fn plan(config: &Config, region: Option<&str>, named: &[String]) -> Result<Report, PlanError> {
    let mut plans = Vec::new();
    for flow in config.selected_flows(region, named)? {
        let Some((source, target)) = app::ends(config, flow) else {
            continue;
        };
        let ends = Ends {
            flow,
            flows: &config.flows,
            source: &source,
            target: &target,
        };
        let planned = ends.plan().await.map_err(|why| PlanError::Cluster {
            flow: Arc::clone(&flow.name),
            why,
        });
        plans.push(planned?);
    }
    Ok(Report::of(plans))
}

impl Ends<'_> {
    async fn plan(&self) -> Result<FlowPlan, Error> {
        let Self {
            flow,
            flows,
            source,
            target,
        } = self;
        let mut survey = Survey::of(flow, flows, source, target).await?;
        let mut plan = FlowPlan::new(flow);
        let Some(source_id) = survey.source_id.clone() else {
            plan.problems.push(format!(
                "the brokers of {} name no cluster id; Kafka 2.8 or later is needed",
                flow.source
            ));
            return Ok(plan);
        };
        if survey.target_id.as_ref() == Some(&source_id) {
            plan.problems.push(format!(
                "{} and {} are the same cluster (id {source_id}): one cluster has one alias; the flow would not start",
                flow.source, flow.target
            ));
            return Ok(plan);
        }
        let copies = if flow.positions_on_source {
            storer::copies(source, &group_of(&flow.name), None).await?
        } else {
            BTreeMap::new()
        };
        let deleted = take_deleted(&mut survey, &source_id, &copies);
        plan.topics = self.topics(&survey, &mut plan.problems).await?;
        plan.deleted(&survey, deleted);
        let ruled = survey.ruled(flow, flows);
        plan.configs = self.configs(&survey, &ruled, &mut plan.problems).await?;
        plan.acls = self.acls(&ruled, &mut plan.problems).await?;
        let problems = &mut plan.problems;
        plan.positions = self.positions(&survey, (&source_id, copies), problems).await?;
        plan.groups = self.groups(&plan.positions).await?;
        plan.changes = plan.count();
        Ok(plan)
    }
}

/// The topics, with their names on the target, that were copied and are on the target no more. They are taken out of the routes: nothing
/// is done about them.
fn take_deleted(
    survey: &mut Survey,
    source_id: &str,
    copies: &BTreeMap<TopicPartition, GroupOffset>,
) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut copied: BTreeSet<&Arc<str>> = BTreeSet::new();
    for (partition, copy) in copies {
        let topic = survey.topics.get(&partition.topic);
        if topic.is_some_and(|topic| is_of(copy, topic, source_id)) {
            copied.insert(&partition.topic);
        }
    }
    let routes = std::mem::take(&mut survey.plan.routes);
    let (deleted, left) = routes
        .into_iter()
        .partition(|(topic, target)| copied.contains(topic) && survey.is_missing(target));
    survey.plan.routes = left;
    deleted
}
