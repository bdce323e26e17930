//! What compression hides, and bytes that nobody wrote on purpose.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::draft::*;

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
fn headers_are_bounded() {
    let with = |count| {
        let headers = vec![(Bytes::from_static(b"h"), None); count];
        let draft = Draft::new(0, vec![Record { headers, ..record(0) }]);
        read(uncommitted(draft.bytes())).map(|records| records[0].headers.len())
    };
    assert_eq!(with(10_000), Ok(10_000));
    assert_eq!(with(100_000), Ok(100_000));
    assert!(with(100_001).is_err());
}

/// A few kilobytes of zstd that become ten bytes for each record, and would become a hundred more in memory.
#[test]
fn of_very_many_records_some_are_read_and_the_rest_from_there() {
    const COUNT: i64 = 900_000;
    let tiny = |offset| Record {
        offset,
        timestamp: 1000,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let draft = Draft {
        codec: Codec::Zstd,
        ..Draft::new(5, (5..5 + COUNT).map(tiny).collect())
    };
    let bytes = draft.bytes();
    let from = |at| {
        records_from(
            Batches::new(bytes.clone(), Isolation::ReadUncommitted, 128 << 20),
            at,
        )
    };
    let (mut at, mut seen, mut reads) = (0, 0, 0);
    while at < 5 + COUNT {
        let (records, next) = from(at);
        assert!(
            records.len() < 700_000 && next > at,
            "{} records, next {next}",
            records.len()
        );
        assert_eq!(records.first().map(|(_, record)| record.offset), Some(at.max(5)));
        (at, seen, reads) = (next, seen + records.len() as i64, reads + 1);
    }
    assert_eq!((at, seen, reads), (5 + COUNT, COUNT, 2));
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
