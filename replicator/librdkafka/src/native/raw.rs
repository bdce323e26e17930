//! For tests: writing and reading records of any bytes.

use std::ffi::{CStr, c_char, c_void};

use rdkafka_sys as sys;
use sys::rd_kafka_vtype_t as V;

use super::{Failure, Handle, Headers, Topic};

/// A list of headers; values may be null.
pub(crate) type RawHeaders = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// A record with any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp: i64,
    pub(crate) headers: RawHeaders,
}

/// Queues a copy of a record.
pub(crate) fn produce_copy(producer: &Handle, topic: &Topic, partition: i32, record: &Raw) {
    type U = sys::rd_kafka_vu_s__bindgen_ty_1;
    let bytes = |bytes: &Option<Vec<u8>>| {
        // An empty vector's pointer is not null, so null and empty stay apart.
        let (ptr, size) = bytes
            .as_ref()
            .map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
        U {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: ptr.cast_mut().cast::<c_void>(),
                size,
            },
        }
    };
    let mut headers = Headers::new();
    for (key, value) in &record.headers {
        headers.append(key, value.as_deref());
    }
    let field = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
    let fields = [
        field(
            V::RD_KAFKA_VTYPE_RKT,
            U {
                rkt: topic.raw.as_ptr(),
            },
        ),
        field(V::RD_KAFKA_VTYPE_PARTITION, U { i32_: partition }),
        field(
            V::RD_KAFKA_VTYPE_MSGFLAGS,
            U {
                i: sys::RD_KAFKA_MSG_F_COPY,
            },
        ),
        field(V::RD_KAFKA_VTYPE_VALUE, bytes(&record.value)),
        field(V::RD_KAFKA_VTYPE_KEY, bytes(&record.key)),
        field(
            V::RD_KAFKA_VTYPE_TIMESTAMP,
            U {
                i64_: record.timestamp,
            },
        ),
        field(
            V::RD_KAFKA_VTYPE_HEADERS,
            U {
                headers: headers.list(),
            },
        ),
    ];
    // SAFETY: everything is alive and copied; the headers are taken on success.
    let result = unsafe {
        Failure::check(sys::rd_kafka_produceva(
            producer.native_ptr(),
            fields.as_ptr(),
            fields.len(),
        ))
    };
    result.unwrap();
    std::mem::forget(headers);
}

/// All headers in order.
pub(crate) fn list(headers: &Headers) -> RawHeaders {
    let mut all = Vec::new();
    let (mut key, mut value, mut size) = (std::ptr::null::<c_char>(), std::ptr::null::<c_void>(), 0_usize);
    for at in 0.. {
        // SAFETY: the list is alive; what it points to is copied.
        unsafe {
            let code = sys::rd_kafka_header_get_all(headers.list(), at, &mut key, &mut value, &mut size);
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return all;
            }
            let bytes =
                (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            all.push((CStr::from_ptr(key).to_bytes().to_vec(), bytes));
        }
    }
    all
}
