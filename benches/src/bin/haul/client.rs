//! A blocking client for one broker: the floors and the clock need a few calls and their exact cost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// A response is not believed beyond this.
const MAX_FRAME: usize = 256 << 20;
/// ListOffsets: the end, or the last stable offset for read_committed.
const LATEST: i64 = -1;

/// A request with the version that is used: the newest that names topics by name.
pub(crate) trait Call: Encodable + HeaderVersion {
    const KEY: ApiKey;
    const VERSION: i16;
    type Answer: Decodable + HeaderVersion;
}

impl Call for FetchRequest {
    const KEY: ApiKey = ApiKey::Fetch;
    const VERSION: i16 = 12;
    type Answer = FetchResponse;
}

impl Call for ProduceRequest {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSION: i16 = 9;
    type Answer = ProduceResponse;
}

impl Call for ListOffsetsRequest {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSION: i16 = 7;
    type Answer = ListOffsetsResponse;
}

/// A connection to a broker. Answers come in the order of the requests.
#[derive(Debug)]
pub(crate) struct Broker {
    stream: TcpStream,
    sent: i32,
}

impl Broker {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: 0 })
    }

    /// Another handle of the same connection, to read answers while this one writes.
    pub(crate) fn reader(&self) -> Result<Self> {
        Ok(Self {
            stream: self.stream.try_clone()?,
            sent: 0,
        })
    }

    /// Ends the connection for all its handles: who waits for an answer gets an error.
    pub(crate) fn shutdown(&self) {
        self.stream.shutdown(Shutdown::Both).ok();
    }

    pub(crate) fn send<C: Call>(&mut self, request: &C) -> Result<()> {
        self.sent = self.sent.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(C::KEY as i16)
            .with_request_api_version(C::VERSION)
            .with_correlation_id(self.sent)
            .with_client_id(Some(StrBytes::from_static_str("haul")));
        let wrong = |error| anyhow!("encoding {:?}: {error:#}", C::KEY);
        let size = request.compute_size(C::VERSION).map_err(wrong)?;
        let mut frame = BytesMut::with_capacity(size + 64);
        frame.put_i32(0);
        header
            .encode(&mut frame, C::header_version(C::VERSION))
            .map_err(wrong)?;
        request.encode(&mut frame, C::VERSION).map_err(wrong)?;
        let length = i32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream
            .write_all(&frame)
            .with_context(|| format!("sending {:?}", C::KEY))
    }

    pub(crate) fn receive<C: Call>(&mut self) -> Result<C::Answer> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .with_context(|| format!("waiting for the answer to {:?}", C::KEY))?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= MAX_FRAME, "an answer of {length} bytes");
        let mut frame = Vec::with_capacity(length);
        (&self.stream).take(length as u64).read_to_end(&mut frame)?;
        ensure!(
            frame.len() == length,
            "the broker closed the connection within an answer"
        );
        let mut frame = Bytes::from(frame);
        let wrong = |error| anyhow!("decoding the answer to {:?}: {error:#}", C::KEY);
        ResponseHeader::decode(&mut frame, C::Answer::header_version(C::VERSION)).map_err(wrong)?;
        C::Answer::decode(&mut frame, C::VERSION).map_err(wrong)
    }

    /// The ends of partitions 0 to `partitions` as a read_committed reader sees them.
    pub(crate) fn ends(&mut self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let asked = (0..partitions)
            .map(|partition| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(LATEST)
            })
            .collect();
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(1)
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(asked),
            ]);
        self.send(&request)?;
        let mut ends = vec![0; usize::try_from(partitions)?];
        for partition in self
            .receive::<ListOffsetsRequest>()?
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
        {
            let index = usize::try_from(partition.partition_index)?;
            match partition.error_code {
                0 => *ends.get_mut(index).context("an end that was not asked for")? = partition.offset,
                code => anyhow::bail!("the end of {topic} partition {index}: Kafka error {code}"),
            }
        }
        Ok(ends)
    }
}

/// A topic's name as the messages want it.
pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
