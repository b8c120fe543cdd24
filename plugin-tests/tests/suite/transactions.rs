//! Records of transactions: what a consumer gets of them, and where it stands behind them.

use std::time::Duration;

use octopus_loader::{Consumer, Topic};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::kafka::{self, Kafka, unique};
use crate::support::{PATIENCE, eventually, nothing_comes, read, topic};

/// A record of an event without metadata: the sizes of both parts, and the metadata's as its serializer writes it.
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

/// A producer of another kind, which knows transactions.
fn transactional() -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", Kafka::shared().bootstrap())
        .set("transactional.id", unique("transactional"))
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &Topic, texts: &[&str]) {
    for text in texts {
        let value = record(text);
        producer.send(BaseRecord::<(), _>::to(topic.name()).payload(&value).partition(0)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn commit(producer: &BaseProducer, topic: &Topic, texts: &[&str]) {
    producer.begin_transaction().unwrap();
    send(producer, topic, texts);
    producer.commit_transaction(PATIENCE).unwrap();
}

fn abort(producer: &BaseProducer, topic: &Topic, texts: &[&str]) {
    producer.begin_transaction().unwrap();
    send(producer, topic, texts);
    producer.abort_transaction(PATIENCE).unwrap();
}

/// Reads and acknowledges these, and no others.
fn read_these(consumer: &Consumer, texts: &[&str]) {
    for text in texts {
        let event = &read(consumer, 1)[0];
        assert_eq!(event.data(), text.as_bytes());
        event.acknowledge().unwrap();
    }
    assert!(nothing_comes(consumer));
}

fn await_lag(consumer: &Consumer, lag: u64) {
    eventually("the lag to be as it should", || {
        assert!(consumer.next(Duration::from_millis(10)).unwrap().is_none());
        consumer.lag(0).unwrap() == lag
    });
}

#[test]
fn lag_is_zero_behind_transaction_markers() {
    let (topic, group) = (topic("markers", 1), unique("group"));
    let producer = transactional();
    let consumer = topic.consumer(&group).make().unwrap();
    for text in ["a", "b", "c"] {
        commit(&producer, &topic, &[text]);
    }
    read_these(&consumer, &["a", "b", "c"]);
    await_lag(&consumer, 0);
    assert_eq!(consumer.position(0).unwrap(), 6);
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, topic.name(), 0), Some(6));

    // Nothing is delivered of it, and nothing is left of it either.
    abort(&producer, &topic, &["d", "e", "f"]);
    await_lag(&consumer, 0);
    consumer.close(PATIENCE).unwrap();
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, topic.name(), 0), Some(10));
}

#[test]
fn marker_behind_an_event_that_is_not_acknowledged_is_not_committed() {
    let (topic, group) = (topic("kept", 1), unique("group"));
    let producer = transactional();
    commit(&producer, &topic, &["a", "b"]);
    let consumer = topic.consumer(&group).make().unwrap();
    let events = read(&consumer, 2);
    await_lag(&consumer, 0);
    events[0].acknowledge().unwrap();
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(1));
    drop((events, consumer));
    read_these(&topic.consumer(&group).make().unwrap(), &["b"]);
}

/// What is in an open transaction is not there yet: neither for reading, nor for the lag.
#[test]
fn open_transaction_is_neither_read_nor_lag() {
    let topic = topic("open", 1);
    let producer = transactional();
    commit(&producer, &topic, &["a"]);
    producer.begin_transaction().unwrap();
    send(&producer, &topic, &["b", "c"]);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read_these(&consumer, &["a"]);
    await_lag(&consumer, 0);
    assert_eq!(consumer.position(0).unwrap(), 2);
    producer.commit_transaction(PATIENCE).unwrap();
    read_these(&consumer, &["b", "c"]);
    await_lag(&consumer, 0);
}

#[test]
fn aborted_transactions_in_between_are_passed() {
    let topic = topic("between", 1);
    let producer = transactional();
    abort(&producer, &topic, &["x"]);
    commit(&producer, &topic, &["a"]);
    abort(&producer, &topic, &["y", "z"]);
    commit(&producer, &topic, &["b"]);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read_these(&consumer, &["a", "b"]);
    await_lag(&consumer, 0);
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(9));
}

#[test]
fn transactions_of_javas_client_are_read_like_those_of_librdkafka() {
    let topic = topic("java", 1);
    kafka::java_program("Transactions", &[Kafka::shared().bootstrap(), topic.name(), "2", "-3", "1", "-1", "-1"]);
    let group = unique("group");
    let consumer = topic.consumer(&group).make().unwrap();
    read_these(&consumer, &["0", "1", "5"]);
    await_lag(&consumer, 0);
    consumer.close(PATIENCE).unwrap();
    // Eight records, five markers.
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, topic.name(), 0), Some(13));
}
