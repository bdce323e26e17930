//! Reading a few records at an offset.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kuroshio_core::batch::{self, AbortedTransaction, Batches, Record};
use kuroshio_core::types::TopicPartition;
use uuid::Uuid;

use crate::cluster::{Cluster, millis, name};
use crate::connection::Purpose;
use crate::error::Error;
use crate::leaders::{Question, Said};
use crate::offsets::Isolation;

/// First Fetch version that names topics by id, so that a topic deleted and created again is not mistaken
/// for the one meant (KIP-516).
const BY_ID: i16 = 13;

/// Bytes of one batch, decompressed: brokers take batches of a few MiB.
const DECOMPRESSED: usize = 128 << 20;

/// Records that were read in one go, committed ones unless others were asked for too.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Each with the id of its producer.
    pub records: Vec<(i64, Record)>,
    /// Where to go on; where the reading began if nothing can be read there.
    pub next: i64,
    /// Bytes that came over the wire.
    pub bytes: usize,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// First offset wanted.
    pub offset: i64,
    /// Bytes wanted, at least 1. The broker sends the first batch whole also if it is larger (KIP-74); the
    /// last batch may be cut.
    pub max_bytes: i32,
    /// Which records are sent.
    pub isolation: Isolation,
    /// How long the broker may wait for a first record.
    pub max_wait: Duration,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Record batches as they lie in the log: the first may begin before the offset asked for, the last may
    /// be cut. Empty at the end of the log.
    pub records: Bytes,
    /// Which records were asked for.
    pub isolation: Isolation,
    /// The offset after the last record that all replicas have.
    pub high_watermark: i64,
    /// Below it every transaction has ended.
    pub last_stable_offset: i64,
    /// The first offset still there.
    pub log_start: i64,
    /// Under [`Isolation::ReadCommitted`]: transactions whose records in `records` do not count.
    pub aborted: Vec<AbortedTransaction>,
}

impl Chunk {
    /// The batches of `records`, decompressing at most `max_decompressed` bytes of each; records of aborted
    /// transactions are not seen if the isolation hides them.
    #[must_use]
    pub fn batches(&self, max_decompressed: usize) -> Batches {
        let isolation = match self.isolation {
            Isolation::ReadUncommitted => batch::Isolation::ReadUncommitted,
            Isolation::ReadCommitted => batch::Isolation::ReadCommitted {
                last_stable_offset: self.last_stable_offset,
                aborted: self.aborted.clone(),
            },
        };
        Batches::new(self.records.clone(), isolation, max_decompressed)
    }
}

impl Cluster {
    /// Reads at an offset from the partition's leader. An offset outside the log is the error
    /// OFFSET_OUT_OF_RANGE.
    pub async fn read(&self, partition: &TopicPartition, read: Read) -> Result<Chunk, Error> {
        let ask = |question| fetch(question, read);
        let mut outcomes = self
            .ask_leaders([(partition.clone(), read)], read.max_wait, ask)
            .await;
        // Every partition asked about has an outcome.
        outcomes.remove(partition).unwrap_or_else(|| {
            let code = kafka_protocol::error::ResponseError::UnknownTopicOrPartition;
            Err(self.not_known::<FetchRequest>(crate::On::Partition(partition.clone()), code))
        })
    }
}

impl Cluster {
    /// Reads committed records from `at` on, about `max_bytes` of them as they lie in the log, up to the first that cannot be
    /// read: it ends what can be known from here. Very many small ones are read in part.
    pub async fn read_committed(
        &self,
        partition: &TopicPartition,
        at: i64,
        max_bytes: i32,
    ) -> Result<Committed, Error> {
        self.read_records(partition, at, max_bytes, Isolation::ReadCommitted)
            .await
    }

    /// [`Cluster::read_committed`], or what is not committed too.
    pub async fn read_records(
        &self,
        partition: &TopicPartition,
        at: i64,
        max_bytes: i32,
        isolation: Isolation,
    ) -> Result<Committed, Error> {
        let read = Read {
            offset: at,
            max_bytes,
            isolation,
            max_wait: Duration::ZERO,
        };
        let chunk = self.read(partition, read).await?;
        let (records, next) = batch::records_from(chunk.batches(DECOMPRESSED), at);
        Ok(Committed {
            records,
            next,
            bytes: chunk.records.len(),
        })
    }
}

/// Fetches one partition; [`Cluster::read`] asks about no more.
async fn fetch(question: Question<Read>, read: Read) -> Said<Chunk> {
    let build = |version| request(&question, version);
    let (answer, at) = question.once(Purpose::Fetch, read.max_wait, build).await?;
    if answer.error_code != 0 {
        let on = crate::On::Broker(question.leader);
        return Err(question.cluster.refused(at, on, answer.error_code, None));
    }
    let asked = question.topics.keys().next();
    let mut said = Vec::new();
    // Since v13 the answer names the topic by its id; as one was asked for, it is that one.
    for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
        let Some(topic) = asked else { continue };
        let aborted = partition
            .aborted_transactions
            .unwrap_or_default()
            .into_iter()
            .map(|transaction| AbortedTransaction {
                producer_id: transaction.producer_id.0,
                first_offset: transaction.first_offset,
            });
        let chunk = Chunk {
            records: partition.records.unwrap_or_default(),
            isolation: read.isolation,
            high_watermark: partition.high_watermark,
            last_stable_offset: partition.last_stable_offset,
            log_start: partition.log_start_offset,
            aborted: aborted.collect(),
        };
        said.push((
            TopicPartition::new(topic.clone(), partition.partition_index),
            partition.error_code,
            chunk,
        ));
    }
    Ok((at, said))
}

fn request(question: &Question<Read>, version: i16) -> FetchRequest {
    let mut request = FetchRequest::default().with_min_bytes(1);
    for (topic, partitions) in &question.topics {
        let mut wanted = FetchTopic::default();
        if version >= BY_ID {
            let id = question.cluster.directory().topic_id(topic);
            wanted.topic_id = id.map_or(Uuid::nil(), |id| Uuid::from_bytes(id.0));
        } else {
            wanted.topic = name(topic).into();
        }
        for (index, read) in partitions {
            request.max_wait_ms = millis(read.max_wait);
            request.max_bytes = read.max_bytes;
            request.isolation_level = read.isolation.level();
            let partition = FetchPartition::default()
                .with_partition(*index)
                .with_fetch_offset(read.offset);
            wanted
                .partitions
                .push(partition.with_partition_max_bytes(read.max_bytes));
        }
        request.topics.push(wanted);
    }
    request
}
