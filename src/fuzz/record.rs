//! The bytes of records, as anybody can write them into a topic; and what Octopus writes itself, which must be read again.

use std::sync::Arc;

use super::input::Input;
use crate::components::{Provided, Serializer};
use crate::error::{Error, Kind, Result};
use crate::event::{Filling, NO_MORE_EVENTS};
use crate::json;
use crate::kafka::{Payload, RawRecord};
use crate::positions::{Positions, Step};
use crate::record::{self, EventRecord, HEADER, LENGTH_PREFIX, Layout, Metadata, Record};

/// The input is taken for a record, for one that is almost right, for JSON, and for an event to be written.
pub fn record(input: &[u8]) {
    read(input);
    read(&almost_right(Input::new(input)));
    check_as_json(&String::from_utf8_lossy(input));
    write_and_read(Input::new(input));
}

/// Sizes that no mutation of bytes would hit: as they should be, or off by little, or any.
fn almost_right(mut input: Input) -> Vec<u8> {
    let choices = [input.byte(), input.byte(), input.byte()];
    let any = input.number();
    let (text, data) = (input.bytes(), input.bytes());
    let sizes = [LENGTH_PREFIX + text.len(), data.len(), text.len()].map(|right| right as u64);
    let mut record = Vec::new();
    for (size, choice) in sizes.into_iter().zip(choices) {
        let said = match choice % 8 {
            0 => any,
            1 => size + 1,
            2 => size.wrapping_sub(1),
            3 => size.wrapping_neg(),
            _ => size,
        };
        record.extend_from_slice(&said.to_le_bytes());
    }
    record.extend_from_slice(text);
    record.extend_from_slice(data);
    record
}

/// Values that this crate does not build are nested deeper than that.
const DEEPEST_VALUE: usize = 127;

fn read(payload: &[u8]) {
    let decoded = record::decode(payload);
    match (&decoded, layout_of(payload)) {
        (Ok(layout), Some(expected)) => assert_eq!(*layout, expected),
        (Err(error), None) => assert_eq!(error.kind(), Kind::MalformedRecord),
        (_, expected) => panic!("decoded as {decoded:?}, and it is {expected:?}"),
    }
    if let Ok(Layout::Event { metadata, data }) = decoded {
        let segments = [&payload[data]];
        let again = written(Metadata::Serialized(&payload[metadata]), &segments);
        assert_eq!(again, payload, "what was decoded is encoded to the same bytes");
    }
    let serializers: [Provided<dyn Serializer>; 3] = [
        Provided::BuiltIn,
        Provided::By(Arc::new(Echo)),
        Provided::Nobody(Error::new(Kind::Component, "nobody has it")),
    ];
    for serializer in &serializers {
        read_as_event(payload, serializer);
    }
}

/// The format once more, as simply as it can be said.
fn layout_of(payload: &[u8]) -> Option<Layout> {
    let sizes: Vec<u128> = payload
        .chunks_exact(8)
        .take(2)
        .map(|size| size.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte)))
        .collect();
    let [metadata, data] = *sizes.as_slice() else { return None };
    if metadata == u64::MAX.into() && data == u64::MAX.into() {
        return Some(Layout::EndOfTopic);
    }
    (metadata + data + 16 == payload.len() as u128).then(|| {
        let middle = 16 + metadata as usize;
        Layout::Event { metadata: 16..middle, data: middle..payload.len() }
    })
}

/// A serializer of a host that takes the bytes for text.
struct Echo;

impl Serializer for Echo {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>> {
        Ok(metadata.into())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn read_as_event(payload: &[u8], serializer: &Provided<dyn Serializer>) {
    let positions = Arc::new(Positions::default());
    positions.assign(0, 1, None);
    let Step::InOrder(assignment) = positions.turn().deliver(0, 7) else { panic!("the first event is in order") };
    let raw = RawRecord { payload: Payload::Given(payload), partition: 0, offset: 7, timestamp_ms: -1, assignment };
    let mut chunk = Filling::for_first_of(std::slice::from_ref(&raw), &positions).expect("a chunk for one record");
    match chunk.read(raw, serializer) {
        Ok(event) => {
            assert_eq!(event.is_end_of_topic(), event.id() == NO_MORE_EVENTS);
            if event.is_end_of_topic() {
                assert!(event.metadata().is_none() && event.data().is_empty());
            } else {
                assert_eq!(HEADER + event.serialized_metadata().len() + event.data().len(), payload.len());
                let has_text = !matches!(serializer, Provided::Nobody(_));
                assert_eq!(event.metadata().is_some(), has_text);
                json::check(event.metadata().unwrap_or("{}")).expect("the metadata of an event is JSON");
            }
            event.acknowledge().expect("its partition is ours");
        }
        Err(error) => assert_eq!(error.kind(), Kind::MalformedRecord, "{error}"),
    }
}

/// What is said of a text is what building its value says, which fails on the same two things as C++ readers.
fn check_as_json(text: &str) {
    let said = json::check(text);
    if depth(text) <= DEEPEST_VALUE {
        let built = json::value(text);
        assert_eq!(said.is_ok(), built.is_ok(), "{text:?}: said {said:?}, built {built:?}");
    }
}

/// How deeply arrays and objects are nested, if it is JSON.
fn depth(text: &str) -> usize {
    let (mut now, mut most, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
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
    // Two lengths of 2^64-1 can't be written, so no event looks like the end of a topic.
    let Ok(Layout::Event { metadata: at, data }) = record::decode(&bytes) else { panic!("no event: {bytes:?}") };
    assert_eq!(bytes[data], segments.concat());
    match metadata {
        Metadata::Serialized(serialized) => assert_eq!(&bytes[at], serialized),
        Metadata::Json(text) => match record::json_within(&bytes[at.clone()]) {
            Ok(read) => assert_eq!(read, text),
            Err(why) => {
                assert!(json::check(text).is_err(), "{text:?} was written and can't be read: {why}");
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
