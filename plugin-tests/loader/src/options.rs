//! Options as hosts write them, and as the ABI wants them: JSON texts.

use octopus::abi::octopus_create_topic_args;
use serde_json::{Map, Value};

use crate::raw::optional_text;

/// How a topic is to be made; the default has one partition, three replicas, and default components.
#[derive(Debug, Clone, Default)]
pub struct TopicOptions {
    options: Options,
    validator: Option<String>,
    selector: Option<String>,
    serializer: Option<String>,
}

/// A text that [`TopicOptions::text`] hands over as it is.
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

    /// On how many brokers each partition is stored.
    pub fn replication(self, factor: u32) -> Self {
        self.option("replication_factor", factor)
    }

    /// What decides which events may be pushed: an object with a `"type"`.
    pub fn validator(self, json: impl Into<Value>) -> Self {
        self.text(TopicText::Validator, json.into().to_string())
    }

    /// What decides which partition an event goes to: an object with a `"type"`.
    pub fn selector(self, json: impl Into<Value>) -> Self {
        self.text(TopicText::Selector, json.into().to_string())
    }

    /// What makes bytes of the metadata: an object with a `"type"`.
    pub fn serializer(self, json: impl Into<Value>) -> Self {
        self.text(TopicText::Serializer, json.into().to_string())
    }

    /// Any option of docs/configuration.md, such as `config` with the Kafka topic's own settings.
    pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.set(key, value);
        self
    }

    /// A part as text, whatever it is: JSON or not. [`TopicText::Options`] replaces every single option.
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

    /// Lends the ABI's form of it, whose texts live during `call`.
    pub(crate) fn lend<T>(&self, call: impl FnOnce(&octopus_create_topic_args) -> T) -> T {
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

/// A JSON object in the making, with Kafka's properties in an object of their own; or a text in its place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    object: Map<String, Value>,
    kafka: Map<String, Value>,
    pub text: Option<String>,
}

impl Options {
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.object.insert(key.to_owned(), value.into());
    }

    pub fn set_kafka(&mut self, property: &str, value: impl Into<Value>) {
        self.kafka.insert(property.to_owned(), value.into());
    }

    /// None when nothing was set.
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
