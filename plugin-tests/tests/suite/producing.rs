//! Producers: the future of a push reports what Kafka did, events reach their partition, and no
//! event is lost.

use std::process::Command;
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Persisted, Status};
use serde_json::json;

use crate::hosts::{C, compile, library, run_host};
use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ApiKey, HeldMessage, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver, driver_with, eventually, one_replica, topic, topic_of};

const MSG_SIZE_TOO_LARGE: i32 = 10;

/// A record above the topic's `max.message.bytes` is rejected by the broker: its future fails with
/// Kafka's reason, and later pushes are unaffected.
#[test]
fn push_rejected_by_broker_fails_its_future() {
    let (driver, name) = (driver(), unique("small"));
    driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 1000}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();

    let rejected = producer.push(&NewEvent::text("{}").data(&[7; 5_000])).unwrap();
    let error = rejected.wait(TIMEOUT).unwrap_err();
    assert_eq!((error.status, error.kafka_code), (Status::TooLarge, Some(MSG_SIZE_TOO_LARGE)), "{error}");
    assert!(error.message.contains(&name) && error.message.contains("partition 0"), "{error}");
    let (_, advice) = error.message.split_once("Broker: Message size too large: ").expect(&error.message);
    let required: u64 = advice.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(error.persisted, Persisted::No);
    assert_eq!(rejected.wait(TIMEOUT).unwrap_err().message, error.message, "the result changed");

    let accepted = producer.push(&NewEvent::text("{}").data(&[7; 10])).unwrap().wait(TIMEOUT).unwrap();
    assert_eq!((accepted.partition, accepted.id), (0, Some(0)), "one rejected event must not poison the producer");

    let sufficient = unique("sufficient");
    driver.create_topic(&sufficient, &one_replica().option("config", json!({"max.message.bytes": required}))).unwrap();
    let producer = driver.open_topic(&sufficient).unwrap().producer("p").make().unwrap();
    producer.push(&NewEvent::text("{}").data(&[7; 5_000])).unwrap().wait(TIMEOUT).expect("the stated size suffices");
}

#[test]
fn flush_reports_failures_of_unwaited_pushes() {
    let (driver, name) = (driver(), unique("forgotten"));
    driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 1000}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
    producer.push_forget(&NewEvent::text("{}").data(&[7; 5_000])).unwrap();
    let error = producer.flush().unwrap().wait(TIMEOUT).unwrap_err();
    assert!(error.message.contains("1 of the events") && error.message.contains(&name), "{error}");
    producer.push_forget(&NewEvent::text("{}")).unwrap();
    producer.flush().unwrap().wait(TIMEOUT).expect("the failure is reported only once");
}

#[test]
fn partition_is_the_requested_one_modulo_count_or_round_robin() {
    let topic = topic("partitions", 3);
    let producer = topic.producer("p").make().unwrap();
    let partition_of = |event: &NewEvent| producer.push(event).unwrap().wait(TIMEOUT).unwrap().partition;
    for (requested, expected) in [(0, 0), (1, 1), (2, 2), (3, 0), (7, 1), (u64::MAX, 0)] {
        assert_eq!(partition_of(&NewEvent::text("{}").partition(requested)), expected, "requested {requested}");
    }
    let mut round: Vec<_> = (0..6).map(|_| partition_of(&NewEvent::text("{}"))).collect();
    assert_eq!(round[..3], round[3..]);
    round.truncate(3);
    round.sort_unstable();
    assert_eq!(round, [0, 1, 2]);
}

#[test]
fn push_result_id_is_the_offset_of_its_record() {
    let kafka = Kafka::shared();
    let topic = topic("ids", 2);
    let producer = topic.producer("p").make().unwrap();
    let pushes: Vec<_> = (0..200).map(|n| producer.push(&NewEvent::json(&n).partition(n % 2)).unwrap()).collect();
    let records = kafka::kcat_read(kafka.bootstrap(), {
        producer.flush().unwrap().wait(TIMEOUT).unwrap();
        topic.name()
    });
    for (number, push) in pushes.iter().enumerate() {
        let delivered = push.wait(Duration::ZERO).unwrap();
        let record = records.iter().find(|record| {
            record.partition == delivered.partition as i32 && Some(record.offset as u64) == delivered.id
        });
        assert!(record.unwrap().value.ends_with(number.to_string().as_bytes()), "{number} at {delivered:?}");
    }
}

