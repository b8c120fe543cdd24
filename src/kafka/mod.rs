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
mod consumer;
mod embedded;
mod errors;
mod first_contact;
/// cbindgen:ignore
mod handle;
mod info;
mod log_messages;
mod native;
mod overdue;
/// cbindgen:ignore
#[cfg(all(test, feature = "patched"))]
#[path = "patches/tests.rs"]
mod patch_tests;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod pipe;
mod producer;
/// cbindgen:ignore
mod sockets;
mod teardown;
mod token;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

// What librdkafka is linked with: Rust's linker is told only of crates that are named. `handle` names openssl-sys.
#[cfg(feature = "oidc")]
use curl_sys as _;
use libz_sys as _;
#[cfg(feature = "zstd")]
use zstd_sys as _;

pub use admin::{EmbeddedAdmin, KafkaAdmin};
pub use buffer::EncodedRecord;
pub use consumer::{KafkaConsumer, Payload, Pin, RawRecord};
pub use embedded::EmbeddedCluster;
pub use info::KafkaInfoTopics;
pub use native::Message;
pub use overdue::WhenOverdue;
pub use producer::KafkaProducer;

use crate::auth::{TokenSource, token_source};
use crate::config::{DriverSettings, MskSettings, Properties};
use crate::log_throttle::Throttled;
use crate::services::Services;

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
}

impl Connection {
    pub fn new(settings: &DriverSettings, mut services: Services) -> crate::error::Result<Self> {
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
        })
    }
}

/// What `rd_kafka_version_str()` returns: `2.12.1`, or with patches `2.12.1+octopus.33`, where 33 is the last patch's number.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// librdkafka's `builtin.features`: comma-separated.
pub fn built_in_features() -> String {
    conf::built_in_features()
}
