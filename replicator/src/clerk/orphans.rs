//! Transactions whose owners are gone. Until they time out they would hold back every read_committed reader of their
//! partitions, whether they hold positions or not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::flow::Pairing;
use kuroshio_core::slots::{Assignment, slot_of};
use kuroshio_core::types::Lane;
use kuroshio_wire::{Cluster, Error};

use super::Clerk;

impl Clerk {
    /// Ends the transactions of pumps that owned our slots, or others of this flow, and are no members any more.
    pub(super) async fn release_the_dead(&mut self, lanes: &[(Lane, Pairing)]) {
        let (Some(seating), Some(timeout)) = (self.seating.borrow().clone(), self.transaction_timeout) else {
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
        // Later than that the coordinator has ended them by itself.
        let target = self.target.within(timeout);
        let mut dead = last_owners(assignment, lanes);
        // Whoever came to the group when the owner had gone finds no last owner in the assignment. A member that goes
        // makes another generation, so one look at each is enough.
        let generation = seating.membership.generation;
        if self.searched != Some(generation) {
            match self.strangers(&target).await {
                Ok(strangers) => {
                    self.searched = Some(generation);
                    dead.extend(strangers);
                }
                Err(Error::Version { .. }) => self.searched = Some(generation), // Kafka before 3.0
                Err(error) => self.board.error(error.to_string()),
            }
        }
        dead.retain(|id| !living.contains(id.as_str()) && !self.released.contains(id));
        for id in dead {
            self.release(&target, id, timeout).await;
        }
    }

    async fn release(&mut self, target: &Cluster, id: String, timeout: Duration) {
        match target.release_transactional_id(&id, timeout).await {
            Ok(_) => {
                tracing::info!(flow = %self.ends.flow, pump = %self.instance, transactional_id = id, "ended the transaction of a pump that is gone");
                self.released.insert(id);
            }
            Err(error) => self.board.error(format!(
                "transactional id {id}: {error}; waiting for its transaction to time out"
            )),
        }
    }

    /// Open transactions in this flow's name that are no member's.
    async fn strangers(&self, target: &Cluster) -> Result<Vec<String>, Error> {
        let mut open = target.list_transactions().await?;
        open.retain(|listed| &*listed.state == "Ongoing" && *listed.transactional_id != *self.instance);
        let mut strangers: Vec<(Arc<str>, Vec<Arc<str>>)> = open
            .into_iter()
            .map(|listed| listed.transactional_id)
            .map(|id| (Arc::clone(&id), groups_of(&id, &self.group)))
            .filter(|(_, groups)| !groups.is_empty())
            .collect();
        // Nearly all are members of our own group: it is asked first, and once.
        if !strangers.is_empty() {
            let members = members(target, &self.group).await?;
            strangers.retain(|(id, _)| !members.contains(id));
        }
        let mut dead = Vec::new();
        for (id, groups) in strangers {
            let mut living = false;
            for group in groups.iter().skip(1) {
                living |= members(target, group).await?.contains(&id);
            }
            if !living {
                dead.push(id.to_string());
            }
        }
        Ok(dead)
    }
}

/// Instance names of a group's members.
async fn members(target: &Cluster, group: &Arc<str>) -> Result<BTreeSet<Arc<str>>, Error> {
    let described = target.describe_group(group).await?;
    Ok(described
        .members
        .into_iter()
        .filter_map(|member| member.instance)
        .collect())
}

/// Who owned the slots of these lanes before, as far as the group remembers.
fn last_owners(assignment: &Assignment, lanes: &[(Lane, Pairing)]) -> BTreeSet<String> {
    let owner = |(_, pairing): &(Lane, Pairing)| {
        let source = &pairing.source;
        let slot = slot_of(&source.topic, source.partition, assignment.slot_count());
        assignment.slots.get(usize::from(slot.0))?.last.clone()
    };
    lanes.iter().filter_map(owner).collect()
}

/// The groups whose member a transactional id may be: first ours, then those of flows whose names begin with our flow's and
/// a dot. Nothing for an id that is not of our flow.
fn groups_of(id: &str, ours: &Arc<str>) -> Vec<Arc<str>> {
    let Some(rest) = id.strip_prefix(&**ours).filter(|rest| rest.starts_with('.')) else {
        return Vec::new();
    };
    rest.match_indices('.')
        .map(|(at, _)| Arc::from(&id[..ours.len() + at]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_of_a_flow_with_a_longer_name() {
        let ours = Arc::from("kuroshio.tw-jp");
        let cases: [(&str, &[&str]); 4] = [
            (
                "kuroshio.tw-jp.pod-1.0",
                &["kuroshio.tw-jp", "kuroshio.tw-jp.pod-1"],
            ),
            (
                "kuroshio.tw-jp.b.pod.0",
                &["kuroshio.tw-jp", "kuroshio.tw-jp.b", "kuroshio.tw-jp.b.pod"],
            ),
            ("kuroshio.tw-jp2.pod-1.0", &[]),
            ("orders", &[]),
        ];
        for (id, groups) in cases {
            let found = groups_of(id, &ours);
            assert!(
                found.iter().map(|group| &**group).eq(groups.iter().copied()),
                "{id}: {found:?}"
            );
        }
    }
}
