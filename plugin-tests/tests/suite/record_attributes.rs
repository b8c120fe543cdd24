//! Keys, headers and timestamps of records, and records for other programs: written by one side and
//! read by the other, with kafka-python, Globus' SDK, kcat and Kafka's own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use octopus_loader::{Event, NewEvent, Preparation, Producer, Selector, Serializer, Status, TimestampType, Topic};
use octopus_testkit::tools::{kafka_tool, kcat, run_tool};
use serde_json::{Value, json};

use crate::kafka::{self, Kafka, unique};
use crate::other_records::OTHER_CLIENTS;
use crate::support::{TIMEOUT, driver, octopus, one_replica, read, topic};
use crate::topic_service::python;

/// An hour ago: a time that no clock of a test shows, and that no retention ends. In milliseconds.
static TIMESTAMP_MS: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now - Duration::from_hours(1)).as_millis() as i64
});

pub type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

/// Keys and headers in UTF-8, binary, empty and missing.
pub const ATTRIBUTES: [(Option<&[u8]>, Headers); 6] = [
    (None, &[]),
    (Some("Schlüssel".as_bytes()), &[("größe", Some("Ω".as_bytes()))]),
    (Some(&[0, 0xff, 0x80]), &[("binary", Some(&[0, 0xfe])), ("none", None), ("empty", Some(b""))]),
    (Some(b""), &[("twice", Some(b"1")), ("twice", Some(b"2"))]),
    (None, &[("only", Some(b"headers"))]),
    (Some(b"only a key"), &[]),
];

pub fn encoded(bytes: Option<&[u8]>) -> Value {
    bytes.map(|bytes| BASE64.encode(bytes)).into()
}

pub fn java_client(topic: &Topic, command: &[&str], input: &str) -> String {
    let arguments = [Kafka::shared().bootstrap(), topic.name()];
    kafka::java_program("Records", &[&arguments, command].concat(), input.as_bytes())
}

pub fn python_client(topic: &Topic, command: &[&str], input: &str) -> String {
    let arguments = [OTHER_CLIENTS, Kafka::shared().bootstrap(), topic.name()];
    run_tool(python(), &[&arguments, command].concat(), input.as_bytes()).unwrap()
}

/// The records of a topic as kafka-python reads them.
fn records(topic: &Topic, count: usize) -> Vec<Value> {
    let lines = python_client(topic, &["receive", &count.to_string()], "");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), count, "{lines}");
    records
}

fn events(topic: &Topic, records: &str, count: usize) -> Vec<Event> {
    read(&topic.consumer(&unique("reader")).option("records", records).make().unwrap(), count)
}

pub fn headers_of(event: &Event) -> Vec<(&str, Option<&[u8]>)> {
    event.headers().unwrap().into_iter().map(|header| (header.name, header.value)).collect()
}

fn with_attributes<'a>(mut event: NewEvent<'a>, key: Option<&'a [u8]>, headers: Headers<'a>) -> NewEvent<'a> {
    if let Some(key) = key {
        event = event.key(key);
    }
    headers.iter().fold(event, |event, (name, value)| match value {
        Some(value) => event.header(name, value),
        None => event.header_without_value(name),
    })
}

pub fn deliver(producer: &Producer, event: &NewEvent) {
    producer.push(event).unwrap().wait(TIMEOUT).unwrap();
}

