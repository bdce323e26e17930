//! What was read of one lane and is not yet placed, and thereby how far its position may go.
//!
//! The *floor* is the first source offset that is not settled: all before it is durable on the target or
//! was not to be copied. It is the position to commit. Facts that cannot be (a record placed that was never
//! forwarded, offsets read twice) are answered with a [`Fault`]: after one, nothing is known of the lane any
//! more, and it must be read again from its committed position.

use std::collections::BTreeMap;

use crate::types::SourceOffset;

/// The most records of one lane that may be forwarded and not placed. Engines stop by memory much earlier;
/// this holds the table's own memory if they do not.
pub const MAX_IN_FLIGHT: u64 = 1 << 22;

/// A fact that cannot be true of this lane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The run does not begin where the last one ended: records would be copied twice or not at all.
    #[error("offsets {first}..{next} were read where {expected} comes next")]
    NotNext {
        /// First offset of the run.
        first: SourceOffset,
        /// The offset after its last one.
        next: SourceOffset,
        /// Where it had to begin.
        expected: SourceOffset,
    },
    /// Forwarded ranges are empty, out of order, overlap or leave the run.
    #[error("forwarded offsets {from}..{to} do not fit into the run {first}..{next} in order")]
    Forwarded {
        /// First offset of the range at fault.
        from: SourceOffset,
        /// The offset after its last one.
        to: SourceOffset,
        /// First offset of the run.
        first: SourceOffset,
        /// The offset after its last one.
        next: SourceOffset,
    },
    /// Records were placed that are not in flight: never forwarded, or placed before.
    #[error("{count} records from offset {first} were placed, which are not all in flight")]
    NotInFlight {
        /// Source offset of the first record.
        first: SourceOffset,
        /// Number of records.
        count: u64,
    },
    /// More than [`MAX_IN_FLIGHT`] records are in flight: the engine forwards without limit.
    #[error("{count} records in flight, more than the limit of {MAX_IN_FLIGHT}")]
    Full {
        /// How many there would be.
        count: u64,
    },
}

/// The records of one lane that are forwarded and not yet placed.
#[derive(Clone, Debug)]
pub struct Window {
    next: i64,
    in_flight: u64,
    /// Start → end of half-open ranges that neither overlap nor touch.
    pending: BTreeMap<i64, i64>,
}

