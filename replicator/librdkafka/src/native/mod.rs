//! The C library behind narrow types: all `unsafe` of the product lives in this module.
//!
//! Lifetimes are held by construction. Every queue, topic handle and open event keeps its client alive by an
//! [`Arc`], so nothing of a client can outlive it; consumed messages, of which there are many, are kept in
//! [`crate::in_flight::InFlight`], which owns the consumer they came from.

mod codes;
mod events;
mod fetch;
mod message;
mod offsets;
mod produce;
mod tokens;
pub(crate) mod transaction;

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use kuroshio_core::engine::BatchForm;
use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaType;
use rdkafka_sys as sys;

use crate::properties;
use crate::settings::Tokens;

pub(crate) use codes::{Code, Failure};
pub(crate) use events::{Delivery, Event, next_event};
#[cfg(test)]
pub(crate) use fetch::wakeups;
pub(crate) use fetch::{limit_fetches, queued, received};
pub(crate) use message::{Consumed, consume};
pub(crate) use offsets::{PartitionList, assign, high_watermark, unassign};
pub(crate) use produce::{Headers, Outgoing, produce, purge};

/// Takes the clients' log lines; errors come as events.
pub(crate) struct Context {
    /// What the lines are about: `tw-jp source jp`.
    pub(crate) name: String,
    /// Where its bearer tokens come from.
    pub(crate) tokens: Option<Tokens>,
}

impl ClientContext for Context {}

/// A client; it is destroyed with the last thing of it.
pub(crate) type Handle = Arc<Client<Context>>;

/// Creates a consumer (`consumer`) or a producer.
pub(crate) fn client(config: &ClientConfig, consumer: bool, context: Context) -> Result<Handle, KafkaError> {
    let native = config.create_native_config()?;
    let events = if consumer { 0 } else { sys::RD_KAFKA_EVENT_DR };
    // SAFETY: the configuration object is alive and ours; it is handed to `Client::new` below.
    unsafe { sys::rd_kafka_conf_set_events(native.ptr(), events | sys::RD_KAFKA_EVENT_ERROR) };
    let kind = if consumer {
        RDKafkaType::RD_KAFKA_CONSUMER
    } else {
        RDKafkaType::RD_KAFKA_PRODUCER
    };
    let with_tokens = context.tokens.is_some();
    if with_tokens {
        tokens::ask_for(native.ptr());
    }
    let client = Client::new(config, native, kind, context)?;
    if with_tokens {
        tokens::begin(&client);
    }
    Ok(Arc::new(client))
}

// Of the files that are mended (`build.rs`).
unsafe extern "C" {
    fn kuroshio_mended_rdgz();
    fn kuroshio_mended_rdkafka();
    fn kuroshio_mended_rdkafka_broker();
    fn kuroshio_mended_rdkafka_lz4();
    fn kuroshio_mended_rdkafka_msgset_writer();
    fn kuroshio_mended_rdkafka_topic();
    fn kuroshio_mended_rdkafka_txnmgr();
}

/// Refers to the mended files, so that they are linked in place of the originals.
#[used]
static MENDED: [unsafe extern "C" fn(); 7] = [
    kuroshio_mended_rdgz,
    kuroshio_mended_rdkafka,
    kuroshio_mended_rdkafka_broker,
    kuroshio_mended_rdkafka_lz4,
    kuroshio_mended_rdkafka_msgset_writer,
    kuroshio_mended_rdkafka_topic,
    kuroshio_mended_rdkafka_txnmgr,
];

/// Lets the groups of the mock cluster in this client begin with their first member, without the 3 seconds in
/// which a broker waits for others.
pub(crate) fn no_rebalance_delay<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client is alive, and so is the mock cluster in it, which is part of it; null: it has none.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}

/// Milliseconds as librdkafka takes them; rounded up, so that a short wait is no busy loop.
pub(crate) fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// Text that librdkafka owns; empty for null.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives as long as this call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// One of a client's queues.
pub(crate) struct Queue {
    raw: NonNull<sys::rd_kafka_queue_t>,
    // After `raw`, so that it is dropped later.
    client: Handle,
}

