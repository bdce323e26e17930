//! Record batches (magic 2, KIP-98), good and bad.

use std::io::{Read, Result, Write, copy, repeat};

use bytes::BufMut;

use super::Seeds;

/// A number in zigzag, seven bits in a byte, the lowest first.
pub(super) fn number(out: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while left > 0x7f {
        out.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

/// Bytes behind their length; -1: null.
pub(super) fn bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    number(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A record with so many headers.
fn record(delta: i64, headers: usize) -> Vec<u8> {
    let mut body = vec![0];
    number(&mut body, delta);
    number(&mut body, delta);
    bytes(&mut body, Some(b"key"));
    bytes(&mut body, Some(b"value"));
    number(&mut body, headers as i64);
    for _ in 0..headers {
        bytes(&mut body, Some(b"h"));
        bytes(&mut body, None);
    }
    let mut record = Vec::new();
    bytes(&mut record, Some(&body));
    record
}

/// A batch of so many records, which are these bytes; the target makes its checksum right.
fn around(attributes: i16, count: i32, records: &[u8]) -> Vec<u8> {
    let mut batch = vec![1];
    batch.put_i64(0);
    batch.put_i32(records.len() as i32 + 49);
    batch.put_i32(0);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(attributes);
    batch.put_i32(count.max(1) - 1);
    batch.put_i64(1_000);
    batch.put_i64(2_000);
    batch.put_i64(1);
    batch.put_i16(0);
    batch.put_i32(-1);
    batch.put_i32(count);
    batch.extend_from_slice(records);
    batch
}

const CODECS: [i16; 5] = [0, 1, 2, 3, 4];

/// Compressed as Kafka's codec of this number.
fn compressed(codec: i16, mut plain: impl Read) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
            copy(&mut plain, &mut encoder)?;
            encoder.finish()?;
        }
        2 => {
            let mut whole = Vec::new();
            plain.read_to_end(&mut whole)?;
            out = snap::raw::Encoder::new().compress_vec(&whole)?;
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut out);
            copy(&mut plain, &mut encoder)?;
            encoder.finish()?;
        }
        4 => zstd::stream::copy_encode(plain, &mut out, 1)?,
        _ => {
            plain.read_to_end(&mut out)?;
        }
    }
    Ok(out)
}

/// Records in the framing of snappy-java: one block, or a block that claims to be as long.
fn xerial(length: u32, block: &[u8]) -> Result<Vec<u8>> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    out.put_u32(length);
    out.write_all(block)?;
    Ok(out)
}

pub(crate) fn batch() -> Seeds {
    let two = [record(0, 0), record(1, 3)].concat();
    let mut all = Vec::new();
    for codec in CODECS {
        let records = compressed(codec, &*two)?;
        all.push(around(codec, 2, &records));
        // Cut, more than there are, a marker, in a transaction that was aborted.
        all.push(around(codec, 2, &records[..records.len() - 1]));
        all.push(around(codec, i32::MAX, &records));
        all.push(around(codec | 0x30, 1, &records));
        let mut aborted = around(codec | 0x10, 2, &records);
        aborted[0] = 3;
        all.push(
            [
                aborted,
                around(0x30, 1, b"\x16\0\0\0\x08\0\0\0\0\x01\0")[1..].to_vec(),
            ]
            .concat(),
        );
    }
    // A gigabyte of zeros in 32 KiB of zstd, and as much as the others can.
    for (codec, zeros) in [(1, 64 << 20), (2, 2 << 20), (3, 16 << 20), (4, 1 << 30)] {
        all.push(around(codec, 1, &compressed(codec, repeat(0).take(zeros))?));
    }
    let block = compressed(2, &*two)?;
    all.push(around(2, 2, &xerial(block.len() as u32, &block)?));
    all.push(around(2, 2, &xerial(1 << 30, &block)?));
    all.push(around(2, 2, &[0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]));
    all.push(around(0, 1, &record(0, 10_000)));
    // A gigabyte of records, of a key, of headers.
    for at in [0, 4, 8] {
        let mut lie = record(0, 3);
        lie.truncate(at);
        number(&mut lie, 1 << 30);
        lie.extend_from_slice(&[0; 20]);
        all.push(around(0, 1, &lie));
    }
    let mut long = around(0, 1, &two);
    long[9..13].copy_from_slice(&(1_i32 << 30).to_be_bytes());
    all.push(long);
    for magic in [0, 1, 3] {
        let mut old = around(0, 1, &two);
        old[17] = magic;
        all.push(old);
    }
    Ok(all)
}
