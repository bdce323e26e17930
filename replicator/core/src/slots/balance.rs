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
        let lost = !free.is_empty();
        for slot in free {
            let (least, _) = self.extremes();
            plan[slot] = Some(least);
            self.loads[least] += weight(slot);
        }
        self.even_out(lost, slots, weight, plan);
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

    /// Moves slots to the member with the least. Starts only where members differ by more than a tenth of the mean, then goes on
    /// until they differ by half of that (or by one slot, if that is less), or no move makes them more even. Where a member was
    /// `lost`, its slots are what moves: of the others' only where members differ by a slot and more.
    fn even_out(
        &mut self,
        lost: bool,
        slots: &[usize],
        weight: &dyn Fn(usize) -> u64,
        plan: &mut [Option<usize>],
    ) {
        let largest = slots.iter().map(|slot| weight(*slot)).max().unwrap_or(0);
        let mean = self.total / self.loads.len().max(1) as u64;
        let (mut tolerated, then) = if lost {
            ((largest + largest / 8).max(mean / 10), largest)
        } else {
            (mean / 10, largest.min(mean / 20))
        };
        loop {
            let (least, most) = self.extremes();
            if self.loads[most] - self.loads[least] <= tolerated {
                return;
            }
            tolerated = then;
            let Some((from, slot)) = self.best_move(least, slots, weight, plan) else {
                return;
            };
            plan[slot] = Some(least);
            self.loads[from] -= weight(slot);
            self.loads[least] += weight(slot);
        }
    }

    /// The slot to move to the member with the least, and who has it: of the member with the most that can give one. Each makes the
    /// two more even, which lowers the sum of squares, so there is an end.
    fn best_move(
        &self,
        least: usize,
        slots: &[usize],
        weight: &dyn Fn(usize) -> u64,
        plan: &[Option<usize>],
    ) -> Option<(usize, usize)> {
        let mut givers: Vec<usize> = (0..self.loads.len()).collect();
        givers.sort_by_key(|member| (Reverse(self.loads[*member]), Reverse(*member)));
        givers.into_iter().find_map(|from| {
            let difference = self.loads[from] - self.loads[least];
            let theirs = slots.iter().copied().filter(|slot| plan[*slot] == Some(from));
            // What is moved is to be worth it: a slot of 100 for a gain of 1 is not.
            let gains = theirs.filter(|slot| {
                let weight = weight(*slot);
                weight < difference && difference - weight >= weight / 8
            });
            // Slots that nobody holds move for nothing; else the one that comes closest to even.
            let best = gains.min_by_key(|slot| {
                let costs = self.wishes[*slot].held == Some(from);
                (costs, weight(*slot).saturating_mul(2).abs_diff(difference), *slot)
            });
            best.map(|slot| (from, slot))
        })
    }
}
