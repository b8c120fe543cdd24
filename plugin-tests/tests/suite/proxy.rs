//! A Kafka broker behind a TCP proxy. The proxy can pause or disconnect all traffic, hold back one
//! request of a client or the response to it, and corrupt a response. The broker advertises the
//! proxy's port, so that clients never connect to the broker directly.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::kafka::Kafka;

pub struct ProxiedKafka {
    proxy: Arc<Proxy>,
    address: String,
    _kafka: Kafka,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Flowing,
    Paused,
    Disconnected,
}

/// Kafka's API keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Produce = 0,
    Fetch = 1,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    JoinGroup = 11,
    CreateTopics = 19,
}

/// The message that a fault injection holds back: the request, so that the broker never sees it, or
/// the response, so that the broker has processed the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldMessage {
    Request,
    Response,
}

/// Holds back one client's `nth` request of a kind, counted from 1, or the response to it.
pub struct FaultInjection {
    client_id: String,
    request: Request,
    nth: usize,
    held: HeldMessage,
    state: Mutex<FaultState>,
    has_fired: Condvar,
}

#[derive(Default)]
struct FaultState {
    seen: usize,
    has_fired: bool,
}

/// Changes one response to a request of a kind: the first for which `change` returns true.
pub struct ResponseCorruption {
    client_id: String,
    request: Request,
    change: fn(&mut Vec<u8>) -> bool,
    is_done: AtomicBool,
}

struct Proxy {
    faults: Mutex<Vec<Arc<FaultInjection>>>,
    corruptions: Mutex<Vec<Arc<ResponseCorruption>>>,
    traffic: Mutex<Traffic>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
}

impl ProxiedKafka {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port for the proxy");
        let address = listener.local_addr().expect("the proxy's port").to_string();
        let kafka = Kafka::start(&["--set", &format!("advertised.listeners=CLIENT://{address}")]);
        let proxy = Arc::new(Proxy {
            faults: Mutex::default(),
            corruptions: Mutex::default(),
            traffic: Mutex::new(Traffic::Flowing),
            changed: Condvar::new(),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let (accepting, broker) = (proxy.clone(), kafka.bootstrap().to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.connect(client, &broker);
            }
        });
        ProxiedKafka { proxy, address, _kafka: kafka }
    }

    pub fn bootstrap(&self) -> &str {
        &self.address
    }

    /// The number of connections that clients have made so far.
    pub fn connections_made(&self) -> usize {
        self.proxy.accepted.load(Ordering::Relaxed)
    }

    /// Holds all bytes back in the proxy; connections stay open.
    pub fn pause(&self) {
        self.proxy.set(Traffic::Paused);
    }

    pub fn resume(&self) {
        self.proxy.set(Traffic::Flowing);
    }

    /// Applies to the client with this `client.id`. Call it before the client sends such a request.
    pub fn inject_fault(
        &self,
        client_id: &str,
        request: Request,
        nth: usize,
        held: HeldMessage,
    ) -> Arc<FaultInjection> {
        let fault = Arc::new(FaultInjection {
            client_id: client_id.to_owned(),
            request,
            nth,
            held,
            state: Mutex::default(),
            has_fired: Condvar::new(),
        });
        self.proxy.faults.lock().unwrap().push(fault.clone());
        fault
    }

    /// Applies to the client with this `client.id`, or to all if it is empty. `change` is called
    /// with whole responses, including their 4 bytes of length, until it returns true: it changed
    /// one.
    pub fn corrupt_response(
        &self,
        client_id: &str,
        request: Request,
        change: fn(&mut Vec<u8>) -> bool,
    ) -> Arc<ResponseCorruption> {
        let corruption = Arc::new(ResponseCorruption {
            client_id: client_id.to_owned(),
            request,
            change,
            is_done: AtomicBool::new(false),
        });
        self.proxy.corruptions.lock().unwrap().push(corruption.clone());
        corruption
    }

    /// Closes all connections, and new ones as soon as they are accepted.
    pub fn disconnect(&self) {
        self.proxy.set(Traffic::Disconnected);
        for stream in self.proxy.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Proxy {
    fn set(&self, traffic: Traffic) {
        *self.traffic.lock().unwrap() = traffic;
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Self>, client: TcpStream, broker: &str) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if *self.traffic.lock().unwrap() == Traffic::Disconnected {
            return;
        }
        let Ok(server) = TcpStream::connect(broker) else { return };
        let awaited = Arc::new(AwaitedResponses::default());
        for (from, to, side) in [(&client, &server, Side::Client), (&server, &client, Side::Broker)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let (proxy, awaited) = (self.clone(), awaited.clone());
            thread::spawn(move || proxy.pump(from, to, side, &awaited));
        }
        self.open.lock().unwrap().extend([client, server]);
    }

    /// Forwards whole messages: Kafka precedes each with its length.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, side: Side, awaited: &AwaitedResponses) {
        while let Some(mut message) = read_message(&mut from) {
            let traffic = self.traffic.lock().unwrap();
            drop(self.changed.wait_while(traffic, |traffic| *traffic == Traffic::Paused).unwrap());
            let is_forwarded = match side {
                Side::Client => self.process_request(&message, awaited),
                Side::Broker => awaited.process_response(&mut message),
            };
            if !is_forwarded {
                // A held message blocks the ones behind it too: the connection makes no more
                // progress.
                while read_message(&mut from).is_some() {}
                break;
            }
            if to.write_all(&message).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// False if the request is held back.
    fn process_request(&self, message: &[u8], awaited: &AwaitedResponses) -> bool {
        let Some((request, correlation_id, client_id)) = read_header(message) else { return true };
        for corruption in
            self.corruptions.lock().unwrap().iter().filter(|corruption| corruption.applies_to(request, client_id))
        {
            awaited.corrupted.lock().unwrap().push((correlation_id, corruption.clone()));
        }
        let faults = self.faults.lock().unwrap().clone();
        let Some(fault) = faults.iter().find(|fault| fault.applies_to(request, client_id)) else { return true };
        if !fault.count_request() {
            return true;
        }
        if fault.held == HeldMessage::Response {
            awaited.held.lock().unwrap().push((correlation_id, fault.clone()));
            return true;
        }
        fault.fire();
        false
    }
}

/// The responses of one connection that a fault applies to, by the correlation ids of their
/// requests.
#[derive(Default)]
struct AwaitedResponses {
    held: Mutex<Vec<(i32, Arc<FaultInjection>)>>,
    corrupted: Mutex<Vec<(i32, Arc<ResponseCorruption>)>>,
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Broker,
}

impl FaultInjection {
    /// Waits until the message is held back; false after `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        let state = self.state.lock().unwrap();
        self.has_fired.wait_timeout_while(state, timeout, |state| !state.has_fired).unwrap().0.has_fired
    }

    fn applies_to(&self, request: i16, client_id: &[u8]) -> bool {
        self.request as i16 == request && self.client_id.as_bytes() == client_id
    }

    /// True for the request that the fault applies to.
    fn count_request(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.seen += 1;
        state.seen == self.nth
    }

    fn fire(&self) {
        self.state.lock().unwrap().has_fired = true;
        self.has_fired.notify_all();
    }
}

