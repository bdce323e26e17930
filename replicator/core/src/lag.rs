//! How far a partition is behind, in records and in seconds (INTERFACE `kuroshio_lag_records`,
//! `kuroshio_lag_seconds`).
//!
//! Seconds are not taken from record timestamps, which applications set as they like: they are now minus
//! the moment at which we first saw the source's end beyond the position. Only for what was missing already
//! when we looked for the first time the record's own timestamp is asked, if it is plausible.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{SourceOffset, Time};

/// The most moments kept per partition. Beyond, neighbours are joined, which errs to a larger lag.
pub const MAX_SAMPLES: usize = 64;

/// A record timestamp that is older than this says nothing of when the record was written.
pub const OLDEST_PLAUSIBLE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Records between a position and the source's end (its high watermark); never negative.
#[must_use]
pub fn records(end: SourceOffset, position: SourceOffset) -> u64 {
    u64::try_from(end.0.saturating_sub(position.0)).unwrap_or(0)
}

/// How old a record is that carries this timestamp (both in milliseconds since 1970); `None` if it is not positive, ahead of
/// `wall_ms` or older than [`OLDEST_PLAUSIBLE`]: applications set timestamps as they like.
#[must_use]
pub fn plausible_age(timestamp_ms: i64, wall_ms: i64) -> Option<Duration> {
    let age = u64::try_from(wall_ms.checked_sub(timestamp_ms)?).ok()?;
    let age = Duration::from_millis(age);
    (timestamp_ms > 0 && age <= OLDEST_PLAUSIBLE).then_some(age)
}

/// From `at` on (and `extra` before) the source's end lay beyond all offsets below `end`.
#[derive(Clone, Copy, Debug)]
struct Sample {
    end: SourceOffset,
    at: Time,
    extra: Duration,
    /// It was there at the first look: the truth is older than `at`.
    inherited: bool,
}

/// The lag of one partition.
#[derive(Clone, Debug)]
pub struct Lag {
    position: SourceOffset,
    end: Option<SourceOffset>,
    /// Ends in ascending order, all beyond the position.
    samples: VecDeque<Sample>,
}

impl Lag {
    /// The lag of a partition whose position is `position` and whose end is not yet known.
    #[must_use]
    pub fn new(position: SourceOffset) -> Self {
        Self {
            position,
            end: None,
            samples: VecDeque::new(),
        }
    }

    /// Takes in the source's end (its high watermark) as seen at `at`.
    pub fn observe(&mut self, end: SourceOffset, at: Time) {
        let first_look = self.end.is_none();
        let missing_since = self.samples.front().copied();
        // A smaller end: the source log was cut.
        while self.samples.back().is_some_and(|last| last.end > end) {
            self.samples.pop_back();
        }
        self.end = Some(end);
        let known = self
            .samples
            .back()
            .map_or(self.position, |last| last.end.max(self.position));
        if end > known {
            let new = Sample {
                end,
                at,
                extra: Duration::ZERO,
                inherited: first_look,
            };
            // Cut within the oldest sample: the rest of it is missing as long as before.
            let cut = missing_since.filter(|_| self.samples.is_empty());
            self.samples
                .push_back(cut.map_or(new, |sample| Sample { end, ..sample }));
        }
        if self.samples.len() > MAX_SAMPLES {
            self.thin();
        }
    }

    /// Joins neighbours, the older moment standing for both; the newest sample stays as it is.
    fn thin(&mut self) {
        let mut thinned = VecDeque::with_capacity(MAX_SAMPLES);
        let newest = self.samples.pop_back();
        while let Some(older) = self.samples.pop_front() {
            let end = self.samples.pop_front().map_or(older.end, |newer| newer.end);
            thinned.push_back(Sample { end, ..older });
        }
        thinned.extend(newest);
        self.samples = thinned;
    }

    /// Takes in that the position is `position` since `at`. It may also go back.
    pub fn advance(&mut self, position: SourceOffset, at: Time) {
        self.position = position;
        while self.samples.front().is_some_and(|oldest| oldest.end <= position) {
            self.samples.pop_front();
        }
        if let Some(end) = self.end.filter(|end| *end > position && self.samples.is_empty()) {
            self.samples.push_back(Sample {
                end,
                at,
                extra: Duration::ZERO,
                inherited: false,
            });
        }
    }

    /// Takes in the timestamp of the oldest missing record (both in milliseconds since 1970), read at `at`.
    /// It counts only for what was missing at the first look, and only if it is plausible.
    pub fn backlog(&mut self, timestamp_ms: i64, wall_ms: i64, at: Time) {
        let Some(age) = plausible_age(timestamp_ms, wall_ms) else {
            return;
        };
        if let Some(oldest) = self.samples.front_mut().filter(|oldest| oldest.inherited) {
            (oldest.at, oldest.extra) = (at, age);
        }
    }

    /// The source's end as last seen; `None`: never.
    #[must_use]
    pub const fn end(&self) -> Option<SourceOffset> {
        self.end
    }

