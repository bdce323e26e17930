//! Where in a log the first record lies whose key is not below a wanted one (DESIGN D4). Keys are offsets in another log: a
//! copy's key is told by its tag. What must hold is not assumed but known:
//!
//! - A record with a key at or beyond the wanted one says for certain that the answer is not behind it.
//! - A record below says nothing of what lies before it. Tags are copied by applications that write records again, a zombie's
//!   records come late, a flow goes back: a log need not be in the order of its keys.
//! - Only where a flow placed its records in order ([`Copies::in_order`](crate::types::Copies)), and the record is one of those, everything before it is below
//!   too: records that were written again are copies of what lies further in front.
//!
//! Everything else is read from the front.

use std::ops::Range;

/// A record that counts: its tag explains it and names the log that is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its offset in this log.
    pub at: i64,
    /// Its offset in the other log.
    pub key: i64,
    /// The flow's own producer wrote it, not somebody who copied the tag.
    pub ours: bool,
}

/// A stretch of the log that was read whole.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Offsets read, whether there are records or not.
    pub offsets: Range<i64>,
    /// What counts of it, in the order of the log.
    pub marks: Vec<Mark>,
}

/// What is to be read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A few records from this offset on.
    Probe(i64),
    /// As much as may be, from this offset on.
    Scan(i64),
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first record with a key at or beyond the wanted one, or the end of the log; if not `exact`, an offset at or
    /// before that.
    pub at: i64,
    /// Nothing was left unread that could say otherwise.
    pub exact: bool,
}

/// So many offsets are read rather than halved again.
pub const NEAR: i64 = 500;

/// A search under way.
///
/// The unknown lies in `floor..open`. Every mark before `floor` is below `wanted`, none in `open..ceiling` is at or beyond
/// it, and `ceiling` is at or beyond it, or the end.
#[derive(Clone, Debug)]
pub struct Search {
    wanted: i64,
    /// From this offset on the flow's own records are in the order of their keys.
    in_order: Option<i64>,
    floor: i64,
    open: i64,
    ceiling: i64,
    /// A stretch that told nothing; its continuation may.
    mute: Option<Range<i64>>,
    /// The last own record below, and the first one not below: where to look is guessed from them.
    below: Option<Mark>,
    above: Option<Mark>,
    halve: bool,
}

impl Search {
    /// A search for `wanted` in `log`. `floor` is known: every mark before it is below.
    #[must_use]
    pub fn new(wanted: i64, log: Range<i64>, floor: i64, in_order: Option<i64>) -> Self {
        let floor = floor.clamp(log.start, log.end.max(log.start));
        Self {
            wanted,
            in_order,
            floor,
            open: log.end.max(floor),
            ceiling: log.end.max(floor),
            mute: None,
            below: None,
            above: None,
            halve: false,
        }
    }

    /// What is known by now; exact when nothing is asked for any more.
    #[must_use]
    pub fn found(&self) -> Found {
        let exact = self.floor >= self.open;
        Found {
            at: if exact { self.ceiling } else { self.floor },
            exact,
        }
    }

    /// So many offsets are left in which the answer may lie.
    #[must_use]
    pub fn unknown(&self) -> i64 {
        self.open - self.floor
    }

    /// What to read next; `None`: the answer is exact. `near`: so many offsets are read rather than halved again.
    pub fn ask(&mut self, near: i64) -> Option<Ask> {
        if self.floor >= self.open {
            return None;
        }
        if self.in_order.is_none_or(|from| self.floor < from) || self.open - self.floor <= near {
            return Some(Ask::Scan(self.floor));
        }
        if let Some(mute) = &self.mute {
            return Some(Ask::Probe(mute.end));
        }
        self.halve = !self.halve;
        Some(Ask::Probe(self.guess()))
    }

    /// Somewhere inside the unknown: its middle, and every other time where the keys around it say, a little before.
    fn guess(&self) -> i64 {
        let middle = self.floor + (self.open - self.floor) / 2;
        let (Some(below), Some(above), false) = (self.below, self.above, self.halve) else {
            return middle;
        };
        let (keys, places) = (above.key - below.key, above.at - below.at);
        if keys <= 0 || places <= 0 {
            return middle;
        }
        let share = (self.wanted - below.key) as f64 / keys as f64;
        let guess = below.at + (places as f64 * share) as i64 - NEAR / 4;
        guess.clamp(self.floor, self.open - 1)
    }

