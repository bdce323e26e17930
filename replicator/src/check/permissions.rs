//! Whether a flow is allowed what it needs. Brokers are asked what they would allow; where they do not tell, by a request that changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kuroshio_core::acls::Operation;
use kuroshio_core::needs::{Facts, Kind, Need, Permission, Side, needs};
use kuroshio_core::routes::is_reserved;
use kuroshio_wire::{Cluster, Error, GroupListing, KafkaCode, NewTopic, Operations, Topics};

use super::Report;
use crate::config::{Flow, Pattern};
use crate::figures::many;
use crate::groups::follows;
use crate::privilege;
use crate::survey::Survey;
use crate::topics::kept;

/// Names that a line spells out.
const SPELLED: usize = 3;

/// A flow and its clusters.
pub(super) struct Trial<'a> {
    pub(super) flow: &'a Flow,
    pub(super) flows: &'a [Flow],
    /// Commands are taken.
    pub(super) admin: bool,
    pub(super) source: &'a Cluster,
    pub(super) target: &'a Cluster,
}

/// What the brokers of one cluster say; an error: not even whether it exists may be known.
#[derive(Default)]
struct Told {
    topics: HashMap<Arc<str>, Result<Operations, Error>>,
    groups: HashMap<Arc<str>, Result<Operations, Error>>,
    cluster: Option<Operations>,
}

