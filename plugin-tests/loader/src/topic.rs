//! An opened topic.

use serde_json::Value;

use crate::abi::{octopus_text, octopus_topic};
use crate::consumer::ConsumerBuilder;
use crate::driver::parse_json;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::producer::ProducerBuilder;
use crate::raw::{EMPTY_TEXT, call, read_bytes};

/// An opened topic, from which producers and consumers are made.
#[derive(Debug)]
pub struct Topic {
    handle: Handle<octopus_topic>,
    name: String,
    partition_count: u32,
    components: Value,
}

impl Topic {
    pub(crate) fn new(handle: Handle<octopus_topic>) -> Result<Self> {
        let (mut name, mut json, mut partition_count) = (EMPTY_TEXT, EMPTY_TEXT, 0);
        // SAFETY: `handle` is live (owned), and the output is a local variable.
        unsafe { call!(handle, topic.name(&mut name)) }?;
        // SAFETY: `handle` is live (owned), and the output is a local variable.
        unsafe { call!(handle, topic.partition_count(&mut partition_count)) }?;
        // SAFETY: `handle` is live (owned), and the output is a local variable.
        unsafe { call!(handle, topic.components(&mut json)) }?;
        // SAFETY: the text is valid until the topic is released (include/octopus.h), and is copied
        // here.
        let name = unsafe { read_utf8(name) }?.to_owned();
        // SAFETY: the text is valid until the topic is released (include/octopus.h).
        let components = parse_json(unsafe { read_utf8(json) }?)?;
        Ok(Topic { handle, name, partition_count, components })
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of partitions when the topic was opened.
    pub fn partition_count(&self) -> u32 {
        self.partition_count
    }

    /// `{"validator":…, "selector":…, "serializer":…}`, as they were given when the topic was
    /// created.
    pub fn components(&self) -> &Value {
        &self.components
    }

    /// Begins a producer. Messages and statistics show its name.
    pub fn producer(&self, name: &str) -> ProducerBuilder<'_> {
        ProducerBuilder::new(&self.handle, name)
    }

    /// Begins a consumer. Its name is its consumer group: consumers with one name share the topic's
    /// partitions, and later ones continue after the last acknowledged events.
    pub fn consumer(&self, name: &str) -> ConsumerBuilder<'_> {
        ConsumerBuilder::new(&self.handle, name)
    }
}

/// A text of the library that has to be UTF-8.
///
/// # Safety
/// `text` is readable and unchanged during `'a`.
unsafe fn read_utf8<'a>(text: octopus_text) -> Result<&'a str> {
    // SAFETY: `text` is readable during `'a` (fn contract).
    str::from_utf8(unsafe { read_bytes(text.data.cast(), text.size) })
        .map_err(|why| Error::bad_library(format!("the library wrote a text of a topic that is not UTF-8: {why}")))
}
