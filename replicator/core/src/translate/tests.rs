use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::origin::HEADER;

fn place<'a>(cluster: &'a str, topic: &'a str) -> Place<'a> {
    Place {
        cluster,
        topic,
        partition: 3,
    }
}

fn record(tags: &[&str]) -> Record {
    let value = Bytes::from_static(b"123456789");
    let tag = |tag: &&str| {
        (
            Bytes::from_static(HEADER.as_bytes()),
            Some(Bytes::copy_from_slice(tag.as_bytes())),
        )
    };
    Record {
        offset: 70,
        timestamp: 0,
        key: None,
        value: Some(value),
        headers: tags.iter().map(tag).collect(),
    }
}

#[test]
fn a_record_comes_from_where_its_tag_explains() {
    let (tw, jp, kr) = (place("tw", "t"), place("jp", "t"), place("kr", "t"));
    for (tags, of, expected) in [
        (&[][..], jp, Some(70)),
        (&[], tw, None),
        (&["tw/t/3/5#4waSgw"], tw, Some(5)),
        (&["tw/t/3/5#4waSgw"], jp, None),
        (&["kr/t/3/9>tw/t/3/5#4waSgw"], tw, Some(5)),
        (&["kr/t/3/9>tw/t/3/5#4waSgw"], kr, Some(9)),
        // Of another record, another partition, another topic: born here.
        (&["tw/t/3/5#4waSgA"], jp, Some(70)),
        (&["tw/t/4/5#4waSgw"], jp, Some(70)),
        (&["tw/u/3/5#4waSgw"], jp, Some(70)),
        // Renamed on its way here.
        (&["tw/u/3/5=t#4waSgw"], place("tw", "u"), Some(5)),
        (&["tw/u/3/5=t#4waSgw"], tw, None),
        // Of several that explain it, the longest.
        (&["tw/t/3/5#4waSgw", "kr/t/3/9>tw/t/3/6#4waSgw"], tw, Some(6)),
    ] {
        assert_eq!(offset_in(&record(tags), jp, of), expected, "{tags:?} {of:?}");
    }
}

#[test]
fn the_first_place_of_all_is_the_answer() {
    let found = |at, exact| Found { at, exact };
    let translation = |offset, exact, again| Some(Translation { offset, exact, again });
    for (parts, expected) in [
        (vec![], None),
        (vec![found(5, true)], translation(5, true, 0)),
        (vec![found(5, false)], translation(5, false, 0)),
        (vec![found(5, true), found(9, true)], translation(5, true, 4)),
        // What may lie further on does not matter.
        (vec![found(5, true), found(9, false)], translation(5, true, 4)),
        (vec![found(5, false), found(9, true)], translation(5, false, 4)),
        (vec![found(5, false), found(5, true)], translation(5, true, 0)),
    ] {
        assert_eq!(answer(&parts), expected, "{parts:?}");
    }
}

/// A log of (offset in O, own) at each offset; `None`: of others.
type Log = Vec<Option<(i64, bool)>>;

fn read(log: &Log, offsets: Range<i64>) -> Stretch {
    let offsets = offsets.start.max(0)..offsets.end.min(log.len() as i64);
    let mark = |at: i64| log[at as usize].map(|(key, ours)| Mark { at, key, ours });
    Stretch {
        marks: offsets.clone().filter_map(mark).collect(),
        offsets,
    }
}

/// Own copies in order, and between them records of others, and copies written again of what lies before.
fn ordered(steps: &[u8]) -> Log {
    let (mut log, mut next): (Log, i64) = (Vec::new(), 0);
    for step in steps {
        log.push(match step % 4 {
            0 | 1 => {
                next += 1 + i64::from(*step / 64);
                Some((next, true))
            }
            2 => None,
            _ => log
                .get(usize::from(*step) % log.len().max(1))
                .copied()
                .flatten()
                .map(|(key, _)| (key, false)),
        });
    }
    log
}

proptest! {
    /// Everything that has not been read lies at or behind the smallest offset; where it is sure, it is an unread one.
    #[test]
    fn no_unread_record_is_below(
        steps in proptest::collection::vec(any::<u8>(), 0..200), x in 0_i64..200, chunk in 1_i64..50, known in any::<bool>(),
        looks_back in any::<bool>(),
    ) {
        let log = ordered(&steps);
        let end = log.len() as i64;
        let x = x.min(end);
        let mut unread = Unread::new(x..end, known.then_some(0));
        if looks_back {
            unread.before(&read(&log, x - chunk..x));
        }
        while let Some(at) = unread.ask() {
            prop_assert!(at >= x && at < end);
            unread.read(&read(&log, at..at + chunk));
        }
        let firsts = |range: Range<i64>| read(&log, range).marks.iter().map(|mark| mark.key).collect::<Vec<_>>();
        let before = firsts(0..x);
        let truth = firsts(x..end).into_iter().filter(|key| !before.contains(key)).min();
        match unread.smallest() {
            None => prop_assert_eq!(truth, None),
            Some((smallest, sure)) => {
                prop_assert!(truth.is_none_or(|truth| smallest <= truth), "{smallest} skips {truth:?}");
                prop_assert!(!sure || truth == Some(smallest), "{smallest} is not {truth:?}");
            }
        }
    }
}
