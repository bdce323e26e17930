//! A client's queue of events.

use std::ffi::{c_char, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka_sys as sys;

use super::message::Fields;
use super::{Code, Queue, log, millis, text};

unsafe extern "C" {
    // With a number for the reason given at `Code`.
    fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> c_int;
}

/// Something that a client reports.
pub(crate) enum Event<'q> {
    /// What became of records handed to the producer.
    Deliveries(Deliveries<'q>),
    /// Trouble of the whole client.
    Error {
        /// The client cannot be used any more.
        fatal: bool,
        /// Kafka's name and librdkafka's words.
        text: String,
    },
}

/// What became of one record.
pub(crate) struct Delivery {
    /// The ticket it was produced with.
    pub(crate) ticket: usize,
    /// [`Code::NONE`]: it is in the log.
    pub(crate) code: Code,
    /// Where it lies; negative where the broker did not say.
    pub(crate) offset: i64,
}

struct Raw<'q>(NonNull<sys::rd_kafka_event_t>, PhantomData<&'q Queue>);

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // SAFETY: the event is ours, destroyed once, before its queue (which it borrows) and so its client.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// The reports of one event, in the order of the partition's log.
pub(crate) struct Deliveries<'q>(Raw<'q>);

impl Iterator for Deliveries<'_> {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        // SAFETY: the event is alive and of delivery reports; the message lives until it is destroyed.
        let message = unsafe { sys::rd_kafka_event_message_next(self.0.0.as_ptr()) };
        let message = NonNull::new(message.cast_mut())?.cast::<Fields>();
        // SAFETY: as above.
        let message = unsafe { message.as_ref() };
        Some(Delivery {
            ticket: message.private as usize,
            code: Code(message.err),
            offset: message.offset,
        })
    }
}

/// Waits for the next event of `queue`, which is a main queue; log lines are written on the way. `None`: nothing
/// came in time, or the queue was woken.
pub(crate) fn next_event(queue: &Queue, wait: Duration) -> Option<Event<'_>> {
    let mut wait = millis(wait);
    loop {
        // SAFETY: the queue is alive; the event is ours.
        let raw = unsafe { sys::rd_kafka_queue_poll(queue.raw.as_ptr(), wait) };
        let raw = Raw(NonNull::new(raw)?, PhantomData);
        let event = raw.0.as_ptr();
        // SAFETY: the event is alive; strings of it are copied before it goes.
        match unsafe { sys::rd_kafka_event_type(event) } {
            sys::RD_KAFKA_EVENT_DR => return Some(Event::Deliveries(Deliveries(raw))),
            sys::RD_KAFKA_EVENT_ERROR => {
                // SAFETY: as above.
                let (code, fatal, words) = unsafe {
                    (
                        Code(rd_kafka_event_error(event)),
                        sys::rd_kafka_event_error_is_fatal(event) != 0,
                        text(sys::rd_kafka_event_error_string(event)),
                    )
                };
                return Some(Event::Error {
                    fatal,
                    text: format!("{code}: {words}"),
                });
            }
            sys::RD_KAFKA_EVENT_LOG => write_log(&raw, queue),
            // Statistics, rebalances and commits are not asked for.
            _ => {}
        }
        // A log line is not what was waited for, but no reason to wait the whole time again either.
        wait = 0;
    }
}

fn write_log(event: &Raw<'_>, queue: &Queue) {
    let mut facility: *const c_char = std::ptr::null();
    let mut line: *const c_char = std::ptr::null();
    let mut level: c_int = 0;
    // SAFETY: the event is alive and of a log line, and the three places are ours to write to.
    let failed = unsafe { sys::rd_kafka_event_log(event.0.as_ptr(), &mut facility, &mut line, &mut level) };
    if failed == 0 {
        // SAFETY: both strings belong to the event, which is alive.
        let (facility, line) = unsafe { (text(facility), text(line)) };
        let level = match level {
            0..=3 => RDKafkaLogLevel::Error,
            4 => RDKafkaLogLevel::Warning,
            5 | 6 => RDKafkaLogLevel::Info,
            _ => RDKafkaLogLevel::Debug,
        };
        log(level, &queue.client.context().name, facility.trim(), line.trim());
    }
}
