//! As many records of some batches as memory may be taken for.

use super::{Batch, BatchError, Record};

/// Memory of what is made of records beside their bytes. A megabyte that anybody may write can unpack to as many records as there
/// are bytes in a gigabyte, and each takes a hundred.
const MADE: usize = 64 << 20;

/// The records from offset `at` on, each with the id of its producer, and where to go on: behind them. Ends before the first that
/// cannot be read, and when there are very many.
#[must_use]
pub fn records_from(
    batches: impl Iterator<Item = Result<Batch, BatchError>>,
    at: i64,
) -> (Vec<(i64, Record)>, i64) {
    let (mut records, mut next, mut made) = (Vec::new(), at, 0);
    for batch in batches {
        let Ok(batch) = batch else { break };
        for record in batch.records() {
            let Ok(record) = record else {
                return (records, next);
            };
            if record.offset < at {
                continue;
            }
            if made > MADE {
                return (records, next);
            }
            made += size_of::<(i64, Record)>() + size_of_val(&*record.headers);
            next = record.offset.saturating_add(1);
            records.push((batch.producer_id, record));
        }
        next = next.max(batch.next_offset());
    }
    (records, next)
}