impl Window {
    /// The window of a lane that is read from `start` on.
    #[must_use]
    pub fn new(start: SourceOffset) -> Self {
        Self {
            next: start.0,
            in_flight: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Takes in that `first..next` was read, of which the ranges `forwarded` (half-open, in order) were
    /// handed to the producer and the rest needs nothing. Runs must follow each other without a hole: an
    /// engine counts gaps of the log to a run.
    ///
    /// # Errors
    /// [`Fault`] if this cannot be; the window is then unchanged.
    pub fn read(
        &mut self,
        first: SourceOffset,
        next: SourceOffset,
        forwarded: &[(SourceOffset, SourceOffset)],
    ) -> Result<(), Fault> {
        if first.0 != self.next || next < first {
            return Err(Fault::NotNext {
                first,
                next,
                expected: self.next(),
            });
        }
        let mut count = self.in_flight;
        let mut least = first;
        for &(from, to) in forwarded {
            if from < least || to <= from || to > next {
                return Err(Fault::Forwarded {
                    from,
                    to,
                    first,
                    next,
                });
            }
            least = to;
            count = count.saturating_add(from.0.abs_diff(to.0));
        }
        if count > MAX_IN_FLIGHT {
            return Err(Fault::Full { count });
        }
        for &(from, to) in forwarded {
            self.add(from.0, to.0);
        }
        self.in_flight = count;
        self.next = next.0;
        Ok(())
    }

    fn add(&mut self, from: i64, to: i64) {
        if let Some(mut last) = self.pending.last_entry()
            && *last.get() == from
        {
            last.insert(to);
            return;
        }
        self.pending.insert(from, to);
    }

    /// Takes in that the records `first..first+count` are in the target log. In any order.
    ///
    /// # Errors
    /// [`Fault::NotInFlight`] unless every one of them is in flight; the window is then unchanged.
    pub fn placed(&mut self, first: SourceOffset, count: u64) -> Result<(), Fault> {
        let fault = Fault::NotInFlight { first, count };
        let Some(end) = i64::try_from(count)
            .ok()
            .and_then(|count| first.0.checked_add(count))
        else {
            return Err(fault);
        };
        let range = self
            .pending
            .range(..=first.0)
            .next_back()
            .map(|(from, to)| (*from, *to));
        let Some((from, to)) = range.filter(|(_, to)| count > 0 && end <= *to) else {
            return Err(fault);
        };
        if from < first.0 {
            self.pending.insert(from, first.0);
        } else {
            self.pending.remove(&from);
        }
        if end < to {
            self.pending.insert(end, to);
        }
        self.in_flight -= count;
        Ok(())
    }

    /// The first source offset that is not settled: the position that may be committed.
    #[must_use]
    pub fn floor(&self) -> SourceOffset {
        SourceOffset(
            self.pending
                .first_key_value()
                .map_or(self.next, |(from, _)| *from),
        )
    }

    /// Number of records that are forwarded and not placed.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The next source offset to be read.
    #[must_use]
    pub fn next(&self) -> SourceOffset {
        SourceOffset(self.next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(offset: i64) -> SourceOffset {
        SourceOffset(offset)
    }

    fn ranges(ranges: &[(i64, i64)]) -> Vec<(SourceOffset, SourceOffset)> {
        ranges.iter().map(|(from, to)| (at(*from), at(*to))).collect()
    }

    #[test]
    fn the_floor_waits_for_the_oldest_record() {
        let mut window = Window::new(at(10));
        assert_eq!(
            (window.floor(), window.next(), window.in_flight()),
            (at(10), at(10), 0)
        );
        window
            .read(at(10), at(20), &ranges(&[(12, 15), (16, 18)]))
            .unwrap();
        assert_eq!((window.floor(), window.in_flight()), (at(12), 5));
        window.placed(at(16), 2).unwrap();
        window.placed(at(13), 1).unwrap();
        assert_eq!((window.floor(), window.in_flight()), (at(12), 2));
        window.placed(at(12), 1).unwrap();
        assert_eq!(window.floor(), at(14));
        window.placed(at(14), 1).unwrap();
        assert_eq!(
            (window.floor(), window.next(), window.in_flight()),
            (at(20), at(20), 0)
        );
    }

    #[test]
    fn a_run_without_records_to_copy_moves_the_floor() {
        let mut window = Window::new(at(0));
        window.read(at(0), at(7), &[]).unwrap();
        assert_eq!(window.floor(), at(7));
    }

    #[test]
    fn records_of_several_reads_may_be_placed_as_one_run() {
        let mut window = Window::new(at(0));
        window.read(at(0), at(5), &ranges(&[(0, 5)])).unwrap();
        window.read(at(5), at(9), &ranges(&[(5, 9)])).unwrap();
        window.placed(at(2), 6).unwrap();
        assert_eq!((window.floor(), window.in_flight()), (at(0), 3));
    }

    #[test]
    fn impossible_facts_are_faults_and_change_nothing() {
        let mut window = Window::new(at(10));
        window
            .read(at(10), at(20), &ranges(&[(12, 15), (16, 18)]))
            .unwrap();
        for (first, next, forwarded) in [
            (19, 25, vec![]),
            (21, 25, vec![]),
            (20, 19, vec![]),
            (20, 25, vec![(19, 21)]),
            (20, 25, vec![(20, 26)]),
            (20, 25, vec![(22, 22)]),
            (20, 25, vec![(23, 24), (20, 21)]),
            (20, 25, vec![(20, 23), (22, 24)]),
            (20, i64::MAX, vec![(20, i64::MAX)]),
        ] {
            assert!(
                window.read(at(first), at(next), &ranges(&forwarded)).is_err(),
                "{first} {next} {forwarded:?}"
            );
        }
        for (first, count) in [
            (10, 1),
            (11, 2),
            (12, 0),
            (12, 4),
            (15, 1),
            (12, 6),
            (18, 1),
            (12, u64::MAX),
            (i64::MAX, 1),
        ] {
            assert!(window.placed(at(first), count).is_err(), "{first} {count}");
        }
        window.placed(at(12), 3).unwrap();
        assert!(window.placed(at(12), 1).is_err());
        assert_eq!(
            (window.floor(), window.next(), window.in_flight()),
            (at(16), at(20), 2)
        );
    }

    proptest! {
        /// Random reads and placements, also impossible ones, against a set of offsets.
        #[test]
        fn agrees_with_a_set(
            steps in proptest::collection::vec((any::<bool>(), 0_i64..60, 1_u64..6, any::<u16>()), 1..80),
        ) {
            let mut window = Window::new(at(0));
            let (mut model, mut next) = (BTreeSet::new(), 0_i64);
            for (is_read, first, count, bits) in steps {
                if is_read {
                    let end = next + count as i64;
                    let chosen: Vec<i64> = (next..end).filter(|at| bits >> (at % 16) & 1 == 1).collect();
                    let forwarded: Vec<_> = chosen.iter().map(|one| (at(*one), at(one + 1))).collect();
                    prop_assert!(window.read(at(next), at(end), &forwarded).is_ok());
                    model.extend(chosen);
                    next = end;
                } else {
                    let run = first..first + count as i64;
                    let possible = run.clone().all(|one| model.contains(&one));
                    prop_assert_eq!(window.placed(at(first), count).is_ok(), possible);
                    if possible {
                        run.for_each(|one| { model.remove(&one); });
                    }
                }
                prop_assert_eq!(window.floor(), at(model.first().copied().unwrap_or(next)));
                prop_assert_eq!(window.next(), at(next));
                prop_assert_eq!(window.in_flight(), model.len() as u64);
            }
        }
    }
}
