//! What is written is read back by the core's reader, which shares nothing with it.

use bytes::Bytes;
use kuroshio_core::batch::{Batches, Isolation, Record as Read};
use kuroshio_core::origin;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::batch;
use super::*;

/// Timestamp, key, value, headers.
type Given = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn given() -> impl Strategy<Value = Given> {
    let text = || vec(any::<u8>(), 0..40);
    (
        0..1_i64 << 41,
        option::of(text()),
        option::of(text()),
        vec((text(), option::of(text())), 0..3),
    )
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A batch as a producer writes it and a broker stores it from `offset` on.
fn stored(offset: i64, codec_id: i16, records: &[Given]) -> Bytes {
    let base = records[0].0;
    let mut body = Vec::new();
    for (delta, (timestamp, key, value, headers)) in (0..).zip(records) {
        let mut record = vec![0];
        put(&mut record, timestamp - base);
        put(&mut record, delta);
        put_bytes(&mut record, key.as_deref());
        put_bytes(&mut record, value.as_deref());
        put(&mut record, headers.len() as i64);
        for (name, value) in headers {
            put_bytes(&mut record, Some(name));
            put_bytes(&mut record, value.as_deref());
        }
        put_bytes(&mut body, Some(&record));
    }
    let header = Header {
        codec: codec_id,
        count: records.len() as i32,
        base_timestamp: base,
        max_timestamp: records.iter().map(|record| record.0).max().unwrap(),
    };
    let mut bytes = header
        .with_records(&codec::pack(codec_id, &body).unwrap())
        .to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes.into()
}

fn read(bytes: &Bytes) -> Vec<Read> {
    Batches::new(bytes.clone(), Isolation::ReadUncommitted, 1 << 24)
        .flat_map(|batch| batch.unwrap().records().collect::<Vec<_>>())
        .map(Result::unwrap)
        .collect()
}

proptest! {
    #[test]
    fn a_tagged_record_is_what_it_was_and_its_tag_explains_it(
        batches in vec((vec(given(), 1..5), prop::sample::select(vec![0_i16, 3, 4])), 1..6),
    ) {
        let (mut offset, mut log) = (1000, Vec::new());
        for (records, codec) in &batches {
            log.extend_from_slice(&stored(offset, *codec, records));
            offset += records.len() as i64;
        }
        let log = Bytes::from(log);
        let before = read(&log);
        let mut lane = Lane::new("orders", 3).unwrap();
        let written = lane.carry(batch::split(log, 1000).unwrap(), Mode::Tagged).unwrap();
        prop_assert!(written.len() <= batches.len());
        let after: Vec<_> = written.iter().flat_map(read).collect();
        prop_assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let (tag, headers) = after.headers.split_last().unwrap();
            prop_assert_eq!((before.timestamp, &before.key, &before.value), (after.timestamp, &after.key, &after.value));
            prop_assert_eq!(&before.headers[..], headers);
            prop_assert_eq!(&tag.0[..], TAG.as_bytes());
            let parsed = origin::Tag::parse(tag.1.as_ref().unwrap()).unwrap();
            let check = origin::check(after.key.as_deref(), after.value.as_deref());
            prop_assert!(parsed.explains("orders", 3, check));
            prop_assert_eq!(parsed.last().offset.0, before.offset);
        }
    }

    #[test]
    fn a_verbatim_batch_has_the_same_records_from_offset_0(records in vec(given(), 1..5), codec in prop::sample::select(vec![0_i16, 3, 4])) {
        let log = stored(7, codec, &records);
        let mut lane = Lane::new("orders", 3).unwrap();
        let written = lane.carry(batch::split(log.clone(), 7).unwrap(), Mode::Verbatim).unwrap();
        let shifted: Vec<_> = read(&log).into_iter().map(|record| Read { offset: record.offset - 7, ..record }).collect();
        prop_assert_eq!(shifted, read(&written[0]));
    }

    #[test]
    fn numbers_are_read_as_written(number: i64) {
        let mut out = Vec::new();
        put(&mut out, number);
        prop_assert_eq!(out.len(), varint_size(number));
        prop_assert_eq!(varint(&mut &out[..]).unwrap(), number);
    }

    #[test]
    fn bytes_that_are_no_records_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut rest = &bytes[..];
        while let Ok(record) = Record::read(&mut rest, 0) {
            record.tags().ok();
        }
        batch::split(bytes.into(), 0).ok();
    }
}

#[test]
fn small_batches_are_merged_until_one_is_full() {
    let value = vec![b'x'; 100 << 10];
    let mut log = Vec::new();
    for offset in 0..20 {
        log.extend_from_slice(&stored(
            offset,
            0,
            &[(offset, None, Some(value.clone()), Vec::new())],
        ));
    }
    let mut lane = Lane::new("orders", 0).unwrap();
    let written = lane
        .carry(batch::split(log.into(), 0).unwrap(), Mode::Tagged)
        .unwrap();
    assert_eq!(
        written.iter().map(|batch| read(batch).len()).collect::<Vec<_>>(),
        [8, 8, 4]
    );
}
