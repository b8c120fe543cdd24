//! librdkafka's sockets, recorded while they are open so that forked children can close them.

use std::ffi::{c_char, c_int, c_void};

use rdkafka::bindings as rd;

use crate::fork::SOCKETS;

/// Has the sockets of clients with this configuration recorded.
///
/// # Safety
/// `config` is a configuration that is alive.
pub unsafe fn record(config: *mut rd::rd_kafka_conf_t) {
    // SAFETY: the caller's promise; the functions live as long as the library, which is never unmapped.
    unsafe {
        rd::rd_kafka_conf_set_socket_cb(config, Some(open));
        rd::rd_kafka_conf_set_closesocket_cb(config, Some(close));
        rd_kafka_conf_set_resolve_cb(config, Some(resolve));
    }
}

type Resolve = unsafe extern "C" fn(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    opaque: *mut c_void,
) -> c_int;

unsafe extern "C" {
    /// rdkafka.h; the bindings lack it.
    fn rd_kafka_conf_set_resolve_cb(config: *mut rd::rd_kafka_conf_t, resolve: Option<Resolve>);
}

/// As librdkafka's default; without a node, it gives back what was found.
unsafe extern "C" fn resolve(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    _: *mut c_void,
) -> c_int {
    // SAFETY: librdkafka's texts and places, as of getaddrinfo and freeaddrinfo.
    unsafe {
        if node.is_null() && service.is_null() && hints.is_null() {
            libc::freeaddrinfo(*found);
            return 0;
        }
        SOCKETS.resolve(|| libc::getaddrinfo(node, service, hints, found))
    }
}

/// As librdkafka's default on Linux: programs that the host starts don't inherit the socket.
unsafe extern "C" fn open(domain: c_int, kind: c_int, protocol: c_int, _: *mut c_void) -> c_int {
    // SAFETY: any numbers are allowed.
    SOCKETS.open(|| unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })
}

unsafe extern "C" fn close(socket: c_int, _: *mut c_void) -> c_int {
    // SAFETY: librdkafka's own socket, closed once.
    SOCKETS.close(socket, || unsafe { libc::close(socket) })
}
