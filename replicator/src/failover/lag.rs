//! Waits until a flow has copied what was on the source when the move began.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use kuroshio_core::failover::Objection;
use kuroshio_core::types::{TopicPartition, group_of};
use kuroshio_wire::{Isolation, OffsetAt, Stored};

use super::ends::Ends;
use super::report::Report;
use super::{FailoverError, partitions, progress};

/// Between two looks at the positions.
const LOOK: Duration = Duration::from_millis(200);
/// Given up when nothing has come for so long: a flow that runs commits several times a second.
const STALLED: Duration = Duration::from_secs(30);

/// Waits for the partitions of all groups. What does not come any more is objected to.
pub(super) async fn wait(ends: &Ends<'_>, report: &mut Report) -> Result<(), FailoverError> {
    let by_flow = partitions(report);
    let wanted = by_flow.values().flatten();
    let wanted = wanted.map(|(source, _)| (source.clone(), OffsetAt::Latest));
    let listed = ends.from.list_offsets(wanted, Isolation::ReadCommitted).await;
    let mut ends_there: HashMap<TopicPartition, i64> = HashMap::new();
    for (partition, listed) in listed {
        ends_there.insert(partition, listed?.map_or(0, |listed| listed.offset));
    }
    let mut bar = None;
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let behind = behind(ends, &by_flow, &ends_there).await?;
        let total: u64 = behind.values().sum();
        let bar = bar.get_or_insert_with(|| progress("waiting for the lag", total));
        bar.set_position(bar.length().unwrap_or(0).saturating_sub(total));
        if total < least {
            (least, since) = (total, Instant::now());
        }
        if total == 0 || since.elapsed() > STALLED {
            bar.finish_and_clear();
            for group in &mut report.groups {
                let rows = group.partitions.iter().map(super::Row::source);
                let missing = rows.filter_map(|source| Some((behind.get(&source)?, source)));
                let missing = missing.map(|(records, partition)| Objection::Lag {
                    partition,
                    records: *records,
                });
                let missing: Vec<_> = missing.collect();
                group.objections.extend(missing);
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// By source partition what lies between the flow's position and the end; partitions without any of it are left out, and so are
/// those without position, which the translation tells of.
async fn behind(
    ends: &Ends<'_>,
    by_flow: &BTreeMap<std::sync::Arc<str>, std::collections::BTreeSet<(TopicPartition, TopicPartition)>>,
    ends_there: &HashMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, u64>, FailoverError> {
    let mut all = BTreeMap::new();
    for (flow, partitions) in by_flow {
        let targets: Vec<_> = partitions.iter().map(|(_, target)| target.clone()).collect();
        let stored = ends.to.fetch_offsets(&group_of(flow), Some(&targets)).await?;
        for (source, target) in partitions {
            let end = ends_there.get(source).copied().unwrap_or(0);
            let position = match stored.get(target) {
                Some(Ok(Stored::Offset(position))) => position.offset,
                Some(Err(error)) => return Err(error.clone().into()),
                // A transaction is about to move it: no news until then.
                Some(Ok(Stored::Unstable)) => 0,
                Some(Ok(Stored::Nothing)) | None => continue,
            };
            let records = u64::try_from(end - position).unwrap_or(0);
            if records > 0 {
                all.insert(source.clone(), records);
            }
        }
    }
    Ok(all)
}
