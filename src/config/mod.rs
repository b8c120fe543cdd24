//! JSON in, typed settings out. Whatever is wrong is found here, named by its key, and never reaches Kafka.
//! This room knows the options of docs/configuration.md and nothing of the clients that they configure.

mod msk;
mod properties;
mod service;
mod value;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result, shortened};
use crate::stack;
#[cfg(feature = "aws")]
pub use msk::DEFAULT_SESSION_NAME;
pub use msk::MskSettings;
pub(crate) use properties::MASK;
pub use properties::{Properties, is_secret};
pub use service::{AuthorizationSource, Secret, ServiceSettings};
use value::{as_bool, as_count, as_number, as_options, as_text};

/// How long a call may take when nobody answers, unless `timeout_ms` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long opening looks for a topic that is unknown at first, unless `open_retry_ms` says otherwise.
const DEFAULT_OPEN_RETRY: Duration = Duration::from_secs(5);
/// How long whoever waits for a client that has never reached a broker goes without being told, unless `connect_timeout_ms`
/// says otherwise.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the process waits at its exit for buffered events to be delivered, unless `exit_flush_ms` says otherwise.
const DEFAULT_EXIT_FLUSH: Duration = Duration::from_secs(5);
const DEFAULT_INFO_PREFIX: &str = "__info_";
const DEFAULT_REPLICATION: u32 = 3;

/// Where the topic service makes topics; C++ Octopus has the same.
const DEFAULT_INFO_PREFIX_OF_SERVICE: &str = "info_";

const DRIVER_KEYS: [&str; 11] = [
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
];

const TOPIC_KEYS_OF_THE_MAKER: [&str; 3] = ["num_partitions", "replication_factor", "config"];
const TOPIC_KEYS: [&str; 4] = ["num_partitions", "replication_factor", "disable_info_topic", "config"];

/// Everything that the driver's configuration says, checked.
#[derive(Debug, Clone, Serialize)]
pub struct DriverSettings {
    pub kafka: Properties,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedSettings>,
    /// Tokens for Amazon MSK, if clients shall show such.
    #[serde(rename = "aws_msk_iam", skip_serializing_if = "Option::is_none")]
    pub msk: Option<MskSettings>,
    /// The web service that makes topics, if Kafka doesn't.
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
    /// What the configuration says that nobody reads; the driver warns of them once it can.
    #[serde(skip)]
    pub unknown_keys: Vec<String>,
}

/// The Kafka inside the plugin: how many brokers it plays, and how many partitions a topic has by default.
#[derive(Debug, Clone, Serialize)]
pub struct EmbeddedSettings {
    pub brokers: u32,
    pub partitions: u32,
}

/// The options of one new topic, with the driver's defaults filled in.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    pub partitions: u32,
    pub replication: u32,
    pub disable_info_topic: bool,
    /// Settings of the Kafka topic itself, such as `max.message.bytes`.
    pub config: Properties,
    /// The options given, by name, that only whoever makes the topic can heed.
    pub asked: Vec<&'static str>,
    /// What the options say that nobody reads.
    pub unknown_keys: Vec<String>,
}

/// What both producers and consumers are told: what may be batched and held, and their own Kafka properties.
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    pub name: String,
    /// Events in a batch; 0 is no preference, `u64::MAX` adapts.
    pub batch_size: u64,
    /// Batches that may be held; 0 is no preference.
    pub max_batches: u64,
    pub kafka: Properties,
    /// Of a producer: whether events may be reordered.
    pub loose: bool,
    /// Of a producer: whether it has a Kafka client to itself.
    pub is_dedicated: bool,
    /// Of a consumer: the partitions to read; none: those that the group gives.
    pub targets: Vec<u32>,
    /// Of a consumer: whether reading ends at records that can't be decoded, instead of skipping them.
    pub stops_at_damage: bool,
}

