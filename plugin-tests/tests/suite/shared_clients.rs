//! Producers with the same properties share one Kafka client and nothing else.

use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Persisted, Producer, Status};
use serde_json::json;

use crate::kafka::{Kafka, kcat_read, unique};
use crate::proxy::ProxiedKafka;
use crate::support::{Log, TIMEOUT, driver_with, eventually, one_replica, topic_of};

const LINGER: Duration = Duration::from_secs(4);

fn lingering_driver() -> Driver {
    let kafka = json!({"bootstrap.servers": Kafka::shared().bootstrap(), "linger.ms": LINGER.as_millis() as u64});
    driver_with(json!({"kafka": kafka}), &Log::default())
}

fn resources(driver: &Driver) -> [u64; 3] {
    let description = driver.describe().unwrap();
    ["clients", "threads", "connections"].map(|key| description[key].as_u64().unwrap())
}

fn deliver(producer: &Producer) {
    producer.push(&NewEvent::text("1")).unwrap().wait(TIMEOUT).unwrap();
}

#[test]
fn one_more_producer_takes_no_thread_and_no_connection() {
    let driver = lingering_driver();
    let topics: Vec<_> = (0..5).map(|_| topic_of(&driver, &unique("shared"), 3)).collect();
    let first = topics[0].producer("first").make().unwrap();
    deliver(&first);
    // The clients that created topics and bootstrapped end on their own.
    eventually("the client of info topics and bootstrap connections to end", || resources(&driver)[0] == 2);
    let before = resources(&driver);
    let others: Vec<_> =
        topics.iter().flat_map(|topic| [topic, topic]).map(|topic| topic.producer("other").make().unwrap()).collect();
    others.iter().for_each(deliver);
    assert_eq!(resources(&driver), before);

    let dedicated = topics[0].producer("dedicated").option("client", "dedicated").make().unwrap();
    deliver(&dedicated);
    assert_eq!(resources(&driver)[0], before[0] + 1);
    let different = topics[0].producer("different").kafka("linger.ms", 1).make().unwrap();
    deliver(&different);
    assert_eq!(resources(&driver)[0], before[0] + 2);
    drop(dedicated);
    eventually("a dedicated client to end with its producer", || resources(&driver)[0] == before[0] + 1);
}

#[test]
fn client_that_is_neither_shared_nor_dedicated_is_rejected() {
    let driver = lingering_driver();
    let topic = topic_of(&driver, &unique("shared"), 1);
    let Err(error) = topic.producer("p").option("client", "own").make() else { panic!("the option was accepted") };
    assert_eq!(error.status, Status::InvalidConfiguration);
    assert!(error.message.contains("client") && error.message.contains("\"dedicated\""), "{error}");
}

/// Checks that `call` on one of two producers of a client does not end the linger of the other
/// one's event.
fn check_other_linger(call: impl FnOnce(&Producer)) {
    let driver = lingering_driver();
    let [busy, quiet] = [(); 2].map(|()| {
        let name = unique("linger");
        driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 2000}))).unwrap();
        driver.open_topic(&name).unwrap().producer("p").make().unwrap()
    });
    deliver(&busy);
    deliver(&quiet);
    let started = Instant::now();
    let lingering = quiet.push(&NewEvent::text("1")).unwrap();
    call(&busy);
    assert!(started.elapsed() < LINGER / 2, "the call waited for the linger");
    assert!(!lingering.is_done().unwrap(), "the event of the other producer was sent too");
    eventually("the linger to end", || lingering.is_done().unwrap());
    assert!(started.elapsed() > LINGER / 2, "the linger of the other producer ended early");
}

#[test]
fn flush_leaves_the_linger_of_other_producers_alone() {
    check_other_linger(|busy| {
        busy.push_forget(&NewEvent::text("1")).unwrap();
        busy.flush().unwrap().wait(TIMEOUT).unwrap();
    });
}

#[test]
fn wait_leaves_the_linger_of_other_producers_alone() {
    check_other_linger(deliver);
}

#[test]
fn close_leaves_the_linger_of_other_producers_alone() {
    check_other_linger(|busy| {
        busy.push_forget(&NewEvent::text("1")).unwrap();
        busy.close(TIMEOUT).unwrap();
    });
}

#[test]
fn failure_leaves_the_linger_of_other_producers_alone() {
    check_other_linger(|busy| {
        let rejected = busy.push(&NewEvent::text("1").data(&[7; 5_000])).unwrap();
        assert_eq!(rejected.wait(TIMEOUT).unwrap_err().status, Status::TooLarge);
        deliver(busy);
    });
}

#[test]
fn producer_at_its_limit_does_not_block_other_producers() {
    let driver = driver_with(
        json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap(), "linger.ms": 2000}, "timeout_ms": 500}),
        &Log::default(),
    );
    let topic = topic_of(&driver, &unique("limit"), 1);
    let limited = topic.producer("limited").kafka("queue.buffering.max.messages", 3).make().unwrap();
    let unlimited = topic.producer("unlimited").make().unwrap();
    (0..3).for_each(|_| limited.push_forget(&NewEvent::text("1")).unwrap());
    assert_eq!(limited.push_forget(&NewEvent::text("1")).unwrap_err().status, Status::Unreachable);
    (0..10).for_each(|_| unlimited.push_forget(&NewEvent::text("1")).unwrap());
    unlimited.flush().unwrap().wait(TIMEOUT).unwrap();
}