impl Trial<'_> {
    /// Tries everything, a line each.
    pub(super) async fn run(&self, report: &mut Report) -> Result<(), Error> {
        let survey = Survey::of(self.flow, self.flows, self.source, self.target).await?;
        let facts = self.facts(&survey).await?;
        self.topics(&survey, &facts, report);
        let needs = needs(&facts);
        let told = tokio::try_join!(self.ask(Side::Source, &needs), self.ask(Side::Target, &needs))?;
        for need in &needs {
            let told = match need.side {
                Side::Source => &told.0,
                Side::Target => &told.1,
            };
            for operation in &need.operations {
                let missing = if *operation == Operation::CREATE {
                    self.uncreatable(need, &survey, report).await?
                } else {
                    self.missing(need, *operation, told).await?
                };
                self.tell(need, *operation, &missing, report);
            }
        }
        if facts.acls {
            self.authorizers(report).await?;
        }
        Ok(())
    }

    fn on(&self, side: Side) -> &Cluster {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    fn subject(&self, side: Side) -> String {
        format!("cluster {}, flow {}", self.on(side).alias(), self.flow.name)
    }

    async fn facts(&self, survey: &Survey) -> Result<Facts, Error> {
        let flow = self.flow;
        let mut routes = survey.plan.routes.clone();
        routes.extend(survey.coming.clone());
        routes.extend(self.unseen(survey).await?);
        let missing = routes.values().filter(|target| survey.is_missing(target));
        let listed = self.source.list_groups().await?;
        let mut groups: BTreeSet<Arc<str>> = listed
            .iter()
            .filter(|group| follows(flow, group))
            .map(|group| Arc::clone(&group.group))
            .collect();
        groups.extend(spelled_groups(flow, &listed));
        Ok(Facts {
            missing: missing.cloned().collect(),
            ruled: survey.ruled(flow, self.flows).into_values().collect(),
            routes,
            own: survey.own.clone(),
            groups,
            ..privilege::settings(flow, self.flows, self.admin)
        })
    }

    /// Topics that the configuration spells out and that may not be seen: a list of all topics does not show them.
    async fn unseen(&self, survey: &Survey) -> Result<BTreeMap<Arc<str>, Arc<str>>, Error> {
        let named = self.flow.spelled.iter();
        let named: Vec<Arc<str>> = named
            .filter(|topic| !survey.topics.contains_key(*topic))
            .cloned()
            .collect();
        if named.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.source.metadata(Topics::Named(&named)).await?;
        let hidden = found.topics.into_iter().filter(|topic| {
            let code = topic.error.as_ref().and_then(Error::code);
            code == Some(KafkaCode::TopicAuthorizationFailed)
        });
        let route = |topic: Arc<str>| Some((Arc::clone(&topic), self.flow.router.route(&topic).ok()?));
        Ok(hidden.filter_map(|topic| route(topic.name)).collect())
    }

    /// How many topics flow, and which must stay.
    fn topics(&self, survey: &Survey, facts: &Facts, report: &mut Report) {
        let Flow {
            name, source, target, ..
        } = self.flow;
        let subject = format!("flow {name}");
        let selected = facts.routes.keys().filter(|topic| !is_reserved(topic));
        let told = match selected.count() {
            0 => format!("no topic of {source} is selected; topics that it may not describe are not seen"),
            count => format!("{} of {source} selected", many(count, "topic")),
        };
        report.add(subject.clone(), Ok(told));
        let kept: Vec<&str> = kept(&survey.plan).map(|topic| &**topic).collect();
        if !kept.is_empty() {
            let told = format!(
                "residency keeps {} from {target}: {}",
                many(kept.len(), "topic"),
                kept.join(", ")
            );
            report.add(subject, Ok(told));
        }
    }

    async fn ask(&self, side: Side, needs: &[Need]) -> Result<Told, Error> {
        let cluster = self.on(side);
        let names = |kind| {
            let of_kind = needs.iter().filter(|need| (need.side, need.kind) == (side, kind));
            let names: BTreeSet<Arc<str>> = of_kind.flat_map(|need| need.names.iter().cloned()).collect();
            names.into_iter().collect::<Vec<_>>()
        };
        let mut told = Told {
            topics: cluster.topic_operations(&names(Kind::Topic)).await?,
            groups: cluster.group_operations(&names(Kind::Group)).await,
            cluster: None,
        };
        if !names(Kind::Cluster).is_empty() {
            told.cluster = Some(cluster.cluster_operations().await?);
        }
        Ok(told)
    }

    /// The names on which the operation is not allowed, as far as that can be told.
    async fn missing<'a>(
        &self,
        need: &'a Need,
        operation: Operation,
        told: &Told,
    ) -> Result<Vec<Permission<'a>>, Error> {
        let mut missing = Vec::new();
        for permission in need.permissions(operation) {
            let allowed = match need.kind {
                Kind::Topic => allowed(told.topics.get(permission.name), operation)?,
                Kind::Group => allowed(told.groups.get(permission.name), operation)?,
                Kind::Cluster if operation == Operation::IDEMPOTENT_WRITE => {
                    is_allowed(self.on(need.side).may_write_idempotently().await)?
                }
                Kind::Cluster => told.cluster.is_some_and(|told| told.allow(operation)),
                Kind::TransactionalId => {
                    // Ids of pumps end with a number.
                    let id = format!("{}check", permission.name.trim_end_matches('*'));
                    let cluster = self.on(need.side);
                    is_allowed(match operation {
                        Operation::WRITE => cluster.may_write_transactions(&id).await,
                        _ => cluster.may_describe_transactions(&id).await,
                    })?
                }
            };
            if !allowed {
                missing.push(permission);
            }
        }
        Ok(missing)
    }

    /// The topics that the cluster would not let us make; what else it has against them is told.
    async fn uncreatable<'a>(
        &self,
        need: &'a Need,
        survey: &Survey,
        report: &mut Report,
    ) -> Result<Vec<Permission<'a>>, Error> {
        let partitions: BTreeMap<&Arc<str>, i32> = survey
            .plan
            .routes
            .iter()
            .filter_map(|(source, target)| Some((target, survey.topics.get(source)?.partition_count())))
            .collect();
        let replication_factor = match need.side {
            Side::Source => -1,
            Side::Target => self.flow.replication_factor,
        };
        let topics: Vec<NewTopic> = need
            .names
            .iter()
            .map(|name| NewTopic {
                name: Arc::clone(name),
                partitions: partitions.get(name).copied().unwrap_or(1),
                replication_factor,
                configs: Vec::new(),
            })
            .collect();
        let mut outcomes = self.on(need.side).validate_topics(&topics).await?;
        let mut missing = Vec::new();
        for permission in need.permissions(Operation::CREATE) {
            match outcomes.remove(permission.name) {
                Some(Err(error)) if is_refusal(&error) => missing.push(permission),
                Some(Err(error)) if error.code() != Some(KafkaCode::TopicAlreadyExists) => {
                    let why = format!("topic {} cannot be made: {error}", permission.name);
                    report.add(self.subject(need.side), Err(why));
                }
                _ => {}
            }
        }
        Ok(missing)
    }

    fn tell(&self, need: &Need, operation: Operation, missing: &[Permission<'_>], report: &mut Report) {
        let subject = self.subject(need.side);
        for permission in missing {
            report.missing(&subject, self.on(need.side).alias(), permission, need.why);
        }
        let all: Vec<Permission<'_>> = need.permissions(operation).collect();
        let allowed = all.len() - missing.len();
        if allowed == 0 {
            return;
        }
        let mut granted = all.iter().filter(|permission| !missing.contains(permission));
        let what = match granted.next() {
            Some(only) if allowed == 1 => only.to_string(),
            _ if need.names.len() <= SPELLED && missing.is_empty() => {
                let names: Vec<&str> = all.iter().map(|permission| permission.name).collect();
                format!("{operation} on {}s {}", need.kind, names.join(", "))
            }
            _ => format!("{operation} on {}", many(allowed, &need.kind.to_string())),
        };
        report.add(subject, Ok(format!("{what} is allowed: {}", need.why)));
    }

    /// Where nobody decides about ACLs there are none.
    async fn authorizers(&self, report: &mut Report) -> Result<(), Error> {
        for side in [Side::Source, Side::Target] {
            match self.on(side).topic_acls().await {
                Ok(_) => {}
                Err(error) if is_refusal(&error) => {}
                Err(error) if error.code() == Some(KafkaCode::SecurityDisabled) => {
                    let why = "has no authorizer, so there are no ACLs to copy; set acls.sync to false";
                    report.add(self.subject(side), Err(why.to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Groups that the configuration spells out and that are not seen: a list of all groups does not show those that may not be described.
fn spelled_groups(flow: &Flow, listed: &[GroupListing]) -> BTreeSet<Arc<str>> {
    let listed: BTreeSet<&str> = listed.iter().map(|group| &*group.group).collect();
    let included = flow.groups.include.iter();
    let named = included.flat_map(Pattern::names);
    named
        .filter(|group| !group.ends_with('*') && flow.groups.selects(group) && !listed.contains(&**group))
        .collect()
}

/// Whether it is allowed. Of what may not be described is not told what else may be done, and who may read, write or alter may describe.
fn allowed(told: Option<&Result<Operations, Error>>, operation: Operation) -> Result<bool, Error> {
    match told {
        None => Ok(false),
        Some(Ok(operations)) => Ok(operations.allow(operation)),
        Some(Err(error)) if is_refusal(error) => {
            Ok([Operation::DESCRIBE_CONFIGS, Operation::ALTER_CONFIGS].contains(&operation))
        }
        Some(Err(error)) => Err(error.clone()),
    }
}

fn is_allowed(outcome: Result<(), Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            KafkaCode::TopicAuthorizationFailed
                | KafkaCode::GroupAuthorizationFailed
                | KafkaCode::ClusterAuthorizationFailed
                | KafkaCode::TransactionalIdAuthorizationFailed
        )
    )
}
