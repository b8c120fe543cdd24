//! Shared helpers of the tests: the loaded library, drivers on the test's Kafka, a log to inspect.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use octopus_loader::{Consumer, Driver, Event, Library, NewEvent, Topic, TopicOptions};
use octopus_testkit::poll;
use serde_json::{Value, json};

use crate::kafka::{Kafka, unique};

/// The factor by which timeouts grow when a sanitizer or valgrind slows the plugin down
/// (ci/sanitize.sh).
pub const SLOWNESS: u32 = match option_env!("OCTOPUS_TEST_SLOWNESS") {
    Some(number) => match u32::from_str_radix(number, 10) {
        Ok(number) => number,
        Err(_) => panic!("OCTOPUS_TEST_SLOWNESS is not a number"),
    },
    None => 1,
};
/// Long enough, on a busy machine, for everything that is expected to happen.
pub const TIMEOUT: Duration = Duration::from_secs(30 * SLOWNESS as u64);
/// How long a test waits to see that no event arrives.
pub const SHORT_WAIT: Duration = Duration::from_millis(300);

pub fn octopus() -> &'static Library {
    static OCTOPUS: LazyLock<Library> = LazyLock::new(|| {
        octopus_loader::set_text_observer(save_output);
        plugin_tests::open_library().expect("the built library")
    });
    &OCTOPUS
}

/// Saves a log line, an error message or a description of the plugin to a file that ci/secrets.sh
/// searches for secrets after all tests.
pub fn save_output(text: &str) {
    static SAVED: LazyLock<Mutex<File>> = LazyLock::new(|| {
        let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/logs");
        fs::create_dir_all(folder).unwrap();
        Mutex::new(File::create(format!("{folder}/suite-{}.log", std::process::id())).unwrap())
    });
    // A single write keeps the lines of several threads apart.
    let _ = SAVED.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{text}\n").as_bytes());
}

/// Creates a driver on the shared Kafka with additional settings.
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

/// Creates a topic with a unique name on the shared Kafka and opens it.
pub fn topic(name: &str, partitions: u32) -> Topic {
    topic_of(&driver(), name, partitions)
}

pub fn topic_of(driver: &Driver, name: &str, partitions: u32) -> Topic {
    let name = unique(name);
    driver.create_topic(&name, &one_replica().partitions(partitions)).unwrap();
    driver.open_topic(&name).unwrap()
}

/// Pushes events with the numbers 0 to `count` - 1 to partition 0.
pub fn push_numbers(topic: &Topic, count: u64) {
    let producer = topic.producer("numbers").make().unwrap();
    for number in 0..count {
        producer.push_forget(&NewEvent::json(&number).partition(0)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

/// Reads the next `count` events; fails if they don't arrive in time.
pub fn read(consumer: &Consumer, count: usize) -> Vec<Event> {
    (0..count)
        .map(|index| match consumer.next(TIMEOUT).unwrap() {
            Some(event) => event,
            None => panic!("only {index} of {count} events arrived"),
        })
        .collect()
}

pub fn has_no_event(consumer: &Consumer) -> bool {
    consumer.next(SHORT_WAIT).unwrap().is_none()
}

/// Pushes `count` numbered events, one partition after the other, and checks that each is read back
/// from its partition and in order.
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
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("round-trip")).make().unwrap();
    let mut next: Vec<u64> = (0..partitions).collect();
    for event in read(&consumer, count) {
        let expected = &mut next[event.partition() as usize];
        assert_eq!(event.json().unwrap(), json!({"number": *expected}));
        assert_eq!(event.data(), expected.to_le_bytes());
        *expected += partitions;
    }
    assert!(has_no_event(&consumer));
    consumer.close(TIMEOUT).unwrap();
}

/// Polls until `condition` is true; fails with `what` after [`TIMEOUT`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = poll(TIMEOUT, || condition().then_some(())).is_some();
    assert!(holds, "timed out waiting for: {what}");
}

/// The log lines of a driver, in lower case: `level source: message`.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub fn count(&self, matches: impl Fn(&str) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|line| matches(line)).count()
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