#[test]
fn concurrent_pushes_keep_each_threads_order_per_partition() {
    let topic = topic("order", 2);
    let producer = topic.producer("p").make().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for number in 0..500 {
                    producer.push_forget(&NewEvent::json(&json!([thread, number])).partition(number % 2)).unwrap();
                }
            });
        }
    });
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    let mut last = std::collections::HashMap::new();
    for event in crate::support::read(&consumer, 2000) {
        let (thread, number): (u64, i64) = serde_json::from_str(event.metadata().unwrap()).unwrap();
        let previous = last.insert((thread, event.partition()), number).unwrap_or(-1);
        assert!(previous < number, "thread {thread}: {number} after {previous}");
    }
}

#[test]
fn invalid_metadata_is_rejected_by_push_and_not_queued() {
    let kafka = Kafka::shared();
    let topic = topic("bad", 1);
    let producer = topic.producer("p").make().unwrap();
    for (metadata, reason) in [
        (&b"{"[..], "not JSON"),
        (b"", "not JSON"),
        (b"NaN", "not JSON"),
        (b"{\"a\":1} x", "not JSON"),
        (b"\"\xff\"", "not UTF-8"),
        (b"\"\\ud800\"", "surrogate"),
        (b"1e999", "double"),
    ] {
        let error = producer.push(&NewEvent::metadata_bytes(metadata)).map(drop).unwrap_err();
        assert_eq!(error.status, Status::InvalidMetadata, "{error}");
        assert!(error.message.contains(reason), "{error}");
    }
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 1);
}

/// `push` itself fails and names `message.max.bytes`; an event of exactly the maximum is delivered.
#[test]
fn push_above_max_event_size_is_rejected_with_the_property() {
    let topic = topic("limit", 1);
    let producer = topic.producer("p").kafka("message.max.bytes", 20_000).make().unwrap();
    let max_size = producer.max_event_size().unwrap() as usize;
    // Octopus adds 24 bytes of sizes, and Kafka's record has at most 36 bytes of overhead.
    assert_eq!(max_size, 20_000 - 24 - 36);
    let error = producer.push(&NewEvent::text("{}").data(&vec![1; max_size - 1])).map(drop).unwrap_err();
    assert_eq!(error.status, Status::TooLarge);
    assert!(error.message.contains("kafka.message.max.bytes sets; set it to at least 20001"), "{error}");
    producer.push(&NewEvent::text("{}").data(&vec![1; max_size - 2])).unwrap().wait(TIMEOUT).unwrap();
}

#[test]
fn event_of_20_megabytes_is_delivered_if_limits_allow() {
    let (driver, name) = (driver(), unique("large"));
    driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 40_000_000}))).unwrap();
    let topic = driver.open_topic(&name).unwrap();
    let producer = topic.producer("p").kafka("message.max.bytes", 40_000_000).make().unwrap();
    let data: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    producer.push(&NewEvent::text("{}").data(&data)).unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("reader")).make().unwrap();
    assert!(crate::support::read(&consumer, 1)[0].data() == data);
}

