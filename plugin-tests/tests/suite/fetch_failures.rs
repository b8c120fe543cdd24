//! Errors in the broker's fetch responses.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Event, NewEvent, Status, Topic};
use octopus_testkit::{Brokers, poll};
use serde_json::json;

use crate::kafka::unique;
use crate::proxy::{ApiKey, ProxiedKafka};
use crate::support::{Log, SHORT_WAIT, TIMEOUT, driver_with, eventually, octopus, topic_of};

const FAILING: Duration = Duration::from_secs(9);

/// Pulls report an error that lasts; a transient one is only logged.
#[test]
fn failing_fetches_are_reported_until_one_succeeds() {
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": "failing"}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "failing", 1);
    topic.producer("").make().unwrap().push(&NewEvent::text("1")).unwrap().wait(TIMEOUT).unwrap();
    let failures = kafka.corrupt_responses("failing", ApiKey::Fetch, |response| fail_for(FAILING, response));
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (started, mut errors) = (Instant::now(), Vec::new());
    let event = loop {
        assert!(started.elapsed() < TIMEOUT, "no event arrives, only {errors:?}");
        match consumer.next(Duration::from_millis(200)) {
            Ok(None) => {}
            Ok(Some(event)) => break event,
            Err(error) => errors.push((started.elapsed(), error)),
        }
    };
    assert_eq!((event.id(), failures.is_done()), (0, true));
    assert!(errors.len() >= 3, "pulls report the failure repeatedly, but only {errors:?}");
    for (_, error) in &errors {
        assert_eq!((error.status, error.kafka_code), (Status::Kafka, Some(-1)), "{error}");
        assert!(error.message.contains("Fetch from broker"), "{error}");
    }
    let (first, _) = errors[0];
    assert!(first > Duration::from_secs(3), "reported after only {first:?}, when it could still be transient");
}

/// A log function can use the consumer whose warning it gets: no lock is held while it runs.
#[test]
fn log_function_can_acknowledge_during_a_warning() {
    let kafka = ProxiedKafka::start();
    let kept: Arc<Mutex<Option<Event>>> = Arc::default();
    let acknowledged = Arc::new(AtomicU32::new(0));
    let driver = {
        let (kept, acknowledged) = (kept.clone(), acknowledged.clone());
        let config = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "client.id": "warned"}});
        let acknowledge = move |_, _: &str, message: &str| {
            if message.contains("Fetch from broker")
                && let Some(event) = kept.lock().unwrap().take()
            {
                event.acknowledge().unwrap();
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        };
        octopus().driver_builder(config).log(acknowledge).create().unwrap()
    };
    let topic = topic_of(&driver, "warned", 1);
    topic.producer("").make().unwrap().push(&NewEvent::text("1")).unwrap().wait(TIMEOUT).unwrap();
    let responses = AtomicU32::new(0);
    let failures = kafka.corrupt_responses("warned", ApiKey::Fetch, move |response| match error_in(response) {
        // The first one has the event. librdkafka requests the third one when it has queued the
        // error in the second one behind the event.
        Some(error) => match responses.fetch_add(1, Ordering::SeqCst) {
            0 => false,
            number => {
                error.copy_from_slice(&(-1_i16).to_be_bytes());
                number >= 2
            }
        },
        None => false,
    });
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    eventually("two fetches fail", || failures.is_done());

    let reading = thread::spawn(move || {
        *kept.lock().unwrap() = consumer.next(TIMEOUT).unwrap();
        consumer.next(SHORT_WAIT).map(drop)
    });

    eventually("the log function acknowledges the event", || acknowledged.load(Ordering::SeqCst) == 1);
    eventually("the pull ends", || reading.is_finished());
    reading.join().unwrap().unwrap();
}

/// Sets the partition's error code to `UNKNOWN_SERVER_ERROR`.
fn fail_for(duration: Duration, response: &mut [u8]) -> bool {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let Some(error) = error_in(response) else { return false };
    error.copy_from_slice(&(-1_i16).to_be_bytes());
    BEGAN.get_or_init(Instant::now).elapsed() > duration
}

/// The partition's error code in a response about one partition.
fn error_in(response: &mut [u8]) -> Option<&mut [u8]> {
    // Length, correlation id, tags; throttle time, error, session id; then one topic with its id,
    // and one partition with its index and error.
    const TOPICS: usize = (4 + 4 + 1) + (4 + 2 + 4);
    const PARTITIONS: usize = TOPICS + 1 + 16;
    const ERROR: usize = PARTITIONS + 1 + 4;
    const ONE: u8 = 2;
    let is_about_one = response.len() > ERROR + 2 && (response[TOPICS], response[PARTITIONS]) == (ONE, ONE);
    is_about_one.then(|| &mut response[ERROR..ERROR + 2])
}

/// A consumer that has read an event.
fn consumer_that_has_read(topic: &Topic) -> Consumer {
    topic.producer("").make().unwrap().push(&NewEvent::text("1")).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert!(consumer.next(TIMEOUT).unwrap().is_some());
    consumer
}

/// librdkafka says of a partition without a leader that it does not exist.
#[test]
fn lag_of_a_partition_without_leader_is_reported_as_unreachable() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("leaderless-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let mut brokers = Brokers::start(&folder, 3, 1, &[]).unwrap();
    let settings = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 2_000});
    let topic = topic_of(&driver_with(settings, &Log::default()), "leaderless", 1);
    let consumer = consumer_that_has_read(&topic);
    assert_eq!(consumer.lag(0).unwrap(), 0);
    let leader = brokers.leader(topic.name(), 0).unwrap();
    brokers.kill(leader).unwrap();
    eventually("the partition to have no leader", || brokers.leader(topic.name(), 0).is_err());
    for _ in 0..3 {
        let error = consumer.lag(0).unwrap_err();
        assert_eq!((error.status, error.retriable), (Status::Unreachable, true), "{error}");
    }
    brokers.restart(leader).unwrap();
    assert_eq!(poll(TIMEOUT, || consumer.lag(0).ok()), Some(0));
    drop(brokers);
    fs::remove_dir_all(folder).unwrap();
}

/// Brokers that close connections at once want TLS or SASL, unless they have accepted this client
/// before: then they are being restarted.
#[test]
fn lost_broker_of_a_consumer_is_reported_as_unreachable() {
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}, "timeout_ms": 2_000});
    let topic = topic_of(&driver_with(settings, &Log::default()), "lost", 1);
    let consumer = consumer_that_has_read(&topic);
    kafka.disconnect();
    let mut errors = Vec::new();
    let started = Instant::now();
    while errors.len() < 10 {
        assert!(started.elapsed() < TIMEOUT, "only {errors:?}");
        errors.extend(consumer.next(Duration::from_millis(500)).err());
    }
    for error in errors {
        assert_eq!((error.status, error.retriable), (Status::Unreachable, true), "{error}");
        assert!(!error.message.contains("TLS"), "{error}");
    }
}
