//! Topics made, grown, emptied and deleted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteTopicsRequest, DeleteTopicsResponse,
};
use kuroshio_core::types::TopicPartition;
use uuid::Uuid;

use crate::cluster::{Cluster, Route, To, name, text};
use crate::connection::Purpose;
use crate::error::{Error, On, Place};
use crate::leaders::{ByPartition, Question, Said};
use crate::metadata::TopicId;

/// What one request may come to, in partitions and settings. A KRaft controller makes of each a record, and refuses to write
/// more than 10,000 at once (`QuorumController.MAX_RECORDS_PER_USER_OP`); of a thousand it is done well within a request's time.
const RECORDS_PER_REQUEST: usize = 1_000;

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Partitions; -1: the broker's `num.partitions`.
    pub partitions: i32,
    /// Replicas of each partition; -1: the broker's `default.replication.factor`.
    pub replication_factor: i16,
    /// Configurations that differ from the broker's defaults.
    pub configs: Vec<(String, String)>,
}

/// A topic that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity; Kafka 2.8 and later.
    pub id: Option<TopicId>,
}

impl Cluster {
    /// Creates topics, in as many requests as it takes; each topic has its own outcome. After a lost answer the second attempt
    /// says TOPIC_ALREADY_EXISTS. Other brokers may not know the topics for a moment after the answer.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<HashMap<Arc<str>, Result<CreatedTopic, Error>>, Error> {
        self.create_all_topics(topics, false).await
    }

    /// Whether topics could be created; they are not.
    pub async fn validate_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<HashMap<Arc<str>, Result<CreatedTopic, Error>>, Error> {
        self.create_all_topics(topics, true).await
    }

    /// Whether a topic could be created; it is not.
    pub async fn validate_topic(&self, topic: &NewTopic) -> Result<(), Error> {
        let mut outcomes = self.validate_topics(std::slice::from_ref(topic)).await?;
        outcomes
            .remove(&topic.name)
            .map_or(Ok(()), |outcome| outcome.map(|_| ()))
    }

    async fn create_all_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<HashMap<Arc<str>, Result<CreatedTopic, Error>>, Error> {
        let records =
            |topic: &NewTopic| 1 + usize::try_from(topic.partitions).unwrap_or(1) + topic.configs.len();
        let mut outcomes = HashMap::new();
        for part in requests(topics, records) {
            outcomes.extend(self.create_some_topics(part, validate_only).await?);
        }
        Ok(outcomes)
    }

    async fn create_some_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<HashMap<Arc<str>, Result<CreatedTopic, Error>>, Error> {
        let timeout = self.broker_timeout_ms();
        let creatable = |topic: &NewTopic| {
            let config = |(key, value): &(String, String)| {
                CreatableTopicConfig::default()
                    .with_name(name(key))
                    .with_value(Some(name(value)))
            };
            CreatableTopic::default()
                .with_name(name(&topic.name).into())
                .with_num_partitions(topic.partitions)
                .with_replication_factor(topic.replication_factor)
                .with_configs(topic.configs.iter().map(config).collect())
        };
        let build = |_| {
            let topics = topics.iter().map(creatable).collect();
            CreateTopicsRequest::default()
                .with_topics(topics)
                .with_timeout_ms(timeout)
                .with_validate_only(validate_only)
        };
        let moved = |answer: &CreateTopicsResponse| moved(answer.topics.iter().map(|topic| topic.error_code));
        let (answer, at) = self.ask(to_controller(), build, moved).await?;
        let mut outcomes = HashMap::new();
        for topic in answer.topics {
            let bytes = topic.topic_id.into_bytes();
            let created = CreatedTopic {
                id: (bytes != [0; 16]).then_some(TopicId(bytes)),
            };
            let message = topic.error_message.as_ref().map(text);
            let topic_name = text(&topic.name.0);
            let outcome = self.outcome(&at, &topic_name, topic.error_code, message);
            outcomes.insert(topic_name, outcome.map(|()| created));
        }
        Ok(outcomes)
    }

    /// Grows topics to the given numbers of partitions, in as many requests as it takes. A topic that has as many or more is
    /// refused with INVALID_PARTITIONS, also after a lost answer.
    pub async fn create_partitions(
        &self,
        topics: &[(Arc<str>, i32)],
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        let mut outcomes = HashMap::new();
        for part in requests(topics, |(_, count)| usize::try_from(*count).unwrap_or(1)) {
            outcomes.extend(self.create_some_partitions(part).await?);
        }
        Ok(outcomes)
    }

    async fn create_some_partitions(
        &self,
        topics: &[(Arc<str>, i32)],
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        let timeout = self.broker_timeout_ms();
        let build = |_| {
            let grown = topics.iter().map(|(topic, count)| {
                CreatePartitionsTopic::default()
                    .with_name(name(topic).into())
                    .with_count(*count)
                    .with_assignments(None)
            });
            CreatePartitionsRequest::default()
                .with_topics(grown.collect())
                .with_timeout_ms(timeout)
        };
        let moved =
            |answer: &CreatePartitionsResponse| moved(answer.results.iter().map(|topic| topic.error_code));
        let (answer, at) = self.ask(to_controller(), build, moved).await?;
        let outcomes = answer.results.into_iter().map(|topic| {
            let topic_name = text(&topic.name.0);
            let message = topic.error_message.as_ref().map(text);
            self.directory().forget_topic(&topic_name);
            let outcome = self.outcome(&at, &topic_name, topic.error_code, message);
            (topic_name, outcome)
        });
        Ok(outcomes.collect())
    }

    /// Deletes topics, in as many requests as it takes. After a lost answer the second attempt says UNKNOWN_TOPIC_OR_PARTITION.
    pub async fn delete_topics(
        &self,
        topics: &[Arc<str>],
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        let mut outcomes = HashMap::new();
        for part in requests(topics, |_| 1) {
            outcomes.extend(self.delete_some_topics(part).await?);
        }
        Ok(outcomes)
    }

    async fn delete_some_topics(
        &self,
        topics: &[Arc<str>],
    ) -> Result<HashMap<Arc<str>, Result<(), Error>>, Error> {
        let timeout = self.broker_timeout_ms();
        let build = |version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(timeout);
            let names = topics.iter().map(|topic| name(topic).into());
            if version >= 6 {
                let states = names.map(|name| DeleteTopicState::default().with_name(Some(name)));
                request.with_topics(states.collect())
            } else {
                request.with_topic_names(names.collect())
            }
        };
        let moved =
            |answer: &DeleteTopicsResponse| moved(answer.responses.iter().map(|topic| topic.error_code));
        let (answer, at) = self.ask(to_controller(), build, moved).await?;
        let mut outcomes = HashMap::new();
        for topic in answer.responses {
            let Some(topic_name) = topic.name.as_ref().map(|name| text(&name.0)) else {
                continue;
            };
            self.directory().forget_topic(&topic_name);
            let message = topic.error_message.as_ref().map(text);
            let outcome = self.outcome(&at, &topic_name, topic.error_code, message);
            outcomes.insert(topic_name, outcome);
        }
        Ok(outcomes)
    }

    /// Deletes the topic of this id, and no other that has its name by now; Kafka 2.8 and later. After a lost answer the second attempt
    /// says UNKNOWN_TOPIC_ID.
    pub async fn delete_topic_of(&self, topic: &Arc<str>, id: TopicId) -> Result<(), Error> {
        let timeout = self.broker_timeout_ms();
        let build = |_| {
            let state = DeleteTopicState::default().with_topic_id(Uuid::from_bytes(id.0));
            DeleteTopicsRequest::default()
                .with_timeout_ms(timeout)
                .with_topics(vec![state])
        };
        let moved =
            |answer: &DeleteTopicsResponse| moved(answer.responses.iter().map(|topic| topic.error_code));
        let (answer, at) = self.ask(to_controller().at_least(6), build, moved).await?;
        self.directory().forget_topic(topic);
        let said = answer.responses.into_iter().next();
        said.map_or(Ok(()), |said| {
            self.outcome(&at, topic, said.error_code, said.error_message.as_ref().map(text))
        })
    }

    /// Deletes the records before the given offsets; -1: all. Returns the new log starts.
    pub async fn delete_records(
        &self,
        before: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> ByPartition<i64> {
        self.ask_leaders(before, Duration::ZERO, delete_records).await
    }

    fn outcome(
        &self,
        at: &Place,
        topic: &Arc<str>,
        code: i16,
        message: Option<Arc<str>>,
    ) -> Result<(), Error> {
        match code {
            0 => Ok(()),
            code => Err(self.refused(at.clone(), On::Topic(Arc::clone(topic)), code, message)),
        }
    }
}

