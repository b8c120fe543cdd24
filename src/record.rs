//! The bytes of one event in Kafka, written and read. Shared with C++ Octopus, so never to change:
//!
//! | offset | size | what |
//! | --- | --- | --- |
//! | 0 | 8 | `metadata_size`, unsigned little-endian |
//! | 8 | 8 | `data_size`, unsigned little-endian |
//! | 16 | `metadata_size` | the metadata, as the topic's serializer wrote it |
//! | 16 + `metadata_size` | `data_size` | the data |
//!
//! Both sizes 2^64-1 mark the end of a topic. The built-in serializers write `[u64 length][JSON text]`.

use std::ops::Range;

use crate::error::{Error, Kind, Result};
use crate::json;

/// Bytes in front of the metadata.
pub(crate) const HEADER: usize = 16;
/// Bytes that the built-in serializers put in front of the JSON text.
pub(crate) const LENGTH_PREFIX: usize = 8;
const END_OF_TOPIC: u64 = u64::MAX;

/// The metadata of an event on its way out.
#[derive(Debug, Clone, Copy)]
pub enum Metadata<'a> {
    /// A JSON text, to be written the way of the built-in serializers.
    Json(&'a str),
    /// What a serializer of the host wrote already.
    Serialized(&'a [u8]),
}

impl Metadata<'_> {
    fn size(&self) -> usize {
        match self {
            Metadata::Json(text) => LENGTH_PREFIX + text.len(),
            Metadata::Serialized(bytes) => bytes.len(),
        }
    }
}

/// Something that becomes the bytes of one Kafka record.
pub trait Record {
    fn metadata(&self) -> Metadata<'_>;

    /// Bytes of the record; `None` when the number overflows.
    fn size(&self) -> Option<usize>;

    /// The data, in as many pieces as the host has it.
    fn data(&self) -> Vec<&[u8]>;

    /// Hands the record's bytes to `put`, in order: `size` of them.
    fn encode(&self, put: impl FnMut(&[u8]));
}

/// Metadata and data laid out as above; the data in as many pieces as the host has it.
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
        // What is small is put together: each call of `put` costs as much as it puts.
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

/// A record that is no event: just these bytes. Info topics consist of them.
pub struct Bare<'a>(pub &'a [u8]);

impl Record for Bare<'_> {
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

/// Where the parts of a record are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    EndOfTopic,
    Event { metadata: Range<usize>, data: Range<usize> },
}

/// Finds the parts of a record that somebody wrote; whatever it holds, this neither panics nor reads beyond it.
pub fn decode(payload: &[u8]) -> Result<Layout> {
    let (Some(metadata_size), Some(data_size)) = (u64_at(payload, 0), u64_at(payload, 8)) else {
        return Err(malformed(format!("it has {} bytes, fewer than the header's {HEADER}", payload.len())));
    };
    if metadata_size == END_OF_TOPIC && data_size == END_OF_TOPIC {
        return Ok(Layout::EndOfTopic);
    }
    let end_of_metadata = (HEADER as u64).checked_add(metadata_size);
    let end_of_data = end_of_metadata.and_then(|end| end.checked_add(data_size));
    match (end_of_metadata, end_of_data) {
        (Some(middle), Some(end)) if end == payload.len() as u64 => {
            Ok(Layout::Event { metadata: HEADER..middle as usize, data: middle as usize..end as usize })
        }
        _ => Err(malformed(format!(
            "its header says {metadata_size} bytes of metadata and {data_size} of data, but it has {} bytes",
            payload.len()
        ))),
    }
}

/// The JSON text within metadata that a built-in serializer wrote; what follows the text is ignored.
pub fn json_within(serialized: &[u8]) -> Result<&str> {
    let Some(length) = u64_at(serialized, 0) else {
        let size = serialized.len();
        return Err(malformed(format!("its metadata has {size} bytes, fewer than its length's {LENGTH_PREFIX}")));
    };
    let text = &serialized[LENGTH_PREFIX..];
    let Some(text) = usize::try_from(length).ok().and_then(|length| text.get(..length)) else {
        return Err(malformed(format!("its metadata's text should have {length} bytes, but {} are there", text.len())));
    };
    let text = json::text(text).map_err(|why| malformed(format!("its metadata is not UTF-8: {why}")))?;
    json::check(text).map_err(|why| malformed(format!("its metadata is not JSON: {why}")))?;
    Ok(text)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn malformed(why: String) -> Error {
    Error::new(Kind::MalformedRecord, why)
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
    fn a_record_has_the_exact_bytes_of_the_format() {
        let bytes = encoded(Metadata::Json(r#"{"a":1}"#), &[b"x", b"", b"yz"]);
        let mut expected = vec![15, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(br#"{"a":1}xyz"#);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let bytes = encoded(Metadata::Json("\"text\""), &[b"data"]);
        let Layout::Event { metadata, data } = decode(&bytes).unwrap() else { panic!("no event") };
        assert_eq!(json_within(&bytes[metadata]).unwrap(), "\"text\"");
        assert_eq!(&bytes[data], b"data");
        let bytes = encoded(Metadata::Serialized(b"own"), &[]);
        assert_eq!(decode(&bytes).unwrap(), Layout::Event { metadata: 16..19, data: 19..19 });
    }

    #[test]
    fn both_sizes_at_their_largest_mark_the_end_of_a_topic() {
        assert_eq!(decode(&[0xff; 16]).unwrap(), Layout::EndOfTopic);
        assert_eq!(decode(&[0xff; 20]).unwrap(), Layout::EndOfTopic, "whatever follows");
    }

    #[test]
    fn sizes_that_do_not_add_up_are_malformed_also_when_they_overflow() {
        let sizes = |metadata: u64, data: u64| [metadata.to_le_bytes(), data.to_le_bytes()].concat();
        for wrong in [sizes(1, 0), sizes(0, 1), sizes(u64::MAX, 1), sizes(u64::MAX - 15, 0), sizes(u64::MAX, 0)] {
            assert_eq!(decode(&wrong).unwrap_err().kind(), Kind::MalformedRecord, "{wrong:?}");
        }
        for short in 0..16 {
            assert!(decode(&vec![0; short]).is_err());
        }
    }

    #[test]
    fn a_text_longer_than_its_metadata_is_malformed_and_a_shorter_one_is_read() {
        let with_length = |length: u64| [&length.to_le_bytes()[..], b"[1]   "].concat();
        assert_eq!(json_within(&with_length(3)).unwrap(), "[1]");
        assert!(json_within(&with_length(7)).is_err());
        assert!(json_within(&with_length(u64::MAX)).is_err());
        assert!(json_within(b"1234567").is_err());
    }

    #[test]
    fn metadata_that_is_not_utf8_or_not_json_is_malformed() {
        for text in [&b"\"\xff\""[..], b"{", b"", b"nul"] {
            let serialized = [&(text.len() as u64).to_le_bytes()[..], text].concat();
            assert_eq!(json_within(&serialized).unwrap_err().kind(), Kind::MalformedRecord);
        }
    }
}
