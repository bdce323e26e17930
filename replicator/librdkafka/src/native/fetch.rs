//! What fetches bring, and how large they may be.

use rdkafka_sys as sys;

use super::{Handle, Queue};

// See `fetch.c`.
unsafe extern "C" {
    fn kuroshio_received(
        client: *mut sys::rd_kafka_t,
        ids: *mut i32,
        bytes: *mut i64,
        room: i32,
        up: *mut i32,
    ) -> i32;
    fn kuroshio_queued(queue: *mut sys::rd_kafka_queue_t, count: *mut u64, bytes: *mut u64);
    fn kuroshio_limit_fetches(client: *mut sys::rd_kafka_t, bytes: i32);
    #[cfg(test)]
    fn kuroshio_wakeups(client: *mut sys::rd_kafka_t) -> i64;
}

/// How often the threads of a client's brokers went round.
#[cfg(test)]
pub(crate) fn wakeups(client: &Handle) -> i64 {
    // SAFETY: the client is alive; its list of brokers is read under its lock, the rest are atomics.
    unsafe { kuroshio_wakeups(client.native_ptr()) }
}

/// Brokers that are looked at; a client of more takes the others for idle.
const BROKERS: usize = 256;

/// Puts the id of each broker, and the bytes received from it since the client was made, into `received`. Returns the number of
/// brokers connected, at least 1.
pub(crate) fn received(client: &Handle, received: &mut Vec<(i32, u64)>) -> u64 {
    let (mut ids, mut bytes, mut up) = ([0_i32; BROKERS], [0_i64; BROKERS], 0_i32);
    // SAFETY: the client is alive; its list of brokers is read under its lock, ids never change, the rest are atomics. There
    // is room for as many as is said.
    let count = unsafe {
        kuroshio_received(
            client.native_ptr(),
            ids.as_mut_ptr(),
            bytes.as_mut_ptr(),
            BROKERS as i32,
            &mut up,
        )
    };
    received.clear();
    let bytes = bytes.iter().map(|bytes| u64::try_from(*bytes).unwrap_or(0));
    received.extend(
        ids.into_iter()
            .zip(bytes)
            .take(usize::try_from(count).unwrap_or(0)),
    );
    u64::try_from(up).unwrap_or(1).max(1)
}

/// Messages in a queue, and the bytes of their values.
pub(crate) fn queued(queue: &Queue) -> (u64, u64) {
    let (mut count, mut bytes) = (0_u64, 0_u64);
    // SAFETY: the queue is alive, and each number is read under its lock.
    unsafe { kuroshio_queued(queue.raw.as_ptr(), &mut count, &mut bytes) };
    (count, bytes)
}

/// Sets the most bytes of the responses to fetches that are sent from now on.
pub(crate) fn limit_fetches(client: &Handle, bytes: u64) {
    // SAFETY: the client is alive. An aligned `int` that is stored atomically is read whole by librdkafka's threads, which
    // may use either value.
    unsafe { kuroshio_limit_fetches(client.native_ptr(), i32::try_from(bytes).unwrap_or(i32::MAX)) };
}
