//! An event that was read. Its content is borrowed from the library's memory.

use std::fmt;

use serde_json::Value;

use crate::abi::*;
use crate::error::{Error, Result, Status};
use crate::handle::Handle;
use crate::raw::{EMPTY_BYTES, EMPTY_TEXT, call, read_bytes};

/// An event that was read. It stays valid when its consumer is closed or dropped. Clones share its
/// bytes.
///
/// An event of more than 1 KiB keeps the fetch response in memory that it arrived in: drop events
/// soon after they are processed.
#[derive(Clone)]
pub struct Event {
    handle: Handle<octopus_event>,
    /// Its pointers are valid as long as `handle`.
    view: octopus_event_view,
}

// SAFETY: the pointers of `view` lead to bytes that never change and live as long as `handle`,
// which is `Send` and `Sync` itself (include/octopus.h: an event can be used from any thread).
unsafe impl Send for Event {}
// SAFETY: as for `Send`.
unsafe impl Sync for Event {}

/// The format of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// Octopus' own.
    Diaspora,
    /// The value is JSON, which is the metadata.
    Json,
    /// The value is the data.
    Bytes,
    /// It has no value, which deletes its key in a topic that is compacted.
    Tombstone,
    /// Another one, of a later version of the library.
    Other(u32),
}

/// A header of a record. Several may have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name, which may be empty if another program wrote it.
    pub name: &'a str,
    /// The value; a header may have none, which is not the same as an empty one.
    pub value: Option<&'a [u8]>,
}

/// Who set a record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Nobody: the record has none.
    Missing,
    /// The producer.
    Create,
    /// The broker, when it stored the record.
    LogAppend,
}

impl Event {
    pub(crate) fn new(handle: Handle<octopus_event>) -> Result<Self> {
        let mut view = octopus_event_view {
            size: size_of::<octopus_event_view>() as u64,
            metadata: EMPTY_TEXT,
            serialized_metadata: EMPTY_BYTES,
            data: EMPTY_BYTES,
            id: 0,
            timestamp_ms: -1,
            partition: 0,
            record_format: 0,
        };
        // SAFETY: `handle` is live (owned), and `view` is writable for the `size` that it names.
        unsafe { call!(handle, event.view(&mut view)) }?;
        Ok(Event { handle, view })
    }

    /// The metadata as JSON text. `None` at the end of a topic, and if the topic's serializer is
    /// one that only the host has.
    pub fn metadata(&self) -> Option<&str> {
        let octopus_text { data, size } = self.view.metadata;
        if data.is_null() {
            return None;
        }
        // SAFETY: the bytes live as long as `self.handle`, hence as long as `self` (octopus.h:
        // pointers of a view are valid until the event is released).
        str::from_utf8(unsafe { read_bytes(data.cast(), size) }).ok()
    }

    /// The metadata, parsed. [`Status::InvalidMetadata`] if there is none, or if it is nested
    /// deeper than the 128 levels that serde_json reads.
    pub fn json(&self) -> Result<Value> {
        let invalid = |why: &dyn fmt::Display| Error::new(Status::InvalidMetadata, format!("{self:?}: {why}"));
        let text = self.metadata().ok_or_else(|| invalid(&"it has no metadata that the library can deserialize"))?;
        serde_json::from_str(text).map_err(|why| invalid(&why))
    }

    /// The metadata as the serializer wrote it.
    pub fn serialized_metadata(&self) -> &[u8] {
        let octopus_bytes { data, size } = self.view.serialized_metadata;
        // SAFETY: the bytes live as long as `self.handle`, hence as long as `self`.
        unsafe { read_bytes(data, size) }
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        let octopus_bytes { data, size } = self.view.data;
        // SAFETY: the bytes live as long as `self.handle`, hence as long as `self`.
        unsafe { read_bytes(data, size) }
    }

