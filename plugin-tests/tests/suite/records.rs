//! The record format of events, against fixed vectors: Octopus reads the records of C++ Octopus and
//! writes the same bytes.

use std::time::Duration;

use octopus_loader::{NewEvent, Status};
use serde_json::{Value, json};

use crate::kafka::{self, Kafka, unique};
use crate::support::{TIMEOUT, has_no_event, read, topic};

/// The record of an event: `metadata_size`, `data_size`, `[length][text]` and the data. All numbers
/// are little-endian `u64`.
fn record(text: &str, data: &[u8]) -> Vec<u8> {
    let sizes = [(text.len() + 8) as u64, data.len() as u64, text.len() as u64];
    [&sizes.map(u64::to_le_bytes).concat(), text.as_bytes(), data].concat()
}

/// The record that C++ Octopus writes for the metadata `{"energy":42,"id":"a"}` and the data 01 02
/// 03.
const FROM_CPP: [u8; 49] = [
    30, 0, 0, 0, 0, 0, 0, 0, // metadata: 8 + 22
    3, 0, 0, 0, 0, 0, 0, 0, // data
    22, 0, 0, 0, 0, 0, 0, 0, // text
    b'{', b'"', b'e', b'n', b'e', b'r', b'g', b'y', b'"', b':', b'4', b'2', b',', b'"', b'i', b'd', b'"', b':', b'"',
    b'a', b'"', b'}', 1, 2, 3,
];

