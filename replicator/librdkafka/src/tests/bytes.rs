//! What a copy is.

use kuroshio_core::origin::{self, SkipReason};

use super::*;

fn headers(list: &[(&[u8], Option<&[u8]>)]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    list.iter()
        .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
        .collect()
}

/// All that a record may be.
fn odd_records() -> Vec<Raw> {
    let base = Raw {
        key: None,
        value: None,
        timestamp: 1_700_000_000_123,
        headers: Vec::new(),
    };
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    vec![
        base.clone(),
        Raw {
            key: some(b""),
            value: some(b""),
            ..base.clone()
        },
        Raw {
            key: some(b"\0k\xff"),
            value: some(&[0xfe; 100_000]),
            ..base.clone()
        },
        Raw {
            timestamp: -1,
            value: some(b"no timestamp"),
            ..base.clone()
        },
        Raw {
            timestamp: 1,
            value: some(b"old"),
            ..base.clone()
        },
        Raw {
            key: some(b"k"),
            headers: headers(&[
                (b"b", Some(b"1")),
                (b"a", None),
                (b"b", Some(b"")),
                (b"\xff\xfe no utf-8", Some(b"\0\x80")),
                (b"", Some(b"no key")),
                (b"a", None),
            ]),
            ..base.clone()
        },
        // Applications' traces go through: ours are not theirs.
        Raw {
            headers: headers(&[
                (
                    b"traceparent",
                    Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ),
                (b"tracestate", Some(b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
                (
                    b"b3",
                    Some(b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
                ),
            ]),
            ..base.clone()
        },
        Raw {
            value: some(&(0..=255).collect::<Vec<u8>>()),
            ..base
        },
    ]
}

#[test]
fn bytes_survive() {
    let (pair, records) = (Pair::new(&[("t", 1)]), odd_records());
    write(&pair.source, "t", 0, &records);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    let mut facts = Vec::new();
    haul_until(&mut engine, &mut facts, |facts| {
        placed(facts, 0) == records.len() as u64
    });
    let copies = read(&pair.target, "t", 0, records.len());
    for (offset, (mut copy, record)) in copies.into_iter().zip(records).enumerate() {
        assert_eq!(born(&copy), offset as i64);
        copy.headers.pop();
        assert_eq!(copy, record, "offset {offset}");
    }
}

#[test]
fn the_tag_is_last_and_earlier_ones_go() {
    let pair = Pair::new(&[("t", 1)]);
    let foreign = (b"x".to_vec(), Some(b"1".to_vec()));
    let forged = (b"kuroshio-origin".to_vec(), Some(b"us/t/0/5#AAAAAA".to_vec()));
    let null = (b"kuroshio-origin".to_vec(), None);
    let record = Raw {
        headers: vec![forged, foreign.clone(), null],
        ..Raw::value("v")
    };
    write(&pair.source, "t", 0, &[record]);
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    haul_until(&mut engine, &mut Vec::new(), |facts| placed(facts, 0) == 1);
    let copy = read(&pair.target, "t", 0, 1).remove(0);
    let check = origin::check(None, Some(b"v")).text();
    let tag = [b"tw/t/0/0#".as_slice(), &check].concat();
    assert_eq!(
        copy.headers,
        vec![foreign, (b"kuroshio-origin".to_vec(), Some(tag))]
    );
}

#[test]
fn what_was_copied_here_is_skipped_and_counted() {
    let pair = Pair::new(&[("t", 1)]);
    let tag = [
        b"jp/t/0/70#".as_slice(),
        &origin::check(None, Some(b"copy")).text(),
    ]
    .concat();
    let copy = Raw {
        headers: vec![(b"kuroshio-origin".to_vec(), Some(tag))],
        ..Raw::value("copy")
    };
    let ours = Raw::value("ours");
    write(
        &pair.source,
        "t",
        0,
        &[copy.clone(), ours.clone(), copy.clone(), copy, ours],
    );
    let mut engine = pair.at_least_once();
    engine.attach(vec![spec(0, "t", 0, 0)]).unwrap();
    let mut facts = Vec::new();
    haul_until(&mut engine, &mut facts, |facts| placed(facts, 0) == 2);
    let runs = facts.iter().filter_map(|fact| {
        if let Fact::Read(run) = fact {
            Some(run)
        } else {
            None
        }
    });
    let (mut next, mut forwarded, mut skipped) = (0, Vec::new(), 0);
    for run in runs {
        assert_eq!(run.first.0, next, "runs follow each other");
        next = run.next.0;
        forwarded.extend(run.forwarded.iter().flat_map(|(from, to)| from.0..to.0));
        skipped += run
            .skipped
            .iter()
            .map(|(reason, count)| {
                assert_eq!(*reason, SkipReason::Replicated);
                count
            })
            .sum::<u64>();
    }
    assert_eq!((next, forwarded, skipped), (5, vec![1, 4], 3));
    assert_eq!(
        read(&pair.target, "t", 0, 2).iter().map(born).collect::<Vec<_>>(),
        [1, 4]
    );
}
