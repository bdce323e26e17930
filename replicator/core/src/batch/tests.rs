use std::io::Write;

use bytes::BufMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::varint::put;

const LIMIT: usize = 1 << 20;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A batch as a producer would write it.
#[derive(Clone)]
struct Draft {
    base_offset: i64,
    codec: Codec,
    /// Other bits of the attributes.
    flags: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    records: Vec<Record>,
}

impl Draft {
    fn new(base_offset: i64, records: Vec<Record>) -> Self {
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

    fn plain(&self) -> Vec<u8> {
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

    fn bytes(&self) -> Bytes {
        self.around(&compress(self.codec, &self.plain()))
    }

    /// The batch with these bytes in the place of its records.
    fn around(&self, records: &[u8]) -> Bytes {
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

fn compress(codec: Codec, plain: &[u8]) -> Vec<u8> {
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

fn xerial(plain: &[u8], block: usize) -> Vec<u8> {
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

fn record(offset: i64) -> Record {
    Record {
        offset,
        timestamp: 2000 + offset,
        key: Some(Bytes::from(format!("key {offset}"))),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    }
}

fn uncommitted(bytes: impl Into<Bytes>) -> Batches {
    Batches::new(bytes.into(), Isolation::ReadUncommitted, LIMIT)
}

/// The records of all batches, or the first error.
fn read(batches: Batches) -> Result<Vec<Record>, BatchError> {
    let mut records = Vec::new();
    for batch in batches {
        for record in batch?.records() {
            records.push(record?);
        }
    }
    Ok(records)
}

fn malformed(batches: Batches) -> &'static str {
    match read(batches) {
        Err(BatchError::Malformed { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn header_fields() {
    let mut draft = Draft::new(40, vec![record(41), record(45)]);
    (draft.codec, draft.flags, draft.producer_id) = (Codec::Lz4, 0x10, 77);
    let batch = uncommitted(draft.bytes()).next().unwrap().unwrap();
    assert_eq!(
        (batch.base_offset, batch.last_offset, batch.next_offset()),
        (40, 45, 46)
    );
    assert_eq!(
        (batch.leader_epoch, batch.producer_id, batch.producer_epoch),
        (7, 77, 3)
    );
    assert_eq!(
        (batch.codec, batch.transactional, batch.marker),
        (Codec::Lz4, true, None)
    );
}

#[test]
fn log_append_time_is_the_batchs() {
    let mut draft = Draft::new(0, vec![record(0), record(1)]);
    draft.flags = 8;
    let times: Vec<i64> = read(uncommitted(draft.bytes()))
        .unwrap()
        .iter()
        .map(|one| one.timestamp)
        .collect();
    assert_eq!(times, [5000, 5000]);
}

#[test]
fn a_batch_that_is_cut_off_ends_the_reading() {
    let (first, second) = (
        Draft::new(0, vec![record(0)]).bytes(),
        Draft::new(1, vec![record(1)]).bytes(),
    );
    let both = [first.clone(), second].concat();
    for cut in 0..both.len() {
        let expected = if cut < first.len() {
            vec![]
        } else {
            vec![record(0)]
        };
        assert_eq!(
            read(uncommitted(both[..cut].to_vec())),
            Ok(expected),
            "cut at {cut}"
        );
    }
    assert_eq!(read(uncommitted(both)), Ok(vec![record(0), record(1)]));
}

#[test]
fn every_byte_of_a_batch_is_guarded() {
    let good = Draft::new(0, vec![record(0), record(1)]).bytes();
    for at in CHECKED_FROM - 4..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x40;
        assert!(
            matches!(
                read(uncommitted(bytes)),
                Err(BatchError::Checksum { offset: 0, .. })
            ),
            "byte {at}"
        );
    }
}

#[test]
fn other_formats_are_named() {
    let with_magic = |magic| {
        let mut bytes = Draft::new(9, vec![record(9)]).bytes().to_vec();
        bytes[MAGIC_AT] = magic;
        read(uncommitted(bytes)).unwrap_err()
    };
    assert_eq!(with_magic(0), BatchError::OldFormat { offset: 9, magic: 0 });
    assert_eq!(with_magic(1), BatchError::OldFormat { offset: 9, magic: 1 });
    assert_eq!(with_magic(3), BatchError::Magic { offset: 9, magic: 3 });
    for length in [i32::MIN, -1, 0, 48] {
        let mut bytes = Draft::new(9, vec![record(9)]).bytes().to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(malformed(uncommitted(bytes)).contains("length"), "{length}");
    }
}

#[test]
fn of_a_compacted_batch_the_header_may_be_all() {
    for codec in CODECS {
        let empty = Draft {
            codec,
            ..Draft::new(5, Vec::new())
        }
        .around(&[]);
        let batches: Vec<_> = uncommitted(empty).map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(Batch::next_offset).collect::<Vec<_>>(), [6]);
        assert_eq!(batches[0].records().count(), 0);
    }
}

/// One transaction each of two producers, interleaved; that of 1 is aborted, then 1 commits another.
fn transactions() -> Bytes {
    let data = |offset, producer_id| Draft {
        flags: 0x10,
        producer_id,
        ..Draft::new(offset, vec![record(offset)])
    };
    let marker = |offset, producer_id, kind| {
        let key = Some(Bytes::copy_from_slice(&[0, 0, 0, kind]));
        let control = Record {
            key,
            ..record(offset)
        };
        Draft {
            flags: 0x30,
            producer_id,
            ..Draft::new(offset, vec![control])
        }
    };
    let plain = Draft::new(8, vec![record(8)]);
    let drafts = [
        data(0, 1),
        data(1, 2),
        data(2, 1),
        marker(3, 1, 0),
        marker(4, 2, 1),
        data(5, 1),
        marker(6, 1, 1),
        data(7, 3),
        plain,
    ];
    drafts
        .iter()
        .map(Draft::bytes)
        .collect::<Vec<_>>()
        .concat()
        .into()
}

#[test]
fn aborted_records_are_hidden_from_read_committed() {
    let offsets = |isolation| {
        let records = read(Batches::new(transactions(), isolation, LIMIT)).unwrap();
        records.iter().map(|record| record.offset).collect::<Vec<_>>()
    };
    let committed = |last_stable_offset, aborted: &[(i64, i64)]| {
        let aborted = aborted
            .iter()
            .map(|(first_offset, producer_id)| AbortedTransaction {
                first_offset: *first_offset,
                producer_id: *producer_id,
            });
        Isolation::ReadCommitted {
            last_stable_offset,
            aborted: aborted.collect(),
        }
    };
    assert_eq!(offsets(Isolation::ReadUncommitted), [0, 1, 2, 5, 7, 8]);
    assert_eq!(offsets(committed(9, &[(0, 1)])), [1, 5, 7, 8]);
    assert_eq!(offsets(committed(7, &[(0, 1)])), [1, 5]);
    assert_eq!(offsets(committed(9, &[(7, 3), (0, 1)])), [1, 5, 8]);
    assert_eq!(offsets(committed(9, &[])), [0, 1, 2, 5, 7, 8]);
}

#[test]
fn control_batches_are_marked() {
    let batches: Vec<_> = uncommitted(transactions()).map(Result::unwrap).collect();
    let markers: Vec<_> = batches.iter().filter_map(|batch| batch.marker).collect();
    assert_eq!(markers, [Marker::Abort, Marker::Commit, Marker::Commit]);
}

#[test]
fn malformed_records() {
    // Attributes, time, offset delta 0, null key, null value, no header: 6 bytes.
    let good = [12, 0, 0, 0, 1, 1, 0];
    let draft = Draft::new(5, vec![record(5)]);
    let nulls = Record {
        timestamp: 1000,
        key: None,
        value: None,
        ..record(5)
    };
    assert_eq!(read(uncommitted(draft.around(&good))), Ok(vec![nulls]));
    for (records, why) in [
        (vec![], "beyond the end"),
        (vec![1], "no length"),
        (vec![3], "negative"),
        (vec![0xfe, 0xff, 0xff, 0xff, 0x0f, 0], "beyond the end"),
        (vec![0xff; 12], "64 bits"),
        (vec![0x80, 0x80, 0x80, 0x80, 0x80, 1], "32 bits"),
        (vec![12, 0, 0, 2, 1, 1, 0], "out of order or range"),
        (vec![12, 0, 0, 1, 1, 1, 0], "out of order or range"),
        (vec![12, 0, 0, 0, 4, 1, 0], "beyond the end"),
        (vec![12, 0, 0, 0, 1, 1, 1], "negative"),
        (
            vec![20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],
            "fewer headers",
        ),
        (vec![16, 0, 0, 0, 1, 1, 2, 1, 1], "key of a header is null"),
        (vec![14, 0, 0, 0, 1, 1, 0, 0], "longer than its fields"),
        (vec![12, 0, 0, 0, 1, 1, 0, 0], "follow its last record"),
        (vec![10, 0, 0, 0, 1, 1], "beyond the end"),
    ] {
        let told = malformed(uncommitted(draft.around(&records)));
        assert!(told.contains(why), "{records:?}: {told}");
    }
    let twice = Draft::new(5, vec![record(6), record(6)]);
    assert!(malformed(uncommitted(twice.bytes())).contains("out of order"));
    assert!(malformed(uncommitted(Draft::new(-1, vec![record(-1)]).bytes())).contains("out of range"));
}

#[test]
fn xerial_snappy_as_the_jvm_writes_it() {
    let mut draft = Draft::new(0, (0..50).map(record).collect());
    draft.codec = Codec::Snappy;
    for block in [7, 100, 32 * 1024] {
        let bytes = draft.around(&xerial(&draft.plain(), block));
        assert_eq!(read(uncommitted(bytes)).as_ref(), Ok(&draft.records));
    }
    let whole = xerial(&draft.plain(), 100);
    assert!(matches!(
        read(uncommitted(draft.around(&whole[..whole.len() - 1]))),
        Err(BatchError::Decompress {
            codec: Codec::Snappy,
            ..
        })
    ));
}

#[test]
fn decompression_stops_at_the_limit() {
    let zeros = Record {
        value: Some(vec![0; 10_000_000].into()),
        ..record(0)
    };
    for codec in CODECS {
        let draft = Draft {
            codec,
            ..Draft::new(0, vec![zeros.clone()])
        };
        let size = draft.plain().len();
        let bytes = draft.bytes();
        let with = |limit| read(Batches::new(bytes.clone(), Isolation::ReadUncommitted, limit));
        assert_eq!(with(size).unwrap().len(), 1, "{codec:?}");
        for limit in [0, 1000, size - 1] {
            assert_eq!(
                with(limit),
                Err(BatchError::TooLarge { offset: 0, limit }),
                "{codec:?}"
            );
        }
    }
}

#[test]
fn the_limit_holds_over_all_blocks_of_a_frame() {
    let draft = Draft {
        codec: Codec::Snappy,
        ..Draft::new(0, (0..50).map(record).collect())
    };
    let size = draft.plain().len();
    let bytes = draft.around(&xerial(&draft.plain(), 100));
    let with = |limit| read(Batches::new(bytes.clone(), Isolation::ReadUncommitted, limit));
    assert_eq!(with(size).unwrap().len(), 50);
    for limit in [99, size - 1] {
        assert_eq!(with(limit), Err(BatchError::TooLarge { offset: 0, limit }));
    }
}

#[test]
fn a_claimed_gigabyte_is_not_allocated() {
    let draft = Draft {
        codec: Codec::Snappy,
        ..Draft::new(0, vec![record(0)])
    };
    // Raw snappy whose preamble claims 1 GiB.
    let bytes = draft.around(&[0x80, 0x80, 0x80, 0x80, 0x04, 0, 0]);
    let batches = Batches::new(bytes, Isolation::ReadUncommitted, usize::MAX);
    let error = read(batches).unwrap_err().to_string();
    assert!(error.contains("too short for the length it claims"), "{error}");
}

#[test]
fn the_last_codec_is_that_of_the_last_complete_batch_with_records() {
    let batch = |codec| {
        Draft {
            codec,
            ..Draft::new(0, vec![record(0)])
        }
        .bytes()
    };
    let marker = Draft {
        flags: 0x30,
        ..Draft::new(0, vec![record(0)])
    }
    .bytes();
    let cut = batch(Codec::Gzip).slice(..30);
    for (batches, codec) in [
        (vec![], None),
        (vec![marker.clone()], None),
        (vec![batch(Codec::Lz4), batch(Codec::Zstd)], Some(Codec::Zstd)),
        (vec![batch(Codec::Snappy), marker, cut], Some(Codec::Snappy)),
    ] {
        assert_eq!(last_codec(batches.concat().into()), Ok(codec));
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let nullable = || proptest::option::of(bytes());
    let one = (
        1_i64..100,
        -1_i64..1 << 50,
        nullable(),
        nullable(),
        vec((bytes(), nullable()), 0..5),
    );
    vec(one, 1..20).prop_map(|list| {
        let mut offset = 0;
        let numbered = |(step, timestamp, key, value, headers)| {
            offset += step;
            Record {
                offset,
                timestamp,
                key,
                value,
                headers,
            }
        };
        list.into_iter().map(numbered).collect()
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(records in records(), codec in prop::sample::select(&CODECS), base in 0_i64..1 << 60) {
        let shifted: Vec<Record> =
            records.into_iter().map(|record| Record { offset: record.offset + base, ..record }).collect();
        let draft = Draft { codec, ..Draft::new(base, shifted) };
        prop_assert_eq!(read(uncommitted(draft.bytes())), Ok(draft.records));
    }

    #[test]
    fn arbitrary_bytes_are_no_panic(bytes: Vec<u8>) {
        let _ = (read(uncommitted(bytes.clone())), last_codec(bytes.into()));
    }

    /// Bytes behind a good checksum reach the decompressors and the record reader.
    #[test]
    fn arbitrary_records_are_no_panic(
        bytes in vec(any::<u8>(), 0..300), codec in prop::sample::select(&CODECS), count in 1_usize..4, flags in 0_i16..64,
    ) {
        let draft = Draft { codec, flags: flags & !7, ..Draft::new(0, (0..count as i64).map(record).collect()) };
        let _ = read(uncommitted(draft.around(&bytes)));
    }

    #[test]
    fn mutated_records_are_no_panic(
        records in records(), codec in prop::sample::select(&CODECS),
        places in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let draft = Draft { codec, ..Draft::new(0, records) };
        let mut bytes = compress(codec, &draft.plain());
        for (at, with) in places {
            *at.get_mut(&mut bytes) = with;
        }
        if let Ok(read) = read(Batches::new(draft.around(&bytes), Isolation::ReadUncommitted, 100_000)) {
            prop_assert!(read.len() <= draft.records.len());
        }
    }
}
