//! Events that the host prepares itself: its own objects validate and serialize them and select
//! their partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use octopus_loader::{NewEvent, Preparation, Producer, Status, ThreadPool, Topic};
use serde_json::json;

use crate::kafka::{Kafka, unique};
use crate::proxy::ProxiedKafka;
use crate::support::{Log, TIMEOUT, driver, driver_with, eventually, octopus, one_replica, read, topic, topic_of};

/// The state that the preparations of one producer share.
#[derive(Default)]
struct SharedState {
    is_selecting: AtomicBool,
    selections: AtomicU64,
    alive: AtomicUsize,
}

impl SharedState {
    fn is_unused(&self) -> bool {
        self.alive.load(Ordering::SeqCst) == 0
    }
}

/// A preparation of the host. It fails in the step `fails_in`. It takes up to 0.9 ms depending on
/// `number`, so that a thread pool finishes events out of order, and checks that partitions are
/// selected in push order.
struct HostPreparation {
    shared: Arc<SharedState>,
    number: u64,
    fails_in: Option<&'static str>,
}

impl HostPreparation {
    fn new(shared: &Arc<SharedState>, number: u64) -> Self {
        shared.alive.fetch_add(1, Ordering::SeqCst);
        HostPreparation { shared: shared.clone(), number, fails_in: None }
    }

    fn failing_in(shared: &Arc<SharedState>, step: &'static str) -> Self {
        let mut preparation = HostPreparation::new(shared, 0);
        preparation.fails_in = Some(step);
        preparation
    }
}

