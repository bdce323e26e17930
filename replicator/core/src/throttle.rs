//! How fast records are forwarded (`throttle.bytes_per_second`): a token bucket, kept as the moment from which on more may go (the
//! generic cell rate algorithm, ITU-T I.371). What a batch takes beyond the limit is waited for afterwards.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::types::Time;

/// What was not used lately may be used at once: so long a part of a second's bytes.
const BURST: Duration = Duration::from_millis(100);

/// The limit of one pump.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    /// Bytes per second; `None`: as fast as it goes.
    limit: Option<NonZeroU64>,
    /// From then on more may go.
    free: Time,
}

impl Throttle {
    /// Sets the limit in bytes per second. What is still to be waited for is as many bytes as before.
    pub fn limit(&mut self, now: Time, limit: Option<NonZeroU64>) {
        if limit == self.limit {
            return;
        }
        let wait = self.wait(now);
        self.free = match (self.limit, limit) {
            (Some(old), Some(new)) => now + stretched(wait, old.get(), new.get()),
            _ => now,
        };
        self.limit = limit;
    }

    /// So many bytes were forwarded.
    pub fn take(&mut self, now: Time, bytes: u64) {
        if let Some(limit) = self.limit {
            let unused = now.since(self.free).min(BURST);
            let from = Time::at(now.since(Time::default()).saturating_sub(unused)).max(self.free);
            self.free = from + stretched(Duration::from_secs(1), bytes, limit.get());
        }
    }

    /// How long nothing more may be forwarded; zero: go on.
    #[must_use]
    pub fn wait(&self, now: Time) -> Duration {
        self.free.since(now)
    }
}

/// A pump's part of the limit of its flow: as its partitions are to all of the flow, at least a byte per second.
#[must_use]
pub fn share(limit: NonZeroU64, part: u64, whole: u64) -> NonZeroU64 {
    let share = u128::from(limit.get()) * u128::from(part.min(whole)) / u128::from(whole.max(1));
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    NonZeroU64::new(share).unwrap_or(NonZeroU64::MIN)
}

/// `time` × `by` / `of`, as far as a `Duration` goes.
fn stretched(time: Duration, by: u64, of: u64) -> Duration {
    let nanos = time.as_nanos().saturating_mul(u128::from(by)) / u128::from(of.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    fn limited(bytes: u64) -> Throttle {
        let mut throttle = Throttle::default();
        throttle.limit(at(0), NonZeroU64::new(bytes));
        throttle
    }

    #[test]
    fn what_was_taken_is_waited_for() {
        let mut throttle = limited(1_000);
        assert_eq!(throttle.wait(at(0)), Duration::ZERO);
        throttle.take(at(1_000), 500);
        // A tenth of a second had not been used.
        assert_eq!(throttle.wait(at(1_000)), Duration::from_millis(400));
        throttle.take(at(1_000), 100);
        assert_eq!(throttle.wait(at(1_200)), Duration::from_millis(300));
        assert_eq!(throttle.wait(at(9_000)), Duration::ZERO);
    }

    #[test]
    fn another_limit_holds_at_once() {
        let mut throttle = limited(1_000);
        throttle.take(at(0), 10_000);
        throttle.limit(at(0), NonZeroU64::new(10_000));
        assert_eq!(throttle.wait(at(0)), Duration::from_secs(1));
        throttle.limit(at(500), NonZeroU64::new(5_000));
        assert_eq!(throttle.wait(at(500)), Duration::from_secs(1));
        throttle.limit(at(500), None);
        throttle.take(at(500), u64::MAX);
        assert_eq!(throttle.wait(at(500)), Duration::ZERO);
        throttle.limit(at(600), NonZeroU64::new(1));
        assert_eq!(throttle.wait(at(600)), Duration::ZERO);
        throttle.take(at(600), u64::MAX);
        throttle.take(at(600), u64::MAX);
        assert!(throttle.wait(at(600)) > Duration::from_secs(1 << 30));
    }

    #[test]
    fn shares_are_as_partitions_are() {
        for (limit, part, whole, wanted) in [
            (1_000, 1, 1, 1_000),
            (1_000, 1, 4, 250),
            (1_000, 0, 4, 1),
            (1_000, 0, 0, 1),
            (3, 1, 7, 1),
            (u64::MAX, u64::MAX, u64::MAX, u64::MAX),
        ] {
            let limit = NonZeroU64::new(limit).unwrap();
            assert_eq!(share(limit, part, whole).get(), wanted, "{part} of {whole}");
        }
    }

    proptest! {
        /// Whoever waits when told to never has more than the limit, a burst and the last batch.
        #[test]
        fn the_limit_is_kept(limit in 1u64..1_000_000, batches in proptest::collection::vec((0u64..100_000, 0u64..500), 1..100)) {
            let mut throttle = limited(limit);
            let (mut now, mut taken, mut last) = (at(0), 0, 0);
            for (bytes, pause) in batches {
                now = now + Duration::from_millis(pause);
                now = now + throttle.wait(now);
                throttle.take(now, bytes);
                (taken, last) = (taken + bytes, bytes);
            }
            let allowed = now.since(at(0)) + BURST;
            prop_assert!((taken - last) as f64 <= limit as f64 * allowed.as_secs_f64() + 1.0 + taken as f64 * 1e-6);
        }

        /// Nor is anybody held back for longer than that.
        #[test]
        fn no_more_than_the_limit_is_waited_for(limit in 1u64..1_000_000, bytes in 0u64..1_000_000) {
            let mut throttle = limited(limit);
            throttle.take(at(0), bytes);
            let wait = throttle.wait(at(0));
            prop_assert!(wait.as_secs_f64() <= bytes as f64 / limit as f64 + 1e-6);
        }
    }
}
