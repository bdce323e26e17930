//! Where the records of one partition went: runs of (source, target) offsets in bounded memory.
//!
//! Translating X means: the smallest target offset whose record carries a source offset ≥ X (DESIGN D4).
//! The target log need not be monotonic in source offsets: after a rewind older records are placed again
//! further on. Both places are kept, in the order of the target, and the first one that fits is the answer.

use std::collections::VecDeque;

use crate::types::{SourceOffset, TargetOffset};

/// Records at consecutive source offsets that lie at consecutive target offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Source offset of the first record.
    pub source: SourceOffset,
    /// Target offset of the first record.
    pub target: TargetOffset,
    /// Number of records, at least 1.
    pub count: u64,
}

impl Run {
    /// The source offset after its last record.
    #[must_use]
    pub fn source_end(&self) -> SourceOffset {
        self.source.plus(self.count)
    }

    /// The target offset after its last record.
    #[must_use]
    pub fn target_end(&self) -> TargetOffset {
        self.target.plus(self.count)
    }
}

/// What the runs know of a source offset X.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The record X lies at this target offset, and of all records placed through this table none at a
    /// smaller target offset has a source offset ≥ X.
    Exact(TargetOffset),
    /// X was not placed (skipped, a gap, a marker); the first record from X on lies at `next`.
    After {
        /// The run before it in the target; all of its records are below X.
        previous: Run,
        /// Target offset of the first record with a source offset ≥ X.
        next: TargetOffset,
    },
    /// Nothing from X on was placed yet; it will lie at this target offset or behind it.
    Behind(TargetOffset),
    /// Older than what is kept.
    Unknown,
}

/// The newest runs of one partition.
#[derive(Clone, Debug)]
pub struct Runs {
    bound: usize,
    /// In the order of the target; target offsets do not overlap.
    runs: VecDeque<Run>,
    /// Below this source offset records were placed by runs that are no longer kept.
    forgotten: Option<SourceOffset>,
}

