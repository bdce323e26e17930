//! The whole of a translation against a naive model: three clusters that are all written to and copy to each other, every record of
//! every log in a list, and all that happens to logs.

use std::collections::HashSet;
use std::ops::Range;

use proptest::prelude::*;

use super::{Translation, Unread, answer, unread_from};
use crate::search::{Ask, Found, Mark, NEAR, Search, Stretch};

const CLUSTERS: usize = 3;
/// Offsets that a probe reads.
const PROBE: i64 = 20;

/// Where a record was born: cluster, how often its topic was made anew before, offset.
type Birth = (usize, u32, i64);

#[derive(Clone, Copy, Debug)]
struct Record {
    birth: Birth,
    /// Written by the flow that copied it, not by an application that wrote it again.
    ours: bool,
}

/// What a flow commits, and what a search goes by.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    next: i64,
    in_order: Option<i64>,
    end: i64,
}

#[derive(Clone, Debug)]
enum Event {
    /// Applications write so many records on a cluster.
    Produce(usize, i64),
    /// The flow from the one to the other reads so many offsets.
    Copy(usize, usize, i64),
    /// An application writes so many records of a cluster again, from a share of its log on, tags and all.
    Again(usize, f64, usize),
    /// The flow goes back by so many offsets; who takes it over knows no order before.
    Back(usize, usize, i64),
    /// A process that was thought dead writes records again that the flow has copied long ago; with transactions it cannot.
    Late(usize, usize, f64, usize),
    /// Offsets without a record: markers.
    Gap(usize, i64),
    /// The topic is deleted on a cluster and made anew; flows fill it again from the beginning.
    Anew(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let one = || 0..CLUSTERS;
    let two = || (0..CLUSTERS, 1..CLUSTERS).prop_map(|(from, by)| (from, (from + by) % CLUSTERS));
    prop_oneof![
        6 => (one(), 1_i64..40).prop_map(|(on, count)| Event::Produce(on, count)),
        9 => (two(), 1_i64..60).prop_map(|((from, to), count)| Event::Copy(from, to, count)),
        1 => (one(), 0.0..1.0_f64, 1_usize..20).prop_map(|(on, from, count)| Event::Again(on, from, count)),
        1 => (two(), 1_i64..40).prop_map(|((from, to), by)| Event::Back(from, to, by)),
        1 => (two(), 0.0..1.0_f64, 1_usize..20).prop_map(|((from, to), at, count)| Event::Late(from, to, at, count)),
        1 => (one(), 1_i64..5).prop_map(|(on, count)| Event::Gap(on, count)),
    ]
}

#[derive(Debug)]
struct World {
    logs: [Vec<Option<Record>>; CLUSTERS],
    made: [u32; CLUSTERS],
    flows: [[Position; CLUSTERS]; CLUSTERS],
    exactly_once: bool,
}

impl World {
    fn of(events: &[Event], exactly_once: bool) -> Self {
        let position = Position {
            in_order: exactly_once.then_some(0),
            ..Position::default()
        };
        let mut world = Self {
            logs: Default::default(),
            made: [0; CLUSTERS],
            flows: [[position; CLUSTERS]; CLUSTERS],
            exactly_once,
        };
        events.iter().for_each(|event| world.happens(event));
        world
    }

    fn end(&self, cluster: usize) -> i64 {
        self.logs[cluster].len() as i64
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Produce(on, count) => {
                for _ in 0..count {
                    let birth = (on, self.made[on], self.end(on));
                    self.logs[on].push(Some(Record { birth, ours: false }));
                }
            }
            Event::Copy(from, to, count) => {
                let next = self.flows[from][to].next;
                let until = (next + count).min(self.end(from));
                self.copy(from, to, next..until);
                let end = self.end(to);
                let flow = &mut self.flows[from][to];
                flow.next = until.max(next);
                flow.end = end;
            }
            Event::Again(on, share, count) => {
                let from = (self.logs[on].len() as f64 * share) as usize;
                let tagged = |record: &&Record| record.birth.0 != on;
                let again: Vec<_> = self.logs[on][from..]
                    .iter()
                    .flatten()
                    .filter(tagged)
                    .take(count)
                    .map(|record| {
                        Some(Record {
                            ours: false,
                            ..*record
                        })
                    })
                    .collect();
                self.logs[on].extend(again);
            }
            Event::Back(from, to, by) => {
                let end = self.end(to);
                let flow = &mut self.flows[from][to];
                flow.next = (flow.next - by).max(0);
                flow.in_order = flow.in_order.map(|_| end);
                flow.end = end;
            }
            Event::Late(from, to, share, count) => {
                if !self.exactly_once {
                    let next = self.flows[from][to].next;
                    let at = (next as f64 * share) as i64;
                    self.copy(from, to, at..(at + count as i64).min(next));
                    self.flows[from][to].end = self.end(to);
                }
            }
            Event::Gap(on, count) => self.logs[on].extend((0..count).map(|_| None)),
            Event::Anew(on) => {
                self.logs[on].clear();
                self.made[on] += 1;
                for other in 0..CLUSTERS {
                    let in_order = |end| self.exactly_once.then_some(end);
                    self.flows[on][other] = Position {
                        in_order: in_order(self.end(other)),
                        end: self.end(other),
                        ..Position::default()
                    };
                    self.flows[other][on] = Position {
                        in_order: in_order(0),
                        ..Position::default()
                    };
                }
            }
        }
    }

    /// Only what was born on `from` goes on from there.
    fn copy(&mut self, from: usize, to: usize, offsets: Range<i64>) {
        for offset in offsets {
            if let Some(record) = self.logs[from][offset as usize]
                && record.birth.0 == from
            {
                self.logs[to].push(Some(Record { ours: true, ..record }));
            }
        }
    }

