//! What the tests share: the loaded library, drivers on the test's Kafka, a log to look into.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use octopus_loader::{Consumer, Driver, Event, Library, NewEvent, Topic, TopicOptions};
use serde_json::{Value, json};

use crate::kafka::{Kafka, unique};

/// How many times as long things may take, where the tests or the plugin are watched at work (ci/sanitize.sh).
pub const SLOWNESS: u32 = match option_env!("OCTOPUS_TEST_SLOWNESS") {
    Some(number) => match u32::from_str_radix(number, 10) {
        Ok(number) => number,
        Err(_) => panic!("OCTOPUS_TEST_SLOWNESS is no number"),
    },
    None => 1,
};
/// Long enough for anything that should happen at all, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30 * SLOWNESS as u64);
/// Long enough to see that nothing comes.
pub const A_MOMENT: Duration = Duration::from_millis(300);

pub fn octopus() -> &'static Library {
    static OCTOPUS: LazyLock<Library> = LazyLock::new(|| {
        octopus_loader::set_text_observer(keep);
        plugin_tests::open_library().expect("the built library")
    });
    &OCTOPUS
}

/// Keeps what the plugin said, in a log, an error or a description, to be searched for secrets after all tests
/// (ci/secrets.sh).
pub fn keep(text: &str) {
    static KEPT: LazyLock<Mutex<File>> = LazyLock::new(|| {
        let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/logs");
        fs::create_dir_all(folder).unwrap();
        Mutex::new(File::create(format!("{folder}/suite-{}.log", std::process::id())).unwrap())
    });
    // In one write, so that lines of several threads stay apart.
    let _ = KEPT.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{text}\n").as_bytes());
}

/// A driver on the shared Kafka, with further settings.
pub fn driver_with(settings: Value, log: &Log) -> Driver {
    let mut config = json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap()}, "timeout_ms": 30_000});
    merge(&mut config, settings);
    let log = log.clone();
    octopus()
        .driver_builder(config)
        .log(move |level, source, message| log.push(format!("{level:?} {source}: {message}").to_lowercase()))
        .create()
        .unwrap()
}

pub fn driver() -> Driver {
    driver_with(json!({}), &Log::default())
}

pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

pub fn one_replica() -> TopicOptions {
    TopicOptions::default().replication(1)
}

/// A new topic of so many partitions on the shared Kafka.
pub fn topic(name: &str, partitions: u32) -> Topic {
    topic_of(&driver(), name, partitions)
}

pub fn topic_of(driver: &Driver, name: &str, partitions: u32) -> Topic {
    let name = unique(name);
    driver.create_topic(&name, &one_replica().partitions(partitions)).unwrap();
    driver.open_topic(&name).unwrap()
}

/// The next `count` events; fails when they don't come.
pub fn read(consumer: &Consumer, count: usize) -> Vec<Event> {
    (0..count)
        .map(|index| match consumer.next(PATIENCE).unwrap() {
            Some(event) => event,
            None => panic!("only {index} of {count} events came"),
        })
        .collect()
}

pub fn nothing_comes(consumer: &Consumer) -> bool {
    consumer.next(A_MOMENT).unwrap().is_none()
}

/// Pushes `count` numbered events round the partitions and reads them back, each in its place and in order.
pub fn round_trip(topic: &Topic, count: usize) {
    let producer = topic.producer("round trip").make().unwrap();
    let partitions = u64::from(topic.partition_count());
    for number in 0..count as u64 {
        producer
            .push_forget(
                &NewEvent::json(&json!({"number": number})).data(&number.to_le_bytes()).partition(number % partitions),
            )
            .unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("round-trip")).make().unwrap();
    let mut next: Vec<u64> = (0..partitions).collect();
    for event in read(&consumer, count) {
        let expected = &mut next[event.partition() as usize];
        assert_eq!(event.json().unwrap(), json!({"number": *expected}));
        assert_eq!(event.data(), expected.to_le_bytes());
        *expected += partitions;
    }
    assert!(nothing_comes(&consumer));
    consumer.close(PATIENCE).unwrap();
}

/// Polls until `holds`; fails with `what` when it takes too long.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a driver logged, in lower case: `level source: message`.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub fn count(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|line| wanted(line)).count()
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}
