//! Validators, selectors and serializers: built in, of a host, or of nobody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use octopus_loader::{NewEvent, Selector, Serializer, Status, TopicOptions, TopicText, Validator};
use serde_json::{Value, json};

use crate::kafka::{Kafka, kcat_read, unique};
use crate::support::{Log, PATIENCE, driver, driver_with, nothing_comes, octopus, one_replica, read};

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
fn a_schema_lets_through_what_it_allows_and_refuses_the_rest_naming_the_place() {
    let (driver, name) = (driver(), unique("schema"));
    driver.create_topic(&name, &with_schema()).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    assert_eq!(topic.components()["validator"], schema());
    let pool = octopus().thread_pool(3).unwrap();
    for producer in [topic.producer("here").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()] {
        let allowed = producer.push(&NewEvent::json(&json!({"energy": 1.5, "format": "x"})).data(b"data")).unwrap();
        let refused = producer
            .push(&NewEvent::json(&json!({"energy": -1})))
            .and_then(|push| push.wait(PATIENCE).map(drop))
            .unwrap_err();
        assert_eq!(refused.status, Status::InvalidMetadata);
        assert!(refused.message.contains("/energy") && refused.message.contains(&name), "{refused}");
        allowed.wait(PATIENCE).unwrap();
    }
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for event in read(&consumer, 2) {
        assert_eq!(event.json().unwrap(), json!({"energy": 1.5, "format": "x"}));
    }
    assert!(nothing_comes(&consumer), "what was refused is not in the topic");
}