/// kafka-python writes no header without a value; kcat does.
#[test]
fn attributes_of_other_clients_are_read() {
    let topic = topic("attributes", 1);
    let with_values = ATTRIBUTES.map(|(key, headers)| (key, headers.iter().filter(|(_, value)| value.is_some())));
    let lines = with_values.clone().into_iter().map(|(key, headers)| {
        let headers: Vec<_> = headers.map(|(name, value)| json!([name, encoded(*value)])).collect();
        let record = json!({"key": encoded(key), "value": encoded(Some(b"1")), "headers": headers,
                            "timestamp_ms": *TIMESTAMP_MS});
        format!("{record}\n")
    });
    // A record that is larger than those that are copied.
    let large = json!({"key": encoded(Some(b"large")), "value": encoded(Some(&[b'7'; 15])),
                       "headers": [["large", encoded(Some(&[b'x'; 5_000]))]]});
    python_client(&topic, &["send"], &(lines.collect::<String>() + &large.to_string()));
    run_tool("kcat", &["-P", "-b", Kafka::shared().bootstrap(), "-t", topic.name(), "-H", "no value"], b"1").unwrap();
    let events = events(&topic, "json", ATTRIBUTES.len() + 2);
    for (event, (key, headers)) in events.iter().zip(with_values) {
        let headers: Vec<_> = headers.copied().collect();
        assert_eq!((event.key().unwrap(), headers_of(event)), (key, headers));
        assert_eq!(event.timestamp_ms(), Some(*TIMESTAMP_MS));
        assert_eq!(event.timestamp_type().unwrap(), TimestampType::Create);
    }
    let [.., large, without_value] = &events[..] else { panic!("{} events", events.len()) };
    assert_eq!(headers_of(large), [("large", Some(&[b'x'; 5_000][..]))]);
    assert_eq!(headers_of(without_value), [("no value", None)]);
}

/// Pushed directly, together, and through a pool.
#[test]
fn attributes_are_read_by_other_clients() {
    let topic = topic("pushed-attributes", 1);
    let event = |key, headers| with_attributes(NewEvent::json(&1).timestamp_ms(*TIMESTAMP_MS), key, headers);
    let producer = topic.producer("p").make().unwrap();
    ATTRIBUTES.iter().for_each(|(key, headers)| deliver(&producer, &event(*key, headers)));
    let all: Vec<_> = ATTRIBUTES.iter().map(|(key, headers)| event(*key, headers)).collect();
    let (pushes, result) = producer.push_many(&all);
    result.unwrap();
    for push in pushes {
        push.wait(TIMEOUT).unwrap();
    }
    let pool = octopus().thread_pool(2).unwrap();
    let pooled = topic.producer("pooled").pool(&pool).make().unwrap();
    ATTRIBUTES.iter().for_each(|(key, headers)| deliver(&pooled, &event(*key, headers)));
    for (record, (key, headers)) in records(&topic, 3 * ATTRIBUTES.len()).iter().zip(ATTRIBUTES.iter().cycle()) {
        let expected: Vec<_> = headers.iter().map(|(name, value)| json!([name, encoded(*value)])).collect();
        assert_eq!((&record["key"], &record["headers"]), (&encoded(*key), &json!(expected)));
        assert_eq!((&record["timestamp_ms"], &record["timestamp_type"]), (&json!(*TIMESTAMP_MS), &json!("create")));
    }
    let second = &events(&topic, "diaspora", 2)[1];
    assert_eq!(second.key().unwrap(), ATTRIBUTES[1].0, "Octopus reads its own attributes");

    let timestamp = *TIMESTAMP_MS;
    let printed = kcat(&["-C", "-b", Kafka::shared().bootstrap(), "-t", topic.name(), "-c2", "-q", "-f", "%T %h %k\n"]);
    let expected = format!("{timestamp}  \n{timestamp} größe=Ω Schlüssel\n");
    assert_eq!(printed.unwrap(), expected);
    let properties = ["print.timestamp=true", "print.key=true", "print.headers=true", "print.value=false"];
    let arguments = ["--bootstrap-server", Kafka::shared().bootstrap(), "--topic", topic.name(), "--from-beginning"];
    let arguments = [&arguments[..], &["--max-messages", "2"]].concat();
    let formatted = properties.iter().flat_map(|property| ["--formatter-property", property]).collect::<Vec<_>>();
    let printed =
        kafka_tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &[arguments, formatted].concat(), b"").unwrap();
    let expected = format!("CreateTime:{timestamp}\tgröße:Ω\tSchlüssel");
    assert_eq!(printed.lines().nth(1), Some(expected.as_str()), "{printed}");
}

