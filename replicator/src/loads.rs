//! What the slots of a flow have to move, for the pump that leads its group: every process measures it, for any may lead next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::flow::Pairing;
use kuroshio_core::slots::Loads;
use kuroshio_core::types::{Time, TopicPartition};
use kuroshio_wire::{Cluster, Stored};
use tokio::sync::watch;

/// Between two looks at the group's positions.
const LOOK: Duration = Duration::from_secs(10);

/// Measures and tells. Positions and not what this process itself moves: they show all of the group's members.
pub async fn measure(
    target: Cluster,
    group: Arc<str>,
    started: Instant,
    mut catalog: watch::Receiver<Arc<[Pairing]>>,
    tell: watch::Sender<Arc<[u32]>>,
) {
    let mut loads = Loads::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = tokio::select! {
            _ = look.tick() => true,
            changed = catalog.changed() => match changed {
                // New partitions count from the start.
                Ok(()) => false,
                // The flow ends.
                Err(_) => return,
            },
        };
        let pairings = Arc::clone(&catalog.borrow_and_update());
        if due && !pairings.is_empty() {
            let wanted: Vec<TopicPartition> = pairings.iter().map(Pairing::target).collect();
            match target.fetch_offsets(&group, Some(&wanted)).await {
                Ok(stored) => {
                    // One whose transaction is about to end is told at the next look.
                    let known = pairings
                        .iter()
                        .filter_map(|pairing| match stored.get(&pairing.target()) {
                            Some(Ok(Stored::Offset(position))) => {
                                Some((pairing.source.clone(), position.offset))
                            }
                            _ => None,
                        });
                    loads.observe(Time::at(started.elapsed()), known);
                }
                // Who copies says what is wrong with the target.
                Err(error) => tracing::debug!(group = &*group, %error, "loads not measured; later"),
            }
        }
        let weights = loads.weights(pairings.iter().map(|pairing| &pairing.source));
        if due {
            let busiest = weights.iter().max().copied().unwrap_or(0);
            tracing::debug!(
                group = &*group,
                "loads measured: the busiest slot has {busiest} records a second"
            );
        }
        tell.send_replace(weights.into());
    }
}
