//! Privileges as ACLs: commands for `kafka-acls`, and as data.

use std::collections::{BTreeMap, BTreeSet};

use kuroshio_core::acls::Operation;
use kuroshio_core::needs::{self, Grant, Kind};
use serde_json::{Value, json};

use super::Privileges;
use crate::config::{Config, Sasl};

/// Names in one command.
const NAMES: usize = 20;

/// How commands are to be run.
#[derive(Clone, Debug)]
pub struct Granting {
    /// To whom, such as `User:replicator`; `None`: to who we are there by password, else to `User:kuroshio`.
    pub principal: Option<String>,
    /// The tool's own configuration, `--command-config`.
    pub command_config: Option<String>,
}

impl Granting {
    /// Whom a cluster takes us for. Which names it makes of certificates and tokens, only the cluster knows.
    fn principal(&self, config: &Config, alias: &str) -> String {
        let sasl = config
            .clusters
            .get(alias)
            .and_then(|cluster| cluster.sasl.as_ref());
        let user = match sasl {
            Some(Sasl::Plain(user) | Sasl::ScramSha256(user) | Sasl::ScramSha512(user)) => &user.name,
            Some(Sasl::OauthBearer(_) | Sasl::AwsMskIam { .. }) | None => "kuroshio",
        };
        self.principal.clone().unwrap_or_else(|| format!("User:{user}"))
    }
}

/// A command in each line, each cluster's behind a line that names it.
#[must_use]
pub fn commands(config: &Config, privileges: &Privileges, granting: &Granting) -> String {
    let mut text = String::new();
    for (alias, grants) in privileges {
        let servers = config.clusters.get(alias);
        let servers = servers.map(|cluster| cluster.bootstrap_servers.join(","));
        let mut tool = format!(
            "kafka-acls --bootstrap-server {}",
            quoted(&servers.unwrap_or_default())
        );
        if let Some(file) = &granting.command_config {
            tool += &format!(" --command-config {}", quoted(file));
        }
        let principal = quoted(&granting.principal(config, alias));
        text += &format!("# cluster {alias}\n");
        for what in together(&needs::acls(grants)) {
            text += &format!("{tool} --add --allow-principal {principal}{what}\n");
        }
    }
    text
}

/// The options that say what is allowed on what: one command for all names of a kind on which the same is.
fn together(grants: &[Grant]) -> Vec<String> {
    let mut alike: BTreeMap<(Kind, bool, &BTreeSet<Operation>), Vec<&str>> = BTreeMap::new();
    for grant in grants {
        let (name, prefixed) = resource(grant);
        let names = alike.entry((grant.kind, prefixed, &grant.operations));
        names.or_default().push(name);
    }
    let mut commands = Vec::new();
    for ((kind, prefixed, operations), names) in alike {
        let operations: String = operations
            .iter()
            .map(|operation| format!(" --operation {}", camel(*operation)))
            .collect();
        let pattern = if prefixed {
            " --resource-pattern-type prefixed"
        } else {
            ""
        };
        for names in names.chunks(NAMES) {
            let option = match kind {
                Kind::Cluster => " --cluster".to_owned(),
                Kind::Topic => options("topic", names),
                Kind::Group => options("group", names),
                Kind::TransactionalId => options("transactional-id", names),
            };
            commands.push(format!("{operations}{option}{pattern}"));
        }
    }
    commands
}

fn options(option: &str, names: &[&str]) -> String {
    let each = names.iter().map(|name| format!(" --{option} {}", quoted(name)));
    each.collect()
}

/// The name in an ACL, and whether it is the beginning of names (PREFIXED); LITERAL `*` stands for all.
fn resource(grant: &Grant) -> (&str, bool) {
    match (&*grant.name, grant.name.strip_suffix('*')) {
        (name, None | Some("")) => (name, false),
        (_, Some(start)) => (start, true),
    }
}

/// As the tool calls it: `DescribeConfigs`.
fn camel(operation: Operation) -> String {
    let name = operation.to_string();
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_lowercase())
    };
    name.split('_').map(word).collect()
}

/// One word for a shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:,/@%+=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The same as data: by cluster, an object for each resource, in Kafka's words.
#[must_use]
pub fn acls(config: &Config, privileges: &Privileges, granting: &Granting) -> Value {
    let acl = |grant: &Grant, principal: &str| {
        let (name, prefixed) = resource(grant);
        let (kind, name) = match grant.kind {
            Kind::Cluster => ("CLUSTER", "kafka-cluster"),
            Kind::Topic => ("TOPIC", name),
            Kind::Group => ("GROUP", name),
            Kind::TransactionalId => ("TRANSACTIONAL_ID", name),
        };
        let operations = grant.operations.iter().map(ToString::to_string);
        json!({
            "principal": principal,
            "resource_type": kind,
            "pattern_type": if prefixed { "PREFIXED" } else { "LITERAL" },
            "name": name,
            "operations": operations.collect::<Vec<_>>(),
            "why": grant.why,
        })
    };
    let clusters = privileges.iter().map(|(alias, grants)| {
        let (grants, principal) = (needs::acls(grants), granting.principal(config, alias));
        let acls = grants.iter().map(|grant| acl(grant, &principal));
        (alias.to_string(), acls.collect())
    });
    Value::Object(clusters.collect())
}
