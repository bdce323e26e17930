//! `kuroshio check`: whether the configuration holds, its clusters can be reached, and its flows are allowed what they need.

mod permissions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::needs::Permission;
use kuroshio_wire::{Cluster, ClusterSettings, Error, Metadata, Topics};
use serde::Serialize;

use crate::app;
use crate::config::{self, Config, Flow};
use crate::figures::many;
use crate::security;
use permissions::Trial;

/// Longest wait for one broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for an answer of a cluster that was reached.
const ANSWER: Duration = Duration::from_secs(15);

/// What was found: one line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `configuration`, `cluster tw`, `cluster tw, broker b-1:9092`, `cluster tw, flow tw-jp`.
    pub subject: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen, or what is wrong and what to do.
    pub detail: String,
    /// The permission that is missing, if it is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// A permission that a flow needs and does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Alias of the cluster.
    pub cluster: String,
    /// What an ACL must allow: `WRITE on topic orders`.
    pub acl: String,
    /// What an IAM policy of MSK must allow: `kafka-cluster:WriteData on topic/orders`.
    pub iam: Option<String>,
}

/// All findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every finding is.
    pub ok: bool,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, subject: impl Into<String>, result: Result<String, String>) {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|why| why);
        self.push(Finding {
            subject: subject.into(),
            ok,
            detail,
            missing: None,
        });
    }

    fn missing(&mut self, subject: &str, cluster: &str, permission: &Permission<'_>, why: &str) {
        let (acl, iam) = (permission.to_string(), permission.iam());
        let mut detail = format!("{acl} (cluster {cluster}) is not allowed: {why}");
        if let Some(iam) = &iam {
            detail += &format!("; with IAM: {iam}");
        }
        self.push(Finding {
            subject: subject.to_owned(),
            ok: false,
            detail,
            missing: Some(Missing {
                cluster: cluster.to_owned(),
                acl,
                iam,
            }),
        });
    }

    fn push(&mut self, finding: Finding) {
        self.ok = finding.ok && (self.ok || self.findings.is_empty());
        self.findings.push(finding);
    }

    /// One line per finding, for people.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |finding: &Finding| {
            let word = if finding.ok { "ok    " } else { "FAILED" };
            format!("{word}  {}: {}\n", finding.subject, finding.detail)
        };
        self.findings.iter().map(line).collect()
    }
}

/// Checks a configuration that was read without mistakes, and the permissions of these flows of it. `offline`: nothing is connected to.
pub async fn check(config: &Config, flows: &[&Flow], offline: bool) -> Report {
    let mut report = Report::default();
    let size = format!(
        "{}, {}",
        many(config.clusters.len(), "cluster"),
        many(config.flows.len(), "flow")
    );
    report.add("configuration", Ok(size));
    if offline {
        return report;
    }
    let mut aliases: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    let mut reached: BTreeMap<Arc<str>, Cluster> = BTreeMap::new();
    for (alias, cluster) in &config.clusters {
        let Some(metadata) = bootstrap(alias, cluster, &mut report).await else {
            continue;
        };
        let identity = identity(alias, &metadata, &mut aliases);
        if identity.is_ok()
            && let Some(cluster) = app::cluster(config, alias, false)
        {
            reached.insert(Arc::clone(alias), cluster.within(ANSWER));
        }
        report.add(format!("cluster {alias}"), identity);
        advertised(alias, cluster, &metadata, &mut report).await;
    }
    for flow in flows {
        // What keeps a cluster from being reached was told.
        let (Some(source), Some(target)) = (reached.get(&flow.source), reached.get(&flow.target)) else {
            continue;
        };
        let trial = Trial {
            flow,
            flows: &config.flows,
            admin: config.http_admin,
            source,
            target,
        };
        if let Err(error) = trial.run(&mut report).await {
            report.add(format!("flow {}", flow.name), Err(error.to_string()));
        }
    }
    report
}

/// Asks every bootstrap server; one that does not answer is a finding, because it would be missed only on
/// the day on which the others are gone.
async fn bootstrap(alias: &str, cluster: &config::Cluster, report: &mut Report) -> Option<Metadata> {
    let mut known = None;
    for server in &cluster.bootstrap_servers {
        match ask(alias, cluster, server).await {
            Ok(metadata) => known = Some(metadata),
            Err(error) => report.add(
                format!("cluster {alias}, bootstrap server {server}"),
                Err(reason(&error)),
            ),
        }
    }
    known
}

fn identity(
    alias: &Arc<str>,
    metadata: &Metadata,
    aliases: &mut BTreeMap<Arc<str>, Arc<str>>,
) -> Result<String, String> {
    let Some(id) = &metadata.cluster_id else {
        return Err("the brokers name no cluster id; Kafka 2.8 or later is needed".to_owned());
    };
    if let Some(other) = aliases.insert(Arc::clone(id), Arc::clone(alias)) {
        return Err(format!(
            "is the same cluster as {other} (id {id}); one cluster has one alias"
        ));
    }
    Ok(format!("id {id}, {} broker(s)", metadata.brokers.len()))
}

/// Brokers are reached under the addresses that they advertise, whatever the bootstrap servers are.
async fn advertised(alias: &str, cluster: &config::Cluster, metadata: &Metadata, report: &mut Report) {
    let asked: BTreeSet<&str> = cluster.bootstrap_servers.iter().map(String::as_str).collect();
    for broker in metadata
        .brokers
        .iter()
        .filter(|broker| !asked.contains(&*broker.address))
    {
        let subject = format!("cluster {alias}, broker {} at {}", broker.id, broker.address);
        match ask(alias, cluster, &broker.address).await {
            Ok(_) => report.add(subject, Ok("answers".to_owned())),
            Err(error) => {
                let why = format!(
                    "{}; the address is what the broker advertises (advertised.listeners)",
                    reason(&error)
                );
                report.add(subject, Err(why));
            }
        }
    }
}

/// Asks one broker by itself: a client with more servers would hide which of them is silent.
async fn ask(alias: &str, cluster: &config::Cluster, server: &str) -> Result<Metadata, Error> {
    let mut settings = ClusterSettings::new(alias, vec![server.to_owned()]);
    settings.security = security::wire(cluster);
    settings.call_timeout = PATIENCE;
    settings.inquiring = true;
    settings.request_timeout = PATIENCE;
    Cluster::new(settings).metadata(Topics::None).await
}

/// What the last attempt met, without the retries and without the names that the finding has already.
fn reason(error: &Error) -> String {
    match error {
        Error::GaveUp { last, .. } => reason(last),
        Error::Unreachable { why, .. } => format!("unreachable: {why}"),
        other => other.to_string(),
    }
}
