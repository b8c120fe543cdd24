//! Records that one side writes and the other one reads, with each codec: Octopus, kafka-python,
//! Globus' SDK, Java's client and kcat. Keys, headers and values are of each kind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use octopus_loader::{Event, NewEvent, RecordFormat, Topic};
use octopus_testkit::tools::run_tool;
use serde_json::{Value, json};

use crate::kafka::{self, Kafka, unique};
use crate::record_attributes::{ATTRIBUTES, Headers, deliver, encoded, headers_of, java_client, python_client};
use crate::support::{octopus, read, topic};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    KafkaPython,
    Sdk,
    Java,
    Kcat,
}

const CLIENTS: [Client; 4] = [Client::KafkaPython, Client::Sdk, Client::Java, Client::Kcat];

#[derive(Clone)]
struct Record {
    key: Option<Vec<u8>>,
    headers: Headers<'static>,
    /// A tombstone has none.
    value: Option<Vec<u8>>,
}

impl Record {
    /// One record of each kind of value, and of each kind of key and headers. Values are about as
    /// large as the header of an event, empty, missing, or large enough to be compressed.
    fn of_each_kind() -> Vec<Record> {
        let mut values: Vec<Option<Vec<u8>>> = Vec::new();
        for size in [15, 16, 17] {
            values.push(Some(format!("{:?}", "1".repeat(size - 2)).into_bytes()));
            values.push(Some(vec![0xfe; size]));
        }
        values.push(Some(json!({"größe": "Ω", "n": [1, 2.5, null]}).to_string().into_bytes()));
        values.push(Some(json!({"text": "ü".repeat(2_500)}).to_string().into_bytes()));
        values.extend([Some(Vec::new()), None, Some(vec![7; 5_000])]);
        let attributes = ATTRIBUTES.into_iter().cycle();
        let record =
            |(value, (key, headers)): (_, (Option<&[u8]>, _))| Record { key: key.map(Into::into), headers, value };
        values.into_iter().zip(attributes).map(record).collect()
    }

    fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.value.as_deref()?).ok()
    }

    fn format(&self) -> RecordFormat {
        match (&self.value, self.json()) {
            (None, _) => RecordFormat::Tombstone,
            (_, Some(_)) => RecordFormat::Json,
            (_, None) => RecordFormat::Bytes,
        }
    }

    /// As the other programs read and write it.
    fn line(&self) -> Value {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| json!([name, encoded(*value)])).collect();
        json!({"key": encoded(self.key.as_deref()), "value": encoded(self.value.as_deref()), "headers": headers})
    }

    fn push<'a>(&'a self, event: NewEvent<'a>) -> NewEvent<'a> {
        let event = self.key.iter().fold(event, |event, key| event.key(key));
        self.headers.iter().fold(event, |event, (name, value)| match value {
            Some(value) => event.header(name, value),
            None => event.header_without_value(name),
        })
    }

    fn assert_read_as(&self, event: &Event, who: impl std::fmt::Debug) {
        let about = format!("{who:?}: {}", self.line());
        assert_eq!(event.key().unwrap(), self.key.as_deref(), "{about}");
        assert_eq!(headers_of(event), self.headers, "{about}");
        assert_eq!(event.record_format(), self.format(), "{about}");
        match self.json() {
            Some(json) => assert_eq!(event.json().unwrap(), json, "{about}"),
            None => assert_eq!(event.data(), self.value.as_deref().unwrap_or_default(), "{about}"),
        }
    }
}

impl Client {
    /// Whether the client can write the record: kafka-python, which the SDK uses, writes no headers
    /// without a value, and the SDK JSON only; kcat no empty values, no tombstones without a key,
    /// and no headers that are not UTF-8.
    fn can_write(self, record: &Record) -> bool {
        let has_header_values = record.headers.iter().all(|(_, value)| value.is_some());
        let is_text = |value: &Option<&[u8]>| value.is_none_or(|value| std::str::from_utf8(value).is_ok());
        match self {
            Client::KafkaPython => has_header_values,
            Client::Sdk => has_header_values && record.json().is_some(),
            Client::Kcat => {
                record.key.as_ref().is_none_or(|key| !key.is_empty())
                    && record.headers.iter().all(|(_, value)| is_text(value))
                    && record.value.as_ref().map_or(record.key.is_some(), |value| !value.is_empty())
            }
            Client::Java => true,
        }
    }

    /// Writes records to partition 0.
    fn write(self, topic: &Topic, codec: &str, records: &[&Record]) {
        let lines: String = records.iter().map(|record| format!("{}\n", record.line())).collect();
        match self {
            Client::KafkaPython => drop(python_client(topic, &["send", codec], &lines)),
            Client::Sdk => drop(python_client(topic, &["sdk-send", codec], &lines)),
            Client::Java => drop(java_client(topic, &["send", codec], &lines)),
            Client::Kcat => records.iter().for_each(|record| write_with_kcat(topic, codec, record)),
        }
    }

