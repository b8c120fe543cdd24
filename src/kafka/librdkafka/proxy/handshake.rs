//! The handshake with a proxy on a socket that does not block.

use std::io::{self, Read, Write};

/// A protocol: what is sent next, given all bytes that were received since the last time.
pub(super) trait Protocol: Send {
    /// `received` has as many bytes as the previous step wanted.
    ///
    /// # Errors
    /// Why the proxy does not connect to the target.
    fn next(&mut self, received: &[u8]) -> Result<Step, String>;
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send these bytes, then receive this many, as the start of a new message.
    Exchange(Vec<u8>, usize),
    /// Receive this many bytes more of the same message.
    Receive(usize),
    /// The connection to the target is established.
    Done,
}

const CLOSED: &str = "it closed the connection during the handshake";

/// Why [`Handshake::proceed`] has returned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    WantsRead,
    WantsWrite,
}

pub(super) struct Handshake {
    protocol: Box<dyn Protocol>,
    outgoing: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    /// How many bytes are to be received before the next step. No more are read: what follows the
    /// last message belongs to the target.
    wanted: usize,
}

impl Handshake {
    pub(super) fn new(protocol: Box<dyn Protocol>) -> Self {
        Handshake { protocol, outgoing: Vec::new(), sent: 0, received: Vec::new(), wanted: 0 }
    }

    /// Reads and writes until the socket would block.
    pub(super) fn proceed(&mut self, socket: &mut (impl Read + Write)) -> Result<Progress, String> {
        loop {
            while self.sent < self.outgoing.len() {
                match socket.write(&self.outgoing[self.sent..]) {
                    Ok(count) => self.sent += count,
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::WantsWrite),
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                    Err(cause) => return Err(format!("the connection to it failed: {cause}")),
                }
            }
            while self.received.len() < self.wanted {
                let start = self.received.len();
                self.received.resize(self.wanted, 0);
                let result = socket.read(&mut self.received[start..]);
                self.received.truncate(start + *result.as_ref().unwrap_or(&0));
                match result {
                    Ok(0) => return Err(CLOSED.to_owned()),
                    Err(cause) if cause.kind() == io::ErrorKind::ConnectionReset => return Err(CLOSED.to_owned()),
                    Ok(_) => {}
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::WantsRead),
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                    Err(cause) => return Err(format!("the connection to it failed: {cause}")),
                }
            }
            match self.protocol.next(&self.received)? {
                Step::Exchange(bytes, wanted) => {
                    self.outgoing = bytes;
                    self.sent = 0;
                    self.received.clear();
                    self.wanted = wanted;
                }
                Step::Receive(more) => self.wanted += more,
                Step::Done => return Ok(Progress::Done),
            }
        }
    }
}