#[test]
fn broker_can_set_the_timestamp() {
    let (driver, name) = (driver(), unique("append-time"));
    driver
        .create_topic(&name, &one_replica().option("config", json!({"message.timestamp.type": "LogAppendTime"})))
        .unwrap();
    let topic = driver.open_topic(&name).unwrap();
    deliver(&topic.producer("p").make().unwrap(), &NewEvent::json(&1).timestamp_ms(*TIMESTAMP_MS));
    let event = &events(&topic, "diaspora", 1)[0];
    assert_eq!(event.timestamp_type().unwrap(), TimestampType::LogAppend);
    assert!(event.timestamp_ms().unwrap() > *TIMESTAMP_MS);
}

/// Java's producer, kafka-python and Octopus choose the same partition for a key.
#[test]
fn key_selects_the_partition_as_with_java() {
    let topic = topic("keys", 7);
    // The hash takes four bytes at a time, and the rest of them.
    let keys: Vec<Vec<u8>> = (0..30)
        .map(|number| format!("schlüssel {number}").into_bytes())
        .chain((0..20).map(|size| (0..size).map(|index| 0xf0 ^ (index * 83 + size) as u8).collect()))
        .collect();
    let line = |key: &Vec<u8>| json!({"key": encoded(Some(key)), "value": encoded(Some(b"1")), "headers": []});
    let lines: String = keys.iter().map(|key| format!("{}\n", line(key))).collect();
    java_client(&topic, &["send", "none"], &lines);
    python_client(&topic, &["send"], &lines);
    let pool = octopus().thread_pool(2).unwrap();
    for producer in [topic.producer("direct"), topic.producer("pooled").pool(&pool)] {
        let producer = producer.option("partitioner", "key").option("records", "json").make().unwrap();
        keys.iter().for_each(|key| deliver(&producer, &NewEvent::json(&1).key(key)));
    }
    let mut partitions = BTreeMap::<Vec<u8>, Vec<u32>>::new();
    for event in events(&topic, "json", 4 * keys.len()) {
        partitions.entry(event.key().unwrap().unwrap().to_vec()).or_default().push(event.partition());
    }
    assert_eq!(partitions.len(), keys.len());
    for (key, partitions) in &partitions {
        assert!(partitions.iter().all(|partition| *partition == partitions[0]), "{key:?}: {partitions:?}");
    }
    let used: BTreeSet<_> = partitions.values().map(|partitions| partitions[0]).collect();
    assert!(used.len() > 3, "{used:?}");
}

/// Without the option, and with an explicit partition, the key has no effect.
#[test]
fn key_alone_selects_no_partition() {
    let topic = topic("keys-ignored", 3);
    let producer = topic.producer("selector").make().unwrap();
    (0..3).for_each(|_| deliver(&producer, &NewEvent::json(&1).key(b"key")));
    let keyed = topic.producer("key").option("partitioner", "key").make().unwrap();
    (0..3).for_each(|partition| deliver(&keyed, &NewEvent::json(&2).key(b"key").partition(partition)));
    (0..3).for_each(|_| deliver(&keyed, &NewEvent::json(&3)));
    let mut partitions: Vec<_> = events(&topic, "diaspora", 9)
        .iter()
        .map(|event| (event.json().unwrap().as_u64().unwrap(), event.partition()))
        .collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]);
}

/// `auto` there is for consumers.
#[test]
fn driver_has_the_default_of_its_producers_and_consumers() {
    let settings =
        |records: &str| json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}, "records": records});
    let name = unique("driver-wide");
    driver().create_topic(&name, &one_replica()).unwrap();
    let push = |records: &str, number: u64| {
        let topic = octopus().driver(settings(records)).unwrap().open_topic(&name).unwrap();
        deliver(&topic.producer("p").make().unwrap(), &NewEvent::json(&number));
    };
    push("json", 1);
    push("auto", 2);
    let topic = octopus().driver(settings("auto")).unwrap().open_topic(&name).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let read: Vec<_> = read(&consumer, 2).iter().map(|event| (event.json().unwrap(), event.record_format())).collect();
    use octopus_loader::RecordFormat::{Diaspora, Json};
    assert_eq!(read, [(json!(1), Json), (json!(2), Diaspora)]);
}

