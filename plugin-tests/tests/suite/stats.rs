//! The statistics of a driver: what they count, compared with what was pushed and read, and with
//! other sources of the same figures.

use std::time::Duration;

use octopus_loader::{Driver, NewEvent, Stats};
use serde_json::{Value, json};

use crate::kafka::unique;
use crate::proxy::{ApiKey, HeldMessage, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver, driver_with, eventually, octopus, read, topic_of};

fn stats(driver: &Driver) -> Stats {
    driver.stats().unwrap()
}

/// The header of the record, the length of the metadata, and the metadata.
const RECORD: u64 = 16 + 8 + 2;

#[test]
fn events_are_counted_from_push_to_delivery() {
    let driver = driver();
    let topic = topic_of(&driver, "stats", 1);
    let producer = topic.producer("detector").option("kafka", json!({"linger.ms": 60_000})).make().unwrap();
    assert_eq!(stats(&driver).oldest_event, None);
    for _ in 0..5 {
        producer.push_forget(&NewEvent::text("{}").data(b"four")).unwrap();
    }
    let lingering = stats(&driver);
    assert_eq!((lingering.events_in_flight, lingering.bytes_in_flight), (5, 5 * (RECORD + 4)));
    assert_eq!((lingering.delivered, lingering.failed), (0, 0));
    eventually("the oldest event gets older", || {
        stats(&driver).oldest_event.is_some_and(|age| age >= Duration::from_millis(100))
    });

    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    let delivered = stats(&driver);
    assert_eq!((delivered.events_in_flight, delivered.bytes_in_flight, delivered.oldest_event), (0, 0, None));
    assert_eq!((delivered.delivered, delivered.delivered_bytes, delivered.failed), (5, 5 * (RECORD + 4), 0));
    let latency = delivered.latency;
    assert!(latency.p50 >= Duration::from_millis(90) && latency.max < TIMEOUT, "{latency:?}");
    assert!(latency.p50 <= latency.p90 && latency.p90 <= latency.p99 && latency.p99 <= latency.max, "{latency:?}");

    // The counters are of the driver, not of the producer.
    drop(producer);
    let again = topic.producer("again").make().unwrap();
    again.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
    assert_eq!((stats(&driver).delivered, stats(&driver).delivered_bytes), (6, 5 * (RECORD + 4) + RECORD));
}

#[test]
fn failed_events_are_counted_once() {
    let log = Log::default();
    let settings = json!({"kafka": {"bootstrap.servers": "127.0.0.1:1"}, "connect_timeout_ms": 100});
    let unreachable = driver_with(settings, &log);
    let driver = driver();
    let topic = topic_of(&driver, "failing", 1);
    let options = json!({"delivery.timeout.ms": 300, "bootstrap.servers": "127.0.0.1:1"});
    let producer = topic.producer("p").option("kafka", options).make().unwrap();
    for _ in 0..3 {
        producer.push_forget(&NewEvent::text("{}")).unwrap();
    }
    assert!(producer.flush().unwrap().wait(TIMEOUT).is_err());
    assert_eq!((stats(&driver).failed, stats(&driver).delivered), (3, 0));
    assert!(unreachable.topic_exists("any").is_err());
    let connections = stats(&unreachable);
    assert!(connections.connects > 0 && connections.connections == 0, "{connections:?}");
}

