//! Answers whose counts are believed only as far as bytes are there.
//!
//! `kafka-protocol` (0.18) makes room for the elements of an array by the count before them: five bytes ask for
//! hundreds of gigabytes, which ends the process. (Its issue tracker has mends that are not released.) So an answer
//! is read twice, the first time through [`Counted`], where what cannot be a count fails.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::Decodable;
use kafka_protocol::protocol::buf::ByteBuf;

/// Reads a message from `bytes`, and moves them on behind it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read<T: Decodable>(bytes: &mut Bytes, version: i16) -> Result<T, String> {
    let read = |doubting| {
        let mut counted = Counted {
            bytes: bytes.clone(),
            doubting,
            varint: 0,
            bits: 0,
        };
        let message = T::decode(&mut counted, version).map_err(|error| format!("{error:#}"))?;
        Ok::<_, String>((message, counted.bytes))
    };
    drop(read(true)?);
    let (message, rest) = read(false)?;
    *bytes = rest;
    Ok(message)
}

/// Bytes that doubt what is read from them. Kafka writes a count as a varint or as four bytes, and each element has
/// a byte at least:
///
/// - Varints are counts and lengths (and the numbers of tagged fields, which are small): one beyond the end is an error.
/// - Four bytes may be any number. One beyond the end becomes one that is just too large, if it is a count: then the
///   elements run out. If it is none it changes nothing of how the rest is read, so that nothing fails for it here.
struct Counted {
    bytes: Bytes,
    doubting: bool,
    /// The varint that is being read: what it is so far, and its bits.
    varint: u64,
    bits: u32,
}

impl Buf for Counted {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        let low = u64::from(byte & 0x7f);
        // Beyond 64 bits it is too large whatever it is.
        let high = low.checked_shl(self.bits).filter(|_| self.bits < 57 || low == 0);
        self.varint |= high.unwrap_or(u64::MAX);
        self.bits += 7;
        // Compact ones are one more than they say.
        let most = self.bytes.len() as u64 + 1;
        if self.doubting && self.varint > most {
            return Err(TryGetError {
                requested: usize::try_from(self.varint).unwrap_or(usize::MAX),
                available: self.bytes.len(),
            });
        }
        if byte < 0x80 {
            (self.varint, self.bits) = (0, 0);
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        let number = self.bytes.try_get_i32()?;
        let most = i32::try_from(self.bytes.len() + 1).unwrap_or(i32::MAX);
        Ok(if self.doubting { number.min(most) } else { number })
    }
}

impl ByteBuf for Counted {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::{
        ApiVersionsResponse, DescribeAclsResponse, FetchResponse, MetadataResponse,
    };
    use kafka_protocol::protocol::{Encodable, Message, StrBytes};
    use proptest::prelude::*;

    use super::*;

    /// The process would end here, not the test.
    #[test]
    fn a_claimed_count_takes_no_memory() {
        for claimed in [1_i32, 1_000, 1 << 30, i32::MAX] {
            // Not compact: throttle time, then the number of brokers.
            let mut bytes = BytesMut::new();
            bytes.put_i32(0);
            bytes.put_i32(claimed);
            assert!(
                read::<MetadataResponse>(&mut bytes.freeze(), 3).is_err(),
                "{claimed}"
            );
            // The first field of all, and bytes behind it that are too few.
            let mut bytes = BytesMut::new();
            bytes.put_i32(claimed);
            bytes.put_i32(i32::MAX);
            assert!(
                read::<MetadataResponse>(&mut bytes.freeze(), 0).is_err(),
                "{claimed}"
            );
        }
        for compact in [
            &[0x02][..],
            &[0xff, 0x7f],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff; 40],
        ] {
            let mut bytes = BytesMut::new();
            bytes.put_i32(0);
            bytes.put_slice(compact);
            assert!(
                read::<MetadataResponse>(&mut bytes.freeze(), 12).is_err(),
                "{compact:?}"
            );
        }
        // The last field: nothing is behind the count.
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        bytes.put_i32(i32::MAX);
        assert!(read::<ApiVersionsResponse>(&mut bytes.freeze(), 0).is_err());
    }

    #[test]
    fn all_that_is_no_count_may_be_any_number() {
        let partition = MetadataResponsePartition::default()
            .with_partition_index(i32::MAX)
            .with_leader_id(i32::MAX.into())
            .with_leader_epoch(i32::MAX)
            .with_replica_nodes(vec![i32::MAX.into(), i32::MIN.into()]);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(StrBytes::from_static_str("t").into()))
            .with_error_code(-1)
            .with_partitions(vec![partition]);
        let broker = MetadataResponseBroker::default()
            .with_node_id(i32::MAX.into())
            .with_port(i32::MAX)
            .with_host(StrBytes::from_string("h".repeat(300)));
        let acls = DescribeAclsResponse::default().with_throttle_time_ms(i32::MAX);
        for version in MetadataResponse::VERSIONS.min..=MetadataResponse::VERSIONS.max {
            let mut topic = topic.clone();
            if version < 7 {
                topic.partitions[0].leader_epoch = -1;
            }
            let answer = MetadataResponse::default()
                .with_brokers(vec![broker.clone()])
                .with_topics(vec![topic]);
            let mut bytes = BytesMut::new();
            answer.encode(&mut bytes, version).unwrap();
            bytes.put_u8(7);
            let mut bytes = bytes.freeze();
            assert_eq!(
                read::<MetadataResponse>(&mut bytes, version),
                Ok(answer),
                "{version}"
            );
            assert_eq!(*bytes, [7], "{version}");
        }
        let mut bytes = BytesMut::new();
        acls.encode(&mut bytes, 2).unwrap();
        assert_eq!(read(&mut bytes.freeze(), 2), Ok(acls));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_their_bounds(bytes: Vec<u8>, version in 0_i16..=13) {
            let mut read_from = Bytes::from(bytes);
            let _ = read::<MetadataResponse>(&mut read_from.clone(), version.min(MetadataResponse::VERSIONS.max));
            let _ = read::<FetchResponse>(&mut read_from, version.max(4));
        }
    }
}
