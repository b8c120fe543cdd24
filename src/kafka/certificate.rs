//! The text for a refused certificate: why TLS refused a broker's certificate.
//!
//! librdkafka's error says only that it was refused. A callback gets OpenSSL's verdict and returns
//! a text, which librdkafka writes to its log
//! ([`log_messages`](crate::kafka::librdkafka::log_messages)).

use std::ffi::{c_char, c_int, c_void};
use std::panic::catch_unwind;

use rdkafka::bindings as rd;

/// Makes librdkafka log why it refuses a certificate. Does not change what is accepted.
pub fn report_refusals(config: *mut rd::rd_kafka_conf_t) {
    // SAFETY: `Handle::create` passes a live configuration; the function lives as long as the
    // library.
    unsafe { rd::rd_kafka_conf_set_ssl_cert_verify_cb(config, Some(verify)) };
}

/// # Safety
/// librdkafka calls it with a readable `x509_error` and a `reason` that is writable for
/// `reason_size` bytes.
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
    // SAFETY: `x509_error` is readable (contract of this function).
    let verdict = unsafe { *x509_error };
    let result = catch_unwind(|| {
        let text = description(verdict);
        let length = text.len().min(reason_size.saturating_sub(1));
        if reason_size > 0 {
            // SAFETY: `reason` is writable for `reason_size` bytes (contract of this function), of
            // which `length` is less.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), reason, length) };
            // SAFETY: as above.
            let end = unsafe { reason.add(length) };
            // SAFETY: as above.
            unsafe { *end = 0 };
        }
    });
    // A panic while writing the text does not change OpenSSL's verdict.
    drop(result);
    (verdict == X509_V_OK).into()
}

const X509_V_OK: c_int = 0;

/// OpenSSL's texts for its verdicts (openssl/x509_vfy.h) that occur in practice.
fn description(x509_error: c_int) -> &'static str {
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
