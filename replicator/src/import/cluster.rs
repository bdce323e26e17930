//! A cluster of MirrorMaker 2.

use regex::Regex;
use serde_json::{Value, json};

use super::{Findings, Keys, Tree, keys};

/// The cluster that `keys` describe; what becomes of the others goes to the findings.
pub(super) fn tree(alias: &str, keys: &Keys<'_>, findings: &mut Findings) -> Tree {
    let get = |name: &str| keys.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let mut tree = Tree::new();
    let servers = get("bootstrap.servers").unwrap_or_default();
    tree.insert("bootstrap_servers".to_owned(), servers.into());
    let protocol = get("security.protocol").unwrap_or("PLAINTEXT");
    if protocol.ends_with("SSL") {
        tree.insert("tls".to_owned(), tls(alias, &get, findings));
    }
    if protocol.starts_with("SASL") {
        tree.insert("sasl".to_owned(), sasl(alias, servers, &get, findings));
    }
    if let Some(rack) = get("client.rack").or_else(|| get("consumer.client.rack")) {
        tree.insert("rack".to_owned(), rack.into());
    }
    for (key, _) in keys {
        let comment = keys::comment(&format!("{alias}.{key}"), keys::of_cluster(key));
        findings.comments.extend(comment);
    }
    tree
}

/// Java's stores become files in PEM, which they may be already.
fn tls<'a>(alias: &str, get: &impl Fn(&str) -> Option<&'a str>, findings: &mut Findings) -> Value {
    let mut tls = Tree::new();
    for (kind, files) in [
        ("truststore", &["ca_file"][..]),
        ("keystore", &["cert_file", "key_file"]),
    ] {
        let Some(location) = get(&format!("ssl.{kind}.location")) else {
            continue;
        };
        let is_pem = get(&format!("ssl.{kind}.type")) == Some("PEM");
        for file in files {
            let path = if is_pem {
                location.to_owned()
            } else {
                format!("{location}.{file}.pem")
            };
            tls.insert((*file).to_owned(), path.into());
        }
        if !is_pem {
            findings.comments.push(format!(
                "{alias}.ssl.{kind}.location: {location} is a store of Java: export it (keytool, openssl pkcs12) to the files \
                 that clusters.{alias}.tls names"
            ));
        }
    }
    Value::Object(tls)
}

fn sasl<'a>(
    alias: &str,
    servers: &str,
    get: &impl Fn(&str) -> Option<&'a str>,
    findings: &mut Findings,
) -> Value {
    let jaas = get("sasl.jaas.config").unwrap_or_default();
    let option = |name: &str| {
        let pattern = Regex::new(&format!("{name}\\s*=\\s*\"([^\"]*)\"")).ok()?;
        Some(pattern.captures(jaas)?.get(1)?.as_str().to_owned())
    };
    let mechanism = get("sasl.mechanism")
        .unwrap_or("GSSAPI")
        .to_lowercase()
        .replace('_', "-");
    let mut sasl = Tree::new();
    let mut comment = |text: String| findings.comments.push(text);
    match &*mechanism {
        "plain" | "scram-sha-256" | "scram-sha-512" => {
            let variable = format!("{}_PASSWORD", alias.to_uppercase().replace(['-', '.'], "_"));
            comment(format!(
                "{alias}.sasl.jaas.config: the password is not copied: put it into {variable}, or name a file: ${{file:/path}}"
            ));
            sasl.insert(
                "username".to_owned(),
                option("username").unwrap_or_default().into(),
            );
            sasl.insert("password".to_owned(), json!(format!("${{env:{variable}}}")));
            findings.variables.push(variable);
        }
        "aws-msk-iam" => {
            let region = Regex::new(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com").ok();
            let region =
                region.and_then(|region| Some(region.captures(servers)?.get(1)?.as_str().to_owned()));
            match region {
                Some(region) => {
                    sasl.insert("aws_region".to_owned(), region.into());
                }
                None => comment(format!(
                    "{alias}.bootstrap.servers do not say in which AWS region they are: set clusters.{alias}.sasl.aws_region"
                )),
            }
            if let Some(role) = option("awsRoleArn") {
                sasl.insert("role_arn".to_owned(), role.into());
            }
        }
        "oauthbearer" => comment(format!(
            "{alias}.sasl.*: set token_url, client_id, client_secret and scope of clusters.{alias}.sasl"
        )),
        other => comment(format!(
            "{alias}.sasl.mechanism: NO EQUIVALENT: there is no {other} here"
        )),
    }
    sasl.insert("mechanism".to_owned(), mechanism.into());
    Value::Object(sasl)
}
