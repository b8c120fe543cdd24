//! A Kafka behind a TCP proxy that can hold its traffic or cut it off. The broker advertises the proxy's port, so
//! that clients stay on it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

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

struct Proxy {
    traffic: Mutex<Traffic>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
}

impl ProxiedKafka {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port for the proxy");
        let address = listener.local_addr().expect("the proxy's port").to_string();
        let kafka = Kafka::start(&["--set", &format!("advertised.listeners=CLIENT://{address}")]);
        let proxy =
            Arc::new(Proxy { traffic: Mutex::new(Traffic::Flows), changed: Condvar::new(), open: Mutex::default() });
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

    /// Bytes wait in the proxy; connections stay.
    pub fn hold(&self) {
        self.proxy.set(Traffic::Held);
    }

    pub fn let_go(&self) {
        self.proxy.set(Traffic::Flows);
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
        if *self.traffic.lock().unwrap() == Traffic::Broken {
            return;
        }
        let Ok(server) = TcpStream::connect(broker) else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let proxy = self.clone();
            thread::spawn(move || proxy.pump(from, to));
        }
        self.open.lock().unwrap().extend([client, server]);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let held = self.traffic.lock().unwrap();
            drop(self.changed.wait_while(held, |traffic| *traffic == Traffic::Held).unwrap());
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
