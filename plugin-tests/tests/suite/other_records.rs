//! Records of other programs, which consumers with the option `records` read: those of Globus' SDK,
//! of kcat with each codec, and of Kafka's own producer.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use octopus_loader::{Consumer, Event, NewEvent, RecordFormat, Status, Topic};
use octopus_testkit::tools::{kafka_tool, kcat, run_tool};
use serde_json::{Value, json};

use crate::kafka::{Kafka, unique};
use crate::support::{TIMEOUT, octopus, one_replica, read, topic};
use crate::topic_service::python;

/// The script with the clients of Python.
pub const OTHER_CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/other_records.py");

/// The metadata, the data and the format of an event.
type Content = (Value, Vec<u8>, RecordFormat);

fn content(event: &Event) -> Content {
    (event.json().unwrap(), event.data().to_vec(), event.record_format())
}

fn of_json(value: Value) -> Content {
    (value, Vec::new(), RecordFormat::Json)
}

fn of_bytes(data: &[u8]) -> Content {
    (Value::Null, data.to_vec(), RecordFormat::Bytes)
}

fn reader(topic: &Topic, records: &str) -> Consumer {
    topic.consumer(&unique("reader")).option("records", records).make().unwrap()
}

fn contents(topic: &Topic, records: &str, count: usize) -> Vec<Content> {
    read(&reader(topic, records), count).iter().map(content).collect()
}

fn encoded(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

/// Writes one record with exactly these bytes.
fn write(topic: &Topic, value: &[u8], options: &[&str]) {
    let file = format!("{}/{}", env!("CARGO_TARGET_TMPDIR"), unique("value"));
    fs::write(&file, value).unwrap();
    let arguments = ["-P", "-b", Kafka::shared().bootstrap(), "-t", topic.name(), "-p", "0"];
    kcat(&[&arguments, options, &[&file]].concat()).unwrap();
    fs::remove_file(&file).unwrap();
}

/// Writes a record without a value.
fn write_tombstone(topic: &Topic) {
    let arguments = ["-P", "-Z", "-K:", "-b", Kafka::shared().bootstrap(), "-t", topic.name(), "-p", "0"];
    run_tool("kcat", &arguments, b"key:\n").unwrap();
}

#[test]
fn json_of_the_sdk_is_metadata() {
    let topic = topic("sdk", 1);
    let values = [json!({"message": "Grüße", "n": [1, 2.5, null]}), json!("text"), json!(17), json!({})];
    let line = |value: &Value| json!({"key": null, "headers": [], "partition": 0, "value": encoded(value)});
    let lines: String = values.iter().map(|value| format!("{}\n", line(value))).collect();
    run_tool(python(), &[OTHER_CLIENTS, Kafka::shared().bootstrap(), topic.name(), "sdk-send"], lines.as_bytes())
        .unwrap();
    let expected: Vec<_> = values.into_iter().map(of_json).collect();
    assert_eq!(contents(&topic, "json", 4), expected);
    assert_eq!(contents(&topic, "auto", 4), expected);
    let event = &read(&reader(&topic, "json"), 1)[0];
    assert_eq!(event.serialized_metadata(), event.metadata().unwrap().as_bytes());
}

#[test]
fn json_of_kafkas_own_producer_and_of_kcat_with_each_codec_is_metadata() {
    let topic = topic("codecs", 1);
    let large = json!({"text": "x".repeat(5_000)});
    let arguments = ["--bootstrap-server", Kafka::shared().bootstrap(), "--topic", topic.name()];
    kafka_tool("org.apache.kafka.tools.ConsoleProducer", &arguments, b"{\"by\": \"java\"}\n").unwrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        write(&topic, json!({"codec": codec}).to_string().as_bytes(), &["-z", codec]);
        write(&topic, large.to_string().as_bytes(), &["-z", codec]);
    }
    let mut expected = vec![of_json(json!({"by": "java"}))];
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        expected.extend([of_json(json!({"codec": codec})), of_json(large.clone())]);
    }
    assert_eq!(contents(&topic, "json", expected.len()), expected);
}

/// Also records about as large as the header of an event, and those without a value.
#[test]
fn each_record_is_read_by_its_content() {
    let topic = topic("mixed", 1);
    let producer = topic.producer("p").make().unwrap();
    producer.push(&NewEvent::json(&json!({"a": 1})).data(b"data")).unwrap().wait(TIMEOUT).unwrap();
    let mut expected = vec![(json!({"a": 1}), b"data".to_vec(), RecordFormat::Diaspora)];
    for size in [1, 15, 16, 17, 2_000] {
        let (number, binary) = ("7".repeat(size.min(15)), vec![0xfe; size]);
        write(&topic, number.as_bytes(), &[]);
        write(&topic, &binary, &[]);
        expected.extend([of_json(number.parse().unwrap()), of_bytes(&binary)]);
    }
    for text in ["\"1234567890123\"", "\"12345678901234\"", "\"123456789012345\""] {
        write(&topic, text.as_bytes(), &[]);
        expected.push(of_json(serde_json::from_str(text).unwrap()));
    }
    write_tombstone(&topic);
    expected.push((Value::Null, Vec::new(), RecordFormat::Tombstone));
    producer.push(&NewEvent::json(&2)).unwrap().wait(TIMEOUT).unwrap();
    expected.push((json!(2), Vec::new(), RecordFormat::Diaspora));
    assert_eq!(contents(&topic, "auto", expected.len()), expected);
    let all_bytes = contents(&topic, "bytes", expected.len());
    let (without_value, others): (Vec<_>, Vec<_>) =
        all_bytes.iter().partition(|(_, _, format)| *format == RecordFormat::Tombstone);
    assert!(others.iter().all(|(metadata, _, format)| metadata.is_null() && *format == RecordFormat::Bytes));
    assert_eq!(without_value, [&(Value::Null, Vec::new(), RecordFormat::Tombstone)]);
    assert_eq!(all_bytes[0].1.len(), 16 + 8 + 7 + 4);
}

#[test]
fn record_that_is_not_json_is_malformed_once() {
    let topic = topic("not-json", 1);
    write(&topic, b"{'a': 1}", &[]);
    write(&topic, b"[1]", &[]);
    let consumer = reader(&topic, "json");
    let error = consumer.pull().unwrap().wait(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::MalformedRecord, "{error}");
    for part in ["records", "JSON", "offset 0", topic.name()] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    assert_eq!(content(&read(&consumer, 1)[0]), of_json(json!([1])));
}

/// A serializer that only the topic's host has is not needed for records that it did not write.
#[test]
fn missing_serializer_does_not_hide_json() {
    let name = unique("custom");
    let driver = octopus().driver(json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}})).unwrap();
    let custom = json!({"type": "library:of_nobody.so:serializer"});
    driver.create_topic(&name, &one_replica().serializer(custom)).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    write(&topic, b"{\"a\": 1}", &[]);
    assert_eq!(contents(&topic, "auto", 1), [of_json(json!({"a": 1}))]);
}

#[test]
fn unknown_format_is_rejected_by_name() {
    let topic = topic("formats", 1);
    for value in [json!("avro"), json!("JSON"), json!(1), json!(null)] {
        let error = topic.consumer("reader").option("records", value.clone()).make().map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
        for part in ["records", "\"auto\"", &value.to_string()] {
            assert!(error.message.contains(part), "{part}: {error}");
        }
    }
}
