//! A TCP proxy in front of one broker that treats the bytes between clients and broker badly.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::damage::Pattern;
use crate::run::{OrFail as _, Result};

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NetworkFault {
    None,
    /// The connection is reset once so many more bytes went this way, which then are half a message, most likely.
    ResetAfter(Way, u64),
    /// Each piece is late by so long.
    Delay(Duration),
    /// One byte at a time.
    Trickle,
    /// Nothing passes, and nobody is told.
    BlackHole,
    /// One in so many bytes of the answers has one of its bits turned.
    Flip(u64),
    /// Batches in the answers are damaged. On new connections only, since these are whole answers.
    Damage(Pattern),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Requests,
    Answers,
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
    /// Of all connections, so that each turns other bits.
    connections: AtomicU64,
    /// What has gone each way in all, and how often a fault was made.
    done: AtomicU64,
}

impl Proxy {
    /// Listens on a free port; where the broker is can be said later.
    pub fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("listening on a free port for a proxy")?;
        let address = listener.local_addr().or_fail("asking for the proxy's port")?.to_string();
        let shared = Arc::new(Shared {
            broker: Mutex::default(),
            fault: Mutex::new(NetworkFault::None),
            changed: Condvar::new(),
            seed,
            connections: AtomicU64::new(0),
            done: AtomicU64::new(0),
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

    pub fn lead_to(&self, broker: &str) {
        broker.clone_into(&mut lock(&self.shared.broker));
    }

    /// From now on, also on connections that are there.
    pub fn set(&self, fault: NetworkFault) {
        *lock(&self.shared.fault) = fault;
        self.shared.changed.notify_all();
    }

    /// How often it has done something to a connection since the start.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        // A client whose broker is away finds what it would find without a proxy: an end.
        let Ok(server) = TcpStream::connect(lock(&self.broker).as_str()) else { return };
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let is_reset = Arc::new(AtomicBool::new(false));
        for (from, to, way) in [(&client, &server, Way::Requests), (&server, &client, Way::Answers)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let (shared, chance) = (self.clone(), fastrand::Rng::with_seed(self.seed ^ (number << 8) ^ way as u64));
            let is_reset = is_reset.clone();
            let is_whole = way == Way::Answers && matches!(*lock(&self.fault), NetworkFault::Damage(_));
            let mut pump = Pump { shared, from, to, way, chance, is_reset };
            thread::spawn(move || if is_whole { pump.run_by_answers() } else { pump.run() });
        }
    }
}

struct Pump {
    shared: Arc<Shared>,
    from: TcpStream,
    to: TcpStream,
    way: Way,
    chance: fastrand::Rng,
    /// Of both ways: whoever lets go last has the kernel send the reset.
    is_reset: Arc<AtomicBool>,
}

impl Pump {
    fn run(&mut self) {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.from.read(&mut piece) {
                Ok(0) | Err(_) => break,
                _ if self.is_reset.load(Ordering::Acquire) => break,
                Ok(size) if !self.pass_on(&mut piece[..size]) => break,
                Ok(_) => {}
            }
        }
        if !self.is_reset.load(Ordering::Acquire) {
            let _ = self.from.shutdown(Shutdown::Both);
            let _ = self.to.shutdown(Shutdown::Both);
        }
    }

    fn run_by_answers(&mut self) {
        let mut size = [0; 4];
        while self.from.read_exact(&mut size).is_ok() {
            let mut answer = vec![0; u32::from_be_bytes(size) as usize];
            if self.from.read_exact(&mut answer).is_err() {
                break;
            }
            if let NetworkFault::Damage(pattern) = *lock(&self.shared.fault) {
                self.shared.done.fetch_add(pattern.apply(&mut answer), Ordering::Relaxed);
            }
            if self.to.write_all(&[&size[..], &answer].concat()).is_err() {
                break;
            }
        }
        let _ = self.from.shutdown(Shutdown::Both);
        let _ = self.to.shutdown(Shutdown::Both);
    }

    /// Whether the connection goes on.
    fn pass_on(&mut self, piece: &mut [u8]) -> bool {
        match self.fault_for(piece.len() as u64) {
            NetworkFault::None | NetworkFault::Damage(_) => self.to.write_all(piece).is_ok(),
            NetworkFault::ResetAfter(_, bytes) => {
                let _ = self.to.write_all(&piece[..bytes as usize]);
                self.is_reset.store(true, Ordering::Release);
                [&self.from, &self.to].into_iter().for_each(reset_when_closed);
                false
            }
            NetworkFault::Delay(late) => {
                thread::sleep(late);
                self.to.write_all(piece).is_ok()
            }
            NetworkFault::Trickle => piece.iter().all(|byte| {
                // A pause between bytes, or the kernel would put them together again; but not for ever.
                thread::sleep(Duration::from_micros(100));
                self.to.write_all(&[*byte]).is_ok()
            }),
            NetworkFault::BlackHole => unreachable!("waited out by fault_for"),
            NetworkFault::Flip(one_in) => {
                self.flip(piece, one_in);
                self.to.write_all(piece).is_ok()
            }
        }
    }

    /// What is to be done to a piece of this size, now. In a black hole it waits.
    fn fault_for(&self, size: u64) -> NetworkFault {
        let mut fault = lock(&self.shared.fault);
        while *fault == NetworkFault::BlackHole {
            fault = self.shared.changed.wait(fault).unwrap_or_else(PoisonError::into_inner);
        }
        match &mut *fault {
            NetworkFault::ResetAfter(way, bytes) if *way == self.way => {
                if *bytes < size {
                    let reset = *fault;
                    *fault = NetworkFault::None;
                    self.shared.done.fetch_add(1, Ordering::Relaxed);
                    return reset;
                }
                *bytes -= size;
                NetworkFault::None
            }
            NetworkFault::ResetAfter(..) => NetworkFault::None,
            NetworkFault::Flip(_) if self.way == Way::Requests => NetworkFault::None,
            other => *other,
        }
    }

    fn flip(&mut self, piece: &mut [u8], one_in: u64) {
        for byte in piece {
            if self.chance.u64(..one_in) == 0 {
                *byte ^= 1 << self.chance.u32(..8);
                self.shared.done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Closed without lingering, a connection is reset rather than ended; and whoever reads from it here is woken.
fn reset_when_closed(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open, and the option has this type and size.
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
