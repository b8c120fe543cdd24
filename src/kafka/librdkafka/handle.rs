//! librdkafka's client instance: created with all of its threads or not at all, and destroyed once.

use std::ffi::c_char;
#[cfg(feature = "patched")]
use std::ffi::c_int;
use std::fmt::Display;
use std::ops::Add;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;
use rdkafka::types::RDKafkaErrorCode;
use serde::Serialize;

use super::extensions::Extensions;
use super::sockets::{self, Descriptors};
use super::teardown::{self, Teardown};
use super::text::text;
use super::{codes, conf, log_messages};
use crate::support::error::{Error, Kind};
use crate::support::fork::is_forked_child;
use crate::support::protection::Protection;
use crate::support::{resource_limit, stack};

/// A client instance. All objects created from it must be destroyed before it; each type of this
/// module that wraps such an object holds an `Arc` of the handle.
pub struct Handle {
    client: NonNull<rd::rd_kafka_t>,
    has_token_since: OnceLock<Instant>,
    counters: Arc<LastCounters>,
    descriptors: Arc<Descriptors>,
    extensions: Extensions,
}

// SAFETY: librdkafka's client handle may be used from any thread at the same time (INTRODUCTION.md,
// "Threads").
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// `octopus_counters_t` of patch 0057: of all connections of a client, from its creation on.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Requests that were repeated.
    pub retries: u64,
    /// Requests without a response in time.
    pub request_timeouts: u64,
    /// Attempts to connect.
    pub connects: u64,
    pub disconnects: u64,
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Counters {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            retries: self.retries + other.retries,
            request_timeouts: self.request_timeouts + other.request_timeouts,
            connects: self.connects + other.connects,
            disconnects: self.disconnects + other.disconnects,
        }
    }
}

/// The counters of a client, and whether it has ended.
#[derive(Default)]
pub struct LastCounters(Mutex<(Counters, bool)>);

impl LastCounters {
    pub fn get(&self) -> (Counters, bool) {
        *self.0.lock()
    }
}

/// Why a client was not created.
#[derive(Debug)]
pub enum NotCreated {
    /// librdkafka rejects the configuration, for this reason.
    Rejected(String),
    /// A resource limit prevented a thread or a descriptor.
    Limited(Error),
}

impl NotCreated {
    /// `operation` is the context of a limit's error; `rejected` makes the error of a rejected
    /// configuration, which depends on where the configuration comes from.
    pub fn into_error(self, operation: impl Display, rejected: impl FnOnce(String) -> Error) -> Error {
        match self {
            NotCreated::Rejected(reason) => rejected(reason),
            NotCreated::Limited(error) => error.context(operation),
        }
    }
}

