//! A Kafka broker behind the proxy of the testkit. The broker advertises the proxy's port.

use std::ops::Deref;

pub use octopus_testkit::proxy::{ApiKey, FaultInjection, HeldMessage};
use octopus_testkit::proxy::{NetworkFault, Proxy};

use crate::kafka::Kafka;

pub struct ProxiedKafka {
    proxy: Proxy,
    _kafka: Kafka,
}

impl ProxiedKafka {
    pub fn start() -> Self {
        let proxy = Proxy::start(0).unwrap();
        let advertised = format!("advertised.listeners=CLIENT://{}", proxy.address());
        let kafka = Kafka::start(&["--set", &advertised]).unwrap();
        proxy.set_broker(kafka.bootstrap());
        ProxiedKafka { proxy, _kafka: kafka }
    }

    pub fn bootstrap(&self) -> &str {
        self.proxy.address()
    }

    /// Holds all bytes back in the proxy; connections stay open.
    pub fn pause(&self) {
        self.proxy.set_fault(NetworkFault::BlackHole);
    }

    pub fn resume(&self) {
        self.proxy.set_fault(NetworkFault::None);
    }

    /// Closes all connections, and new ones as soon as they are accepted.
    pub fn disconnect(&self) {
        self.proxy.set_fault(NetworkFault::Disconnect);
    }
}

impl Deref for ProxiedKafka {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}
