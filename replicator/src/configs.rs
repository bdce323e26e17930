//! Keeps the configs of target topics as they are on the source (INTERFACE `configs`), each topic by the process that owns its first
//! partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::configs::{Change, Config, Configs, changes};
use kuroshio_core::flow::{Pairing, Phase};
use kuroshio_core::routes::is_reserved;
use kuroshio_core::slots::{SLOT_COUNT, slot_of};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{Class, Cluster, ConfigChange, ConfigEntry, ConfigSource, Error, KafkaCode};
use tokio::sync::watch;
use tracing::Instrument;

use crate::board::FlowBoard;
use crate::config;
use crate::spans;

/// How often it is looked whether something cannot wait for the interval.
const LOOK: Duration = Duration::from_secs(1);
/// Topics in one request: what describes them is some kilobytes each.
pub(crate) const TOPICS: usize = 200;

/// The sync of one flow's topic configs.
pub struct ConfigSync {
    /// The flow; the flow back may have the authority.
    pub flow: config::Current,
    /// The source.
    pub source: Cluster,
    /// The target.
    pub target: Cluster,
    /// The flow's board.
    pub board: Arc<FlowBoard>,
    /// The partitions that are copied.
    pub catalog: watch::Receiver<Arc<[Pairing]>>,
    /// What the target would not take, by target topic: asked for once.
    pub refused: BTreeMap<Arc<str>, BTreeSet<Change>>,
}

/// A topic on the source, and on the target.
type Names = (Arc<str>, Arc<str>);

impl ConfigSync {
    /// Syncs for ever.
    pub async fn run(mut self) {
        let mut last: Option<Instant> = None;
        let mut compared: BTreeSet<Names> = BTreeSet::new();
        let mut too_large = BTreeSet::new();
        loop {
            self.flow.sleep(LOOK).await;
            if !self.flow.configs.sync {
                self.flow.changed().await;
                continue;
            }
            let topics = self.topics();
            let due = last.is_none_or(|last| last.elapsed() >= self.flow.configs.interval);
            // A topic that was made or became ours; or the target refused a record, which may end with a higher limit.
            let tight = self.too_large();
            let urgent = |names: &&Names| {
                let grown = tight
                    .iter()
                    .any(|lane| !too_large.contains(lane) && lane.topic == names.0);
                due || grown || !compared.contains(*names)
            };
            let now: Vec<Names> = topics.iter().filter(urgent).cloned().collect();
            if !now.is_empty() {
                let span = spans::sync_configs(&self.flow.name, now.len());
                if let Err(error) = self.sync(&now).instrument(span.clone()).await {
                    spans::failed(&span, &error);
                    self.board.error(format!("configs of topics: {error}"));
                }
            }
            if due && !topics.is_empty() {
                last = Some(Instant::now());
            }
            (compared, too_large) = (topics, tight);
        }
    }

    /// Topics for which this process is to see to it.
    fn topics(&self) -> BTreeSet<Names> {
        let catalog = self.catalog.borrow();
        let ours = catalog.iter().filter(|pairing| {
            let (source, target) = (&pairing.source, &pairing.target_topic);
            source.partition == 0
                && !is_reserved(&source.topic)
                && self.board.owns(slot_of(&source.topic, 0, SLOT_COUNT)) == Some(true)
                && self.flow.rules(self.flow.all(), &source.topic, target)
        });
        ours.map(|pairing| {
            (
                Arc::clone(&pairing.source.topic),
                Arc::clone(&pairing.target_topic),
            )
        })
        .collect()
    }

    /// Partitions with a record that is too large for the target.
    fn too_large(&self) -> BTreeSet<TopicPartition> {
        let views = self.board.views();
        let lanes = views.iter().flat_map(|view| view.lanes.iter());
        lanes
            .filter(|lane| matches!(&lane.phase, Phase::Quarantined { why, .. } if why.reason == "too_large"))
            .map(|lane| lane.pairing.source.clone())
            .collect()
    }

