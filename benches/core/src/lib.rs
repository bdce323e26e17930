//! What the rules of the core do for a record or a run, and beside each a plain loop that does the same work without
//! the rule: ratios of the two hold on any machine.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;

use bytes::Bytes;
use kuroshio_core::batch::Record;
use kuroshio_core::origin::{self, Forward, Guard, GuardError, Verdict};
use kuroshio_core::runs::{Run, Runs};
use kuroshio_core::search::{Ask, Mark, NEAR, Search, Stretch};
use kuroshio_core::translate::{self, Place};
use kuroshio_core::types::{SourceOffset, TargetOffset};
use kuroshio_core::window::Window;

/// The value of an order event of the size in DESIGN's numbers.
const VALUE: [u8; 340] = [b'x'; 340];
const KEY: &[u8] = b"order-8814";
/// Runs that are searched.
const KEPT: i64 = 1000;
/// Copies in a log that is searched, and how many of them one read brings.
const COPIES: i64 = 1_000_000;
const PROBE: i64 = 200;
/// A record's headers as they lie in its batch: two of an application's, then our tag.
const OTHERS: [(&[u8], &[u8]); 2] = [
    (b"content-type", b"application/json"),
    (b"trace", b"0123456789abcdef"),
];

/// One call of a rule, or of its reference.
pub type Work = Box<dyn FnMut()>;

/// A rule, and what it is compared with.
pub struct Case {
    /// What is done.
    pub name: &'static str,
    /// The most that the rule may take, in times of the reference: about three times what it took when this was written.
    pub limit: f64,
    /// The rule.
    pub rule: Work,
    /// The same work by a plain loop.
    pub reference: Work,
}

/// All of them.
///
/// # Errors
/// Names that cannot stand in a tag.
pub fn cases() -> Result<Vec<Case>, GuardError> {
    Ok(vec![
        born_here()?,
        replicated()?,
        headers(),
        window(),
        place(),
        find(),
        counted(),
        searched(),
    ])
}

/// CRC-32C over the same bytes is what no verdict can do without.
fn checksum() -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(black_box(KEY)), black_box(&VALUE))
}

fn born_here() -> Result<Case, GuardError> {
    let guard = Guard::new("tw", "orders", 3, "jp", "orders", Forward::Local)?;
    let (mut tag, mut copy) = (Vec::new(), Vec::new());
    Ok(Case {
        name: "verdict: born here, judge and write the tag",
        limit: 4.0,
        rule: Box::new(move || {
            let verdict = guard.judge([], black_box(Some(KEY)), black_box(Some(&VALUE[..])));
            if let Verdict::Forward { earlier, check } = verdict {
                tag.clear();
                guard.write(&mut tag, earlier, SourceOffset(8814), check);
            }
            black_box(&tag);
        }),
        reference: Box::new(move || {
            copy.clear();
            copy.extend_from_slice(black_box(b"tw/orders/3/8814#"));
            copy.extend_from_slice(&checksum().to_be_bytes());
            black_box(&copy);
        }),
    })
}

fn replicated() -> Result<Case, GuardError> {
    let guard = Guard::new("jp", "orders", 3, "tw", "orders", Forward::Local)?;
    let tag = tag();
    Ok(Case {
        name: "verdict: replicated, judge and skip",
        limit: 8.0,
        rule: Box::new(move || {
            let verdict = guard.judge(
                [tag.as_slice()],
                black_box(Some(KEY)),
                black_box(Some(&VALUE[..])),
            );
            black_box(matches!(verdict, Verdict::Skip(_)));
        }),
        reference: Box::new(|| {
            black_box(checksum());
        }),
    })
}

fn tag() -> Vec<u8> {
    let mut tag = Vec::new();
    let hop = origin::Hop {
        cluster: "tw",
        topic: "orders",
        partition: 3,
        offset: SourceOffset(8814),
        name: None,
    };
    origin::write(&[hop], origin::check(Some(KEY), Some(&VALUE)), &mut tag);
    tag
}

/// Lengths below 64 are one byte in zigzag.
fn packed() -> Vec<u8> {
    let tag = tag();
    let all = OTHERS
        .into_iter()
        .chain([(origin::HEADER.as_bytes(), tag.as_slice())]);
    let mut out = vec![6];
    for (key, value) in all {
        for part in [key, value] {
            out.push((part.len() * 2) as u8);
            out.extend_from_slice(part);
        }
    }
    out
}

fn headers() -> Case {
    let (bytes, same) = (packed(), packed());
    Case {
        name: "headers: find the tag behind two others",
        limit: 14.0,
        rule: Box::new(move || {
            black_box(origin::tags(black_box(&bytes)).next());
        }),
        reference: Box::new(move || {
            // Walks from length to length.
            let (mut at, mut parts, mut found) = (1, 0, false);
            while let Some(length) = black_box(&same).get(at) {
                let end = at + 1 + usize::from(*length / 2);
                let part = same.get(at + 1..end).unwrap_or_default();
                found |= parts % 2 == 0 && part == origin::HEADER.as_bytes();
                (at, parts) = (end, parts + 1);
            }
            black_box(found);
        }),
    }
}

