//! Bearer tokens: librdkafka asks for one on a thread of its own, so that neither reading nor writing waits for whoever gives them.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use kuroshio_core::secret::Token;
use rdkafka::client::Client;
use rdkafka_sys as sys;

use super::{Context, text};

/// Kafka takes the name from the token; librdkafka wants one of its own.
const PRINCIPAL: &CStr = c"kuroshio";

/// Makes a client of this configuration ask for tokens, once it [`begin`]s.
pub(super) fn ask_for(conf: *mut sys::rd_kafka_conf_t) {
    // SAFETY: the configuration object is alive and ours; the callback lives as long as the program.
    unsafe {
        sys::rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, Some(refresh));
        sys::rd_kafka_conf_enable_sasl_queue(conf, 1);
    }
}

/// Lets the client ask on its background thread.
pub(super) fn begin(client: &Client<Context>) {
    // SAFETY: the client is alive; an error is ours to destroy.
    unsafe {
        let error = sys::rd_kafka_sasl_background_callbacks_enable(client.native_ptr());
        if !error.is_null() {
            let why = text(sys::rd_kafka_error_string(error));
            tracing::error!(
                client = client.context().name,
                error = why,
                "tokens cannot be asked for"
            );
            sys::rd_kafka_error_destroy(error);
        }
    }
}

/// Called by librdkafka when it has no token, and when four fifths of the last one's time are over.
unsafe extern "C" fn refresh(client: *mut sys::rd_kafka_t, _config: *const c_char, opaque: *mut c_void) {
    // SAFETY: the opaque of a client is its context (rdkafka's `Client::new`), and destroying the client, before the context, waits for this
    // thread. It is only read.
    let Some(context) = (unsafe { opaque.cast::<Context>().as_ref() }) else {
        return;
    };
    let Some(tokens) = &context.tokens else { return };
    let set = tokens.get().and_then(|token| set(client, &token));
    let Err(why) = set else { return };
    tracing::warn!(client = context.name, error = why, "no token");
    let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
    // SAFETY: the client is alive while its callback runs; the text is copied. It asks again after ten seconds.
    unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client, why.as_ptr()) };
}

fn set(client: *mut sys::rd_kafka_t, token: &Token) -> Result<(), String> {
    let value = CString::new(token.value.reveal()).map_err(|_| "the token holds a zero byte".to_owned())?;
    let mut words = [0; 512];
    // SAFETY: the client is alive while its callback runs; all texts are copied; the buffer is as long as is said, and ends with a zero.
    let (code, why) = unsafe {
        let code = sys::rd_kafka_oauthbearer_set_token(
            client,
            value.as_ptr(),
            token.expires,
            PRINCIPAL.as_ptr(),
            ptr::null_mut(),
            0,
            words.as_mut_ptr(),
            words.len(),
        );
        (code, text(words.as_ptr()))
    };
    if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(())
    } else {
        Err(why)
    }
}
