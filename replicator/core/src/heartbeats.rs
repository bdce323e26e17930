//! How old the newest heartbeat is that a flow has made durable on its target (INTERFACE `kuroshio_rpo_seconds`).
//!
//! The age is counted from when we wrote the heartbeat ourselves, so no two clocks are compared. Only of a
//! heartbeat that a process before us wrote the timestamp is asked.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{SourceOffset, Time};

/// Heartbeats on their way that are remembered; beyond, every second one is forgotten, which errs to a larger age.
pub const MAX_ON_THE_WAY: usize = 1024;

/// The heartbeats of one flow.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    /// Written on the source and not yet known durable on the target, in their order.
    on_the_way: VecDeque<(SourceOffset, Time)>,
    /// When the newest durable one was written: this moment, less that time.
    newest: (Time, Duration),
}

impl Heartbeats {
    /// None was written yet; until one is durable the age counts from `start`.
    #[must_use]
    pub const fn new(start: Time) -> Self {
        Self {
            on_the_way: VecDeque::new(),
            newest: (start, Duration::ZERO),
        }
    }

    /// At `at` the newest on the target was `age` old, by its timestamp. Counts only while none of ours is durable.
    pub fn found(&mut self, age: Duration, at: Time) {
        let known = at.since(self.newest.0) + self.newest.1;
        if age > known {
            self.newest = (at, age);
        }
    }

    /// One was appended to the source at this offset; writing it began at `at`.
    pub fn written(&mut self, offset: SourceOffset, at: Time) {
        // A smaller offset: the topic was made anew.
        while self.on_the_way.back().is_some_and(|(last, _)| *last >= offset) {
            self.on_the_way.pop_back();
        }
        self.on_the_way.push_back((offset, at));
        if self.on_the_way.len() > MAX_ON_THE_WAY {
            let mut keep = false;
            self.on_the_way.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// All before `position` are durable on the target.
    pub fn durable(&mut self, position: SourceOffset) {
        while let Some((_, at)) = self.on_the_way.pop_front_if(|(offset, _)| *offset < position) {
            self.newest = (at, Duration::ZERO);
        }
    }

    /// The age of the newest durable one.
    #[must_use]
    pub fn age(&self, now: Time) -> Duration {
        now.since(self.newest.0).saturating_add(self.newest.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn age(heartbeats: &Heartbeats, now: u64) -> u64 {
        heartbeats.age(at(now)).as_secs()
    }

    #[test]
    fn the_age_is_that_of_the_newest_durable_one() {
        let mut heartbeats = Heartbeats::new(at(10));
        assert_eq!(age(&heartbeats, 15), 5);
        for (offset, second) in [(100, 11), (102, 12), (104, 13)] {
            heartbeats.written(SourceOffset(offset), at(second));
        }
        assert_eq!(age(&heartbeats, 15), 5, "nothing is durable yet");
        heartbeats.durable(SourceOffset(102));
        assert_eq!(age(&heartbeats, 15), 4, "102 is the next to be read");
        heartbeats.durable(SourceOffset(105));
        assert_eq!(age(&heartbeats, 15), 2);
        heartbeats.durable(SourceOffset(90));
        assert_eq!(age(&heartbeats, 60), 47, "it rises while nothing gets through");
    }

    #[test]
    fn one_of_a_process_before_us_counts_until_ours_is_durable() {
        let mut heartbeats = Heartbeats::new(at(10));
        heartbeats.found(Duration::from_secs(3600), at(12));
        assert_eq!(age(&heartbeats, 15), 3603);
        heartbeats.found(Duration::ZERO, at(13));
        assert_eq!(age(&heartbeats, 15), 3603, "never younger than known");
        heartbeats.written(SourceOffset(0), at(14));
        heartbeats.durable(SourceOffset(1));
        assert_eq!(age(&heartbeats, 15), 1);
    }

    #[test]
    fn a_topic_made_anew_starts_at_zero() {
        let mut heartbeats = Heartbeats::new(at(0));
        heartbeats.written(SourceOffset(5000), at(1));
        heartbeats.written(SourceOffset(0), at(9));
        heartbeats.durable(SourceOffset(1));
        assert_eq!(age(&heartbeats, 10), 1);
    }

    #[test]
    fn a_long_stand_still_is_remembered_within_bounds_and_never_as_younger() {
        let mut heartbeats = Heartbeats::new(at(0));
        let total = 100_000;
        for second in 0..total {
            heartbeats.written(SourceOffset(second as i64), at(second));
        }
        assert!(heartbeats.on_the_way.len() <= MAX_ON_THE_WAY);
        for position in (0..total).step_by(997) {
            heartbeats.durable(SourceOffset(position as i64));
            assert!(age(&heartbeats, total) >= total - position);
        }
        heartbeats.durable(SourceOffset(total as i64));
        assert!(age(&heartbeats, total) < 1000);
    }
}
