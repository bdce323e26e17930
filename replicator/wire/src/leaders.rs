//! Questions that only the leaders of partitions can answer: asked of all leaders at once, again for the
//! partitions whose leader moved.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::MetadataRequest;
use kuroshio_core::types::TopicPartition;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::class::waits;
use crate::cluster::Cluster;
use crate::error::{Error, On, Place};
use crate::metadata::{Metadata, Topics};
use crate::settings::BACKOFF;

/// An outcome for each partition asked about.
pub type ByPartition<T> = HashMap<TopicPartition, Result<T, Error>>;

/// What one leader said: the broker, and for each partition an error code with the answer.
pub(crate) type Said<T> = Result<(Place, Vec<(TopicPartition, i16, T)>), Error>;

/// The partitions of one topic with what is asked of each, as requests list them.
pub(crate) type ByTopic<Q> = BTreeMap<Arc<str>, Vec<(i32, Q)>>;

/// One round's question to one leader.
pub(crate) struct Question<Q> {
    pub(crate) cluster: Cluster,
    pub(crate) leader: i32,
    pub(crate) topics: ByTopic<Q>,
    pub(crate) deadline: Instant,
}

/// The partitions asked about, until each has its outcome.
struct Inquiry<Q, T> {
    cluster: Cluster,
    deadline: Instant,
    open: HashMap<TopicPartition, Q>,
    /// What the last attempt met, for those that are still open.
    waiting: HashMap<TopicPartition, Error>,
    done: ByPartition<T>,
}

impl Cluster {
    /// Asks the leader of each partition. Every partition gets an outcome; only those whose outcome is to be
    /// waited out are asked again.
    pub(crate) async fn ask_leaders<Q, T, F>(
        &self,
        questions: impl IntoIterator<Item = (TopicPartition, Q)>,
        extra: Duration,
        send: impl Fn(Question<Q>) -> F,
    ) -> ByPartition<T>
    where
        Q: Clone,
        T: Send + 'static,
        F: Future<Output = Said<T>> + Send + 'static,
    {
        let (cluster, deadline) = (self.clone(), self.deadline(extra));
        let open = questions.into_iter().collect();
        let mut inquiry = Inquiry {
            cluster,
            deadline,
            open,
            waiting: HashMap::new(),
            done: HashMap::new(),
        };
        let started = Instant::now();
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            inquiry.round(&send).await;
            let Some(last) = inquiry.waiting.values().next().cloned() else {
                return inquiry.done;
            };
            if let Err(Error::GaveUp { after, .. }) = self.pause(&mut backoff, started, deadline, last).await
            {
                let given_up = |(partition, last)| {
                    (
                        partition,
                        Err(Error::GaveUp {
                            after,
                            last: Box::new(last),
                        }),
                    )
                };
                inquiry.done.extend(inquiry.waiting.into_iter().map(given_up));
                return inquiry.done;
            }
        }
    }
}

