//! How old the records of a log are, from samples of its end: for many readers of one partition
//! (INTERFACE `kuroshio_group_lag_seconds`).

use std::collections::VecDeque;

use crate::types::Time;

/// Samples kept per partition; beyond, every second one goes, and what lies between is interpolated over longer stretches.
pub const MAX_SAMPLES: usize = 32;

/// The log's end was `end` from `first` to `last`, as far as we looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    end: i64,
    first: Time,
    last: Time,
}

/// When a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// There is no such record yet.
    NotYet,
    /// About then.
    At(Time),
    /// Before this moment, which is that of the first sample.
    Before(Time),
}

/// When the end of one log was where.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    /// In ascending order of ends and times.
    samples: VecDeque<Sample>,
}

impl Ages {
    /// Takes in the log's end as seen at `at`, which is not before earlier samples.
    pub fn observe(&mut self, end: i64, at: Time) {
        // A smaller end: the log was cut, or made anew.
        while self.samples.back().is_some_and(|last| last.end > end) {
            self.samples.pop_back();
        }
        match self.samples.back_mut() {
            Some(last) if last.end == end => last.last = at,
            _ => self.samples.push_back(Sample {
                end,
                first: at,
                last: at,
            }),
        }
        if self.samples.len() > MAX_SAMPLES {
            self.thin();
        }
    }

    /// Every second sample goes; the first and the newest stay.
    fn thin(&mut self) {
        let newest = self.samples.len() - 1;
        let mut number = 0;
        self.samples.retain(|_| {
            number += 1;
            (number - 1) % 2 == 0 || number - 1 == newest
        });
    }

    /// The newest end; `None`: nothing was seen yet.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        self.samples.back().map(|sample| sample.end)
    }

    /// When the record at `offset` was written: interpolated between the samples around it.
    #[must_use]
    pub fn written(&self, offset: i64) -> Written {
        let after = self.samples.partition_point(|sample| sample.end <= offset);
        let Some(after_it) = self.samples.get(after) else {
            return Written::NotYet;
        };
        let Some(before_it) = after.checked_sub(1).and_then(|at| self.samples.get(at)) else {
            return Written::Before(after_it.first);
        };
        let stretch = after_it.first.since(before_it.last);
        let records = (after_it.end - before_it.end).max(1);
        let part = (offset - before_it.end) as f64 / records as f64;
        Written::At(before_it.last + stretch.mul_f64(part.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn ages(samples: &[(i64, u64)]) -> Ages {
        let mut ages = Ages::default();
        for (end, seconds) in samples {
            ages.observe(*end, at(*seconds));
        }
        ages
    }

    #[test]
    fn a_record_is_as_old_as_the_samples_around_it_say() {
        let ages = ages(&[(100, 10), (200, 20), (200, 30), (300, 40)]);
        for (offset, expected) in [
            (99, Written::Before(at(10))),
            (100, Written::At(at(10))),
            (150, Written::At(at(15))),
            (199, Written::At(Time::from_millis(19_900))),
            (200, Written::At(at(30))),
            (250, Written::At(at(35))),
            (300, Written::NotYet),
            (301, Written::NotYet),
        ] {
            assert_eq!(ages.written(offset), expected, "{offset}");
        }
        assert_eq!(ages.end(), Some(300));
        assert_eq!(Ages::default().written(0), Written::NotYet);
    }

    #[test]
    fn a_log_that_was_cut_forgets_what_was_beyond() {
        let ages = ages(&[(100, 10), (200, 20), (150, 30), (160, 40)]);
        assert_eq!(ages.end(), Some(160));
        assert_eq!(ages.written(155), Written::At(at(35)));
        assert_eq!(ages.written(120), Written::At(at(18)));
    }

    proptest! {
        /// However many samples there were: few are kept, a later record is never older, and none lies after now.
        #[test]
        fn ages_are_in_order(steps in prop::collection::vec((0_i64..50, 1_u64..20), 1..400)) {
            let mut ages = Ages::default();
            let (mut end, mut now, mut truth) = (0, 0, Vec::new());
            for (records, seconds) in steps {
                let before = now;
                (end, now) = (end + records, now + seconds);
                ages.observe(end, at(now));
                truth.extend((0..records).map(|_| (at(before), at(now))));
            }
            prop_assert!(ages.samples.len() <= MAX_SAMPLES);
            prop_assert_eq!(ages.end(), Some(end));
            let mut last = Time::default();
            for offset in 0..end {
                let written = match ages.written(offset) {
                    Written::At(time) => time,
                    Written::Before(time) => {
                        prop_assert!(truth[offset as usize].0 <= time);
                        continue;
                    }
                    Written::NotYet => return Err(TestCaseError::fail("it is there")),
                };
                prop_assert!(written >= last && written <= at(now));
                last = written;
            }
            prop_assert_eq!(ages.written(end), Written::NotYet);
        }
    }
}
