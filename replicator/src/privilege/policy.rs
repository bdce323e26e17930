//! Privileges as IAM policies for MSK ("IAM access control", "Semantics of IAM authorization policy actions and resources"): an action is
//! allowed together with those that it requires, and `kafka-cluster:Connect` with all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kuroshio_core::needs::{Grant, Kind};
use serde::Serialize;

use super::Privileges;
use crate::config::{self, Config, Mistakes};

/// Longest managed policy, in characters that are not white space ("IAM and AWS STS quotas").
const LONGEST: usize = 6_144;
/// What stands where the file does not tell.
const OPEN: [&str; 4] = ["REGION", "ACCOUNT_ID", "CLUSTER_NAME", "CLUSTER_UUID"];

/// A policy document of IAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: String,
    effect: &'static str,
    action: BTreeSet<&'static str>,
    resource: Vec<String>,
}

/// The ARN of an MSK cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    partition: String,
    region: String,
    account: String,
    name: String,
    uuid: String,
}

impl FromStr for Arn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split([':', '/']).collect();
        match parts[..] {
            ["arn", partition, "kafka", region, account, "cluster", name, uuid]
                if parts.iter().all(|part| !part.is_empty()) =>
            {
                Ok(Self {
                    partition: partition.to_owned(),
                    region: region.to_owned(),
                    account: account.to_owned(),
                    name: name.to_owned(),
                    uuid: uuid.to_owned(),
                })
            }
            _ => Err(format!(
                "`{text}` is not the ARN of an MSK cluster: arn:aws:kafka:<region>:<account>:cluster/<name>/<uuid>"
            )),
        }
    }
}

impl Arn {
    /// What the configuration tells of it.
    fn of(cluster: Option<&config::Cluster>) -> Self {
        let region = cluster.and_then(region);
        let partition = match region {
            Some(region) if region.starts_with("cn-") => "aws-cn",
            Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let [no_region, account, name, uuid] = OPEN;
        Self {
            partition: partition.to_owned(),
            region: region.unwrap_or(no_region).to_owned(),
            account: account.to_owned(),
            name: name.to_owned(),
            uuid: uuid.to_owned(),
        }
    }

    /// What of it must still be filled in.
    fn open(&self) -> Vec<&'static str> {
        let parts = [&self.region, &self.account, &self.name, &self.uuid];
        let open = OPEN.into_iter().zip(parts);
        open.filter(|(placeholder, part)| placeholder == part)
            .map(|(placeholder, _)| placeholder)
            .collect()
    }

    /// The ARN of something in the cluster; with `*` at its end: of all that begin so.
    fn thing(&self, kind: Kind, name: &str) -> String {
        let (name, rest) = name.strip_suffix('*').map_or((name, ""), |start| (start, "*"));
        let (of, name) = (kind.in_arn(), escaped(name));
        format!("{self:#}{of}/{}/{}/{name}{rest}", self.name, self.uuid)
    }
}

impl fmt::Display for Arn {
    /// With `#`: only up to what kind of thing it is of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (partition, region, account) = (&self.partition, &self.region, &self.account);
        write!(f, "arn:{partition}:kafka:{region}:{account}:")?;
        if f.alternate() {
            return Ok(());
        }
        write!(f, "cluster/{}/{}", self.name, self.uuid)
    }
}

/// The region of AWS that a cluster is in, if the configuration tells: by itself, or MSK's brokers have it in their names.
fn region(cluster: &config::Cluster) -> Option<&str> {
    if let Some(config::Sasl::AwsMskIam { region, .. }) = &cluster.sasl {
        return Some(region);
    }
    cluster.bootstrap_servers.iter().find_map(|server| {
        let host = server.rsplit_once(':').map_or(&**server, |(host, _)| host);
        let host = host
            .strip_suffix(".amazonaws.com")
            .or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
        let (rest, region) = host.rsplit_once('.')?;
        [".kafka", ".kafka-serverless"]
            .iter()
            .any(|service| rest.ends_with(service))
            .then_some(region)
    })
}

