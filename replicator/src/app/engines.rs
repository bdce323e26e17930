//! What the configuration of a cluster means for the engine's clients.

use std::path::PathBuf;
use std::sync::Arc;

use kuroshio_core::secret::Secret;
use kuroshio_librdkafka::{ClientSettings, Security, Tokens};

use crate::config::{Cluster, Config, Sasl, User};
use crate::security;

/// librdkafka's settings for a cluster.
pub(super) fn settings(config: &Config, alias: &Arc<str>) -> ClientSettings {
    let cluster = config.clusters.get(alias);
    let mut properties = cluster
        .map(|cluster| cluster.librdkafka.clone())
        .unwrap_or_default();
    let servers = cluster
        .map(|cluster| cluster.bootstrap_servers.join(","))
        .unwrap_or_default();
    properties.insert("bootstrap.servers".to_owned(), servers);
    ClientSettings {
        alias: Arc::clone(alias),
        properties,
        security: cluster.map(security).unwrap_or_default(),
    }
}

/// How its clients are secured. Their threads wait for tokens on the runtime that this is called in.
///
/// # Panics
/// Outside a runtime, where the cluster wants tokens.
pub(super) fn security(cluster: &Cluster) -> Security {
    let tokens = security::tokens(cluster).map(|tokens| {
        let runtime = tokio::runtime::Handle::current();
        Tokens::new(move || runtime.block_on(tokens.get()))
    });
    Security {
        properties: properties(cluster),
        tokens,
    }
}

fn properties(cluster: &Cluster) -> Vec<(&'static str, Secret)> {
    let protocol = match (&cluster.tls, &cluster.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    let mut properties = vec![("security.protocol", Secret::from(protocol))];
    if let Some(tls) = &cluster.tls {
        let path = |path: &PathBuf| Secret::from(path.display().to_string());
        properties.extend([
            // `probe`: wherever systems have them; OpenSSL is linked in and has no idea of this one's.
            (
                "ssl.ca.location",
                tls.ca_file.as_ref().map_or_else(|| "probe".into(), path),
            ),
            ("ssl.endpoint.identification.algorithm", "https".into()),
            ("enable.ssl.certificate.verification", "true".into()),
        ]);
        if let Some((certificate, key)) = &tls.identity {
            properties.push(("ssl.certificate.location", path(certificate)));
            properties.push(("ssl.key.location", path(key)));
        }
    }
    let mut named = |mechanism: &'static str, user: Option<&User>| {
        properties.push(("sasl.mechanisms", mechanism.into()));
        if let Some(user) = user {
            properties.push(("sasl.username", user.name.as_str().into()));
            properties.push(("sasl.password", user.password.clone()));
        }
    };
    match &cluster.sasl {
        None => {}
        Some(Sasl::Plain(user)) => named("PLAIN", Some(user)),
        Some(Sasl::ScramSha256(user)) => named("SCRAM-SHA-256", Some(user)),
        Some(Sasl::ScramSha512(user)) => named("SCRAM-SHA-512", Some(user)),
        Some(Sasl::OauthBearer(_)) => named("OAUTHBEARER", None),
        Some(Sasl::AwsMskIam { .. }) => {
            named("OAUTHBEARER", None);
            // A broker takes 100 new connections a second with IAM, whoever asks.
            properties.push(("reconnect.backoff.ms", "1000".into()));
        }
    }
    properties
}

#[cfg(test)]
mod tests;
