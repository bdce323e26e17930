//! Growing pauses between attempts.

use std::time::Duration;

/// Pauses that double up to a bound; each is drawn from the upper half of its bound, so that many
/// clients of a broker that comes back do not arrive together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    /// Pauses from about `first` to at most `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            attempt: 0,
        }
    }

    /// The next pause: between half the bound and the bound, where the bound is `first` doubled once per
    /// attempt made, but at most `most`.
    pub fn pause(&mut self) -> Duration {
        let bound = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(0.5 + fastrand::f64() / 2.0).min(self.most)
    }

    /// Begins again with the first pause.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }

    fn bound(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.attempt);
        self.first.checked_mul(factor).unwrap_or(self.most).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_and_stay_bounded(first in 1_u64..5_000, more in 0_u64..100_000, attempts in 1_usize..200) {
            let (first, most) = (Duration::from_millis(first), Duration::from_millis(first + more));
            let mut backoff = Backoff::new(first, most);
            let mut bound = first;
            for _ in 0..attempts {
                let pause = backoff.pause();
                prop_assert!(pause <= most, "{pause:?} > {most:?}");
                prop_assert!(pause <= bound && pause >= bound / 2 - Duration::from_nanos(1), "{pause:?} for {bound:?}");
                bound = (bound * 2).min(most);
            }
            backoff.reset();
            prop_assert!(backoff.pause() <= first);
        }
    }
}