impl ResponseCorruption {
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    fn applies_to(&self, request: i16, client_id: &[u8]) -> bool {
        let is_any = self.client_id.is_empty();
        self.request as i16 == request && (is_any || self.client_id.as_bytes() == client_id) && !self.is_done()
    }

    fn apply(&self, message: &mut Vec<u8>) {
        if !self.is_done() && (self.change)(message) {
            let length = message.len() as u32 - 4;
            message[..4].copy_from_slice(&length.to_be_bytes());
            self.is_done.store(true, Ordering::Release);
        }
    }
}

impl AwaitedResponses {
    /// False if the response is held back.
    fn process_response(&self, message: &mut Vec<u8>) -> bool {
        let correlation_id = message.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        self.corrupted.lock().unwrap().retain(|(awaited, corruption)| {
            let is_this = Some(*awaited) == correlation_id;
            if is_this {
                corruption.apply(message);
            }
            !is_this
        });
        match self.held.lock().unwrap().iter().find(|(held, _)| Some(*held) == correlation_id) {
            None => true,
            Some((_, fault)) => {
                fault.fire();
                false
            }
        }
    }
}

/// Reads one message with its length in front; None at the end of the stream.
fn read_message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[..4].try_into().ok()?) as usize;
    message.resize(4 + length, 0);
    from.read_exact(&mut message[4..]).ok()?;
    Some(message)
}

/// A request's API key, correlation id and client id. The header consists of the API key (2 bytes),
/// the API version (2), the correlation id (4), the length of the client id (2) and the client id.
fn read_header(message: &[u8]) -> Option<(i16, i32, &[u8])> {
    let api_key = i16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let correlation_id = i32::from_be_bytes(message.get(8..12)?.try_into().ok()?);
    let length = i16::from_be_bytes(message.get(12..14)?.try_into().ok()?);
    Some((api_key, correlation_id, message.get(14..14 + usize::try_from(length).ok()?)?))
}
