//! Intact records that exceed a limit of the consumer: it does not skip them, and each pull names
//! the limiting property.

use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Error, NewEvent, Status, Topic, TopicOptions};
use serde_json::json;

use crate::kafka::{Kafka, unique};
use crate::support::{Log, SLOWNESS, TIMEOUT, driver_with};

/// The time within which pulls report the limit.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10 * SLOWNESS as u64);

fn topic_for_large_events(kafka: &Kafka, partitions: u32) -> Topic {
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}, "disable_info_topic": true});
    let driver = driver_with(settings, &Log::default());
    let name = unique("limits");
    let options = TopicOptions::default()
        .partitions(partitions)
        .replication(1)
        .option("config", json!({"max.message.bytes": 20_000_000}));
    driver.create_topic(&name, &options).unwrap();
    driver.open_topic(&name).unwrap()
}

/// Returns the persistent error, once three pulls have reported it.
fn persistent_error(consumer: &Consumer) -> Error {
    let started = Instant::now();
    let mut times = 0;
    loop {
        if let Err(error) = consumer.next(Duration::from_millis(500)) {
            times += 1;
            if times == 3 {
                return error;
            }
        }
        assert!(started.elapsed() < 3 * REPORT_TIMEOUT, "only {times} pulls reported an error");
    }
}

/// The size that the error message states as required.
fn required(error: &Error, unit: &str) -> usize {
    let (before, _) = error.message.split_once(unit).unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn each_codec_obeys_the_limit_on_decompressed_bytes_exactly() {
    let topic = topic_for_large_events(Kafka::shared(), 4);
    for (partition, codec) in (0..).zip(["gzip", "snappy", "lz4", "zstd"]) {
        let producer = topic.producer("").kafka("compression.type", codec).kafka("message.max.bytes", 20_000_000);
        let producer = producer.make().unwrap();
        let event = NewEvent::json(&json!(codec)).data(&[b'a'; 5_000_000]).partition(partition);
        producer.push(&event).unwrap().wait(TIMEOUT).unwrap();
        let consumer = |limit: usize| {
            let consumer = topic.consumer(&unique("reader")).targets(&[partition as u32]);
            consumer.kafka("fetch.decompressed.max.bytes", limit).make().unwrap()
        };
        let error = persistent_error(&consumer(4_000_000));
        assert_eq!((error.status, error.retriable), (Status::TooLarge, false), "{codec}: {error}");
        assert!(error.message.contains("fetch.decompressed.max.bytes=4000000"), "{codec}: {error}");
        let required = required(&error, " bytes when it is decompressed");
        assert!((5_000_000..5_000_000 + 100).contains(&required), "{codec}: {error}");
        let error = persistent_error(&consumer(required - 1));
        assert!(error.message.contains(&format!("has {required} bytes")), "{codec}: {error}");
        let event = consumer(required).next(TIMEOUT).unwrap().expect("it is not too large");
        assert_eq!(event.data().len(), 5_000_000, "{codec}");
    }
}

/// Failures that the consumer only counts would be reported after ten of them, and not between two
/// that are seconds apart.
#[test]
fn oversized_batch_is_reported_by_each_pull_with_a_long_backoff() {
    let topic = topic_for_large_events(Kafka::shared(), 1);
    let producer = topic.producer("").kafka("message.max.bytes", 20_000_000).make().unwrap();
    producer.push(&NewEvent::json(&json!(1)).data(&[b'a'; 5_000_000])).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).kafka("receive.message.max.bytes", 1_000_512);
    let consumer = consumer.kafka("fetch.max.bytes", 1_000_000).kafka("fetch.error.backoff.ms", 6_000).make().unwrap();
    let started = Instant::now();
    let first = persistent_error(&consumer);
    assert!(started.elapsed() < REPORT_TIMEOUT, "{:?}", started.elapsed());
    assert_eq!((first.status, first.retriable), (Status::TooLarge, false), "{first}");
    while started.elapsed() < REPORT_TIMEOUT {
        let error = consumer.next(Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.message, first.message);
    }
}

#[test]
fn oversized_batch_is_reported_and_other_partitions_continue() {
    for kafka in [Kafka::shared(), Kafka::cluster_of_three()] {
        let topic = topic_for_large_events(kafka, 3);
        let producer = topic.producer("").kafka("message.max.bytes", 20_000_000).make().unwrap();
        let push = |partition: u64, size: usize| {
            let data = vec![b'a'; size];
            let event = NewEvent::json(&json!(size)).data(&data).partition(partition);
            producer.push(&event).unwrap().wait(TIMEOUT).unwrap();
        };
        push(0, 10);
        push(0, 5_000_000);
        push(1, 10);
        push(2, 10);
        let consumer = |limit: usize| {
            let consumer = topic.consumer(&unique("reader")).kafka("receive.message.max.bytes", limit);
            consumer.kafka("fetch.max.bytes", 1_000_000).make().unwrap()
        };
        let limited = consumer(1_000_512);
        let mut small = 0;
        let started = Instant::now();
        while small < 3 {
            assert!(started.elapsed() < TIMEOUT, "only {small} of the small events arrived");
            small += usize::from(matches!(limited.next(Duration::from_millis(500)), Ok(Some(_))));
        }
        let error = persistent_error(&limited);
        assert_eq!((error.status, error.retriable), (Status::TooLarge, false), "{error}");
        assert!(error.message.contains("receive.message.max.bytes=1000512"), "{error}");
        assert!(error.message.contains("offset 1 of partition 0"), "{error}");
        let required = required(&error, " bytes, receive.message.max.bytes");
        // Later events of the other partitions arrive, too.
        push(1, 20);
        push(2, 20);
        let started = Instant::now();
        while small < 5 {
            assert!(started.elapsed() < TIMEOUT, "only {small} of the small events arrived");
            small += usize::from(matches!(limited.next(Duration::from_millis(500)), Ok(Some(_))));
        }
        let unlimited = consumer(required);
        let sizes = (0..6).map(|_| unlimited.next(TIMEOUT).unwrap().expect("none is too large").data().len());
        assert!(sizes.sum::<usize>() > 5_000_000);
    }
}
