//! Fuzzes the record format: arbitrary bytes, as any client can write them to a topic, and records
//! that Octopus writes, which it must read again.

use std::sync::Arc;

use super::input::Input;
use crate::components::{Provided, Serializer};
use crate::config::RecordFormats;
use crate::event::{ChunkBuilder, NO_MORE_EVENTS, RecordFormat, RecordReading};
use crate::json;
use crate::kafka::librdkafka::record::{Payload, RawRecord};
use crate::positions::{DeliveryOrder, Positions};
use crate::record::{self, EventRecord, HEADER, LENGTH_PREFIX, Metadata, Record, RecordLayout};
use crate::support::error::{Error, Kind, Result};

/// Uses the input as a record, as the parts of an almost valid record, as JSON, and as an event to
/// write.
pub fn record(input: &[u8]) {
    read(input);
    read(&almost_valid(Input::new(input)));
    check_as_json(&String::from_utf8_lossy(input));
    write_and_read(Input::new(input));
}

/// A record with sizes that random mutations rarely produce: correct, off by one, or arbitrary.
fn almost_valid(mut input: Input) -> Vec<u8> {
    let choices = [input.byte(), input.byte(), input.byte()];
    let any = input.number();
    let (text, data) = (input.bytes(), input.bytes());
    let sizes = [LENGTH_PREFIX + text.len(), data.len(), text.len()].map(|size| size as u64);
    let mut record = Vec::new();
    for (size, choice) in sizes.into_iter().zip(choices) {
        let size = match choice % 8 {
            0 => any,
            1 => size + 1,
            2 => size.wrapping_sub(1),
            3 => size.wrapping_neg(),
            _ => size,
        };
        record.extend_from_slice(&size.to_le_bytes());
    }
    record.extend_from_slice(text);
    record.extend_from_slice(data);
    record
}

/// JSON that is nested deeper is checked, but not parsed into a value.
const MAX_VALUE_DEPTH: usize = 127;

fn read(payload: &[u8]) {
    let decoded = record::decode(payload);
    match (&decoded, layout_of(payload)) {
        (Ok(layout), Some(expected)) => assert_eq!(*layout, expected),
        (Err(error), None) => assert_eq!(error.kind(), Kind::MalformedRecord),
        (_, expected) => panic!("decoded as {decoded:?}, expected {expected:?}"),
    }
    if let Ok(RecordLayout::Event { metadata, data }) = decoded {
        let segments = [&payload[data]];
        let again = written(Metadata::Serialized(&payload[metadata]), &segments);
        assert_eq!(again, payload, "a decoded record is encoded differently");
    }
    let serializers: [Provided<dyn Serializer>; 3] = [
        Provided::BuiltIn,
        Provided::Custom(Arc::new(Echo)),
        Provided::Missing(Error::new(Kind::Component, "it is missing")),
    ];
    for serializer in &serializers {
        for formats in [RecordFormats::Diaspora, RecordFormats::Json, RecordFormats::Bytes, RecordFormats::Auto] {
            read_as_event(payload, &RecordReading { formats, serializer });
        }
    }
}

/// An independent, simple implementation of the format.
fn layout_of(payload: &[u8]) -> Option<RecordLayout> {
    let sizes: Vec<u128> = payload
        .chunks_exact(8)
        .take(2)
        .map(|size| size.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte)))
        .collect();
    let [metadata, data] = *sizes.as_slice() else { return None };
    if metadata == u64::MAX.into() && data == u64::MAX.into() {
        return Some(RecordLayout::EndOfTopic);
    }
    (metadata + data + 16 == payload.len() as u128).then(|| {
        let middle = 16 + metadata as usize;
        RecordLayout::Event { metadata: 16..middle, data: middle..payload.len() }
    })
}

/// A serializer that stores the JSON unchanged.
struct Echo;

impl Serializer for Echo {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>> {
        Ok(metadata.into())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn read_as_event(payload: &[u8], reading: &RecordReading) {
    let positions = Arc::new(Positions::default());
    positions.assign(0, 1, None, None);
    let DeliveryOrder::InOrder(assignment) = positions.lock().deliver(0, 7) else {
        panic!("the first event is not in order")
    };
    let raw = RawRecord { payload: Payload::Given(payload), partition: 0, offset: 7, assignment };
    let mut chunk = ChunkBuilder::for_leading(std::slice::from_ref(&raw), &positions).expect("a chunk for one record");
    match chunk.read(raw, reading) {
        Ok(event) => {
            assert_eq!(event.is_end_of_topic(), event.id() == NO_MORE_EVENTS);
            if event.is_end_of_topic() {
                assert!(event.metadata().is_none() && event.data().is_empty());
            } else {
                let (is_framed, formats) = (event.format() == RecordFormat::Diaspora, reading.formats);
                assert!(!is_framed || matches!(formats, RecordFormats::Diaspora | RecordFormats::Auto));
                let header = if is_framed { HEADER } else { 0 };
                assert_eq!(header + event.serialized_metadata().len() + event.data().len(), payload.len());
                let has_text = !is_framed || !matches!(reading.serializer, Provided::Missing(_));
                assert_eq!(event.metadata().is_some(), has_text);
                json::check(event.metadata().unwrap_or("{}")).expect("the metadata of an event is JSON");
            }
            event.acknowledge().expect("its partition is ours");
        }
        Err(error) => assert_eq!(error.kind(), Kind::MalformedRecord, "{error}"),
    }
}

/// The check of a text has the same result as parsing it into a value.
fn check_as_json(text: &str) {
    let checked = json::check(text);
    if depth(text) <= MAX_VALUE_DEPTH {
        let parsed = json::parse(text);
        assert_eq!(checked.is_ok(), parsed.is_ok(), "{text:?}: checked {checked:?}, parsed {parsed:?}");
    }
}

/// How deep arrays and objects are nested, if the text is JSON.
fn depth(text: &str) -> usize {
    let (mut now, mut max, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                now += 1;
                max = max.max(now);
            }
            b']' | b'}' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    max
}

fn write_and_read(mut input: Input) {
    let is_text = input.is();
    let metadata = input.bytes();
    let text = String::from_utf8_lossy(metadata);
    let metadata = if is_text { Metadata::Json(&text) } else { Metadata::Serialized(metadata) };
    let mut segments = Vec::new();
    while !input.is_used_up() {
        segments.push(input.bytes());
    }
    let bytes = written(metadata, &segments);
    // The end of a topic is encoded as two lengths of 2^64-1, which no event has.
    let Ok(RecordLayout::Event { metadata: at, data }) = record::decode(&bytes) else {
        panic!("not an event: {bytes:?}")
    };
    assert_eq!(bytes[data], segments.concat());
    match metadata {
        Metadata::Serialized(serialized) => assert_eq!(&bytes[at], serialized),
        Metadata::Json(text) => match record::json_within(&bytes[at.clone()]) {
            Ok(read) => assert_eq!(read, text),
            Err(error) => {
                assert!(json::check(text).is_err(), "{text:?} was written and can't be read: {error}");
                assert_eq!(&bytes[at][LENGTH_PREFIX..], text.as_bytes());
            }
        },
    }
}

fn written(metadata: Metadata, segments: &[&[u8]]) -> Vec<u8> {
    let record = EventRecord::new(metadata, segments.iter().copied());
    let mut bytes = Vec::new();
    record.encode(|part| bytes.extend_from_slice(part));
    assert_eq!(Some(bytes.len()), record.size());
    bytes
}
