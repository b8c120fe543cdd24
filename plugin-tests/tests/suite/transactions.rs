//! Transactions: the events that a consumer gets of them, and its position, lag and commits behind
//! them.

use std::time::Duration;

use octopus_loader::{Consumer, Topic};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::kafka::{self, Kafka, unique};
use crate::support::{TIMEOUT, eventually, has_no_event, read, topic};

/// The record of an event with the metadata `{}`: the sizes of metadata and data, the length of the
/// text as the serializer writes it, the text, the data.
fn record(data: &str) -> Vec<u8> {
    let metadata = b"{}";
    let metadata_size = metadata.len() as u64;
    let mut record = Vec::new();
    record.extend((metadata_size + 8).to_le_bytes());
    record.extend((data.len() as u64).to_le_bytes());
    record.extend(metadata_size.to_le_bytes());
    record.extend(metadata);
    record.extend(data.as_bytes());
    record
}

/// A transactional producer of the rdkafka crate; producers of Octopus have no transactions.
fn transactional() -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", Kafka::shared().bootstrap())
        .set("transactional.id", unique("transactional"))
        .create()
        .unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &Topic, texts: &[&str]) {
    for text in texts {
        let value = record(text);
        producer.send(BaseRecord::<(), _>::to(topic.name()).payload(&value).partition(0)).unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
}

fn commit(producer: &BaseProducer, topic: &Topic, texts: &[&str]) {
    producer.begin_transaction().unwrap();
    send(producer, topic, texts);
    producer.commit_transaction(TIMEOUT).unwrap();
}

fn abort(producer: &BaseProducer, topic: &Topic, texts: &[&str]) {
    producer.begin_transaction().unwrap();
    send(producer, topic, texts);
    producer.abort_transaction(TIMEOUT).unwrap();
}

/// Reads and acknowledges exactly the events with these data.
fn read_exactly(consumer: &Consumer, texts: &[&str]) {
    for text in texts {
        let event = &read(consumer, 1)[0];
        assert_eq!(event.data(), text.as_bytes());
        event.acknowledge().unwrap();
    }
    assert!(has_no_event(consumer));
}

fn await_lag(consumer: &Consumer, lag: u64) {
    eventually("the expected lag", || {
        assert!(consumer.next(Duration::from_millis(10)).unwrap().is_none());
        consumer.lag(0).unwrap() == lag
    });
}

/// Transaction markers have offsets, which `close` and `commit` commit too.
#[test]
fn lag_is_zero_behind_transaction_markers() {
    let (topic, group) = (topic("markers", 1), unique("group"));
    let producer = transactional();
    let consumer = topic.consumer(&group).make().unwrap();
    for text in ["a", "b", "c"] {
        commit(&producer, &topic, &[text]);
    }
    read_exactly(&consumer, &["a", "b", "c"]);
    await_lag(&consumer, 0);
    assert_eq!(consumer.position(0).unwrap(), 6);
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, topic.name(), 0), Some(6));

    // Aborted records are not delivered and do not count as lag.
    abort(&producer, &topic, &["d", "e", "f"]);
    await_lag(&consumer, 0);
    consumer.close(TIMEOUT).unwrap();
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, topic.name(), 0), Some(10));
}

#[test]
fn marker_after_an_unacknowledged_event_is_not_committed() {
    let (topic, group) = (topic("kept", 1), unique("group"));
    let producer = transactional();
    commit(&producer, &topic, &["a", "b"]);
    let consumer = topic.consumer(&group).make().unwrap();
    let events = read(&consumer, 2);
    await_lag(&consumer, 0);
    events[0].acknowledge().unwrap();
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(1));
    drop((events, consumer));
    read_exactly(&topic.consumer(&group).make().unwrap(), &["b"]);
}

/// Records of an open transaction are beyond the last stable offset.
#[test]
fn open_transaction_is_neither_read_nor_lag() {
    let topic = topic("open", 1);
    let producer = transactional();
    commit(&producer, &topic, &["a"]);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, &["b", "c"]);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read_exactly(&consumer, &["a"]);
    await_lag(&consumer, 0);
    assert_eq!(consumer.position(0).unwrap(), 2);
    producer.commit_transaction(TIMEOUT).unwrap();
    read_exactly(&consumer, &["b", "c"]);
    await_lag(&consumer, 0);
}

#[test]
fn aborted_transactions_are_skipped() {
    let topic = topic("between", 1);
    let producer = transactional();
    abort(&producer, &topic, &["x"]);
    commit(&producer, &topic, &["a"]);
    abort(&producer, &topic, &["y", "z"]);
    commit(&producer, &topic, &["b"]);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read_exactly(&consumer, &["a", "b"]);
    await_lag(&consumer, 0);
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(9));
}

#[test]
fn transactions_of_the_java_client_are_read() {
    let topic = topic("java", 1);
    kafka::java_program("Transactions", &[Kafka::shared().bootstrap(), topic.name(), "2", "-3", "1", "-1", "-1"], b"");
    let group = unique("group");
    let consumer = topic.consumer(&group).make().unwrap();
    read_exactly(&consumer, &["0", "1", "5"]);
    await_lag(&consumer, 0);
    consumer.close(TIMEOUT).unwrap();
    // Eight records, five markers.
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, topic.name(), 0), Some(13));
}
