//! The options of a topic that is created, and the names that Kafka accepts.

use super::value::as_count;
use serde_json::Map;

use super::{DriverSettings, EmbeddedSettings, Properties, optional_bool, parse_object};
use crate::support::error::{Error, Result};
use crate::support::stack;

const DEFAULT_REPLICATION: u32 = 3;
/// Options that only the system that creates topics can honor.
const CREATOR_KEYS: [&str; 3] = ["num_partitions", "replication_factor", "config"];
const TOPIC_KEYS: [&str; 4] = ["num_partitions", "replication_factor", "disable_info_topic", "config"];

/// The options of one new topic, with the driver's defaults filled in.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    pub partitions: u32,
    pub replication: u32,
    pub disable_info_topic: bool,
    /// Settings of the Kafka topic itself, such as `max.message.bytes`.
    pub config: Properties,
    /// The names of the given options that only the system that creates topics can honor.
    pub creator_options: Vec<&'static str>,
    /// Keys that are not options.
    pub unknown_keys: Vec<String>,
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
        let count = |key: &str, max, default| match options.get(key) {
            None => Ok(default),
            Some(value) => as_count(key, value, max).map(|n| n as u32),
        };
        let (partitions, max_partitions, replication) = match &driver.embedded {
            Some(embedded) => {
                let replication = embedded.brokers.min(DEFAULT_REPLICATION);
                (embedded.partitions, EmbeddedSettings::MAX_PARTITIONS, replication)
            }
            None => (1, i32::MAX as u64, DEFAULT_REPLICATION),
        };
        Ok(TopicSettings {
            partitions: count("num_partitions", max_partitions, partitions)?,
            replication: count("replication_factor", i16::MAX as u64, replication)?,
            disable_info_topic: optional_bool(&options, "disable_info_topic")?.unwrap_or(driver.disable_info_topic),
            config: match options.get("config") {
                None => Properties::default(),
                Some(value) => Properties::from_json(value, "config")?,
            },
            creator_options: CREATOR_KEYS.into_iter().filter(|key| options.contains_key(*key)).collect(),
            unknown_keys: options.keys().filter(|key| !TOPIC_KEYS.contains(&key.as_str())).cloned().collect(),
        })
    }
}

/// Rejects names that Kafka rejects. The error states the rule.
pub fn check_topic_name(kafka_name: &str) -> Result<()> {
    const MAX_LENGTH: usize = 249;
    let rule = "expected 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\"";
    let violation = match kafka_name {
        "" => Some("is empty".to_owned()),
        "." | ".." => Some("is reserved".to_owned()),
        name if name.len() > MAX_LENGTH => Some(format!("has {} characters, prefixes included", name.len())),
        name => name
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(c)))
            .map(|c| format!("contains {c:?}")),
    };
    match violation {
        None => Ok(()),
        Some(violation) => Err(Error::invalid(format!("topic name {kafka_name:?} {violation}; {rule}"))),
    }
}
