//! Which topics are copied, and what is missing on the target.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuroshio_core::configs::at_creation;
use kuroshio_core::needs::Side;
use kuroshio_wire::{Error, KafkaCode, NewTopic};
use serde::Serialize;

use super::{Ends, FlowPlan};
use crate::config::Partitions;
use crate::configs::described;
use crate::survey::Survey;

/// The topics of a flow.
#[derive(Debug, Default, Serialize)]
pub struct Topics {
    /// Topics of the source by name.
    pub rows: Vec<TopicRow>,
    /// Topics that Kuroshio makes for itself.
    pub own: Vec<Make>,
}

/// What becomes of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicAction {
    /// It is copied, and the target has it as it must be.
    Copy,
    /// The target's is made.
    Create,
    /// Partitions are added to the target's.
    Grow,
    /// It is not copied.
    Leave,
}

/// A topic of the source.
#[derive(Debug, Serialize)]
pub struct TopicRow {
    /// Its name.
    pub topic: Arc<str>,
    /// What becomes of it.
    pub action: TopicAction,
    /// Its name on the target, if it is copied.
    pub target_topic: Option<Arc<str>>,
    /// Its partitions.
    pub partitions: i32,
    /// Those that the target has.
    pub target_partitions: Option<i32>,
    /// How it is made.
    pub creation: Option<Creation>,
    /// Why it is not copied, or what else is to be known.
    pub note: Option<String>,
}

/// How a topic is made.
#[derive(Debug, Serialize)]
pub struct Creation {
    /// -1: the target broker's default.
    pub replication_factor: i16,
    /// Configs that are set on it.
    pub configs: BTreeMap<String, String>,
}

/// A topic that Kuroshio makes for itself.
#[derive(Debug, Serialize)]
pub struct Make {
    /// Its name.
    pub topic: Arc<str>,
    /// Alias of the cluster.
    pub cluster: Arc<str>,
}

/// What is done about a topic that has `wanted` partitions and `there` on the target, and what is to be known about that.
fn action(wanted: i32, there: Option<i32>, grows: bool) -> (TopicAction, Option<String>) {
    match there {
        None => (TopicAction::Create, None),
        Some(there) if there < wanted && grows => (TopicAction::Grow, None),
        Some(there) if there < wanted => {
            let left = wanted - there;
            let note = format!(
                "the target has {there} partitions, so the last {left} are not copied (partitions: none)"
            );
            (TopicAction::Copy, Some(note))
        }
        Some(there) if there > wanted => {
            let note = format!("the target has {there} partitions, which is fine");
            (TopicAction::Copy, Some(note))
        }
        Some(_) => (TopicAction::Copy, None),
    }
}

/// What it means that the target would not make a topic, and whether that is a problem.
fn refusal(code: Option<KafkaCode>) -> (&'static str, bool) {
    match code {
        Some(KafkaCode::InvalidConfig) => ("made without the configs that the target refuses", false),
        // Between two of our questions: a flow that runs, or somebody else.
        Some(KafkaCode::TopicAlreadyExists) => ("it was made a moment ago", false),
        _ => ("the target refuses it", true),
    }
}

