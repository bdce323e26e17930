use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::origin::HEADER;

fn digest(of: i64) -> Digest {
    Digest {
        record: u64::try_from(of).unwrap() * 7,
        key: Some(u64::try_from(of).unwrap() % 5),
    }
}

/// Books of a source with these offsets, against copies of these, in the order of the target.
fn books(compacted: bool, source: &[i64], copies: &[i64]) -> Books {
    let mut books = Books::new(compacted);
    source
        .iter()
        .for_each(|of| books.expect(SourceOffset(*of), digest(*of)));
    for (at, of) in (0..).zip(copies) {
        books.copy(SourceOffset(*of), digest(*of), TargetOffset(at));
    }
    books
}

fn found(findings: &Findings) -> Vec<(&'static str, u64)> {
    findings
        .faults
        .iter()
        .map(|(fault, count)| (fault.as_str(), *count))
        .collect()
}

#[test]
fn each_fault_has_its_name() {
    for (source, copies, expected) in [
        (&[1, 2, 3][..], &[1, 2, 3][..], &[][..]),
        (&[], &[], &[]),
        // Gaps in the source are none.
        (&[1, 5, 9], &[1, 5, 9], &[]),
        (&[1, 2, 3], &[1, 3], &[("lost", 1)]),
        (&[1, 2, 3], &[], &[("lost", 3)]),
        (&[1, 2, 3], &[1, 2, 2, 3], &[("doubled", 1)]),
        // A part of it came again, as without transactions it may.
        (&[1, 2, 3], &[1, 2, 1, 2, 3], &[("doubled", 2)]),
        (&[1, 2, 3], &[1, 3, 2], &[("reordered", 1)]),
        (&[1, 2, 3], &[3, 1, 2], &[("reordered", 2)]),
        (&[1, 3], &[1, 2, 3], &[("unexpected", 1)]),
        (
            &[1, 2, 3],
            &[1, 3, 3, 4],
            &[("lost", 1), ("doubled", 1), ("unexpected", 1)],
        ),
    ] {
        let findings = books(false, source, copies).close(|_, _| panic!("nothing is compacted"));
        assert_eq!(found(&findings), expected, "{source:?} {copies:?}");
        assert_eq!(findings.expected, source.len() as u64);
        assert_eq!(
            findings.there + findings.count(Fault::Lost),
            findings.expected,
            "{source:?} {copies:?}"
        );
    }
}

#[test]
fn what_is_altered_is_there() {
    let mut books = books(false, &[1, 2, 3], &[1]);
    books.copy(SourceOffset(2), digest(9), TargetOffset(4));
    // Somebody wrote a copy on, and the record itself comes too.
    books.claim(SourceOffset(1), TargetOffset(5));
    // This one is all that there is of it.
    books.claim(SourceOffset(3), TargetOffset(6));
    assert_eq!(books.missing().count(), 0);
    let findings = books.close(|_, _| false);
    assert_eq!(found(&findings), [("altered", 2)]);
    assert_eq!(findings.there, 3);
    let at: Vec<_> = findings.ranges.iter().map(|range| range.at).collect();
    // One behind the other: one range.
    assert_eq!(at, [Some(TargetOffset(4))]);
    assert_eq!(findings.ranges[0].to, SourceOffset(4));
}

#[test]
fn compaction_takes_what_has_a_successor() {
    let books = books(true, &[1, 2, 3, 4], &[1, 5]);
    let missing: Vec<_> = books.missing().map(|(of, key)| (of.0, key)).collect();
    assert_eq!(missing, [(2, Some(2)), (3, Some(3)), (4, Some(4))]);
    let findings = books.close(|of, key| {
        assert_eq!(Some(key), digest(of.0).key);
        of.0 == 3
    });
    assert_eq!((findings.compacted, found(&findings)), (1, vec![("lost", 2)]));
    let without_key = Digest {
        key: None,
        ..digest(1)
    };
    let mut books = Books::new(true);
    books.expect(SourceOffset(1), without_key);
    assert_eq!(found(&books.close(|_, _| true)), [("lost", 1)]);
}