/// Metadata that the host has serialized needs no validator.
#[test]
fn push_with_a_missing_validator_fails_with_its_name() {
    let (driver, name) = (driver(), unique("validator"));
    driver.create_topic(&name, &one_replica().validator(json!({"type": "energy:libenergy.so"}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("validator") && error.message.contains("energy:libenergy.so"), "{error}");
    let serialized = [2_u64.to_le_bytes().as_slice(), b"{}"].concat();
    producer.push(&NewEvent::serialized(&serialized)).unwrap().wait(TIMEOUT).unwrap();
}

#[test]
fn wait_ends_the_linger_of_its_push() {
    let producer = topic("linger", 1).producer("p").kafka("linger.ms", 20_000).make().unwrap();
    let started = Instant::now();
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// librdkafka without its patch retries the request for a producer id only after 500 ms.
#[test]
fn first_push_takes_less_than_half_a_second() {
    let topic = topic("first", 1);
    let first_push = |number| {
        let started = Instant::now();
        let producer = topic.producer(&format!("p{number}")).make().unwrap();
        producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
        started.elapsed()
    };
    let fastest = (0..5).map(first_push).min().unwrap();
    assert!(fastest < Duration::from_millis(400), "{fastest:?}");
}

/// The future of the flush is released at once.
#[test]
fn flush_ends_the_linger_without_being_waited_on() {
    let kafka = Kafka::shared();
    let topic = topic("unwaited", 1);
    let producer = topic.producer("p").kafka("linger.ms", 200_000).make().unwrap();
    for _ in 0..10 {
        producer.push_forget(&NewEvent::text("{}")).unwrap();
    }
    drop(producer.flush().unwrap());
    eventually("ten records are in Kafka", || kafka::kcat_read(kafka.bootstrap(), topic.name()).len() == 10);
}

#[test]
fn records_invalid_for_the_broker_fail_with_its_message() {
    let (driver, name) = (driver(), unique("compacted"));
    driver.create_topic(&name, &one_replica().option("config", json!({"cleanup.policy": "compact"}))).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();

    // A compacted topic requires records with keys, and events have none.
    let rejected: Vec<_> = (0..200).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();

    for push in rejected {
        let error = push.wait(TIMEOUT).unwrap_err();
        assert_eq!(error.persisted, Persisted::No, "{error}");
        let reason = "Compacted topic cannot accept message without key in topic partition ";
        assert!(error.message.contains(reason) && error.message.contains(&name), "{error}");
    }
}

/// The broker is disconnected for longer than `delivery.timeout.ms`.
#[test]
fn push_after_delivery_timeout_fails_with_the_last_error() {
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "delivery.timeout.ms": 3_000,
        "request.timeout.ms": 1_000, "socket.timeout.ms": 2_000}});
    let topic = topic_of(&driver_with(through_proxy, &Log::default()), "timeout", 1);
    let producer = topic.producer("p").make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    kafka.disconnect();
    let error = producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::Kafka, "{error}");
    assert!(error.retriable && error.message.contains("the last error was"), "{error}");
}

#[test]
fn close_delivers_all_events_and_rejects_later_calls() {
    let kafka = Kafka::shared();
    let topic = topic("closed", 1);
    let producer = topic.producer("p").kafka("linger.ms", 10_000).make().unwrap();
    let pushes: Vec<_> = (0..100).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();
    producer.close(TIMEOUT).unwrap();
    assert!(pushes.iter().all(|push| push.is_done().unwrap()));
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 100);
    assert_eq!(producer.push(&NewEvent::text("{}")).map(drop).unwrap_err().status, Status::Closed);
    assert_eq!(producer.flush().map(drop).unwrap_err().status, Status::Closed);
    assert_eq!(producer.close(TIMEOUT).unwrap_err().status, Status::Closed);
}

#[test]
fn released_producer_delivers_its_events() {
    let kafka = Kafka::shared();
    let topic = topic("released", 1);
    let producer = topic.producer("p").kafka("linger.ms", 200).make().unwrap();
    let pushes: Vec<_> = (0..100).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();
    drop(producer);
    for push in &pushes {
        push.wait(TIMEOUT).unwrap();
    }
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 100);
}

#[test]
fn close_without_the_broker_returns_at_its_timeout() {
    let kafka = ProxiedKafka::start();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &Log::default());
    let topic = topic_of(&driver, "away", 1);
    let producer = topic.producer("p").make().unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    crate::support::read(&consumer, 1);
    kafka.pause();
    let push = producer.push(&NewEvent::text("{}")).unwrap();
    let started = Instant::now();
    assert_eq!(producer.close(Duration::from_millis(500)).unwrap_err().status, Status::TimedOut);
    let _ = consumer.close(Duration::from_millis(500));
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    drop((producer, consumer));
    kafka.resume();
    push.wait(TIMEOUT).expect("delivered in the background");
}

#[test]
fn future_can_be_waited_on_by_several_threads_repeatedly() {
    let topic = topic("shared-future", 1);
    let producer = topic.producer("p").make().unwrap();
    let push = producer.push(&NewEvent::text("{}")).unwrap();
    let copy = push.clone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| push.wait(TIMEOUT).unwrap());
        }
    });
    drop(push);
    assert_eq!(copy.wait(Duration::ZERO).unwrap().id, Some(0));
}