#[test]
fn what_is_no_schema_or_no_component_is_refused_when_the_topic_is_made_and_nothing_is_left() {
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

#[test]
fn a_topic_whose_component_nobody_provides_opens_says_so_and_takes_what_the_host_serialized() {
    let log = Log::default();
    let (driver, name) = (driver_with(json!({}), &log), unique("nobody"));
    driver.create_topic(&name, &one_replica().validator(json!({"type": "eventbridge", "schema": {}}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    driver.open_topic(&name).unwrap();
    assert_eq!(log.count(|line| line.starts_with("warn") && line.contains("eventbridge")), 1, "{log:?}");
    let producer = topic.producer("stranger").make().unwrap();
    let error = producer.push(&NewEvent::json(&1)).unwrap_err();
    assert!(error.status == Status::Component && error.message.contains("\"eventbridge\""), "{error}");
    producer.push(&NewEvent::serialized(b"\x01\0\0\0\0\0\0\x003")).unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert_eq!(read(&consumer, 1)[0].json().unwrap(), json!(3));
}

/// Refuses metadata with a 13 in it, and data that is longer than the component's JSON allows.
pub struct Superstitious(pub usize);

impl Validator for Superstitious {
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<(), String> {
        match data.iter().map(|piece| piece.len()).sum::<usize>() {
            _ if metadata.contains("13") => Err("thirteen brings bad luck".to_owned()),
            size if size > self.0 => Err(format!("{size} bytes of data are too many")),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_hosts_validator_is_made_from_its_json_and_sees_metadata_and_data() {
    let (driver, name) = (driver(), unique("host-validator"));
    driver
        .register_validator("superstitious", |json| {
            let json: Value = serde_json::from_str(json).map_err(|why| why.to_string())?;
            json["most"].as_u64().map(|most| Superstitious(most as usize)).ok_or("there is no \"most\"".to_owned())
        })
        .unwrap();
    let error = driver.create_topic(&name, &one_replica().validator(json!({"type": "superstitious"}))).unwrap_err();
    assert!(error.status == Status::Component && error.message.contains("no \"most\""), "{error}");
    driver.create_topic(&name, &one_replica().validator(json!({"type": "superstitious", "most": 4}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    for producer in [topic.producer("here").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()] {
        let outcome = |event: &NewEvent<'_>| producer.push(event).and_then(|push| push.wait(PATIENCE).map(drop));
        outcome(&NewEvent::json(&12).segments(&[b"ab", b"cd"])).unwrap();
        for (event, why) in
            [(NewEvent::json(&13), "bad luck"), (NewEvent::json(&1).segments(&[b"abc", b"de"]), "5 bytes")]
        {
            let error = outcome(&event).unwrap_err();
            assert!(error.status == Status::CallbackFailed && error.message.contains(why), "{error}");
        }
        producer.flush().unwrap().wait(PATIENCE).ok();
    }
}

/// Notes in which order it is asked, and whether it is asked by two at once.
struct Noting {
    seen: Arc<Mutex<Vec<u64>>>,
    is_busy: Arc<AtomicBool>,
}

impl Selector for Noting {
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32, String> {
        if self.is_busy.swap(true, Ordering::SeqCst) {
            return Err("asked by two at once".to_owned());
        }
        let number: u64 = metadata.parse().map_err(|_| "no number".to_owned())?;
        self.seen.lock().unwrap().push(number);
        std::thread::yield_now();
        self.is_busy.store(false, Ordering::SeqCst);
        Ok(requested.map_or((number / 10 % u64::from(partitions)) as u32, |asked| asked as u32))
    }
}

#[test]
fn a_hosts_selector_is_asked_in_the_order_of_the_pushes_and_by_one_at_a_time() {
    const COUNT: u64 = 2_000;
    let (driver, name) = (driver(), unique("host-selector"));
    let (seen, is_busy) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (noted, busy) = (seen.clone(), is_busy.clone());
    driver.register_selector("noting", move |_| Ok(Noting { seen: noted.clone(), is_busy: busy.clone() })).unwrap();
    let options = one_replica().partitions(3).selector(json!({"type": "noting"}));
    driver.create_topic(&name, &options).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    for producer in [topic.producer("here").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()] {
        seen.lock().unwrap().clear();
        let pushes: Vec<_> = (0..COUNT).map(|n| producer.push(&NewEvent::json(&n)).unwrap()).collect();
        for (number, push) in (0..).zip(&pushes) {
            assert_eq!(u64::from(push.wait(PATIENCE).unwrap().partition), number / 10 % 3);
        }
        assert_eq!(*seen.lock().unwrap(), (0..COUNT).collect::<Vec<_>>());
        let asked = producer.push(&NewEvent::json(&1).partition(2)).unwrap().wait(PATIENCE).unwrap();
        assert_eq!(asked.partition, 2);
        let nowhere = producer.push(&NewEvent::json(&1).partition(7)).unwrap().wait(PATIENCE).unwrap_err();
        assert!(nowhere.status == Status::CallbackFailed && nowhere.message.contains("partition 7"), "{nowhere}");
        let failed = producer.push(&NewEvent::json("text")).unwrap().wait(PATIENCE).unwrap_err();
        assert!(failed.message.contains("no number"), "{failed}");
        is_busy.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_hosts_selector_is_asked_by_one_at_a_time_also_when_order_does_not_matter() {
    let (driver, name) = (driver(), unique("loose-selector"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let is_busy = Arc::new(AtomicBool::new(false));
    driver.register_selector("noting", move |_| Ok(Noting { seen: noted.clone(), is_busy: is_busy.clone() })).unwrap();
    driver.create_topic(&name, &one_replica().selector(json!({"type": "noting"}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    let producer = topic.producer("loose").loose().pool(&pool).make().unwrap();
    for number in 0..1_000 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).expect("no two at once");
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
}

/// Writes JSON backwards.
struct Backwards(Arc<AtomicUsize>);

impl Serializer for Backwards {
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>, String> {
        match metadata {
            "null" => Err("nothing is nothing to write".to_owned()),
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
fn a_hosts_serializer_writes_and_reads_the_metadata() {
    let (driver, name) = (driver(), unique("host-serializer"));
    let (made, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counting, ending) = (made.clone(), ended.clone());
    driver
        .register_serializer("backwards", move |_| {
            counting.fetch_add(1, Ordering::SeqCst);
            Ok(Backwards(ending.clone()))
        })
        .unwrap();
    driver.create_topic(&name, &one_replica().serializer(json!({"type": "backwards"}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    for (round, producer) in
        [topic.producer("here").make().unwrap(), topic.producer("pooled").pool(&pool).make().unwrap()]
            .iter()
            .enumerate()
    {
        let outcome = |event: &NewEvent<'_>| producer.push(event).and_then(|push| push.wait(PATIENCE));
        outcome(&NewEvent::json(&json!({"round": round})).data(b"data")).unwrap();
        let error = outcome(&NewEvent::json(&())).unwrap_err();
        assert!(error.status == Status::CallbackFailed && error.message.contains("nothing to write"), "{error}");
        // Not to be read backwards: UTF-8 only in this direction.
        outcome(&NewEvent::serialized("\"ä\"".as_bytes())).unwrap();
    }
    let records = kcat_read(Kafka::shared().bootstrap(), &name);
    assert_eq!(records[0].value[16..], *b"}0:\"dnuor\"{data");
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for round in 0..2 {
        let event = read(&consumer, 1).remove(0);
        assert_eq!((event.json().unwrap(), event.data()), (json!({"round": round}), &b"data"[..]));
        let error = consumer.next(PATIENCE).unwrap_err();
        assert!(error.status == Status::CallbackFailed && error.message.contains("offset"), "{error}");
    }
    drop((consumer, topic, driver));
    crate::support::eventually("every instance that was made has ended", || {
        made.load(Ordering::SeqCst) > 0 && made.load(Ordering::SeqCst) == ended.load(Ordering::SeqCst)
    });
}

#[test]
fn types_that_are_built_in_or_registered_already_are_not_registered() {
    let driver = driver();
    let register = |name: &str| driver.register_validator(name, |_| Ok(Superstitious(0)));
    register("mine").unwrap();
    for (name, why) in [("default", "built in"), ("schema", "built in"), ("mine", "already"), ("", "no name")] {
        let error = register(name).unwrap_err();
        assert!(error.status == Status::InvalidArgument && error.message.contains(why), "{error}");
    }
    driver.register_serializer("mine", |_| Ok(Backwards(Arc::default()))).expect("another kind");
}

#[test]
fn threads_that_push_through_a_hosts_components_at_the_same_time_lose_nothing() {
    let (driver, name) = (driver(), unique("host-threads"));
    driver.register_validator("superstitious", |_| Ok(Superstitious(100))).unwrap();
    driver.register_serializer("backwards", |_| Ok(Backwards(Arc::default()))).unwrap();
    let components = [json!({"type": "superstitious"}), json!({"type": "backwards"})];
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
    let refused = producer.flush().unwrap().wait(PATIENCE);
    let there = kcat_read(Kafka::shared().bootstrap(), &name).len();
    // Of each thread's numbers 13000, 113000 and 130000 to 139000, as written, are refused.
    let unlucky = (0..250).filter(|n| (n * 1000).to_string().contains("13")).count() * 4;
    assert!(refused.unwrap_err().message.contains(&format!("{unlucky} of the events")));
    assert_eq!(there, 1_000 - unlucky);
}
