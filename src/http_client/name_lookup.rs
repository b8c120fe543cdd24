//! Resolves host names for HTTP requests. Each look-up runs on its own thread, so that a timeout
//! applies to it. libcurl's look-ups have threads as well; if one can't be created, libcurl waits
//! for its timeout, and the error does not name the limit.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::support::error::{Error, Kind, Result};
use crate::support::threads::spawn;

/// Whether the host of a URL is an address; one of IPv6 is in brackets.
pub fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// The addresses of a host. The error is retriable: the name or the network may become available.
pub fn addresses(host: &str, port: u16, timeout: Duration) -> Result<Vec<SocketAddr>> {
    let name = (host.to_owned(), port);
    let (sender, receiver) = sync_channel(1);
    spawn("octopus-lookup", move || {
        let found: io::Result<Vec<_>> = name.to_socket_addrs().map(Iterator::collect);
        // After a timeout the receiver is gone, and the result is dropped.
        let _ = sender.send(found);
    })?;
    let reason = match receiver.recv_timeout(timeout) {
        Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
        Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) => "it has no address".to_owned(),
        Ok(Err(cause)) => cause.to_string(),
        Err(RecvTimeoutError::Timeout) => format!("timed out after {} ms", timeout.as_millis()),
    };
    Err(Error::new(Kind::Unreachable, format!("looking up the address of {host}: {reason}")).retriable(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_not_looked_up() {
        for host in ["127.0.0.1", "[::1]", "169.254.169.254"] {
            assert!(is_address(host), "{host}");
        }
        for host in ["localhost", "10.example.org", ""] {
            assert!(!is_address(host), "{host}");
        }
    }

    #[test]
    fn host_name_is_resolved_with_its_port() {
        let found = addresses("localhost", 80, Duration::from_secs(20)).unwrap();
        assert!(found.iter().all(|address| address.port() == 80 && address.ip().is_loopback()), "{found:?}");
    }

    #[test]
    fn unknown_name_is_named_in_a_retriable_error() {
        let error = addresses("no-such-host.invalid", 80, Duration::from_secs(60)).unwrap_err();
        assert!(error.is_retriable() && error.message().contains("no-such-host.invalid"), "{error}");
    }
}
