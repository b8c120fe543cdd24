//! A consumed event: its record's bytes, where the parts of the event are in them, and how to
//! acknowledge it.

mod chunk;
#[cfg(test)]
mod tests;

use std::mem::needs_drop;
use std::ptr::NonNull;

use crate::components::{Provided, Serializer};
use crate::config::RecordFormats;
use crate::json;
use crate::kafka::librdkafka::message::Message;
use crate::kafka::librdkafka::record::Payload;
use crate::positions::{Assignment, Positions};
use crate::record::{self, AnyLayout, Attributes, HEADER, Header, LENGTH_PREFIX, RecordLayout, TimestampType};
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
    /// Most records have neither a key nor headers.
    attributes: Option<Box<Attributes>>,
    offset: u64,
    partition: u32,
    timestamp_type: TimestampType,
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
    /// It has no value.
    Tombstone,
}

/// How a consumer reads records.
pub struct RecordReading<'a> {
    pub formats: RecordFormats,
    /// Of the topic.
    pub serializer: &'a Provided<dyn Serializer>,
}

/// Where the parts of an event are in its record's bytes: the data follows the serialized metadata.
struct RecordParts {
    content: Content,
    metadata_size: usize,
    data_size: usize,
    json: MetadataText,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Event(RecordFormat),
    EndOfTopic,
}

/// The metadata as JSON text.
enum MetadataText {
    /// A text of this size in the record's bytes.
    Within { size: usize },
    /// A serializer of the host returned the text.
    Owned(OwnedText),
    /// The topic's serializer is missing, or the record has no metadata.
    Unknown,
}

/// In a box of its own, so that other events don't have its size.
struct OwnedText(Box<Box<str>>);

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
            MetadataText::Within { size } => {
                let text = self.part(self.parts.text_start(), *size);
                // SAFETY: `MetadataText::read` or `record::layout` checked that this is UTF-8, and
                // the bytes do not change.
                Some(unsafe { std::str::from_utf8_unchecked(text) })
            }
            MetadataText::Owned(OwnedText(text)) => Some(text),
            MetadataText::Unknown => {
                matches!(self.format(), RecordFormat::Bytes | RecordFormat::Tombstone).then_some("null")
            }
        }
    }

    pub fn format(&self) -> RecordFormat {
        match self.parts.content {
            Content::Event(format) => format,
            Content::EndOfTopic => RecordFormat::Diaspora,
        }
    }

    /// The serialized metadata.
    pub fn serialized_metadata(&self) -> &[u8] {
        self.part(self.parts.metadata_start(), self.parts.metadata_size)
    }

    pub fn data(&self) -> &[u8] {
        self.part(self.parts.metadata_start() + self.parts.metadata_size, self.parts.data_size)
    }

    /// Whether dropping the event releases something.
    fn owns_memory(&self) -> bool {
        // The atomic of the models has a drop.
        const IS_MODEL: bool = needs_drop::<Poison>() || needs_drop::<Assignment>();
        IS_MODEL
            | self._message.is_some()
            | self.attributes.is_some()
            | matches!(self.parts.json, MetadataText::Owned(_))
    }

    fn part(&self, start: usize, size: usize) -> &[u8] {
        debug_assert!(start + size <= self.bytes().len());
        // SAFETY: the starts and sizes are those that `record` has checked, in `RecordParts::read`,
        // against the size of the record, of which these bytes are a copy or the original.
        unsafe { self.bytes().get_unchecked(start..start + size) }
    }

    /// The record's key; `None` if it has none, which is not the same as an empty one.
    pub fn key(&self) -> Option<&[u8]> {
        self.attributes.as_ref()?.key.as_deref()
    }

    /// The record's headers, in their order.
    pub fn headers(&self) -> &[Header] {
        self.attributes.as_ref().map_or(&[], |attributes| &attributes.headers)
    }

    /// The offset; [`NO_MORE_EVENTS`] for the end-of-topic mark.
    pub fn id(&self) -> u64 {
        if self.is_end_of_topic() { NO_MORE_EVENTS } else { self.offset }
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
        self.parts.content == Content::EndOfTopic
    }

    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Milliseconds since 1970 by the producer's or the broker's clock; -1 if the record has none.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// Acknowledges this event and all earlier ones of its partition. The consumer commits that
    /// within a second, or at once in [`crate::client::consumer::Consumer::commit`].
    pub fn acknowledge(&self) -> Result<()> {
        self.positions().acknowledge(self.partition, self.assignment, self.offset)
    }
}

impl RecordParts {
    #[inline]
    fn read(payload: &Payload, reading: &RecordReading) -> Result<Self> {
        let bytes = payload.bytes();
        let layout = match reading.formats {
            RecordFormats::Diaspora => record::decode(bytes)?,
            formats => match record::layout(bytes, formats)? {
                AnyLayout::Diaspora(layout) => layout,
                AnyLayout::Json => return Ok(RecordParts::of_json(bytes.len())),
                AnyLayout::Bytes if payload.is_absent() => return Ok(RecordParts::of_tombstone()),
                AnyLayout::Bytes => return Ok(RecordParts::of_bytes(bytes.len())),
            },
        };
        Ok(match layout {
            RecordLayout::EndOfTopic => RecordParts::without_metadata(Content::EndOfTopic, 0),
            RecordLayout::Event { metadata, data } => RecordParts {
                content: Content::Event(RecordFormat::Diaspora),
                metadata_size: metadata.len(),
                data_size: data.len(),
                json: MetadataText::read(&bytes[metadata], reading.serializer)?,
            },
        })
    }

    /// Of a record that was checked to be JSON.
    fn of_json(size: usize) -> Self {
        let json = MetadataText::Within { size };
        RecordParts { content: Content::Event(RecordFormat::Json), metadata_size: size, data_size: 0, json }
    }

    fn of_bytes(size: usize) -> Self {
        RecordParts::without_metadata(Content::Event(RecordFormat::Bytes), size)
    }

    fn of_tombstone() -> Self {
        RecordParts::without_metadata(Content::Event(RecordFormat::Tombstone), 0)
    }

    fn without_metadata(content: Content, data_size: usize) -> Self {
        RecordParts { content, metadata_size: 0, data_size, json: MetadataText::Unknown }
    }

    /// Where the serialized metadata begins in the record.
    fn metadata_start(&self) -> usize {
        if self.content == Content::Event(RecordFormat::Diaspora) { HEADER } else { 0 }
    }

    /// Where a text that is in the record begins.
    fn text_start(&self) -> usize {
        if self.content == Content::Event(RecordFormat::Diaspora) { HEADER + LENGTH_PREFIX } else { 0 }
    }
}

impl MetadataText {
    fn read(serialized: &[u8], serializer: &Provided<dyn Serializer>) -> Result<Self> {
        match serializer {
            Provided::BuiltIn => Ok(MetadataText::Within { size: record::json_within(serialized)?.len() }),
            Provided::Custom(serializer) => {
                let text = serializer.deserialize(serialized)?;
                json::check(&text).map_err(|reason| {
                    let message = "the topic's serializer returned metadata that is not JSON";
                    Error::new(Kind::MalformedRecord, format!("{message}: {reason}"))
                })?;
                Ok(MetadataText::Owned(OwnedText(Box::new(text.into()))))
            }
            Provided::Missing(_) => Ok(MetadataText::Unknown),
        }
    }
}
