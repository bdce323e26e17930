//! The codecs of the data sets.

use std::io::{Read, Write};

use anyhow::{Result, bail};
use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};

/// Kafka's numbers.
const NONE: i16 = 0;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;
/// What librdkafka and Kafka's producer use unless told.
const ZSTD_LEVEL: i32 = 3;

/// Appends the records that `bytes` hold to `out`.
pub(super) fn unpack(codec: i16, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match codec {
        NONE => out.extend_from_slice(bytes),
        LZ4 => drop(lz4::Decoder::new(bytes)?.read_to_end(out)?),
        ZSTD => drop(zstd::stream::read::Decoder::with_buffer(bytes)?.read_to_end(out)?),
        other => bail!("the codec {other} is in no data set"),
    }
    Ok(())
}

/// Compresses records.
pub(super) fn pack(codec: i16, records: &[u8]) -> Result<Vec<u8>> {
    match codec {
        NONE => Ok(records.to_vec()),
        LZ4 => {
            // As Kafka's producer: independent blocks of 64 KiB, no checksum.
            let mut encoder = EncoderBuilder::new()
                .block_size(BlockSize::Max64KB)
                .block_mode(BlockMode::Independent)
                .checksum(ContentChecksum::NoChecksum)
                .build(Vec::with_capacity(records.len() / 2))?;
            encoder.write_all(records)?;
            let (packed, ended) = encoder.finish();
            ended?;
            Ok(packed)
        }
        ZSTD => Ok(zstd::bulk::compress(records, ZSTD_LEVEL)?),
        other => bail!("the codec {other} is in no data set"),
    }
}
