//! librdkafka's client instance: created whole or not at all, and destroyed once.

use std::ffi::c_char;
#[cfg(feature = "patched")]
use std::ffi::c_int;
use std::fmt::Display;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;
use rdkafka::types::RDKafkaErrorCode;

use super::native::text;
use super::sockets::{self, Descriptors};
use super::teardown::{self, Teardown};
use super::{codes, log_messages};
use crate::error::{Error, Kind};
use crate::fork::is_forked_child;
use crate::protection::Protection;
use crate::{resource_limit, stack};

/// A client instance. Whatever was made from it must be gone before; each such type here keeps an `Arc` of it.
pub struct Handle {
    client: NonNull<rd::rd_kafka_t>,
    has_token_since: OnceLock<Instant>,
    descriptors: Arc<Descriptors>,
}

// SAFETY: librdkafka's client handle may be used from any thread at the same time (INTRODUCTION.md, "Threads").
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// Why there is no client.
#[derive(Debug)]
pub enum NotCreated {
    /// librdkafka refuses the configuration, for this reason.
    Refused(String),
    /// A thread or a descriptor is missing.
    Limited(Error),
}

impl NotCreated {
    /// `doing` is in front of a limit's error; what a refusal means depends on where the configuration comes from.
    pub fn into_error(self, doing: impl Display, refused: impl FnOnce(String) -> Error) -> Error {
        match self {
            NotCreated::Refused(reason) => refused(reason),
            NotCreated::Limited(error) => error.context(doing),
        }
    }
}

impl Handle {
    /// A client with this configuration, whose copy `adapt` may still change.
    pub fn make(
        kind: rd::rd_kafka_type_t,
        config: &NativeClientConfig,
        adapt: impl FnOnce(*mut rd::rd_kafka_conf_t),
    ) -> std::result::Result<Self, NotCreated> {
        // OpenSSL would tear itself down among the handlers that run at exit, under clients that work on, and under
        // what the host has left to do then. Whoever sets it up first decides.
        #[cfg(feature = "tls")]
        openssl_sys::init();
        teardown::reserve().map_err(NotCreated::Limited)?;
        let descriptors = Arc::<Descriptors>::default();
        let mut why = [0 as c_char; 512];
        // SAFETY: the configuration is alive and copied; the copy is librdkafka's on success and ours on failure; the
        // buffer is as long as said. What the callbacks use lives until the client is destroyed (`Teardown`).
        let client = unsafe {
            let copy = rd::rd_kafka_conf_dup(config.ptr());
            adapt(copy);
            sockets::watch(copy, &descriptors);
            let create = || rd::rd_kafka_new(kind, copy, why.as_mut_ptr(), why.len());
            NonNull::new(stack::with(stack::FOR_CLIENT, create)).ok_or_else(|| {
                rd::rd_kafka_conf_destroy(copy);
                not_created(&text(why.as_ptr()))
            })?
        };
        // From here on it is destroyed by being dropped.
        let handle = Handle { client, has_token_since: OnceLock::new(), descriptors };
        match handle.missing_threads() {
            Some(error) => Err(NotCreated::Limited(error)),
            None => Ok(handle),
        }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_t {
        self.client.as_ptr()
    }

    /// Since when this client has a token to show to brokers, if it does.
    pub fn has_token_since(&self) -> Option<Instant> {
        self.has_token_since.get().copied()
    }

    pub fn note_token(&self) {
        self.has_token_since.get_or_init(Instant::now);
    }

    /// Whether this client ever had a connection that could be used. Without patches nobody knows, and it is presumed.
    pub fn has_reached_broker(&self) -> bool {
        #[cfg(feature = "patched")]
        // SAFETY: the client is alive.
        return unsafe { octopus_has_reached_broker(self.as_ptr()) } != 0;
        #[cfg(not(feature = "patched"))]
        true
    }

    /// The limit that keeps this client from creating a thread or a socket, or from receiving a response, now. librdkafka tries
    /// again, and it is over when that succeeds.
    pub fn limited_by(&self) -> Option<Error> {
        if !Protection::ResourceLimit.is_on() {
            return None;
        }
        self.missing_threads().or_else(|| self.descriptors.missing()).or_else(|| self.missing_memory())
    }

    /// How many connections it has, those that are being made included.
    pub fn connections(&self) -> usize {
        self.descriptors.count()
    }

    /// How many threads librdkafka has for it; unknown without patches.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "patched")]
        // SAFETY: the client is alive.
        return usize::try_from(unsafe { octopus_thread_cnt(self.as_ptr()) }).unwrap_or(0);
        #[cfg(not(feature = "patched"))]
        0
    }

    /// The error of brokers' threads that could not be started yet. Without patches they are never started, and nobody knows.
    fn missing_threads(&self) -> Option<Error> {
        #[cfg(feature = "patched")]
        {
            let mut errno = 0;
            // SAFETY: the client is alive and the place writable.
            let missing = unsafe { octopus_pending_threads(self.as_ptr(), &mut errno) };
            (missing > 0).then(|| {
                resource_limit::of_errno(format_args!("creating {missing} of librdkafka's threads for brokers"), errno)
            })
        }
        #[cfg(not(feature = "patched"))]
        None
    }

    fn missing_memory(&self) -> Option<Error> {
        #[cfg(feature = "patched")]
        {
            // SAFETY: the client is alive.
            let bytes = unsafe { octopus_lacks_memory_of(self.as_ptr()) };
            (bytes > 0).then(|| {
                resource_limit::of_errno(format_args!("allocating {bytes} bytes for a fetch response"), libc::ENOMEM)
            })
        }
        #[cfg(not(feature = "patched"))]
        None
    }
}

fn not_created(reason: &str) -> NotCreated {
    // SAFETY: reads a thread-local.
    let code = unsafe { codes::rd_kafka_last_error() };
    match log_messages::errno_of_limit(reason) {
        Some(errno) => NotCreated::Limited(resource_limit::of_errno(reason, errno)),
        None if RDKafkaErrorCode::from(code) == RDKafkaErrorCode::CriticalSystemResource => {
            NotCreated::Limited(Error::new(Kind::ResourceLimit, reason.to_owned()).retriable(true))
        }
        None => NotCreated::Refused(reason.to_owned()),
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Patch 0027.
    fn octopus_has_reached_broker(client: *mut rd::rd_kafka_t) -> c_int;
    /// Patch 0031.
    fn octopus_pending_threads(client: *mut rd::rd_kafka_t, errno: *mut c_int) -> c_int;
    /// Patch 0037.
    fn octopus_thread_cnt(client: *mut rd::rd_kafka_t) -> c_int;
    /// Patch 0033.
    fn octopus_lacks_memory_of(client: *mut rd::rd_kafka_t) -> i32;
}

impl Drop for Handle {
    /// Destroying waits for librdkafka's threads, so it never happens on a thread of the host.
    fn drop(&mut self) {
        let teardown = Teardown { client: self.client, descriptors: self.descriptors.clone() };
        if is_forked_child() {
            // The threads that destroying would wait for exist in the parent only.
            return std::mem::forget(teardown);
        }
        teardown.start();
    }
}
