//! An event as it was read. What it holds is asked for once, when it is made, and lent from the plugin's memory.

use std::fmt;

use octopus::abi::*;
use serde_json::Value;

use crate::error::{Error, Result, Status};
use crate::raw::{Handle, call, read_bytes};

/// An event as it was read. It stays valid whatever becomes of its consumer; clones share its bytes.
#[derive(Clone)]
pub struct Event {
    handle: Handle<octopus_event>,
    /// What it points to lives as long as the handle.
    view: octopus_event_view,
}

// SAFETY: the view points to bytes that nobody changes, and that the handle, which is `Send`, keeps.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) fn new(handle: Handle<octopus_event>) -> Result<Self> {
        let nothing = octopus_bytes { data: std::ptr::null(), size: 0 };
        let mut view = octopus_event_view {
            size: size_of::<octopus_event_view>() as u64,
            metadata: octopus_text { data: std::ptr::null(), size: 0 },
            serialized_metadata: nothing,
            data: nothing,
            id: 0,
            timestamp_ms: -1,
            partition: 0,
            reserved: 0,
        };
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(handle, event.view(&mut view)) }?;
        Ok(Event { handle, view })
    }

    /// The metadata, as JSON; none at the end of a topic, and when the topic's serializer is one that only the host
    /// has. Looked at each time: nor is it metadata if a library gave what isn't UTF-8.
    pub fn metadata(&self) -> Option<&str> {
        let octopus_text { data, size } = self.view.metadata;
        // SAFETY: lives as long as the handle.
        (!data.is_null()).then(|| str::from_utf8(unsafe { read_bytes(data.cast(), size) }).ok()).flatten()
    }

    /// The metadata, parsed. [`Status::InvalidMetadata`] if there is none, or if it is nested deeper than serde_json
    /// reads (128 levels).
    pub fn json(&self) -> Result<Value> {
        let unreadable = |why: &dyn fmt::Display| Error::new(Status::InvalidMetadata, format!("{self:?}: {why}"));
        let text = self.metadata().ok_or_else(|| unreadable(&"it has no metadata that the plugin can read"))?;
        serde_json::from_str(text).map_err(|why| unreadable(&why))
    }

    /// The metadata, as the serializer wrote it.
    pub fn serialized_metadata(&self) -> &[u8] {
        let octopus_bytes { data, size } = self.view.serialized_metadata;
        // SAFETY: lives as long as the handle.
        unsafe { read_bytes(data, size) }
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        let octopus_bytes { data, size } = self.view.data;
        // SAFETY: lives as long as the handle.
        unsafe { read_bytes(data, size) }
    }

    /// The partition that it is in.
    pub fn partition(&self) -> u32 {
        self.view.partition
    }

    /// The offset in the partition, or `OCTOPUS_EVENT_ID_END_OF_TOPIC` (2^64-1) at the end of a topic.
    pub fn id(&self) -> u64 {
        self.view.id
    }

    /// Whether this is no event, but the mark that no more will come.
    pub fn is_end_of_topic(&self) -> bool {
        self.view.id == OCTOPUS_EVENT_ID_END_OF_TOPIC
    }

    /// Milliseconds since 1970 by the producer's or the broker's clock, if the record says.
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.view.timestamp_ms != -1).then_some(self.view.timestamp_ms)
    }

    /// Says that this event and all before it in its partition are done with: a consumer of the same name made later
    /// starts after it. Acknowledging an earlier one afterwards changes nothing. Returns at once; committed within a
    /// second. [`Status::Stale`] when the partition was taken away since the event was read.
    pub fn acknowledge(&self) -> Result<()> {
        // SAFETY: a live handle.
        unsafe { call!(self.handle, event.acknowledge()) }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_end_of_topic() {
            true => write!(out, "end of topic in partition {}", self.partition()),
            false => write!(out, "event {} of partition {}", self.id(), self.partition()),
        }
    }
}