    async fn sync(&mut self, topics: &[Names]) -> Result<(), Error> {
        for part in topics.chunks(TOPICS) {
            let names = |of: fn(&Names) -> &Arc<str>| {
                part.iter().map(|names| Arc::clone(of(names))).collect::<Vec<_>>()
            };
            let (sources, targets) = (names(|names| &names.0), names(|names| &names.1));
            let (mut wanted, mut there) = tokio::try_join!(
                described(&self.source, &sources),
                described(&self.target, &targets)
            )?;
            let mut due = Vec::new();
            for (source, target) in part {
                let (wanted, there) = (wanted.remove(source), there.remove(target));
                let (Some(wanted), Some(there)) = (self.known(wanted), self.known(there)) else {
                    continue;
                };
                let mut changes = changes(&wanted, &there, |name| self.flow.configs.follows(name));
                let refused = self.refused.get(target);
                changes.retain(|change| !refused.is_some_and(|refused| refused.contains(change)));
                if !changes.is_empty() {
                    due.push((Arc::clone(target), changes));
                }
            }
            self.change(due).await?;
        }
        Ok(())
    }

    /// The configs of a topic that is there.
    fn known(&self, described: Option<Result<Configs, Error>>) -> Option<Configs> {
        match described? {
            Ok(configs) => Some(configs),
            // It went a moment ago, which is discovery's to tell.
            Err(error) if error.code() == Some(KafkaCode::UnknownTopicOrPartition) => None,
            Err(error) => {
                self.board.error(format!("configs of topics: {error}"));
                None
            }
        }
    }

    async fn change(&mut self, topics: Vec<(Arc<str>, Vec<Change>)>) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = topics
            .iter()
            .map(|(topic, changes)| (Arc::clone(topic), changes.iter().map(asked).collect()))
            .collect();
        let mut outcomes = self.target.alter_topic_configs(&asked).await?;
        for (topic, changes) in topics {
            match outcomes.remove(&topic) {
                Some(Ok(())) => changes.iter().for_each(|change| self.changed(&topic, change)),
                Some(Err(error)) if error.class() == Class::Fatal => self.one_by_one(topic, changes).await?,
                Some(Err(error)) => self.board.error(format!("configs of topics: {error}")),
                None => {}
            }
        }
        Ok(())
    }

    /// One config that the target does not take holds back all others of its topic: which is it?
    async fn one_by_one(&mut self, topic: Arc<str>, changes: Vec<Change>) -> Result<(), Error> {
        for change in changes {
            let alone = [(Arc::clone(&topic), vec![asked(&change)])];
            match self.target.alter_topic_configs(&alone).await?.remove(&topic) {
                Some(Err(error)) if error.class() == Class::Fatal => {
                    let to = change.value.as_deref().unwrap_or("its default");
                    self.board.error(format!(
                        "config {} of topic {topic} is left as it is on cluster {}, which does not take {to}: {error}",
                        change.name, self.flow.target
                    ));
                    self.refused.entry(Arc::clone(&topic)).or_default().insert(change);
                }
                Some(Err(error)) => self.board.error(format!("configs of topics: {error}")),
                Some(Ok(())) => self.changed(&topic, &change),
                None => {}
            }
        }
        Ok(())
    }

    fn changed(&self, topic: &str, change: &Change) {
        tracing::info!(
            flow = %self.flow.name, topic, config = &*change.name, value = change.value.as_deref(),
            "config of a target topic changed"
        );
    }
}

/// The configs of topics, of each as far as it can be told.
pub(crate) async fn described(
    cluster: &Cluster,
    topics: &[Arc<str>],
) -> Result<HashMap<Arc<str>, Result<Configs, Error>>, Error> {
    let mut all = HashMap::new();
    for part in topics.chunks(TOPICS) {
        let told = cluster.topic_configs(part, None).await?;
        all.extend(
            told.into_iter()
                .map(|(topic, entries)| (topic, entries.map(|entries| configs(&entries)))),
        );
    }
    Ok(all)
}

/// Configs as the rules take them; secrets and what has no value are left out.
pub fn configs(entries: &[ConfigEntry]) -> Configs {
    let config = |entry: &ConfigEntry| {
        let config = Config {
            value: entry.value.clone()?,
            own: entry.source == ConfigSource::Topic,
        };
        Some((Arc::clone(&entry.key), config))
    };
    entries
        .iter()
        .filter(|entry| !entry.sensitive)
        .filter_map(config)
        .collect()
}

/// A change as it is asked for.
pub(crate) fn asked(change: &Change) -> ConfigChange {
    let name = change.name.to_string();
    match &change.value {
        Some(value) => ConfigChange::Set(name, value.to_string()),
        None => ConfigChange::Unset(name),
    }
}
