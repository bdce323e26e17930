//! The configuration file of a process that runs. What may change is taken over as soon as it does (INTERFACE "Configuration"), secrets
//! always; a file that cannot be used, or asks for what only a start can do, is refused whole, and what was in force stays so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::board::FlowBoard;
use crate::config::{Config, Difference, File, Flow};
use crate::logs::Level;
use crate::metrics::Gauge;
use crate::security::Rotation;

/// Between two looks at the files. The kubelet itself takes up to a minute to exchange a mounted one.
const LOOK: Duration = Duration::from_secs(5);
/// Requests that wait.
const WAITING: usize = 4;

/// Somebody who wants the file to be read now, and to hear what came of it.
pub type Asked = oneshot::Sender<Result<String, String>>;

/// A file that the process follows.
pub struct Followed {
    /// The file.
    pub file: File,
    /// Of the logs.
    pub level: Level,
    /// Asks for a look.
    pub ask: mpsc::Sender<Asked>,
    asked: mpsc::Receiver<Asked>,
}

impl Followed {
    /// This file.
    #[must_use]
    pub fn new(file: File, level: Level) -> Self {
        let (ask, asked) = mpsc::channel(WAITING);
        Self {
            file,
            level,
            ask,
            asked,
        }
    }
}

/// Who hears of other settings.
pub struct Hearers {
    /// The flows.
    pub flows: watch::Sender<Arc<[Flow]>>,
    /// Clusters and callers, of other secrets.
    pub rotation: Rotation,
    /// People.
    pub boards: Vec<Arc<FlowBoard>>,
    /// Prometheus.
    pub successful: Gauge,
}

/// Follows the file.
pub struct Reload {
    followed: Followed,
    running: Config,
    hearers: Hearers,
    /// Why the file, as it was read last, is not in force.
    refused: Option<String>,
    told: Option<String>,
}

impl Reload {
    /// Follows a file from which `running` was made.
    #[must_use]
    pub fn new(followed: Followed, running: Config, hearers: Hearers) -> Self {
        hearers.successful.set(1.0);
        Self {
            followed,
            running,
            hearers,
            refused: None,
            told: None,
        }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        loop {
            let asked = tokio::select! {
                Some(asked) = self.followed.asked.recv() => Some(asked),
                () = tokio::time::sleep(LOOK) => None,
            };
            let done = tokio::task::block_in_place(|| self.look());
            self.tell(done.as_ref().err());
            if let Some(asked) = asked {
                // Who asked by a signal does not wait for an answer.
                drop(asked.send(done));
            }
        }
    }

    /// Says once what is wrong, and again only when that changes.
    fn tell(&mut self, problem: Option<&String>) {
        self.hearers.successful.set(f64::from(problem.is_none()));
        if problem != self.told.as_ref() {
            match problem {
                Some(why) => self
                    .hearers
                    .boards
                    .iter()
                    .for_each(|board| board.error(why.clone())),
                None => tracing::info!("the configuration file is in force again"),
            }
            self.told = problem.cloned();
        }
    }

    /// Takes over what has changed; what that was, in words.
    fn look(&mut self) -> Result<String, String> {
        let changed = match self.followed.file.changed() {
            Ok(Some(config)) => self.take(config),
            Ok(None) => None,
            Err(mistakes) => {
                return Err(format!(
                    "the configuration file as it is now cannot be used, what was in force stays so: {mistakes}"
                ));
            }
        };
        self.hearers.rotation.look().map_err(|why| {
            format!("secrets as they are now cannot be used, the last ones are kept: {why}")
        })?;
        match &self.refused {
            Some(why) => Err(why.clone()),
            None => Ok(changed.unwrap_or_else(|| "nothing has changed".to_owned())),
        }
    }

