//! Parses JSON into typed settings. Rejects invalid options by the name of their key, before
//! anything reaches Kafka. This module implements docs/reference/configuration.md and does not
//! depend on the clients that the settings configure.

mod addresses;
mod globus;
mod msk;
mod producer_consumer;
mod properties;
mod proxy;
mod record_formats;
mod secret;
mod service;
mod topic;
mod value;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::support::error::{Error, Result};
use crate::support::similar::similar;
use crate::support::stack;
use addresses::check_addresses;
use globus::GlobusSettings;
#[cfg(feature = "aws")]
pub use msk::DEFAULT_SESSION_NAME;
pub use msk::{KeySource, MskSettings};
pub use producer_consumer::ClientSettings;
use producer_consumer::{RECORDS, record_formats};
pub(crate) use properties::MASK;
pub use properties::{Properties, is_secret};
pub use proxy::{ProxyCredentials, ProxyProtocol, ProxySettings};
pub use record_formats::{RecordFormats, ValueFormat};
pub use secret::Secret;
#[cfg(feature = "topic-service")]
pub use service::AuthorizationSource;
pub use service::ServiceSettings;
pub use topic::{TopicSettings, check_topic_name};
use value::{as_bool, as_count, as_number, as_options, as_text};

/// The default of `timeout_ms`: how long a call waits for brokers.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The default of `open_retry_ms`: how long opening a topic retries while the topic is unknown.
const DEFAULT_OPEN_RETRY: Duration = Duration::from_secs(5);
/// The default of `connect_timeout_ms`: after this time, calls that wait for a client that has
/// never reached a broker fail.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The default of `exit_flush_ms`: how long a process waits at its exit until buffered events are
/// delivered.
const DEFAULT_EXIT_FLUSH: Duration = Duration::from_secs(5);
const DEFAULT_INFO_PREFIX: &str = "__info_";

/// The default with the topic service, as in C++ Octopus.
const DEFAULT_SERVICE_INFO_PREFIX: &str = "info_";

const DRIVER_KEYS: [&str; 14] = [
    "kafka",
    "embedded",
    "aws_msk_iam",
    "octopus",
    "namespace",
    "info_topic_prefix",
    "disable_info_topic",
    "timeout_ms",
    "open_retry_ms",
    "exit_flush_ms",
    "connect_timeout_ms",
    RECORDS,
    proxy::KEY,
    globus::KEY,
];

/// The validated configuration of a driver.
#[derive(Debug, Clone, Serialize)]
pub struct DriverSettings {
    pub kafka: Properties,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedSettings>,
    /// Credentials for the tokens of Amazon MSK, if clients authenticate with these.
    #[serde(rename = "aws_msk_iam", skip_serializing_if = "Option::is_none")]
    pub msk: Option<MskSettings>,
    /// The web service that creates topics, if Kafka does not.
    #[serde(rename = "octopus", skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub info_topic_prefix: String,
    pub disable_info_topic: bool,
    #[serde(rename = "timeout_ms", serialize_with = "in_millis")]
    pub timeout: Duration,
    #[serde(rename = "open_retry_ms", serialize_with = "in_millis")]
    pub open_retry: Duration,
    #[serde(rename = "connect_timeout_ms", serialize_with = "in_millis")]
    pub connect_timeout: Duration,
    #[serde(rename = "exit_flush_ms", serialize_with = "in_millis")]
    pub exit_flush: Duration,
    #[serde(serialize_with = "as_name")]
    pub records: RecordFormats,
    /// `None`: connections are direct.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
    /// Keys that are not options; the driver logs a warning for them.
    #[serde(skip)]
    pub unknown_keys: Vec<String>,
}

/// The embedded Kafka: its number of brokers, and the default number of partitions of a topic.
#[derive(Debug, Clone, Serialize)]
pub struct EmbeddedSettings {
    pub brokers: u32,
    pub partitions: u32,
}