/// Parts of `items` that come to at most [`RECORDS_PER_REQUEST`], or hold one item, in their order.
fn requests<T>(items: &[T], records: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut sum = 0;
    items.chunk_by(move |before, item| {
        // Where a part begins, `before` is all of it.
        sum = sum.max(records(before)) + records(item);
        let fits = sum <= RECORDS_PER_REQUEST;
        if !fits {
            sum = 0;
        }
        fits
    })
}

fn to_controller() -> Route<'static> {
    Route::new(To::Controller, Purpose::Admin, On::Cluster)
}

/// A broker that is no controller says so for every topic.
fn moved(mut codes: impl Iterator<Item = i16>) -> (i16, Option<Arc<str>>) {
    let not_controller = ResponseError::NotController.code();
    (
        if codes.any(|code| code == not_controller) {
            not_controller
        } else {
            0
        },
        None,
    )
}

async fn delete_records(question: Question<i64>) -> Said<i64> {
    let timeout = question.cluster.broker_timeout_ms();
    let partition = |(index, offset): &(i32, i64)| {
        DeleteRecordsPartition::default()
            .with_partition_index(*index)
            .with_offset(*offset)
    };
    let build = |_| {
        let topics = question.topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().map(partition).collect();
            DeleteRecordsTopic::default()
                .with_name(name(topic).into())
                .with_partitions(partitions)
        });
        DeleteRecordsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(timeout)
    };
    let (answer, at) = question.once(Purpose::Admin, Duration::ZERO, build).await?;
    let mut said = Vec::new();
    for topic in answer.topics {
        let topic_name = text(&topic.name.0);
        for partition in topic.partitions {
            let partition_name = TopicPartition::new(topic_name.clone(), partition.partition_index);
            said.push((partition_name, partition.error_code, partition.low_watermark));
        }
    }
    Ok((at, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_to_a_thousand_records_or_one_item() {
        for (items, expected) in [
            (vec![], vec![]),
            (vec![5_000], vec![1]),
            (vec![500, 500, 1], vec![2, 1]),
            (vec![5_000, 1, 999, 1], vec![1, 2, 1]),
            (vec![1, 5_000, 1], vec![1, 1, 1]),
            (vec![101; 100], [vec![9; 11], vec![1]].concat()),
        ] {
            let parts: Vec<usize> = requests(&items, |item| *item).map(<[usize]>::len).collect();
            assert_eq!(parts, expected, "{items:?}");
        }
    }
}
