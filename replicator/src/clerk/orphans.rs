//! Transactions whose owners are gone.

use std::collections::BTreeSet;

use kuroshio_core::flow::Pairing;
use kuroshio_core::slots::slot_of;
use kuroshio_core::types::Lane;

use super::Clerk;

impl Clerk {
    /// Ends the transactions of owners of our slots that are no members any more: until they time out they
    /// would hold back every read_committed reader of the partitions, and positions with them.
    pub(super) async fn release_the_dead(&mut self, lanes: &[(Lane, Pairing)]) {
        let Some(seating) = self.seating.borrow().clone() else {
            return;
        };
        let assignment = &seating.assignment;
        let living: BTreeSet<&str> = assignment
            .slots
            .iter()
            .flat_map(|share| [share.owner.as_deref(), share.promised.as_deref()])
            .flatten()
            .collect();
        self.released.retain(|id| !living.contains(id.as_str()));
        let owners = lanes.iter().filter_map(|(_, pairing)| {
            let slot = slot_of(
                &pairing.source.topic,
                pairing.source.partition,
                assignment.slot_count(),
            );
            assignment.slots.get(usize::from(slot.0))?.last.clone()
        });
        let dead: BTreeSet<String> = owners
            .filter(|id| !living.contains(id.as_str()) && !self.released.contains(id))
            .collect();
        for id in dead {
            match self
                .target
                .release_transactional_id(&id, self.transaction_timeout)
                .await
            {
                Ok(_) => {
                    tracing::info!(instance = %self.instance, orphan = id, "ended the transaction of a pump that is gone");
                    self.released.insert(id);
                }
                Err(error) => self.board.error(format!(
                    "transactional id {id}: {error}; waiting for its transaction to time out"
                )),
            }
        }
    }
}
