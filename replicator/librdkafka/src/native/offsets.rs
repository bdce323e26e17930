//! Lists of partitions with offsets: what is read from where, and what is committed.

use std::ffi::{CString, c_int, c_void};
use std::ptr::NonNull;

use kuroshio_core::types::{Position, TopicPartition};
use rdkafka_sys as sys;

use super::{Failure, Handle};

/// Partitions with offsets.
pub(crate) struct PartitionList(pub(super) NonNull<sys::rd_kafka_topic_partition_list_t>);

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) };
    }
}

impl PartitionList {
    pub(crate) fn with_capacity(count: usize) -> Self {
        // SAFETY: no preconditions; it never returns null (see `Headers::new`).
        let list =
            unsafe { sys::rd_kafka_topic_partition_list_new(c_int::try_from(count).unwrap_or(c_int::MAX)) };
        NonNull::new(list).map_or_else(|| std::process::abort(), Self)
    }

    /// Adds a partition; a topic name with a NUL byte, which no cluster has, is left out.
    fn add(&mut self, at: &TopicPartition, offset: i64) -> Option<*mut sys::rd_kafka_topic_partition_t> {
        let topic = CString::new(&*at.topic).ok()?;
        // SAFETY: the list is ours; the name is copied. The element stays where it is until the next `add`.
        unsafe {
            let element =
                sys::rd_kafka_topic_partition_list_add(self.0.as_ptr(), topic.as_ptr(), at.partition);
            (*element).offset = offset;
            Some(element)
        }
    }

    /// Adds where a partition is to be read from.
    pub(crate) fn add_start(&mut self, at: &TopicPartition, offset: i64) {
        self.add(at, offset);
    }

    /// Adds a position to commit.
    pub(crate) fn add_position(&mut self, at: &TopicPartition, position: &Position, metadata: &str) {
        let Some(element) = self.add(at, position.offset.0) else {
            return;
        };
        // SAFETY: the element was just added. Its metadata is freed by librdkafka with C's `free`, so it is allocated
        // by C's `malloc`.
        unsafe {
            if let Some(epoch) = position.leader_epoch {
                sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
            }
            let copy = libc::malloc(metadata.len() + 1).cast::<u8>();
            if copy.is_null() {
                std::process::abort();
            }
            copy.copy_from_nonoverlapping(metadata.as_ptr(), metadata.len());
            copy.add(metadata.len()).write(0);
            (*element).metadata = copy.cast::<c_void>();
            (*element).metadata_size = metadata.len();
        }
    }
}

/// Begins to read partitions.
pub(crate) fn assign(consumer: &Handle, partitions: &PartitionList) -> Result<(), Failure> {
    // SAFETY: both are alive; the list is copied.
    unsafe {
        Failure::check(sys::rd_kafka_incremental_assign(
            consumer.native_ptr(),
            partitions.0.as_ptr(),
        ))
    }
}

/// Stops reading partitions. When it returns, their version barrier is raised (`rd_kafka_toppar_op_fetch_stop`,
/// called while the request is served): what was fetched before is never handed out.
pub(crate) fn unassign(consumer: &Handle, partitions: &PartitionList) -> Result<(), Failure> {
    // SAFETY: as above.
    unsafe {
        Failure::check(sys::rd_kafka_incremental_unassign(
            consumer.native_ptr(),
            partitions.0.as_ptr(),
        ))
    }
}

/// The high watermark of a partition as of its last fetch.
pub(crate) fn high_watermark(consumer: &Handle, at: &TopicPartition) -> Option<i64> {
    let topic = CString::new(&*at.topic).ok()?;
    let (mut low, mut high) = (-1_i64, -1_i64);
    // SAFETY: the consumer and the name are alive; both places are ours.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.native_ptr(),
            topic.as_ptr(),
            at.partition,
            &mut low,
            &mut high,
        )
    };
    (code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
