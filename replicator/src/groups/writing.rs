//! From what is due to what is written on the target.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use kuroshio_client::{Flow, Question, Topic, Translator};
use kuroshio_core::flow::Pairing;
use kuroshio_core::groups::Mark;
use kuroshio_core::types::TopicPartition;
use kuroshio_wire::{ByPartition, Class, Cluster, Committer, Error, GroupOffset};

use super::{Due, GroupSync, Owned};

/// Groups written at the same time.
const AT_ONCE: usize = 16;

impl GroupSync {
    /// Translates partition by partition; what fails is told and left for the next time.
    pub(super) async fn translate(
        &mut self,
        owned: &HashMap<TopicPartition, Owned>,
        due: Vec<Due>,
    ) -> Result<BTreeMap<Arc<str>, Vec<(Due, GroupOffset)>>, kuroshio_client::Error> {
        let mut by_partition: BTreeMap<TopicPartition, Vec<Due>> = BTreeMap::new();
        for one in due {
            by_partition.entry(one.source.clone()).or_default().push(one);
        }
        let mut topics = HashMap::new();
        let questions: Vec<Question> = by_partition
            .iter()
            .map(|(partition, due)| {
                let pairing = &owned[partition].pairing;
                let topic = topics
                    .entry(Arc::clone(&partition.topic))
                    .or_insert_with(|| Arc::new(self.topic(pairing)));
                let offsets: BTreeSet<i64> = due.iter().map(|one| one.wanted).collect();
                Question {
                    topic: Arc::clone(topic),
                    partition: partition.partition,
                    offsets: offsets.into_iter().collect(),
                    anchors: due.iter().filter_map(|one| one.anchor).collect(),
                }
            })
            .collect();
        let translator = Translator::new(self.source.clone(), self.target.clone());
        let answers = translator.translate(&questions).await?;
        let mut by_group: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for ((question, answer), due) in questions.iter().zip(answers).zip(by_partition.into_values()) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    self.fail(error.to_string());
                    continue;
                }
            };
            let answers: HashMap<_, _> = question.offsets.iter().zip(&answer).collect();
            for one in due {
                let Some(answer) = answers.get(&one.wanted) else {
                    continue;
                };
                let mark = Mark {
                    flow: &self.flow.name,
                    source: one.wanted,
                };
                let offset = GroupOffset {
                    offset: answer.translation.offset,
                    leader_epoch: None,
                    metadata: mark.to_string().into(),
                };
                by_group
                    .entry(Arc::clone(&one.group))
                    .or_default()
                    .push((one, offset));
            }
        }
        Ok(by_group)
    }

    /// A topic with all flows that bring records of it to either cluster.
    fn topic(&self, pairing: &Pairing) -> Topic {
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
        let mut into_to = into(&self.flow.target, &pairing.target_topic);
        into_to.retain(|flow| flow.name != self.flow.name);
        Topic {
            flow: Flow {
                name: Arc::clone(&self.flow.name),
                source: Arc::clone(&self.flow.source),
                topic: Arc::clone(&pairing.source.topic),
            },
            name: Arc::clone(&pairing.target_topic),
            into_from: into(&self.flow.source, &pairing.source.topic),
            into_to,
        }
    }

    pub(super) async fn write(&mut self, translated: BTreeMap<Arc<str>, Vec<(Due, GroupOffset)>>) {
        let target = &self.target;
        let writes = stream::iter(translated).map(|(group, offsets)| commit(target.clone(), group, offsets));
        let written: Vec<_> = writes.buffer_unordered(AT_ONCE).collect().await;
        for (group, offsets, written) in written {
            self.written(&group, offsets, written);
        }
    }

    fn written(
        &mut self,
        group: &Arc<str>,
        offsets: Vec<(Due, GroupOffset)>,
        written: Result<ByPartition<()>, Error>,
    ) {
        let mut written = match written {
            Ok(written) => written,
            // A member joined after we looked: the group lives there now.
            Err(error) if matches!(error.class(), Class::Rejoin | Class::Fenced) => return,
            Err(error) => return self.fail(error.to_string()),
        };
        let Some(known) = self.known.get_mut(group) else {
            return;
        };
        let (mut all, mut failed) = (true, Vec::new());
        for (due, _) in offsets {
            match written.remove(&due.target) {
                Some(Ok(())) => {
                    known.synced.insert(due.source, due.wanted);
                }
                Some(Err(error)) => {
                    all = false;
                    failed.push(error);
                }
                None => all = false,
            }
        }
        if all && known.left.is_none() {
            known.right = Instant::now();
        }
        failed.into_iter().for_each(|error| self.fail(error.to_string()));
    }
}

async fn commit(
    target: Cluster,
    group: Arc<str>,
    offsets: Vec<(Due, GroupOffset)>,
) -> (Arc<str>, Vec<(Due, GroupOffset)>, Result<ByPartition<()>, Error>) {
    let named = offsets
        .iter()
        .map(|(due, offset)| (due.target.clone(), offset.clone()));
    let named: Vec<_> = named.collect();
    let written = target.commit_offsets(&group, Committer::Observer, &named).await;
    (group, offsets, written)
}
