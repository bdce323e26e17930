//! What a cluster's `tls` and `sasl` mean for connections of the control plane, and where tokens come from. (For librdkafka: `app/engines.rs`.)

mod iam;
mod oauth;
mod rotation;

use std::sync::Arc;
use std::time::SystemTime;

use kuroshio_core::secret::Token;
use kuroshio_wire::{Credentials, Security, Tokens};

use crate::board::wall_ms;
use crate::config::{Cluster, Sasl, User};

pub use rotation::{Exchange, Rotation};

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
    let sasl = cluster.sasl.as_ref().and_then(|sasl| {
        Some(match sasl {
            Sasl::Plain(user) => kuroshio_wire::Sasl::Plain(credentials(user)),
            Sasl::ScramSha256(user) => kuroshio_wire::Sasl::ScramSha256(credentials(user)),
            Sasl::ScramSha512(user) => kuroshio_wire::Sasl::ScramSha512(credentials(user)),
            Sasl::OauthBearer(_) | Sasl::AwsMskIam { .. } => {
                kuroshio_wire::Sasl::OauthBearer(tokens(cluster)?)
            }
        })
    });
    Security { tls, sasl }
}

/// Where a cluster's bearer tokens come from; `None`: it wants none.
#[must_use]
pub fn tokens(cluster: &Cluster) -> Option<Tokens> {
    let source = match cluster.sasl.as_ref()? {
        Sasl::Plain(_) | Sasl::ScramSha256(_) | Sasl::ScramSha512(_) => return None,
        Sasl::AwsMskIam { region, role_arn } => {
            Source::Iam(iam::Signer::new(Arc::clone(region), role_arn.clone()))
        }
        Sasl::OauthBearer(server) => {
            let ca_file = cluster.tls.as_ref().and_then(|tls| tls.ca_file.clone());
            Source::OAuth(oauth::Asker::new(server.clone(), ca_file))
        }
    };
    let keeper = Arc::new(Keeper {
        source,
        kept: tokio::sync::Mutex::default(),
    });
    Some(Tokens::new(move || {
        let keeper = Arc::clone(&keeper);
        Box::pin(async move { keeper.get().await })
    }))
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
    /// The one that is kept, or a new one; who gives them is asked once for all that wait. One that is not over yet is better than none.
    async fn get(&self) -> Result<Token, String> {
        let mut kept = self.kept.lock().await;
        if let Some(token) = kept.as_ref().filter(|token| token.is_fresh(wall_ms())) {
            return Ok(token.clone());
        }
        let new = match &self.source {
            Source::OAuth(asker) => asker.ask(),
            Source::Iam(signer) => signer.sign(SystemTime::now()).await,
        };
        match (new, kept.as_ref()) {
            (Ok(token), _) => Ok(kept.insert(token).clone()),
            (Err(why), Some(token)) if wall_ms() < token.expires => {
                tracing::warn!(error = why, "no new token: the last one is used until it is over");
                Ok(token.clone())
            }
            (Err(why), _) => Err(why),
        }
    }
}
