//! Batches as a broker would keep them, written by other code than the reader's.

use std::io::Write;

use bytes::{BufMut, Bytes};

use super::super::*;
use crate::varint::put;

pub(crate) const LIMIT: usize = 1 << 20;
pub(crate) const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A batch as a producer would write it.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) base_offset: i64,
    pub(crate) codec: Codec,
    /// Other bits of the attributes.
    pub(crate) flags: i16,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) records: Vec<Record>,
}

impl Draft {
    pub(crate) fn new(base_offset: i64, records: Vec<Record>) -> Self {
        Self {
            base_offset,
            codec: Codec::None,
            flags: 0,
            base_timestamp: 1000,
            max_timestamp: 5000,
            producer_id: -1,
            records,
        }
    }

    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for record in &self.records {
            let mut body = vec![0];
            put::number(&mut body, record.timestamp - self.base_timestamp);
            put::number(&mut body, record.offset - self.base_offset);
            put::bytes(&mut body, record.key.as_deref());
            put::bytes(&mut body, record.value.as_deref());
            put::number(&mut body, record.headers.len() as i64);
            for (key, value) in &record.headers {
                put::bytes(&mut body, Some(key));
                put::bytes(&mut body, value.as_deref());
            }
            put::number(&mut out, body.len() as i64);
            out.extend(body);
        }
        out
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.around(&compress(self.codec, &self.plain()))
    }

    /// The batch with these bytes in the place of its records.
    pub(crate) fn around(&self, records: &[u8]) -> Bytes {
        let mut checked = Vec::new();
        let codec = CODECS.iter().position(|codec| *codec == self.codec).unwrap() as i16;
        checked.put_i16(codec | self.flags);
        let last = self
            .records
            .last()
            .map_or(0, |last| last.offset - self.base_offset);
        checked.put_i32(last as i32);
        checked.put_i64(self.base_timestamp);
        checked.put_i64(self.max_timestamp);
        checked.put_i64(self.producer_id);
        checked.put_i16(3);
        checked.put_i32(-1);
        checked.put_i32(self.records.len() as i32);
        checked.extend_from_slice(records);
        let mut out = Vec::new();
        out.put_i64(self.base_offset);
        out.put_i32(checked.len() as i32 + 9);
        out.put_i32(7);
        out.put_i8(2);
        out.put_u32(crc32c::crc32c(&checked));
        out.extend(checked);
        out.into()
    }
}

pub(crate) fn compress(codec: Codec, plain: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => plain.to_vec(),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Codec::Zstd => zstd::encode_all(plain, 1).unwrap(),
    }
}

pub(crate) fn xerial(plain: &[u8], block: usize) -> Vec<u8> {
    let mut out = vec![
        0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
    ];
    for block in plain.chunks(block) {
        let block = compress(Codec::Snappy, block);
        out.put_u32(block.len() as u32);
        out.extend(block);
    }
    out
}

pub(crate) fn record(offset: i64) -> Record {
    Record {
        offset,
        timestamp: 2000 + offset,
        key: Some(Bytes::from(format!("key {offset}"))),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    }
}

pub(crate) fn uncommitted(bytes: impl Into<Bytes>) -> Batches {
    Batches::new(bytes.into(), Isolation::ReadUncommitted, LIMIT)
}

/// The records of all batches, or the first error.
pub(crate) fn read(batches: Batches) -> Result<Vec<Record>, BatchError> {
    let mut records = Vec::new();
    for batch in batches {
        for record in batch?.records() {
            records.push(record?);
        }
    }
    Ok(records)
}

pub(crate) fn malformed(batches: Batches) -> &'static str {
    match read(batches) {
        Err(BatchError::Malformed { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}
