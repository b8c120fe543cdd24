//! One connection through the proxy: a thread for each direction that forwards bytes, with the
//! faults and the rules that apply to them.

use std::io::{self, Read as _, Write as _};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::messages::Boundaries;
use super::rules::AwaitedResponses;
use super::{Direction, NetworkFault, Shared, lock};

/// Both sides of a connection. They are closed when the threads of both directions have ended.
pub(super) struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// The kernel sends the reset when the descriptors are closed, unless they were shut down.
    is_reset: AtomicBool,
    awaited: AwaitedResponses,
}

impl Connection {
    pub(super) fn new(client: TcpStream, broker: TcpStream) -> Self {
        Connection { client, broker, is_reset: AtomicBool::new(false), awaited: AwaitedResponses::default() }
    }

    /// Closes both sides.
    pub(super) fn close(&self) {
        for stream in [&self.client, &self.broker] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn reset(&self) {
        self.is_reset.store(true, Ordering::Release);
        [&self.client, &self.broker].into_iter().for_each(reset_on_close);
    }

    fn is_reset(&self) -> bool {
        self.is_reset.load(Ordering::Acquire)
    }
}

/// Starts the thread of one direction.
pub(super) fn forward(shared: Arc<Shared>, connection: Arc<Connection>, direction: Direction, rng: fastrand::Rng) {
    let mut forwarder = Forwarder { shared, connection, direction, rng, boundaries: Boundaries::default() };
    thread::spawn(move || forwarder.run());
}

struct Forwarder {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    direction: Direction,
    rng: fastrand::Rng,
    boundaries: Boundaries,
}

impl Forwarder {
    fn from(&self) -> &TcpStream {
        match self.direction {
            Direction::Requests => &self.connection.client,
            Direction::Responses => &self.connection.broker,
        }
    }

    fn to(&self) -> &TcpStream {
        match self.direction {
            Direction::Requests => &self.connection.broker,
            Direction::Responses => &self.connection.client,
        }
    }

    fn run(&mut self) {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.from().read(&mut chunk) {
                Ok(0) | Err(_) => break,
                _ if self.connection.is_reset() => break,
                Ok(size) if !self.forward_chunk(&mut chunk[..size]) => break,
                Ok(_) => {}
            }
        }
        if !self.connection.is_reset() {
            self.connection.close();
        }
    }

    /// Returns whether the connection stays open.
    fn forward_chunk(&mut self, chunk: &mut [u8]) -> bool {
        if !self.shared.rules.is_empty() {
            return self.forward_messages(chunk.to_vec());
        }
        let mut passed = 0;
        while passed < chunk.len() {
            passed += self.boundaries.pass(&chunk[passed..]);
        }
        self.forward_bytes(chunk)
    }

    /// Forwards the messages in the bytes one by one. Reads the missing bytes of the last one.
    fn forward_messages(&mut self, mut bytes: Vec<u8>) -> bool {
        while !bytes.is_empty() {
            // The rest of a message whose beginning was forwarded before there were rules.
            let is_rest = self.boundaries.missing() > 0;
            let mut size = self.boundaries.pass(&bytes);
            while self.boundaries.missing() > 0 {
                let missing = self.boundaries.missing() as u64;
                if self.from().take(missing).read_to_end(&mut bytes).is_err() || bytes.len() == size {
                    // The stream ends in the middle of the message.
                    self.forward_bytes(&mut bytes);
                    return false;
                }
                size += self.boundaries.pass(&bytes[size..]);
            }
            let behind = bytes.split_off(size);
            let mut message = mem::replace(&mut bytes, behind);
            drop(self.wait_for_black_hole_to_end());
            if !is_rest && !self.process(&mut message) {
                // A held message blocks the ones behind it, too.
                let _ = io::copy(&mut self.from(), &mut io::sink());
                return false;
            }
            if !self.forward_bytes(&mut message) {
                return false;
            }
        }
        true
    }

    /// Applies the rules to a message. False if it is held back.
    fn process(&self, message: &mut Vec<u8>) -> bool {
        match self.direction {
            Direction::Requests => self.shared.rules.process_request(message, &self.connection.awaited),
            Direction::Responses => self.connection.awaited.process_response(message),
        }
    }

    /// Returns whether the connection stays open.
    fn forward_bytes(&mut self, bytes: &mut [u8]) -> bool {
        match self.fault_for(bytes.len() as u64) {
            NetworkFault::None => self.to().write_all(bytes).is_ok(),
            NetworkFault::ResetAfter(_, count) => {
                let _ = self.to().write_all(&bytes[..count as usize]);
                self.connection.reset();
                false
            }
            NetworkFault::Delay(late) => {
                thread::sleep(late);
                self.to().write_all(bytes).is_ok()
            }
            NetworkFault::Trickle => bytes.iter().all(|byte| {
                // Without a pause the kernel would join the bytes into one segment; with a longer
                // one a large message would take minutes.
                thread::sleep(Duration::from_micros(100));
                self.to().write_all(&[*byte]).is_ok()
            }),
            NetworkFault::BlackHole => unreachable!("fault_for waits until the black hole ends"),
            NetworkFault::Flip(one_in) => {
                self.flip(bytes, one_in);
                self.to().write_all(bytes).is_ok()
            }
            NetworkFault::Disconnect => false,
        }
    }

    /// Returns what to do with this many bytes. Blocks while the fault is a black hole.
    fn fault_for(&self, size: u64) -> NetworkFault {
        let mut fault = self.wait_for_black_hole_to_end();
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

    fn wait_for_black_hole_to_end(&self) -> MutexGuard<'_, NetworkFault> {
        let fault = lock(&self.shared.fault);
        let is_black_hole = |fault: &mut NetworkFault| *fault == NetworkFault::BlackHole;
        self.shared.changed.wait_while(fault, is_black_hole).unwrap_or_else(PoisonError::into_inner)
    }

    fn flip(&mut self, bytes: &mut [u8], one_in: u64) {
        for byte in bytes {
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
