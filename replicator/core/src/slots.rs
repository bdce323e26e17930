//! Slots: the shares in which the members of a flow's group divide the source's partitions, what members
//! say when they join, and what the leader answers.
//!
//! A fixed hash maps each source partition to a slot, so new topics need no rebalance. The leader assigns
//! slots by [`assign`]; a slot changes its owner in two generations (DESIGN D2 c, d): in the first one it is
//! given to nobody, in the next to its new owner.

mod balance;
mod loads;
mod metadata;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use loads::{Loads, is_lopsided};
pub use metadata::{Assignment, Claims, Share, SlotsError, Subscription};

/// Slots of a new flow.
pub const SLOT_COUNT: u16 = 256;

/// The most slots that an assignment may speak of.
pub const MAX_SLOT_COUNT: u16 = 4096;

/// A share of the source's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u16);

/// The slot of a source partition: FNV-1a (32 bit) of the topic's name, plus the partition, modulo the number
/// of slots. Partitions of a topic that follow each other lie in different slots.
///
/// Two members that disagree on it would copy a partition twice or never: it does not change.
#[must_use]
pub fn slot_of(topic: &str, partition: i32, slot_count: u16) -> Slot {
    let hash = topic.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let place = i64::from(hash) + i64::from(partition);
    // Less than a u16 for any count; a count of 0 is refused where assignments are read.
    Slot(place.rem_euclid(i64::from(slot_count.max(1))) as u16)
}

/// A member of the group, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Given by the coordinator.
    pub id: String,
    /// What it said when it joined.
    pub subscription: Subscription,
}

/// What the leader knows when it divides the slots.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// All members of the new generation whose subscription could be read.
    pub members: &'a [Member],
    /// The leader's own member id: members whose routing differs from its get nothing.
    pub leader: &'a str,
    /// Load by slot, as [`Loads`] measures it; what is missing is 0.
    pub weights: &'a [u32],
    /// The assignment of the last generation that the leader knows.
    pub previous: Option<&'a Assignment>,
    /// The flow has no position at all.
    pub fresh: bool,
}

/// Who holds a slot, as told by the claims that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder<'a> {
    Nobody,
    One(&'a str),
    /// Two members claim it; one of them is wrong, so both must give it up.
    Several(&'a str),
}

/// Divides the slots. Sticky: a slot moves only where the loads differ by more than a tenth of the mean and it makes them more even;
/// balanced by weight, so that two slots with much to do do not share a member while another has less, and slots of weight 0 by
/// number; the same for the same input.
///
/// Only claims of the newest generation count (an older one was held by a member that missed a generation,
/// whose commits the coordinator refuses). A slot that a living member holds and is to lose has no owner in
/// this generation; its `promised` owner gets it in the next, when the holder has joined without it.
#[must_use]
pub fn assign(round: &Round<'_>) -> Assignment {
    let (eligible, mismatched) = sort_members(round);
    let (slot_count, holders) = holders(round);
    let previous = round
        .previous
        .filter(|assignment| assignment.slots.len() == holders.len());
    let before = |slot: usize| previous.and_then(|assignment| assignment.slots.get(slot));

    let weight = |slot: usize| round.weights.get(slot).copied().unwrap_or(0);
    let wishes: Vec<balance::Wish> = (0..usize::from(slot_count))
        .map(|slot| {
            let place = |name: &str| eligible.iter().position(|member| *member == name);
            let held = match holders[slot] {
                Holder::One(name) => place(name),
                _ => None,
            };
            // A member that was restarted claims nothing and gets back what it had.
            let expected =
                before(slot).and_then(|share| share.promised.as_deref().or(share.owner.as_deref()));
            balance::Wish {
                weight: weight(slot),
                held,
                expected: expected.and_then(place),
            }
        })
        .collect();
    let plan = balance::divide(&wishes, eligible.len());

    let mut slots = Vec::with_capacity(holders.len());
    for (slot, holder) in holders.iter().enumerate() {
        let planned = plan[slot].and_then(|place| eligible.get(place).copied());
        let free = match holder {
            Holder::Nobody => true,
            Holder::One(name) => planned == Some(*name),
            Holder::Several(_) => false,
        };
        let last = match holder {
            Holder::One(name) | Holder::Several(name) => Some((*name).to_owned()),
            Holder::Nobody => {
                before(slot).and_then(|share| share.owner.clone().or_else(|| share.last.clone()))
            }
        };
        let planned = planned.map(str::to_owned);
        let (owner, promised) = if free { (planned, None) } else { (None, planned) };
        slots.push(Share {
            owner,
            promised,
            last,
        });
    }
    let incarnations = round
        .members
        .iter()
        .filter(|_| round.fresh)
        .map(|member| member.subscription.incarnation);
    Assignment {
        fresh: incarnations.collect(),
        slots,
        mismatched,
    }
}

/// Transactional ids of the members that may own slots, sorted, and of those that may not.
fn sort_members<'a>(round: &Round<'a>) -> (Vec<&'a str>, BTreeSet<String>) {
    let leader = round.members.iter().find(|member| member.id == round.leader);
    let fingerprint = leader.map(|member| member.subscription.fingerprint);
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    for Member { subscription, .. } in round.members {
        let fits = Some(subscription.fingerprint) == fingerprint;
        // A second member of that id: neither can tell which slots are its own.
        seen.entry(&subscription.transactional_id)
            .and_modify(|good| *good = false)
            .or_insert(fits);
    }
    let eligible = seen
        .iter()
        .filter(|(_, good)| **good)
        .map(|(id, _)| *id)
        .collect();
    let mismatched = seen
        .iter()
        .filter(|(_, good)| !**good)
        .map(|(id, _)| (*id).to_owned())
        .collect();
    (eligible, mismatched)
}

/// The number of slots, which is that of the claims that count while there are any, and who holds each.
fn holders<'a>(round: &Round<'a>) -> (u16, Vec<Holder<'a>>) {
    let claims = |member: &'a Member| member.subscription.claims.as_ref().map(|claims| (member, claims));
    let claims = round
        .members
        .iter()
        .filter_map(claims)
        .filter(|(_, claims)| !claims.slots.is_empty());
    let newest = claims.clone().map(|(_, claims)| claims.generation).max();
    let counting: Vec<_> = claims
        .filter(|(_, claims)| Some(claims.generation) == newest)
        .collect();
    let slot_count = counting
        .iter()
        .map(|(_, claims)| claims.slot_count)
        .max()
        .or_else(|| round.previous.map(Assignment::slot_count))
        .unwrap_or(SLOT_COUNT);
    let mut holders = vec![Holder::Nobody; usize::from(slot_count)];
    for (member, claims) in counting {
        let name = member.subscription.transactional_id.as_str();
        for slot in &claims.slots {
            if let Some(holder) = holders.get_mut(usize::from(slot.0)) {
                *holder = match *holder {
                    Holder::Nobody => Holder::One(name),
                    Holder::One(other) | Holder::Several(other) => Holder::Several(other),
                };
            }
        }
    }
    (slot_count, holders)
}

#[cfg(test)]
mod tests;
