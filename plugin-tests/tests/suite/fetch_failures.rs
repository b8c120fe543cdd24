//! Errors in the broker's fetch responses.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Status};
use serde_json::json;

use crate::kafka::unique;
use crate::proxy::{ApiKey, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, topic_of};

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

/// Sets the partition's error code to `UNKNOWN_SERVER_ERROR`.
fn fail_for(duration: Duration, response: &mut [u8]) -> bool {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    // Length, correlation id, tags; throttle time, error, session id; then one topic with its id,
    // and one partition with its index and error.
    const TOPICS: usize = (4 + 4 + 1) + (4 + 2 + 4);
    const PARTITIONS: usize = TOPICS + 1 + 16;
    const ERROR: usize = PARTITIONS + 1 + 4;
    const ONE: u8 = 2;
    if response.len() > ERROR + 2 && (response[TOPICS], response[PARTITIONS]) == (ONE, ONE) {
        response[ERROR..ERROR + 2].copy_from_slice(&(-1_i16).to_be_bytes());
        return BEGAN.get_or_init(Instant::now).elapsed() > duration;
    }
    false
}
