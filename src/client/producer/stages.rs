//! The stages of an event in the push pipeline: copied from the host, then prepared for sending.

use std::ops::Range;
use std::sync::Arc;

use crate::client::preparation::Preparation;
use crate::components::Serializer;
use crate::delivery::in_flight::Permit;
use crate::json;
use crate::kafka::EncodedRecord;
use crate::record::Attributes;
use crate::support::error::Result;

/// An event copied from the host.
pub struct UnpreparedEvent {
    pub content: Content,
    /// The partition that the host requests.
    pub partition: Option<u64>,
    pub attributes: Option<Box<Attributes>>,
}

pub enum Content {
    /// A record that the core encodes, and where in its bytes the metadata's JSON text is, if it
    /// has one.
    Encoded(EncodedRecord, Option<Range<usize>>),
    /// An event for a serializer of the host.
    Raw { serializer: Arc<dyn Serializer>, metadata: String, data: Vec<u8> },
    /// An event that the host prepares; it has the metadata itself. The data is `None` if the host
    /// passed no segment.
    HostPrepared { preparation: Box<dyn Preparation>, data: Option<Vec<u8>> },
}

/// The result of preparing an event.
pub struct PreparedEvent {
    pub record: Result<PreparedRecord>,
    pub permit: Permit,
}

/// A record without a partition yet.
pub struct PreparedRecord {
    pub record: EncodedRecord,
    pub metadata: SelectorMetadata,
    /// The partition that the host requests.
    pub partition: Option<u64>,
    pub attributes: Option<Box<Attributes>>,
    /// The host's preparation, which selects the partition.
    pub preparation: Option<Box<dyn Preparation>>,
}

/// The metadata's JSON text, for the selector.
pub enum SelectorMetadata {
    /// It is in the record's bytes.
    Within(Range<usize>),
    Owned(String),
    Unknown,
}

/// The text in this range of a record's bytes, which was UTF-8 when it was copied there.
pub fn text_at<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a str {
    bytes.get(range.clone()).and_then(|text| json::from_utf8(text).ok()).unwrap_or_default()
}

/// The host's attributes, for a stage that outlives the push.
pub fn copied(attributes: Option<&Attributes>) -> Option<Box<Attributes>> {
    attributes.map(|attributes| Box::new(attributes.clone()))
}
