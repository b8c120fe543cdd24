//! Lets librdkafka authenticate by [`Kerberos`]. Patch 0058 calls these functions in the threads of
//! brokers.

use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::bindings as rd;

use super::text::{text, write_text};
use crate::auth::kerberos::{Exchange, Kerberos, Step};

/// Kerberos for a client, and what librdkafka reads of it.
pub struct KerberosOfClient {
    functions: Functions,
    _kerberos: Box<Kerberos>,
}

/// `octopus_sasl_t` of patch 0058.
#[repr(C)]
struct Functions {
    context: *const c_void,
    begin: unsafe extern "C" fn(*const c_void, *const c_char) -> *mut Running,
    step: unsafe extern "C" fn(
        *mut Running,
        *const c_void,
        usize,
        *mut *const c_void,
        *mut usize,
        *mut c_char,
        usize,
    ) -> c_int,
    end: unsafe extern "C" fn(*mut Running),
}

/// An exchange, and what it has sent last.
struct Running {
    exchange: Exchange,
    sent: Vec<u8>,
}

// SAFETY: the pointer is to the other field, which is never changed, and read by any thread.
unsafe impl Send for KerberosOfClient {}
// SAFETY: as above.
unsafe impl Sync for KerberosOfClient {}

impl KerberosOfClient {
    pub fn new(kerberos: Kerberos) -> Self {
        let kerberos = Box::new(kerberos);
        let functions = Functions { context: (&raw const *kerberos).cast(), begin, step, end };
        KerberosOfClient { functions, _kerberos: kerberos }
    }

    /// Lets clients with this configuration authenticate by Kerberos.
    ///
    /// # Safety
    /// `config` is a live configuration; `self` outlives each client that is created from it, and
    /// is not moved.
    pub(super) unsafe fn use_for(&self, config: *mut rd::rd_kafka_conf_t) {
        // SAFETY: `config` is alive and `self` outlives its clients (contract of this function).
        unsafe { octopus_conf_set_sasl(config, &raw const self.functions) };
    }
}

unsafe extern "C" {
    /// Patch 0058.
    fn octopus_conf_set_sasl(config: *mut rd::rd_kafka_conf_t, sasl: *const Functions);
}

/// # Safety
/// `context` is the one of [`Functions`]; `host` is a NUL-terminated text.
unsafe extern "C" fn begin(context: *const c_void, host: *const c_char) -> *mut Running {
    // SAFETY: patch 0058 passes the context, which the client keeps.
    let kerberos = unsafe { &*context.cast::<Kerberos>() };
    // SAFETY: patch 0058 passes the name of the broker's host.
    let host = unsafe { text(host) };
    Box::into_raw(Box::new(Running { exchange: kerberos.begin(&host), sent: Vec::new() }))
}

/// # Safety
/// `running` was returned by [`begin`] and not freed; `input` is NULL or has `input_size` bytes;
/// the other pointers are writable, `reason` for `reason_size` bytes.
unsafe extern "C" fn step(
    running: *mut Running,
    input: *const c_void,
    input_size: usize,
    output: *mut *const c_void,
    output_size: *mut usize,
    reason: *mut c_char,
    reason_size: usize,
) -> c_int {
    // SAFETY: `begin` returned it, and one thread uses it, that of its broker.
    let running = unsafe { &mut *running };
    let input = match input.is_null() {
        true => &[],
        // SAFETY: librdkafka passes what the broker has sent (fn contract).
        false => unsafe { std::slice::from_raw_parts(input.cast::<u8>(), input_size) },
    };
    let error = match catch_unwind(AssertUnwindSafe(|| running.exchange.step(input))) {
        Ok(Ok(Step::Done)) => return 1,
        Ok(Ok(Step::Send(bytes))) => {
            running.sent = bytes;
            // SAFETY: patch 0058 passes variables of its own.
            unsafe { output.write(running.sent.as_ptr().cast()) };
            // SAFETY: as above.
            unsafe { output_size.write(running.sent.len()) };
            return 0;
        }
        Ok(Err(error)) => error,
        Err(_) => "a panic in the exchange, which is a fault of Octopus".to_owned(),
    };
    // SAFETY: the buffer has `reason_size` bytes (fn contract).
    unsafe { write_text(&error, reason, reason_size) };
    -1
}

/// # Safety
/// `running` was returned by [`begin`], and is not used afterwards.
unsafe extern "C" fn end(running: *mut Running) {
    // SAFETY: `begin` has made it of a box, and nobody uses it any more (fn contract).
    drop(unsafe { Box::from_raw(running) });
}
