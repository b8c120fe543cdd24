//! A Kafka behind a TCP proxy that can hold its traffic or cut it off, hold one client at one of its requests, or spoil an
//! answer. The broker advertises the proxy's port, so that clients stay on it.

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
    Flows,
    Held,
    Broken,
}

/// Kafka's requests, by their numbers in its protocol.
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

/// What a trap keeps from going on: the request, or, when the broker has done it, its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Request,
    Answer,
}

/// Waits for one client's request of a kind, the `nth` from 1 on, and lets nothing of it, or no answer to it, pass.
pub struct Trap {
    client_id: String,
    request: Request,
    nth: usize,
    held: Held,
    state: Mutex<TrapState>,
    sprung: Condvar,
}

#[derive(Default)]
struct TrapState {
    seen: usize,
    sprung: bool,
}

/// Has a function change one answer to a request of a kind, the first that it finds fit.
pub struct Spoiler {
    client_id: String,
    request: Request,
    change: fn(&mut Vec<u8>) -> bool,
    is_done: AtomicBool,
}

struct Proxy {
    traps: Mutex<Vec<Arc<Trap>>>,
    spoilers: Mutex<Vec<Arc<Spoiler>>>,
    traffic: Mutex<Traffic>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
    /// Connections that clients have made.
    accepted: AtomicUsize,
}

