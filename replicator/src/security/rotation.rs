//! Secrets that are exchanged while we run: whoever rotates them writes files, and nobody restarts anything.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Cluster, Config, File};

/// Between two looks at the files. The kubelet itself takes up to a minute to exchange a mounted secret.
const LOOK: Duration = Duration::from_secs(5);

/// Tells the engines that this cluster is secured otherwise.
pub type Exchange = Box<dyn Fn(&Arc<str>, &Cluster) + Send + Sync>;

/// Looks at the secrets, and makes the clients of a cluster anew when its have changed. Of the rest of the configuration nothing is taken.
pub struct Rotation {
    file: File,
    /// As the file last had them.
    wanted: BTreeMap<Arc<str>, Cluster>,
    clusters: BTreeMap<Arc<str>, Secured>,
    /// Makes the engines' clients anew.
    exchange: Exchange,
    /// What stood against the last change.
    told: Option<String>,
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
    /// Of these clusters, as the configuration has them now, by what the file will say.
    #[must_use]
    pub fn new(
        file: File,
        config: &Config,
        clusters: BTreeMap<Arc<str>, kuroshio_wire::Cluster>,
        exchange: Exchange,
    ) -> Self {
        let secured = |(alias, control): (Arc<str>, _)| {
            let known = Known::of(config.clusters.get(&alias)?);
            Some((alias, Secured { known, control }))
        };
        Self {
            file,
            wanted: config.clusters.clone(),
            clusters: clusters.into_iter().filter_map(secured).collect(),
            exchange,
            told: None,
        }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let problem = tokio::task::block_in_place(|| self.look());
            if problem != self.told {
                if let Some(why) = &problem {
                    tracing::warn!(
                        error = why,
                        "secrets as they are now cannot be used: the last ones are kept"
                    );
                }
                self.told = problem;
            }
        }
    }

    /// Takes over what has changed; `Some`: why something could not be.
    fn look(&mut self) -> Option<String> {
        match self.file.changed() {
            Ok(None) => {}
            Ok(Some(config)) => self.wanted = config.clusters,
            Err(mistakes) => return Some(mistakes.to_string()),
        }
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
        problem
    }
}
