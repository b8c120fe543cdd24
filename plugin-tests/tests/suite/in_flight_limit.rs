//! Pushes while as many events are in flight as may be.

use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Status};
use serde_json::json;

use crate::kafka::{self, Kafka};
use crate::proxy::ProxiedKafka;
use crate::support::{Log, TIMEOUT, driver_with, topic, topic_of};

#[test]
fn burst_above_the_in_flight_limit_waits_and_is_delivered() {
    let kafka = Kafka::shared();
    let topic = topic("burst", 1);
    let producer = topic.producer("p").kafka("queue.buffering.max.messages", 50).make().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    producer.push_forget(&NewEvent::text("{}")).unwrap();
                }
            });
        }
    });
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    assert_eq!(kafka::kcat_read(kafka.bootstrap(), topic.name()).len(), 2000);
}

#[test]
fn push_at_the_in_flight_limit_does_not_wait_for_the_linger() {
    let topic = topic_of(&driver_with(json!({"timeout_ms": 20_000}), &Log::default()), "lingering", 1);
    let lingering = topic.producer("p").kafka("queue.buffering.max.messages", 10).kafka("linger.ms", 60_000);
    let producer = lingering.make().unwrap();
    for _ in 0..25 {
        producer.push_forget(&NewEvent::text("{}")).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

/// The event's timeout replaces the driver's. For several events it counts from the call's begin.
#[test]
fn push_with_a_timeout_at_the_in_flight_limit_times_out() {
    let kafka = ProxiedKafka::start();
    let driver = driver_with(json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}}), &Log::default());
    let topic = topic_of(&driver, "timed", 1);
    let producer = topic.producer("p").kafka("queue.buffering.max.messages", 2).make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();

    kafka.pause();
    let (held, timed_out) = producer.push_many(&vec![NewEvent::text("{}").timeout(Duration::from_millis(200)); 9]);
    assert_eq!((held.len(), timed_out.unwrap_err().status), (2, Status::TimedOut));
    for timeout in [Duration::ZERO, Duration::from_millis(200)] {
        let started = Instant::now();
        let error = producer.push(&NewEvent::text("{}").timeout(timeout)).unwrap_err();
        assert_eq!(error.status, Status::TimedOut, "{error}");
        assert!((timeout..Duration::from_secs(20)).contains(&started.elapsed()), "{:?}", started.elapsed());
    }
    kafka.resume();
    producer.push(&NewEvent::text("{}").timeout(Duration::MAX)).unwrap().wait(TIMEOUT).unwrap();
    held.into_iter().for_each(|push| push.wait(TIMEOUT).map(drop).unwrap());
}

/// The error names the number of events in flight and the property that limits it.
#[test]
fn push_at_the_in_flight_limit_fails_after_its_timeout() {
    let kafka = ProxiedKafka::start();
    let through_proxy = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}});
    let name = topic_of(&driver_with(through_proxy.clone(), &Log::default()), "full", 1).name().to_owned();
    let mut short_timeout = through_proxy;
    short_timeout["timeout_ms"] = json!(1_500);
    let topic = driver_with(short_timeout, &Log::default()).open_topic(&name).unwrap();
    let producer = topic.producer("p").kafka("queue.buffering.max.messages", 2).make().unwrap();
    producer.push(&NewEvent::text("{}")).unwrap().wait(TIMEOUT).unwrap();

    kafka.pause();
    let held: Vec<_> = (0..2).map(|_| producer.push(&NewEvent::text("{}")).unwrap()).collect();
    let started = Instant::now();
    let error = producer.push(&NewEvent::text("{}")).map(drop).unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(1_400) && started.elapsed() < Duration::from_secs(10));
    assert_eq!(error.status, Status::Unreachable);
    assert!(error.retriable);
    for part in ["2 events", "queue.buffering.max.messages (2)"] {
        assert!(error.message.contains(part), "{error}");
    }
    kafka.resume();
    for push in held {
        push.wait(TIMEOUT).unwrap();
    }
}
