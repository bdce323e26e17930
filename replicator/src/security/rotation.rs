//! Secrets that are exchanged while we run: whoever rotates them writes files, and nobody restarts anything.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use kuroshio_core::secret::Secret;
use tokio::sync::watch;

use crate::config::{Cluster, Config};

/// Tells the engines that this cluster is secured otherwise.
pub type Exchange = Box<dyn Fn(&Arc<str>, &Cluster) + Send + Sync>;

/// Makes the clients of a cluster anew when its secrets have changed.
pub struct Rotation {
    /// As the file last had them.
    wanted: BTreeMap<Arc<str>, Cluster>,
    clusters: BTreeMap<Arc<str>, Secured>,
    /// Makes the engines' clients anew.
    exchange: Exchange,
    /// What callers of the HTTP server must show. Whether they must is settled at the start.
    token: watch::Sender<Option<Secret>>,
}

struct Secured {
    known: Known,
    control: kuroshio_wire::Cluster,
}

/// What connections to a cluster depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    cluster: Cluster,
    /// Of what the files hold; `None`: one cannot be read.
    files: Option<u64>,
}

impl Known {
    fn of(cluster: &Cluster) -> Self {
        let tls = cluster.tls.iter();
        let files = tls.flat_map(|tls| {
            let identity = tls
                .identity
                .iter()
                .flat_map(|(certificate, key)| [certificate, key]);
            tls.ca_file.iter().chain(identity)
        });
        Self {
            cluster: cluster.clone(),
            files: fingerprint(files),
        }
    }

    fn is_secured_as(&self, other: &Self) -> bool {
        (&self.cluster.tls, &self.cluster.sasl, self.files)
            == (&other.cluster.tls, &other.cluster.sasl, other.files)
    }
}

fn fingerprint<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).ok()?.hash(&mut hasher);
    }
    Some(hasher.finish())
}

impl Rotation {
    /// Of these clusters, as the configuration has them now.
    #[must_use]
    pub fn new(
        config: &Config,
        clusters: BTreeMap<Arc<str>, kuroshio_wire::Cluster>,
        exchange: Exchange,
        token: watch::Sender<Option<Secret>>,
    ) -> Self {
        let secured = |(alias, control): (Arc<str>, _)| {
            let known = Known::of(config.clusters.get(&alias)?);
            Some((alias, Secured { known, control }))
        };
        Self {
            wanted: config.clusters.clone(),
            clusters: clusters.into_iter().filter_map(secured).collect(),
            exchange,
            token,
        }
    }

    /// What the file says now.
    pub fn take(&mut self, config: &Config) {
        self.wanted.clone_from(&config.clusters);
        self.exchange_token(config.http_token.as_ref());
    }

    /// Takes over what has changed, also in the files that it names.
    ///
    /// # Errors
    /// Why something cannot be used: what was there before is.
    pub fn look(&mut self) -> Result<(), String> {
        let mut problem = None;
        for (alias, secured) in &mut self.clusters {
            let now = self.wanted.get(alias).map(Known::of);
            let Some(now) = now.filter(|now| !now.is_secured_as(&secured.known)) else {
                continue;
            };
            // A certificate may be there before its key is.
            let security = super::wire(&now.cluster);
            if let Err(why) = security.check() {
                problem = Some(format!("cluster {alias}: {why}"));
                continue;
            }
            tracing::info!(cluster = %alias, "its secrets have changed: connecting anew");
            secured.control.secure(security);
            (self.exchange)(alias, &now.cluster);
            secured.known = now;
        }
        problem.map_or(Ok(()), Err)
    }

    fn exchange_token(&self, new: Option<&Secret>) {
        let changed = self.token.send_if_modified(|token| {
            let changes = token.is_some() && new.is_some() && token.as_ref() != new;
            if changes {
                *token = new.cloned();
            }
            changes
        });
        if changed {
            tracing::info!("http.token has changed: callers must show the new one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    #[test]
    fn the_token_is_exchanged_and_neither_given_up_nor_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("kuroshio.yaml"), dir.path().join("token"));
        let write = |http: &str| {
            let text = format!(
                "instance: a\nclusters: {{ tw: {{ bootstrap_servers: 'a:1' }}, jp: {{ bootstrap_servers: 'b:1' }} }}\n\
                 flows: [{{ source: tw, target: jp }}]\nhttp: {{ {http} }}"
            );
            std::fs::write(&path, text).unwrap();
        };
        let from_file = format!("token: '${{file:{}}}'", secret.display());
        for (begun, steps) in [
            (
                &*from_file,
                vec![
                    (&*from_file, "one", Some("one")),
                    (&*from_file, "two", Some("two")),
                    // Not a token: the last one is kept, and why is told.
                    (&*from_file, "", Some("two")),
                    ("admin: true", "", Some("two")),
                    ("token: three", "", Some("three")),
                ],
            ),
            ("", vec![(&*from_file, "one", None)]),
        ] {
            std::fs::write(&secret, "one").unwrap();
            write(begun);
            let config = load(&path, &Environment::new()).unwrap();
            let (token, seen) = watch::channel(config.http_token.clone());
            let nothing: Exchange = Box::new(|_, _| {});
            let mut rotation = Rotation::new(&config, BTreeMap::new(), nothing, token);
            for (http, written, wanted) in steps {
                std::fs::write(&secret, written).unwrap();
                write(http);
                let loaded = load(&path, &Environment::new());
                let bad = http == from_file && written.is_empty();
                assert_eq!(loaded.is_err(), bad, "{loaded:?}");
                if let Ok(config) = loaded {
                    rotation.take(&config);
                }
                assert_eq!(
                    seen.borrow().as_ref().map(Secret::reveal),
                    wanted,
                    "{http} {written}"
                );
            }
        }
    }
}