    fn take(&mut self, config: Config) -> Option<String> {
        self.hearers.rotation.take(&config);
        let difference = Difference::between(&self.running, &config);
        let list = |paths: &std::collections::BTreeSet<String>| {
            paths.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        self.refused = (!difference.fixed.is_empty()).then(|| {
            format!(
                "the configuration file is not in force: {} cannot change while the process runs; restart it, or take that back. \
                 Nothing of the file was taken over but secrets",
                list(&difference.fixed)
            )
        });
        if self.refused.is_some() || difference.live.is_empty() {
            return None;
        }
        if let Err(error) = self.followed.level.set(config.log.level) {
            tracing::error!(%error, "log.level");
        }
        self.hearers.flows.send_replace(config.flows.clone().into());
        self.running = config;
        let changed = format!("changed: {}", list(&difference.live));
        tracing::info!(
            settings = list(&difference.live),
            "the configuration file has changed, and is in force"
        );
        Some(changed)
    }
}

#[cfg(test)]
#[allow(clippy::too_many_lines, reason = "it is one table")]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, load};
    use crate::metrics::Metrics;
    use crate::status::FlowStatus;

    fn write(path: &Path, flow: &str, rest: &str) {
        let text = format!(
            "instance: a\nclusters: {{ tw: {{ bootstrap_servers: 'a:1' }}, jp: {{ bootstrap_servers: 'b:1' }} }}\n\
             flows: [{{ source: tw, target: jp{flow} }}]\n{rest}"
        );
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_file_is_taken_over_or_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kuroshio.yaml");
        write(&path, "", "");
        let config = load(&path, &Environment::new()).unwrap();
        let (flows, seen) = watch::channel(config.flows.clone().into());
        let rotation = Rotation::new(
            &config,
            BTreeMap::new(),
            Box::new(|_, _| {}),
            watch::channel(None).0,
        );
        let board = Arc::new(FlowBoard::new(FlowStatus::default()));
        let metrics = Metrics::new().unwrap();
        let hearers = Hearers {
            flows,
            rotation,
            boards: vec![Arc::clone(&board)],
            successful: metrics.reloaded(),
        };
        let followed = Followed::new(File::new(path.clone(), Environment::new()), Level::detached());
        let mut reload = Reload::new(followed, config, hearers);
        let throttle = |bytes: u64| format!(", throttle: {{ bytes_per_second: {bytes} }}");
        for (flow, rest, says, in_force) in [
            ("", "", Ok("nothing has changed"), 0),
            (&*throttle(5), "", Ok("changed: flows[0].throttle"), 5),
            (&*throttle(5), "", Ok("nothing has changed"), 5),
            (
                &*throttle(6),
                "shutdown_grace: 5s",
                Err("shutdown_grace cannot change"),
                5,
            ),
            // It is still so.
            (
                &*throttle(6),
                "shutdown_grace: 5s",
                Err("shutdown_grace cannot change"),
                5,
            ),
            (&*throttle(7), "typo: 1", Err("typo"), 5),
            (
                &*throttle(6),
                "shutdown_grace: 5s",
                Err("shutdown_grace cannot change"),
                5,
            ),
            (&*throttle(6), "", Ok("changed: flows[0].throttle"), 6),
            (
                ", topics: { include: ['('] }",
                "",
                Err("flows[0].topics.include[0]"),
                6,
            ),
            (
                "",
                "log: { level: debug }",
                Ok("changed: flows[0].throttle, log.level"),
                0,
            ),
        ] {
            write(&path, flow, rest);
            let done = reload.look();
            reload.tell(done.as_ref().err());
            let fits = match (&done, says) {
                (Ok(found), Ok(says)) => found == says,
                (Err(found), Err(says)) => found.contains(says),
                _ => false,
            };
            assert!(fits, "{flow} {rest}: {done:?}");
            assert_eq!(seen.borrow()[0].throttle.map_or(0, |limit| limit.get()), in_force);
            let text = metrics.text().unwrap();
            let gauge = format!(
                "kuroshio_config_last_reload_successful {}",
                u8::from(done.is_ok())
            );
            assert!(text.contains(&gauge), "{text}");
        }
        let errors = board.status().errors;
        assert_eq!(errors.len(), 3, "each is told once: {errors:?}");
    }
}
