//! Error codes and error objects.

use std::ffi::{c_char, c_int};
use std::fmt;
use std::ptr::NonNull;

use rdkafka_sys as sys;
use sys::rd_kafka_resp_err_t as E;

use super::text;

/// An error code: positive ones are the broker's, negative ones librdkafka's own, 0 is none.
///
/// A number, not the binding's `enum`: a broker newer than the library sends codes that are none of its variants.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) c_int);

// Declared with numbers for the reason above; C passes an enum as an int.
unsafe extern "C" {
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> c_int;
    fn rd_kafka_err2name(code: c_int) -> *const c_char;
    fn rd_kafka_err2str(code: c_int) -> *const c_char;
    fn rd_kafka_fatal_error(rk: *mut sys::rd_kafka_t, text: *mut c_char, size: usize) -> c_int;
}

macro_rules! codes {
    ($($name:ident = $variant:ident,)*) => {
        impl Code {
            $(pub(crate) const $name: Self = Self(E::$variant as c_int);)*
        }
    };
}

codes! {
    NONE = RD_KAFKA_RESP_ERR_NO_ERROR,
    UNKNOWN = RD_KAFKA_RESP_ERR_UNKNOWN,
    PARTITION_EOF = RD_KAFKA_RESP_ERR__PARTITION_EOF,
    AUTO_OFFSET_RESET = RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
    LOG_TRUNCATION = RD_KAFKA_RESP_ERR__LOG_TRUNCATION,
    TRANSPORT = RD_KAFKA_RESP_ERR__TRANSPORT,
    RESOLVE = RD_KAFKA_RESP_ERR__RESOLVE,
    ALL_BROKERS_DOWN = RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
    LOCAL_TIMED_OUT = RD_KAFKA_RESP_ERR__TIMED_OUT,
    LOCAL_STATE = RD_KAFKA_RESP_ERR__STATE,
    LOCAL_FATAL = RD_KAFKA_RESP_ERR__FATAL,
    LOCAL_FENCED = RD_KAFKA_RESP_ERR__FENCED,
    INCONSISTENT = RD_KAFKA_RESP_ERR__INCONSISTENT,
    QUEUE_FULL = RD_KAFKA_RESP_ERR__QUEUE_FULL,
    PURGE_QUEUE = RD_KAFKA_RESP_ERR__PURGE_QUEUE,
    PURGE_INFLIGHT = RD_KAFKA_RESP_ERR__PURGE_INFLIGHT,
    DESTROY = RD_KAFKA_RESP_ERR__DESTROY,
    MSG_TIMED_OUT = RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
    UNKNOWN_TOPIC = RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
    UNKNOWN_PARTITION = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
    GAPLESS_GUARANTEE = RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE,
    REQUEST_TIMED_OUT = RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PART = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    MSG_SIZE_TOO_LARGE = RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
    RECORD_LIST_TOO_LARGE = RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
    INVALID_TIMESTAMP = RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
    INVALID_RECORD = RD_KAFKA_RESP_ERR_INVALID_RECORD,
    POLICY_VIOLATION = RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
    TOPIC_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    CLUSTER_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    GROUP_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
    TXN_ID_AUTHORIZATION_FAILED = RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    INVALID_TRANSACTION_TIMEOUT = RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
    INVALID_PRODUCER_EPOCH = RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
    PRODUCER_FENCED = RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
    OUT_OF_ORDER_SEQUENCE = RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
    ILLEGAL_GENERATION = RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
    UNKNOWN_MEMBER_ID = RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
    FENCED_INSTANCE_ID = RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
}

impl fmt::Display for Code {
    /// Kafka's name and librdkafka's words for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: both return static strings, or one in thread-local memory for a code that is not known; each is
        // copied before the next call.
        let (name, words) = unsafe { (text(rd_kafka_err2name(self.0)), text(rd_kafka_err2str(self.0))) };
        write!(f, "{name} ({words})")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a call of librdkafka failed with.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// The client cannot be used any more.
    pub(crate) fatal: bool,
    /// The same call may succeed later.
    pub(crate) retriable: bool,
    /// The transaction must be aborted.
    pub(crate) abort: bool,
    /// Kafka's name and librdkafka's words.
    pub(crate) text: String,
}

impl Failure {
    /// Takes the error object that a call returned; null is success.
    ///
    /// # Safety
    /// `error` is null or an error object that belongs to the caller.
    pub(super) unsafe fn check(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        let Some(error) = NonNull::new(error) else {
            return Ok(());
        };
        let raw = error.as_ptr();
        // SAFETY: alive until the last line; its strings are copied.
        unsafe {
            let failure = Self {
                code: Code(rd_kafka_error_code(raw)),
                fatal: sys::rd_kafka_error_is_fatal(raw) != 0,
                retriable: sys::rd_kafka_error_is_retriable(raw) != 0,
                abort: sys::rd_kafka_error_txn_requires_abort(raw) != 0,
                text: format!(
                    "{}: {}",
                    text(sys::rd_kafka_error_name(raw)),
                    text(sys::rd_kafka_error_string(raw))
                ),
            };
            sys::rd_kafka_error_destroy(raw);
            Err(failure)
        }
    }

    /// The error that ended a client's life, if one did.
    pub(crate) fn fatal_of(client: &super::Handle) -> Option<Self> {
        let mut buffer = [0 as c_char; 512];
        // SAFETY: the client is alive; the buffer has the size given and ends in NUL afterwards.
        let (code, words) = unsafe {
            let code = rd_kafka_fatal_error(client.native_ptr(), buffer.as_mut_ptr(), buffer.len());
            (Code(code), text(buffer.as_ptr()))
        };
        let text = format!("{code}: {words}");
        (code != Code::NONE).then_some(Self {
            code,
            fatal: true,
            retriable: false,
            abort: false,
            text,
        })
    }
}
