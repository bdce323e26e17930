//! Which configs of topics that are there would change.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_core::configs::{Change, changes};
use kuroshio_wire::{Class, Error, KafkaCode};
use serde::Serialize;

use super::Ends;
use crate::configs::{TOPICS, asked, described};
use crate::survey::Survey;

/// The configs of a flow's topics.
#[derive(Debug, Default, Serialize)]
pub struct Configs {
    /// `configs.sync`.
    pub sync: bool,
    /// What would change.
    pub rows: Vec<ConfigRow>,
}

/// A config of a target topic.
#[derive(Debug, Serialize)]
pub struct ConfigRow {
    /// The topic on the target.
    pub topic: Arc<str>,
    /// The config's name.
    pub name: Arc<str>,
    /// Its value now.
    pub from: Option<Arc<str>>,
    /// What it is set to; null: back to the broker's.
    pub to: Option<Arc<str>>,
    /// Why the target does not take it: then it stays as it is.
    pub refused: Option<String>,
}

impl Ends<'_> {
    /// `ruled`: the topics about which the source decides, with their names on the target.
    pub(super) async fn configs(
        &self,
        survey: &Survey,
        ruled: &BTreeMap<Arc<str>, Arc<str>>,
        problems: &mut Vec<String>,
    ) -> Result<Configs, Error> {
        let mut configs = Configs {
            sync: self.flow.configs.sync,
            rows: Vec::new(),
        };
        if !configs.sync {
            return Ok(configs);
        }
        let compared: Vec<_> = ruled
            .iter()
            .filter(|(_, target)| survey.there.contains_key(*target))
            .collect();
        let sources: Vec<Arc<str>> = compared.iter().map(|(source, _)| Arc::clone(source)).collect();
        let targets: Vec<Arc<str>> = compared.iter().map(|(_, target)| Arc::clone(target)).collect();
        let (mut wanted, mut there) =
            tokio::try_join!(described(self.source, &sources), described(self.target, &targets))?;
        let mut due = Vec::new();
        for (source, target) in compared {
            let (wanted, there) = match (wanted.remove(source), there.remove(target)) {
                (Some(Ok(wanted)), Some(Ok(there))) => (wanted, there),
                (Some(Err(error)), _) | (_, Some(Err(error))) => {
                    problems.push(format!("configs of {target} cannot be compared: {error}"));
                    continue;
                }
                (None, _) | (_, None) => continue,
            };
            let changes = changes(&wanted, &there, |name| self.flow.configs.follows(name));
            configs.rows.extend(changes.iter().map(|change| ConfigRow {
                topic: Arc::clone(target),
                name: Arc::clone(&change.name),
                from: there.get(&change.name).map(|config| Arc::clone(&config.value)),
                to: change.value.clone(),
                refused: None,
            }));
            if !changes.is_empty() {
                due.push((Arc::clone(target), changes));
            }
        }
        self.try_changes(due, &mut configs.rows, problems).await?;
        Ok(configs)
    }

    /// Asks the target whether it would take them; where not, which of them.
    async fn try_changes(
        &self,
        due: Vec<(Arc<str>, Vec<Change>)>,
        rows: &mut [ConfigRow],
        problems: &mut Vec<String>,
    ) -> Result<(), Error> {
        let mut alone = Vec::new();
        for part in due.chunks(TOPICS) {
            let together: Vec<_> = part
                .iter()
                .map(|(topic, changes)| (Arc::clone(topic), changes.iter().map(asked).collect()))
                .collect();
            let outcomes = self.target.validate_topic_configs(&together).await?;
            let refused =
                |topic| matches!(outcomes.get(topic), Some(Err(error)) if error.class() == Class::Fatal);
            alone.extend(part.iter().filter(|(topic, _)| refused(topic)));
        }
        for (topic, changes) in alone {
            for change in changes {
                let one = [(Arc::clone(topic), vec![asked(change)])];
                let Some(Err(error)) = self.target.validate_topic_configs(&one).await?.remove(topic) else {
                    continue;
                };
                if error.code() == Some(KafkaCode::TopicAuthorizationFailed) {
                    problems.push(format!("configs of {topic} cannot be changed: {error}"));
                    break;
                }
                let mut of_change = rows.iter_mut();
                if let Some(row) = of_change.find(|row| row.topic == *topic && row.name == change.name) {
                    row.refused = Some(error.to_string());
                }
            }
        }
        Ok(())
    }
}