impl DriverSettings {
    pub fn parse(json: &str) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Self::read(json))
    }

    fn read(json: &str) -> Result<Self> {
        let root = parse_object(json, "the driver's configuration")?;
        let globus = GlobusSettings::find(&root)?;
        let embedded = root.get("embedded").map(EmbeddedSettings::from_json).transpose()?;
        let mut kafka = match root.get("kafka") {
            Some(value) => Properties::of_driver(value)?,
            None if embedded.is_some() || globus.is_some() => Properties::default(),
            None => {
                let hint = similar_key("kafka", root.keys().map(String::as_str));
                let reason = format_args!(
                    "missing{hint}; expected an object of librdkafka's properties with \"bootstrap.servers\", \
                     or \"embedded\": {{}} to try Octopus without a server"
                );
                return Err(Error::configuration("kafka", reason));
            }
        };
        let (msk, service, default_namespace) = match globus {
            None => (MskSettings::find(&root)?, ServiceSettings::find(&root)?, None),
            Some(globus) => {
                if let Some(servers) = globus.bootstrap_servers {
                    kafka.set_default("bootstrap.servers", servers);
                }
                (Some(globus.msk), globus.service, globus.namespace)
            }
        };
        let knows_brokers = !msk.as_ref().is_some_and(|msk| msk.keys == KeySource::TopicService);
        if knows_brokers || kafka.get("bootstrap.servers").is_some() {
            check_bootstrap_servers(root.get("kafka"), &kafka, embedded.is_some())?;
        }
        match &msk {
            Some(_) if embedded.is_some() => {
                let reason = "the embedded Kafka has no authentication; remove it";
                return Err(Error::configuration("aws_msk_iam", reason));
            }
            Some(msk) => msk.secure(&mut kafka)?,
            None => {}
        }

        if service.is_some() && embedded.is_some() {
            let reason = "the topic service can't create topics in the embedded Kafka; remove it or \"embedded\"";
            return Err(Error::configuration("octopus", reason));
        }
        let info_topic_prefix = match root.get("info_topic_prefix") {
            None if service.is_some() => DEFAULT_SERVICE_INFO_PREFIX.to_owned(),
            None => DEFAULT_INFO_PREFIX.to_owned(),
            Some(value) => match as_text("info_topic_prefix", value)? {
                "" => {
                    return Err(Error::configuration(
                        "info_topic_prefix",
                        "is empty; without a prefix an info topic would have its topic's name",
                    ));
                }
                prefix => prefix.to_owned(),
            },
        };
        let namespace = match root.get("namespace").map(|v| as_text("namespace", v)).transpose()? {
            None => default_namespace,
            Some("") => None,
            Some(namespace) => Some(namespace.to_owned()),
        };
        if service.is_some() && namespace.is_none() {
            let reason = "missing; expected the namespace of the topics at the topic service (\"octopus\")";
            return Err(Error::configuration("namespace", reason));
        }
        let timeout = match root.get("timeout_ms") {
            None => DEFAULT_TIMEOUT,
            Some(value) => Duration::from_millis(as_count("timeout_ms", value, i32::MAX as u64)?),
        };
        let open_retry = match root.get("open_retry_ms") {
            None => DEFAULT_OPEN_RETRY,
            Some(value) => Duration::from_millis(as_number("open_retry_ms", value, 0, i32::MAX as u64)?),
        };
        let connect_timeout = match root.get("connect_timeout_ms") {
            None => DEFAULT_CONNECT_TIMEOUT,
            Some(value) => Duration::from_millis(as_count("connect_timeout_ms", value, i32::MAX as u64)?),
        };
        let exit_flush = match root.get("exit_flush_ms") {
            None => DEFAULT_EXIT_FLUSH,
            Some(value) => Duration::from_millis(as_number("exit_flush_ms", value, 0, i32::MAX as u64)?),
        };
        Ok(DriverSettings {
            kafka,
            embedded,
            msk,
            service,
            namespace,
            info_topic_prefix,
            disable_info_topic: optional_bool(&root, "disable_info_topic")?.unwrap_or(false),
            timeout,
            open_retry,
            connect_timeout,
            exit_flush,
            records: record_formats(root.get(RECORDS), &RecordFormats::ALL)?.unwrap_or_default(),
            proxy: root.get(proxy::KEY).map(ProxySettings::from_json).transpose()?,
            unknown_keys: root.keys().filter(|key| !DRIVER_KEYS.contains(&key.as_str())).cloned().collect(),
        })
    }

    /// The name of the topic in Kafka.
    pub fn kafka_name(&self, topic: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{topic}"),
            None => topic.to_owned(),
        }
    }

    pub fn info_topic_name(&self, topic: &str) -> String {
        self.kafka_name(&format!("{}{topic}", self.info_topic_prefix))
    }

    /// Rejects the name of a topic that the topic service would reject.
    pub fn check_service_name(&self, name: &str) -> Result<()> {
        if self.service.as_ref().is_some_and(|service| service.is_globus) { globus::check_name(name) } else { Ok(()) }
    }

    /// The topic with this name in Kafka; `None` if it is an info topic or not in the namespace.
    pub fn name_of<'a>(&self, kafka_name: &'a str) -> Option<&'a str> {
        let name = match &self.namespace {
            Some(namespace) => kafka_name.strip_prefix(namespace.as_str())?.strip_prefix('.')?,
            None => kafka_name,
        };
        (!name.is_empty() && !name.starts_with(&self.info_topic_prefix)).then_some(name)
    }
}

