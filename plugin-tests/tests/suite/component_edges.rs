//! Components in unusual situations, in the caller's thread and on a pool: they fail, are
//! registered late, keep state, or are destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use octopus_loader::{
    Driver, Error, Event, NewEvent, Producer, Push, Selector, Serializer, Status, ThreadPool, Topic, TopicOptions,
    Validator,
};
use serde_json::{Value, json};

use crate::components::RejectsThirteen;
use crate::kafka::unique;
use crate::support::{SHORT_WAIT, TIMEOUT, driver, octopus, one_replica, read};

/// Creates a topic with `options` and opens it.
fn topic_with(driver: &Driver, name: &str, options: TopicOptions) -> Topic {
    let name = unique(name);
    driver.create_topic(&name, &options).unwrap();
    driver.open_topic(&name).unwrap()
}

/// One producer that prepares events in the caller's thread, and one that prepares them on `pool`.
fn producers(topic: &Topic, pool: &ThreadPool) -> [Producer; 2] {
    [topic.producer("in-caller").make().unwrap(), topic.producer("on-pool").pool(pool).make().unwrap()]
}

fn pool_of_four() -> ThreadPool {
    octopus().thread_pool(4).unwrap()
}

/// The error of a push that fails, returned by the push itself or by its future.
fn failure(pushed: octopus_loader::Result<Push>) -> Error {
    pushed.and_then(|push| push.wait(TIMEOUT).map(drop)).unwrap_err()
}

fn read_one(topic: &Topic) -> Event {
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    read(&consumer, 1).remove(0)
}

/// The validator rejects every tenth event; the others are stored in order.
#[test]
fn event_rejected_on_a_pool_does_not_block_later_events() {
    let wanted = json!({"type": "schema", "schema": {"type": "integer", "not": {"multipleOf": 10}}});
    let (topic, pool) = (topic_with(&driver(), "gaps", one_replica().validator(wanted)), pool_of_four());
    let producer = topic.producer("p").pool(&pool).make().unwrap();
    (0..100).for_each(|number| producer.push_forget(&NewEvent::json(&number)).unwrap());
    let error = producer.flush().unwrap().wait(TIMEOUT).unwrap_err();
    assert!(error.message.contains("10 of the events"), "{error}");
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let numbers: Vec<_> = read(&consumer, 90).iter().map(|event| event.json().unwrap()).collect();
    assert_eq!(numbers, (0..100).filter(|number| number % 10 != 0).map(Value::from).collect::<Vec<_>>());
}

/// Whichever component of the topic is unavailable, metadata that the host serialized is stored and
/// read back.
#[test]
fn serialized_event_passes_when_a_component_is_unavailable() {
    let own = json!({"type": "energy:libenergy.so", "bins": 7});
    let two = || one_replica().partitions(2);
    for (part, options) in [
        ("validator", two().validator(own.clone())),
        ("partition selector", two().selector(own.clone())),
        ("serializer", two().serializer(own.clone())),
    ] {
        let (topic, pool) = (topic_with(&driver(), "unavailable", options), pool_of_four());
        for (producer, data) in producers(&topic, &pool).iter().zip([[0_u8], [1]]) {
            let error = failure(producer.push(&NewEvent::text("{}")));
            assert_eq!(error.status, Status::Component, "{error}");
            assert!(error.message.contains(part) && error.message.contains("energy:libenergy.so"), "{error}");

            let serialized = [&3_u64.to_le_bytes()[..], b"[1]"].concat();
            let event = NewEvent::serialized(&serialized).data(&data).partition(1);
            let delivered = producer.push(&event).unwrap().wait(TIMEOUT).unwrap();
            assert_eq!((delivered.partition, delivered.id), (1, Some(data[0].into())));
        }
        let event = read_one(&topic);
        assert_eq!(event.serialized_metadata(), b"\x03\0\0\0\0\0\0\0[1]", "{part}");
        assert_eq!(event.data(), [0]);
        assert_eq!(event.metadata(), if part == "serializer" { None } else { Some("[1]") });
    }
}

/// Selects the partitions one after the other.
struct RoundRobin(u32);

impl Selector for RoundRobin {
    fn select(&mut self, _metadata: &str, _requested: Option<u64>, partitions: u32) -> Result<u32, String> {
        self.0 += 1;
        Ok(self.0 % partitions)
    }
}

#[test]
fn each_producer_has_its_own_selector_state() {
    let driver = driver();
    driver.register_selector("round-robin", |_| Ok(RoundRobin(0))).unwrap();
    let options = one_replica().partitions(3).selector(json!({"type": "round-robin"}));
    let (topic, pool) = (topic_with(&driver, "round-robin", options), pool_of_four());
    let producers = producers(&topic, &pool);
    for number in 1..=30 {
        for producer in &producers {
            let delivered = producer.push(&NewEvent::json(&number)).unwrap().wait(TIMEOUT).unwrap();
            assert_eq!(delivered.partition, number % 3);
        }
    }
}

/// Selects the partition that the metadata names, even if it does not exist; fails if the metadata
/// is not a number, and panics if it is null.
struct FromMetadata;

impl Selector for FromMetadata {
    fn select(&mut self, metadata: &str, _requested: Option<u64>, _partitions: u32) -> Result<u32, String> {
        match serde_json::from_str(metadata).map_err(|why| why.to_string())? {
            Value::Number(number) => Ok(number.as_u64().unwrap() as u32),
            Value::Null => panic!("panics as requested"),
            other => Err(format!("fails as requested: {other}")),
        }
    }
}

