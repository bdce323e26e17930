//! Dividing slots among members: few moves, even loads.

use std::cmp::Reverse;

/// A slot to be given to one of the members, who are numbered from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) weight: u32,
    /// The member that holds it now.
    pub(super) held: Option<usize>,
    /// The member that it was promised to, or that had it before.
    pub(super) expected: Option<usize>,
}

/// Who gets each slot; nobody only if there are no members.
pub(super) fn divide(wishes: &[Wish], members: usize) -> Vec<Option<usize>> {
    let mut plan = vec![None; wishes.len()];
    if members == 0 {
        return plan;
    }
    // Slots without load are spread by their number, apart from the others: they may get a load tomorrow.
    let weight = |slot: usize| u64::from(wishes[slot].weight.max(1));
    let (idle, busy): (Vec<usize>, Vec<usize>) =
        (0..wishes.len()).partition(|slot| wishes[*slot].weight == 0);
    for class in [busy, idle] {
        Class {
            wishes,
            loads: vec![0; members],
            total: class.iter().map(|slot| weight(*slot)).sum(),
        }
        .divide(&class, &weight, &mut plan);
    }
    plan
}

struct Class<'a> {
    wishes: &'a [Wish],
    loads: Vec<u64>,
    total: u64,
}

impl Class<'_> {
    fn divide(mut self, slots: &[usize], weight: &dyn Fn(usize) -> u64, plan: &mut [Option<usize>]) {
        let mut free = Vec::new();
        for &slot in slots {
            let wish = &self.wishes[slot];
            match wish.held.or(wish.expected) {
                Some(member) => {
                    plan[slot] = Some(member);
                    self.loads[member] += weight(slot);
                }
                None => free.push(slot),
            }
        }
        // The heaviest first, each to the member with the least.
        free.sort_by_key(|slot| (Reverse(weight(*slot)), *slot));
        for slot in free {
            let (least, _) = self.extremes();
            plan[slot] = Some(least);
            self.loads[least] += weight(slot);
        }
        self.even_out(slots, weight, plan);
    }

    /// The members with the least and with the most; of equals the first, and the last.
    fn extremes(&self) -> (usize, usize) {
        let by_load = |member: &usize| (self.loads[*member], *member);
        let members = || 0..self.loads.len();
        (
            members().min_by_key(by_load).unwrap_or(0),
            members().max_by_key(by_load).unwrap_or(0),
        )
    }

    /// Moves slots from the member with the most to the one with the least. Starts only where the difference
    /// is worth a rebalance, then goes on until it is at most one slot.
    fn even_out(&mut self, slots: &[usize], weight: &dyn Fn(usize) -> u64, plan: &mut [Option<usize>]) {
        let largest = slots.iter().map(|slot| weight(*slot)).max().unwrap_or(0);
        let mean = self.total / self.loads.len().max(1) as u64;
        let mut tolerated = largest.max(mean / 10);
        loop {
            let (least, most) = self.extremes();
            let difference = self.loads[most] - self.loads[least];
            if difference <= tolerated {
                return;
            }
            tolerated = largest;
            // Whoever has more than `largest` above another has a slot, and any slot of it makes both more
            // even, so each turn lowers the sum of squares and this ends. Slots that nobody holds move for
            // nothing; else the one that comes closest to even.
            let of_most = slots.iter().filter(|slot| plan[**slot] == Some(most));
            let best = of_most.min_by_key(|slot| {
                let costs = self.wishes[**slot].held == Some(most);
                (costs, (2 * weight(**slot)).abs_diff(difference), **slot)
            });
            let Some(&slot) = best else {
                return;
            };
            plan[slot] = Some(least);
            self.loads[most] -= weight(slot);
            self.loads[least] += weight(slot);
        }
    }
}