#[test]
fn lag_and_rebalances_are_those_of_the_consumers() {
    let driver = driver();
    let topic = topic_of(&driver, "lag", 3);
    let producer = topic.producer("p").make().unwrap();
    for number in 0..30u64 {
        producer.push_forget(&NewEvent::json(&number).partition(number % 3)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    assert_eq!((stats(&driver).lag, stats(&driver).rebalances), (None, 0));
    let consumer = topic.consumer(&unique("lag")).make().unwrap();
    drop(read(&consumer, 10));
    let now = stats(&driver);
    assert_eq!(now.rebalances, 1);
    let lags: u64 = (0..3).map(|partition| consumer.lag(partition).unwrap()).sum();
    assert_eq!(lags, 20);
    eventually("all partitions were fetched from", || stats(&driver).lag == Some(20));
    let json = driver.stats_json().unwrap();
    let lags = ["0", "1", "2"].map(|partition| json["consumers"][0]["partitions"][partition]["lag"].as_u64().unwrap());
    assert_eq!(lags, [0, 1, 2].map(|partition| consumer.lag(partition).unwrap()));
    drop(read(&consumer, 20));
    assert_eq!(stats(&driver).lag, Some(0));
    let json = driver.stats_json().unwrap();
    for partition in ["0", "1", "2"] {
        assert_eq!(json["consumers"][0]["partitions"][partition]["lag"], 0, "{json}");
    }
    consumer.close(TIMEOUT).unwrap();
    eventually("the consumer's partitions are revoked", || stats(&driver).rebalances == 2);
}

#[test]
fn counters_only_grow() {
    let driver = driver();
    let topic = topic_of(&driver, "growing", 1);
    let mut last = stats(&driver);
    let mut check = |at: &str| {
        let now = stats(&driver);
        let counters = |stats: &Stats| {
            [
                stats.sent_bytes,
                stats.received_bytes,
                stats.retries,
                stats.request_timeouts,
                stats.connects,
                stats.disconnects,
                stats.delivered,
                stats.rebalances,
            ]
        };
        assert!(counters(&last).iter().zip(counters(&now)).all(|(a, b)| *a <= b), "{at}: {last:?}, {now:?}");
        last = now;
    };
    for _ in 0..3 {
        let producer = topic.producer("p").option("client", json!("dedicated")).make().unwrap();
        producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();
        check("with a producer");
        let consumer = topic.consumer(&unique("growing")).make().unwrap();
        drop(read(&consumer, 1));
        check("with a consumer");
        drop(consumer);
        drop(producer);
        for _ in 0..200 {
            check("while clients end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let end = stats(&driver);
    assert!(end.sent_bytes > 1000 && end.received_bytes > 1000 && end.disconnects > 0, "{end:?}");
}

/// The broker never gets the first request with the event.
#[test]
fn stuck_event_has_an_age_and_is_sent_again() {
    let kafka = ProxiedKafka::start();
    let properties = json!({"bootstrap.servers": kafka.bootstrap(), "client.id": "stuck", "socket.timeout.ms": 3_000});
    let driver = driver_with(json!({"kafka": properties}), &Log::default());
    let topic = topic_of(&driver, "stuck", 1);
    let producer = topic.producer("p").make().unwrap();
    let fault = kafka.inject_fault("stuck", ApiKey::Produce, 1, HeldMessage::Request);
    let pushed = producer.push(&NewEvent::text("{}")).unwrap();
    assert!(fault.wait(TIMEOUT), "no request was held back");
    eventually("the event is a second old", || {
        stats(&driver).oldest_event.is_some_and(|age| age > Duration::from_secs(1))
    });
    let before = stats(&driver);
    assert_eq!((before.events_in_flight, before.delivered), (1, 0));
    pushed.wait(TIMEOUT).unwrap();
    let after = stats(&driver);
    assert!(after.request_timeouts > before.request_timeouts, "{before:?}, {after:?}");
    assert!(after.retries > before.retries && after.disconnects > before.disconnects, "{before:?}, {after:?}");
    assert_eq!((after.events_in_flight, after.delivered, after.oldest_event), (0, 1, None));
    assert!(after.latency.max > Duration::from_secs(2), "{after:?}");
}

#[test]
fn json_has_the_figures_and_those_of_each_object() {
    let driver = driver();
    let topic = topic_of(&driver, "json", 2);
    let producer = topic.producer("detector").make().unwrap();
    producer.push(&NewEvent::text("{}").partition(1)).unwrap().wait(TIMEOUT).unwrap();
    let group = unique("json");
    let consumer = topic.consumer(&group).make().unwrap();
    drop(read(&consumer, 1));
    let json = driver.stats_json().unwrap();
    let numbers = stats(&driver);
    for (name, figure) in [
        ("delivered", numbers.delivered),
        ("delivered_bytes", numbers.delivered_bytes),
        ("clients", numbers.clients),
        ("threads", numbers.threads),
        ("connections", numbers.connections),
        ("rebalances", 1),
        ("suppressed_log_lines", numbers.suppressed_log_lines),
    ] {
        assert_eq!(json[name], figure, "{name}: {json}");
    }
    assert_eq!(json["latency_ms"]["max"], numbers.latency.max.as_millis() as u64);
    assert_eq!((&json["oldest_event_ms"], &json["token_age_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&json["producers"][0]["name"], &json["producers"][0]["topic"]),
        (&json!("detector"), &json!(topic.name()))
    );
    assert_eq!(json["consumers"][0]["name"], group);
    assert_eq!(json["consumers"][0]["partitions"]["1"]["position"], 1, "{json}");
    assert_eq!(numbers.token_age, None);
}

#[test]
fn age_of_the_token_is_known() {
    let kafka = json!({"bootstrap.servers": "127.0.0.1:1", "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"});
    let hour = Duration::from_secs(3600);
    let driver = octopus()
        .driver_builder(json!({"kafka": kafka, "connect_timeout_ms": 100}))
        .token(move |_| {
            let expires = std::time::SystemTime::now() + hour;
            let millis = expires.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
            Ok(octopus_loader::Token { value: "octopus-test-secret".into(), principal: "p".into(), expires_ms: millis })
        })
        .log(|_, _, _| {})
        .create()
        .unwrap();
    assert!(driver.topic_exists("any").is_err());
    eventually("there is a token", || {
        stats(&driver).token_age.is_some_and(|age| age > Duration::from_millis(50) && age < hour)
    });
}