impl Ends<'_> {
    pub(super) async fn topics(&self, survey: &Survey, problems: &mut Vec<String>) -> Result<Topics, Error> {
        let mut topics = Topics::default();
        for (topic, target) in &survey.plan.routes {
            topics.rows.push(self.row(survey, topic, target, problems));
        }
        for (topic, why) in &survey.plan.unselected {
            topics.rows.push(left(survey, topic, why.to_string()));
        }
        for conflict in &survey.plan.conflicts {
            problems.push(conflict.to_string());
            let note = |topic: &Arc<str>| {
                let others = conflict.sources.iter().filter(|other| *other != topic);
                let others: Vec<&str> = others.map(|other| &**other).collect();
                format!(
                    "would be {} on the target, as {} would",
                    conflict.target,
                    others.join(", ")
                )
            };
            let rows = conflict
                .sources
                .iter()
                .map(|topic| left(survey, topic, note(topic)));
            topics.rows.extend(rows);
        }
        topics.rows.sort_by(|a, b| a.topic.cmp(&b.topic));
        self.configure(&mut topics.rows, problems).await?;
        self.validate(&mut topics.rows, problems).await?;
        topics.own = self.own(survey);
        Ok(topics)
    }

    fn row(
        &self,
        survey: &Survey,
        topic: &Arc<str>,
        target: &Arc<str>,
        problems: &mut Vec<String>,
    ) -> TopicRow {
        let wanted = partitions(survey, topic);
        let there = survey.there.get(target).map(|found| found.partition_count());
        let (action, note) = match survey.hidden.get(target) {
            Some(error) => {
                problems.push(format!("topic {target} on {}: {error}", self.flow.target));
                (
                    TopicAction::Copy,
                    Some("the target does not say whether it has it".to_owned()),
                )
            }
            None => action(wanted, there, self.flow.partitions == Partitions::Sync),
        };
        TopicRow {
            topic: Arc::clone(topic),
            action,
            target_topic: Some(Arc::clone(target)),
            partitions: wanted,
            target_partitions: there,
            creation: None,
            note,
        }
    }

    /// Finds out the configs of the topics that are made.
    async fn configure(&self, rows: &mut [TopicRow], problems: &mut Vec<String>) -> Result<(), Error> {
        let made = rows.iter_mut().filter(|row| row.action == TopicAction::Create);
        let mut made: Vec<&mut TopicRow> = made.collect();
        let names: Vec<Arc<str>> = made.iter().map(|row| Arc::clone(&row.topic)).collect();
        let mut configs = described(self.source, &names).await?;
        let rules = &self.flow.configs;
        for row in &mut made {
            let configs = match configs.remove(&row.topic) {
                Some(Ok(configs)) => at_creation(&configs, rules.sync, |name| rules.follows(name)),
                Some(Err(error)) => {
                    problems.push(format!("{} cannot be made: {error}", row.topic));
                    continue;
                }
                None => continue,
            };
            row.creation = Some(Creation {
                replication_factor: self.flow.replication_factor,
                configs: configs.into_iter().collect(),
            });
        }
        Ok(())
    }

    /// Asks the target whether it would make them so.
    async fn validate(&self, rows: &mut [TopicRow], problems: &mut Vec<String>) -> Result<(), Error> {
        let new = |row: &TopicRow| {
            let creation = row.creation.as_ref()?;
            Some(NewTopic {
                name: Arc::clone(row.target_topic.as_ref()?),
                partitions: row.partitions,
                replication_factor: creation.replication_factor,
                configs: creation.configs.clone().into_iter().collect(),
            })
        };
        let topics: Vec<NewTopic> = rows.iter().filter_map(new).collect();
        let mut outcomes = self.target.validate_topics(&topics).await?;
        for row in rows {
            let outcome = row
                .target_topic
                .as_ref()
                .and_then(|target| outcomes.remove(target));
            let Some(Err(error)) = outcome else { continue };
            let (note, wrong) = refusal(error.code());
            row.note = Some(format!("{note}: {error}"));
            if wrong {
                problems.push(format!("{} cannot be made: {error}", row.topic));
            }
        }
        Ok(())
    }

    /// Topics that Kuroshio makes, and the copies of those.
    fn own(&self, survey: &Survey) -> Vec<Make> {
        let cluster = |side| match side {
            Side::Source => &self.flow.source,
            Side::Target => &self.flow.target,
        };
        let missing = survey.own.iter().filter(|own| own.missing);
        let own = missing.map(|own| (&own.topic, own.side));
        let copies = survey.coming.values().filter(|target| survey.is_missing(target));
        let make = |(topic, side)| Make {
            topic: Arc::clone(topic),
            cluster: Arc::clone(cluster(side)),
        };
        own.chain(copies.map(|target| (target, Side::Target)))
            .map(make)
            .collect()
    }
}

fn partitions(survey: &Survey, topic: &str) -> i32 {
    survey
        .topics
        .get(topic)
        .map_or(0, |topic| topic.partition_count())
}

impl FlowPlan {
    /// Target topics that somebody deleted stay deleted.
    pub(super) fn deleted(&mut self, survey: &Survey, deleted: BTreeMap<Arc<str>, Arc<str>>) {
        for (topic, target) in deleted {
            let note = format!(
                "{target} was deleted on the target: quarantined until `kuroshio resume {} --topic {topic}`",
                self.flow
            );
            self.problems.push(format!("topic {topic}: {note}"));
            self.topics.rows.push(left(survey, &topic, note));
        }
        self.topics.rows.sort_by(|a, b| a.topic.cmp(&b.topic));
    }
}

fn left(survey: &Survey, topic: &Arc<str>, why: String) -> TopicRow {
    TopicRow {
        topic: Arc::clone(topic),
        action: TopicAction::Leave,
        target_topic: None,
        partitions: partitions(survey, topic),
        target_partitions: None,
        creation: None,
        note: Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_grows_and_never_shrinks() {
        for (wanted, there, grows, expected, noted) in [
            (3, None, true, TopicAction::Create, ""),
            (3, None, false, TopicAction::Create, ""),
            (3, Some(3), true, TopicAction::Copy, ""),
            (3, Some(1), true, TopicAction::Grow, ""),
            (3, Some(1), false, TopicAction::Copy, "the last 2 are not copied"),
            (3, Some(5), true, TopicAction::Copy, "5 partitions, which is fine"),
            (
                3,
                Some(5),
                false,
                TopicAction::Copy,
                "5 partitions, which is fine",
            ),
        ] {
            let (action, note) = action(wanted, there, grows);
            assert_eq!(action, expected, "{wanted} {there:?} {grows}");
            let note = note.unwrap_or_default();
            assert!(
                note.contains(noted) && note.is_empty() == noted.is_empty(),
                "{note}"
            );
        }
    }

    #[test]
    fn what_is_there_or_is_made_otherwise_is_no_problem() {
        for (code, wrong) in [
            (Some(KafkaCode::TopicAlreadyExists), false),
            (Some(KafkaCode::InvalidConfig), false),
            (Some(KafkaCode::InvalidReplicationFactor), true),
            (Some(KafkaCode::TopicAuthorizationFailed), true),
            (Some(KafkaCode::PolicyViolation), true),
            (None, true),
        ] {
            assert_eq!(refusal(code).1, wrong, "{code:?}");
        }
    }
}
