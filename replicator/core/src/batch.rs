//! Reads record batches (magic 2, KIP-98) as they lie in a Fetch response: the bounded reader of the control
//! plane, for probes and comparisons. Keys, values and headers are bytes and stay as they are.
//!
//! What a batch claims is believed only as far as bytes are there: nothing is allocated by a length or count
//! alone, and decompression stops at a limit.

mod compression;
mod reading;
mod records;

use std::collections::HashSet;

use bytes::{Buf, Bytes};

use crate::engine::Codec;
pub use reading::records_from;
use records::Records;

/// Bytes up to and with the batch's length: offset (8), length (4).
const PREFIX: usize = 12;
/// Where the magic stands, in every format that there ever was.
const MAGIC_AT: usize = 16;
/// Where the bytes begin that the checksum covers.
const CHECKED_FROM: usize = 21;
/// Bytes of a batch before its records.
const HEADER: usize = 61;

/// Bytes that are not record batches.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A message set of before Kafka 0.11.
    #[error(
        "batch at offset {offset} has the old message format {magic}: let the broker convert it, or set \
         log.message.format.version to 0.11 or later and have the topic rewritten"
    )]
    OldFormat {
        /// Offset in its header.
        offset: i64,
        /// 0 or 1.
        magic: i8,
    },
    /// Not any format that we know.
    #[error("batch at offset {offset} has the unknown magic {magic}")]
    Magic {
        /// Offset in its header.
        offset: i64,
        /// The byte.
        magic: i8,
    },
    /// The checksum does not fit: the bytes were altered on a disk or on their way.
    #[error("batch at offset {offset} is corrupt: its CRC-32C is {found:08x}, its header says {told:08x}")]
    Checksum {
        /// Offset in its header.
        offset: i64,
        /// Of the bytes.
        found: u32,
        /// In the header.
        told: u32,
    },
    /// A number out of range, a length beyond the end, bytes left over.
    #[error("batch at offset {offset} is malformed: {why}")]
    Malformed {
        /// Offset in its header.
        offset: i64,
        /// What is wrong.
        why: &'static str,
    },
    /// The records cannot be decompressed.
    #[error("batch at offset {offset} cannot be decompressed ({codec:?}): {why}")]
    Decompress {
        /// Offset in its header.
        offset: i64,
        /// How it is compressed.
        codec: Codec,
        /// The decompressor's words.
        why: String,
    },
    /// The records are larger than the caller allows.
    #[error("batch at offset {offset} has more than {limit} bytes of records when decompressed")]
    TooLarge {
        /// Offset in its header.
        offset: i64,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Producer id and first offset of a transaction that was aborted, as the Fetch response lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// First offset of the transaction.
    pub first_offset: i64,
    /// Who wrote it.
    pub producer_id: i64,
}

/// Which records a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All of them.
    ReadUncommitted,
    /// Those of committed transactions, or of none.
    ReadCommitted {
        /// The Fetch response's last stable offset: the reader stops there.
        last_stable_offset: i64,
        /// The Fetch response's aborted transactions, in any order.
        aborted: Vec<AbortedTransaction>,
    },
}

/// What a control batch says of its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// It is aborted.
    Abort,
    /// It is committed.
    Commit,
    /// A control record of another kind; not a reader's concern.
    Other,
}

/// A complete batch whose checksum fits.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Offset of its first record, also if compaction removed that.
    pub base_offset: i64,
    /// Offset of its last record, also if compaction removed that.
    pub last_offset: i64,
    /// Leader epoch of the partition when it was written; -1: not known.
    pub leader_epoch: i32,
    /// How its records are compressed.
    pub codec: Codec,
    /// The producer's id; -1: none.
    pub producer_id: i64,
    /// The producer's epoch; -1: none.
    pub producer_epoch: i16,
    /// Part of a transaction.
    pub transactional: bool,
    /// It is a control batch: it has a marker instead of records.
    pub marker: Option<Marker>,
    /// Its transaction was aborted, and the isolation hides it.
    pub aborted: bool,
    log_append_time: bool,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    /// Decompressed records; empty where none are seen.
    records: Bytes,
}

/// A record. Its bytes share the memory of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, as consumers see it: of the append where the topic says so; -1: none.
    pub timestamp: i64,
    /// Its key; `None`: null.
    pub key: Option<Bytes>,
    /// Its value; `None`: null, a tombstone.
    pub value: Option<Bytes>,
    /// Its headers in order, duplicates and all: key and value, which may be null.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The batches in a Fetch response's bytes, in order. Ends at the first that is cut off, which is normal at the
/// end of a response, after the first error, and at the last stable offset.
#[derive(Debug)]
pub struct Batches {
    bytes: Bytes,
    max_decompressed: usize,
    last_stable_offset: Option<i64>,
    /// Aborted transactions that begin beyond the last batch, the nearest at the end.
    ahead: Vec<AbortedTransaction>,
    /// Producers within an aborted transaction.
    aborting: HashSet<i64>,
}

