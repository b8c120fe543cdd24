//! The only room that knows librdkafka: clients and the threads that serve them, records in and out, admin
//! requests, the embedded cluster. Everything above speaks of events, topics and errors.

mod admin;
mod buffer;
mod certificate;
mod client;
/// What it declares of librdkafka is nothing of the plugin's header.
///
/// cbindgen:ignore
mod codes;
mod conf;
mod connection_health;
mod consumer;
mod embedded;
mod errors;
mod first_contact;
/// cbindgen:ignore
mod handle;
mod info;
mod log_messages;
mod names;
mod native;
mod overdue;
/// cbindgen:ignore
#[cfg(all(test, feature = "patched"))]
#[path = "patches/tests.rs"]
mod patch_tests;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod pipe;
/// cbindgen:ignore
mod producer;
/// cbindgen:ignore
mod sockets;
mod teardown;
mod token;
mod topic_id;

use std::sync::{Arc, Weak};
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use serde::Serialize;

// What librdkafka is linked with: Rust's linker is told only of crates that are named. `handle` names openssl-sys.
#[cfg(feature = "oidc")]
use curl_sys as _;
use libz_sys as _;
#[cfg(feature = "zstd")]
use zstd_sys as _;

pub use admin::{EmbeddedAdmin, KafkaAdmin};
pub use buffer::EncodedRecord;
use client::{Client, ClientRole, ServedClient};
pub use consumer::{KafkaConsumer, Payload, Pin, RawRecord};
pub use embedded::EmbeddedCluster;
use handle::Handle;
pub use info::KafkaInfoTopics;
pub use native::Message;
pub use overdue::WhenOverdue;
pub use producer::{KafkaProducer, ProducerClients};

use crate::auth::{TokenSource, token_source};
use crate::config::{DriverSettings, MskSettings, Properties};
use crate::error::Result;
use crate::log_throttle::Throttled;
use crate::services::Services;

/// How long a client that no producer uses waits for the next one.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What every client of one driver is made from.
#[derive(Clone)]
pub struct Connection {
    /// The driver's properties, the embedded cluster's address included.
    pub properties: Properties,
    pub services: Services,
    /// Kept for as long as a client may use it.
    pub embedded: Option<Arc<EmbeddedCluster>>,
    /// Who makes tokens, where clients show such.
    pub tokens: Option<Arc<dyn TokenSource>>,
    /// What each client needs for MSK's tokens, whatever its own properties say.
    pub msk: Option<MskSettings>,
    /// The driver's `timeout_ms`.
    pub timeout: Duration,
    /// The driver's `connect_timeout_ms`.
    pub connect_timeout: Duration,
    /// The driver's `exit_flush_ms`.
    pub exit_flush: Duration,
    /// Tells this driver's clients from others' in the brokers' logs.
    pub instance: String,
    /// The clients that this driver's producers share.
    producers: Arc<ProducerClients>,
    /// All clients of this driver.
    pub clients: Arc<Clients>,
    /// The client for admin requests, which also reads info topics.
    control: Arc<OnceCell<Arc<ServedClient>>>,
}

impl Connection {
    pub fn new(settings: &DriverSettings, mut services: Services) -> Result<Self> {
        services.log = Arc::new(Throttled::new(services.log, log_messages::cause_of_line));
        let mut properties = settings.kafka.clone();
        let embedded = match &settings.embedded {
            None => None,
            Some(options) => Some(Arc::new(EmbeddedCluster::start(options.brokers, &services)?)),
        };
        if let Some(cluster) = &embedded {
            properties.set("bootstrap.servers", cluster.bootstrap_servers());
        }
        let instance = uuid::Uuid::new_v4().simple().to_string();
        let tokens = token_source(settings, &services)?;
        // Unknown properties and wrong values are the configuration's fault: said now, not at the first call.
        conf::check(&properties, tokens.is_some())?;
        Ok(Connection {
            properties,
            services,
            embedded,
            tokens,
            msk: settings.msk.clone(),
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
            exit_flush: settings.exit_flush,
            instance,
            producers: ProducerClients::new(IDLE_LIMIT),
            clients: Arc::default(),
            control: Arc::default(),
        })
    }
}

/// The clients of one driver, to be counted.
#[derive(Default)]
pub struct Clients(Mutex<Vec<Weak<Handle>>>);

/// What a driver's clients take.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resources {
    pub clients: usize,
    /// librdkafka's, and those of the plugin that serve them.
    pub threads: usize,
    pub connections: usize,
}

impl Clients {
    fn add(&self, handle: &Arc<Handle>) {
        let mut handles = self.0.lock();
        handles.retain(|known| known.strong_count() > 0);
        handles.push(Arc::downgrade(handle));
    }

    pub fn resources(&self) -> Resources {
        const SERVING_THREAD: usize = 1;
        let handles: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        Resources {
            clients: handles.len(),
            threads: handles.iter().map(|handle| handle.threads() + SERVING_THREAD).sum(),
            connections: handles.iter().map(|handle| handle.connections()).sum(),
        }
    }
}

impl Connection {
    /// `None` where producers can't share: without patches librdkafka flushes all topics of a client, so that they would end
    /// each other's linger.
    pub fn clients_of_producers(&self) -> Option<&Arc<ProducerClients>> {
        cfg!(feature = "patched").then_some(&self.producers)
    }

    /// The client for all that a driver asks the brokers for by itself.
    fn control(&self) -> Result<Arc<ServedClient>> {
        let start = || {
            let mut properties = self.properties.clone();
            // A topic with too few records shows by its end, one whose first records are gone by an error.
            properties.set("enable.partition.eof", "true");
            properties.set("auto.offset.reset", "error");
            // Whoever reads next waits until the broker has answered the request before, which waits for records that
            // never come.
            properties.set("fetch.wait.max.ms", "10");
            properties.set("fetch.min.bytes", "1");
            // A broker may hear of a new topic later than the client; that passes soon.
            properties.set("fetch.error.backoff.ms", "20");
            Client::new(self, ClientRole::Admin, "", properties).and_then(ServedClient::start).map(Arc::new)
        };
        self.control.get_or_try_init(start).cloned()
    }
}

/// What `rd_kafka_version_str()` returns: `2.12.1`, or with patches `2.12.1+octopus.38`, where 38 is the last patch's number.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// librdkafka's `builtin.features`: comma-separated.
pub fn built_in_features() -> String {
    conf::built_in_features()
}
