//! A TCP proxy in front of one broker that injects network faults between clients and the broker.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::damage::Pattern;
use crate::run::{OrFail as _, Result};

/// What the proxy does to the bytes that it forwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NetworkFault {
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
    /// Damages record batches in the responses. This needs complete responses, so it affects
    /// connections that are made after it was set.
    Damage(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Requests,
    Responses,
}

pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    broker: Mutex<String>,
    fault: Mutex<NetworkFault>,
    changed: Condvar,
    seed: u64,
    /// The number of connections so far; part of the seed, so that each connection flips other
    /// bits.
    connections: AtomicU64,
    /// How many faults were injected, over all connections.
    fault_count: AtomicU64,
}

impl Proxy {
    /// Listens on a free port. `set_broker` sets where it forwards to.
    pub fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("listening on a free port for a proxy")?;
        let address = listener.local_addr().or_fail("getting the proxy's port")?.to_string();
        let shared = Arc::new(Shared {
            broker: Mutex::default(),
            fault: Mutex::new(NetworkFault::None),
            changed: Condvar::new(),
            seed,
            connections: AtomicU64::new(0),
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

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn set_broker(&self, broker: &str) {
        broker.clone_into(&mut lock(&self.shared.broker));
    }

    /// Sets the fault, for existing connections too.
    pub fn set_fault(&self, fault: NetworkFault) {
        *lock(&self.shared.fault) = fault;
        self.shared.changed.notify_all();
    }

    /// How many faults the proxy has injected since it was started.
    pub fn fault_count(&self) -> u64 {
        self.shared.fault_count.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        // If the broker is down, the client's connection is closed, as it would be without a proxy.
        let Ok(server) = TcpStream::connect(lock(&self.broker).as_str()) else { return };
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let is_reset = Arc::new(AtomicBool::new(false));
        for (from, to, direction) in [(&client, &server, Direction::Requests), (&server, &client, Direction::Responses)]
        {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let (shared, rng) = (self.clone(), fastrand::Rng::with_seed(self.seed ^ (number << 8) ^ direction as u64));
            let is_reset = is_reset.clone();
            let by_responses =
                direction == Direction::Responses && matches!(*lock(&self.fault), NetworkFault::Damage(_));
            let mut pump = Pump { shared, from, to, direction, rng, is_reset };
            thread::spawn(move || if by_responses { pump.run_by_responses() } else { pump.run() });
        }
    }
}

struct Pump {
    shared: Arc<Shared>,
    from: TcpStream,
    to: TcpStream,
    direction: Direction,
    rng: fastrand::Rng,
    /// Shared by both directions: the kernel sends the reset when the last descriptor is closed.
    is_reset: Arc<AtomicBool>,
}

impl Pump {
    fn run(&mut self) {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.from.read(&mut piece) {
                Ok(0) | Err(_) => break,
                _ if self.is_reset.load(Ordering::Acquire) => break,
                Ok(size) if !self.forward(&mut piece[..size]) => break,
                Ok(_) => {}
            }
        }
        if !self.is_reset.load(Ordering::Acquire) {
            let _ = self.from.shutdown(Shutdown::Both);
            let _ = self.to.shutdown(Shutdown::Both);
        }
    }

    fn run_by_responses(&mut self) {
        let mut size = [0; 4];
        while self.from.read_exact(&mut size).is_ok() {
            let mut response = vec![0; u32::from_be_bytes(size) as usize];
            if self.from.read_exact(&mut response).is_err() {
                break;
            }
            if let NetworkFault::Damage(pattern) = *lock(&self.shared.fault) {
                self.shared.fault_count.fetch_add(pattern.apply(&mut response), Ordering::Relaxed);
            }
            if self.to.write_all(&[&size[..], &response].concat()).is_err() {
                break;
            }
        }
        let _ = self.from.shutdown(Shutdown::Both);
        let _ = self.to.shutdown(Shutdown::Both);
    }

    /// Returns whether the connection stays open.
    fn forward(&mut self, piece: &mut [u8]) -> bool {
        match self.fault_for(piece.len() as u64) {
            NetworkFault::None | NetworkFault::Damage(_) => self.to.write_all(piece).is_ok(),
            NetworkFault::ResetAfter(_, bytes) => {
                let _ = self.to.write_all(&piece[..bytes as usize]);
                self.is_reset.store(true, Ordering::Release);
                [&self.from, &self.to].into_iter().for_each(reset_on_close);
                false
            }
            NetworkFault::Delay(late) => {
                thread::sleep(late);
                self.to.write_all(piece).is_ok()
            }
            NetworkFault::Trickle => piece.iter().all(|byte| {
                // Without a pause the kernel would join the bytes into one segment; with a longer
                // one a large message would take minutes.
                thread::sleep(Duration::from_micros(100));
                self.to.write_all(&[*byte]).is_ok()
            }),
            NetworkFault::BlackHole => unreachable!("fault_for waits until the black hole ends"),
            NetworkFault::Flip(one_in) => {
                self.flip(piece, one_in);
                self.to.write_all(piece).is_ok()
            }
        }
    }

    /// Returns what to do with a chunk of this size. Blocks while the fault is a black hole.
    fn fault_for(&self, size: u64) -> NetworkFault {
        let mut fault = lock(&self.shared.fault);
        while *fault == NetworkFault::BlackHole {
            fault = self.shared.changed.wait(fault).unwrap_or_else(PoisonError::into_inner);
        }
        match &mut *fault {
            NetworkFault::ResetAfter(direction, bytes) if *direction == self.direction => {
                if *bytes < size {
                    let reset = *fault;
                    *fault = NetworkFault::None;
                    self.shared.fault_count.fetch_add(1, Ordering::Relaxed);
                    return reset;
                }
                *bytes -= size;
                NetworkFault::None
            }
            NetworkFault::ResetAfter(..) => NetworkFault::None,
            NetworkFault::Flip(_) if self.direction == Direction::Requests => NetworkFault::None,
            other => *other,
        }
    }

    fn flip(&mut self, piece: &mut [u8], one_in: u64) {
        for byte in piece {
            if self.rng.u64(..one_in) == 0 {
                *byte ^= 1 << self.rng.u32(..8);
                self.shared.fault_count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Has the kernel reset the connection when it is closed (SO_LINGER with 0 s), and wakes the thread
/// that reads from it.
fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: `stream` keeps the descriptor open, and `linger` has the type and size that SO_LINGER
    // expects.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
    let _ = stream.shutdown(Shutdown::Read);
}