#[test]
fn selector_failure_or_invalid_partition_fails_only_that_push() {
    let driver = driver();
    driver.register_selector("from-metadata", |_| Ok(FromMetadata)).unwrap();
    let options = one_replica().partitions(2).selector(json!({"type": "from-metadata"}));
    let (topic, pool) = (topic_with(&driver, "from-metadata", options), pool_of_four());
    for producer in producers(&topic, &pool) {
        for (metadata, reason) in [
            (json!(2), "partition 2, and there are 2"),
            (json!("x"), "fails as requested: \"x\""),
            (json!(null), "panics as requested"),
        ] {
            let error = failure(producer.push(&NewEvent::json(&metadata)));
            assert_eq!(error.status, Status::CallbackFailed, "{error}");
            assert!(error.message.contains(reason) && error.message.contains(topic.name()), "{error}");
            let delivered = producer.push(&NewEvent::json(&1)).unwrap().wait(TIMEOUT).unwrap();
            assert_eq!(delivered.partition, 1, "the next push succeeds");
        }
    }
}

/// Writes the text backwards; fails or panics when it reads some of it.
struct FailingReader;

impl Serializer for FailingReader {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>, String> {
        Ok(metadata.bytes().rev().collect())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8(bytes.iter().rev().copied().collect()).map_err(|why| why.to_string())?;
        match text.as_str() {
            "\"unreadable\"" => Err("the text is not readable".to_owned()),
            "\"panic\"" => panic!("the text causes a panic"),
            _ => Ok(text),
        }
    }
}

/// The error carries the serializer's reason, and the next pull continues behind the event.
#[test]
fn metadata_rejected_by_host_serializer_fails_only_that_pull() {
    let driver = driver();
    driver.register_serializer("failing-reader", |_| Ok(FailingReader)).unwrap();
    let topic = topic_with(&driver, "unreadable", one_replica().serializer(json!({"type": "failing-reader"})));
    let producer = topic.producer("p").make().unwrap();
    for text in ["\"unreadable\"", "1", "\"panic\"", "2"] {
        producer.push(&NewEvent::text(text)).unwrap().wait(TIMEOUT).unwrap();
    }
    producer.push(&NewEvent::serialized(b"no JSON")).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    for (reason, next) in [("the text is not readable", 1), ("the text causes a panic", 2)] {
        let error = consumer.next(TIMEOUT).map(drop).unwrap_err();
        assert_eq!(error.status, Status::CallbackFailed, "{error}");
        assert!(error.message.contains(reason), "{error}");
        assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!(next));
    }
    let error = consumer.next(TIMEOUT).map(drop).unwrap_err();
    assert_eq!(error.status, Status::MalformedRecord, "{error}");
    assert!(consumer.next(SHORT_WAIT).unwrap().is_none());
}

/// The error contains the panic message.
#[test]
fn panic_in_component_factory_fails_topic_creation() {
    let (driver, name) = (driver(), unique("cannot-be-made"));
    driver.register_serializer("broken", |_| -> Result<FailingReader, String> { panic!("out of order") }).unwrap();
    let error = driver.create_topic(&name, &one_replica().serializer(json!({"type": "broken"}))).unwrap_err();
    assert_eq!(error.status, Status::Component, "{error}");
    assert!(error.message.contains("serializer") && error.message.contains("out of order"), "{error}");
    assert!(!driver.topic_exists(&name).unwrap());
}

#[test]
fn component_registered_later_serves_topics_opened_afterwards() {
    let driver = driver();
    let topic = topic_with(&driver, "later", one_replica().validator(json!({"type": "rejects-thirteen"})));
    driver.register_validator("rejects-thirteen", |_| Ok(RejectsThirteen(0))).unwrap();
    let error = topic.producer("p").make().unwrap().push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component, "{error}");
    let again = driver.open_topic(topic.name()).unwrap();
    again.producer("p").make().unwrap().push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
}

/// Counts its instances.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Validator for Counted {
    fn validate(&self, _metadata: &str, _data: &[&[u8]]) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn components_are_destroyed_once_after_their_last_use() {
    let (alive, instances) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is = |count: &Arc<AtomicUsize>, expected| count.load(Ordering::SeqCst) == expected;
    let driver = driver();
    let register = || {
        let (factory, instances) = (Counted::new(&alive), instances.clone());
        driver.register_validator("counted", move |_| {
            let _ = &factory;
            Ok(Counted::new(&instances))
        })
    };
    register().unwrap();
    register().unwrap_err();
    assert!(is(&alive, 1), "the rejected factory is destroyed");

    let topic = topic_with(&driver, "counted", one_replica().validator(json!({"type": "counted"})));
    assert!(is(&instances, 1), "the instance that validated the settings is destroyed");
    let producer = topic.producer("p").make().unwrap();
    drop((topic, driver));
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    std::thread::sleep(SHORT_WAIT);
    assert!(is(&instances, 1) && is(&alive, 1), "the producer uses it");
    producer.close(TIMEOUT).unwrap();
    drop(producer);
    crate::support::eventually("everything is destroyed", || is(&instances, 0) && is(&alive, 0));
}
