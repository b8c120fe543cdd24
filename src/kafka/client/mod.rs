//! One librdkafka client: its creation from properties, its name in messages, the state of its
//! connections. Producers, consumers and the admin client differ in what else arrives on their
//! queues.

mod connection_health;
mod first_contact;
mod metadata;
mod names;
mod notifications;
mod requests;
mod served;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;

use super::{Connection, EmbeddedCluster, certificate};
use connection_health::ConnectionHealth;
use first_contact::FirstContact;
use names::Names;
pub use served::ServedClient;

use crate::auth::RejectionDebounce;
use crate::config::Properties;
use crate::kafka::librdkafka::conf;
use crate::kafka::librdkafka::extensions::Extensions;
use crate::kafka::librdkafka::handle::Handle;
use crate::kafka::librdkafka::queue::Queue;
use crate::support::error::{Error, Result};
use crate::support::services::Services;
use crate::support::token::TokenSource;

/// The longest sleep of a thread that serves a client. `Queue::wake` ends it early.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRole {
    Admin,
    Producer,
    Consumer,
}

impl ClientRole {
    fn noun(self) -> &'static str {
        match self {
            ClientRole::Admin => "admin",
            ClientRole::Producer => "producer",
            ClientRole::Consumer => "consumer",
        }
    }

    /// Role and name for messages: `producer "detector"`.
    pub fn display_name(self, name: &str) -> String {
        if name.is_empty() { self.noun().to_owned() } else { format!("{} {name:?}", self.noun()) }
    }

    fn librdkafka_type(self) -> rd::rd_kafka_type_t {
        match self {
            ClientRole::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            // The admin client also reads info topics.
            ClientRole::Admin | ClientRole::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        }
    }
}

pub struct Client {
    names: Names,
    bootstrap_servers: String,
    services: Services,
    /// The last failure of the brokers or of the connections to them.
    pub(super) health: ConnectionHealth,
    pub(super) first_contact: FirstContact,
    pub(super) created: Instant,
    fatal: Mutex<Option<Error>>,
    is_transactional: bool,
    /// Whether the property `debug` is set, so that librdkafka's debug messages are logged.
    logs_debug_messages: bool,
    /// The source of the tokens that this client sends to brokers.
    pub(super) tokens: Option<Arc<dyn TokenSource>>,
    /// `sasl.oauthbearer.config`, which the token source reads.
    token_config: String,
    token_refusal: RejectionDebounce,
    pub main: Queue,
    pub handle: Arc<Handle>,
    _embedded: Option<Arc<EmbeddedCluster>>,
}

impl Client {
    /// Creates the client. `properties` are the driver's, overridden by the client's own.
    pub fn new(connection: &Connection, role: ClientRole, name: &str, mut properties: Properties) -> Result<Self> {
        // Neither a metadata request nor producing may create a topic.
        properties.set("allow.auto.create.topics", "false");
        // librdkafka's default of 10 s would delay each call by up to 10 s after the brokers are
        // back.
        if properties.get("reconnect.backoff.ms").is_none() {
            properties.set_default("reconnect.backoff.max.ms", "1000");
        }
        // Log messages arrive on the queue that a thread of the plugin serves, so that the host's
        // logger never runs on a thread of librdkafka.
        properties.set("log.queue", "true");
        properties.set_default("client.id", format!("octopus-{}", &connection.instance[..8]));
        if connection.embedded.is_some()
            && properties.get("bootstrap.servers") != connection.properties.get("bootstrap.servers")
        {
            let reason = "\"embedded\" has its own brokers; remove this property from the client's options";
            return Err(Error::configuration("kafka.bootstrap.servers", reason));
        }
        if let Some(msk) = &connection.msk {
            msk.secure(&mut properties)?;
        }
        conf::use_system_certificates(&mut properties);
        let tokens = connection.tokens.clone();
        conf::check_supported(&properties, tokens.is_some())?;
        let logs_debug_messages = properties.get("debug").is_some_and(|contexts| !contexts.trim().is_empty());
        if role == ClientRole::Producer {
            enable_rejection_messages(&mut properties);
        }
        let config = conf::native(&properties)?;
        let display_name = role.display_name(name);
        let bootstrap_servers = conf::effective(&config, "bootstrap.servers")?;
        let uses_sasl = properties.get("security.protocol").is_some_and(|name| name.to_lowercase().contains("sasl"));
        let has_kerberos = uses_sasl && conf::effective(&config, "sasl.mechanisms")? == "GSSAPI";
        let handle = Arc::new(create_handle(&config, extensions(connection, &config)?, role, &display_name)?);
        connection.clients.add(&handle);
        let main = Queue::main(&handle)?;
        // SAFETY: `handle` keeps the client alive; NULL means its main queue (rdkafka.h).
        unsafe { rd::rd_kafka_set_log_queue(handle.as_ptr(), std::ptr::null_mut()) };
        Ok(Client {
            names: match role {
                // Each producer that shares the client adds its own name.
                ClientRole::Producer => Names::new(&display_name),
                ClientRole::Admin | ClientRole::Consumer => Names::with_name(&display_name),
            },
            services: connection.services.clone(),
            health: ConnectionHealth::default(),
            first_contact: FirstContact::new(
                &bootstrap_servers,
                connection.proxy.is_some(),
                has_kerberos,
                connection.connect_timeout,
            ),
            bootstrap_servers,
            created: Instant::now(),
            fatal: Mutex::new(None),
            is_transactional: properties.get("transactional.id").is_some(),
            logs_debug_messages,
            tokens,
            token_config: properties.get("sasl.oauthbearer.config").unwrap_or_default().to_owned(),
            token_refusal: RejectionDebounce::default(),
            main,
            handle,
            _embedded: connection.embedded.clone(),
        })
    }

