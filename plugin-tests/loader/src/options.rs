//! Options of topics, producers and consumers, which the ABI takes as JSON texts.

use serde_json::{Map, Value};

use crate::abi::octopus_create_topic_args;
use crate::raw::optional_text;

/// The options of a new topic. By default it has one partition, three replicas and the built-in
/// components.
///
/// ```
/// use octopus_loader::TopicOptions;
/// use serde_json::json;
///
/// let options = TopicOptions::default()
///     .partitions(3)
///     .replication(1)
///     .validator(json!({"type": "schema", "schema": {"type": "object", "required": ["sensor"]}}))
///     .option("config", json!({"retention.ms": "86400000"}));
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
pub struct TopicOptions {
    options: Options,
    validator: Option<String>,
    selector: Option<String>,
    serializer: Option<String>,
}

/// The part of the options that [`TopicOptions::text`] sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicText {
    /// All options.
    Options,
    /// The validator.
    Validator,
    /// The partition selector.
    Selector,
    /// The serializer.
    Serializer,
}

impl TopicOptions {
    /// The number of partitions.
    pub fn partitions(self, count: u32) -> Self {
        self.option("num_partitions", count)
    }

    /// The number of brokers that store each partition.
    pub fn replication(self, factor: u32) -> Self {
        self.option("replication_factor", factor)
    }

    /// The component that decides which events may be pushed: an object with a `"type"`.
    pub fn validator(self, json: impl Into<Value>) -> Self {
        self.text(TopicText::Validator, json.into().to_string())
    }

    /// The component that chooses the partition of an event: an object with a `"type"`.
    pub fn selector(self, json: impl Into<Value>) -> Self {
        self.text(TopicText::Selector, json.into().to_string())
    }

    /// The component that converts metadata to bytes and back: an object with a `"type"`.
    pub fn serializer(self, json: impl Into<Value>) -> Self {
        self.text(TopicText::Serializer, json.into().to_string())
    }

    /// Any option of docs/reference/configuration.md, such as `config` with the settings of the
    /// Kafka topic.
    pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.set(key, value);
        self
    }

    /// Sets a part to a text, without checking that it is JSON. [`TopicText::Options`] replaces all
    /// single options.
    pub fn text(mut self, part: TopicText, text: impl Into<String>) -> Self {
        let place = match part {
            TopicText::Options => &mut self.options.text,
            TopicText::Validator => &mut self.validator,
            TopicText::Selector => &mut self.selector,
            TopicText::Serializer => &mut self.serializer,
        };
        *place = Some(text.into());
        self
    }

    /// Calls `call` with the options as the ABI takes them. Their texts are valid during `call`.
    pub(crate) fn with_args<T>(&self, call: impl FnOnce(&octopus_create_topic_args) -> T) -> T {
        let options = self.options.json();
        call(&octopus_create_topic_args {
            size: size_of::<octopus_create_topic_args>() as u64,
            options: optional_text(options.as_deref()),
            validator: optional_text(self.validator.as_deref()),
            selector: optional_text(self.selector.as_deref()),
            serializer: optional_text(self.serializer.as_deref()),
        })
    }
}

/// Collects options, with Kafka's properties in an object of their own. A text replaces all of
/// them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    object: Map<String, Value>,
    kafka: Map<String, Value>,
    /// Set as a whole by the caller; not necessarily JSON.
    pub text: Option<String>,
}

impl Options {
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.object.insert(key.to_owned(), value.into());
    }

    pub fn set_kafka(&mut self, property: &str, value: impl Into<Value>) {
        self.kafka.insert(property.to_owned(), value.into());
    }

    /// The JSON text, or `None` if nothing was set.
    pub fn json(&self) -> Option<String> {
        if self.text.is_some() {
            return self.text.clone();
        }
        let mut object = self.object.clone();
        if !self.kafka.is_empty() {
            object.insert("kafka".to_owned(), self.kafka.clone().into());
        }
        (!object.is_empty()).then(|| Value::Object(object).to_string())
    }
}

/// Defines the methods of a builder for the options that producers and consumers share.
macro_rules! client_options {
    () => {
        /// Any option of docs/reference/configuration.md.
        pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
            self.options.set(key, value);
            self
        }

        /// A property of librdkafka. It overrides the driver's.
        pub fn kafka(mut self, property: &str, value: impl Into<Value>) -> Self {
            self.options.set_kafka(property, value);
            self
        }

        /// Sets all options to a text, without checking that it is JSON.
        pub fn options_text(mut self, text: &str) -> Self {
            self.options.text = Some(text.to_owned());
            self
        }

        /// The number of events in a batch; 0 for no preference,
        /// [`OCTOPUS_BATCH_SIZE_ADAPTIVE`](crate::abi::OCTOPUS_BATCH_SIZE_ADAPTIVE) to adapt to the
        /// load.
        pub fn batch_size(mut self, events: u64) -> Self {
            self.batch_size = events;
            self
        }

        /// The number of batches in memory; 0 for no preference.
        pub fn max_batches(mut self, batches: u64) -> Self {
            self.max_batches = batches;
            self
        }
    };
}
pub(crate) use client_options;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_kafka_are_an_object_of_their_own() {
        let mut options = Options::default();
        assert_eq!(options.json(), None);
        options.set_kafka("linger.ms", 5);
        options.set("client", "dedicated");
        assert_eq!(options.json().unwrap(), r#"{"client":"dedicated","kafka":{"linger.ms":5}}"#);
        options.text = Some("not JSON".to_owned());
        assert_eq!(options.json().unwrap(), "not JSON");
    }
}