#[test]
fn invalid_attributes_and_events_are_rejected_by_name() {
    let topic = topic("invalid-attributes", 1);
    let producer = topic.producer("p").make().unwrap();
    let large = vec![0; 1_100_000];
    let many_headers = (0..100_001).fold(NewEvent::json(&1), |event, _| event.header("h", b""));
    for (event, status, expected) in [
        (NewEvent::json(&1).header("", b"x"), Status::InvalidArgument, "a header without a name"),
        (NewEvent::json(&1).header("a\0b", b"x"), Status::InvalidArgument, "contains NUL"),
        (many_headers, Status::InvalidArgument, "100001 headers"),
        (NewEvent::json(&1).timestamp_ms(-1), Status::InvalidArgument, "timestamp_ms"),
        (NewEvent::json(&1).timestamp_ms(0), Status::InvalidArgument, "timestamp_ms"),
        (NewEvent::json(&1).header("large", &large), Status::TooLarge, "kafka.message.max.bytes"),
        (NewEvent::json(&1).key(&large), Status::TooLarge, "kafka.message.max.bytes"),
    ] {
        let error = producer.push(&event).map(drop).unwrap_err();
        assert_eq!(error.status, status, "{error}");
        assert!(error.message.contains(expected), "{expected}: {error}");
    }
    let of_json = topic.producer("json").option("records", "json").make().unwrap();
    let error = of_json.push(&NewEvent::json(&1).data(b"data")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("4 bytes of data") && error.message.contains(topic.name()), "{error}");
    let of_bytes = topic.producer("bytes").option("records", "bytes").make().unwrap();
    let error = of_bytes.push(&NewEvent::json(&1).data(b"data")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidMetadata);
    for (option, value) in [("records", "auto"), ("records", "avro"), ("partitioner", "murmur2")] {
        let error = topic.producer("p").option(option, value).make().map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
        assert!(error.message.contains(option) && error.message.contains(value), "{error}");
    }
}

/// The broker rejects the record with all others of its batch, and stores those before and after it
/// once.
#[test]
fn timestamp_that_the_broker_rejects_fails_only_its_batch() {
    let topic = topic("future", 2);
    let producer = topic.producer("p").make().unwrap();
    (0..10).for_each(|number| deliver(&producer, &NewEvent::json(&number).partition(number % 2)));
    let future = *TIMESTAMP_MS + 1000 * 60 * 60 * 24 * 3;
    let error = producer.push(&NewEvent::json(&"future").timestamp_ms(future)).unwrap().wait(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::Kafka, "{error}");
    assert!(error.message.contains("timestamp"), "{error}");
    (10..20).for_each(|number| deliver(&producer, &NewEvent::json(&number).partition(number % 2)));
    let mut numbers: Vec<_> = events(&topic, "diaspora", 20).iter().map(|event| event.json().unwrap()).collect();
    numbers.sort_unstable_by_key(Value::as_u64);
    assert_eq!(numbers, (0..20).map(Value::from).collect::<Vec<_>>());
}

/// Key, headers and value together are limited; what the limit allows, the broker stores.
#[test]
fn attributes_count_for_the_largest_event() {
    let topic = topic("limit", 1);
    for (records, metadata) in [("diaspora", 26), ("bytes", 0)] {
        let producer = topic.producer("p").option("records", records).make().unwrap();
        let (key, value) = (vec![1; 1_000], vec![2; 2_000]);
        let max = producer.max_event_size().unwrap() as usize;
        let rest = max - (metadata - 24usize.min(metadata)) - key.len() - (20 + "name".len() + value.len());
        let data = vec![3; rest + 1];
        let event = |data| NewEvent::default().data(data).key(&key).header("name", &value);
        deliver(&producer, &event(&data[..rest]));
        let error = producer.push(&event(&data)).map(drop).unwrap_err();
        assert_eq!(error.status, Status::TooLarge);
        assert!(error.message.contains("key and headers"), "{error}");
    }
}

