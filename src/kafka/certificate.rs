//! Why a broker's certificate is refused. librdkafka's error says only that it is; what OpenSSL found comes by a callback,
//! whose text librdkafka puts into its log ([`log_messages`](super::log_messages)).

use std::ffi::{c_char, c_int, c_void};
use std::panic::catch_unwind;

use rdkafka::bindings as rd;

/// Has librdkafka tell, and changes nothing of what is accepted.
pub fn tell_refusals(config: *mut rd::rd_kafka_conf_t) {
    // SAFETY: the configuration is alive; a function lives for ever.
    unsafe { rd::rd_kafka_conf_set_ssl_cert_verify_cb(config, Some(verify)) };
}

unsafe extern "C" fn verify(
    _client: *mut rd::rd_kafka_t,
    _broker: *const c_char,
    _broker_id: i32,
    x509_error: *mut c_int,
    _depth: c_int,
    _certificate: *const c_char,
    _size: usize,
    reason: *mut c_char,
    reason_size: usize,
    _opaque: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka's place, which it reads again when this returns.
    let found = unsafe { *x509_error };
    let told = catch_unwind(|| {
        let text = meaning(found);
        let fitting = text.len().min(reason_size.saturating_sub(1));
        if reason_size > 0 {
            // SAFETY: librdkafka's buffer of that size; the text and the NUL fit. An empty buffer is left alone.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr().cast(), reason, fitting);
                *reason.add(fitting) = 0;
            }
        }
    });
    // Whatever became of the telling, OpenSSL's verdict stands.
    drop(told);
    (found == X509_V_OK).into()
}

const X509_V_OK: c_int = 0;

/// OpenSSL's verdicts (openssl/x509_vfy.h) that users meet, in its words.
fn meaning(x509_error: c_int) -> &'static str {
    match x509_error {
        X509_V_OK => "",
        2 | 20 => "unable to get local issuer certificate",
        9 => "certificate is not yet valid",
        10 => "certificate has expired",
        18 => "self-signed certificate",
        19 => "self-signed certificate in certificate chain",
        21 => "unable to verify the first certificate",
        23 => "certificate revoked",
        26 => "unsuitable certificate purpose",
        62 => "hostname mismatch",
        64 => "IP address mismatch",
        66 | 67 => "certificate's key or digest too weak",
        _ => "certificate verify failed",
    }
}
