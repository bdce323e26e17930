//! What each slot has to move, as far as anybody in the group can see it: by how far the positions of its partitions go.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Assignment, SLOT_COUNT, balance, slot_of};
use crate::types::{Time, TopicPartition};

/// What a partition weighs without a single record, in records a second: it is fetched and looked after all the same. Far below what a
/// pump moves, so what is measured decides as soon as there is something to measure.
const IDLE: f64 = 10.0;
/// How long a rate is remembered: after so long what was before counts for about a third.
const MEMORY: Duration = Duration::from_secs(120);
/// A partition whose position cannot be told is taken for what it was until then.
const FORGET: Duration = Duration::from_secs(600);
/// Records a second that the busiest member is to be spared, at least, for a rebalance of which nothing else is the reason.
const WORTH: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
struct Track {
    at: Time,
    offset: i64,
    /// Records a second; `None` before two positions were seen.
    rate: Option<f64>,
}

/// The rates of a flow's partitions.
#[derive(Debug, Default)]
pub struct Loads {
    tracks: HashMap<TopicPartition, Track>,
}

impl Loads {
    /// The positions of some source partitions at this moment. One that went back (a topic made anew) counts from there.
    pub fn observe(&mut self, now: Time, positions: impl IntoIterator<Item = (TopicPartition, i64)>) {
        for (partition, offset) in positions {
            let track = self.tracks.entry(partition).or_insert(Track {
                at: now,
                offset,
                rate: None,
            });
            let passed = now.since(track.at).as_secs_f64();
            if passed <= 0.0 {
                continue;
            }
            let new = offset.saturating_sub(track.offset).max(0) as f64 / passed;
            let kept = (-passed / MEMORY.as_secs_f64()).exp();
            let rate = track.rate.map_or(new, |old| old * kept + new * (1.0 - kept));
            *track = Track {
                at: now,
                offset,
                rate: Some(rate),
            };
        }
        self.tracks.retain(|_, track| now.since(track.at) < FORGET);
    }

    /// By slot: the partitions that are copied, with what is known of their rates, in records a second.
    #[must_use]
    pub fn weights<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<u32> {
        let mut weights = vec![0.0; usize::from(SLOT_COUNT)];
        for partition in partitions {
            let rate = self.tracks.get(partition).and_then(|track| track.rate);
            let slot = slot_of(&partition.topic, partition.partition, SLOT_COUNT);
            weights[usize::from(slot.0)] += IDLE + rate.unwrap_or(0.0);
        }
        // Saturates.
        weights.into_iter().map(|weight| weight as u32).collect()
    }
}

