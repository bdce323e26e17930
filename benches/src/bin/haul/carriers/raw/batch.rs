//! Record batches (magic 2, KIP-98) as bytes: where their fields lie, how they are taken apart and patched.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before the records.
pub(super) const HEADER: usize = 61;
/// Bytes up to and with the batch's length.
const PREFIX: usize = 12;
/// Where the bytes begin that the checksum covers.
const CHECKED_FROM: usize = 21;
/// Attribute bits: the codec; control batch.
const CODEC: i16 = 7;
const CONTROL: i16 = 0x20;

/// A complete batch whose checksum fits.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Kafka's number of the codec.
    pub(super) codec: i16,
    pub(super) count: i32,
    last_delta: i32,
    /// Whole.
    pub(super) bytes: Bytes,
}

impl Batch {
    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_delta) + 1
    }

    /// The batch as a producer would send it: offsets from 0, no leader epoch, no producer; the records as they are.
    pub(super) fn verbatim(&self) -> Bytes {
        let header = Header {
            codec: self.codec,
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        };
        header.with_records(self.bytes.get(HEADER..).unwrap_or_default())
    }
}

/// What a producer says about a batch.
pub(super) struct Header {
    pub(super) codec: i16,
    pub(super) count: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
}

impl Header {
    pub(super) fn with_records(&self, records: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + records.len());
        bytes.put_i64(0);
        // No batch that a broker takes is that large.
        bytes.put_i32(i32::try_from(HEADER - PREFIX + records.len()).unwrap_or(i32::MAX));
        bytes.put_i32(-1); // leader epoch
        bytes.put_i8(2); // magic
        bytes.put_u32(0); // checksum, below
        bytes.put_i16(self.codec);
        bytes.put_i32(self.count - 1);
        bytes.put_i64(self.base_timestamp);
        bytes.put_i64(self.max_timestamp);
        bytes.put_i64(-1); // producer
        bytes.put_i16(-1); // its epoch
        bytes.put_i32(-1); // sequence
        bytes.put_i32(self.count);
        bytes.put_slice(records);
        let check = crc32c::crc32c(bytes.get(CHECKED_FROM..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(CHECKED_FROM - 4..CHECKED_FROM) {
            place.copy_from_slice(&check.to_be_bytes());
        }
        bytes.freeze()
    }
}

/// The complete batches of a fetch response from offset `from`, on which a batch must begin.
///
/// # Errors
/// For whatever these loops do not know: markers, gaps, older formats, checksums that do not fit.
pub(super) fn split(mut bytes: Bytes, from: i64) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    let mut next = from;
    while bytes.len() >= PREFIX {
        let mut fields = bytes.get(8..PREFIX).unwrap_or_default();
        let length = usize::try_from(fields.get_i32()).context("a batch of negative length")? + PREFIX;
        if length > bytes.len() {
            break; // cut off, which is normal at the end of a response
        }
        let batch = read(bytes.split_to(length))?;
        if batch.base_offset != next {
            bail!("a gap from offset {next} to {}", batch.base_offset);
        }
        next = batch.next_offset();
        batches.push(batch);
    }
    Ok(batches)
}

fn read(bytes: Bytes) -> Result<Batch> {
    let mut fields = bytes.get(..HEADER).context("a batch without a header")?;
    let base_offset = fields.get_i64();
    fields.advance(8); // length, leader epoch
    let magic = fields.get_i8();
    let told = fields.get_u32();
    let attributes = fields.get_i16();
    let last_delta = fields.get_i32();
    let (base_timestamp, max_timestamp) = (fields.get_i64(), fields.get_i64());
    fields.advance(14); // producer, epoch, sequence
    let count = fields.get_i32();
    ensure!(magic == 2, "the batch at {base_offset} has magic {magic}");
    let found = crc32c::crc32c(bytes.get(CHECKED_FROM..).unwrap_or_default());
    ensure!(told == found, "the batch at {base_offset} is corrupt");
    ensure!(attributes & CONTROL == 0, "a control batch at {base_offset}");
    ensure!(
        count > 0 && last_delta.checked_add(1) == Some(count),
        "the batch at {base_offset} has gaps"
    );
    Ok(Batch {
        base_offset,
        base_timestamp,
        max_timestamp,
        codec: attributes & CODEC,
        count,
        last_delta,
        bytes,
    })
}
