mod draft;
mod hostile;

use super::*;
use draft::*;

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
