//! Embedded clusters for the demo and for tests: librdkafka's mock broker, with a plain writer and reader.
//!
//! The mock serves producers (idempotent and transactional), consumers and groups. It has no admin API, does not
//! fence, and shows the records of aborted transactions.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::native;

/// An embedded cluster or its traffic failed.
#[derive(Debug, thiserror::Error)]
#[error("embedded cluster: {doing}: {cause}")]
pub struct EmbeddedError {
    doing: String,
    cause: KafkaError,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> EmbeddedError {
    let doing = doing.into();
    |cause| EmbeddedError { doing, cause }
}

/// A cluster in this process; gone when dropped.
pub struct EmbeddedCluster {
    /// The client that the brokers live in.
    host: BaseProducer,
}

impl EmbeddedCluster {
    /// Starts a cluster of `brokers` brokers, which listen on free ports of the loopback address.
    ///
    /// # Errors
    /// [`EmbeddedError`] if no broker could be started.
    pub fn start(brokers: i32) -> Result<Self, EmbeddedError> {
        let host: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", brokers.to_string())
            .create()
            .map_err(failed("start"))?;
        // As a real broker of a demo would be set up: the default of 3 s is for groups of many members.
        native::no_rebalance_delay(host.client());
        Ok(Self { host })
    }

    /// Addresses for clients: `127.0.0.1:port,…`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.cluster()
            .map(|mock| mock.bootstrap_servers())
            .unwrap_or_default()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`EmbeddedError`] if it exists.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), EmbeddedError> {
        let none = Err(KafkaError::Canceled);
        self.cluster()
            .map_or(none, |mock| mock.create_topic(topic, partitions, 1))
            .map_err(failed(format!("create topic {topic}")))
    }

    /// `None` only for a client without brokers, which this one is not.
    fn cluster(&self) -> Option<MockCluster<'_, DefaultProducerContext>> {
        self.host.client().mock_cluster()
    }

    #[cfg(test)]
    pub(crate) fn mock(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.cluster().unwrap()
    }
}

/// Writes records to a cluster.
pub struct DemoWriter {
    producer: BaseProducer,
}

impl DemoWriter {
    /// A writer for the cluster at `bootstrap`.
    ///
    /// # Errors
    /// [`EmbeddedError`] if the client cannot be made.
    pub fn new(bootstrap: &str) -> Result<Self, EmbeddedError> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .create()
            .map_err(failed("make a writer"))?;
        Ok(Self { producer })
    }

    /// Queues a record; waits while the queue is full.
    ///
    /// # Errors
    /// [`EmbeddedError`] if the producer does not take it.
    pub fn write(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), EmbeddedError> {
        let mut list = OwnedHeaders::new_with_capacity(headers.len());
        for (key, value) in headers {
            list = list.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(topic)
            .partition(partition)
            .headers(list);
        record.key = key;
        record.payload = value;
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.producer.poll(Duration::ZERO);
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((cause, _)) => return Err(failed(format!("write to {topic}-{partition}"))(cause)),
            }
        }
    }

    /// Waits until everything queued is written.
    ///
    /// # Errors
    /// [`EmbeddedError`] if it is not within `wait`.
    pub fn flush(&self, wait: Duration) -> Result<(), EmbeddedError> {
        self.producer.flush(wait).map_err(failed("write what is queued"))
    }
}

/// A record as the reader gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key; `None` for null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for null.
    pub value: Option<Vec<u8>>,
    /// Its timestamp in milliseconds, if it has one.
    pub timestamp: Option<i64>,
    /// Its headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads partitions from their beginning. For records of this process only: header keys must be UTF-8.
pub struct DemoReader {
    consumer: BaseConsumer,
}

impl DemoReader {
    /// A reader of these partitions of the cluster at `bootstrap`.
    ///
    /// # Errors
    /// [`EmbeddedError`] if the client cannot be made.
    pub fn new(bootstrap: &str, partitions: &[(&str, i32)]) -> Result<Self, EmbeddedError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "kuroshio.reader")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .create()
            .map_err(failed("make a reader"))?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, Offset::Beginning)
                .map_err(failed("read"))?;
        }
        consumer.assign(&list).map_err(failed("read"))?;
        Ok(Self { consumer })
    }

    /// The next record; `None`: none came within `wait`.
    ///
    /// # Errors
    /// [`EmbeddedError`] if the consumer failed.
    pub fn next(&self, wait: Duration) -> Result<Option<DemoRecord>, EmbeddedError> {
        let Some(message) = self.consumer.poll(wait) else {
            return Ok(None);
        };
        let message = message.map_err(failed("read"))?;
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Ok(Some(DemoRecord {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            timestamp: message.timestamp().to_millis(),
            headers: headers.unwrap_or_default(),
        }))
    }
}
