//! The options of a producer or a consumer.

use serde_json::Value;

use super::value::as_text;
use super::{Properties, RecordFormats, ValueFormat, parse};
use crate::support::error::{Error, Result, shortened};
use crate::support::stack;

pub const RECORDS: &str = "records";
const TRANSACTIONAL_ID: &str = "transactional_id";
const COMMITS: &str = "commits";

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
    /// Of a producer: whether an event's key selects its partition.
    pub key_selects: bool,
    /// Of a producer: its id, if it pushes in transactions.
    pub transactional_id: Option<String>,
    /// Of a consumer: whether its positions are committed in transactions of a producer.
    pub commits_in_transactions: bool,
    /// Of a consumer: the partitions to read; empty: those that the group assigns.
    pub targets: Vec<u32>,
    /// Of a consumer: whether it stops at records that can't be decoded, instead of skipping them.
    pub stops_at_damage: bool,
    /// The format of the records, if the options have one.
    pub records: Option<RecordFormats>,
    /// All keys of the options.
    pub keys: Vec<String>,
}

impl ClientSettings {
    /// `options` of a producer. Anything but an object is ignored, since the C++ API passes null,
    /// or an array if targets are given.
    pub fn of_producer(name: &str, batch_size: u64, max_batches: u64, options: Option<&str>) -> Result<Self> {
        let formats = &RecordFormats::WRITTEN;
        stack::with(stack::FOR_JSON, || Self::read(name, batch_size, max_batches, options, formats))
    }

    /// As [`of_producer`](Self::of_producer), of a consumer.
    pub fn of_consumer(name: &str, batch_size: u64, max_batches: u64, options: Option<&str>) -> Result<Self> {
        let formats = &RecordFormats::ALL;
        stack::with(stack::FOR_JSON, || Self::read(name, batch_size, max_batches, options, formats))
    }

    fn read(
        name: &str,
        batch_size: u64,
        max_batches: u64,
        options: Option<&str>,
        formats: &[RecordFormats],
    ) -> Result<Self> {
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
        let key_selects = is_second_of(&options, "partitioner", ["selector", "key"])?;
        let commits_in_transactions = is_second_of(&options, COMMITS, ["acknowledged", "transaction"])?;
        let transactional_id = options.get(TRANSACTIONAL_ID).map(read_transactional_id).transpose()?;
        let records = record_formats(options.get(RECORDS), formats)?;
        let keys = options.as_object().map(|options| options.keys().cloned().collect()).unwrap_or_default();
        let name = name.to_owned();
        Ok(ClientSettings {
            name,
            keys,
            batch_size,
            max_batches,
            kafka,
            is_dedicated,
            key_selects,
            transactional_id,
            commits_in_transactions,
            stops_at_damage,
            records,
            ..ClientSettings::default()
        })
    }

    /// Of a producer: the format of its records if it is not the one of Octopus. `default` is the
    /// driver's option.
    pub fn written_format(&self, default: RecordFormats) -> Option<ValueFormat> {
        match self.records.unwrap_or(default) {
            RecordFormats::Json => Some(ValueFormat::Json),
            RecordFormats::Bytes => Some(ValueFormat::Bytes),
            // `auto` of the driver is for consumers.
            RecordFormats::Diaspora | RecordFormats::Auto => None,
        }
    }

    /// Keys that are no options of a producer; a warning is logged for them.
    pub fn unknown_to_producers(&self) -> impl Iterator<Item = &str> {
        self.keys_except(&["kafka", "client", "partitioner", TRANSACTIONAL_ID, RECORDS])
    }

    /// Keys that are no options of a consumer; a warning is logged for them.
    pub fn unknown_to_consumers(&self) -> impl Iterator<Item = &str> {
        self.keys_except(&["kafka", "on_damaged", COMMITS, RECORDS])
    }

    fn keys_except(&self, known: &'static [&'static str]) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str).filter(move |key| !known.contains(key))
    }
}

/// The value of the option `records`, which is one of `formats`.
pub fn record_formats(value: Option<&Value>, formats: &[RecordFormats]) -> Result<Option<RecordFormats>> {
    let Some(value) = value else { return Ok(None) };
    if let Some(found) = formats.iter().find(|formats| value.as_str() == Some(formats.name())) {
        return Ok(Some(*found));
    }
    let names: Vec<_> = formats.iter().map(|formats| format!("{:?}", formats.name())).collect();
    let [others @ .., last] = names.as_slice() else { return Ok(None) };
    let (others, given) = (others.join(", "), shortened(value));
    Err(Error::configuration(RECORDS, format_args!("expected {others} or {last}, got {given}")))
}

fn read_transactional_id(value: &Value) -> Result<String> {
    match as_text(TRANSACTIONAL_ID, value)? {
        "" => Err(Error::configuration(TRANSACTIONAL_ID, "is empty; expected an id that no other producer uses")),
        id => Ok(id.to_owned()),
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
