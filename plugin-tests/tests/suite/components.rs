//! Validators, selectors and serializers: built in, of a host, or of nobody.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use plugin_tests::{
    Driver, Error, Event, NewEvent, Producer, Push, Selector, Serializer, Status, ThreadPool, Topic, TopicOptions,
    TopicText, Validator,
};
use serde_json::{Value, json};

use crate::kafka::{Kafka, kcat_read, unique};
use crate::support::{A_MOMENT, Log, PATIENCE, driver, driver_with, nothing_comes, octopus, one_replica, read};

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
struct Superstitious(usize);

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
fn failure(pushed: plugin_tests::Result<Push>) -> Error {
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