    /// Takes in a stretch that was read, whoever asked for it.
    pub fn read(&mut self, stretch: &Stretch) {
        let Range { mut start, end } = stretch.offsets;
        if end <= start || end <= self.floor || start >= self.ceiling {
            return;
        }
        if let Some(mute) = self.mute.take_if(|mute| mute.end == start) {
            start = mute.start;
        }
        let before = (self.floor, self.open);
        let first = stretch.marks.iter().find(|mark| mark.key >= self.wanted);
        // None of `start..clear` is at or beyond the wanted key.
        let clear = first.map_or(end, |mark| mark.at);
        if let Some(mark) = first.filter(|mark| mark.at < self.ceiling) {
            (self.ceiling, self.above) = (mark.at, Some(*mark));
            self.open = self.open.min(mark.at);
        }
        if clear >= self.open {
            self.open = self.open.min(start);
        }
        if let Some(mark) = self.last_in_order(&stretch.marks, clear) {
            self.below = Some(mark);
            self.floor = self.floor.max(mark.at + 1);
        }
        if start <= self.floor {
            self.floor = self.floor.max(clear);
        }
        if before != (self.floor, self.open) {
            self.mute = None;
        } else if start >= self.floor && end < self.open {
            self.mute = Some(start..end);
        }
    }

    /// The last mark before `clear` that puts everything in front of it below.
    fn last_in_order(&self, marks: &[Mark], clear: i64) -> Option<Mark> {
        let from = self.in_order?;
        // What lies in front of where the order begins must be known by itself.
        let known = self.floor >= from;
        marks
            .iter()
            .rev()
            .find(|mark| known && mark.ours && mark.at >= from && mark.at < clear && mark.key < self.wanted)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a partition of the target.
    #[derive(Clone, Debug)]
    enum Event {
        /// The flow places so many records, after leaving so many keys out.
        Place { gap: i64, count: i64 },
        /// Offsets that nothing of this flow lies at: markers, records of others.
        Others(i64),
        /// Somebody writes so many of what is there again, from a share of the log on, with the tags.
        Again { from: f64, count: usize },
        /// The flow goes back by so many keys: from here on the order begins anew.
        Back(i64),
        /// Every so-many-th record is compacted away.
        Compact(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0_i64..5, 1_i64..400).prop_map(|(gap, count)| Event::Place { gap, count }),
            2 => (1_i64..300).prop_map(Event::Others),
            2 => (0.0..1.0_f64, 1_usize..300).prop_map(|(from, count)| Event::Again { from, count }),
            1 => (1_i64..500).prop_map(Event::Back),
            1 => (2_usize..6).prop_map(Event::Compact),
        ]
    }

    /// A log, all of it.
    #[derive(Debug, Default)]
    struct Log {
        marks: Vec<Mark>,
        end: i64,
        in_order: i64,
    }

    impl Log {
        fn of(events: &[Event]) -> Self {
            let (mut log, mut next) = (Self::default(), 0);
            for event in events {
                match *event {
                    Event::Place { gap, count } => {
                        for key in next + gap..next + gap + count {
                            log.add(key, true);
                        }
                        next += gap + count;
                    }
                    Event::Others(count) => log.end += count,
                    Event::Again { from, count } => {
                        let from = (log.marks.len() as f64 * from) as usize;
                        let keys: Vec<i64> = log.marks[from..]
                            .iter()
                            .take(count)
                            .map(|mark| mark.key)
                            .collect();
                        keys.into_iter().for_each(|key| log.add(key, false));
                    }
                    Event::Back(by) => {
                        next = (next - by).max(0);
                        log.in_order = log.end;
                    }
                    Event::Compact(nth) => {
                        let mut number = 0;
                        log.marks.retain(|_| {
                            number += 1;
                            number % nth != 0
                        });
                    }
                }
            }
            log
        }

        fn add(&mut self, key: i64, ours: bool) {
            self.marks.push(Mark {
                at: self.end,
                key,
                ours,
            });
            self.end += 1;
        }