impl DriverSettings {
    pub fn parse(json: &str) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Self::read(json))
    }

    fn read(json: &str) -> Result<Self> {
        let root = parse_object(json, "the driver's configuration")?;
        let embedded = root.get("embedded").map(EmbeddedSettings::from_json).transpose()?;
        let msk = MskSettings::find(&root)?;
        let mut kafka = match root.get("kafka") {
            Some(value) => Properties::of_driver(value)?,
            None if embedded.is_some() => Properties::default(),
            None => {
                return Err(Error::configuration(
                    "kafka",
                    "missing; expected an object of librdkafka's properties with \"bootstrap.servers\", \
                     or \"embedded\": {} to try things without a server",
                ));
            }
        };
        check_bootstrap_servers(root.get("kafka"), &kafka, embedded.is_some())?;
        match &msk {
            Some(_) if embedded.is_some() => {
                let why = "the embedded Kafka asks nobody who they are; leave it out";
                return Err(Error::configuration("aws_msk_iam", why));
            }
            Some(msk) => msk.secure(&mut kafka)?,
            None => {}
        }

        let service = ServiceSettings::find(&root)?;
        if service.is_some() && embedded.is_some() {
            let why = "the service makes topics in a Kafka of its own; leave it or \"embedded\" out";
            return Err(Error::configuration("octopus", why));
        }
        let info_topic_prefix = match root.get("info_topic_prefix") {
            None if service.is_some() => DEFAULT_INFO_PREFIX_OF_SERVICE.to_owned(),
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
            None | Some("") => None,
            Some(namespace) => Some(namespace.to_owned()),
        };
        if service.is_some() && namespace.is_none() {
            let why = "missing; expected the namespace that the topic service (\"octopus\") has topics in";
            return Err(Error::configuration("namespace", why));
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
            unknown_keys: root.keys().filter(|key| !DRIVER_KEYS.contains(&key.as_str())).cloned().collect(),
        })
    }

    /// The name that Kafka knows the topic by.
    pub fn kafka_name(&self, topic: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{topic}"),
            None => topic.to_owned(),
        }
    }

    pub fn info_topic_name(&self, topic: &str) -> String {
        self.kafka_name(&format!("{}{topic}", self.info_topic_prefix))
    }

    /// The topic that Kafka knows by this name; `None` when it's an info topic, or not of our namespace.
    pub fn name_of<'a>(&self, kafka_name: &'a str) -> Option<&'a str> {
        let name = match &self.namespace {
            Some(namespace) => kafka_name.strip_prefix(namespace.as_str())?.strip_prefix('.')?,
            None => kafka_name,
        };
        (!name.is_empty() && !name.starts_with(&self.info_topic_prefix)).then_some(name)
    }
}

impl EmbeddedSettings {
    /// More brokers than a laptop would want; librdkafka's mock cluster has a listener for each.
    const MOST_BROKERS: u64 = 64;
    /// Each costs memory in the host's own process.
    const MOST_PARTITIONS: u64 = 10_000;

    fn from_json(value: &Value) -> Result<Self> {
        let options = as_options("embedded", value, &["brokers", "partitions"])?;
        let count = |key: &str, most| match options.get(key) {
            None => Ok(1),
            Some(value) => as_count(&format!("embedded.{key}"), value, most).map(|n| n as u32),
        };
        Ok(EmbeddedSettings {
            brokers: count("brokers", Self::MOST_BROKERS)?,
            partitions: count("partitions", Self::MOST_PARTITIONS)?,
        })
    }
}

impl TopicSettings {
    pub fn parse(json: Option<&str>, driver: &DriverSettings) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Self::read(json, driver))
    }

    fn read(json: Option<&str>, driver: &DriverSettings) -> Result<Self> {
        let options = match json {
            None => Map::new(),
            Some(json) => parse_object(json, "the topic's options")?,
        };
        let count = |key: &str, most, default| match options.get(key) {
            None => Ok(default),
            Some(value) => as_count(key, value, most).map(|n| n as u32),
        };
        let (partitions, most_partitions, replication) = match &driver.embedded {
            Some(embedded) => {
                let replication = embedded.brokers.min(DEFAULT_REPLICATION);
                (embedded.partitions, EmbeddedSettings::MOST_PARTITIONS, replication)
            }
            None => (1, i32::MAX as u64, DEFAULT_REPLICATION),
        };
        Ok(TopicSettings {
            partitions: count("num_partitions", most_partitions, partitions)?,
            replication: count("replication_factor", i16::MAX as u64, replication)?,
            disable_info_topic: optional_bool(&options, "disable_info_topic")?.unwrap_or(driver.disable_info_topic),
            config: match options.get("config") {
                None => Properties::default(),
                Some(value) => Properties::from_json(value, "config")?,
            },
            asked: TOPIC_KEYS_OF_THE_MAKER.into_iter().filter(|key| options.contains_key(*key)).collect(),
            unknown_keys: options.keys().filter(|key| !TOPIC_KEYS.contains(&key.as_str())).cloned().collect(),
        })
    }
}