impl EmbeddedSettings {
    /// librdkafka's mock cluster has a listener for each broker.
    const MAX_BROKERS: u64 = 64;
    /// Each partition takes memory in the host's process.
    const MAX_PARTITIONS: u64 = 10_000;

    fn from_json(value: &Value) -> Result<Self> {
        let options = as_options("embedded", value, &["brokers", "partitions"])?;
        let count = |key: &str, max| match options.get(key) {
            None => Ok(1),
            Some(value) => as_count(&format!("embedded.{key}"), value, max).map(|n| n as u32),
        };
        Ok(EmbeddedSettings {
            brokers: count("brokers", Self::MAX_BROKERS)?,
            partitions: count("partitions", Self::MAX_PARTITIONS)?,
        })
    }
}

fn parse(json: &str, name: &str) -> Result<Value> {
    crate::json::parse(json).map_err(|cause| Error::configuration(name, format_args!("not JSON: {cause}")))
}

fn parse_object(json: &str, name: &str) -> Result<Map<String, Value>> {
    match parse(json, name)? {
        Value::Object(map) => Ok(map),
        other => Err(Error::configuration(name, format_args!("expected an object, got {}", value::kind(&other)))),
    }
}

fn optional_bool(map: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    map.get(key).map(|value| as_bool(key, value)).transpose()
}

fn check_bootstrap_servers(raw: Option<&Value>, kafka: &Properties, embedded: bool) -> Result<()> {
    let key = "kafka.bootstrap.servers";
    match kafka.get("bootstrap.servers") {
        Some(_) if embedded => {
            return Err(Error::configuration(key, "\"embedded\" has its own brokers; remove one of the two"));
        }
        None if !embedded => {
            let hint = similar_key("bootstrap.servers", kafka.iter().map(|(name, _)| name));
            let reason = format_args!("missing{hint}; expected \"host:port,…\" or an array of \"host:port\"");
            return Err(Error::configuration(key, reason));
        }
        Some("") => return Err(Error::configuration(key, "is empty; expected at least one \"host:port\"")),
        _ => {}
    }
    let servers = raw.and_then(|kafka| {
        kafka.get("bootstrap.servers").or_else(|| kafka.get("bootstrap").and_then(|nested| nested.get("servers")))
    });
    let texts_only = match servers {
        None | Some(Value::String(_)) => true,
        Some(Value::Array(hosts)) => hosts.iter().all(Value::is_string),
        Some(_) => false,
    };
    if !texts_only {
        return Err(Error::configuration(key, "expected \"host:port,…\" or an array of \"host:port\""));
    }
    check_addresses(key, kafka.get("bootstrap.servers").unwrap_or_default())
}

/// For the error that a key is missing: the one that is there and may be meant.
fn similar_key<'a>(key: &str, given: impl Iterator<Item = &'a str>) -> String {
    similar(key, given).map(|given| format!(" (there is {given:?})")).unwrap_or_default()
}

fn in_seconds<S: serde::Serializer>(time: &Duration, out: S) -> std::result::Result<S::Ok, S::Error> {
    out.serialize_u64(time.as_secs())
}

fn in_millis<S: serde::Serializer>(time: &Duration, out: S) -> std::result::Result<S::Ok, S::Error> {
    out.serialize_u64(time.as_millis() as u64)
}

fn as_name<S: serde::Serializer>(records: &RecordFormats, out: S) -> std::result::Result<S::Ok, S::Error> {
    records.name().serialize(out)
}

#[cfg(test)]
mod tests;