impl Batches {
    /// Reads `bytes`, decompressing at most `max_decompressed` bytes per batch.
    #[must_use]
    pub fn new(bytes: Bytes, isolation: Isolation, max_decompressed: usize) -> Self {
        let (last_stable_offset, mut ahead) = match isolation {
            Isolation::ReadUncommitted => (None, Vec::new()),
            Isolation::ReadCommitted {
                last_stable_offset,
                aborted,
            } => (Some(last_stable_offset), aborted),
        };
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            bytes,
            max_decompressed,
            last_stable_offset,
            ahead,
            aborting: HashSet::new(),
        }
    }

    fn read(&mut self, raw: &RawBatch) -> Result<Option<Batch>, BatchError> {
        let mut batch = raw.header()?;
        if self
            .last_stable_offset
            .is_some_and(|end| batch.base_offset >= end)
        {
            return Ok(None);
        }
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= batch.last_offset) {
            self.aborting.insert(next.producer_id);
        }
        batch.aborted =
            batch.marker.is_none() && batch.transactional && self.aborting.contains(&batch.producer_id);
        if batch.aborted {
            return Ok(Some(batch));
        }
        // What compaction leaves of a batch may be its header alone.
        if batch.count == 0 {
            return Ok(Some(batch));
        }
        batch.records = compression::decompress(batch.codec, raw.records(), self.max_decompressed)
            .map_err(|failure| failure.at(batch.base_offset, batch.codec, self.max_decompressed))?;
        if batch.marker.is_some() {
            let marker = batch.read_marker()?;
            if marker == Marker::Abort {
                self.aborting.remove(&batch.producer_id);
            }
            batch.marker = Some(marker);
        }
        Ok(Some(batch))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match split(&mut self.bytes) {
            Ok(raw) => self.read(&raw?),
            Err(error) => Err(error),
        };
        if !matches!(batch, Ok(Some(_))) {
            self.bytes = Bytes::new();
        }
        batch.transpose()
    }
}

/// How the last complete batch with records is compressed; `None` if there is no such batch. Decompresses
/// nothing.
///
/// # Errors
/// [`BatchError`] at the first batch that is not valid.
pub fn last_codec(mut bytes: Bytes) -> Result<Option<Codec>, BatchError> {
    let mut last = None;
    while let Some(raw) = split(&mut bytes)? {
        let batch = raw.header()?;
        if batch.marker.is_none() {
            last = Some(batch.codec);
        }
    }
    Ok(last)
}

/// A complete batch, as it lies there.
struct RawBatch {
    offset: i64,
    bytes: Bytes,
}

/// Takes the next complete batch off `bytes`.
fn split(bytes: &mut Bytes) -> Result<Option<RawBatch>, BatchError> {
    if bytes.len() <= MAGIC_AT {
        return Ok(None);
    }
    let mut fields = &bytes[..PREFIX];
    let (offset, length) = (fields.get_i64(), fields.get_i32());
    match bytes[MAGIC_AT] as i8 {
        2 => {}
        magic @ (0 | 1) => return Err(BatchError::OldFormat { offset, magic }),
        magic => return Err(BatchError::Magic { offset, magic }),
    }
    let length = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(PREFIX));
    let Some(length) = length.filter(|length| *length >= HEADER) else {
        return Err(BatchError::Malformed {
            offset,
            why: "its length is less than that of its header",
        });
    };
    if bytes.len() < length {
        return Ok(None);
    }
    Ok(Some(RawBatch {
        offset,
        bytes: bytes.split_to(length),
    }))
}

impl RawBatch {
    fn records(&self) -> Bytes {
        self.bytes.slice(HEADER..)
    }

    /// Everything but the records. `marker` is `Other` for any control batch.
    fn header(&self) -> Result<Batch, BatchError> {
        let malformed = |why| BatchError::Malformed {
            offset: self.offset,
            why,
        };
        let mut fields = &self.bytes[PREFIX..HEADER];
        let leader_epoch = fields.get_i32();
        fields.advance(1);
        let told = fields.get_u32();
        let found = crc32c::crc32c(&self.bytes[CHECKED_FROM..]);
        if told != found {
            return Err(BatchError::Checksum {
                offset: self.offset,
                found,
                told,
            });
        }
        let attributes = fields.get_i16();
        let codec = match attributes & 7 {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            _ => return Err(malformed("its compression is not known")),
        };
        let last_delta = fields.get_i32();
        let last_offset = self.offset.checked_add(i64::from(last_delta));
        let Some(last_offset) = last_offset.filter(|_| last_delta >= 0 && self.offset >= 0) else {
            return Err(malformed("its offsets are out of range"));
        };
        let (base_timestamp, max_timestamp) = (fields.get_i64(), fields.get_i64());
        let (producer_id, producer_epoch) = (fields.get_i64(), fields.get_i16());
        fields.advance(4);
        let count = fields.get_i32();
        if count < 0 {
            return Err(malformed("its number of records is negative"));
        }
        Ok(Batch {
            base_offset: self.offset,
            last_offset,
            leader_epoch,
            codec,
            producer_id,
            producer_epoch,
            transactional: attributes & 0x10 != 0,
            marker: (attributes & 0x20 != 0).then_some(Marker::Other),
            aborted: false,
            log_append_time: attributes & 8 != 0,
            base_timestamp,
            max_timestamp,
            count,
            records: Bytes::new(),
        })
    }
}

impl Batch {
    /// The offset after the batch: where to go on reading.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    /// The records that the reader sees: none of a control batch or of an aborted one. Ends after an error.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, BatchError>> + use<> {
        let seen = self.marker.is_none() && !self.aborted;
        seen.then(|| Records::of(self)).into_iter().flatten()
    }

    /// The kind of the batch's one control record: its key is version (2 bytes) and kind (2 bytes).
    fn read_marker(&self) -> Result<Marker, BatchError> {
        let key = Records::of(self)
            .next()
            .transpose()?
            .and_then(|record| record.key);
        Ok(match key.as_deref() {
            Some([_, _, 0, 0, ..]) => Marker::Abort,
            Some([_, _, 0, 1, ..]) => Marker::Commit,
            _ => Marker::Other,
        })
    }
}

#[cfg(test)]
mod tests;