#[test]
fn record_of_cpp_octopus_is_read() {
    let kafka = Kafka::shared();
    let topic = topic("from-cpp", 2);
    kafka::kcat_write(kafka.bootstrap(), topic.name(), 1, &FROM_CPP);
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let event = &read(&consumer, 1)[0];
    assert_eq!(event.metadata(), Some(r#"{"energy":42,"id":"a"}"#));
    assert_eq!(event.serialized_metadata(), &FROM_CPP[16..46]);
    assert_eq!(event.data(), [1, 2, 3]);
    assert_eq!((event.partition(), event.id()), (1, 0));
    assert!(event.timestamp_ms().is_some_and(|ms| ms > 1_500_000_000_000), "{:?}", event.timestamp_ms());
}

#[test]
fn pushed_events_are_written_byte_for_byte_without_a_key() {
    let kafka = Kafka::shared();
    let topic = topic("for-others", 3);
    let producer = topic.producer("p").make().unwrap();
    let large: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let pushed = [
        (NewEvent::text(r#"{"energy":42,"id":"a"}"#).data(&[1, 2, 3]).partition(0), FROM_CPP.to_vec()),
        (NewEvent::text("\"bare ü\"").partition(1), record("\"bare ü\"", b"")),
        (NewEvent::text("{}").segments(&[b"in ", b"", b"pieces"]).partition(2), record("{}", b"in pieces")),
        (NewEvent::serialized(b"\x00own\xff").data(b"d").partition(2), {
            [&[5_u64, 1].map(u64::to_le_bytes).concat()[..], b"\x00own\xff", b"d"].concat()
        }),
        (NewEvent::text("[1]").data(&large).partition(2), record("[1]", &large)),
    ];
    for (event, _) in &pushed {
        producer.push(event).unwrap().wait(TIMEOUT).unwrap();
    }
    let found = kafka::kcat_read(kafka.bootstrap(), topic.name());
    assert!(found.iter().all(|record| record.key.is_none()));
    let mut found: Vec<_> = found.iter().map(|r| (r.partition, r.offset, r.value.clone())).collect();
    found.sort();
    let places = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)];
    for ((found, (_, bytes)), place) in found.iter().zip(&pushed).zip(places) {
        assert_eq!((found.0, found.1), place);
        assert!(found.2 == *bytes, "at {place:?}");
    }
    assert_eq!(found.len(), pushed.len());
}

#[test]
fn any_json_value_as_metadata_comes_back_unchanged() {
    let topic = topic("values", 1);
    let producer = topic.producer("p").make().unwrap();
    let deep = "[".repeat(500) + &"]".repeat(500);
    let texts = [
        "null",
        "true",
        "-0.1",
        "1e300",
        "3.141592653589793",
        "18446744073709551615",
        "\"ümläut \\u00e9\"",
        "[]",
        &deep,
    ];
    for text in texts {
        producer.push_forget(&NewEvent::text(text)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    for (event, text) in read(&consumer, texts.len()).iter().zip(texts) {
        assert_eq!(event.metadata(), Some(text));
    }
}

/// The error names the topic, the partition and the offset.
#[test]
fn malformed_record_is_an_error_and_the_next_event_is_read() {
    let kafka = Kafka::shared();
    let topic = topic("malformed", 1);
    let sizes = |metadata: u64, data: u64| [metadata, data].map(u64::to_le_bytes).concat();
    let malformed = [
        b"x".to_vec(),
        sizes(0, 1),
        sizes(u64::MAX, 0),
        sizes(u64::MAX - 7, 8),
        sizes(0, 0), // too short for the length of the text
        [sizes(8, 0), u64::MAX.to_le_bytes().to_vec()].concat(),
        record("{", b""),
        [sizes(9, 0), 1_u64.to_le_bytes().to_vec(), b"\xff".to_vec()].concat(),
    ];
    for (number, bytes) in malformed.iter().enumerate() {
        kafka::kcat_write(kafka.bootstrap(), topic.name(), 0, bytes);
        kafka::kcat_write(kafka.bootstrap(), topic.name(), 0, &record(&number.to_string(), b""));
    }
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    for number in 0..malformed.len() {
        let error = consumer.next(TIMEOUT).map(drop).unwrap_err();
        assert_eq!(error.status, Status::MalformedRecord, "{number}: {error}");
        let place = format!("offset {} of partition 0", 2 * number);
        assert!(error.message.contains(&place) && error.message.contains(topic.name()), "{error}");
        let event = &read(&consumer, 1)[0];
        assert_eq!((event.json().unwrap(), event.id()), (json!(number), 2 * number as u64 + 1));
    }
    assert!(has_no_event(&consumer));
}

/// The length of the text may be less than the size of the metadata.
#[test]
fn bytes_after_the_metadata_text_are_ignored() {
    let kafka = Kafka::shared();
    let topic = topic("longer", 1);
    let bytes = [&[13_u64, 1, 2].map(u64::to_le_bytes).concat()[..], b"{}???!"].concat();
    kafka::kcat_write(kafka.bootstrap(), topic.name(), 0, &bytes);
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let event = &read(&consumer, 1)[0];
    assert_eq!((event.metadata(), event.data()), (Some("{}"), &b"!"[..]));
}

/// Two sizes of all ones mark the end of a topic. The event can be acknowledged.
#[test]
fn end_of_topic_record_is_an_event_without_content() {
    let kafka = Kafka::shared();
    let topic = topic("end", 1);
    kafka::kcat_write(kafka.bootstrap(), topic.name(), 0, &record("1", b""));
    kafka::kcat_write(kafka.bootstrap(), topic.name(), 0, &[0xff; 16]);
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let events = read(&consumer, 2);
    assert!(!events[0].is_end_of_topic() && events[1].is_end_of_topic());
    assert_eq!((events[1].id(), events[1].partition(), events[1].metadata()), (u64::MAX, 0, None));
    assert!(events[1].data().is_empty());
    events[1].acknowledge().unwrap();
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(kafka::committed_offset(kafka.bootstrap(), consumer.name(), topic.name(), 0), Some(2));
}

/// The type of the serializer is one that this host does not provide. Pushes need serialized
/// metadata.
#[test]
fn event_of_a_missing_serializer_has_bytes_but_no_text() {
    let driver = crate::support::driver();
    let name = unique("own-serializer");
    let own = json!({"type": "messagepack"});
    driver.create_topic(&name, &crate::support::one_replica().serializer(own.clone())).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("p").make().unwrap();
    let error = producer.push(&NewEvent::json(&Value::Null)).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("messagepack") && error.message.contains("serializer"), "{error}");

    producer.push(&NewEvent::serialized(&[0xc0]).data(b"d")).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let event = consumer.next(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!((event.metadata(), event.serialized_metadata(), event.data()), (None, &[0xc0][..], &b"d"[..]));
}
