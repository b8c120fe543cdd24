//! Encodes and decodes the Kafka record of one event. C++ Octopus shares the format, so it must
//! never change:
//!
//! | offset | size | content |
//! | --- | --- | --- |
//! | 0 | 8 | `metadata_size`, unsigned little-endian |
//! | 8 | 8 | `data_size`, unsigned little-endian |
//! | 16 | `metadata_size` | the serialized metadata |
//! | 16 + `metadata_size` | `data_size` | the data |
//!
//! A record whose sizes are both 2^64-1 marks the end of a topic. The built-in serializers write
//! `[u64 length][JSON text]`.
//!
//! Consumers may read records of other formats, too, and producers write them: those of other
//! programs.

mod attributes;
mod value;

use std::ops::Range;

use crate::config::RecordFormats;
use crate::json;
use crate::support::error::{Error, Kind, Result};
pub use attributes::{Attributes, Header, TimestampType};
pub use value::ValueRecord;

/// The size of the header in front of the metadata.
pub(crate) const HEADER: usize = 16;
/// The size of the length that the built-in serializers write in front of the JSON text.
pub(crate) const LENGTH_PREFIX: usize = 8;
const END_OF_TOPIC: u64 = u64::MAX;

/// The metadata of an event that is pushed.
#[derive(Debug, Clone, Copy)]
pub enum Metadata<'a> {
    /// A JSON text, which the built-in serializer writes.
    Json(&'a str),
    /// The output of the host's serializer.
    Serialized(&'a [u8]),
}

impl<'a> Metadata<'a> {
    /// The text or the output, without what the built-in serializer writes in front of it.
    fn bytes(&self) -> &'a [u8] {
        match self {
            Metadata::Json(text) => text.as_bytes(),
            Metadata::Serialized(bytes) => bytes,
        }
    }

    fn size(&self) -> usize {
        match self {
            Metadata::Json(text) => LENGTH_PREFIX + text.len(),
            Metadata::Serialized(bytes) => bytes.len(),
        }
    }
}

/// The content of one Kafka record.
pub trait Record {
    fn metadata(&self) -> Metadata<'_>;

    /// Where the metadata's text begins, if the record has it unchanged, whichever serializer the
    /// topic has.
    fn text_start(&self) -> Option<usize> {
        None
    }

    /// The record's size in bytes; `None` if it overflows.
    fn size(&self) -> Option<usize>;

    /// The data, in the segments that the host passed.
    fn data(&self) -> Vec<&[u8]>;

    /// Whether the record has no value, which is not the same as an empty one.
    fn is_tombstone(&self) -> bool {
        false
    }

    /// Passes the record's bytes to `put`, in order: `size` bytes in all.
    fn encode(&self, put: impl FnMut(&[u8]));
}

/// The record of an event, in the format above. The data is in the segments that the host passed.
pub struct EventRecord<'a, S> {
    metadata: Metadata<'a>,
    segments: S,
    data_size: Option<usize>,
}

impl<'a, S: Iterator<Item = &'a [u8]> + Clone> EventRecord<'a, S> {
    pub fn new(metadata: Metadata<'a>, segments: S) -> Self {
        let data_size = segments.clone().try_fold(0usize, |sum, segment| sum.checked_add(segment.len()));
        EventRecord { metadata, segments, data_size }
    }
}

impl<'a, S: Iterator<Item = &'a [u8]> + Clone> Record for EventRecord<'a, S> {
    fn metadata(&self) -> Metadata<'_> {
        self.metadata
    }

    fn size(&self) -> Option<usize> {
        HEADER.checked_add(self.metadata.size())?.checked_add(self.data_size?)
    }

    fn data(&self) -> Vec<&[u8]> {
        self.segments.clone().collect()
    }

    fn encode(&self, mut put: impl FnMut(&[u8])) {
        let sizes = [self.metadata.size(), self.data_size.unwrap_or(0)];
        // One call of `put` for the header and the length: a call costs as much as copying these
        // bytes.
        let mut head = [0; HEADER + LENGTH_PREFIX];
        head[..8].copy_from_slice(&(sizes[0] as u64).to_le_bytes());
        head[8..HEADER].copy_from_slice(&(sizes[1] as u64).to_le_bytes());
        match self.metadata {
            Metadata::Json(text) => {
                head[HEADER..].copy_from_slice(&(text.len() as u64).to_le_bytes());
                put(&head);
                put(text.as_bytes());
            }
            Metadata::Serialized(bytes) => {
                put(&head[..HEADER]);
                put(bytes);
            }
        }
        self.segments.clone().for_each(put);
    }
}

/// A record of an info topic: these bytes, without the format of events.
pub struct RawBytes<'a>(pub &'a [u8]);