    /// The names of the producers or the consumer that use the client.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// One name for all users of the client, for messages.
    pub fn name(&self) -> Arc<str> {
        self.names.summary()
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    pub fn log(&self) -> &dyn log::Log {
        &*self.services.log
    }

    /// The fatal error after which this client can't be used, if there is one.
    pub fn fatal(&self) -> Option<Error> {
        self.fatal.lock().clone()
    }
}

/// Adds the debug context `broker`. Only debug messages of that context say why a broker rejects a
/// produce request. The context logs connections and failures, not each request.
fn enable_rejection_messages(properties: &mut Properties) {
    const CONTEXT: &str = "broker";
    let given = properties.get("debug").map(str::trim).filter(|contexts| !contexts.is_empty());
    let contexts = given.map_or(CONTEXT.to_owned(), |contexts| format!("{contexts},{CONTEXT}"));
    properties.set("debug", contexts);
}

#[cfg(all(feature = "gssapi", feature = "patched"))]
fn extensions(connection: &Connection, config: &NativeClientConfig) -> Result<Extensions> {
    use crate::auth::kerberos::Kerberos;
    use crate::kafka::librdkafka::kerberos::KerberosOfClient;

    /// librdkafka's, which is no identity of a site.
    const DEFAULT_PRINCIPAL: &str = "kafkaclient";
    let proxy = connection.proxy.clone();
    if conf::effective(config, "sasl.mechanisms")? != "GSSAPI" {
        return Ok(Extensions { proxy, kerberos: None });
    }
    let of = |name: &str| conf::effective(config, &format!("sasl.kerberos.{name}"));
    let principal = of("principal")?;
    let principal = if principal == DEFAULT_PRINCIPAL { "" } else { &principal };
    let kerberos = Kerberos::new(&of("service.name")?, principal, &of("keytab").unwrap_or_default())?;
    Ok(Extensions { proxy, kerberos: Some(Arc::new(KerberosOfClient::new(kerberos))) })
}

#[cfg(not(all(feature = "gssapi", feature = "patched")))]
fn extensions(connection: &Connection, _: &NativeClientConfig) -> Result<Extensions> {
    Ok(Extensions { proxy: connection.proxy.clone() })
}

fn create_handle(config: &NativeClientConfig, extensions: Extensions, role: ClientRole, name: &str) -> Result<Handle> {
    const EVENTS: i32 = rd::RD_KAFKA_EVENT_DR
        | rd::RD_KAFKA_EVENT_LOG
        | rd::RD_KAFKA_EVENT_ERROR
        | rd::RD_KAFKA_EVENT_REBALANCE
        | rd::RD_KAFKA_EVENT_OFFSET_COMMIT
        | rd::RD_KAFKA_EVENT_STATS
        | rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
    let adapt = |copy: *mut rd::rd_kafka_conf_t| {
        // SAFETY: `Handle::create` passes a live configuration.
        unsafe { rd::rd_kafka_conf_set_events(copy, EVENTS) };
        certificate::report_refusals(copy);
    };
    let client = match role {
        ClientRole::Admin => "client for admin requests",
        ClientRole::Producer | ClientRole::Consumer => name,
    };
    let rejected = |reason| {
        Error::configuration(
            "kafka",
            format_args!("librdkafka can't create the {client} with these properties: {reason}"),
        )
    };
    Handle::create(role.librdkafka_type(), config, extensions, adapt)
        .map_err(|error| error.into_error(format_args!("creating the {name}"), rejected))
}