impl Handle {
    /// Creates a client from a copy of this configuration, which `adapt` may change.
    pub fn create(
        kind: rd::rd_kafka_type_t,
        config: &NativeClientConfig,
        extensions: Extensions,
        adapt: impl FnOnce(*mut rd::rd_kafka_conf_t),
    ) -> std::result::Result<Self, NotCreated> {
        // By default OpenSSL frees its state in an exit handler, while clients and the host's own
        // exit handlers still use it. The first initialization of the process decides; openssl-sys'
        // omits the handler.
        #[cfg(feature = "tls")]
        openssl_sys::init();
        teardown::reserve().map_err(NotCreated::Limited)?;
        let descriptors = Arc::<Descriptors>::default();
        let mut reason = [0 as c_char; 512];
        // SAFETY: `config` is alive and copied.
        let copy = unsafe { rd::rd_kafka_conf_dup(config.ptr()) };
        adapt(copy);
        // SAFETY: `copy` is alive, and `Teardown` keeps `descriptors` until the client is
        // destroyed.
        unsafe { sockets::record_sockets(copy, &descriptors) };
        if let Some(proxy) = &extensions.proxy {
            // SAFETY: `copy` is alive, and `Teardown` keeps the proxy as long as the client.
            unsafe { proxy.use_for(copy) };
        }
        #[cfg(all(feature = "gssapi", feature = "patched"))]
        if let Some(kerberos) = &extensions.kerberos {
            // SAFETY: as above.
            unsafe { kerberos.use_for(copy) };
        }
        // SAFETY: `copy` is alive, and librdkafka owns it on success; the buffer has the given
        // length.
        let create = || unsafe { rd::rd_kafka_new(kind, copy, reason.as_mut_ptr(), reason.len()) };
        let Some(client) = NonNull::new(stack::with(stack::FOR_CLIENT, create)) else {
            // SAFETY: the call failed, so this function still owns `copy`.
            unsafe { rd::rd_kafka_conf_destroy(copy) };
            // SAFETY: the call failed, so librdkafka has written a NUL-terminated text.
            let reason = unsafe { text(reason.as_ptr()) };
            return Err(not_created(&match conf::unreadable_file(config) {
                Some(file) => format!("{reason} - {file}"),
                None => reason.to_string(),
            }));
        };
        // From here on, dropping the handle destroys the client.
        let handle =
            Handle { client, has_token_since: OnceLock::new(), counters: Arc::default(), descriptors, extensions };
        match handle.missing_threads() {
            Some(error) => Err(NotCreated::Limited(error)),
            None => Ok(handle),
        }
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_t {
        self.client.as_ptr()
    }

    /// When this client received its first token.
    pub fn has_token_since(&self) -> Option<Instant> {
        self.has_token_since.get().copied()
    }

    pub fn note_token(&self) {
        self.has_token_since.get_or_init(Instant::now);
    }

    /// How long this client has its current token, in milliseconds. Without patches it is unknown.
    pub fn token_age_ms(&self) -> Option<u64> {
        #[cfg(feature = "patched")]
        // SAFETY: `self` keeps the client alive.
        return u64::try_from(unsafe { octopus_token_age_ms(self.as_ptr()) }).ok();
        #[cfg(not(feature = "patched"))]
        None
    }

    /// The counters as [`read_counters`](Self::read_counters) has read them last, or as of the end
    /// of the client.
    pub fn last_counters(&self) -> Arc<LastCounters> {
        self.counters.clone()
    }

    pub fn read_counters(&self) {
        // Under the lock, so that an older reading does not replace a newer one.
        let mut last = self.counters.0.lock();
        last.0 = self.current_counters();
    }

    /// Without patches they are 0.
    fn current_counters(&self) -> Counters {
        #[cfg(feature = "patched")]
        {
            let mut counters = Counters::default();
            // SAFETY: `self` keeps the client alive; `counters` is writable, and of the patch's
            // type.
            unsafe { octopus_counters(self.as_ptr(), &mut counters) };
            counters
        }
        #[cfg(not(feature = "patched"))]
        Counters::default()
    }

    /// Whether this client ever had a usable connection. Without patches this is unknown; true is
    /// presumed.
    pub fn has_reached_broker(&self) -> bool {
        #[cfg(feature = "patched")]
        // SAFETY: `self` keeps the client alive.
        return unsafe { octopus_has_reached_broker(self.as_ptr()) } != 0;
        #[cfg(not(feature = "patched"))]
        true
    }

    /// Whether a broker has ever responded to a Metadata request of this client. Unlike a
    /// connection, this shows that brokers accept the client.
    pub fn knows_cluster(&self) -> bool {
        // SAFETY: `self` keeps the client alive. With a timeout of 0 the call only copies the known
        // id, which this function owns.
        let id = unsafe { rd::rd_kafka_clusterid(self.as_ptr(), 0) };
        if !id.is_null() {
            // SAFETY: librdkafka allocated `id` for this client, and nothing uses it any more.
            unsafe { rd::rd_kafka_mem_free(self.as_ptr(), id.cast()) };
        }
        !id.is_null()
    }

    /// The resource limit that currently prevents a thread, a socket or the memory of a response.
    /// librdkafka retries; the error ends when it succeeds.
    pub fn limit_error(&self) -> Option<Error> {
        if !Protection::ResourceLimit.is_on() {
            return None;
        }
        self.missing_threads().or_else(|| self.descriptors.limit_error()).or_else(|| self.missing_memory())
    }

    /// The number of connections, including those that are being established.
    pub fn connections(&self) -> usize {
        self.descriptors.count()
    }

    /// The number of librdkafka's threads for this client; 0 without patches, where it is unknown.
    pub fn threads(&self) -> usize {
        #[cfg(feature = "patched")]
        // SAFETY: `self` keeps the client alive.
        return usize::try_from(unsafe { octopus_thread_cnt(self.as_ptr()) }).unwrap_or(0);
        #[cfg(not(feature = "patched"))]
        0
    }

    /// The error of broker threads that could not be created yet. Without patches librdkafka
    /// neither retries nor reports them.
    fn missing_threads(&self) -> Option<Error> {
        #[cfg(feature = "patched")]
        {
            let mut errno = 0;
            // SAFETY: `self` keeps the client alive; `errno` is writable.
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
            // SAFETY: `self` keeps the client alive.
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
    // SAFETY: has no precondition; reads a thread-local.
    let code = unsafe { codes::rd_kafka_last_error() };
    match log_messages::errno_of_limit(reason) {
        Some(errno) => NotCreated::Limited(resource_limit::of_errno(reason, errno)),
        None if RDKafkaErrorCode::from(code) == RDKafkaErrorCode::CriticalSystemResource => {
            NotCreated::Limited(Error::new(Kind::ResourceLimit, reason.to_owned()).retriable(true))
        }
        None => NotCreated::Rejected(reason.to_owned()),
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Patch 0057.
    fn octopus_counters(client: *mut rd::rd_kafka_t, counters: *mut Counters);
    /// Patch 0057.
    fn octopus_token_age_ms(client: *mut rd::rd_kafka_t) -> i64;
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
    /// Destroying waits for librdkafka's threads, so that it never runs on a thread of the host.
    fn drop(&mut self) {
        if !is_forked_child() {
            let mut last = self.counters.0.lock();
            *last = (self.current_counters(), true);
        }
        let teardown = Teardown {
            client: self.client,
            descriptors: self.descriptors.clone(),
            extensions: std::mem::take(&mut self.extensions),
        };
        if is_forked_child() {
            // The threads that it would wait for exist only in the parent.
            return std::mem::forget(teardown);
        }
        teardown.start();
    }
}
