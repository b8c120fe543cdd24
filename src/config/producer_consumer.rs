//! The options of a producer or a consumer.

use serde_json::Value;

use super::{Properties, RecordFormats, parse};
use crate::support::error::{Error, Result, shortened};
use crate::support::stack;

/// The settings of a producer or consumer: limits of batches, and its own Kafka properties.
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    pub name: String,
    /// Events in a batch; 0: no preference, `u64::MAX`: adaptive.
    pub batch_size: u64,
    /// Batches that may be buffered; 0: no preference.
    pub max_batches: u64,
    pub kafka: Properties,
    /// Of a producer: whether events may be reordered.
    pub loose: bool,
    /// Of a producer: whether it has its own Kafka client.
    pub is_dedicated: bool,
    /// Of a consumer: the partitions to read; empty: those that the group assigns.
    pub targets: Vec<u32>,
    /// Of a consumer: whether it stops at records that can't be decoded, instead of skipping them.
    pub stops_at_damage: bool,
    /// Of a consumer: the format of the records.
    pub records: RecordFormats,
    /// All keys of the options.
    pub keys: Vec<String>,
}

impl ClientSettings {
    /// `options` of a producer or consumer. Anything but an object is ignored, since the C++ API
    /// passes null, or an array if targets are given.
    pub fn new(name: &str, batch_size: u64, max_batches: u64, options: Option<&str>) -> Result<Self> {
        stack::with(stack::FOR_JSON, || Self::read(name, batch_size, max_batches, options))
    }

    fn read(name: &str, batch_size: u64, max_batches: u64, options: Option<&str>) -> Result<Self> {
        let options = match options {
            None => Value::Null,
            Some(json) => parse(json, "the client's options")?,
        };
        let kafka = match options.get("kafka") {
            None => Properties::default(),
            Some(value) => Properties::from_json(value, "kafka")?,
        };
        let is_dedicated = is_second_of(&options, "client", ["shared", "dedicated"])?;
        let stops_at_damage = is_second_of(&options, "on_damaged", ["skip", "stop"])?;
        let records = record_formats(&options)?;
        let keys = options.as_object().map(|options| options.keys().cloned().collect()).unwrap_or_default();
        let name = name.to_owned();
        Ok(ClientSettings {
            name,
            keys,
            batch_size,
            max_batches,
            kafka,
            is_dedicated,
            stops_at_damage,
            records,
            ..ClientSettings::default()
        })
    }

    /// Keys that are no options of a producer; a warning is logged for them.
    pub fn unknown_to_producers(&self) -> impl Iterator<Item = &str> {
        self.keys_except(&["kafka", "client"])
    }

    /// Keys that are no options of a consumer; a warning is logged for them.
    pub fn unknown_to_consumers(&self) -> impl Iterator<Item = &str> {
        self.keys_except(&["kafka", "on_damaged", "records"])
    }

    fn keys_except(&self, known: &'static [&'static str]) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str).filter(move |key| !known.contains(key))
    }
}

fn record_formats(options: &Value) -> Result<RecordFormats> {
    const KEY: &str = "records";
    let Some(value) = options.get(KEY) else { return Ok(RecordFormats::default()) };
    match value.as_str() {
        Some("diaspora") => Ok(RecordFormats::Diaspora),
        Some("json") => Ok(RecordFormats::Json),
        Some("bytes") => Ok(RecordFormats::Bytes),
        Some("auto") => Ok(RecordFormats::Auto),
        _ => {
            let given = shortened(value);
            let expected = format_args!("expected \"diaspora\", \"json\", \"bytes\" or \"auto\", got {given}");
            Err(Error::configuration(KEY, expected))
        }
    }
}

/// Whether an option has the second of two values. The first is the default.
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