// SAFETY: librdkafka's queues are thread safe; every function used on them takes the queue's own lock.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// The queue of events: errors, log lines, delivery reports.
    pub(crate) fn main(client: &Handle) -> Option<Self> {
        // SAFETY: the client is alive; the returned reference is ours until `rd_kafka_queue_destroy`.
        let raw = unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) };
        NonNull::new(raw).map(|raw| Self {
            raw,
            client: Arc::clone(client),
        })
    }

    /// The queue of consumed records; consumers with a `group.id` have it.
    pub(crate) fn records(client: &Handle) -> Option<Self> {
        // SAFETY: as in `main`.
        let raw = unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) };
        NonNull::new(raw).map(|raw| Self {
            raw,
            client: Arc::clone(client),
        })
    }

    /// Makes a waiting reader of this queue return; without one, the next reader that would wait.
    pub(crate) fn wake(&self) {
        // SAFETY: the queue is alive.
        unsafe { sys::rd_kafka_queue_yield(self.raw.as_ptr()) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: `raw` is our reference, given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.raw.as_ptr()) };
    }
}

/// While it lives, whatever arrives in one queue wakes the reader of another.
pub(crate) struct Wakes {
    from: Arc<Queue>,
    // The callback reads it; it lives as long as the callback is set.
    to: Arc<Queue>,
}

impl Wakes {
    pub(crate) fn new(from: Arc<Queue>, to: Arc<Queue>) -> Self {
        let opaque = Arc::as_ptr(&to).cast::<c_void>().cast_mut();
        // SAFETY: `opaque` points to the queue that `self.to` keeps alive until `Drop` has removed the
        // callback.
        unsafe { sys::rd_kafka_queue_cb_event_enable(from.raw.as_ptr(), Some(wake_other), opaque) };
        Self { from, to }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        // SAFETY: the queue is alive. The callback runs under the lock of `from`, which this call takes: when
        // it returns no call is under way and none will follow, so `to` may go.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.from.raw.as_ptr(), None, std::ptr::null_mut()) };
        let _ = &self.to;
    }
}

/// Runs on a thread of librdkafka, under the lock of the queue that something arrived in. It takes the lock of
/// the other queue; nothing takes the two in the other order.
unsafe extern "C" fn wake_other(_: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `Wakes` keeps the queue alive for as long as the callback is set.
    unsafe { &*opaque.cast::<Queue>() }.wake();
}

// See `topic.c`.
unsafe extern "C" {
    fn kuroshio_form_batches(topic: *mut sys::rd_kafka_topic_t, codec: i32, level: i32, limit: i32);
}

/// A topic of a client. While it lives its address names the topic in that client's messages.
pub(crate) struct Topic {
    raw: NonNull<sys::rd_kafka_topic_t>,
    _client: Handle,
}

// SAFETY: a topic handle is a counted reference to an object that librdkafka locks by itself.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Topic {
    /// The topic with the client's own settings, or with those that it has if the client knows it already.
    pub(crate) fn new(client: &Handle, name: &str) -> Result<Self, String> {
        let name = CString::new(name).map_err(|_| format!("topic {name:?} contains a NUL byte"))?;
        // SAFETY: the client is alive; without a configuration of the topic's own it takes the client's.
        let raw =
            unsafe { sys::rd_kafka_topic_new(client.native_ptr(), name.as_ptr(), std::ptr::null_mut()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Self {
                raw,
                _client: Arc::clone(client),
            }),
            None => Err(format!("librdkafka made no handle of topic {name:?}")),
        }
    }

    /// How batches are written from now on.
    pub(crate) fn form(&self, form: BatchForm) {
        let (codec, level) = properties::compression(form.codec);
        let limit = i32::try_from(form.limit).unwrap_or(i32::MAX);
        // SAFETY: the topic is alive. Aligned `int`s that are stored atomically are read whole by librdkafka's threads, each of which
        // works with any of the values that were ever stored, in any mixture.
        unsafe { kuroshio_form_batches(self.raw.as_ptr(), codec, level, limit) };
    }

    /// The topic's address in this client: equal to [`Consumed::topic`] of its messages.
    pub(crate) fn address(&self) -> usize {
        self.raw.as_ptr() as usize
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { sys::rd_kafka_topic_destroy(self.raw.as_ptr()) };
    }
}

/// Levels of syslog, of which librdkafka uses these.
fn log(level: RDKafkaLogLevel, client: &str, facility: &str, line: &str) {
    // What it thinks of properties was weighed when they were chosen; users' mistakes come as errors.
    let level = if facility == "CONFWARN" {
        RDKafkaLogLevel::Debug
    } else {
        level
    };
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(client, facility, "{line}"),
        RDKafkaLogLevel::Warning => tracing::warn!(client, facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(client, facility, "{line}"),
        RDKafkaLogLevel::Debug => tracing::debug!(client, facility, "{line}"),
    }
}

#[cfg(test)]
pub(crate) mod raw;
