//! librdkafka's sockets, recorded while they are open so that forked children can close them.

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use rdkafka::bindings as rd;

use crate::error::Error;
use crate::fork::SOCKETS;
use crate::resource_limit;

/// A client's sockets.
#[derive(Default)]
pub struct Descriptors {
    /// Of the last attempt to open one: 0, or the errno of a limit.
    errno: AtomicI32,
    open: AtomicUsize,
}

impl Descriptors {
    pub fn missing(&self) -> Option<Error> {
        match self.errno.load(Ordering::Relaxed) {
            0 => None,
            errno => Some(resource_limit::of_errno("opening a socket to a broker", errno)),
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn note_success(&self) {
        self.errno.store(0, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps the errno of the call that just failed, if a limit is the cause.
    fn note_failure(&self) {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        // A name server that doesn't answer leaves EAGAIN.
        if errno != libc::EAGAIN && resource_limit::is_limit(errno) {
            self.errno.store(errno, Ordering::Relaxed);
        }
    }
}

/// Has the sockets of a client with this configuration recorded, for forked children, and noted in `descriptors`.
///
/// # Safety
/// `config` is a configuration that is alive; `descriptors` live as long as a client that is made of it.
pub unsafe fn watch(config: *mut rd::rd_kafka_conf_t, descriptors: &Descriptors) {
    // SAFETY: the caller's promise; the functions live as long as the library, which is never unmapped.
    unsafe {
        rd::rd_kafka_conf_set_opaque(config, (&raw const *descriptors).cast_mut().cast());
        rd::rd_kafka_conf_set_socket_cb(config, Some(open));
        rd::rd_kafka_conf_set_closesocket_cb(config, Some(close));
        rd_kafka_conf_set_resolve_cb(config, Some(resolve));
    }
}

pub(super) type Resolve = unsafe extern "C" fn(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    opaque: *mut c_void,
) -> c_int;

unsafe extern "C" {
    /// rdkafka.h; the bindings lack it.
    pub(super) fn rd_kafka_conf_set_resolve_cb(config: *mut rd::rd_kafka_conf_t, resolve: Option<Resolve>);
}

/// As librdkafka's default; without a node, it gives back what was found.
unsafe extern "C" fn resolve(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    descriptors: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka's texts and places, as of getaddrinfo and freeaddrinfo; the opaque pointer is set by `watch`.
    unsafe {
        if node.is_null() && service.is_null() && hints.is_null() {
            libc::freeaddrinfo(*found);
            return 0;
        }
        SOCKETS.resolve(|| {
            // It leaves an errno only where a system call failed.
            *libc::__errno_location() = 0;
            let code = libc::getaddrinfo(node, service, hints, found);
            // Success proves nothing: a number resolves without a descriptor.
            if code != 0 {
                (*descriptors.cast::<Descriptors>()).note_failure();
            }
            code
        })
    }
}

/// As librdkafka's default on Linux: programs that the host starts don't inherit the socket.
unsafe extern "C" fn open(domain: c_int, kind: c_int, protocol: c_int, descriptors: *mut c_void) -> c_int {
    // SAFETY: the opaque pointer is set by `watch`, whose caller keeps the object alive.
    let descriptors = unsafe { &*descriptors.cast::<Descriptors>() };
    SOCKETS.open(|| {
        // SAFETY: any numbers are allowed.
        let socket = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
        match socket {
            -1 => descriptors.note_failure(),
            _ => descriptors.note_success(),
        }
        socket
    })
}

unsafe extern "C" fn close(socket: c_int, descriptors: *mut c_void) -> c_int {
    // SAFETY: the opaque pointer is set by `watch`, whose caller keeps the object alive.
    unsafe { (*descriptors.cast::<Descriptors>()).open.fetch_sub(1, Ordering::Relaxed) };
    // SAFETY: librdkafka's own socket, closed once.
    SOCKETS.close(socket, || unsafe { libc::close(socket) })
}