impl ProxiedKafka {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port for the proxy");
        let address = listener.local_addr().expect("the proxy's port").to_string();
        let kafka = Kafka::start(&["--set", &format!("advertised.listeners=CLIENT://{address}")]);
        let proxy = Arc::new(Proxy {
            traps: Mutex::default(),
            spoilers: Mutex::default(),
            traffic: Mutex::new(Traffic::Flows),
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

    /// How many connections clients have made so far.
    pub fn connections_made(&self) -> usize {
        self.proxy.accepted.load(Ordering::Relaxed)
    }

    /// Bytes wait in the proxy; connections stay.
    pub fn hold(&self) {
        self.proxy.set(Traffic::Held);
    }

    pub fn let_go(&self) {
        self.proxy.set(Traffic::Flows);
    }

    /// For the client with this `client.id`; set before it begins.
    pub fn trap(&self, client_id: &str, request: Request, nth: usize, held: Held) -> Arc<Trap> {
        let trap = Arc::new(Trap {
            client_id: client_id.to_owned(),
            request,
            nth,
            held,
            state: Mutex::default(),
            sprung: Condvar::new(),
        });
        self.proxy.traps.lock().unwrap().push(trap.clone());
        trap
    }

    /// For the client with this `client.id`, or any for an empty one. The function is given whole answers, behind their length, until
    /// it says that it has changed one.
    pub fn spoil(&self, client_id: &str, request: Request, change: fn(&mut Vec<u8>) -> bool) -> Arc<Spoiler> {
        let spoiler =
            Arc::new(Spoiler { client_id: client_id.to_owned(), request, change, is_done: AtomicBool::new(false) });
        self.proxy.spoilers.lock().unwrap().push(spoiler.clone());
        spoiler
    }

    /// Connections are cut, and new ones as soon as they are made.
    pub fn break_off(&self) {
        self.proxy.set(Traffic::Broken);
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
        if *self.traffic.lock().unwrap() == Traffic::Broken {
            return;
        }
        let Ok(server) = TcpStream::connect(broker) else { return };
        let awaited = Arc::new(Awaited::default());
        for (from, to, side) in [(&client, &server, Side::Client), (&server, &client, Side::Broker)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let (proxy, awaited) = (self.clone(), awaited.clone());
            thread::spawn(move || proxy.pump(from, to, side, &awaited));
        }
        self.open.lock().unwrap().extend([client, server]);
    }

    /// Passes on whole messages, each a length and so many bytes.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, side: Side, awaited: &Awaited) {
        while let Some(mut message) = read_message(&mut from) {
            let held = self.traffic.lock().unwrap();
            drop(self.changed.wait_while(held, |traffic| *traffic == Traffic::Held).unwrap());
            let passes = match side {
                Side::Client => self.request_passes(&message, awaited),
                Side::Broker => awaited.answer_passes(&mut message),
            };
            if !passes {
                // What comes behind it waits too: the client gets no further on this connection.
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

    fn request_passes(&self, message: &[u8], awaited: &Awaited) -> bool {
        let Some((request, number, client_id)) = read_header(message) else { return true };
        for spoiler in self.spoilers.lock().unwrap().iter().filter(|spoiler| spoiler.is_meant(request, client_id)) {
            awaited.spoiled.lock().unwrap().push((number, spoiler.clone()));
        }
        let traps = self.traps.lock().unwrap().clone();
        let Some(trap) = traps.iter().find(|trap| trap.is_meant(request, client_id)) else { return true };
        if !trap.counts_to_it() {
            return true;
        }
        if trap.held == Held::Answer {
            awaited.held.lock().unwrap().push((number, trap.clone()));
            return true;
        }
        trap.spring();
        false
    }
}

/// Of one connection, by the numbers that answers carry of their requests.
#[derive(Default)]
struct Awaited {
    held: Mutex<Vec<(i32, Arc<Trap>)>>,
    spoiled: Mutex<Vec<(i32, Arc<Spoiler>)>>,
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Broker,
}

impl Trap {
    /// Waits until the client is held; false if it takes longer than that.
    pub fn wait(&self, at_most: Duration) -> bool {
        let state = self.state.lock().unwrap();
        self.sprung.wait_timeout_while(state, at_most, |state| !state.sprung).unwrap().0.sprung
    }

    fn is_meant(&self, request: i16, client_id: &[u8]) -> bool {
        self.request as i16 == request && self.client_id.as_bytes() == client_id
    }

    fn counts_to_it(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.seen += 1;
        state.seen == self.nth
    }

    fn spring(&self) {
        self.state.lock().unwrap().sprung = true;
        self.sprung.notify_all();
    }
}

impl Spoiler {
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    fn is_meant(&self, request: i16, client_id: &[u8]) -> bool {
        let is_any = self.client_id.is_empty();
        self.request as i16 == request && (is_any || self.client_id.as_bytes() == client_id) && !self.is_done()
    }

    fn spoil(&self, message: &mut Vec<u8>) {
        if !self.is_done() && (self.change)(message) {
            let length = message.len() as u32 - 4;
            message[..4].copy_from_slice(&length.to_be_bytes());
            self.is_done.store(true, Ordering::Release);
        }
    }
}

impl Awaited {
    fn answer_passes(&self, message: &mut Vec<u8>) -> bool {
        let number = message.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        self.spoiled.lock().unwrap().retain(|(awaited, spoiler)| {
            let is_this = Some(*awaited) == number;
            if is_this {
                spoiler.spoil(message);
            }
            !is_this
        });
        match self.held.lock().unwrap().iter().find(|(held, _)| Some(*held) == number) {
            None => true,
            Some((_, trap)) => {
                trap.spring();
                false
            }
        }
    }
}

/// With its length in front; None at the end.
fn read_message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[..4].try_into().ok()?) as usize;
    message.resize(4 + length, 0);
    from.read_exact(&mut message[4..]).ok()?;
    Some(message)
}

/// A request's kind, number and client: 2 bytes of kind, 2 of version, 4 of number, 2 of the name's length, the name.
fn read_header(message: &[u8]) -> Option<(i16, i32, &[u8])> {
    let kind = i16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let number = i32::from_be_bytes(message.get(8..12)?.try_into().ok()?);
    let length = i16::from_be_bytes(message.get(12..14)?.try_into().ok()?);
    Some((kind, number, message.get(14..14 + usize::try_from(length).ok()?)?))
}
