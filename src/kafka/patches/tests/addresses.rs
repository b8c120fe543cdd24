//! Connections: the addresses of a broker, and how often they are tried.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::TcpListener;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::mocking::MockCluster;

use super::{PATIENCE, RawClient};
use crate::kafka::librdkafka::sockets::rd_kafka_conf_set_resolve_cb;
use crate::kafka::librdkafka::text::text;

/// The addresses of the name `several`: some that refuse connections, and one that a cluster
/// listens on.
static SEVERAL: AtomicPtr<libc::addrinfo> = AtomicPtr::new(null_mut());

/// # Safety
/// librdkafka calls it with the arguments of getaddrinfo, or, without a node, with the list of an
/// earlier call.
unsafe extern "C" fn resolve(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
    _: *mut c_void,
) -> c_int {
    let several = SEVERAL.load(Ordering::Acquire);
    // SAFETY: the texts are NUL-terminated, and `found` is writable or has the list of an earlier
    // call (contract of this function).
    unsafe {
        if node.is_null() {
            if *found != several {
                libc::freeaddrinfo(*found);
            }
            0
        } else if CStr::from_ptr(node) == c"several" {
            *found = several;
            0
        } else {
            libc::getaddrinfo(node, service, hints, found)
        }
    }
}

/// A list of addresses with these ports.
fn addresses(ports: impl DoubleEndedIterator<Item = u16>) -> *mut libc::addrinfo {
    // SAFETY: all fields of addrinfo may be zero. One type of socket makes one element per address.
    let hints = libc::addrinfo { ai_socktype: libc::SOCK_STREAM, ..unsafe { std::mem::zeroed() } };
    ports.rev().fold(null_mut(), |next, port| {
        let mut address = null_mut();
        let service = std::ffi::CString::new(port.to_string()).unwrap();
        // SAFETY: the texts are NUL-terminated and `address` is writable; on success the list has
        // one element.
        unsafe {
            assert_eq!(libc::getaddrinfo(c"127.0.0.1".as_ptr(), service.as_ptr(), &hints, &mut address), 0);
            (*address).ai_next = next;
        }
        address
    })
}

/// Patch 0026: the working address is the last of many, and the backoff is 10 s.
#[test]
fn all_addresses_of_a_broker_are_tried_without_backoff() {
    const REFUSED: usize = 8;
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("reached", 1, 1).unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let port = bootstrap.rsplit(':').next().unwrap().parse().unwrap();
    // librdkafka starts with the second address.
    let ports = std::iter::repeat_n(1, REFUSED + 1).chain([port]);
    let several = addresses(ports.collect::<Vec<_>>().into_iter());
    SEVERAL.store(several, Ordering::Release);
    let client = RawClient::with(
        rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        &[
            ("bootstrap.servers", "several:9092"),
            ("reconnect.backoff.ms", "10000"),
            ("reconnect.backoff.max.ms", "10000"),
        ],
        // SAFETY: `RawClient::with` passes a live configuration.
        |config| unsafe { rd_kafka_conf_set_resolve_cb(config, Some(resolve)) },
    );
    assert!(client.sees_topic("reached", PATIENCE), "the last address was not tried in time");
    // SAFETY: `client` is alive; the queue is owned and destroyed here.
    unsafe {
        let queue = rd::rd_kafka_queue_get_main(client.as_ptr());
        let event = rd::rd_kafka_queue_poll(queue, 0);
        rd::rd_kafka_queue_destroy(queue);
        assert!(
            event.is_null(),
            "a refused address was reported as an error: {}",
            text(rd::rd_kafka_event_error_string(event))
        );
    }
    drop(client);
    // SAFETY: all elements are from getaddrinfo, and the client that used them is destroyed.
    unsafe { libc::freeaddrinfo(several) };
}

/// Patch 0053: requests that wait for a broker don't make the client connect without a pause.
#[test]
fn waiting_requests_keep_the_reconnect_backoff() {
    /// A request has this effect if it looks for the broker in the short time in which that is not
    /// connecting; some of many do.
    const REQUESTS: usize = 200;
    const OBSERVED: Duration = Duration::from_secs(2);
    /// `reconnect.backoff.ms` is 100 ms and doubles after each attempt, with a jitter. A broker has
    /// two names for a moment.
    const MOST_CONNECTIONS: u32 = 20;
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("described", 1, 1).unwrap();
    let address = cluster.bootstrap_servers();
    let client = RawClient::new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, &[("bootstrap.servers", &address)]);
    assert!(client.sees_topic("described", PATIENCE));

    drop(cluster);
    let disconnecting = TcpListener::bind(&address).unwrap();
    disconnecting.set_nonblocking(true).unwrap();
    for _ in 0..REQUESTS {
        client.describe_topic(c"described");
    }
    let mut connections = 0;
    let start = Instant::now();
    while start.elapsed() < OBSERVED {
        match disconnecting.accept() {
            Ok(_) => connections += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!((2..=MOST_CONNECTIONS).contains(&connections), "{connections} connections in {OBSERVED:?}");
}
