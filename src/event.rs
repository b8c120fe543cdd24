//! An event as it was read: its record's bytes, where its parts are in them, and how to acknowledge it.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::health::Health;
use crate::kafka::{Payload, RawRecord};
use crate::positions::{Assignment, Positions};
use crate::record::{self, LENGTH_PREFIX, Layout};

/// The id of the event that marks the end of a topic.
pub(crate) const NO_MORE_EVENTS: u64 = u64::MAX;

pub struct Event {
    pub health: Health,
    payload: Payload,
    serialized: Range<usize>,
    /// Where the metadata's JSON is; `None` when only the host can read it.
    json: Option<Range<usize>>,
    data: Range<usize>,
    id: u64,
    offset: u64,
    partition: u32,
    timestamp_ms: i64,
    assignment: Assignment,
    positions: Arc<Positions>,
}

impl Event {
    pub fn read(record: RawRecord, positions: Arc<Positions>, reads_metadata: bool) -> Result<Self> {
        let bytes = record.payload.bytes();
        let (serialized, json, data, id) = match record::decode(bytes)? {
            Layout::EndOfTopic => (0..0, None, 0..0, NO_MORE_EVENTS),
            Layout::Event { metadata, data } if reads_metadata => {
                let length = record::json_within(&bytes[metadata.clone()])?.len();
                let start = metadata.start + LENGTH_PREFIX;
                (metadata, Some(start..start + length), data, record.offset)
            }
            Layout::Event { metadata, data } => (metadata, None, data, record.offset),
        };
        Ok(Event {
            health: Health::default(),
            serialized,
            json,
            data,
            id,
            offset: record.offset,
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
            assignment: record.assignment,
            payload: record.payload,
            positions,
        })
    }

    /// The metadata as JSON; `None` when the topic's serializer is one that the core does not have.
    pub fn metadata(&self) -> Option<&str> {
        std::str::from_utf8(self.payload.bytes().get(self.json.clone()?)?).ok()
    }

    /// The metadata as the serializer wrote it.
    pub fn serialized_metadata(&self) -> &[u8] {
        &self.payload.bytes()[self.serialized.clone()]
    }

    pub fn data(&self) -> &[u8] {
        &self.payload.bytes()[self.data.clone()]
    }

    /// The offset, or [`NO_MORE_EVENTS`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where the record is, the end of a topic included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether its partition is still this consumer's, by the assignment that the event came by.
    pub fn is_current(&self) -> bool {
        self.positions.is_current(self.partition, self.assignment)
    }

    pub fn is_end_of_topic(&self) -> bool {
        self.id == NO_MORE_EVENTS
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
        self.positions.acknowledge(self.partition, self.assignment, self.offset)
    }
}