impl Runs {
    /// An empty table that keeps at most `bound` runs (at least 1).
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            runs: VecDeque::new(),
            forgotten: None,
        }
    }

    /// Takes in a run that readers of the target can see (in `exactly_once`: after the commit). A run
    /// without records changes nothing.
    ///
    /// A target offset at or before those that are known means that the target log was cut there: what was
    /// known from it on is no longer true and is dropped.
    pub fn place(&mut self, run: Run) {
        if run.count == 0 {
            return;
        }
        while self.runs.back().is_some_and(|last| last.target >= run.target) {
            self.runs.pop_back();
        }
        if let Some(last) = self.runs.back_mut() {
            if last.target_end() > run.target {
                last.count = last.target.0.abs_diff(run.target.0);
            }
            if last.target_end() == run.target && last.source_end() == run.source {
                last.count = last.count.saturating_add(run.count);
                return;
            }
        }
        if self.runs.len() == self.bound
            && let Some(oldest) = self.runs.pop_front()
        {
            self.forgotten = self.forgotten.max(Some(oldest.source_end()));
        }
        self.runs.push_back(run);
    }

    /// What is known of the source offset `source`.
    #[must_use]
    pub fn find(&self, source: SourceOffset) -> Hint {
        // Placed first by a run that is forgotten, it would lie at a smaller target offset.
        if self.forgotten.is_some_and(|end| source < end) {
            return Hint::Unknown;
        }
        let mut previous = None;
        for run in &self.runs {
            if run.source_end() > source {
                return match previous {
                    _ if run.source <= source => {
                        Hint::Exact(run.target.plus(source.0.abs_diff(run.source.0)))
                    }
                    Some(previous) => Hint::After {
                        previous,
                        next: run.target,
                    },
                    None => Hint::Unknown,
                };
            }
            previous = Some(*run);
        }
        previous.map_or(Hint::Unknown, |last| Hint::Behind(last.target_end()))
    }

    /// Records below `end` were placed nobody knows where.
    pub fn forget(&mut self, end: SourceOffset) {
        self.runs.clear();
        self.forgotten = self.forgotten.max(Some(end));
    }

    /// The run that lies last in the target.
    #[must_use]
    pub fn newest(&self) -> Option<Run> {
        self.runs.back().copied()
    }

    /// Number of runs kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(source: i64, target: i64, count: u64) -> Run {
        Run {
            source: SourceOffset(source),
            target: TargetOffset(target),
            count,
        }
    }

    fn table(bound: usize, list: &[(i64, i64, u64)]) -> Runs {
        let mut runs = Runs::new(bound);
        list.iter()
            .for_each(|(source, target, count)| runs.place(run(*source, *target, *count)));
        runs
    }

    fn exact(target: i64) -> Hint {
        Hint::Exact(TargetOffset(target))
    }

    #[test]
    fn hints() {
        let runs = table(8, &[(10, 100, 5), (15, 105, 5), (20, 111, 2), (30, 113, 1)]);
        assert_eq!(runs.len(), 3, "consecutive on both sides: one run");
        for (source, hint) in [
            (9, Hint::Unknown),
            (10, exact(100)),
            (19, exact(109)),
            (20, exact(111)),
            (21, exact(112)),
            (
                22,
                Hint::After {
                    previous: run(20, 111, 2),
                    next: TargetOffset(113),
                },
            ),
            (
                29,
                Hint::After {
                    previous: run(20, 111, 2),
                    next: TargetOffset(113),
                },
            ),
            (30, exact(113)),
            (31, Hint::Behind(TargetOffset(114))),
        ] {
            assert_eq!(runs.find(SourceOffset(source)), hint, "{source}");
        }
    }

    #[test]
    fn after_a_rewind_the_first_place_counts() {
        let runs = table(8, &[(10, 100, 5), (12, 106, 5)]);
        assert_eq!(runs.find(SourceOffset(12)), exact(102));
        assert_eq!(runs.find(SourceOffset(14)), exact(104));
        assert_eq!(runs.find(SourceOffset(15)), exact(109));
    }

    #[test]
    fn what_is_forgotten_is_unknown_even_if_it_was_placed_again() {
        let runs = table(2, &[(10, 100, 5), (12, 106, 1), (20, 108, 1)]);
        assert_eq!(runs.find(SourceOffset(12)), Hint::Unknown);
        assert_eq!(
            runs.find(SourceOffset(15)),
            Hint::After {
                previous: run(12, 106, 1),
                next: TargetOffset(108)
            }
        );
        assert_eq!(runs.find(SourceOffset(20)), exact(108));
    }

    #[test]
    fn a_cut_target_drops_what_was_beyond() {
        let runs = table(8, &[(10, 100, 5), (20, 110, 5), (13, 103, 1)]);
        assert_eq!(runs.len(), 1, "10..13 and the new 13 are one run");
        assert_eq!(runs.find(SourceOffset(13)), exact(103));
        assert_eq!(runs.find(SourceOffset(14)), Hint::Behind(TargetOffset(104)));
        assert_eq!(runs.newest(), Some(run(10, 100, 4)));
    }

    #[test]
    fn what_was_placed_nobody_knows_where_is_unknown() {
        let mut runs = table(8, &[(10, 100, 5)]);
        runs.forget(SourceOffset(16));
        runs.place(run(16, 120, 2));
        for (source, hint) in [
            (12, Hint::Unknown),
            (15, Hint::Unknown),
            (16, exact(120)),
            (18, Hint::Behind(TargetOffset(122))),
        ] {
            assert_eq!(runs.find(SourceOffset(source)), hint, "{source}");
        }
    }

    #[test]
    fn a_run_without_records_changes_nothing() {
        assert!(table(8, &[(1, 1, 0)]).is_empty());
    }

    proptest! {
        /// Against the list of all records ever placed: (source, target) in target order.
        #[test]
        fn agrees_with_the_list_of_records(
            steps in proptest::collection::vec((0_i64..40, 0_i64..3, 1_u64..6), 1..40), bound in 1_usize..12,
        ) {
            let (mut runs, mut list, mut end) = (Runs::new(bound), Vec::new(), 0_i64);
            for (source, hole, count) in steps {
                let target = end + hole;
                end = target + count as i64;
                runs.place(run(source, target, count));
                list.extend((0..count as i64).map(|at| (source + at, target + at)));
                prop_assert!(runs.len() <= bound);
            }
            for wanted in -1..50_i64 {
                let truth = list.iter().find(|(source, _)| *source >= wanted);
                match runs.find(SourceOffset(wanted)) {
                    Hint::Exact(target) => prop_assert_eq!(truth, Some(&(wanted, target.0))),
                    Hint::After { previous, next } => {
                        prop_assert!(previous.source_end().0 <= wanted && previous.target_end() <= next);
                        prop_assert_eq!(truth.map(|record| record.1), Some(next.0));
                        prop_assert!(truth.is_some_and(|record| record.0 > wanted));
                    }
                    Hint::Behind(end) => {
                        prop_assert_eq!(truth, None);
                        prop_assert_eq!(list.last().map(|record| record.1 + 1), Some(end.0));
                    }
                    Hint::Unknown => {}
                }
            }
        }

        /// Without rewinds and within the bound everything placed is found.
        #[test]
        fn what_is_kept_is_found(steps in proptest::collection::vec((0_i64..3, 0_i64..3, 1_u64..6), 1..40)) {
            let (mut runs, mut list, mut source, mut target) = (Runs::new(64), Vec::new(), 0_i64, 0_i64);
            for (source_hole, target_hole, count) in steps {
                (source, target) = (source + source_hole, target + target_hole);
                runs.place(run(source, target, count));
                list.extend((0..count as i64).map(|at| (source + at, target + at)));
                (source, target) = (source + count as i64, target + count as i64);
            }
            for (source, target) in list {
                prop_assert_eq!(runs.find(SourceOffset(source)), exact(target));
            }
        }
    }
}