impl<Q: Clone, T: Send + 'static> Inquiry<Q, T> {
    /// Asks all leaders once.
    async fn round<F>(&mut self, send: &impl Fn(Question<Q>) -> F)
    where
        F: Future<Output = Said<T>> + Send + 'static,
    {
        self.look_up_leaders().await;
        let mut asked = JoinSet::new();
        for (leader, topics) in self.by_leader() {
            let partitions = names(&topics);
            let said = send(Question {
                cluster: self.cluster.clone(),
                leader,
                topics,
                deadline: self.deadline,
            });
            asked.spawn(async move { (leader, partitions, said.await) });
        }
        while let Some(outcome) = asked.join_next().await {
            match outcome {
                Ok((leader, partitions, Err(error))) => self.take_failure(leader, partitions, &error),
                Ok((_, partitions, Ok((at, answers)))) => self.take_answers(partitions, &at, answers),
                // A question neither panics nor is aborted.
                Err(error) => {
                    tracing::error!(cluster = %self.cluster.alias(), %error, "a question to a leader ended without outcome");
                }
            }
        }
    }

    /// Asks for metadata where a leader is not known, and settles what does not exist or may not be seen.
    async fn look_up_leaders(&mut self) {
        let unled: Vec<_> = {
            let directory = self.cluster.directory();
            self.open
                .keys()
                .filter(|partition| directory.leader(partition).is_none())
                .cloned()
                .collect()
        };
        if unled.is_empty() {
            return;
        }
        let topics: HashSet<_> = unled
            .iter()
            .map(|partition| Arc::clone(&partition.topic))
            .collect();
        let topics: Vec<_> = topics.into_iter().collect();
        match self.cluster.refresh(Topics::Named(&topics), self.deadline).await {
            Ok(metadata) => {
                for partition in unled {
                    self.settle_unknown(partition, &metadata);
                }
            }
            Err(error) => unled
                .into_iter()
                .for_each(|partition| self.settle_or_wait(partition, error.clone())),
        }
    }

    fn settle_unknown(&mut self, partition: TopicPartition, metadata: &Metadata) {
        let unknown = |code| {
            self.cluster
                .not_known::<MetadataRequest>(On::Partition(partition.clone()), code)
        };
        let told = metadata.topics.iter().find(|topic| topic.name == partition.topic);
        let found = told.and_then(|topic| {
            topic
                .partitions
                .iter()
                .find(|told| told.partition == partition.partition)
        });
        let error = match (told.and_then(|topic| topic.error.clone()), found) {
            (Some(error), _) => error,
            (None, Some(found)) if found.leader.is_some() => return,
            (None, Some(_)) => unknown(ResponseError::LeaderNotAvailable),
            (None, None) => unknown(ResponseError::UnknownTopicOrPartition),
        };
        self.settle_or_wait(partition, error);
    }

    /// Sorts the open questions by leader.
    fn by_leader(&self) -> HashMap<i32, ByTopic<Q>> {
        let directory = self.cluster.directory();
        let mut by_leader: HashMap<i32, ByTopic<Q>> = HashMap::new();
        for (partition, question) in &self.open {
            if let Some(leader) = directory.leader(partition) {
                let topic = by_leader
                    .entry(leader)
                    .or_default()
                    .entry(Arc::clone(&partition.topic))
                    .or_default();
                topic.push((partition.partition, question.clone()));
            }
        }
        by_leader
    }

    fn take_failure(&mut self, leader: i32, asked: Vec<TopicPartition>, error: &Error) {
        if error.is_connection() {
            self.cluster.directory().forget_broker(leader);
        }
        for partition in asked {
            self.cluster.directory().forget_topic(&partition.topic);
            self.settle_or_wait(partition, error.clone());
        }
    }

    fn take_answers(
        &mut self,
        asked: Vec<TopicPartition>,
        at: &Place,
        answers: Vec<(TopicPartition, i16, T)>,
    ) {
        let mut silent: HashSet<_> = asked.into_iter().collect();
        for (partition, code, answer) in answers {
            if !silent.remove(&partition) {
                continue;
            }
            let Some(code) = ResponseError::try_from_code(code) else {
                self.settle(partition, Ok(answer));
                continue;
            };
            let error = Error::Kafka {
                at: at.clone(),
                on: On::Partition(partition.clone()),
                code,
                message: None,
            };
            // Only metadata can say that a partition is not there: the broker asked may not know it yet,
            // or no longer.
            if is_stale(code) || waits(code) {
                self.cluster.directory().forget_topic(&partition.topic);
                self.wait(partition, error);
            } else {
                self.settle(partition, Err(error));
            }
        }
        for partition in silent {
            let why = format!("it does not speak of {partition}").into();
            self.settle(partition, Err(Error::Garbled { at: at.clone(), why }));
        }
    }

    fn settle_or_wait(&mut self, partition: TopicPartition, error: Error) {
        if error.is_connection() || error.code().is_some_and(waits) {
            self.wait(partition, error);
        } else {
            self.settle(partition, Err(error));
        }
    }

    fn settle(&mut self, partition: TopicPartition, outcome: Result<T, Error>) {
        self.open.remove(&partition);
        self.waiting.remove(&partition);
        self.done.insert(partition, outcome);
    }

    /// Where our own time cut an attempt short, the attempt before says more about the cause.
    fn wait(&mut self, partition: TopicPartition, error: Error) {
        if Instant::now() < self.deadline || !self.waiting.contains_key(&partition) {
            self.waiting.insert(partition, error);
        }
    }
}

/// What a leader says whose knowledge of topics, or ours, is old.
const fn is_stale(code: ResponseError) -> bool {
    matches!(
        code,
        ResponseError::UnknownTopicOrPartition
            | ResponseError::UnknownTopicId
            | ResponseError::InconsistentTopicId
    )
}

fn names<Q>(topics: &ByTopic<Q>) -> Vec<TopicPartition> {
    let of = |(topic, partitions): (&Arc<str>, &Vec<(i32, Q)>)| {
        partitions
            .iter()
            .map(|(number, _)| TopicPartition::new(Arc::clone(topic), *number))
            .collect::<Vec<_>>()
    };
    topics.iter().flat_map(of).collect()
}

impl<Q> Question<Q> {
    /// One attempt with this leader.
    pub(crate) async fn once<R: crate::api::Api>(
        &self,
        purpose: crate::connection::Purpose,
        extra: Duration,
        build: impl Fn(i16) -> R + Sync,
    ) -> Result<(R::Response, Place), Error> {
        use crate::cluster::{Route, To};
        let route = Route::new(To::Broker(self.leader), purpose, On::Broker(self.leader)).waiting(extra);
        self.cluster.once(&route, &build, self.deadline).await
    }
}