/// Whether to divide the slots anew though nobody came or went: the busiest of `members` (by their transactional ids) would have a
/// quarter less to move, and 1,000 records a second less. Never while slots are on their way.
#[must_use]
pub fn is_lopsided(assignment: &Assignment, members: &BTreeSet<String>, weights: &[u32]) -> bool {
    let place = |name: &str| members.iter().position(|member| member == name);
    let held: Option<Vec<usize>> = assignment
        .slots
        .iter()
        .map(|share| share.owner.as_deref().and_then(place))
        .collect();
    let Some(held) = held else {
        return false;
    };
    let wish = |(slot, holder): (usize, &usize)| balance::Wish {
        weight: weights.get(slot).copied().unwrap_or(0),
        held: Some(*holder),
        expected: None,
    };
    let wishes: Vec<balance::Wish> = held.iter().enumerate().map(wish).collect();
    let busiest = |owners: &mut dyn Iterator<Item = usize>| {
        let mut loads = vec![0_u64; members.len()];
        for (wish, owner) in wishes.iter().zip(owners) {
            loads[owner] += u64::from(wish.weight);
        }
        loads.into_iter().max().unwrap_or(0)
    };
    let now = busiest(&mut held.iter().copied());
    let then = busiest(
        &mut balance::divide(&wishes, members.len())
            .into_iter()
            .zip(&held)
            .map(|(owner, before)| owner.unwrap_or(*before)),
    );
    now.saturating_sub(then) >= WORTH.max(now / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Share;
    use super::*;

    /// The slot of `orders-0`; the partitions after it lie in those after it.
    const FIRST: usize = 236;

    fn orders(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    #[test]
    fn a_rate_is_that_of_the_last_minutes() {
        let mut loads = Loads::default();
        let weight = |loads: &Loads| loads.weights([&orders(0)])[FIRST];
        assert_eq!(weight(&loads), 10, "a partition that nothing is known of");
        let at = |seconds| Time::at(Duration::from_secs(seconds));
        loads.observe(at(0), [(orders(0), 1_000_000)]);
        assert_eq!(weight(&loads), 10, "where it stands says nothing");
        loads.observe(at(0), [(orders(0), 2_000_000)]);
        assert_eq!(weight(&loads), 10, "nor in no time");
        loads.observe(at(10), [(orders(0), 1_005_000)]);
        assert_eq!(weight(&loads), 510);
        loads.observe(at(130), [(orders(0), 1_005_000)]);
        assert_eq!(weight(&loads), 10 + 183, "500 for e");
        loads.observe(at(131), [(orders(0), 5)]);
        assert!(weight(&loads) <= 10 + 183, "a topic made anew has not gone back");
        loads.observe(at(141), [(orders(0), 10_000_005)]);
        assert!(weight(&loads) > 50_000);
        loads.observe(at(800), []);
        assert_eq!(weight(&loads), 10, "what is not told for long is forgotten");
    }

    #[test]
    fn the_partitions_of_a_slot_add_up() {
        let mut loads = Loads::default();
        // 256 partitions further is the same slot.
        let all = [orders(0), orders(256), orders(1)];
        loads.observe(Time::from_millis(0), all.iter().cloned().map(|at| (at, 0)));
        loads.observe(
            Time::from_millis(2_000),
            all.iter().cloned().zip([200, 400, 1 << 50]),
        );
        let weights = loads.weights(&all);
        assert_eq!((weights[FIRST], weights[FIRST + 1]), (320, u32::MAX));
        assert_eq!(weights.iter().filter(|weight| **weight > 0).count(), 2);
        assert_eq!(loads.weights([]), vec![0; 256]);
    }

    fn owned(owners: &[Option<&str>]) -> Assignment {
        let share = |owner: &Option<&str>| Share {
            owner: owner.map(str::to_owned),
            ..Share::default()
        };
        Assignment {
            fresh: BTreeSet::new(),
            slots: owners.iter().map(share).collect(),
            mismatched: BTreeSet::new(),
        }
    }

    #[test]
    fn lopsided_is_what_can_be_bettered_by_much() {
        let members = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let (a, b) = (Some("a"), Some("b"));
        for (owners, weights, expected) in [
            // Two hot ones together, and a choice.
            ([a, a, b, b], [9_000, 8_000, 100, 100], true),
            ([a, b, a, b], [9_000, 8_000, 100, 100], false),
            // Also where they weigh less than the hottest.
            ([a, a, b, b], [9_000, 6_000, 2_500, 2_500], true),
            // One that is hotter than all others has nowhere to go.
            ([a, b, b, b], [9_000, 10, 10, 10], false),
            ([a, a, b, b], [9_000, 1_000, 0, 0], false),
            // Little is moved: not worth it, however uneven.
            ([a, a, a, b], [300, 300, 300, 0], false),
            ([a, a, a, a], [400, 400, 400, 700], false),
            ([a, a, a, a], [600, 600, 600, 600], true),
            // On its way, or somebody's who is not there: what is due comes first.
            ([None, a, b, b], [9_000, 8_000, 100, 100], false),
            ([Some("gone"), a, b, b], [9_000, 8_000, 100, 100], false),
        ] {
            let said = is_lopsided(&owned(&owners), &members, &weights);
            assert_eq!(said, expected, "{owners:?} {weights:?}");
        }
        assert!(!is_lopsided(&owned(&[]), &BTreeSet::new(), &[]));
    }

    proptest! {
        /// Else a group would be divided again and again.
        #[test]
        fn what_was_divided_is_not_lopsided(
            count in 1_usize..6,
            weights in proptest::collection::vec(prop_oneof![Just(10_u32), 0..2_000_u32, 0..50_000_u32], 256),
            held in proptest::collection::vec(any::<prop::sample::Index>(), 256),
        ) {
            let names: Vec<String> = (0..count).map(|at| format!("m{at}")).collect();
            let members: BTreeSet<String> = names.iter().cloned().collect();
            let held: Vec<usize> = held.iter().map(|at| at.index(count)).collect();
            let wishes: Vec<balance::Wish> = weights.iter().zip(&held).map(|(weight, held)| balance::Wish {
                weight: *weight,
                held: Some(*held),
                expected: None,
            }).collect();
            let plan = balance::divide(&wishes, count);
            let owners: Vec<Option<&str>> = plan.iter().map(|place| place.map(|place| &*names[place])).collect();
            prop_assert!(!is_lopsided(&owned(&owners), &members, &weights));
        }
    }
}