    /// The format of the event's record: [`RecordFormat::Diaspora`], unless the consumer has the
    /// option `records`.
    pub fn record_format(&self) -> RecordFormat {
        match i32::try_from(self.view.record_format) {
            Ok(OCTOPUS_RECORD_DIASPORA) => RecordFormat::Diaspora,
            Ok(OCTOPUS_RECORD_JSON) => RecordFormat::Json,
            Ok(OCTOPUS_RECORD_BYTES) => RecordFormat::Bytes,
            Ok(OCTOPUS_RECORD_TOMBSTONE) => RecordFormat::Tombstone,
            _ => RecordFormat::Other(self.view.record_format),
        }
    }

    /// The partition of the event.
    pub fn partition(&self) -> u32 {
        self.view.partition
    }

    /// The offset in the partition, or `OCTOPUS_EVENT_ID_END_OF_TOPIC` (2^64-1) at the end of a
    /// topic.
    pub fn id(&self) -> u64 {
        self.view.id
    }

    /// Whether this is the mark of the end of the topic, which has no content. It occurs only if
    /// another program has written such a record: Octopus reads it and never writes it. At the end
    /// of what is stored, a pull waits for further events.
    pub fn is_end_of_topic(&self) -> bool {
        self.view.id == OCTOPUS_EVENT_ID_END_OF_TOPIC
    }

    /// The record's timestamp in milliseconds since 1970, set by the producer's or the broker's
    /// clock.
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.view.timestamp_ms != -1).then_some(self.view.timestamp_ms)
    }

    /// Who set the timestamp.
    pub fn timestamp_type(&self) -> Result<TimestampType> {
        Ok(match i32::try_from(self.attributes()?.timestamp_type) {
            Ok(OCTOPUS_TIMESTAMP_CREATE) => TimestampType::Create,
            Ok(OCTOPUS_TIMESTAMP_LOG_APPEND) => TimestampType::LogAppend,
            _ => TimestampType::Missing,
        })
    }

    /// The record's key; `None` if it has none.
    pub fn key(&self) -> Result<Option<&[u8]>> {
        let octopus_bytes { data, size } = self.attributes()?.key;
        // SAFETY: the bytes live as long as `self.handle`, hence as long as `self`.
        Ok((!data.is_null()).then(|| unsafe { read_bytes(data, size) }))
    }

    /// The record's headers, in their order.
    pub fn headers(&self) -> Result<Vec<Header<'_>>> {
        (0..self.attributes()?.header_count).map(|index| self.header(index)).collect()
    }

    fn header(&self, index: u64) -> Result<Header<'_>> {
        let mut header = octopus_header { name: EMPTY_TEXT, value: EMPTY_BYTES };
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, event.header(index, &mut header)) }?;
        let octopus_header { name, value } = header;
        // SAFETY: the bytes live as long as `self.handle`, hence as long as `self`.
        let name = str::from_utf8(unsafe { read_bytes(name.data.cast(), name.size) });
        let name =
            name.map_err(|why| Error::new(Status::InvalidMetadata, format!("{self:?}: header {index}: {why}")))?;
        // SAFETY: as above.
        let value = (!value.data.is_null()).then(|| unsafe { read_bytes(value.data, value.size) });
        Ok(Header { name, value })
    }

    fn attributes(&self) -> Result<octopus_event_attributes> {
        let mut attributes = octopus_event_attributes {
            size: size_of::<octopus_event_attributes>() as u64,
            key: EMPTY_BYTES,
            header_count: 0,
            timestamp_type: 0,
            reserved: 0,
        };
        // SAFETY: the handle is live (owned), and `attributes` is writable for the `size` that it
        // names.
        unsafe { call!(self.handle, event.attributes(&mut attributes)) }?;
        Ok(attributes)
    }

    /// Acknowledges this event and all before it in its partition: a later consumer of the same
    /// name starts after it. Acknowledging an earlier event afterwards changes nothing. Returns at
    /// once; the position is committed within a second.
    ///
    /// [`Status::Stale`] if the partition was revoked since the event was read.
    pub fn acknowledge(&self) -> Result<()> {
        // SAFETY: the handle is live (owned).
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
