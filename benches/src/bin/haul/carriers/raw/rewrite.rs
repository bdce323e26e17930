//! Batches written anew with an origin tag in every record; small ones are merged on the way.

use anyhow::{Context, Error, Result, ensure};
use bytes::Bytes;
use kuroshio_core::origin::{Forward, Guard, HEADER as TAG, Verdict};
use kuroshio_core::types::SourceOffset;
use kuroshio_core::varint;

use super::Mode;
use super::batch::{Batch, HEADER, Header};
use super::codec;

/// A batch is closed at this size before compression: below the default `max.message.bytes`, whatever the codec.
const FULL: usize = 900 << 10;

/// A partition on its way.
pub(super) struct Lane {
    pub(super) partition: i32,
    /// Where the next fetch begins.
    pub(super) next: i64,
    guard: Guard,
    /// Kept for their memory.
    unpacked: Vec<u8>,
    tag: Vec<u8>,
}

impl Lane {
    pub(super) fn new(topic: &str, partition: i32) -> Result<Self> {
        Ok(Self {
            partition,
            next: 0,
            guard: Guard::new("tw", topic, partition, "jp", topic, Forward::Local)?,
            unpacked: Vec::new(),
            tag: Vec::new(),
        })
    }

    /// What is to be produced for these batches.
    pub(super) fn carry(&mut self, batches: Vec<Batch>, mode: Mode) -> Result<Vec<Bytes>> {
        if mode == Mode::Verbatim {
            return Ok(batches.iter().map(Batch::verbatim).collect());
        }
        let mut written = Vec::new();
        let mut open: Option<Open> = None;
        for batch in batches {
            self.unpacked.clear();
            codec::unpack(
                batch.codec,
                batch.bytes.get(HEADER..).unwrap_or_default(),
                &mut self.unpacked,
            )?;
            let mut rest = &*self.unpacked;
            for delta in 0..i64::from(batch.count) {
                let record = Record::read(&mut rest, batch.base_timestamp)?;
                let tags = record.tags()?;
                let Verdict::Forward { earlier, check } = self.guard.judge(tags, record.key, record.value)
                else {
                    continue;
                };
                self.tag.clear();
                let offset = SourceOffset(batch.base_offset + delta);
                self.guard.write(&mut self.tag, earlier, offset, check);
                let room = record.size() + self.tag.len() + 64;
                if let Some(full) = open.take_if(|open| !open.has_room(batch.codec, room)) {
                    written.push(full.close()?);
                }
                let open = open.get_or_insert_with(|| Open::new(batch.codec, record.timestamp));
                open.push(&record, &self.tag)?;
            }
            ensure!(
                rest.is_empty(),
                "bytes follow the last record of the batch at {}",
                batch.base_offset
            );
        }
        written.extend(open.map(Open::close).transpose()?);
        Ok(written)
    }
}

/// A batch being written.
struct Open {
    header: Header,
    records: Vec<u8>,
}

impl Open {
    fn new(codec: i16, timestamp: i64) -> Self {
        Self {
            header: Header {
                codec,
                count: 0,
                base_timestamp: timestamp,
                max_timestamp: timestamp,
            },
            records: Vec::new(),
        }
    }

    fn has_room(&self, codec: i16, bytes: usize) -> bool {
        self.header.codec == codec && self.records.len() + bytes <= FULL
    }

    fn push(&mut self, record: &Record<'_>, tag: &[u8]) -> Result<()> {
        let numbers = [
            record.timestamp - self.header.base_timestamp,
            i64::from(self.header.count),
        ];
        let headers = i64::try_from(record.header_count)? + 1;
        let size = 1
            + numbers.iter().copied().map(varint_size).sum::<usize>()
            + record.key_and_value.len()
            + varint_size(headers)
            + record.headers.len()
            + varint_size(i64::try_from(TAG.len())?)
            + TAG.len()
            + varint_size(i64::try_from(tag.len())?)
            + tag.len();
        let out = &mut self.records;
        put(out, i64::try_from(size)?);
        out.push(0); // attributes
        for number in numbers {
            put(out, number);
        }
        out.extend_from_slice(record.key_and_value);
        put(out, headers);
        out.extend_from_slice(record.headers);
        for bytes in [TAG.as_bytes(), tag] {
            put(out, i64::try_from(bytes.len())?);
            out.extend_from_slice(bytes);
        }
        self.header.max_timestamp = self.header.max_timestamp.max(record.timestamp);
        self.header.count += 1;
        Ok(())
    }

    fn close(self) -> Result<Bytes> {
        // What is not compressed needs no other buffer.
        if self.header.codec == 0 {
            return Ok(self.header.with_records(&self.records));
        }
        Ok(self
            .header
            .with_records(&codec::pack(self.header.codec, &self.records)?))
    }
}

/// A record of a batch, still in its bytes.
struct Record<'a> {
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// Both with their lengths, as they lie there.
    key_and_value: &'a [u8],
    header_count: usize,
    /// All of them with their lengths.
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(rest: &mut &'a [u8], base_timestamp: i64) -> Result<Self> {
        let mut fields = bytes(rest)?.context("a record has no length")?;
        take(&mut fields, 1)?;
        let timestamp = base_timestamp
            .checked_add(varint(&mut fields)?)
            .context("a timestamp out of range")?;
        varint(&mut fields)?; // offset: they are consecutive
        let start = fields;
        let (key, value) = (bytes(&mut fields)?, bytes(&mut fields)?);
        let (key_and_value, _) = start.split_at(start.len() - fields.len());
        Ok(Self {
            timestamp,
            key,
            value,
            key_and_value,
            header_count: usize::try_from(varint(&mut fields)?)?,
            headers: fields,
        })
    }

    fn size(&self) -> usize {
        self.key_and_value.len() + self.headers.len()
    }

    /// The values of earlier tags. None of the data sets has one that is forwarded again, so removing them is
    /// left to the engine.
    fn tags(&self) -> Result<Vec<&'a [u8]>> {
        let mut rest = self.headers;
        let mut tags = Vec::new();
        for _ in 0..self.header_count {
            let name = bytes(&mut rest)?.context("a header without a name")?;
            let value = bytes(&mut rest)?;
            if name == TAG.as_bytes() {
                tags.extend(value);
            }
        }
        ensure!(rest.is_empty(), "bytes follow the last header of a record");
        Ok(tags)
    }
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length).context("a length beyond the end")?;
    *from = rest;
    Ok(taken)
}

/// Bytes after their length; `None`: null.
fn bytes<'a>(from: &mut &'a [u8]) -> Result<Option<&'a [u8]>> {
    match varint(from)? {
        -1 => Ok(None),
        length => take(from, usize::try_from(length)?).map(Some),
    }
}

fn varint(from: &mut &[u8]) -> Result<i64> {
    varint::take(from).map_err(Error::msg)
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn put(out: &mut Vec<u8>, number: i64) {
    let mut bits = zigzag(number);
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

fn varint_size(number: i64) -> usize {
    (64 - (zigzag(number) | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests;
