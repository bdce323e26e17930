//! Consumed records.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka_sys as sys;

use super::{Code, Queue, millis, text};

/// `rd_kafka_message_t` with its code as a number, for the reason given at [`Code`].
#[repr(C)]
pub(super) struct Fields {
    pub(super) err: c_int,
    rkt: *mut sys::rd_kafka_topic_t,
    partition: i32,
    payload: *mut c_void,
    len: usize,
    key: *mut c_void,
    key_len: usize,
    pub(super) offset: i64,
    pub(super) private: *mut c_void,
}

const _: () = assert!(
    size_of::<Fields>() == size_of::<sys::rd_kafka_message_t>()
        && std::mem::offset_of!(Fields, private) == std::mem::offset_of!(sys::rd_kafka_message_t, _private)
);

unsafe extern "C" {
    /// See `headers.c`.
    fn kuroshio_headers(
        message: *const sys::rd_kafka_message_t,
        start: *mut *const c_void,
        length: *mut usize,
    );
}

/// A consumed record, or an error or end of a partition in its place. It must be dropped before its consumer.
#[repr(transparent)]
pub(crate) struct Consumed(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a message is owned by whoever holds it; librdkafka touches it only through reference counts.
unsafe impl Send for Consumed {}

/// Waits up to `wait` for messages and takes what is there, at most `room`, into `batch`, which is empty.
pub(crate) fn consume(queue: &Queue, wait: Duration, room: usize, batch: &mut Vec<Consumed>) {
    batch.clear();
    batch.reserve(room);
    // `rd_kafka_consume_batch_queue` waits until *all* the room is filled: wait for the first, then take the rest.
    take(queue, millis(wait), room.min(1), batch);
    if !batch.is_empty() {
        take(queue, 0, room - batch.len(), batch);
    }
}

fn take(queue: &Queue, wait: c_int, room: usize, batch: &mut Vec<Consumed>) {
    let start = batch.len();
    debug_assert!(batch.capacity() - start >= room);
    // SAFETY: the queue is alive; there is room for `room` pointers behind `start`, and `Consumed` is one
    // non-null pointer, transparent in memory: librdkafka writes as many as it returns and gives them away.
    unsafe {
        let place = batch
            .as_mut_ptr()
            .add(start)
            .cast::<*mut sys::rd_kafka_message_t>();
        let count = sys::rd_kafka_consume_batch_queue(queue.raw.as_ptr(), wait, place, room);
        batch.set_len(start + usize::try_from(count).unwrap_or(0));
    }
}

impl Consumed {
    fn get(&self) -> &Fields {
        // SAFETY: alive while `self` is, of the same layout, and written by nobody.
        unsafe { self.0.cast::<Fields>().as_ref() }
    }

    pub(crate) fn code(&self) -> Code {
        Code(self.get().err)
    }

    /// Address of its topic in its client; 0 for errors of no partition.
    pub(crate) fn topic(&self) -> usize {
        self.get().rkt as usize
    }

    pub(crate) fn partition(&self) -> i32 {
        self.get().partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.get().offset
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        let message = self.get();
        // SAFETY: key and length belong together and live as long as the message.
        unsafe { bytes(message.key, message.key_len) }
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        let message = self.get();
        // SAFETY: payload and length belong together and live as long as the message.
        unsafe { bytes(message.payload, message.len) }
    }

    /// Its headers as they came, not unpacked; empty for a record of before format v2. Not for what lies in a record's
    /// place.
    pub(crate) fn headers(&self) -> &[u8] {
        let (mut start, mut length) = (std::ptr::null::<c_void>(), 0_usize);
        // SAFETY: the message is a consumed record and alive; start and length belong together and live as long as it,
        // whatever is detached from it.
        unsafe {
            kuroshio_headers(self.0.as_ptr(), &mut start, &mut length);
            bytes(start.cast_mut(), length).unwrap_or_default()
        }
    }

    /// Milliseconds; -1 for none.
    pub(crate) fn timestamp(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) }
    }

    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is alive.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.0.as_ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    /// The words of an error in a record's place.
    pub(crate) fn error(&self) -> String {
        // SAFETY: the message is alive; for an error the string is its payload.
        let words = unsafe { text(sys::rd_kafka_message_errstr(self.0.as_ptr())) };
        format!("{}: {words}", self.code())
    }

    pub(super) fn raw(&self) -> *mut sys::rd_kafka_message_t {
        self.0.as_ptr()
    }
}

impl Drop for Consumed {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once, before its consumer.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// # Safety
/// `start` is null or points to `length` bytes that live as long as `'a`.
unsafe fn bytes<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for the rest.
    Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}
