//! A part of a partition, drawn by chance: enough to find what is wrong everywhere, for the cost of a part.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use serde::Serialize;

use crate::types::TopicPartition;

/// Source offsets that are compared in one piece: much against what it costs to find where their copies begin.
pub const STRETCH: i64 = 10_000;

/// How much is drawn, and from which chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Percent of the offsets, more than 0 and up to 100.
    pub percent: f64,
    /// The same seed draws the same stretches, also after the log has grown.
    pub seed: u64,
}

impl Sample {
    /// The stretches of these offsets of a source partition that are compared, in their order; at least one, if there are any offsets.
    #[must_use]
    pub fn stretches(&self, partition: &TopicPartition, offsets: Range<i64>) -> Vec<Range<i64>> {
        let mut drawn: Vec<Range<i64>> = Vec::new();
        let mut first: Option<(u64, Range<i64>)> = None;
        let mut from = offsets.start;
        while from < offsets.end {
            let number = from.div_euclid(STRETCH);
            let to = offsets.end.min((number + 1).saturating_mul(STRETCH));
            let chance = self.chance(partition, number);
            if self.takes(chance) {
                match drawn.last_mut() {
                    Some(last) if last.end == from => last.end = to,
                    _ => drawn.push(from..to),
                }
            }
            if first.as_ref().is_none_or(|(least, _)| chance < *least) {
                first = Some((chance, from..to));
            }
            from = to;
        }
        if drawn.is_empty() {
            drawn.extend(first.map(|(_, stretch)| stretch));
        }
        drawn
    }

    fn chance(&self, partition: &TopicPartition, number: i64) -> u64 {
        let mut chance = DefaultHasher::new();
        (self.seed, &*partition.topic, partition.partition, number).hash(&mut chance);
        chance.finish()
    }

    fn takes(&self, chance: u64) -> bool {
        self.percent >= 100.0 || (chance as f64) < self.percent / 100.0 * u64::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition::new("orders", 3)
    }

    #[test]
    fn about_as_much_is_drawn_as_was_asked_for() {
        for (percent, least, most) in [
            (1.0, 60, 140),
            (10.0, 900, 1_100),
            (50.0, 4_800, 5_200),
            (100.0, 10_000, 10_000),
        ] {
            let sample = Sample { percent, seed: 7 };
            let drawn = sample.stretches(&orders(), 0..10_000 * STRETCH);
            let stretches = drawn.iter().map(|drawn| drawn.end - drawn.start).sum::<i64>() / STRETCH;
            assert!((least..=most).contains(&stretches), "{percent}: {stretches}");
        }
        let whole = Sample {
            percent: 100.0,
            seed: 7,
        }
        .stretches(&orders(), 5..123_456);
        assert_eq!((whole.len(), whole[0].clone()), (1, 5..123_456));
        assert!(
            whole
                != Sample {
                    percent: 50.0,
                    seed: 7
                }
                .stretches(&orders(), 5..123_456)
        );
        let least = Sample {
            percent: 0.001,
            seed: 7,
        };
        let one = least.stretches(&orders(), 8..9);
        assert_eq!((one.len(), one[0].clone()), (1, 8..9), "at least one");
        assert!(
            Sample {
                percent: 100.0,
                seed: 7
            }
            .stretches(&orders(), 8..8)
            .is_empty()
        );
    }

    proptest! {
        #[test]
        fn stretches_lie_within_apart_and_stay_when_the_log_grows(
            seed: u64, percent in 0.1_f64..100.0, start in 0_i64..100_000, length in 1_i64..3_000_000, more in 0_i64..1_000_000,
        ) {
            let sample = Sample { percent, seed };
            let offsets = start..start + length;
            let drawn = sample.stretches(&orders(), offsets.clone());
            prop_assert!(!drawn.is_empty());
            prop_assert!(drawn.iter().all(|drawn| drawn.start < drawn.end && drawn.start >= start && drawn.end <= offsets.end));
            prop_assert!(drawn.windows(2).all(|pair| pair[0].end < pair[1].start));
            if drawn.len() > 1 {
                let later = sample.stretches(&orders(), start..offsets.end + more);
                let holds = |one: &Range<i64>| later.iter().any(|later| later.start <= one.start && later.end >= one.end);
                prop_assert!(drawn.iter().all(holds));
            }
        }
    }
}