impl Drop for HostPreparation {
    fn drop(&mut self) {
        self.shared.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Preparation for HostPreparation {
    fn prepare(&mut self, data: &[&[u8]]) -> Result<Vec<u8>, String> {
        match self.fails_in {
            Some("prepare") => return Err("not today".to_owned()),
            Some("panic") => panic!("frightened"),
            _ => thread::sleep(Duration::from_micros(self.number % 4 * 300)),
        }
        assert_eq!(data.concat(), self.number.to_string().as_bytes());
        let text = json!({"number": self.number}).to_string();
        Ok([&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat())
    }

    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<u32, String> {
        assert!(!self.shared.is_selecting.swap(true, Ordering::SeqCst), "two selections at the same time");
        let position = self.shared.selections.fetch_add(1, Ordering::SeqCst);
        self.shared.is_selecting.store(false, Ordering::SeqCst);
        match self.fails_in {
            Some("select") => Err("no partition will do".to_owned()),
            Some("choice") => Ok(partitions),
            _ if position != self.number => Err(format!("event {} was selected as number {position}", self.number)),
            _ => Ok((requested.unwrap_or(self.number) % u64::from(partitions)) as u32),
        }
    }
}

fn producers(topic: &Topic, pool: &ThreadPool) -> [Producer; 2] {
    [topic.producer("in-caller").make().unwrap(), topic.producer("on-pool").pool(pool).make().unwrap()]
}

#[test]
fn prepared_events_are_dispatched_in_push_order_on_any_pool() {
    const COUNT: u64 = 400;
    // No component of type "own" is registered: the preparations replace them.
    let options = one_replica().partitions(2).selector(json!({"type": "own"})).validator(json!({"type": "own"}));
    let (driver, pool) = (driver(), octopus().thread_pool(4).unwrap());
    for index in 0..2 {
        let name = unique("prepared");
        driver.create_topic(&name, &options).unwrap();
        let topic = driver.open_topic(&name).unwrap();
        let (shared, producer) = (Arc::new(SharedState::default()), &producers(&topic, &pool)[index]);
        let pushes: Vec<_> = (0..COUNT)
            .map(|number| {
                let data = number.to_string();
                let event = NewEvent::default().data(data.as_bytes()).partition(number / 2);
                producer.push_prepared(&event, HostPreparation::new(&shared, number)).unwrap()
            })
            .collect();
        for (number, push) in (0..).zip(&pushes) {
            assert_eq!(u64::from(push.wait(TIMEOUT).unwrap().partition), number / 2 % 2);
        }
        assert!(shared.is_unused(), "a preparation was not destroyed");
        let consumer = topic.consumer(&unique("reader")).make().unwrap();
        let mut next = [0, 2];
        for event in read(&consumer, COUNT as usize) {
            let next = &mut next[event.partition() as usize];
            assert_eq!(event.json().unwrap(), json!({"number": *next}));
            assert_eq!(event.data(), next.to_string().as_bytes());
            *next += if *next % 2 == 0 { 1 } else { 3 };
        }
    }
}

/// Later events and flushes of the producer succeed.
#[test]
fn failed_preparation_fails_its_future_and_the_next_flush() {
    let (topic, pool, shared) = (topic("prepared-badly", 1), octopus().thread_pool(4).unwrap(), Arc::default());
    for producer in producers(&topic, &pool) {
        for (fails_in, reason) in [
            ("prepare", "prepare: not today"),
            ("panic", "frightened"),
            ("select", "select: no partition will do"),
            ("choice", "partition 1, and there are 1"),
        ] {
            let event = NewEvent::default().data(b"0");
            let push = producer.push_prepared(&event, HostPreparation::failing_in(&shared, fails_in)).unwrap();
            let error = push.wait(TIMEOUT).unwrap_err();
            assert_eq!(error.status, Status::CallbackFailed, "{error}");
            assert!(error.message.contains(reason) && error.message.contains(topic.name()), "{error}");
            let error = producer.flush().unwrap().wait(TIMEOUT).unwrap_err();
            assert!(error.message.contains("1 of the events") && error.message.contains(reason), "{error}");
        }
        let large = vec![0; producer.max_event_size().unwrap() as usize + 100];
        let preparation = HostPreparation::new(&shared, 0);
        let push = producer.push_prepared(&NewEvent::default().data(&large), preparation).unwrap();
        assert_eq!(push.wait(TIMEOUT).unwrap_err().status, Status::TooLarge);
        producer.flush().unwrap().wait(TIMEOUT).unwrap_err();
        producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
        producer.flush().unwrap().wait(TIMEOUT).unwrap();
    }
    eventually("each preparation is destroyed", || shared.is_unused());
}

/// The size of the metadata is known only after the preparation; the producer reserves it then.
#[test]
fn prepared_metadata_counts_towards_the_in_flight_limit() {
    struct Large;
    impl Preparation for Large {
        fn prepare(&mut self, _data: &[&[u8]]) -> Result<Vec<u8>, String> {
            let text = format!("\"{}\"", "x".repeat(100_000));
            Ok([&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat())
        }
        fn select(&mut self, _requested: Option<u64>, _partitions: u32) -> Result<u32, String> {
            Ok(0)
        }
    }
    let pool = octopus().thread_pool(1).unwrap();
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}, "timeout_ms": 5_000});
    let topic = topic_of(&driver_with(through_proxy, &Log::default()), "large", 1);
    let producer = topic.producer("p").pool(&pool).kafka("queue.buffering.max.kbytes", 1_000).make().unwrap();
    producer.push_prepared(&NewEvent::default(), Large).unwrap().wait(TIMEOUT).unwrap();
    kafka.pause();
    let mut pushed = 0;
    let error = loop {
        match producer.push_prepared(&NewEvent::default(), Large) {
            Ok(_) if pushed > 1_000 => panic!("the in-flight limit was never reached"),
            Ok(_) => pushed += 1,
            Err(error) => break error,
        }
        eventually("the event is prepared", || pool.pending().unwrap() == 0);
    };
    assert_eq!(error.status, Status::Unreachable, "{error}");
    assert!(error.message.contains("queue.buffering.max.kbytes (1000)"), "{error}");
    assert!((10..=13).contains(&pushed), "{pushed} events of 100 kB reached a limit of 1,000 KiB");
    kafka.resume();
}

/// The host can create and open topics with components that only it can make. A push that needs
/// such a component fails; a prepared one does not.
#[test]
fn host_with_own_components_gets_no_warning_about_missing_ones() {
    let log = Log::default();
    let log_sink = log.clone();
    let driver = octopus()
        .driver_builder(json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}}))
        .log(move |_, _, message| log_sink.push(message.to_owned()))
        .has_components()
        .create()
        .unwrap();
    let (name, odd) = (unique("hosts-own"), json!({"type": "schema", "schema": {"type": "only C++ knows this one"}}));
    let own = one_replica().selector(json!({"type": "own"})).validator(odd.clone()).serializer(json!({"type": "own"}));
    driver.create_topic(&name, &own).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    assert!(!log.text().contains("is not available"), "{}", log.text());
    let producer = topic.producer("p").make().unwrap();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component, "a push without a preparation skipped the validator: {error}");
    let event = NewEvent::default().data(b"0");
    producer.push_prepared(&event, HostPreparation::new(&Arc::default(), 0)).unwrap().wait(TIMEOUT).unwrap();
    let with_format = json!({"type": "schema", "schema": {"type": "string", "format": "date"}});
    let error = driver.create_topic(&unique("format"), &one_replica().validator(with_format)).unwrap_err();
    assert!(error.message.contains("format"), "C++ hosts cannot open such a topic: {error}");
    let error = crate::support::driver().open_topic(&name).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component, "{error}");
}
