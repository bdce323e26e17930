//! `kuroshio check`: whether the configuration holds and its clusters can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kuroshio_wire::{Cluster, ClusterSettings, Error, Metadata, Topics};
use serde::Serialize;

use crate::config::Config;

/// Longest wait for one broker.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found: one line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `configuration`, `cluster tw`, `cluster tw, broker b-1:9092`.
    pub subject: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen, or what is wrong and what to do.
    pub detail: String,
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
        self.findings.push(Finding {
            subject: subject.into(),
            ok,
            detail,
        });
        self.ok = self.findings.iter().all(|finding| finding.ok);
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

/// Checks a configuration that was read without mistakes. `offline`: nothing is connected to.
pub async fn check(config: &Config, offline: bool) -> Report {
    let mut report = Report::default();
    let named = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let size = format!(
        "{}, {}",
        named(config.clusters.len(), "cluster"),
        named(config.flows.len(), "flow")
    );
    report.add("configuration", Ok(size));
    if offline {
        return report;
    }
    let mut aliases: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    for (alias, cluster) in &config.clusters {
        let Some(metadata) = bootstrap(alias, &cluster.bootstrap_servers, &mut report).await else {
            continue;
        };
        report.add(
            format!("cluster {alias}"),
            identity(alias, &metadata, &mut aliases),
        );
        advertised(alias, &cluster.bootstrap_servers, &metadata, &mut report).await;
    }
    report
}

/// Asks every bootstrap server; one that does not answer is a finding, because it would be missed only on
/// the day on which the others are gone.
async fn bootstrap(alias: &str, servers: &[String], report: &mut Report) -> Option<Metadata> {
    let mut known = None;
    for server in servers {
        match ask(alias, server).await {
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
async fn advertised(alias: &str, servers: &[String], metadata: &Metadata, report: &mut Report) {
    let asked: BTreeSet<&str> = servers.iter().map(String::as_str).collect();
    for broker in metadata
        .brokers
        .iter()
        .filter(|broker| !asked.contains(&*broker.address))
    {
        let subject = format!("cluster {alias}, broker {} at {}", broker.id, broker.address);
        match ask(alias, &broker.address).await {
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
async fn ask(alias: &str, server: &str) -> Result<Metadata, Error> {
    let mut settings = ClusterSettings::new(alias, vec![server.to_owned()]);
    settings.call_timeout = PATIENCE;
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
