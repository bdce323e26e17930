//! The records of a batch: their fields are zigzag varints, and bytes with their length before them.

use bytes::{Buf, Bytes};

use super::{Batch, BatchError, Record};
use crate::varint;

/// The most headers of a record: librdkafka unpacks no more either. Each takes sixteen times its least bytes.
const HEADERS_MAX: usize = 100_000;

pub(super) struct Records {
    batch: Batch,
    cursor: Cursor,
    left: i32,
    /// The least offset that the next record may have.
    least: i64,
}

impl Records {
    /// All records of the batch, whether the reader sees them or not.
    pub(super) fn of(batch: &Batch) -> Self {
        Self {
            batch: Batch {
                records: Bytes::new(),
                ..batch.clone()
            },
            cursor: Cursor::new(batch.records.clone()),
            left: batch.count,
            least: batch.base_offset,
        }
    }

    fn read(&mut self) -> Result<Record, &'static str> {
        let length = self.cursor.length()?.ok_or("a record has no length")?;
        let mut fields = Cursor::new(self.cursor.take(length)?);
        fields.take(1)?;
        let since_base = fields.long()?;
        let delta = i64::from(fields.int()?);
        let offset = self.batch.base_offset.checked_add(delta);
        let offset = offset.filter(|offset| (self.least..=self.batch.last_offset).contains(offset));
        let offset = offset.ok_or("the offset of a record is out of order or range")?;
        let timestamp = if self.batch.log_append_time {
            self.batch.max_timestamp
        } else {
            let timestamp = self.batch.base_timestamp.checked_add(since_base);
            timestamp.ok_or("the timestamp of a record is out of range")?
        };
        let (key, value) = (fields.nullable()?, fields.nullable()?);
        let count = fields.int()?;
        let count = usize::try_from(count).map_err(|_| "the number of headers is negative")?;
        // Each has at least two lengths: a count that the bytes cannot hold is not believed.
        if count > fields.left() / 2 {
            return Err("a record has fewer headers than it says");
        }
        if count > HEADERS_MAX {
            return Err("a record has more than 100,000 headers");
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = fields.nullable()?.ok_or("the key of a header is null")?;
            headers.push((key, fields.nullable()?));
        }
        if fields.left() > 0 {
            return Err("a record is longer than its fields");
        }
        self.least = offset.saturating_add(1);
        Ok(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let record = self
            .read()
            .and_then(|record| match self.left == 0 && self.cursor.left() > 0 {
                true => Err("bytes follow its last record"),
                false => Ok(record),
            });
        if record.is_err() {
            self.left = 0;
        }
        Some(record.map_err(|why| BatchError::Malformed {
            offset: self.batch.base_offset,
            why,
        }))
    }
}

/// Reads fields off the front of its bytes, never beyond their end.
struct Cursor {
    bytes: Bytes,
}

impl Cursor {
    fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Number of bytes that are left.
    fn left(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if length > self.bytes.len() {
            return Err("a length goes beyond the end");
        }
        Ok(self.bytes.split_to(length))
    }

    /// A zigzag varint of at most 64 bits.
    fn long(&mut self) -> Result<i64, &'static str> {
        let mut rest = &self.bytes[..];
        let number = varint::take(&mut rest);
        let left = rest.len();
        self.bytes.advance(self.bytes.len() - left);
        number
    }

    /// A zigzag varint of at most 32 bits.
    fn int(&mut self) -> Result<i32, &'static str> {
        i32::try_from(self.long()?).map_err(|_| "a number has more than 32 bits")
    }

    /// A length; `None`: null.
    fn length(&mut self) -> Result<Option<usize>, &'static str> {
        match self.int()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| "a length is negative"),
        }
    }

    /// Bytes after their length; `None`: null.
    fn nullable(&mut self) -> Result<Option<Bytes>, &'static str> {
        match self.length()? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }
}