    /// Records that are missing; 0 while the end is not known.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.end.map_or(0, |end| records(end, self.position))
    }

    /// For how long the oldest missing record has been missing; zero when nothing is.
    #[must_use]
    pub fn behind(&self, now: Time) -> Duration {
        self.samples.front().map_or(Duration::ZERO, |oldest| {
            now.since(oldest.at).saturating_add(oldest.extra)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn offset(offset: i64) -> SourceOffset {
        SourceOffset(offset)
    }

    fn seconds(lag: &Lag, now: u64) -> u64 {
        lag.behind(at(now)).as_secs()
    }

    #[test]
    fn records_are_never_negative() {
        for (end, position, lag) in [(10, 4, 6), (4, 4, 0), (3, 4, 0), (i64::MAX, 0, i64::MAX as u64)] {
            assert_eq!(records(offset(end), offset(position)), lag);
        }
    }

    #[test]
    fn seconds_count_from_the_first_sight_of_what_is_missing() {
        let mut lag = Lag::new(offset(0));
        assert_eq!((seconds(&lag, 5), lag.records()), (0, 0));
        lag.observe(offset(0), at(10));
        assert_eq!(seconds(&lag, 11), 0);
        lag.observe(offset(5), at(12));
        lag.observe(offset(9), at(14));
        assert_eq!((seconds(&lag, 20), lag.records()), (8, 9));
        lag.advance(offset(4), at(20));
        assert_eq!(seconds(&lag, 20), 8, "offset 4 is still missing");
        lag.advance(offset(5), at(20));
        assert_eq!(seconds(&lag, 20), 6);
        lag.advance(offset(9), at(20));
        assert_eq!((seconds(&lag, 99), lag.records()), (0, 0));
    }

    #[test]
    fn it_rises_while_stuck() {
        let mut lag = Lag::new(offset(0));
        lag.observe(offset(0), at(0));
        for second in 1..1000 {
            lag.observe(offset(second), at(second as u64));
            assert_eq!(seconds(&lag, second as u64), second as u64 - 1);
        }
        assert!(lag.samples.len() <= MAX_SAMPLES);
    }

    #[test]
    fn a_position_beyond_the_end_is_no_lag() {
        let mut lag = Lag::new(offset(10));
        lag.observe(offset(7), at(1));
        assert_eq!((seconds(&lag, 9), lag.records()), (0, 0));
        lag.observe(offset(9), at(2));
        assert_eq!(seconds(&lag, 9), 0);
        lag.observe(offset(11), at(3));
        assert_eq!(seconds(&lag, 9), 6);
    }

    #[test]
    fn a_position_that_goes_back_is_missing_from_then_on() {
        let mut lag = Lag::new(offset(0));
        lag.observe(offset(5), at(1));
        lag.advance(offset(5), at(2));
        lag.advance(offset(3), at(8));
        assert_eq!(seconds(&lag, 10), 2);
        lag.advance(offset(1), at(20));
        assert_eq!(
            seconds(&lag, 30),
            22,
            "a stuck partition that is rewound again and again does not start anew"
        );
    }

    #[test]
    fn a_cut_source_log() {
        let mut lag = Lag::new(offset(0));
        lag.observe(offset(0), at(0));
        lag.observe(offset(10), at(1));
        lag.observe(offset(20), at(5));
        lag.observe(offset(8), at(7));
        assert_eq!((seconds(&lag, 9), lag.records()), (8, 8));
        lag.observe(offset(0), at(8));
        assert_eq!((seconds(&lag, 9), lag.records()), (0, 0));
    }

    #[test]
    fn a_backlog_older_than_the_process_is_as_old_as_its_record() {
        const WALL: i64 = 1_800_000_000_000;
        for (timestamp, expected) in [
            (WALL - 600_000, 610),
            (WALL, 10),
            (WALL + 1, 12),
            (0, 12),
            (-1, 12),
            (i64::MIN, 12),
            (i64::MAX, 12),
            (WALL - 2 * 366 * 86_400_000, 12),
        ] {
            let mut lag = Lag::new(offset(0));
            lag.observe(offset(5), at(1));
            lag.backlog(timestamp, WALL, at(3));
            assert_eq!(seconds(&lag, 13), expected, "{timestamp}");
        }
        let mut lag = Lag::new(offset(0));
        lag.observe(offset(5), at(1));
        lag.observe(offset(9), at(4));
        lag.advance(offset(5), at(5));
        lag.backlog(WALL - 600_000, WALL, at(5));
        assert_eq!(
            seconds(&lag, 6),
            2,
            "what came later is known from our own samples"
        );
    }

    proptest! {
        #[test]
        fn zero_if_and_only_if_nothing_is_missing_and_never_less_than_the_truth(
            steps in proptest::collection::vec((0_u64..5, 0_i64..20, any::<bool>()), 1..300),
        ) {
            let mut lag = Lag::new(offset(0));
            lag.observe(offset(0), at(0));
            let (mut now, mut end, mut position) = (0, 0, 0);
            // When each offset was first seen to exist.
            let mut seen = Vec::new();
            for (wait, by, produce) in steps {
                now += wait + 1;
                if produce {
                    end += by;
                    seen.resize(end as usize, now);
                    lag.observe(offset(end), at(now));
                } else {
                    position = (position + by).min(end);
                    lag.advance(offset(position), at(now));
                }
                let truth = seen.get(position as usize).map_or(0, |since| now + 1 - since);
                let shown = seconds(&lag, now + 1);
                prop_assert_eq!(shown == 0, position == end);
                prop_assert!(shown >= truth);
                prop_assert!(lag.samples.len() <= MAX_SAMPLES);
                prop_assert_eq!(lag.records(), (end - position) as u64);
            }
        }
    }
}