#[test]
fn producer_options_override_the_drivers_except_idempotence() {
    let topic = topic("options", 1);
    let make = |setting: &str, value: serde_json::Value| topic.producer("p").kafka(setting, value).make().map(drop);
    make("enable.idempotence", json!(false)).expect("the value of the user is overridden");
    let error = make("acks", json!(1)).unwrap_err();
    assert_eq!(error.status, Status::InvalidConfiguration);
    assert!(error.message.contains("acks"), "{error}");
    let error = make("linger.ms", json!(300_000)).unwrap_err();
    assert_eq!(error.status, Status::InvalidConfiguration, "{error}");
    assert!(error.message.contains("kafka.linger.ms") && error.message.contains("delivery.timeout.ms"), "{error}");
    let error = make("no.such.property", json!(1)).unwrap_err();
    assert!(error.message.contains("kafka.no.such.property"), "{error}");
    topic.producer("p").batch_size(1).max_batches(2).make().unwrap();
    topic.producer("p").batch_size(u64::MAX).loose().make().unwrap();
}

/// The type of the topic's partition selector is one that this host does not provide.
#[test]
fn push_with_a_missing_selector_needs_an_explicit_partition() {
    let (driver, name) = (driver(), unique("own-selector"));
    let own = json!({"type": "by-energy:libenergy.so"});
    driver.create_topic(&name, &one_replica().partitions(2).selector(own)).unwrap();
    let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert_eq!(error.status, Status::Component);
    assert!(error.message.contains("partition selector") && error.message.contains("by-energy"), "{error}");
    let error = producer.push(&NewEvent::text("{}").partition(2)).map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("partition 2 does not exist, there are 2"), "{error}");
    assert_eq!(producer.push(&NewEvent::text("{}").partition(1)).unwrap().wait(TIMEOUT).unwrap().partition, 1);
}

/// Events that pass `delivery.timeout.ms` while the broker does not respond fail as possibly
/// persisted; each is stored at most once.
#[test]
fn overdue_events_of_a_silent_broker_are_never_duplicated() {
    let kafka = ProxiedKafka::start();
    let settings =
        json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "delivery.timeout.ms": 2_000, "linger.ms": 50}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "silent", 1);
    let producer = topic.producer("p").make().unwrap();
    producer.push(&NewEvent::text("0")).unwrap().wait(TIMEOUT).unwrap();
    // The proxy holds requests back for longer than the delivery timeout of their first events.
    kafka.pause();
    let pushes: Vec<_> = (1..300)
        .map(|number| {
            std::thread::sleep(Duration::from_millis(10));
            producer.push(&NewEvent::text(&number.to_string())).unwrap()
        })
        .collect();
    kafka.resume();
    let results: Vec<_> = pushes.iter().map(|push| push.wait(TIMEOUT)).collect();
    producer.close(TIMEOUT).unwrap_err();

    let records = kafka::kcat_read(kafka.bootstrap(), topic.name());
    let mut found: Vec<_> = records.iter().map(|record| record.value.clone()).collect();
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count, "some events were stored twice");
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(!failed.is_empty() && failed.len() < results.len(), "{} of {} failed", failed.len(), results.len());
    for error in failed {
        assert_eq!((error.status, error.persisted), (Status::Kafka, Persisted::Possibly), "{error}");
        assert!(error.message.contains("delivery.timeout.ms (2000)"), "{error}");
    }
}

/// The host in C measures its CPU time while a produce response is held back and more events wait.
#[test]
fn producer_waiting_for_a_late_response_does_not_busy_loop() {
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}});
    let topic = topic_of(&driver_with(through_proxy.clone(), &Log::default()), "late", 1);
    let mut config = through_proxy;
    config["kafka"]["client.id"] = json!("waiting");
    let fault = kafka.inject_fault("waiting", ApiKey::Produce, 1, HeldMessage::Response);
    let host = compile(&C, "waiting.c", &unique("waiting"), &["-D_DEFAULT_SOURCE", "-ldl"]);
    run_host(Command::new(host).arg(library()).args([config.to_string().as_str(), topic.name()]));
    assert!(fault.wait(Duration::ZERO), "no produce response was held back");
}
