//! librdkafka's sockets, recorded while they are open so that forked children can close them.

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use rdkafka::bindings as rd;

use crate::support::error::Error;
use crate::support::fork::SOCKETS;
use crate::support::resource_limit;

/// The sockets of a client.
#[derive(Default)]
pub struct Descriptors {
    /// The result of the last attempt to open a socket: 0, or the errno of a resource limit.
    errno: AtomicI32,
    open: AtomicUsize,
}

impl Descriptors {
    /// The error of a resource limit that prevented the last attempt to open a socket.
    pub fn limit_error(&self) -> Option<Error> {
        match self.errno.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(resource_limit::of_errno("opening a socket to a broker", errno)),
        }
    }

    /// The number of open sockets.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn note_success(&self) {
        self.errno.store(0, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the errno of the call that has just failed, if a resource limit is the cause.
    fn note_failure(&self) {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        // A name server that doesn't respond leaves EAGAIN.
        if errno != libc::EAGAIN && resource_limit::is_limit(errno) {
            self.errno.store(errno, Ordering::Relaxed);
        }
    }
}

/// Records the sockets of a client with this configuration, for forked children and in
/// `descriptors`.
///
/// # Safety
/// `config` is a live configuration; `descriptors` outlives each client that is created from it.
pub unsafe fn record_sockets(config: *mut rd::rd_kafka_conf_t, descriptors: &Descriptors) {
    let opaque = (&raw const *descriptors).cast_mut().cast();
    // SAFETY: `config` is alive and `descriptors` outlives its clients (contract of this function).
    unsafe { rd::rd_kafka_conf_set_opaque(config, opaque) };
    // SAFETY: `config` is alive; the function lives as long as the library, which is never
    // unmapped.
    unsafe { rd::rd_kafka_conf_set_socket_cb(config, Some(open)) };
    // SAFETY: as above.
    unsafe { rd::rd_kafka_conf_set_closesocket_cb(config, Some(close)) };
    // SAFETY: as above.
    unsafe { rd_kafka_conf_set_resolve_cb(config, Some(resolve)) };
}

pub(super) type Resolve = unsafe extern "C" fn(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    opaque: *mut c_void,
) -> c_int;

unsafe extern "C" {
    /// Declared in rdkafka.h and missing in the bindings.
    pub fn rd_kafka_conf_set_resolve_cb(config: *mut rd::rd_kafka_conf_t, resolve: Option<Resolve>);
}

/// As librdkafka's default; without a node it frees the addresses in `found`.
///
/// # Safety
/// librdkafka calls it with the arguments of getaddrinfo, or, without a node, with the list of an
/// earlier call, and with the opaque pointer that `record_sockets` set.
unsafe extern "C" fn resolve(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    descriptors: *mut c_void,
) -> c_int {
    if node.is_null() && service.is_null() && hints.is_null() {
        // SAFETY: `found` has the list of an earlier call (contract of this function).
        let addresses = unsafe { *found };
        // SAFETY: the list is from getaddrinfo and is not used again.
        unsafe { libc::freeaddrinfo(addresses) };
        return 0;
    }
    // SAFETY: `descriptors` is the pointer of `record_sockets`, whose caller keeps the object
    // alive.
    let descriptors = unsafe { &*descriptors.cast::<Descriptors>() };
    SOCKETS.resolve(|| {
        // SAFETY: has no precondition.
        let errno = unsafe { libc::__errno_location() };
        // getaddrinfo sets errno only if a system call fails.
        // SAFETY: errno is writable by its thread.
        unsafe { *errno = 0 };
        // SAFETY: the arguments are those of getaddrinfo (contract of this function).
        let code = unsafe { libc::getaddrinfo(node, service, hints, found) };
        // Success does not clear the error: a numeric address resolves without a descriptor.
        if code != 0 {
            descriptors.note_failure();
        }
        code
    })
}

/// As librdkafka's default on Linux: child processes of the host don't inherit the socket.
///
/// # Safety
/// librdkafka calls it with the opaque pointer that `record_sockets` set.
unsafe extern "C" fn open(domain: c_int, kind: c_int, protocol: c_int, descriptors: *mut c_void) -> c_int {
    // SAFETY: `descriptors` is the pointer of `record_sockets`, whose caller keeps the object
    // alive.
    let descriptors = unsafe { &*descriptors.cast::<Descriptors>() };
    SOCKETS.open(|| {
        // SAFETY: has no precondition; socket rejects wrong numbers.
        let socket = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
        match socket {
            -1 => descriptors.note_failure(),
            _ => descriptors.note_success(),
        }
        socket
    })
}

/// # Safety
/// librdkafka calls it with an open socket of its own and the opaque pointer that `record_sockets`
/// set.
unsafe extern "C" fn close(socket: c_int, descriptors: *mut c_void) -> c_int {
    // SAFETY: `descriptors` is the pointer of `record_sockets`, whose caller keeps the object
    // alive.
    unsafe { (*descriptors.cast::<Descriptors>()).open.fetch_sub(1, Ordering::Relaxed) };
    // SAFETY: librdkafka closes its own open socket, once.
    SOCKETS.close(socket, || unsafe { libc::close(socket) })
}
