//! Connections through a proxy. Patch 0056 calls these functions in the threads of brokers: the
//! handshake with the proxy is a state of a connection, and no call waits.

mod handshake;
mod http_connect;
mod socks;

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::os::fd::FromRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::bindings as rd;

use super::text::{c_string, text, write_text};
use crate::config::{ProxyProtocol, ProxySettings};
use crate::support::error::{Error, Result};
use handshake::{Handshake, Progress};
use http_connect::HttpConnect;
use socks::Socks;

/// The proxy of a driver's clients, and what librdkafka reads of it.
pub struct Proxy {
    functions: Functions,
    _settings: Box<ProxySettings>,
    _texts: [CString; 4],
}

/// `octopus_proxy_t` of patch 0056.
#[repr(C)]
struct Functions {
    /// The settings.
    context: *const c_void,
    name: *const c_char,
    address: *const c_char,
    /// With user and password.
    url: *const c_char,
    no_proxy: *const c_char,
    resolves_locally: c_int,
    is_used: unsafe extern "C" fn(*const c_void, *const c_char) -> c_int,
    begin: unsafe extern "C" fn(*const c_void, *const c_char) -> *mut Handshake,
    proceed: unsafe extern "C" fn(*mut Handshake, c_int, *mut c_int, *mut c_char, usize) -> c_int,
    end: unsafe extern "C" fn(*mut Handshake),
}

// SAFETY: the pointers are to the other fields, which are never changed, and read by any thread.
unsafe impl Send for Proxy {}
// SAFETY: as above.
unsafe impl Sync for Proxy {}

impl Proxy {
    /// Fails without patches.
    pub fn new(settings: &ProxySettings) -> Result<Self> {
        if !cfg!(feature = "patched") {
            return Err(Error::missing_feature("proxy", "connections through a proxy", "patched"));
        }
        let settings = Box::new(settings.clone());
        let texts = [
            c_string(&settings.to_string())?,
            c_string(&settings.address())?,
            // `ProxySettings` has no NUL, and so this has no error with the password.
            c_string(settings.url().reveal())?,
            c_string(ProxySettings::DIRECT_HOSTS)?,
        ];
        let functions = Functions {
            context: (&raw const *settings).cast(),
            name: texts[0].as_ptr(),
            address: texts[1].as_ptr(),
            url: texts[2].as_ptr(),
            no_proxy: texts[3].as_ptr(),
            resolves_locally: c_int::from(!settings.protocol.resolves_names()),
            is_used,
            begin,
            proceed,
            end,
        };
        Ok(Proxy { functions, _settings: settings, _texts: texts })
    }

    /// Lets clients with this configuration connect through the proxy.
    ///
    /// # Safety
    /// `config` is a live configuration; `self` outlives each client that is created from it, and
    /// is not moved.
    pub(super) unsafe fn use_for(&self, config: *mut rd::rd_kafka_conf_t) {
        #[cfg(feature = "patched")]
        // SAFETY: `config` is alive and `self` outlives its clients (contract of this function).
        unsafe {
            octopus_conf_set_proxy(config, &raw const self.functions);
        }
        #[cfg(not(feature = "patched"))]
        let _ = (config, &self.functions);
    }
}

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Patch 0056.
    fn octopus_conf_set_proxy(config: *mut rd::rd_kafka_conf_t, proxy: *const Functions);
}

/// The handshake for a connection to `target`, `host:port`.
fn handshake(settings: &ProxySettings, target: &str) -> Handshake {
    Handshake::new(match settings.protocol {
        ProxyProtocol::Socks5 | ProxyProtocol::Socks5h => Box::new(Socks::new(settings, target)),
        ProxyProtocol::Http => Box::new(HttpConnect::new(settings, target)),
    })
}

