//! Decompression with a limit on what comes out.

use std::io::Read;

use bytes::{Buf, Bytes};

use super::BatchError;
use crate::engine::Codec;

/// Begins snappy data in xerial's framing, as all JVM producers write it: magic, then two versions.
const XERIAL: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: usize = 16;

/// Why records do not come out.
pub(super) enum Failure {
    TooLarge,
    Bad(String),
}

impl Failure {
    pub(super) fn at(self, offset: i64, codec: Codec, limit: usize) -> BatchError {
        match self {
            Self::TooLarge => BatchError::TooLarge { offset, limit },
            Self::Bad(why) => BatchError::Decompress { offset, codec, why },
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Bad(error.to_string())
    }
}

fn bad(why: &str) -> Failure {
    Failure::Bad(why.to_owned())
}

/// The records of a batch; at most `limit` bytes.
pub(super) fn decompress(codec: Codec, bytes: Bytes, limit: usize) -> Result<Bytes, Failure> {
    match codec {
        Codec::None if bytes.len() > limit => Err(Failure::TooLarge),
        Codec::None => Ok(bytes),
        Codec::Gzip => read(flate2::read::MultiGzDecoder::new(&*bytes), limit),
        Codec::Snappy => snappy(bytes, limit),
        Codec::Lz4 => read(lz4_flex::frame::FrameDecoder::new(&*bytes), limit),
        Codec::Zstd => read(zstd::stream::read::Decoder::with_buffer(&*bytes)?, limit),
    }
}

fn read(decoder: impl Read, limit: usize) -> Result<Bytes, Failure> {
    let mut out = Vec::new();
    // One byte more than the limit tells "just so many" from "too many".
    decoder
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(Failure::TooLarge);
    }
    Ok(out.into())
}

/// One raw block, or xerial's frame: blocks with their length (4 bytes) before each.
fn snappy(mut bytes: Bytes, limit: usize) -> Result<Bytes, Failure> {
    let mut out = Vec::new();
    if !bytes.starts_with(&XERIAL) {
        snappy_block(&bytes, limit, &mut out)?;
        return Ok(out.into());
    }
    if bytes.len() < XERIAL_HEADER {
        return Err(bad("the frame ends within its header"));
    }
    bytes.advance(XERIAL_HEADER);
    while !bytes.is_empty() {
        let length = bytes.try_get_u32()? as usize;
        if length > bytes.len() {
            return Err(bad("a block goes beyond the end"));
        }
        snappy_block(&bytes.split_to(length), limit, &mut out)?;
    }
    Ok(out.into())
}

fn snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    let start = out.len();
    let length = snap::raw::decompress_len(block)?;
    if length > limit.saturating_sub(start) {
        return Err(Failure::TooLarge);
    }
    // Snappy copies at most 64 bytes by each 3 of its own: more is a lie, not worth the memory.
    if length > block.len().saturating_mul(64) {
        return Err(bad("a block is too short for the length it claims"));
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..])?;
    out.truncate(start + written);
    Ok(())
}