fn window() -> Case {
    let (mut window, mut at) = (Window::new(SourceOffset(0)), 0_i64);
    let (mut map, mut now) = (BTreeMap::new(), 0_i64);
    Case {
        name: "window: a run of 1,000 records read and placed in two halves",
        limit: 5.0,
        rule: Box::new(move || {
            let (first, next) = (SourceOffset(at), SourceOffset(at + 1000));
            at += 1000;
            black_box(window.read(first, next, &[(first, next)])).ok();
            black_box(window.placed(first, 500)).ok();
            black_box(window.placed(first.plus(500), 500)).ok();
            black_box(window.floor());
        }),
        reference: Box::new(move || {
            map.insert(now, now + 1000);
            map.remove(&now);
            map.insert(now + 500, now + 1000);
            map.remove(&(now + 500));
            now += 1000;
            black_box(map.first_key_value());
        }),
    }
}

fn run(number: i64) -> Run {
    // The marker of a transaction lies between two runs.
    Run {
        source: SourceOffset(number * 100),
        target: TargetOffset(number * 101),
        count: 100,
    }
}

fn place() -> Case {
    let (mut runs, mut number) = (Runs::new(1000), 0);
    let (mut queue, mut again) = (VecDeque::new(), 0);
    Case {
        name: "runs: one more, one forgotten",
        limit: 3.5,
        rule: Box::new(move || {
            runs.place(black_box(run(number)));
            number += 1;
        }),
        reference: Box::new(move || {
            queue.push_back(black_box(run(again)));
            again += 1;
            if queue.len() > 1000 {
                black_box(queue.pop_front());
            }
        }),
    }
}

fn find() -> Case {
    let mut runs = Runs::new(1000);
    (0..KEPT).for_each(|number| runs.place(run(number)));
    let list: Vec<_> = (0..KEPT).map(run).collect();
    let middle = SourceOffset(KEPT / 2 * 100 + 50);
    Case {
        name: "runs: find an offset among 1,000",
        limit: 4.5,
        rule: Box::new(move || {
            black_box(runs.find(black_box(middle)));
        }),
        reference: Box::new(move || {
            let middle = black_box(middle);
            black_box(list.iter().find(|run| run.source_end() > middle));
        }),
    }
}

fn counted() -> Case {
    let place = |cluster| Place {
        cluster,
        topic: "orders",
        partition: 3,
    };
    let tag = (Bytes::from_static(origin::HEADER.as_bytes()), Some(tag().into()));
    let others = OTHERS.map(|(key, value)| (Bytes::from_static(key), Some(Bytes::from_static(value))));
    let record = Record {
        offset: 90_210,
        timestamp: -1,
        key: Some(Bytes::from_static(KEY)),
        value: Some(Bytes::from_static(&VALUE)),
        headers: others.into_iter().chain([tag]).collect(),
    };
    Case {
        name: "translate: the offset that a copy had where it was born",
        limit: 15.0,
        rule: Box::new(move || {
            black_box(translate::offset_in(black_box(&record), place("jp"), place("tw")));
        }),
        reference: Box::new(|| {
            black_box(checksum());
        }),
    }
}

/// What a read from `at` on brings: every hundred and first offset is a marker's.
fn stretch(at: i64) -> Stretch {
    let offsets = at..(at + PROBE).min(COPIES);
    let copy = |at| Mark {
        at,
        key: at - at / 101,
        ours: true,
    };
    Stretch {
        marks: offsets.clone().filter(|at| at % 101 != 100).map(copy).collect(),
        offsets,
    }
}

fn searched() -> Case {
    let wanted = COPIES / 3;
    Case {
        name: "search: an offset among 1,000,000 copies in order",
        limit: 1.2,
        rule: Box::new(move || {
            let mut search = Search::new(black_box(wanted), 0..COPIES, 0, Some(0));
            while let Some(Ask::Probe(at) | Ask::Scan(at)) = search.ask(NEAR) {
                search.read(&stretch(at));
            }
            black_box(search.found());
        }),
        reference: Box::new(move || {
            // Halves.
            let (wanted, mut low, mut high) = (black_box(wanted), 0, COPIES);
            while high - low > PROBE {
                let middle = low + (high - low) / 2;
                match stretch(middle).marks.iter().find(|mark| mark.key >= wanted) {
                    Some(first) if first.at <= middle + 1 => high = middle,
                    Some(first) => (low, high) = (middle, first.at),
                    None => low = middle + PROBE,
                }
            }
            black_box(low);
        }),
    }
}