/// The host without brackets, and the port.
fn host_and_port(target: &str) -> std::result::Result<(&str, u16), String> {
    let (host, port) = target.rsplit_once(':').unwrap_or((target, ""));
    let port = port.parse().map_err(|_| format!("the broker's address {target} has no port"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

fn target_failure(target: &str, reason: &str) -> String {
    format!("it does not connect to {target}: {reason}")
}

/// # Safety
/// `settings` is the context of [`Functions`]; `nodename` is a NUL-terminated text.
unsafe extern "C" fn is_used(settings: *const c_void, nodename: *const c_char) -> c_int {
    // SAFETY: patch 0056 passes the context, which the client's `Proxy` keeps.
    let settings = unsafe { &*settings.cast::<ProxySettings>() };
    // SAFETY: patch 0056 passes the name of a broker.
    let nodename = unsafe { text(nodename) };
    let host = nodename.rsplit_once(':').map_or(&*nodename, |(host, _)| host);
    settings.is_used_for(host).into()
}

/// # Safety
/// `settings` is the context of [`Functions`]; `target` is a NUL-terminated text.
unsafe extern "C" fn begin(settings: *const c_void, target: *const c_char) -> *mut Handshake {
    // SAFETY: patch 0056 passes the context, which the client's `Proxy` keeps.
    let settings = unsafe { &*settings.cast::<ProxySettings>() };
    // SAFETY: patch 0056 passes `rkb_proxy_target`.
    let target = unsafe { text(target) };
    Box::into_raw(Box::new(handshake(settings, &target)))
}

/// # Safety
/// `handshake` was returned by [`begin`] and not freed; `socket` is open; the other pointers are
/// writable, `reason` for `size` bytes.
unsafe extern "C" fn proceed(
    handshake: *mut Handshake,
    socket: c_int,
    wants_write: *mut c_int,
    reason: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: `begin` returned it, and one thread uses it, that of its broker.
    let handshake = unsafe { &mut *handshake };
    // SAFETY: the socket is open during the call, and `ManuallyDrop` leaves it open.
    let mut socket = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(socket) });
    let progress = catch_unwind(AssertUnwindSafe(|| handshake.proceed(&mut *socket)));
    let error = match progress {
        Ok(Ok(Progress::Done)) => return 1,
        Ok(Ok(wanted)) => {
            // SAFETY: patch 0056 passes a variable of its own.
            unsafe { wants_write.write((wanted == Progress::WantsWrite).into()) };
            return 0;
        }
        Ok(Err(error)) => error,
        Err(_) => "a panic in the handshake, which is a fault of Octopus".to_owned(),
    };
    // SAFETY: the buffer has `size` bytes (fn contract).
    unsafe { write_text(&error, reason, size) };
    -1
}

/// # Safety
/// `handshake` was returned by [`begin`], and is not used afterwards.
unsafe extern "C" fn end(handshake: *mut Handshake) {
    // SAFETY: `begin` has made it of a box, and nobody uses it any more (fn contract).
    drop(unsafe { Box::from_raw(handshake) });
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::{self, Read, Write};

    use serde_json::json;

    use super::*;
    use crate::config::DriverSettings;

    fn settings(url: &str) -> ProxySettings {
        let config = json!({"kafka": {"bootstrap.servers": "b:1"}, "proxy": url});
        DriverSettings::parse(&config.to_string()).unwrap().proxy.unwrap()
    }

    /// A socket on which each read and write handles at most `at_once` bytes, and every second one
    /// would block.
    struct Socket {
        responses: VecDeque<u8>,
        sent: Vec<u8>,
        at_once: usize,
        blocks: bool,
    }

    impl Socket {
        fn new(responses: &[u8], at_once: usize) -> Self {
            Socket { responses: responses.iter().copied().collect(), sent: Vec::new(), at_once, blocks: false }
        }

        fn take_turn(&mut self, wanted: usize) -> io::Result<usize> {
            self.blocks = !self.blocks;
            if self.blocks { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(wanted.min(self.at_once)) }
        }
    }

    impl Read for Socket {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.take_turn(buffer.len())?.min(self.responses.len());
            buffer[..count].iter_mut().for_each(|byte| *byte = self.responses.pop_front().unwrap());
            Ok(count)
        }
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.take_turn(bytes.len())?;
            self.sent.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs a handshake against these responses. Returns what was sent, and what is left of the
    /// responses.
    pub fn run(
        url: &str,
        target: &str,
        responses: &[u8],
        at_once: usize,
    ) -> std::result::Result<(Vec<u8>, Vec<u8>), String> {
        let mut handshake = super::handshake(&settings(url), target);
        let mut socket = Socket::new(responses, at_once);
        for _ in 0..100_000 {
            match handshake.proceed(&mut socket)? {
                Progress::Done => return Ok((socket.sent, socket.responses.into())),
                Progress::WantsRead | Progress::WantsWrite => {}
            }
        }
        panic!("the handshake does not end");
    }

    #[test]
    fn handshake_wants_to_read_or_to_write() {
        let mut handshake = super::handshake(&settings("socks5h://p:1"), "b:1");
        let mut socket = Socket::new(&[5], 100);
        assert_eq!(handshake.proceed(&mut socket), Ok(Progress::WantsWrite));
        assert_eq!(handshake.proceed(&mut socket), Ok(Progress::WantsRead));
        assert_eq!(handshake.proceed(&mut socket), Ok(Progress::WantsRead));
        let closed = handshake.proceed(&mut socket).unwrap_err();
        assert!(closed.contains("closed the connection"), "{closed}");
    }
}
