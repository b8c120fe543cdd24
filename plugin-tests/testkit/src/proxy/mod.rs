//! A TCP proxy in front of one broker that injects faults: into the bytes of all connections
//! ([`NetworkFault`]), or into chosen messages of Kafka's protocol ([`FaultInjection`],
//! [`ResponseCorruption`]). The broker must advertise the proxy's address, so that clients never
//! connect to the broker directly.

mod connection;
mod messages;
mod rules;

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use connection::Connection;
use rules::Rules;
pub use rules::{ApiKey, FaultInjection, HeldMessage, ResponseCorruption};

use crate::{OrFail as _, Result};

/// What the proxy does to the bytes that it forwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NetworkFault {
    /// Forwards all bytes as they are.
    None,
    /// Resets the connection after this many more bytes in this direction, which is most likely in
    /// the middle of a message.
    ResetAfter(Direction, u64),
    /// Delays each chunk by the duration.
    Delay(Duration),
    /// Forwards one byte at a time.
    Trickle,
    /// Forwards nothing, and leaves the connections open.
    BlackHole,
    /// Flips one bit in one of this many bytes of the responses.
    Flip(u64),
    /// Closes all connections, and new ones as soon as they are accepted.
    Disconnect,
}

/// The direction in which bytes are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the broker.
    Requests,
    /// From the broker to clients.
    Responses,
}

/// A proxy that forwards connections until the process ends.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    broker: Mutex<String>,
    fault: Mutex<NetworkFault>,
    /// Notified when `fault` changes.
    changed: Condvar,
    rules: Rules,
    seed: u64,
    open: Mutex<Vec<Weak<Connection>>>,
    /// The number of connections so far; part of the seed, so that each connection flips other
    /// bits.
    accepted: AtomicU64,
    fault_count: AtomicU64,
}

impl Proxy {
    /// Listens on a free port. [`Proxy::set_broker`] sets where it forwards to. The seed selects
    /// the bits that are flipped.
    pub fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("listening on a free port for a proxy")?;
        Proxy::forward(listener, seed, "")
    }

    /// Forwards the connections of this listener to the broker at this address.
    pub fn forward(listener: TcpListener, seed: u64, broker: &str) -> Result<Self> {
        let address = listener.local_addr().or_fail("getting the proxy's port")?.to_string();
        let shared = Arc::new(Shared {
            broker: Mutex::new(broker.to_owned()),
            fault: Mutex::new(NetworkFault::None),
            changed: Condvar::new(),
            rules: Rules::default(),
            seed,
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            fault_count: AtomicU64::new(0),
        });
        let accepting = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.connect(client);
            }
        });
        Ok(Proxy { address, shared })
    }

    /// The address for clients, which the broker advertises: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sets the address of the broker, for new connections.
    pub fn set_broker(&self, address: &str) {
        address.clone_into(&mut lock(&self.shared.broker));
    }

    /// The number of connections that clients have made so far.
    pub fn connection_count(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Sets the fault of all connections, including open ones.
    pub fn set_fault(&self, fault: NetworkFault) {
        *lock(&self.shared.fault) = fault;
        self.shared.changed.notify_all();
        if fault == NetworkFault::Disconnect {
            self.shared.open_connections().iter().for_each(|connection| connection.close());
        }
    }

    /// How many resets and flipped bits [`NetworkFault`]s have caused so far.
    pub fn fault_count(&self) -> u64 {
        self.shared.fault_count.load(Ordering::Relaxed)
    }

    /// Holds back the `nth` request of a kind, counted from 1, of the client with this `client.id`,
    /// or the response to it. Call it before the client sends such a request.
    pub fn inject_fault(&self, client_id: &str, request: ApiKey, nth: usize, held: HeldMessage) -> Arc<FaultInjection> {
        self.shared.rules.inject_fault(FaultInjection::new(client_id, request, nth, held))
    }

    /// Changes responses to requests of a kind of the client with this `client.id`, or of all
    /// clients if it is empty. `change` is called with whole responses, including their 4 bytes of
    /// length, which are set to the new length afterwards. It is called until it returns true: it
    /// needs no more responses.
    pub fn corrupt_responses(
        &self,
        client_id: &str,
        request: ApiKey,
        change: impl Fn(&mut Vec<u8>) -> bool + Send + Sync + 'static,
    ) -> Arc<ResponseCorruption> {
        self.shared.rules.corrupt_responses(ResponseCorruption::new(client_id, request, Box::new(change)))
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        // If the broker is down, the client's connection is closed, as it would be without a proxy.
        let Ok(broker) = TcpStream::connect(lock(&self.broker).as_str()) else { return };
        for stream in [&client, &broker] {
            let _ = stream.set_nodelay(true);
        }
        let connection = Arc::new(Connection::new(client, broker));
        {
            let mut open = lock(&self.open);
            open.retain(|connection| connection.strong_count() > 0);
            open.push(Arc::downgrade(&connection));
        }
        // After the connection is in `open`, so that no other thread misses it.
        if *lock(&self.fault) == NetworkFault::Disconnect {
            connection.close();
            return;
        }
        for direction in [Direction::Requests, Direction::Responses] {
            let rng = fastrand::Rng::with_seed(self.seed ^ (number << 8) ^ direction as u64);
            connection::forward(self.clone(), connection.clone(), direction, rng);
        }
    }

    fn open_connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.open).iter().filter_map(Weak::upgrade).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