#[test]
fn ranges_are_joined_and_no_more_are_kept_than_shown() {
    let source: Vec<i64> = (0..1_000).collect();
    let copies: Vec<i64> = source.iter().copied().filter(|of| of % 10 >= 3).collect();
    let findings = books(false, &source, &copies).close(|_, _| false);
    assert_eq!((findings.count(Fault::Lost), findings.ranges.len()), (300, SHOWN));
    let first = findings.ranges[1];
    assert_eq!((first.from.0, first.to.0, first.at), (10, 13, None));
}

#[test]
fn what_is_missing_takes_bounded_memory() {
    let mut books = Books::new(false);
    let all = i64::try_from(OPEN_MAX).unwrap() + 1_000;
    (0..all).for_each(|of| books.expect(SourceOffset(of), digest(of)));
    assert_eq!(books.open.len(), OPEN_MAX);
    let findings = books.close(|_, _| false);
    assert_eq!(findings.count(Fault::Lost), u64::try_from(all).unwrap());
    assert_eq!(findings.ranges.len(), 1);
}

#[test]
fn everything_but_the_tag_is_compared() {
    let header = |name: &'static str, value: &'static [u8]| {
        (
            Bytes::from_static(name.as_bytes()),
            Some(Bytes::from_static(value)),
        )
    };
    let record = Record {
        offset: 7,
        timestamp: 1,
        key: Some(Bytes::from_static(b"k")),
        value: None,
        headers: vec![header("a", b"1"), header("a", b"1")],
    };
    let same =
        |other: Record, timestamp: bool| Digest::of(&record, timestamp) == Digest::of(&other, timestamp);
    let mut tagged = record.clone();
    tagged.headers.push(header(HEADER, b"tw/t/0/7#AAAAAA"));
    assert!(same(Record { offset: 9, ..tagged }, true));
    let changes: [fn(&mut Record); 6] = [
        |record| record.key = Some(Bytes::new()),
        |record| record.key = None,
        |record| record.value = Some(Bytes::new()),
        |record| record.headers.truncate(1),
        |record| record.headers[0].1 = None,
        |record| record.headers.swap_remove(0).0.clear(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = record.clone();
        change(&mut other);
        assert!(!same(other, false), "change {number}");
    }
    let later = Record {
        timestamp: 2,
        ..record.clone()
    };
    assert!(same(later.clone(), false) && !same(later, true));
}

proptest! {
    /// A source with gaps, and a target that lost, doubled and moved some of it: the counts are those of a naive comparison.
    #[test]
    fn counts_are_those_of_a_naive_comparison(
        gaps in proptest::collection::vec(1_i64..4, 0..60),
        copies in proptest::collection::vec(0_usize..60, 0..90),
    ) {
        let source: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let copies: Vec<i64> = copies.iter().filter_map(|at| source.get(*at).copied()).collect();
        let findings = books(false, &source, &copies).close(|_, _| false);
        let there: BTreeSet<i64> = copies.iter().copied().collect();
        let mut seen = BTreeSet::new();
        let (mut doubled, mut reordered) = (0, 0);
        for of in &copies {
            if seen.contains(of) {
                doubled += 1;
            } else if seen.iter().any(|known| known > of) {
                reordered += 1;
            }
            seen.insert(*of);
        }
        prop_assert_eq!(findings.there, there.len() as u64);
        prop_assert_eq!(findings.count(Fault::Lost), (source.len() - there.len()) as u64);
        prop_assert_eq!(findings.count(Fault::Doubled), doubled);
        prop_assert_eq!(findings.count(Fault::Reordered), reordered);
        prop_assert_eq!(findings.count(Fault::Unexpected) + findings.count(Fault::Altered), 0);
    }
}
