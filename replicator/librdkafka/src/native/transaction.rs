//! Transaction calls of a producer, each blocking up to `wait`.

use std::ffi::CString;
use std::time::Duration;

use kuroshio_core::types::Membership;
use rdkafka_sys as sys;

use super::{Failure, Handle, PartitionList, millis};

/// Takes the transactional id over, ending what an earlier producer left open.
pub(crate) fn init(producer: &Handle, wait: Duration) -> Result<(), Failure> {
    // SAFETY: the producer is alive; so below.
    unsafe {
        Failure::check(sys::rd_kafka_init_transactions(
            producer.native_ptr(),
            millis(wait),
        ))
    }
}

pub(crate) fn begin(producer: &Handle) -> Result<(), Failure> {
    // SAFETY: see `init`.
    unsafe { Failure::check(sys::rd_kafka_begin_transaction(producer.native_ptr())) }
}

pub(crate) fn commit(producer: &Handle, wait: Duration) -> Result<(), Failure> {
    // SAFETY: see `init`.
    unsafe {
        Failure::check(sys::rd_kafka_commit_transaction(
            producer.native_ptr(),
            millis(wait),
        ))
    }
}

pub(crate) fn abort(producer: &Handle, wait: Duration) -> Result<(), Failure> {
    // SAFETY: see `init`.
    unsafe {
        Failure::check(sys::rd_kafka_abort_transaction(
            producer.native_ptr(),
            millis(wait),
        ))
    }
}

/// Adds positions to the open transaction, fenced by a membership.
pub(crate) fn send_offsets(
    producer: &Handle,
    positions: &PartitionList,
    who: &Membership,
    wait: Duration,
) -> Result<(), Failure> {
    let c = |text: &str| CString::new(text).unwrap_or_default();
    let (group, member, instance) = (c(&who.group), c(&who.member), c(&who.instance));
    // SAFETY: the strings are alive and copied; the metadata is ours until it is destroyed below; the list is copied.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata_new_with_genid(
            group.as_ptr(),
            who.generation,
            member.as_ptr(),
            instance.as_ptr(),
        );
        let result = Failure::check(sys::rd_kafka_send_offsets_to_transaction(
            producer.native_ptr(),
            positions.0.as_ptr(),
            metadata,
            millis(wait),
        ));
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        result
    }
}