impl ClientSettings {
    /// `options` of a producer or consumer: only their `kafka` object counts. Anything but an object is ignored,
    /// since the C++ API passes null, or an array when targets are given.
    pub fn new(name: &str, batch_size: u64, max_batches: u64, options: Option<&str>) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Self::read(name, batch_size, max_batches, options))
    }

    fn read(name: &str, batch_size: u64, max_batches: u64, options: Option<&str>) -> Result<Self> {
        let options = match options {
            None => Value::Null,
            Some(json) => parse(json, "what is given as the client's options")?,
        };
        let kafka = match options.get("kafka") {
            None => Properties::default(),
            Some(value) => Properties::from_json(value, "kafka")?,
        };
        let is_dedicated = is_second_of(&options, "client", ["shared", "dedicated"])?;
        let stops_at_damage = is_second_of(&options, "on_damaged", ["skip", "stop"])?;
        let name = name.to_owned();
        Ok(ClientSettings {
            name,
            batch_size,
            max_batches,
            kafka,
            is_dedicated,
            stops_at_damage,
            ..ClientSettings::default()
        })
    }
}

/// Refuses what Kafka would refuse, with the rule: letters, digits, dot, underscore, hyphen; at most 249 of them.
pub fn check_topic_name(kafka_name: &str) -> Result<()> {
    const LONGEST: usize = 249;
    let rule = "expected 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\"";
    let wrong = match kafka_name {
        "" => Some("is empty".to_owned()),
        "." | ".." => Some("is reserved".to_owned()),
        name if name.len() > LONGEST => Some(format!("has {} characters, prefixes included", name.len())),
        name => name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(c)))
            .map(|c| format!("contains {c:?}")),
    };
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(Error::invalid(format!("topic name {kafka_name:?} {wrong}; {rule}"))),
    }
}

fn parse(json: &str, what: &str) -> Result<Value> {
    crate::json::value(json)
        .map_err(|why| Error::new(Kind::Configuration, format!("configuration: {what} is not JSON: {why}")))
}

fn parse_object(json: &str, what: &str) -> Result<Map<String, Value>> {
    match parse(json, what)? {
        Value::Object(map) => Ok(map),
        other => Err(Error::configuration(what, format_args!("expected an object, got {}", value::kind(&other)))),
    }
}

fn optional_bool(map: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    map.get(key).map(|value| as_bool(key, value)).transpose()
}

/// Which of two values an option has; the first one if it is not given.
fn is_second_of(options: &Value, key: &str, values: [&str; 2]) -> Result<bool> {
    match options.get(key) {
        None => Ok(false),
        Some(Value::String(value)) if value == values[0] => Ok(false),
        Some(Value::String(value)) if value == values[1] => Ok(true),
        Some(other) => {
            let [first, second] = values;
            let expected = format_args!("expected {first:?} or {second:?}, got {}", shortened(other));
            Err(Error::configuration(key, expected))
        }
    }
}

fn check_bootstrap_servers(raw: Option<&Value>, kafka: &Properties, embedded: bool) -> Result<()> {
    let key = "kafka.bootstrap.servers";
    match kafka.get("bootstrap.servers") {
        Some(_) if embedded => {
            return Err(Error::configuration(key, "\"embedded\" brings its own brokers; give one or the other"));
        }
        None if !embedded => {
            return Err(Error::configuration(key, "missing; expected \"host:port,…\" or an array of \"host:port\""));
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
    if texts_only {
        return Ok(());
    }
    Err(Error::configuration(key, "expected \"host:port,…\" or an array of \"host:port\""))
}

fn in_seconds<S: serde::Serializer>(time: &Duration, out: S) -> std::result::Result<S::Ok, S::Error> {
    out.serialize_u64(time.as_secs())
}

fn in_millis<S: serde::Serializer>(time: &Duration, out: S) -> std::result::Result<S::Ok, S::Error> {
    out.serialize_u64(time.as_millis() as u64)
}

#[cfg(test)]
mod tests;
