//! An event as it was read: its record's bytes, where its parts are in them, and how to acknowledge it.

mod chunk;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::ptr::NonNull;

use crate::components::{Provided, Serializer};
use crate::error::{Error, Kind, Result};
use crate::json;
use crate::kafka::Message;
use crate::poison::Poison;
use crate::positions::{Assignment, Positions};
use crate::record::{self, LENGTH_PREFIX, Layout};
use chunk::Chunk;
pub use chunk::{Filling, SharedEvent};

/// The id of the event that marks the end of a topic.
pub(crate) const NO_MORE_EVENTS: u64 = u64::MAX;

pub struct Event {
    pub poison: Poison,
    chunk: NonNull<Chunk>,
    /// In the chunk, or in the message.
    bytes: NonNull<[u8]>,
    /// Of an answer that the chunk pins.
    _message: Option<Message>,
    parts: Parts,
    offset: u64,
    partition: u32,
    timestamp_ms: i64,
    assignment: Assignment,
}

// SAFETY: what its pointers point to is only read, and lives as long as the event.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

/// Where what is in the record's bytes.
struct Parts {
    serialized: Range<usize>,
    json: Json,
    data: Range<usize>,
    id: u64,
}

/// The metadata's text.
enum Json {
    /// It is in the record.
    Within(Range<usize>),
    /// A serializer of the host's made it.
    Made(Box<str>),
    /// Nobody here can read it.
    Unknown,
}

impl Event {
    fn chunk(&self) -> &Chunk {
        // SAFETY: an event is in its chunk, so that lives as long.
        unsafe { self.chunk.as_ref() }
    }

    fn positions(&self) -> &Positions {
        &self.chunk().positions
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the chunk's, or those of the event's message; nobody changes them.
        unsafe { self.bytes.as_ref() }
    }

    /// The metadata as JSON; `None` when the topic's serializer is one that the core does not have.
    pub fn metadata(&self) -> Option<&str> {
        match &self.parts.json {
            // SAFETY: `Json::read` found UTF-8 there, and nobody changes these bytes.
            Json::Within(range) => Some(unsafe { std::str::from_utf8_unchecked(&self.bytes()[range.clone()]) }),
            Json::Made(text) => Some(text),
            Json::Unknown => None,
        }
    }

    /// The metadata as the serializer wrote it.
    pub fn serialized_metadata(&self) -> &[u8] {
        &self.bytes()[self.parts.serialized.clone()]
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes()[self.parts.data.clone()]
    }

    /// The offset, or [`NO_MORE_EVENTS`].
    pub fn id(&self) -> u64 {
        self.parts.id
    }

    /// Where the record is, the end of a topic included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether its partition is still this consumer's, by the assignment that the event came by.
    pub fn is_current(&self) -> bool {
        self.positions().is_current(self.partition, self.assignment)
    }

    pub fn is_end_of_topic(&self) -> bool {
        self.parts.id == NO_MORE_EVENTS
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Milliseconds since 1970 by the producer's or the broker's clock; -1 when the record has none.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// This event and all before it in its partition are done with; committed within a second, or at once by
    /// [`crate::consumer::Consumer::commit`].
    pub fn acknowledge(&self) -> Result<()> {
        self.positions().acknowledge(self.partition, self.assignment, self.offset)
    }
}

impl Parts {
    fn read(bytes: &[u8], offset: u64, serializer: &Provided<dyn Serializer>) -> Result<Self> {
        Ok(match record::decode(bytes)? {
            Layout::EndOfTopic => Parts { serialized: 0..0, json: Json::Unknown, data: 0..0, id: NO_MORE_EVENTS },
            Layout::Event { metadata, data } => {
                let json = Json::read(bytes, metadata.clone(), serializer)?;
                Parts { serialized: metadata, json, data, id: offset }
            }
        })
    }
}

impl Json {
    fn read(bytes: &[u8], metadata: Range<usize>, serializer: &Provided<dyn Serializer>) -> Result<Self> {
        match serializer {
            Provided::BuiltIn => {
                let length = record::json_within(&bytes[metadata.clone()])?.len();
                let start = metadata.start + LENGTH_PREFIX;
                Ok(Json::Within(start..start + length))
            }
            Provided::By(serializer) => {
                let text = serializer.deserialize(&bytes[metadata])?;
                json::check(&text).map_err(|why| {
                    let said = "the topic's serializer made something of its metadata that is not JSON";
                    Error::new(Kind::MalformedRecord, format!("{said}: {why}"))
                })?;
                Ok(Json::Made(text.into()))
            }
            Provided::Nobody(_) => Ok(Json::Unknown),
        }
    }
}
