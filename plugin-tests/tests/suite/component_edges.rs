//! Components that fail, come late, keep notes or end, in the caller and on a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use octopus_loader::{
    Driver, Error, Event, NewEvent, Producer, Push, Selector, Serializer, Status, ThreadPool, Topic, TopicOptions,
    Validator,
};
use serde_json::{Value, json};

use crate::components::Superstitious;
use crate::kafka::unique;
use crate::support::{A_MOMENT, PATIENCE, driver, octopus, one_replica, read};

/// A new topic made with `options`.
fn topic_with(driver: &Driver, name: &str, options: TopicOptions) -> Topic {
    let name = unique(name);
    driver.create_topic(&name, &options).unwrap();
    driver.open_topic(&name).unwrap()
}

/// A producer in the caller, and one on a pool of four threads.
fn producers(topic: &Topic, pool: &ThreadPool) -> [Producer; 2] {
    [topic.producer("in-caller").make().unwrap(), topic.producer("on-pool").pool(pool).make().unwrap()]
}

fn pool_of_four() -> ThreadPool {
    octopus().thread_pool(4).unwrap()
}

/// Why an event is not delivered, be it told by push or by what that gave.
fn failure(pushed: octopus_loader::Result<Push>) -> Error {
    pushed.and_then(|push| push.wait(PATIENCE).map(drop)).unwrap_err()
}

fn read_one(topic: &Topic) -> Event {
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    read(&consumer, 1).remove(0)
}

