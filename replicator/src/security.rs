//! What a cluster's `tls` and `sasl` mean for either of the two clients: our own of the control plane, and librdkafka.

mod iam;
mod oauth;
mod rotation;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kuroshio_core::secret::{Secret, Token};
use kuroshio_wire::{Credentials, Security};

use crate::config::{Cluster, Sasl, User};

pub use rotation::{Again, Rotation};

/// For connections of the control plane. Tokens are asked for when they are needed.
#[must_use]
pub fn wire(cluster: &Cluster) -> Security {
    let tls = cluster.tls.as_ref().map(|tls| kuroshio_wire::Tls {
        ca_file: tls.ca_file.clone(),
        identity: tls.identity.clone(),
    });
    let credentials = |user: &User| Credentials {
        username: user.name.clone(),
        password: user.password.clone(),
    };
    let sasl = cluster.sasl.as_ref().map(|sasl| match sasl {
        Sasl::Plain(user) => kuroshio_wire::Sasl::Plain(credentials(user)),
        Sasl::ScramSha256(user) => kuroshio_wire::Sasl::ScramSha256(credentials(user)),
        Sasl::ScramSha512(user) => kuroshio_wire::Sasl::ScramSha512(credentials(user)),
        Sasl::OauthBearer(_) | Sasl::AwsMskIam { .. } => {
            let keeper = Keeper::of(cluster);
            kuroshio_wire::Sasl::OauthBearer(kuroshio_wire::Tokens::new(move || {
                let keeper = Arc::clone(&keeper);
                Box::pin(async move { keeper.get().await })
            }))
        }
    });
    Security { tls, sasl }
}

/// For librdkafka's clients. Their threads wait for tokens on the runtime that this is called in.
///
/// # Panics
/// Outside a runtime, where the cluster wants tokens.
#[must_use]
pub fn librdkafka(cluster: &Cluster) -> kuroshio_librdkafka::Security {
    let tokens = matches!(cluster.sasl, Some(Sasl::OauthBearer(_) | Sasl::AwsMskIam { .. })).then(|| {
        let (keeper, runtime) = (Keeper::of(cluster), tokio::runtime::Handle::current());
        kuroshio_librdkafka::Tokens::new(move || runtime.block_on(keeper.get()))
    });
    kuroshio_librdkafka::Security {
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

/// Keeps a token for as long as it is fresh.
struct Keeper {
    source: Source,
    kept: tokio::sync::Mutex<Option<Token>>,
}

enum Source {
    OAuth(oauth::Asker),
    Iam(iam::Signer),
}

impl Keeper {
    fn of(cluster: &Cluster) -> Arc<Self> {
        let source = match &cluster.sasl {
            Some(Sasl::AwsMskIam { region, role_arn }) => {
                Source::Iam(iam::Signer::new(Arc::clone(region), role_arn.clone()))
            }
            Some(Sasl::OauthBearer(server)) => {
                let ca_file = cluster.tls.as_ref().and_then(|tls| tls.ca_file.clone());
                Source::OAuth(oauth::Asker::new(server.clone(), ca_file))
            }
            _ => unreachable!("asked for clusters with tokens only"),
        };
        Arc::new(Self {
            source,
            kept: tokio::sync::Mutex::default(),
        })
    }

    /// The one that is kept, or a new one; who gives them is asked once for all that wait. One that is not over yet is better than none.
    async fn get(&self) -> Result<Token, String> {
        let mut kept = self.kept.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh(SystemTime::now())) {
            return Ok(token.clone());
        }
        let new = match &self.source {
            Source::OAuth(asker) => asker.ask().await,
            Source::Iam(signer) => signer.sign(SystemTime::now()).await,
        };
        match (new, kept.as_ref()) {
            (Ok(token), _) => Ok(kept.insert(token).clone()),
            (Err(why), Some(token)) if SystemTime::now() < token.expires => {
                tracing::warn!(error = why, "no new token: the last one is used until it is over");
                Ok(token.clone())
            }
            (Err(why), _) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests;