/// The broker permanently rejects some events of one producer while another one pushes: none of the
/// other's events is lost, duplicated or reordered.
#[test]
fn rejected_events_of_one_producer_leave_others_in_order() {
    const EVENTS: usize = 3_000;
    let driver = driver_with(
        json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap(), "linger.ms": 1}}),
        &Log::default(),
    );
    let small = unique("small");
    driver.create_topic(&small, &one_replica().option("config", json!({"max.message.bytes": 2000}))).unwrap();
    let rejecting = driver.open_topic(&small).unwrap().producer("rejecting").make().unwrap();
    let other = topic_of(&driver, &unique("other"), 2);
    let good = other.producer("good").make().unwrap();
    let mut pushed = Vec::new();
    for number in 0..EVENTS {
        good.push_forget(&NewEvent::text(&number.to_string()).partition(number as u64)).unwrap();
        if number % 100 == 0 {
            let size = if number % 200 == 0 { 5_000 } else { 10 };
            pushed.push((size, rejecting.push(&NewEvent::text("{}").data(&vec![7; size])).unwrap()));
        }
    }
    good.flush().unwrap().wait(TIMEOUT).unwrap();
    for (size, push) in pushed {
        match push.wait(TIMEOUT) {
            Ok(_) => assert_eq!(size, 10),
            // Kafka rejects whole batches, so that small events can fail together with large ones.
            Err(error) => assert_eq!(error.status, Status::TooLarge, "{error}"),
        }
    }
    deliver(&rejecting);
    let records = kcat_read(Kafka::shared().internal(), other.name());
    assert_eq!(records.len(), EVENTS);
    for partition in 0..2 {
        let numbers: Vec<usize> = records
            .iter()
            .filter(|record| record.partition == partition)
            .map(|record| {
                let digits = record.value.iter().rev().take_while(|byte| byte.is_ascii_digit()).copied();
                let mut digits: Vec<u8> = digits.collect();
                digits.reverse();
                String::from_utf8(digits).unwrap().parse().unwrap()
            })
            .collect();
        let expected: Vec<_> = (0..EVENTS).filter(|number| number % 2 == partition as usize).collect();
        assert_eq!(numbers, expected, "partition {partition}");
    }
}

/// A producer is released with an overdue event while the events of another one wait for the same
/// broker. The others are delivered.
#[test]
fn release_with_overdue_events_keeps_those_of_others() {
    let kafka = ProxiedKafka::start();
    let properties = json!({"bootstrap.servers": kafka.bootstrap(), "linger.ms": 1, "socket.timeout.ms": 60_000});
    let driver = driver_with(json!({"kafka": properties}), &Log::default());
    let [short_topic, long_topic] = [(); 2].map(|()| topic_of(&driver, &unique("overdue"), 1));
    let short = short_topic.producer("short-timeout").kafka("delivery.timeout.ms", 1500).make().unwrap();
    let long = long_topic.producer("long-timeout").kafka("delivery.timeout.ms", 50_000).make().unwrap();
    deliver(&short);
    deliver(&long);
    eventually("the client of info topics to end", || resources(&driver)[0] == 2);

    kafka.pause();
    let overdue = short.push(&NewEvent::text("2")).unwrap();
    let pushes: Vec<_> = (0..20).map(|_| long.push(&NewEvent::text("2")).unwrap()).collect();
    assert_eq!(overdue.wait(TIMEOUT).unwrap_err().persisted, Persisted::Possibly);
    drop(short);
    // Meanwhile the serving thread notices the release.
    assert!(pushes[0].wait(Duration::from_millis(1500)).is_err());
    kafka.resume();
    for (number, push) in pushes.iter().enumerate() {
        assert_eq!(push.wait(TIMEOUT).unwrap().id, Some(number as u64 + 1));
    }
    assert_eq!(kcat_read(kafka.bootstrap(), long_topic.name()).len(), 21);
    assert!(kcat_read(kafka.bootstrap(), short_topic.name()).len() <= 2);
    let second = short_topic.producer("second").kafka("delivery.timeout.ms", 1500).make().unwrap();
    deliver(&second);
}

/// The client knows the deleted topic, which had fewer partitions, from an earlier producer.
#[test]
fn producer_of_a_recreated_topic_uses_its_new_partitions() {
    let driver = lingering_driver();
    let name = unique("recreated");
    let mut producers = Vec::new();
    for partitions in 1..4 {
        driver.create_topic(&name, &one_replica().partitions(partitions)).unwrap();
        let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
        let push = producer.push(&NewEvent::text("1").partition(u64::from(partitions) - 1)).unwrap();
        assert_eq!(push.wait(TIMEOUT).unwrap().partition, partitions - 1);
        // The producer stays open and keeps the client alive.
        producers.push(producer);
        driver.delete_topic(&name).unwrap();
    }
    eventually("only the client of info topics to end", || resources(&driver)[0] == 2);
}