#[test]
fn what_the_pool_refuses_leaves_no_gap_and_keeps_no_later_event_back() {
    let wanted = json!({"type": "schema", "schema": {"type": "integer", "not": {"multipleOf": 10}}});
    let (topic, pool) = (topic_with(&driver(), "gaps", one_replica().validator(wanted)), pool_of_four());
    let producer = topic.producer("p").pool(&pool).make().unwrap();
    (0..100).for_each(|number| producer.push_forget(&NewEvent::json(&number)).unwrap());
    let error = producer.flush().unwrap().wait(PATIENCE).unwrap_err();
    assert!(error.message.contains("10 of the events"), "{error}");
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let numbers: Vec<_> = read(&consumer, 90).iter().map(|event| event.json().unwrap()).collect();
    assert_eq!(numbers, (0..100).filter(|number| number % 10 != 0).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn whichever_component_nobody_provides_what_the_host_serialized_goes_in_and_comes_out() {
    let own = json!({"type": "energy:libenergy.so", "bins": 7});
    let two = || one_replica().partitions(2);
    for (part, options) in [
        ("validator", two().validator(own.clone())),
        ("partition selector", two().selector(own.clone())),
        ("serializer", two().serializer(own.clone())),
    ] {
        let (topic, pool) = (topic_with(&driver(), "unprovided", options), pool_of_four());
        for (producer, data) in producers(&topic, &pool).iter().zip([[0_u8], [1]]) {
            let error = failure(producer.push(&NewEvent::text("{}")));
            assert_eq!(error.status, Status::Component, "{error}");
            assert!(error.message.contains(part) && error.message.contains("energy:libenergy.so"), "{error}");

            let serialized = [&3_u64.to_le_bytes()[..], b"[1]"].concat();
            let event = NewEvent::serialized(&serialized).data(&data).partition(1);
            let delivered = producer.push(&event).unwrap().wait(PATIENCE).unwrap();
            assert_eq!((delivered.partition, delivered.id), (1, Some(data[0].into())));
        }
        let event = read_one(&topic);
        assert_eq!(event.serialized_metadata(), b"\x03\0\0\0\0\0\0\0[1]", "{part}");
        assert_eq!(event.data(), [0]);
        assert_eq!(event.metadata(), if part == "serializer" { None } else { Some("[1]") });
    }
}

/// Puts each event into the partition after that of the one before.
struct InTurn(u32);

impl Selector for InTurn {
    fn select(&mut self, _metadata: &str, _requested: Option<u64>, partitions: u32) -> Result<u32, String> {
        self.0 += 1;
        Ok(self.0 % partitions)
    }
}

#[test]
fn each_producer_has_a_selector_of_its_own_which_keeps_its_notes() {
    let driver = driver();
    driver.register_selector("in-turn", |_| Ok(InTurn(0))).unwrap();
    let options = one_replica().partitions(3).selector(json!({"type": "in-turn"}));
    let (topic, pool) = (topic_with(&driver, "in-turn", options), pool_of_four());
    let producers = producers(&topic, &pool);
    for number in 1..=30 {
        for producer in &producers {
            let delivered = producer.push(&NewEvent::json(&number)).unwrap().wait(PATIENCE).unwrap();
            assert_eq!(delivered.partition, number % 3);
        }
    }
}

/// Chooses what the metadata says, without looking whether there is such a partition; or fails with it.
struct Obedient;

impl Selector for Obedient {
    fn select(&mut self, metadata: &str, _requested: Option<u64>, _partitions: u32) -> Result<u32, String> {
        match serde_json::from_str(metadata).map_err(|why| why.to_string())? {
            Value::Number(number) => Ok(number.as_u64().unwrap() as u32),
            Value::Null => panic!("told to panic"),
            other => Err(format!("told to fail: {other}")),
        }
    }
}

#[test]
fn a_selector_that_fails_or_gives_a_partition_that_is_not_there_fails_that_push_alone() {
    let driver = driver();
    driver.register_selector("obedient", |_| Ok(Obedient)).unwrap();
    let options = one_replica().partitions(2).selector(json!({"type": "obedient"}));
    let (topic, pool) = (topic_with(&driver, "obedient", options), pool_of_four());
    for producer in producers(&topic, &pool) {
        for (metadata, reason) in [
            (json!(2), "partition 2, and there are 2"),
            (json!("x"), "told to fail: \"x\""),
            (json!(null), "told to panic"),
        ] {
            let error = failure(producer.push(&NewEvent::json(&metadata)));
            assert_eq!(error.status, Status::CallbackFailed, "{error}");
            assert!(error.message.contains(reason) && error.message.contains(topic.name()), "{error}");
            let delivered = producer.push(&NewEvent::json(&1)).unwrap().wait(PATIENCE).unwrap();
            assert_eq!(delivered.partition, 1, "the next one goes on");
        }
    }
}

/// Writes the text backwards, and can't read all of it.
struct Moody;

impl Serializer for Moody {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>, String> {
        Ok(metadata.bytes().rev().collect())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8(bytes.iter().rev().copied().collect()).map_err(|why| why.to_string())?;
        match text.as_str() {
            "\"unreadable\"" => Err("it can't read its own writing".to_owned()),
            "\"panic\"" => panic!("its writing frightens it"),
            _ => Ok(text),
        }
    }
}

#[test]
fn metadata_that_the_hosts_serializer_cannot_read_fails_that_pull_with_its_reason_and_the_next_reads_on() {
    let driver = driver();
    driver.register_serializer("moody", |_| Ok(Moody)).unwrap();
    let topic = topic_with(&driver, "unreadable", one_replica().serializer(json!({"type": "moody"})));
    let producer = topic.producer("p").make().unwrap();
    for text in ["\"unreadable\"", "1", "\"panic\"", "2"] {
        producer.push(&NewEvent::text(text)).unwrap().wait(PATIENCE).unwrap();
    }
    producer.push(&NewEvent::serialized(b"no JSON")).unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    for (reason, next) in [("it can't read its own writing", 1), ("its writing frightens it", 2)] {
        let error = consumer.next(PATIENCE).map(drop).unwrap_err();
        assert_eq!(error.status, Status::CallbackFailed, "{error}");
        assert!(error.message.contains(reason), "{error}");
        assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!(next));
    }
    let error = consumer.next(PATIENCE).map(drop).unwrap_err();
    assert_eq!(error.status, Status::MalformedRecord, "{error}");
    assert!(consumer.next(A_MOMENT).unwrap().is_none());
}

#[test]
fn a_component_whose_making_panics_fails_the_making_of_the_topic_with_the_words_of_the_panic() {
    let (driver, name) = (driver(), unique("cannot-be-made"));
    driver.register_serializer("broken", |_| -> Result<Moody, String> { panic!("out of order") }).unwrap();
    let error = driver.create_topic(&name, &one_replica().serializer(json!({"type": "broken"}))).unwrap_err();
    assert_eq!(error.status, Status::Component, "{error}");
    assert!(error.message.contains("serializer") && error.message.contains("out of order"), "{error}");
    assert!(!driver.topic_exists(&name).unwrap());
}

#[test]
fn a_component_that_is_registered_later_serves_topics_that_are_opened_from_then_on() {
    let driver = driver();
    let topic = topic_with(&driver, "later", one_replica().validator(json!({"type": "superstitious"})));
    driver.register_validator("superstitious", |_| Ok(Superstitious(0))).unwrap();
    let error = topic.producer("p").make().unwrap().push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component, "{error}");
    let again = driver.open_topic(topic.name()).unwrap();
    again.producer("p").make().unwrap().push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
}

/// Counts how many of it there are.
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
fn components_live_as_long_as_what_uses_them_and_are_ended_once() {
    let (alive, instances) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is = |count: &Arc<AtomicUsize>, expected| count.load(Ordering::SeqCst) == expected;
    let driver = driver();
    let register = || {
        let (itself, instances) = (Counted::new(&alive), instances.clone());
        driver.register_validator("counted", move |_| {
            let _ = &itself;
            Ok(Counted::new(&instances))
        })
    };
    register().unwrap();
    register().unwrap_err();
    assert!(is(&alive, 1), "what was refused is destroyed");

    let topic = topic_with(&driver, "counted", one_replica().validator(json!({"type": "counted"})));
    assert!(is(&instances, 1), "the one that only showed that it can be made is gone");
    let producer = topic.producer("p").make().unwrap();
    drop((topic, driver));
    producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
    std::thread::sleep(A_MOMENT);
    assert!(is(&instances, 1) && is(&alive, 1), "the producer uses it");
    producer.close(PATIENCE).unwrap();
    drop(producer);
    crate::support::eventually("everything is ended", || is(&instances, 0) && is(&alive, 0));
}
