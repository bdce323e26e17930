//! Offsets of users' groups in terms of a flow's target: partition by partition, for all groups at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kuroshio_client::{Anchor, Asked, Error, Flow, Hint, Question, Topic, Translated, Translator};
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::Cluster;

use crate::config;

/// Partitions translated before it is told how far that is.
const STEP: usize = 64;

/// An offset to be translated.
#[derive(Clone, Debug)]
pub struct Due {
    /// Whose.
    pub group: Arc<str>,
    /// Where on the source.
    pub source: TopicPartition,
    /// Its partition on the target.
    pub target: TopicPartition,
    /// The offset on the source.
    pub wanted: i64,
    /// What the target has by an earlier translation.
    pub anchor: Option<Anchor>,
    /// Where the flow put it.
    pub hint: Option<Hint>,
}

impl Due {
    fn asked(&self) -> Asked {
        Asked {
            offset: self.wanted,
            anchor: self.anchor,
            hint: self.hint,
        }
    }
}

/// A flow between its clusters.
#[derive(Clone, Copy)]
pub struct Between<'a> {
    /// The flow.
    pub flow: &'a config::Flow,
    /// All flows of the configuration: records of a topic may come over several.
    pub flows: &'a [config::Flow],
    /// The source.
    pub source: &'a Cluster,
    /// The target.
    pub target: &'a Cluster,
}

impl Between<'_> {
    /// Translates what is due, in any order; what fails says why. `count`: the records that will be read again are counted, not
    /// bounded. `progress` is told how many offsets are done.
    ///
    /// # Errors
    /// When a cluster cannot be asked where its flows stand.
    pub async fn translate(
        &self,
        due: Vec<Due>,
        count: bool,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<(Due, Result<Translated, String>)>, Error> {
        let mut by_partition: BTreeMap<(TopicPartition, TopicPartition), Vec<Due>> = BTreeMap::new();
        for one in due {
            let ends = (one.source.clone(), one.target.clone());
            by_partition.entry(ends).or_default().push(one);
        }
        let mut topics = HashMap::new();
        let work: Vec<(Question, Vec<Due>)> = by_partition
            .into_iter()
            .map(|((source, target), due)| {
                let topic = topics
                    .entry(Arc::clone(&source.topic))
                    .or_insert_with(|| Arc::new(self.topic(&source.topic, &target.topic)));
                let offsets: BTreeSet<Asked> = due.iter().map(Due::asked).collect();
                let question = Question {
                    topic: Arc::clone(topic),
                    partition: source.partition,
                    offsets: offsets.into_iter().collect(),
                    count,
                };
                (question, due)
            })
            .collect();
        let (questions, mut dues): (Vec<_>, Vec<_>) = work.into_iter().unzip();
        let translator = Translator::new(self.source.clone(), self.target.clone());
        let mut translated = Vec::new();
        for (questions, dues) in questions.chunks(STEP).zip(dues.chunks_mut(STEP)) {
            let answers = translator.translate(questions).await?;
            for ((question, answer), due) in questions.iter().zip(answers).zip(dues) {
                let answer = answer.map_err(|error| error.to_string());
                translated.extend(std::mem::take(due).into_iter().map(|one| {
                    let number = question.offsets.binary_search(&one.asked()).ok();
                    let outcome = answer.as_ref().map_err(Clone::clone).and_then(|answers| {
                        let answer = number.and_then(|number| answers.get(number).copied());
                        answer.ok_or_else(|| format!("{}: offset {} got no answer", one.source, one.wanted))
                    });
                    (one, outcome)
                }));
            }
            progress(translated.len());
        }
        Ok(translated)
    }

    /// A topic with all flows that bring records of it to either cluster.
    fn topic(&self, source: &Arc<str>, target: &Arc<str>) -> Topic {
        let into = |cluster: &str, topic: &str| {
            let flows = self.flows.iter().filter(|flow| *flow.target == *cluster);
            flows
                .filter_map(|flow| {
                    Some(Flow {
                        name: Arc::clone(&flow.name),
                        source: Arc::clone(&flow.source),
                        topic: flow.router.source_of(topic)?,
                    })
                })
                .collect::<Vec<_>>()
        };
        let mut into_to = into(&self.flow.target, target);
        into_to.retain(|flow| flow.name != self.flow.name);
        Topic {
            flow: Flow {
                name: Arc::clone(&self.flow.name),
                source: Arc::clone(&self.flow.source),
                topic: Arc::clone(source),
            },
            name: Arc::clone(target),
            into_from: into(&self.flow.source, source),
            into_to,
        }
    }
}
