//! The only module that uses librdkafka: clients and their serving threads, producing and consuming
//! records, admin requests, the embedded cluster. The modules above know events, topics and errors.

mod admin;
mod buffer;
mod certificate;
mod client;
mod consumer;
mod embedded;
mod info;
pub mod librdkafka;
mod overdue;
/// cbindgen:ignore
#[cfg(all(test, feature = "patched"))]
#[path = "patches/tests/mod.rs"]
mod patch_tests;
/// cbindgen:ignore
mod producer;
mod stats;
mod token;

use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::OnceCell;
use serde::Serialize;

// The libraries that librdkafka is linked with: Rust links only crates that the code names.
// `handle` names openssl-sys.
#[cfg(feature = "oidc")]
use curl_sys as _;
use libz_sys as _;
#[cfg(feature = "zstd")]
use zstd_sys as _;

pub use admin::{EmbeddedAdmin, KafkaAdmin};
pub use buffer::EncodedRecord;
use client::{Client, ClientRole, ServedClient};
pub use consumer::KafkaConsumer;
pub use embedded::EmbeddedCluster;
pub use info::KafkaInfoTopics;
use librdkafka::proxy::Proxy;
use librdkafka::{conf, log_messages};
pub use overdue::WhenOverdue;
pub use producer::{KafkaProducer, ProducerClients, Target, TransactionEnd};
use stats::StatsSources;
pub use stats::{Clients, Stats};

use crate::auth::token_source;
use crate::config::{DriverSettings, MskSettings, Properties};
use crate::support::error::{Error, Kind, Result};
use crate::support::log_throttle::Throttled;
use crate::support::services::Services;
use crate::support::token::TokenSource;
use crate::topics;

/// How long a producers' client without members waits for the next one.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What all clients of one driver are created from.
#[derive(Clone)]
pub struct Connection {
    /// The driver's properties, including the embedded cluster's address.
    pub properties: Properties,
    pub services: Services,
    /// Kept alive as long as a client may use it.
    pub embedded: Option<Arc<EmbeddedCluster>>,
    /// The source of tokens, if clients need them.
    pub tokens: Option<Arc<dyn TokenSource>>,
    /// The settings for MSK's tokens, which override each client's own properties.
    pub msk: Option<MskSettings>,
    /// The proxy of all connections to brokers.
    pub proxy: Option<Arc<Proxy>>,
    /// The driver's `timeout_ms`.
    pub timeout: Duration,
    /// The driver's `connect_timeout_ms`.
    pub connect_timeout: Duration,
    /// The driver's `exit_flush_ms`.
    pub exit_flush: Duration,
    /// Distinguishes this driver's clients in the brokers' logs.
    pub instance: String,
    /// The clients that this driver's producers share.
    producers: Arc<ProducerClients>,
    /// All clients of this driver.
    pub clients: Arc<Clients>,
    /// What the statistics of this driver are made from.
    stats: Arc<StatsSources>,
    throttle: Arc<Throttled>,
    /// The client for admin requests, which also reads info topics.
    admin: Arc<OnceCell<Arc<ServedClient>>>,
}

impl Connection {
    pub fn new(settings: &DriverSettings, mut services: Services) -> Result<Self> {
        let throttle = Arc::new(Throttled::new(services.log, log_messages::cause_of_line));
        services.log = throttle.clone();
        let mut properties = settings.kafka.clone();
        let embedded = match &settings.embedded {
            None => None,
            Some(options) => Some(Arc::new(EmbeddedCluster::start(options.brokers, &services)?)),
        };
        if let Some(cluster) = &embedded {
            properties.set("bootstrap.servers", cluster.bootstrap_servers());
        }
        let instance = uuid::Uuid::new_v4().simple().to_string();
        let ask_for_key = topics::ask_for_key(settings, &services)?;
        if let Some(ask) = &ask_for_key
            && properties.get("bootstrap.servers").is_none()
        {
            properties.set("bootstrap.servers", ask()?.bootstrap_servers);
        }
        let tokens = token_source(settings, &services, ask_for_key)?;
        // Reports unknown properties and wrong values now and not at the first call.
        conf::check(&properties, tokens.is_some())?;
        Ok(Connection {
            properties,
            services,
            embedded,
            tokens,
            msk: settings.msk.clone(),
            proxy: settings.proxy.as_ref().map(Proxy::new).transpose()?.map(Arc::new),
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
            exit_flush: settings.exit_flush,
            instance,
            producers: ProducerClients::new(IDLE_LIMIT),
            clients: Arc::default(),
            stats: Arc::default(),
            throttle,
            admin: Arc::default(),
        })
    }
}

/// The resources of a driver's clients.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resources {
    pub clients: usize,
    /// librdkafka's threads and the plugin's serving threads.
    pub threads: usize,
    pub connections: usize,
}

impl Connection {
    /// `None` if producers can't share clients: without patches librdkafka flushes all topics of a
    /// client, so that producers would end each other's linger.
    pub fn clients_of_producers(&self) -> Option<&Arc<ProducerClients>> {
        cfg!(feature = "patched").then_some(&self.producers)
    }

    /// The admin client. Created at its first use.
    fn admin_client(&self) -> Result<Arc<ServedClient>> {
        let start = || {
            let mut properties = self.properties.clone();
            // Reports the end of a topic with too few records, and an error if its first records
            // are missing.
            properties.set("enable.partition.eof", "true");
            properties.set("auto.offset.reset", "error");
            // A broker processes one fetch request of a connection after the other, and an open one
            // waits for records that never arrive. The next read would wait that long.
            properties.set("fetch.wait.max.ms", "10");
            properties.set("fetch.min.bytes", "1");
            // A broker may learn of a new topic a little later than the client.
            properties.set("fetch.error.backoff.ms", "20");
            Client::new(self, ClientRole::Admin, "", properties).and_then(ServedClient::start).map(Arc::new)
        };
        self.admin.get_or_try_init(start).cloned()
    }
}

/// The error of an option for transactions.
fn transactions_unsupported(option: &str) -> Error {
    Error::new(
        Kind::Unsupported,
        format!("configuration: {option}: the embedded Kafka has no transactions; use a server, or remove the option"),
    )
}

/// What `rd_kafka_version_str()` returns: `2.12.1`, or with patches `2.12.1+octopus.38`, where 38
/// is the last patch's number.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// librdkafka's `builtin.features`: comma-separated.
pub fn built_in_features() -> String {
    conf::built_in_features()
}
