//! A consumed event: its record's bytes, where the parts of the event are in them, and how to
//! acknowledge it.

mod chunk;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::ptr::NonNull;

use crate::components::{Provided, Serializer};
use crate::config::RecordFormats;
use crate::json;
use crate::kafka::librdkafka::message::Message;
use crate::positions::{Assignment, Positions};
use crate::record::{self, AnyLayout, HEADER, LENGTH_PREFIX, RecordLayout};
use crate::support::error::{Error, Kind, Result};
use crate::support::poison::Poison;
use chunk::Chunk;
pub use chunk::{ChunkBuilder, SharedEvent};

/// The id of the event that marks the end of a topic.
pub(crate) const NO_MORE_EVENTS: u64 = u64::MAX;

pub struct Event {
    pub poison: Poison,
    chunk: NonNull<Chunk>,
    /// The record's bytes: in the chunk, or in the message.
    bytes: NonNull<[u8]>,
    /// A message of the fetch response that the chunk pins, if the bytes stay there.
    _message: Option<Message>,
    parts: RecordParts,
    offset: u64,
    partition: u32,
    timestamp_ms: i64,
    assignment: Assignment,
}

// SAFETY: the pointers refer to the chunk and to the record's bytes, which live as long as the
// event and are only read, or changed by atomics.
unsafe impl Send for Event {}
// SAFETY: as for `Send`.
unsafe impl Sync for Event {}

/// The format of an event's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    Diaspora,
    Json,
    Bytes,
}

/// How a consumer reads records.
pub struct RecordReading<'a> {
    pub formats: RecordFormats,
    /// Of the topic.
    pub serializer: &'a Provided<dyn Serializer>,
}

/// Where the parts of an event are in its record's bytes.
struct RecordParts {
    /// Where the serialized metadata is. It also shows the format of the record: only in the format
    /// of Octopus is something in front of it, and with data only it is empty.
    serialized: Range<usize>,
    json: MetadataText,
    data: Range<usize>,
    id: u64,
}

/// The metadata as JSON text.
enum MetadataText {
    /// The text is in the record's bytes.
    Within(Range<usize>),
    /// A serializer of the host returned the text.
    Owned(Box<str>),
    /// The topic's serializer is missing.
    Unknown,
}

impl Event {
    fn chunk(&self) -> &Chunk {
        // SAFETY: the event lies in its chunk, which is freed only after its events are dropped.
        unsafe { self.chunk.as_ref() }
    }

    fn positions(&self) -> &Positions {
        &self.chunk().positions
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are in the chunk, which outlives the event, or belong to `_message`;
        // they do not change.
        unsafe { self.bytes.as_ref() }
    }

    /// The metadata as JSON; `None` if the topic's serializer is missing.
    pub fn metadata(&self) -> Option<&str> {
        match &self.parts.json {
            // SAFETY: `RecordParts` has only ranges that were checked to be UTF-8, and the bytes do
            // not change.
            MetadataText::Within(range) => Some(unsafe { std::str::from_utf8_unchecked(&self.bytes()[range.clone()]) }),
            MetadataText::Owned(text) => Some(text),
            MetadataText::Unknown => (self.format() == RecordFormat::Bytes).then_some("null"),
        }
    }

    pub fn format(&self) -> RecordFormat {
        if self.parts.serialized.start == HEADER || self.is_end_of_topic() {
            RecordFormat::Diaspora
        } else if self.parts.serialized.is_empty() {
            RecordFormat::Bytes
        } else {
            RecordFormat::Json
        }
    }

    /// The serialized metadata.
    pub fn serialized_metadata(&self) -> &[u8] {
        &self.bytes()[self.parts.serialized.clone()]
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes()[self.parts.data.clone()]
    }

    /// The offset; [`NO_MORE_EVENTS`] for the end-of-topic mark.
    pub fn id(&self) -> u64 {
        self.parts.id
    }

    /// The record's offset, also for the end-of-topic mark.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the assignment under which the event was read is still in effect.
    pub fn is_current(&self) -> bool {
        self.positions().is_current(self.partition, self.assignment)
    }

    pub fn is_end_of_topic(&self) -> bool {
        self.parts.id == NO_MORE_EVENTS
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Milliseconds since 1970 by the producer's or the broker's clock; -1 if the record has none.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// Acknowledges this event and all earlier ones of its partition. The consumer commits that
    /// within a second, or at once in [`crate::client::consumer::Consumer::commit`].
    pub fn acknowledge(&self) -> Result<()> {
        self.positions().acknowledge(self.partition, self.assignment, self.offset)
    }
}

impl RecordParts {
    fn read(bytes: &[u8], offset: u64, reading: &RecordReading) -> Result<Self> {
        let layout = match reading.formats {
            RecordFormats::Diaspora => record::decode(bytes)?,
            formats => match record::layout(bytes, formats)? {
                AnyLayout::Diaspora(layout) => layout,
                AnyLayout::Json => return Ok(RecordParts::of_json(bytes.len(), offset)),
                AnyLayout::Bytes => return Ok(RecordParts::of_bytes(bytes.len(), offset)),
            },
        };
        Ok(match layout {
            RecordLayout::EndOfTopic => {
                RecordParts { serialized: 0..0, json: MetadataText::Unknown, data: 0..0, id: NO_MORE_EVENTS }
            }
            RecordLayout::Event { metadata, data } => {
                let json = MetadataText::read(bytes, metadata.clone(), reading.serializer)?;
                RecordParts { serialized: metadata, json, data, id: offset }
            }
        })
    }

    /// Of a record that was checked to be JSON.
    fn of_json(size: usize, offset: u64) -> Self {
        RecordParts { serialized: 0..size, json: MetadataText::Within(0..size), data: 0..0, id: offset }
    }

    fn of_bytes(size: usize, offset: u64) -> Self {
        RecordParts { serialized: 0..0, json: MetadataText::Unknown, data: 0..size, id: offset }
    }
}

impl MetadataText {
    fn read(bytes: &[u8], metadata: Range<usize>, serializer: &Provided<dyn Serializer>) -> Result<Self> {
        match serializer {
            Provided::BuiltIn => {
                let length = record::json_within(&bytes[metadata.clone()])?.len();
                let start = metadata.start + LENGTH_PREFIX;
                Ok(MetadataText::Within(start..start + length))
            }
            Provided::Custom(serializer) => {
                let text = serializer.deserialize(&bytes[metadata])?;
                json::check(&text).map_err(|reason| {
                    let message = "the topic's serializer returned metadata that is not JSON";
                    Error::new(Kind::MalformedRecord, format!("{message}: {reason}"))
                })?;
                Ok(MetadataText::Owned(text.into()))
            }
            Provided::Missing(_) => Ok(MetadataText::Unknown),
        }
    }
}