    /// The lines of the first records of partition 0.
    fn read(self, topic: &Topic, count: usize) -> Vec<Value> {
        let lines = match self {
            Client::KafkaPython => python_client(topic, &["receive", &count.to_string()], ""),
            Client::Sdk => python_client(topic, &["sdk-receive", &count.to_string()], ""),
            Client::Java => java_client(topic, &["receive", &count.to_string()], ""),
            Client::Kcat => unreachable!("it prints headers without their lengths"),
        };
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn write_with_kcat(topic: &Topic, codec: &str, record: &Record) {
    let mut arguments = vec!["-P", "-b", Kafka::shared().bootstrap(), "-t", topic.name(), "-p", "0", "-z", codec];
    let header = |(name, value): &(&str, Option<&[u8]>)| match value {
        Some(value) => format!("{name}={}", std::str::from_utf8(value).unwrap()),
        None => (*name).to_owned(),
    };
    let headers: Vec<String> = record.headers.iter().map(header).collect();
    arguments.extend(headers.iter().flat_map(|header| ["-H", header.as_str()]));
    let mut input = record.value.clone().unwrap_or_default();
    if let Some(key) = &record.key {
        arguments.extend(["-K", "|key|"]);
        input = [key, &b"|key|"[..], &input].concat();
    }
    // A delimiter that no record has; without a value, kcat writes NULL.
    arguments.extend(["-D", "|end|", "-Z"]);
    run_tool("kcat", &arguments, &input).unwrap();
}

#[test]
fn records_of_each_client_are_read() {
    let records = Record::of_each_kind();
    for client in CLIENTS {
        let topic = topic("of-client", 1);
        let written: Vec<_> = records.iter().filter(|record| client.can_write(record)).collect();
        for codec in CODECS {
            client.write(&topic, codec, &written);
        }
        let consumer = topic.consumer(&unique("reader")).option("records", "auto").make().unwrap();
        let events = read(&consumer, written.len() * CODECS.len());
        for (event, record) in events.iter().zip(written.iter().cycle()) {
            record.assert_read_as(event, client);
        }
    }
}

#[test]
fn records_are_read_by_each_client() {
    let (records, topic) = (Record::of_each_kind(), topic("for-clients", 1));
    // Prepared by threads, and by the caller.
    let pool = octopus().thread_pool(1).unwrap();
    for codec in CODECS {
        let producer = || topic.producer(codec).kafka("compression.type", codec).option("records", "bytes");
        let (direct, pooled) = (producer().make().unwrap(), producer().pool(&pool).make().unwrap());
        for (number, record) in records.iter().enumerate() {
            let event = record.value.iter().fold(NewEvent::default(), |event, value| event.data(value));
            deliver(if number % 2 == 0 { &direct } else { &pooled }, &record.push(event));
        }
    }
    let expected: Vec<_> = CODECS.iter().flat_map(|_| records.iter().map(Record::line)).collect();
    for client in [Client::KafkaPython, Client::Sdk, Client::Java] {
        for (line, expected) in client.read(&topic, expected.len()).iter().zip(&expected) {
            for part in ["key", "value", "headers"] {
                assert_eq!(line[part], expected[part], "{client:?}: {part} of {expected}");
            }
        }
    }
    let by_kcat = kafka::kcat_read(Kafka::shared().bootstrap(), topic.name());
    assert_eq!(by_kcat.len(), expected.len());
    for (read, record) in by_kcat.iter().zip(records.iter().cycle()) {
        assert_eq!((&read.key, &read.value), (&record.key, &record.value.clone().unwrap_or_default()));
    }
    let consumer = topic.consumer(&unique("reader")).option("records", "auto").make().unwrap();
    for (event, record) in read(&consumer, expected.len()).iter().zip(records.iter().cycle()) {
        record.assert_read_as(event, "Octopus");
    }
}

#[test]
fn json_is_read_by_the_sdk_with_each_codec() {
    let (records, topic) = (Record::of_each_kind(), topic("json", 1));
    let records: Vec<_> = records.iter().filter(|record| record.json().is_some()).collect();
    for codec in CODECS {
        let producer = topic.producer("json").kafka("compression.type", codec).option("records", "json");
        let producer = producer.make().unwrap();
        for record in &records {
            let text = std::str::from_utf8(record.value.as_deref().unwrap()).unwrap();
            deliver(&producer, &record.push(NewEvent::text(text)));
        }
    }
    let lines = Client::Sdk.read(&topic, records.len() * CODECS.len());
    assert_eq!(lines.len(), records.len() * CODECS.len());
    for (line, record) in lines.iter().zip(records.iter().cycle()) {
        let value = BASE64.decode(line["value"].as_str().unwrap()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&value).ok(), record.json());
        assert_eq!(line["headers"], record.line()["headers"]);
    }
}
