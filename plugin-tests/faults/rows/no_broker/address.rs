//! Addresses at which nobody speaks Kafka.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use crate::run::{Failure, OrFail, Result};

pub struct Address {
    pub is: &'static str,
    /// `host:port`.
    pub at: String,
    /// What keeps it as it is.
    _held: Vec<OwnedFd>,
}

impl Address {
    /// Whoever connects is refused.
    pub fn closed() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("finding a free port")?;
        let at = listener.local_addr().or_fail("asking for a port")?.to_string();
        Ok(Address { is: "a closed port", at, _held: Vec::new() })
    }

    /// Connections are taken, and nothing is said.
    pub fn silent() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("finding a free port")?;
        let at = listener.local_addr().or_fail("asking for a port")?.to_string();
        // They live as long as the process: hanging up would say something.
        thread::spawn(move || listener.incoming().for_each(std::mem::forget));
        Ok(Address { is: "a port that says nothing", at, _held: Vec::new() })
    }

    /// Reserved for names that don't exist (RFC 2606).
    pub fn unknown() -> Self {
        Address { is: "a name that nobody has", at: "nobody.invalid:9092".to_owned(), _held: Vec::new() }
    }

    /// Of a broker that will go.
    pub fn left(at: String) -> Self {
        Address { is: "a broker that went", at, _held: Vec::new() }
    }

    /// Packets are dropped, as by a firewall: the queue of a listener that takes no connection is full.
    pub fn full() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("finding a free port")?;
        // SAFETY: a socket of ours, which listens already; this makes its queue shorter.
        let failed = unsafe { libc::listen(listener.as_raw_fd(), 0) };
        if failed != 0 {
            return Err(Failure::new(format_args!("shortening a queue: {}", io::Error::last_os_error())));
        }
        let address: SocketAddr = listener.local_addr().or_fail("asking for a port")?;
        let mut held = vec![OwnedFd::from(listener)];
        while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            held.push(OwnedFd::from(connection));
        }
        Ok(Address { is: "a port that drops packets", at: address.to_string(), _held: held })
    }
}