impl Record for RawBytes<'_> {
    fn metadata(&self) -> Metadata<'_> {
        Metadata::Serialized(&[])
    }

    fn size(&self) -> Option<usize> {
        Some(self.0.len())
    }

    fn data(&self) -> Vec<&[u8]> {
        Vec::new()
    }

    fn encode(&self, mut put: impl FnMut(&[u8])) {
        put(self.0);
    }
}

/// The ranges of a record's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordLayout {
    EndOfTopic,
    Event { metadata: Range<usize>, data: Range<usize> },
}

/// The format of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyLayout {
    /// The format above.
    Diaspora(RecordLayout),
    /// All of it is a JSON text.
    Json,
    /// All of it is data.
    Bytes,
}

/// Finds the format of a record. The payload may have any content: it is untrusted.
#[cold]
pub fn layout(payload: &[u8], formats: RecordFormats) -> Result<AnyLayout> {
    match formats {
        RecordFormats::Diaspora => return decode(payload).map(AnyLayout::Diaspora),
        RecordFormats::Bytes => return Ok(AnyLayout::Bytes),
        RecordFormats::Json | RecordFormats::Auto => {}
    }
    // A record without a value, or with an empty one, is no JSON.
    if payload.is_empty() {
        return Ok(AnyLayout::Bytes);
    }
    match framed(payload) {
        // No JSON text begins with the bytes of an end mark.
        Some(layout) if layout == RecordLayout::EndOfTopic || formats == RecordFormats::Auto => {
            return Ok(AnyLayout::Diaspora(layout));
        }
        _ => {}
    }
    match check_json(payload) {
        Ok(()) => Ok(AnyLayout::Json),
        Err(_) if formats == RecordFormats::Auto => Ok(AnyLayout::Bytes),
        Err(reason) => Err(malformed(format!("its value is not JSON (records: \"json\"): {reason}"))),
    }
}

fn check_json(bytes: &[u8]) -> std::result::Result<(), String> {
    json::check(json::from_utf8(bytes).map_err(|reason| format!("not UTF-8: {reason}"))?)
}

/// Finds the parts of a record in the format above. The payload is untrusted.
// Each event is decoded once, and a call costs as much as the function does.
#[inline(always)]
pub fn decode(payload: &[u8]) -> Result<RecordLayout> {
    framed(payload).ok_or_else(|| mismatch(payload))
}

/// The layout of a record in the format above; `None` if it has another one.
#[inline(always)]
fn framed(payload: &[u8]) -> Option<RecordLayout> {
    let (metadata_size, data_size) = (u64_at(payload, 0)?, u64_at(payload, 8)?);
    if metadata_size == END_OF_TOPIC && data_size == END_OF_TOPIC {
        return Some(RecordLayout::EndOfTopic);
    }
    let middle = (HEADER as u64).checked_add(metadata_size)?;
    let end = middle.checked_add(data_size)?;
    (end == payload.len() as u64)
        .then_some(RecordLayout::Event { metadata: HEADER..middle as usize, data: middle as usize..end as usize })
}

/// Why a record is not in the format above.
#[cold]
fn mismatch(payload: &[u8]) -> Error {
    let size = payload.len();
    let (Some(metadata_size), Some(data_size)) = (u64_at(payload, 0), u64_at(payload, 8)) else {
        return malformed(format!("it has {size} bytes, fewer than the {HEADER} of a header"));
    };
    malformed(format!(
        "its header has the sizes {metadata_size} of the metadata and {data_size} of the data, but the record has \
         {size} bytes"
    ))
}