        fn truth(&self, wanted: i64) -> i64 {
            let first = self.marks.iter().find(|mark| mark.key >= wanted);
            first.map_or(self.end, |mark| mark.at)
        }

        fn read(&self, from: i64, count: i64) -> Stretch {
            let offsets = from..(from + count).min(self.end);
            let within = |mark: &&Mark| offsets.contains(&mark.at);
            Stretch {
                marks: self.marks.iter().filter(within).copied().collect(),
                offsets,
            }
        }

        /// Searches with at most `reads`; tells what was found, and how many offsets were read.
        fn search(&self, mut search: Search, reads: usize) -> (Found, i64) {
            let mut cost = 0;
            for _ in 0..reads {
                let stretch = match search.ask(NEAR) {
                    None => break,
                    Some(Ask::Probe(from)) => self.read(from, 50),
                    Some(Ask::Scan(from)) => self.read(from, 1_000),
                };
                cost += stretch.offsets.end - stretch.offsets.start;
                search.read(&stretch);
            }
            (search.found(), cost)
        }
    }

    proptest! {
        /// Exact means exact, and nothing unread is ever skipped, however little was read, in logs of every kind, with the
        /// order known, unknown, and with any floor that is true.
        #[test]
        fn translation_never_skips(
            events in proptest::collection::vec(event(), 1..25),
            (wanted, reads, ordered, floor) in (0_i64..3_000, 0_usize..30, any::<bool>(), 0.0..1.0_f64),
        ) {
            let log = Log::of(&events);
            let truth = log.truth(wanted);
            let floor = (truth as f64 * floor) as i64;
            let search = || Search::new(wanted, 0..log.end, floor, ordered.then_some(log.in_order));
            let (found, _) = log.search(search(), reads);
            prop_assert!(found.at <= truth, "{found:?} skips {truth}");
            prop_assert!(!found.exact || found.at == truth, "{found:?} is not {truth}");
            let (found, _) = log.search(search(), 100_000);
            prop_assert_eq!(found, Found { at: truth, exact: true });
        }

        /// What others read for themselves neither misleads a search nor keeps it from its end.
        #[test]
        fn stretches_may_come_from_anywhere(
            events in proptest::collection::vec(event(), 1..25), wanted in 0_i64..3_000,
            others in proptest::collection::vec((0.0..1.0_f64, 1_i64..500), 0..40),
        ) {
            let log = Log::of(&events);
            let truth = log.truth(wanted);
            let mut search = Search::new(wanted, 0..log.end, 0, Some(log.in_order));
            for (from, count) in others {
                search.read(&log.read((log.end as f64 * from) as i64, count));
                let found = search.found();
                prop_assert!(found.at <= truth && (!found.exact || found.at == truth), "{found:?}, not {truth}");
            }
            prop_assert_eq!(log.search(search, 100_000).0, Found { at: truth, exact: true });
        }
    }

    /// Ten million records in order, with those of others between: a few reads find any of them.
    #[test]
    fn depth_costs_little_where_the_order_is_known() {
        struct Deep;
        impl Deep {
            /// Every second stretch of 1,000 offsets holds the flow's records.
            fn read(from: i64, count: i64) -> Stretch {
                let marks = (from..from + count)
                    .filter(|at| at / 1_000 % 2 == 0)
                    .map(|at| Mark {
                        at,
                        key: at / 2_000 * 1_000 + at % 1_000,
                        ours: true,
                    });
                Stretch {
                    marks: marks.collect(),
                    offsets: from..from + count,
                }
            }
        }
        let end = 20_000_000;
        for wanted in [0, 1, 999, 1_000, 5_000_000, 7_654_321, 9_999_999, 10_000_000] {
            let mut search = Search::new(wanted, 0..end, 0, Some(0));
            let mut cost = 0;
            while let Some(ask) = search.ask(NEAR) {
                let (Ask::Probe(from) | Ask::Scan(from)) = ask;
                cost += 100;
                search.read(&Deep::read(from, 100.min(end - from)));
            }
            let at = (wanted / 1_000 * 2_000 + wanted % 1_000).min(end);
            assert_eq!(search.found(), Found { at, exact: true });
            assert!(cost <= 10_000, "{wanted}: {cost} offsets were read");
        }
    }
}
