//! What producers write.

use bytes::Bytes;
use kuroshio_core::batch::{AbortedTransaction, Batches, Isolation, last_codec};
use kuroshio_core::origin::{self, Forward, Guard, MAX_HOPS, Tag, Verdict};
use kuroshio_core::types::SourceOffset;

use crate::input::Input;

/// A record's key, value and headers as they lie in its batch; they are a tag by themselves, too. With the bit 4 of the first byte its
/// check is made right.
pub(crate) fn tag(input: &[u8]) {
    let mut input = Input(input);
    let flags = input.byte();
    let (key, value) = (input.part(), input.part());
    let check = origin::check(Some(key), Some(value));
    let mut headers = input.0.to_vec();
    if let Some(hash) = headers.iter().rposition(|byte| *byte == b'#')
        && flags & 4 != 0
    {
        headers.truncate(hash + 1);
        headers.extend(check.text());
    }
    if let Some(tag) = Tag::parse(&headers) {
        let hops: Vec<_> = tag.hops().collect();
        assert!((1..=MAX_HOPS).contains(&hops.len()) && hops.last() == Some(&tag.last()));
        let mut written = Vec::new();
        origin::write(&hops, tag.check(), &mut written);
        assert_eq!(written, headers, "one tag has one text");
    }
    let forward = if flags & 1 == 0 {
        Forward::Local
    } else {
        Forward::Relay
    };
    let lands_in = if flags & 2 == 0 { "orders" } else { "tw.orders" };
    let Ok(guard) = Guard::new("tw", "orders", 3, "jp", lands_in, forward) else {
        return;
    };
    let tags = || origin::tags(&headers).chain([&*headers]);
    let explains = |tag| origin::explains(tag, "orders", 3, check);
    match guard.judge(tags(), Some(key), Some(value)) {
        Verdict::Skip(_) => assert!(tags().any(explains), "skipped without a tag that explains it"),
        Verdict::Forward { earlier, check: of } => {
            assert!(of == check && (forward == Forward::Relay || !tags().any(explains)));
            let mut written = Vec::new();
            guard.write(&mut written, earlier, SourceOffset(8814), of);
            let tag = Tag::parse(&written);
            assert!(
                tag.is_some_and(|tag| tag.explains(lands_in, 3, check)),
                "{written:?}"
            );
        }
    }
}

/// The most that a batch may become.
const LIMIT: usize = 1 << 20;

/// Bytes of a batch that its checksum does not cover.
const UNCHECKED: usize = 21;

/// Bytes of a Fetch response. With bit 1 of the first byte checksums are made right, with bit 2 only what is committed is read.
pub(crate) fn batch(input: &[u8]) {
    let mut input = Input(input);
    let flags = input.byte();
    let mut bytes = input.0.to_vec();
    if flags & 1 != 0 {
        mend(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    let isolation = match flags & 2 {
        0 => Isolation::ReadUncommitted,
        _ => Isolation::ReadCommitted {
            last_stable_offset: i64::from(flags),
            aborted: vec![AbortedTransaction {
                first_offset: 0,
                producer_id: 1,
            }],
        },
    };
    let mut whole = true;
    for batch in Batches::new(bytes.clone(), isolation, LIMIT) {
        let Ok(batch) = batch else {
            whole = false;
            break;
        };
        let mut next = batch.base_offset;
        let mut size = 0;
        for record in batch.records() {
            let Ok(record) = record else { break };
            assert!((next..=batch.last_offset).contains(&record.offset), "{record:?}");
            next = record.offset.saturating_add(1);
            size += record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |value| value.len());
            size += 2 * record.headers.len();
            assert!(size <= LIMIT, "more than may come out");
        }
    }
    assert!(!whole || flags & 2 != 0 || last_codec(bytes).is_ok());
}

/// Makes the checksums of all complete batches right.
fn mend(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(length) = rest.get(8..12).and_then(|length| length.try_into().ok()) {
        let Ok(length) = usize::try_from(i32::from_be_bytes(length)) else {
            return;
        };
        let Some((batch, behind)) = rest.split_at_mut_checked(length.saturating_add(12)) else {
            return;
        };
        if batch.len() < UNCHECKED {
            return;
        }
        let check = crc32c::crc32c(&batch[UNCHECKED..]);
        batch[UNCHECKED - 4..UNCHECKED].copy_from_slice(&check.to_be_bytes());
        rest = behind;
    }
}
