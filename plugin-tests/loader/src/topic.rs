//! An opened topic, and what is made from it.

use octopus::abi::{octopus_text, octopus_topic};
use serde_json::Value;

use crate::consumer::ConsumerBuilder;
use crate::driver::parse_json;
use crate::error::{Error, Result};
use crate::producer::ProducerBuilder;
use crate::raw::{Handle, call, read_bytes};

/// An opened topic. What it is was asked once, when it was opened.
#[derive(Debug)]
pub struct Topic {
    handle: Handle<octopus_topic>,
    name: String,
    partition_count: u32,
    components: Value,
}

impl Topic {
    pub(crate) fn new(handle: Handle<octopus_topic>) -> Result<Self> {
        let (mut name, mut json, mut partition_count) = (NOTHING, NOTHING, 0);
        // SAFETY: a live handle; the outputs outlive the calls, and what they point to lives as long as the handle.
        let (name, components) = unsafe {
            call!(handle, topic.name(&mut name))?;
            call!(handle, topic.partition_count(&mut partition_count))?;
            call!(handle, topic.components(&mut json))?;
            (read(name)?.to_owned(), parse_json(read(json)?)?)
        };
        Ok(Topic { handle, name, partition_count, components })
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of partitions when it was opened.
    pub fn partition_count(&self) -> u32 {
        self.partition_count
    }

    /// `{"validator":…, "selector":…, "serializer":…}`, each as it was given when the topic was made.
    pub fn components(&self) -> &Value {
        &self.components
    }

    /// Begins a producer; its name is shown in messages and statistics.
    pub fn producer(&self, name: &str) -> ProducerBuilder<'_> {
        ProducerBuilder::new(&self.handle, name)
    }

    /// Begins a consumer. Its name is its group: consumers of one name share the topic's partitions, and a later one
    /// goes on after the last acknowledged events.
    pub fn consumer(&self, name: &str) -> ConsumerBuilder<'_> {
        ConsumerBuilder::new(&self.handle, name)
    }
}

/// # Safety
/// The text is there for as long as the result is used.
unsafe fn read<'a>(text: octopus_text) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    str::from_utf8(unsafe { read_bytes(text.data.cast(), text.size) })
        .map_err(|why| Error::bad_library(format!("the library gave a text of a topic that is not UTF-8: {why}")))
}

const NOTHING: octopus_text = octopus_text { data: std::ptr::null(), size: 0 };