/// What means something in an ARN of a policy, as itself ("IAM policy elements: variables and tags").
fn escaped(name: &str) -> String {
    let special = |c: char| match c {
        '*' | '?' | '$' => format!("${{{c}}}"),
        c => c.to_string(),
    };
    name.chars().map(special).collect()
}

/// A policy document for each cluster, by alias.
///
/// # Errors
/// An ARN of a cluster that is not in the configuration.
pub fn policies(
    config: &Config,
    privileges: &Privileges,
    arns: &BTreeMap<String, Arn>,
) -> Result<BTreeMap<String, Policy>, Mistakes> {
    let mut mistakes = Mistakes::default();
    for alias in arns
        .keys()
        .filter(|alias| !config.clusters.contains_key(alias.as_str()))
    {
        mistakes.add("--cluster-arn", format!("no cluster has the alias `{alias}`"));
    }
    if !mistakes.0.is_empty() {
        return Err(mistakes);
    }
    let policy = |(alias, grants): (&Arc<str>, &Vec<Grant>)| {
        let policy = Policy {
            version: "2012-10-17",
            statement: statements(grants, &arn(config, alias, arns)),
        };
        (alias.to_string(), policy)
    };
    Ok(privileges.iter().map(policy).collect())
}

fn arn(config: &Config, alias: &str, arns: &BTreeMap<String, Arn>) -> Arn {
    let told = arns.get(alias).cloned();
    told.unwrap_or_else(|| Arn::of(config.clusters.get(alias)))
}

/// One for all things of a kind on which the same is allowed.
fn statements(grants: &[Grant], arn: &Arn) -> Vec<Statement> {
    let mut alike: BTreeMap<(Kind, BTreeSet<&'static str>), Vec<String>> = BTreeMap::new();
    let mut on_cluster = BTreeSet::from(["kafka-cluster:Connect"]);
    for grant in grants {
        let actions = grant.operations.iter();
        let actions = actions.filter_map(|operation| grant.kind.action(*operation));
        if grant.kind == Kind::Cluster {
            on_cluster.extend(actions);
        } else {
            let things = alike.entry((grant.kind, actions.collect())).or_default();
            things.push(arn.thing(grant.kind, &grant.name));
        }
    }
    alike.insert((Kind::Cluster, on_cluster), vec![arn.to_string()]);
    let mut count = BTreeMap::new();
    let statement = |((kind, action), resource)| {
        let number = count.entry(kind).and_modify(|count| *count += 1).or_insert(1);
        let word = match kind {
            Kind::Cluster => "Cluster",
            Kind::Topic => "Topics",
            Kind::Group => "Groups",
            Kind::TransactionalId => "TransactionalIds",
        };
        Statement {
            sid: format!("{word}{number}"),
            effect: "Allow",
            action,
            resource,
        }
    };
    alike.into_iter().map(statement).collect()
}

/// What is to be done with the policies before they can be used; a line each.
///
/// # Errors
/// A policy that cannot be written as JSON, which would be a bug.
pub fn remarks(
    config: &Config,
    policies: &BTreeMap<String, Policy>,
    arns: &BTreeMap<String, Arn>,
) -> Result<Vec<String>, serde_json::Error> {
    let mut remarks = Vec::new();
    for (alias, policy) in policies {
        let open = arn(config, alias, arns).open();
        if !open.is_empty() {
            remarks.push(format!(
                "cluster {alias}: put its own in the place of {}, or give --cluster-arn {alias}=ARN (aws kafka list-clusters-v2 shows it)",
                open.join(", ")
            ));
        }
        let length = serde_json::to_string(policy)?
            .chars()
            .filter(|c| !c.is_whitespace())
            .count();
        if length > LONGEST {
            remarks.push(format!(
                "cluster {alias}: the policy has {length} characters, a managed policy at most {LONGEST}; name topics by how they begin, or split it by statements"
            ));
        }
    }
    Ok(remarks)
}