/// The JSON text in metadata of the built-in serializer. Bytes after the text are ignored, as in
/// C++ Octopus.
pub fn json_within(serialized: &[u8]) -> Result<&str> {
    let Some(length) = u64_at(serialized, 0) else {
        let size = serialized.len();
        return Err(malformed(format!("its metadata has {size} bytes, fewer than the {LENGTH_PREFIX} of a length")));
    };
    let text = &serialized[LENGTH_PREFIX..];
    let Some(text) = usize::try_from(length).ok().and_then(|length| text.get(..length)) else {
        return Err(malformed(format!("its metadata's length is {length}, but {} bytes follow", text.len())));
    };
    let text = json::from_utf8(text).map_err(|reason| malformed(format!("its metadata is not UTF-8: {reason}")))?;
    json::check(text).map_err(|reason| malformed(format!("its metadata is not JSON: {reason}")))?;
    Ok(text)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn malformed(reason: String) -> Error {
    Error::new(Kind::MalformedRecord, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(metadata: Metadata, data: &[&[u8]]) -> Vec<u8> {
        let record = EventRecord::new(metadata, data.iter().copied());
        let mut out = Vec::new();
        record.encode(|bytes| out.extend_from_slice(bytes));
        assert_eq!(Some(out.len()), record.size());
        out
    }

    #[test]
    fn record_has_the_exact_bytes_of_the_format() {
        let bytes = encoded(Metadata::Json(r#"{"a":1}"#), &[b"x", b"", b"yz"]);
        let mut expected = vec![15, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(br#"{"a":1}xyz"#);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn encoded_record_is_decoded() {
        let bytes = encoded(Metadata::Json("\"text\""), &[b"data"]);
        let RecordLayout::Event { metadata, data } = decode(&bytes).unwrap() else { panic!("no event") };
        assert_eq!(json_within(&bytes[metadata]).unwrap(), "\"text\"");
        assert_eq!(&bytes[data], b"data");
        let bytes = encoded(Metadata::Serialized(b"own"), &[]);
        assert_eq!(decode(&bytes).unwrap(), RecordLayout::Event { metadata: 16..19, data: 19..19 });
    }

    #[test]
    fn maximum_sizes_mark_the_end_of_a_topic() {
        assert_eq!(decode(&[0xff; 16]).unwrap(), RecordLayout::EndOfTopic);
        assert_eq!(decode(&[0xff; 20]).unwrap(), RecordLayout::EndOfTopic, "bytes may follow");
    }

    /// Also if their sum overflows.
    #[test]
    fn inconsistent_sizes_are_malformed() {
        let sizes = |metadata: u64, data: u64| [metadata.to_le_bytes(), data.to_le_bytes()].concat();
        for invalid in [sizes(1, 0), sizes(0, 1), sizes(u64::MAX, 1), sizes(u64::MAX - 15, 0), sizes(u64::MAX, 0)] {
            assert_eq!(decode(&invalid).unwrap_err().kind(), Kind::MalformedRecord, "{invalid:?}");
        }
        for short in 0..16 {
            assert!(decode(&vec![0; short]).is_err());
        }
    }

    /// A text that is shorter than the metadata is read.
    #[test]
    fn text_longer_than_the_metadata_is_malformed() {
        let with_length = |length: u64| [&length.to_le_bytes()[..], b"[1]   "].concat();
        assert_eq!(json_within(&with_length(3)).unwrap(), "[1]");
        assert!(json_within(&with_length(7)).is_err());
        assert!(json_within(&with_length(u64::MAX)).is_err());
        assert!(json_within(b"1234567").is_err());
    }

    #[test]
    fn metadata_without_utf8_json_is_malformed() {
        for text in [&b"\"\xff\""[..], b"{", b"", b"nul"] {
            let serialized = [&(text.len() as u64).to_le_bytes()[..], text].concat();
            assert_eq!(json_within(&serialized).unwrap_err().kind(), Kind::MalformedRecord);
        }
    }

    #[test]
    fn format_is_found_by_the_option_and_the_content() {
        use RecordFormats::{Auto, Bytes, Diaspora, Json};
        let event = encoded(Metadata::Json("1"), &[b"x"]);
        let framed = Some(AnyLayout::Diaspora(RecordLayout::Event { metadata: 16..25, data: 25..26 }));
        let end = Some(AnyLayout::Diaspora(RecordLayout::EndOfTopic));
        let (json, bytes) = (Some(AnyLayout::Json), Some(AnyLayout::Bytes));
        let text = |size: usize| format!("\"{}\"", "x".repeat(size - 2)).into_bytes();
        for (payload, expected) in [
            (event.clone(), [framed.clone(), None, bytes.clone(), framed]),
            (text(15), [None, json.clone(), bytes.clone(), json.clone()]),
            (text(16), [None, json.clone(), bytes.clone(), json.clone()]),
            (text(17), [None, json.clone(), bytes.clone(), json.clone()]),
            (b" {\"a\": 1}\n".to_vec(), [None, json.clone(), bytes.clone(), json]),
            (b"NaN".to_vec(), [None, None, bytes.clone(), bytes.clone()]),
            (b"\"\xff\"".to_vec(), [None, None, bytes.clone(), bytes.clone()]),
            (Vec::new(), [None, bytes.clone(), bytes.clone(), bytes.clone()]),
            (vec![0xff; 16], [end.clone(), end.clone(), bytes, end]),
        ] {
            let found = [Diaspora, Json, Bytes, Auto].map(|formats| layout(&payload, formats).ok());
            assert_eq!(found, expected, "{payload:?}");
        }
        let reason = layout(b"NaN", Json).unwrap_err();
        assert!(reason.message().contains("records: \"json\""), "{reason}");
        // The sizes add up, so that it is an event; that its metadata is empty is found later.
        assert!(matches!(layout(&[0; 16], Auto), Ok(AnyLayout::Diaspora(RecordLayout::Event { .. }))));
    }
}