#[test]
fn records_for_other_programs_keep_to_the_topic() {
    let name = unique("of-schema");
    let schema = json!({"type": "schema", "schema": {"type": "integer"}});
    driver().create_topic(&name, &one_replica().validator(schema)).unwrap();
    let topic = driver().open_topic(&name).unwrap();
    let producer = topic.producer("p").option("records", "json").make().unwrap();
    deliver(&producer, &NewEvent::json(&1));
    assert_eq!(producer.push(&NewEvent::json("no")).map(drop).unwrap_err().status, Status::InvalidMetadata);
    let error = topic.producer("p").option("records", "bytes").make().map(drop).unwrap_err();
    assert!(error.message.contains("validator") && error.message.contains("records"), "{error}");
    assert_eq!(events(&topic, "auto", 1)[0].json().unwrap(), json!(1));

    // Nobody here has this serializer, which such a record does not need.
    let name = unique("of-serializer");
    driver().create_topic(&name, &one_replica().serializer(json!({"type": "library:of_nobody.so:s"}))).unwrap();
    let topic = driver().open_topic(&name).unwrap();
    assert_eq!(
        topic.producer("p").make().unwrap().push(&NewEvent::json(&1)).map(drop).unwrap_err().status,
        Status::Component
    );
    deliver(&topic.producer("p").option("records", "json").make().unwrap(), &NewEvent::json(&1));
}

/// What a host has in place of the topic's components: it takes the partition that is requested,
/// and would write something else than JSON.
#[derive(Clone)]
struct HostParts;

impl Selector for HostParts {
    fn select(&mut self, _: &str, requested: Option<u64>, _: u32) -> Result<u32, String> {
        requested.map(|partition| partition as u32).ok_or_else(|| "no partition is requested".to_owned())
    }
}

impl Serializer for HostParts {
    fn serialize(&self, _: &str) -> Result<Vec<u8>, String> {
        Ok(b"not JSON".to_vec())
    }

    fn deserialize(&self, _: &[u8]) -> Result<String, String> {
        Err("nothing is read".to_owned())
    }
}

impl Preparation for HostParts {
    fn prepare(&mut self, _: &[&[u8]]) -> Result<Vec<u8>, String> {
        Ok(b"\"prepared\"".to_vec())
    }

    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<u32, String> {
        Selector::select(self, "", requested, partitions)
    }
}

/// The host's selector and preparations get the partition of the key, and its serializer is not
/// used.
#[test]
fn host_gets_the_partition_of_the_key_and_serializes_no_json() {
    let (driver, name) = (driver(), unique("host-parts"));
    driver.register_selector("requested", |_| Ok(HostParts)).unwrap();
    driver.register_serializer("no-json", |_| Ok(HostParts)).unwrap();
    let options = one_replica().partitions(5).selector(json!({"type": "requested"}));
    driver.create_topic(&name, &options.serializer(json!({"type": "no-json"}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    for producer in [topic.producer("direct"), topic.producer("pooled").pool(&pool)] {
        let producer = producer.option("records", "json").option("partitioner", "key").make().unwrap();
        deliver(&producer, &NewEvent::json("text").key(b"key").header("h", b"1"));
        let prepared = NewEvent::default().key(b"key").header("h", b"2");
        producer.push_prepared(&prepared, HostParts).unwrap().wait(TIMEOUT).unwrap();
        let keyless = producer.push(&NewEvent::json(&1)).unwrap().wait(TIMEOUT).unwrap_err();
        assert!(keyless.message.contains("no partition is requested"), "{keyless}");
        let with_data = producer.push_prepared(&prepared.data(b"data"), HostParts).unwrap().wait(TIMEOUT).unwrap_err();
        assert!(with_data.message.contains("4 bytes of data"), "{with_data}");
    }
    let line = json!({"key": encoded(Some(b"key")), "value": encoded(Some(b"\"text\"")), "headers": []});
    python_client(&topic, &["send"], &line.to_string());
    let records = records(&topic, 5);
    let values: BTreeSet<_> = records.iter().map(|record| record["value"].as_str().unwrap()).collect();
    assert_eq!(
        values,
        BTreeSet::from([BASE64.encode("\"text\""), BASE64.encode("\"prepared\"")].each_ref().map(|it| &**it))
    );
    assert!(records.iter().all(|record| record["partition"] == records[0]["partition"]), "{records:?}");
    assert_eq!(records.iter().filter(|record| record["headers"] != json!([])).count(), 4);
}