    /// What comes from `of`, as tags say it; a tag does not know that a topic was made anew.
    fn read(&self, log: usize, of: usize, offsets: Range<i64>) -> Stretch {
        let offsets = offsets.start.max(0)..offsets.end.min(self.end(log));
        let mark = |at: i64| {
            let record = self.logs[log][at as usize].filter(|record| record.birth.0 == of)?;
            Some(Mark {
                at,
                key: record.birth.2,
                ours: record.ours,
            })
        };
        Stretch {
            marks: offsets.clone().filter_map(mark).collect(),
            offsets,
        }
    }

    fn search(&self, mut search: Search, log: usize, of: usize) -> Found {
        while let Some(Ask::Probe(at) | Ask::Scan(at)) = search.ask(NEAR / 50) {
            search.read(&self.read(log, of, at..at + PROBE));
        }
        search.found()
    }

    /// As the client puts it together: first the flow's own copies, then those of every other birth.
    fn translate(&self, from: usize, to: usize, x: i64) -> Option<Translation> {
        let end = self.end(to);
        let forward = |source: usize, wanted| {
            let search = Search::new(wanted, 0..end, 0, self.flows[source][to].in_order);
            self.search(search, to, source)
        };
        let mut found = vec![forward(from, x)];
        for other in (0..CLUSTERS).filter(|other| *other != from) {
            let leg = &self.flows[other][from];
            let mut unread = Unread::new(x..leg.end.min(self.end(from)), leg.in_order);
            let before = self.read(from, other, x - PROBE..x);
            unread.before(&before);
            while let Some(at) = unread.ask() {
                unread.read(&self.read(from, other, at..at + PROBE));
            }
            let in_order = leg.in_order.is_some_and(|from| from <= x);
            let all_copied = other == to && leg.next >= end;
            let (wanted, sure) = unread_from(unread.smallest(), leg.next, in_order || all_copied);
            let part = if other == to {
                self.search(Search::new(wanted, 0..end, wanted.max(0), None), to, to)
            } else {
                forward(other, wanted)
            };
            found.push(Found {
                exact: part.exact && sure,
                ..part
            });
        }
        answer(&found)
    }

    /// The first record of `to` that a consumer at `x` in `from` has not read. What was born in a topic that is no more does
    /// not count: nobody can tell.
    fn truth(&self, from: usize, to: usize, x: i64) -> i64 {
        let read: HashSet<Birth> = self.logs[from][..x as usize]
            .iter()
            .flatten()
            .map(|record| record.birth)
            .collect();
        let unread =
            |record: &Record| self.made[record.birth.0] == record.birth.1 && !read.contains(&record.birth);
        let first = self.logs[to]
            .iter()
            .position(|record| record.as_ref().is_some_and(unread));
        first.map_or(self.end(to), |at| at as i64)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Nothing is skipped, whatever happened; and exact means exact, but for what a flow copied twice that has gone back.
    #[test]
    fn three_clusters_translate_without_skipping(
        events in proptest::collection::vec(event(), 1..60), exactly_once in any::<bool>(),
        (from, by, share) in (0..CLUSTERS, 1..CLUSTERS, 0.0..=1.0_f64),
    ) {
        let world = World::of(&events, exactly_once);
        let to = (from + by) % CLUSTERS;
        let x = (world.end(from) as f64 * share) as i64;
        let (found, truth) = (world.translate(from, to, x), world.truth(from, to, x));
        let found = found.unwrap();
        prop_assert!(found.offset <= truth, "{from} to {to} at {x}: {found:?} skips {truth}");
        let back = |event: &Event| matches!(event, Event::Back(..));
        let exact = found.exact && !events.iter().any(back);
        prop_assert!(!exact || found.offset == truth, "{from} to {to} at {x}: {found:?} is not {truth}");
    }

    /// Where no application writes records again and no flow goes back, everything is exact.
    #[test]
    fn without_accidents_three_clusters_are_exact(
        events in proptest::collection::vec(event(), 1..60),
        (from, by, share) in (0..CLUSTERS, 1..CLUSTERS, 0.0..=1.0_f64),
    ) {
        let usual = |event: &Event| matches!(event, Event::Produce(..) | Event::Copy(..) | Event::Gap(..));
        let events: Vec<Event> = events.into_iter().filter(usual).collect();
        let world = World::of(&events, true);
        let to = (from + by) % CLUSTERS;
        let x = (world.end(from) as f64 * share) as i64;
        let found = world.translate(from, to, x).unwrap();
        prop_assert_eq!((found.offset, found.exact), (world.truth(from, to, x), true));
    }

    /// A topic that was deleted and made anew: old copies may be taken for new ones, which sends a group back, never ahead.
    #[test]
    fn topics_made_anew_skip_nothing(
        before in proptest::collection::vec(event(), 1..30), anew in 0..CLUSTERS,
        after in proptest::collection::vec(event(), 1..30), exactly_once in any::<bool>(),
        (from, by, share) in (0..CLUSTERS, 1..CLUSTERS, 0.0..=1.0_f64),
    ) {
        let events = [before, vec![Event::Anew(anew)], after].concat();
        let world = World::of(&events, exactly_once);
        let to = (from + by) % CLUSTERS;
        let x = (world.end(from) as f64 * share) as i64;
        let (found, truth) = (world.translate(from, to, x).unwrap(), world.truth(from, to, x));
        prop_assert!(found.offset <= truth, "{from} to {to} at {x}: {found:?} skips {truth}");
    }
}
