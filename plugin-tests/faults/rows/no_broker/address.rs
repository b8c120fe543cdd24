//! Addresses without a reachable broker.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use crate::run::{Failure, OrFail, Result};

pub struct Address {
    pub description: &'static str,
    /// `host:port`.
    pub address: String,
    /// Sockets that keep the port in its state.
    _descriptors: Vec<OwnedFd>,
}

impl Address {
    /// Refuses connections.
    pub fn closed() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("finding a free port")?;
        let address = listener.local_addr().or_fail("getting the listener's port")?.to_string();
        Ok(Address { description: "a closed port", address, _descriptors: Vec::new() })
    }

    /// Accepts connections and sends nothing.
    pub fn silent() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("finding a free port")?;
        let address = listener.local_addr().or_fail("getting the listener's port")?.to_string();
        // The connections stay open as long as the process: closing them would be a response.
        thread::spawn(move || listener.incoming().for_each(std::mem::forget));
        Ok(Address { description: "a port that sends nothing", address, _descriptors: Vec::new() })
    }

    /// A host name that can't be resolved (`.invalid` is reserved, RFC 2606).
    pub fn unknown() -> Self {
        Address {
            description: "an unknown host name",
            address: "nobody.invalid:9092".to_owned(),
            _descriptors: Vec::new(),
        }
    }

    /// The address of a broker that will go down.
    pub fn of_lost_broker(address: String) -> Self {
        Address { description: "a broker that went down", address, _descriptors: Vec::new() }
    }

    /// Drops packets as a firewall does: the listener's queue is full, and nothing accepts
    /// connections.
    pub fn dropping_packets() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").or_fail("finding a free port")?;
        // SAFETY: `listener` keeps the descriptor open; `listen` on a listening socket only changes
        // its backlog.
        let failed = unsafe { libc::listen(listener.as_raw_fd(), 0) };
        if failed != 0 {
            return Err(Failure::new(format_args!("shortening a listener's queue: {}", io::Error::last_os_error())));
        }
        let address: SocketAddr = listener.local_addr().or_fail("getting the listener's port")?;
        let mut descriptors = vec![OwnedFd::from(listener)];
        while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            descriptors.push(OwnedFd::from(connection));
        }
        Ok(Address {
            description: "a port that drops packets",
            address: address.to_string(),
            _descriptors: descriptors,
        })
    }
}
