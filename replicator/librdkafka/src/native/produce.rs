//! Handing a consumed record to the producer without copying its value.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use rdkafka_sys as sys;
use sys::rd_kafka_vtype_t as V;

use super::{Code, Consumed, Failure, Handle, Topic};

/// A record's headers as librdkafka keeps them. Keys and values are bytes.
pub(crate) struct Headers(NonNull<sys::rd_kafka_headers_t>);

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_headers_destroy(self.0.as_ptr()) };
    }
}

impl Headers {
    /// Takes the headers out of a consumed record; `Ok(None)`: it has none.
    pub(crate) fn take(message: &mut Consumed) -> Result<Option<Self>, String> {
        let mut list = std::ptr::null_mut();
        // SAFETY: the message is alive; on success the list is parsed from its bytes, copied, and becomes ours.
        let code = unsafe { sys::rd_kafka_message_detach_headers(message.raw(), &mut list) };
        match code {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(NonNull::new(list).map(Self)),
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => Ok(None),
            other => Err(format!("its headers cannot be read: {}", Code(other as i32))),
        }
    }

    #[cfg(test)]
    pub(super) fn list(&self) -> *mut sys::rd_kafka_headers_t {
        self.0.as_ptr()
    }

    /// An empty list with room for one header.
    pub(crate) fn new() -> Self {
        // SAFETY: no preconditions.
        let list = unsafe { sys::rd_kafka_headers_new(1) };
        // librdkafka ends the process when memory is out; it never returns null.
        NonNull::new(list).map_or_else(|| std::process::abort(), Self)
    }

    /// Bytes of all keys (up to a NUL, if one contains it) and values.
    pub(crate) fn size(&self) -> usize {
        let mut total = 0;
        let (mut key, mut value, mut size) =
            (std::ptr::null::<c_char>(), std::ptr::null::<c_void>(), 0_usize);
        for at in 0.. {
            // SAFETY: the list is alive; key is a NUL-terminated string of the list.
            unsafe {
                let code = sys::rd_kafka_header_get_all(self.0.as_ptr(), at, &mut key, &mut value, &mut size);
                if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    break;
                }
                total += CStr::from_ptr(key).count_bytes() + size;
            }
        }
        total
    }

    /// Removes every header with exactly this key.
    pub(crate) fn remove(&mut self, key: &CStr) {
        // SAFETY: the list is alive and ours alone. The only error says that there was none.
        unsafe { sys::rd_kafka_header_remove(self.0.as_ptr(), key.as_ptr()) };
    }

    /// Adds a header behind all others.
    pub(crate) fn append(&mut self, key: &[u8], value: Option<&[u8]>) {
        let size = |bytes: &[u8]| isize::try_from(bytes.len()).unwrap_or(isize::MAX);
        let (start, length) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), size(value)));
        // SAFETY: the list is alive and ours alone; key and value are copied.
        unsafe {
            sys::rd_kafka_header_add(
                self.0.as_ptr(),
                key.as_ptr().cast::<c_char>(),
                size(key),
                start.cast::<c_void>(),
                length,
            );
        }
    }
}

/// A record to produce. The value's bytes are not copied.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a Topic,
    pub(crate) partition: i32,
    pub(crate) message: &'a Consumed,
    /// Milliseconds; not 0, which librdkafka replaces by the present time.
    pub(crate) timestamp: i64,
    /// Comes back with the delivery report.
    pub(crate) ticket: usize,
}

/// Hands a record to the producer.
///
/// # Errors
/// The headers come back with the failure; the record was not taken.
///
/// # Safety
/// After success `record.message` must stay alive until its delivery report was taken from the producer's queue,
/// or the producer was destroyed.
pub(crate) unsafe fn produce(
    producer: &Handle,
    record: &Outgoing<'_>,
    headers: Headers,
) -> Result<(), (Failure, Headers)> {
    let pointer = |bytes: Option<&[u8]>| {
        let (ptr, size) = bytes.map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
        sys::rd_kafka_vu_s__bindgen_ty_1 {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: ptr.cast_mut().cast::<c_void>(),
                size,
            },
        }
    };
    type U = sys::rd_kafka_vu_s__bindgen_ty_1;
    let field = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
    let fields = [
        field(
            V::RD_KAFKA_VTYPE_RKT,
            U {
                rkt: record.topic.raw.as_ptr(),
            },
        ),
        field(
            V::RD_KAFKA_VTYPE_PARTITION,
            U {
                i32_: record.partition,
            },
        ),
        field(V::RD_KAFKA_VTYPE_VALUE, pointer(record.message.value())),
        field(V::RD_KAFKA_VTYPE_KEY, pointer(record.message.key())),
        field(
            V::RD_KAFKA_VTYPE_TIMESTAMP,
            U {
                i64_: record.timestamp,
            },
        ),
        field(
            V::RD_KAFKA_VTYPE_HEADERS,
            U {
                headers: headers.0.as_ptr(),
            },
        ),
        field(
            V::RD_KAFKA_VTYPE_OPAQUE,
            U {
                ptr: record.ticket as *mut c_void,
            },
        ),
    ];
    // SAFETY: the producer, its topic handle and all pointers are alive; librdkafka copies the key, takes the
    // headers on success, and only points to the value, which the caller keeps. Without MSG_F_FREE it never frees
    // the value.
    let result = unsafe {
        Failure::check(sys::rd_kafka_produceva(
            producer.native_ptr(),
            fields.as_ptr(),
            fields.len(),
        ))
    };
    match result {
        Ok(()) => {
            // They belong to the producer's message now.
            std::mem::forget(headers);
            Ok(())
        }
        Err(failure) => Err((failure, headers)),
    }
}

/// Makes the producer give up all that it holds.
pub(crate) fn purge(producer: &Handle) {
    // SAFETY: the producer is alive. The only errors are of a consumer and of wrong flags.
    unsafe {
        sys::rd_kafka_purge(
            producer.native_ptr(),
            sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT,
        )
    };
}
