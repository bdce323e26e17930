//! Transaction calls of a producer, each blocking up to `wait`.

use std::ffi::CString;
use std::time::Duration;

use kuroshio_core::types::Membership;
use rdkafka_sys as sys;

use super::{Code, Failure, Handle, PartitionList, millis};

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

/// Whether the open transaction can still be committed; an error as `commit` would give it if not. Changes nothing:
/// librdkafka refuses to begin a transaction inside another and says why.
pub(crate) fn check_open(producer: &Handle) -> Result<(), Failure> {
    match begin(producer) {
        Err(failure) if failure.code == Code::LOCAL_STATE && !failure.fatal => Ok(()),
        result => result,
    }
}

/// Never with a short `wait`, and never again after a timeout: librdkafka's own thread carries the phases of a call out, and
/// a call that gives up during the first one leaves an answer behind which the next call takes for that of a later phase.
/// It then forgets that a commit is under way, and the answer of the coordinator ends the whole process
/// (`rd_kafka_txn_curr_api_return` with `resumable` false, `rd_kafka_txn_endtxn_complete`). So for `abort`.
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

/// Drops what waits to be sent of a transaction that is being aborted, as `abort` itself does at its beginning (`rd_kafka_purge` with
/// its internal flag `RD_KAFKA_PURGE_F_ABORT_TXN`, which accounts for the numbers of the dropped). Returns at once.
pub(crate) fn drop_waiting(producer: &Handle) {
    const ABORT_TRANSACTION: i32 = 0x100;
    let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_NON_BLOCKING | ABORT_TRANSACTION;
    // SAFETY: see `init`. The result says only that the flags are known and this is a producer.
    unsafe {
        sys::rd_kafka_purge(producer.native_ptr(), flags);
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
