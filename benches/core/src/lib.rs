//! What the rules of the core do for a record or a run, and beside each a plain loop that does the same work without
//! the rule: ratios of the two hold on any machine.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;

use kuroshio_core::origin::{self, Forward, Guard, GuardError, Verdict};
use kuroshio_core::runs::{Run, Runs};
use kuroshio_core::types::{SourceOffset, TargetOffset};
use kuroshio_core::window::Window;

/// The value of an order event of the size in DESIGN's numbers.
const VALUE: [u8; 340] = [b'x'; 340];
const KEY: &[u8] = b"order-8814";
/// Runs that are searched.
const KEPT: i64 = 1000;
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
