//! Writing a few records of our own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use kuroshio_core::types::TopicPartition;

use crate::cluster::{Cluster, name};
use crate::connection::Purpose;
use crate::error::{Error, On};
use crate::leaders::{Question, Said};

/// All replicas in sync.
const ALL: i16 = -1;

/// A record without headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl Cluster {
    /// Appends records to a partition in one batch stamped with `timestamp` (milliseconds since 1970), and waits until all replicas
    /// in sync have it. Returns the offset of the first. Without a producer's numbers: after a lost answer they may be there twice.
    /// Not for records that are replicated.
    pub async fn append(
        &self,
        partition: &TopicPartition,
        records: &[NewRecord],
        timestamp: i64,
    ) -> Result<i64, Error> {
        let batch = match batch(records, timestamp) {
            Ok(batch) => batch,
            Err(why) => {
                return Err(Error::NotSent {
                    cluster: std::sync::Arc::clone(self.alias()),
                    api: "Produce",
                    on: On::Partition(partition.clone()),
                    why: why.into(),
                });
            }
        };
        let mut outcomes = self
            .ask_leaders([(partition.clone(), batch)], Duration::ZERO, produce)
            .await;
        // Every partition asked about has an outcome.
        outcomes.remove(partition).unwrap_or_else(|| {
            let code = ResponseError::UnknownTopicOrPartition;
            Err(self.not_known::<ProduceRequest>(On::Partition(partition.clone()), code))
        })
    }
}

/// Sends one batch; [`Cluster::append`] asks about no more.
async fn produce(question: Question<Bytes>) -> Said<i64> {
    let timeout_ms = question.cluster.broker_timeout_ms();
    let build = |_| {
        let topics = question.topics.iter().map(|(topic, partitions)| {
            let data = |(index, batch): &(i32, Bytes)| {
                PartitionProduceData::default()
                    .with_index(*index)
                    .with_records(Some(batch.clone()))
            };
            TopicProduceData::default()
                .with_name(name(topic).into())
                .with_partition_data(partitions.iter().map(data).collect())
        });
        ProduceRequest::default()
            .with_acks(ALL)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(topics.collect())
    };
    let (answer, at) = question.once(Purpose::Produce, Duration::ZERO, build).await?;
    let mut said = Vec::new();
    for topic in answer.responses {
        for partition in topic.partition_responses {
            let named = TopicPartition::new(topic.name.0.as_str(), partition.index);
            said.push((named, partition.error_code, partition.base_offset));
        }
    }
    Ok((at, said))
}

fn batch(records: &[NewRecord], timestamp: i64) -> Result<Bytes, String> {
    let records: Vec<Record> = (0..)
        .zip(records)
        .map(|(number, record)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(number),
            // The encoder begins another batch where numbers and offsets part, and a broker takes one.
            sequence: NO_SEQUENCE + number,
            timestamp,
            key: Some(record.key.clone().into()),
            value: Some(record.value.clone().into()),
            headers: Default::default(),
        })
        .collect();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options).map_err(|error| format!("{error:#}"))?;
    Ok(batch.freeze())
}

#[cfg(test)]
mod tests {
    use kuroshio_core::batch::{Batches, Isolation};

    use super::*;

    #[test]
    fn a_batch_can_be_read_by_our_own_rules() {
        let records: Vec<NewRecord> = (0..5_u8)
            .map(|number| NewRecord {
                key: vec![number],
                value: vec![number; 3],
            })
            .collect();
        let bytes = batch(&records, 1_234).unwrap();
        let mut read = Vec::new();
        let batches: Vec<_> = Batches::new(bytes, Isolation::ReadUncommitted, 1 << 20).collect();
        assert_eq!(batches.len(), 1);
        for batch in batches {
            assert_eq!(batch.as_ref().unwrap().producer_id, NO_PRODUCER_ID);
            for record in batch.unwrap().records() {
                let record = record.unwrap();
                assert_eq!(record.timestamp, 1_234);
                read.push(NewRecord {
                    key: record.key.unwrap().to_vec(),
                    value: record.value.unwrap().to_vec(),
                });
            }
        }
        assert_eq!(read, records);
    }
}
