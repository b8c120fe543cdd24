//! Validators, selectors and serializers: built in, registered by a host, or unavailable.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use octopus_loader::{NewEvent, Selector, Serializer, Status, TopicOptions, TopicText, Validator};
use serde_json::{Value, json};

use crate::kafka::{Kafka, kcat_read, unique};
use crate::support::{Log, TIMEOUT, driver, driver_with, has_no_event, octopus, one_replica, read};

fn schema() -> Value {
    json!({
        "type": "schema",
        "schema": {
            "type": "object", "required": ["energy"],
            "properties": {"energy": {"type": "number", "minimum": 0}, "format": {"type": "string"}},
        }
    })
}

fn with_schema() -> TopicOptions {
    one_replica().validator(schema()).serializer(json!({"type": "schema"}))
}

#[test]
fn schema_rejects_invalid_metadata_and_names_the_location() {
    let (driver, name) = (driver(), unique("schema"));
    driver.create_topic(&name, &with_schema()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    assert_eq!(topic.components()["validator"], schema());
    let pool = octopus().thread_pool(3).unwrap();
    for producer in [topic.producer("in-caller").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()]
    {
        let allowed = producer.push(&NewEvent::json(&json!({"energy": 1.5, "format": "x"})).data(b"data")).unwrap();
        let refused = producer
            .push(&NewEvent::json(&json!({"energy": -1})))
            .and_then(|push| push.wait(TIMEOUT).map(drop))
            .unwrap_err();
        assert_eq!(refused.status, Status::InvalidMetadata);
        assert!(refused.message.contains("/energy") && refused.message.contains(&name), "{refused}");
        allowed.wait(TIMEOUT).unwrap();
    }
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for event in read(&consumer, 2) {
        assert_eq!(event.json().unwrap(), json!({"energy": 1.5, "format": "x"}));
    }
    assert!(has_no_event(&consumer), "rejected events are not in the topic");
}

/// Neither the topic nor its info topic is created.
#[test]
fn invalid_schema_or_component_fails_topic_creation() {
    let (driver, name) = (driver(), unique("no-schema"));
    let schema = |schema: Value| one_replica().validator(json!({"type": "schema", "schema": schema}));
    for (options, why) in [
        (schema(json!({"type": "nonsense"})), "draft 7"),
        (schema(json!("text")), "an object"),
        (one_replica().validator(json!({"type": "schema"})), "no \"schema\""),
        (schema(json!({"properties": {"when": {"format": "date"}}})), "/schema/properties/when/format"),
        (schema(json!({"$ref": "http://localhost:1/elsewhere"})), "schema"),
        (one_replica().text(TopicText::Selector, "[1]"), "partition selector"),
        (one_replica().text(TopicText::Serializer, "{"), "serializer"),
    ] {
        let error = driver.create_topic(&name, &options).unwrap_err();
        assert_eq!(error.status, Status::Component, "{error}");
        assert!(error.message.contains(why) && error.message.contains(&name), "{error}");
    }
    assert!(!driver.topic_exists(&name).unwrap() && !driver.topic_exists(&format!("__info_{name}")).unwrap());
}

/// The topic opens with one warning; pushes that need the component fail.
#[test]
fn topic_with_unavailable_component_accepts_serialized_events() {
    let log = Log::default();
    let (driver, name) = (driver_with(json!({}), &log), unique("unavailable"));
    driver.create_topic(&name, &one_replica().validator(json!({"type": "eventbridge", "schema": {}}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    driver.open_topic(&name).unwrap();
    for operation in ["creating", "opening"] {
        let is_warning = |line: &str| line.starts_with(&format!("warning driver: {operation} topic"));
        assert_eq!(log.count(|line| is_warning(line) && line.contains("eventbridge")), 1, "{operation}: {log:?}");
    }
    let producer = topic.producer("without-validator").make().unwrap();
    let error = producer.push(&NewEvent::json(&1)).unwrap_err();
    assert!(error.status == Status::Component && error.message.contains("\"eventbridge\""), "{error}");
    producer.push(&NewEvent::serialized(b"\x01\0\0\0\0\0\0\x003")).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!(3));
}

/// Rejects metadata that contains 13, and data that is longer than the component's JSON allows.
pub struct RejectsThirteen(pub usize);

impl Validator for RejectsThirteen {
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<(), String> {
        match data.iter().map(|piece| piece.len()).sum::<usize>() {
            _ if metadata.contains("13") => Err("13 is not allowed".to_owned()),
            size if size > self.0 => Err(format!("{size} bytes of data are too many")),
            _ => Ok(()),
        }
    }
}

#[test]
fn host_validator_gets_its_json_the_metadata_and_the_data() {
    let (driver, name) = (driver(), unique("host-validator"));
    driver
        .register_validator("rejects-thirteen", |json| {
            let json: Value = serde_json::from_str(json).map_err(|why| why.to_string())?;
            json["max_size"]
                .as_u64()
                .map(|size| RejectsThirteen(size as usize))
                .ok_or("there is no \"max_size\"".to_owned())
        })
        .unwrap();
    let error = driver.create_topic(&name, &one_replica().validator(json!({"type": "rejects-thirteen"}))).unwrap_err();
    assert!(error.status == Status::Component && error.message.contains("no \"max_size\""), "{error}");
    driver.create_topic(&name, &one_replica().validator(json!({"type": "rejects-thirteen", "max_size": 4}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    for producer in [topic.producer("in-caller").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()]
    {
        let outcome = |event: &NewEvent<'_>| producer.push(event).and_then(|push| push.wait(TIMEOUT).map(drop));
        outcome(&NewEvent::json(&12).segments(&[b"ab", b"cd"])).unwrap();
        for (event, why) in
            [(NewEvent::json(&13), "13 is not allowed"), (NewEvent::json(&1).segments(&[b"abc", b"de"]), "5 bytes")]
        {
            let error = outcome(&event).unwrap_err();
            assert!(error.status == Status::CallbackFailed && error.message.contains(why), "{error}");
        }
        producer.flush().unwrap().wait(TIMEOUT).ok();
    }
}

/// Records the order of its calls, and fails if two calls overlap.
struct Recording {
    seen: Arc<Mutex<Vec<u64>>>,
    is_busy: Arc<AtomicBool>,
}

impl Selector for Recording {
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32, String> {
        if self.is_busy.swap(true, Ordering::SeqCst) {
            return Err("two calls overlap".to_owned());
        }
        let number: u64 = metadata.parse().map_err(|_| "not a number".to_owned())?;
        self.seen.lock().unwrap().push(number);
        std::thread::yield_now();
        self.is_busy.store(false, Ordering::SeqCst);
        Ok(requested.map_or((number / 10 % u64::from(partitions)) as u32, |partition| partition as u32))
    }
}

#[test]
fn host_selector_is_called_in_push_order_without_overlap() {
    const COUNT: u64 = 2_000;
    let (driver, name) = (driver(), unique("host-selector"));
    let (seen, is_busy) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (recorded, busy) = (seen.clone(), is_busy.clone());
    driver
        .register_selector("recording", move |_| Ok(Recording { seen: recorded.clone(), is_busy: busy.clone() }))
        .unwrap();
    let options = one_replica().partitions(3).selector(json!({"type": "recording"}));
    driver.create_topic(&name, &options).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    for producer in [topic.producer("in-caller").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()]
    {
        seen.lock().unwrap().clear();
        let pushes: Vec<_> = (0..COUNT).map(|n| producer.push(&NewEvent::json(&n)).unwrap()).collect();
        for (number, push) in (0..).zip(&pushes) {
            assert_eq!(u64::from(push.wait(TIMEOUT).unwrap().partition), number / 10 % 3);
        }
        assert_eq!(*seen.lock().unwrap(), (0..COUNT).collect::<Vec<_>>());
        let requested = producer.push(&NewEvent::json(&1).partition(2)).unwrap().wait(TIMEOUT).unwrap();
        assert_eq!(requested.partition, 2);
        let nonexistent = producer.push(&NewEvent::json(&1).partition(7)).unwrap().wait(TIMEOUT).unwrap_err();
        assert!(
            nonexistent.status == Status::CallbackFailed && nonexistent.message.contains("partition 7"),
            "{nonexistent}"
        );
        let failed = producer.push(&NewEvent::json("text")).unwrap().wait(TIMEOUT).unwrap_err();
        assert!(failed.message.contains("not a number"), "{failed}");
        is_busy.store(false, Ordering::SeqCst);
    }
}

#[test]
fn host_selector_calls_never_overlap_in_loose_order() {
    let (driver, name) = (driver(), unique("loose-selector"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let recorded = seen.clone();
    let is_busy = Arc::new(AtomicBool::new(false));
    driver
        .register_selector("recording", move |_| Ok(Recording { seen: recorded.clone(), is_busy: is_busy.clone() }))
        .unwrap();
    driver.create_topic(&name, &one_replica().selector(json!({"type": "recording"}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    let producer = topic.producer("loose").loose().pool(&pool).make().unwrap();
    for number in 0..1_000 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).expect("no calls overlap");
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
}

/// Writes JSON backwards.
struct Backwards(Arc<AtomicUsize>);

impl Serializer for Backwards {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>, String> {
        match metadata {
            "null" => Err("null has nothing to write".to_owned()),
            text => Ok(text.bytes().rev().collect()),
        }
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<String, String> {
        String::from_utf8(bytes.iter().rev().copied().collect()).map_err(|why| why.to_string())
    }
}

impl Drop for Backwards {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn host_serializer_writes_and_reads_metadata() {
    let (driver, name) = (driver(), unique("host-serializer"));
    let (created, destroyed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (creating, destroying) = (created.clone(), destroyed.clone());
    driver
        .register_serializer("backwards", move |_| {
            creating.fetch_add(1, Ordering::SeqCst);
            Ok(Backwards(destroying.clone()))
        })
        .unwrap();
    driver.create_topic(&name, &one_replica().serializer(json!({"type": "backwards"}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    for (round, producer) in
        [topic.producer("in-caller").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()]
            .iter()
            .enumerate()
    {
        let outcome = |event: &NewEvent<'_>| producer.push(event).and_then(|push| push.wait(TIMEOUT));
        outcome(&NewEvent::json(&json!({"round": round})).data(b"data")).unwrap();
        let error = outcome(&NewEvent::json(&())).unwrap_err();
        assert!(error.status == Status::CallbackFailed && error.message.contains("nothing to write"), "{error}");
        // These bytes are UTF-8 only in this direction, so the serializer fails to read them.
        outcome(&NewEvent::serialized("\"ä\"".as_bytes())).unwrap();
    }
    let records = kcat_read(Kafka::shared().bootstrap(), &name);
    assert_eq!(records[0].value[16..], *b"}0:\"dnuor\"{data");
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for round in 0..2 {
        let event = read(&consumer, 1).remove(0);
        assert_eq!((event.json().unwrap(), event.data()), (json!({"round": round}), &b"data"[..]));
        let error = consumer.next(TIMEOUT).unwrap_err();
        assert!(error.status == Status::CallbackFailed && error.message.contains("offset"), "{error}");
    }
    drop((consumer, topic, driver));
    crate::support::eventually("every instance is destroyed", || {
        created.load(Ordering::SeqCst) > 0 && created.load(Ordering::SeqCst) == destroyed.load(Ordering::SeqCst)
    });
}

#[test]
fn built_in_or_registered_type_cannot_be_registered_again() {
    let driver = driver();
    let register = |name: &str| driver.register_validator(name, |_| Ok(RejectsThirteen(0)));
    register("mine").unwrap();
    for (name, why) in [("default", "built in"), ("schema", "built in"), ("mine", "already"), ("", "no name")] {
        let error = register(name).unwrap_err();
        assert!(error.status == Status::InvalidArgument && error.message.contains(why), "{error}");
    }
    driver.register_serializer("mine", |_| Ok(Backwards(Arc::default()))).expect("the name is free for a serializer");
}

#[test]
fn concurrent_pushes_through_host_components_lose_no_event() {
    let (driver, name) = (driver(), unique("host-threads"));
    driver.register_validator("rejects-thirteen", |_| Ok(RejectsThirteen(100))).unwrap();
    driver.register_serializer("backwards", |_| Ok(Backwards(Arc::default()))).unwrap();
    let components = [json!({"type": "rejects-thirteen"}), json!({"type": "backwards"})];
    let [validator, serializer] = components;
    driver.create_topic(&name, &one_replica().validator(validator).serializer(serializer)).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    let producer = topic.producer("threads").pool(&pool).make().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..250 {
                    producer.push_forget(&NewEvent::json(&json!(["ab", thread, n * 1000]))).unwrap();
                }
            });
        }
    });
    let flushed = producer.flush().unwrap().wait(TIMEOUT);
    let stored = kcat_read(Kafka::shared().bootstrap(), &name).len();
    // Of each thread's numbers, 13000, 113000 and 130000 to 139000 contain 13 and are rejected.
    let rejected = (0..250).filter(|n| (n * 1000).to_string().contains("13")).count() * 4;
    assert!(flushed.unwrap_err().message.contains(&format!("{rejected} of the events")));
    assert_eq!(stored, 1_000 - rejected);
}
