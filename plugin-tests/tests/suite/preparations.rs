//! Events that the host makes ready itself: validated, serialized and put into a partition by objects of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use octopus_loader::{NewEvent, Preparation, Producer, Status, ThreadPool, Topic};
use serde_json::json;

use crate::kafka::{Kafka, unique};
use crate::support::{Log, PATIENCE, driver, driver_with, eventually, octopus, one_replica, read, topic};

/// What a host's selector and its events share.
#[derive(Default)]
struct Desk {
    is_taken: AtomicBool,
    served: AtomicU64,
    alive: AtomicUsize,
}

impl Desk {
    fn is_empty(&self) -> bool {
        self.alive.load(Ordering::SeqCst) == 0
    }
}

/// One event of the host's: fails where it is told to, takes longer the earlier it comes, and is stamped in its turn.
struct Own {
    desk: Arc<Desk>,
    number: u64,
    fails_in: Option<&'static str>,
}

impl Own {
    fn new(desk: &Arc<Desk>, number: u64) -> Self {
        desk.alive.fetch_add(1, Ordering::SeqCst);
        Own { desk: desk.clone(), number, fails_in: None }
    }

    fn failing_in(desk: &Arc<Desk>, what: &'static str) -> Self {
        let mut own = Own::new(desk, 0);
        own.fails_in = Some(what);
        own
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.desk.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Preparation for Own {
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
        assert!(!self.desk.is_taken.swap(true, Ordering::SeqCst), "one at a time");
        let in_turn = self.desk.served.fetch_add(1, Ordering::SeqCst);
        self.desk.is_taken.store(false, Ordering::SeqCst);
        match self.fails_in {
            Some("select") => Err("no partition will do".to_owned()),
            Some("choice") => Ok(partitions),
            _ if in_turn != self.number => Err(format!("{} came as number {in_turn}", self.number)),
            _ => Ok((requested.unwrap_or(self.number) % u64::from(partitions)) as u32),
        }
    }
}

fn producers(topic: &Topic, pool: &ThreadPool) -> [Producer; 2] {
    [topic.producer("in-caller").make().unwrap(), topic.producer("on-pool").pool(pool).make().unwrap()]
}

#[test]
fn events_that_the_host_makes_ready_are_put_out_in_the_order_of_the_pushes_on_any_pool() {
    const COUNT: u64 = 400;
    // Components that nobody here provides: the host's own objects do their work.
    let options = one_replica().partitions(2).selector(json!({"type": "own"})).validator(json!({"type": "own"}));
    let (driver, pool) = (driver(), octopus().thread_pool(4).unwrap());
    for index in 0..2 {
        let name = unique("prepared");
        driver.create_topic(&name, &options).unwrap();
        let topic = driver.open_topic(&name).unwrap();
        let (desk, producer) = (Arc::new(Desk::default()), &producers(&topic, &pool)[index]);
        let pushes: Vec<_> = (0..COUNT)
            .map(|number| {
                let data = number.to_string();
                let event = NewEvent::default().data(data.as_bytes()).partition(number / 2);
                producer.push_prepared(&event, Own::new(&desk, number)).unwrap()
            })
            .collect();
        for (number, push) in (0..).zip(&pushes) {
            assert_eq!(u64::from(push.wait(PATIENCE).unwrap().partition), number / 2 % 2);
        }
        assert!(desk.is_empty(), "each is destroyed");
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

#[test]
fn what_fails_in_the_hosts_hands_fails_the_future_alone_and_the_next_flush_tells_of_it() {
    let (topic, pool, desk) = (topic("prepared-badly", 1), octopus().thread_pool(4).unwrap(), Arc::default());
    for producer in producers(&topic, &pool) {
        for (fails_in, reason) in [
            ("prepare", "prepare: not today"),
            ("panic", "frightened"),
            ("select", "select: no partition will do"),
            ("choice", "partition 1, and there are 1"),
        ] {
            let event = NewEvent::default().data(b"0");
            let push = producer.push_prepared(&event, Own::failing_in(&desk, fails_in)).unwrap();
            let error = push.wait(PATIENCE).unwrap_err();
            assert_eq!(error.status, Status::CallbackFailed, "{error}");
            assert!(error.message.contains(reason) && error.message.contains(topic.name()), "{error}");
            let error = producer.flush().unwrap().wait(PATIENCE).unwrap_err();
            assert!(error.message.contains("1 of the events") && error.message.contains(reason), "{error}");
        }
        let large = vec![0; producer.max_event_size().unwrap() as usize + 100];
        let push = producer.push_prepared(&NewEvent::default().data(&large), Own::new(&desk, 0)).unwrap();
        assert_eq!(push.wait(PATIENCE).unwrap_err().status, Status::TooLarge);
        producer.flush().unwrap().wait(PATIENCE).unwrap_err();
        producer.push(&NewEvent::text("{}")).unwrap().wait(PATIENCE).unwrap();
        producer.flush().unwrap().wait(PATIENCE).unwrap();
    }
    eventually("each is destroyed", || desk.is_empty());
}

#[test]
fn metadata_that_turns_out_large_takes_room_as_what_is_pushed_with_its_text_does() {
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
    let made = topic("large", 1);
    let topic = driver_with(json!({"timeout_ms": 2_000}), &Log::default()).open_topic(made.name()).unwrap();
    let producer = (topic.producer("p").pool(&pool))
        .kafka("queue.buffering.max.kbytes", 1_000)
        .kafka("linger.ms", 60_000)
        .kafka("batch.size", 100_000_000)
        .make()
        .unwrap();
    let mut pushed = 0;
    let error = loop {
        match producer.push_prepared(&NewEvent::default(), Large) {
            Ok(_) if pushed > 1_000 => panic!("no end of room"),
            Ok(_) => pushed += 1,
            Err(error) => break error,
        }
        eventually("it is prepared", || pool.pending().unwrap() == 0);
    };
    assert_eq!(error.status, Status::Unreachable, "{error}");
    assert!(error.message.contains("queue.buffering.max.kbytes (1000)"), "{error}");
    assert!((10..=13).contains(&pushed), "{pushed} events of 100 kB took a room of 1,000 KiB");
}

#[test]
fn a_host_that_has_the_components_itself_is_told_of_none_that_is_missing_or_that_only_it_can_make() {
    let log = Log::default();
    let listening = log.clone();
    let driver = octopus()
        .driver_builder(json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}}))
        .log(move |_, _, message| listening.push(message.to_owned()))
        .has_components()
        .create()
        .unwrap();
    let (name, odd) = (unique("hosts-own"), json!({"type": "schema", "schema": {"type": "only C++ knows this one"}}));
    let own = one_replica().selector(json!({"type": "own"})).validator(odd.clone()).serializer(json!({"type": "own"}));
    driver.create_topic(&name, &own).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    assert!(!log.text().contains("nobody provides"), "{}", log.text());
    let producer = topic.producer("p").make().unwrap();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component, "no validator is passed over: {error}");
    let event = NewEvent::default().data(b"0");
    producer.push_prepared(&event, Own::new(&Arc::default(), 0)).unwrap().wait(PATIENCE).unwrap();
    let with_format = json!({"type": "schema", "schema": {"type": "string", "format": "date"}});
    let error = driver.create_topic(&unique("format"), &one_replica().validator(with_format)).unwrap_err();
    assert!(error.message.contains("format"), "C++ can't open such a topic: {error}");
    let error = crate::support::driver().open_topic(&name).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component, "{error}");
}
