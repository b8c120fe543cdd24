//! Producers with the same properties share a Kafka client, and nothing else.

use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Persisted, Producer, Status};
use serde_json::json;

use crate::kafka::{Kafka, kcat_read, unique};
use crate::proxy::ProxiedKafka;
use crate::support::{Log, PATIENCE, driver_with, eventually, one_replica, topic_of};

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
    producer.push(&NewEvent::text("1")).unwrap().wait(PATIENCE).unwrap();
}

#[test]
fn one_more_producer_takes_no_thread_and_no_connection() {
    let driver = lingering_driver();
    let topics: Vec<_> = (0..5).map(|_| topic_of(&driver, &unique("shared"), 3)).collect();
    let first = topics[0].producer("first").make().unwrap();
    deliver(&first);
    // Those that only created topics and found brokers have gone.
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
fn client_that_is_neither_shared_nor_dedicated_is_refused() {
    let driver = lingering_driver();
    let topic = topic_of(&driver, &unique("shared"), 1);
    let Err(error) = topic.producer("p").option("client", "own").make() else { panic!("it was taken") };
    assert_eq!(error.status, Status::InvalidConfiguration);
    assert!(error.message.contains("client") && error.message.contains("\"dedicated\""), "{error}");
}

/// Two producers of one client: what `act` does with the first one leaves the second one's event lingering.
fn leaves_others_lingering(act: impl FnOnce(&Producer)) {
    let driver = lingering_driver();
    let [busy, quiet] = [(); 2].map(|()| {
        let name = unique("linger");
        driver.create_topic(&name, &one_replica().option("config", json!({"max.message.bytes": 2000}))).unwrap();
        driver.open_topic(&name).unwrap().producer("p").make().unwrap()
    });
    deliver(&busy);
    deliver(&quiet);
    let began = Instant::now();
    let lingering = quiet.push(&NewEvent::text("1")).unwrap();
    act(&busy);
    assert!(began.elapsed() < LINGER / 2, "it acted at once");
    assert!(!lingering.is_done().unwrap(), "the other's event was sent along");
    eventually("the linger to end", || lingering.is_done().unwrap());
    assert!(began.elapsed() > LINGER / 2, "the other's linger was cut short");
}

#[test]
fn flush_leaves_the_linger_of_other_producers_alone() {
    leaves_others_lingering(|busy| {
        busy.push_forget(&NewEvent::text("1")).unwrap();
        busy.flush().unwrap().wait(PATIENCE).unwrap();
    });
}

#[test]
fn wait_leaves_the_linger_of_other_producers_alone() {
    leaves_others_lingering(deliver);
}

#[test]
fn close_leaves_the_linger_of_other_producers_alone() {
    leaves_others_lingering(|busy| {
        busy.push_forget(&NewEvent::text("1")).unwrap();
        busy.close(PATIENCE).unwrap();
    });
}

#[test]
fn failure_leaves_the_linger_of_other_producers_alone() {
    leaves_others_lingering(|busy| {
        let refused = busy.push(&NewEvent::text("1").data(&[7; 5_000])).unwrap();
        assert_eq!(refused.wait(PATIENCE).unwrap_err().status, Status::TooLarge);
        deliver(busy);
    });
}

#[test]
fn producer_over_its_limit_keeps_no_other_from_pushing() {
    let driver = driver_with(
        json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap(), "linger.ms": 2000}, "timeout_ms": 500}),
        &Log::default(),
    );
    let topic = topic_of(&driver, &unique("limit"), 1);
    let limited = topic.producer("limited").kafka("queue.buffering.max.messages", 3).make().unwrap();
    let free = topic.producer("free").make().unwrap();
    (0..3).for_each(|_| limited.push_forget(&NewEvent::text("1")).unwrap());
    assert_eq!(limited.push_forget(&NewEvent::text("1")).unwrap_err().status, Status::Unreachable);
    (0..10).for_each(|_| free.push_forget(&NewEvent::text("1")).unwrap());
    free.flush().unwrap().wait(PATIENCE).unwrap();
}

/// The broker refuses some of one producer's events for good, again and again, while another one pushes.
#[test]
fn refused_events_double_and_reorder_none_of_another_producer() {
    const EVENTS: usize = 3_000;
    let driver = driver_with(
        json!({"kafka": {"bootstrap.servers": Kafka::shared().bootstrap(), "linger.ms": 1}}),
        &Log::default(),
    );
    let small = unique("small");
    driver.create_topic(&small, &one_replica().option("config", json!({"max.message.bytes": 2000}))).unwrap();
    let refused = driver.open_topic(&small).unwrap().producer("refused").make().unwrap();
    let other = topic_of(&driver, &unique("other"), 2);
    let good = other.producer("good").make().unwrap();
    let mut pushed = Vec::new();
    for number in 0..EVENTS {
        good.push_forget(&NewEvent::text(&number.to_string()).partition(number as u64)).unwrap();
        if number % 100 == 0 {
            let size = if number % 200 == 0 { 5_000 } else { 10 };
            pushed.push((size, refused.push(&NewEvent::text("{}").data(&vec![7; size])).unwrap()));
        }
    }
    good.flush().unwrap().wait(PATIENCE).unwrap();
    for (size, push) in pushed {
        match push.wait(PATIENCE) {
            Ok(_) => assert_eq!(size, 10),
            // One that shares a batch with one that is too large.
            Err(error) => assert_eq!(error.status, Status::TooLarge, "{error}"),
        }
    }
    deliver(&refused);
    let there = kcat_read(Kafka::shared().internal(), other.name());
    assert_eq!(there.len(), EVENTS);
    for partition in 0..2 {
        let numbers: Vec<usize> = there
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

/// A producer is released with an event that is overdue, while another one's event waits for the same broker.
#[test]
fn producer_that_ends_with_overdue_events_takes_none_of_another_along() {
    let kafka = ProxiedKafka::start();
    let properties = json!({"bootstrap.servers": kafka.bootstrap(), "linger.ms": 1, "socket.timeout.ms": 60_000});
    let driver = driver_with(json!({"kafka": properties}), &Log::default());
    let [hasty, patient] = [(); 2].map(|()| topic_of(&driver, &unique("overdue"), 1));
    let impatient = hasty.producer("impatient").kafka("delivery.timeout.ms", 1500).make().unwrap();
    let waiting = patient.producer("waiting").kafka("delivery.timeout.ms", 50_000).make().unwrap();
    deliver(&impatient);
    deliver(&waiting);
    eventually("the client of info topics to end", || resources(&driver)[0] == 2);

    kafka.hold();
    let overdue = impatient.push(&NewEvent::text("2")).unwrap();
    let pushes: Vec<_> = (0..20).map(|_| waiting.push(&NewEvent::text("2")).unwrap()).collect();
    assert_eq!(overdue.wait(PATIENCE).unwrap_err().persisted, Persisted::Possibly);
    drop(impatient);
    // Long enough for the serving thread to see that it is gone.
    assert!(pushes[0].wait(Duration::from_millis(1500)).is_err());
    kafka.let_go();
    for (number, push) in pushes.iter().enumerate() {
        assert_eq!(push.wait(PATIENCE).unwrap().id, Some(number as u64 + 1));
    }
    assert_eq!(kcat_read(kafka.bootstrap(), patient.name()).len(), 21);
    assert!(kcat_read(kafka.bootstrap(), hasty.name()).len() <= 2);
    let again = hasty.producer("again").kafka("delivery.timeout.ms", 1500).make().unwrap();
    deliver(&again);
}

/// The client has known the topic with fewer partitions, from a producer before.
#[test]
fn producer_of_a_topic_that_was_made_again_pushes_to_its_new_partitions_at_once() {
    let driver = lingering_driver();
    let name = unique("again");
    let mut producers = Vec::new();
    for partitions in 1..4 {
        driver.create_topic(&name, &one_replica().partitions(partitions)).unwrap();
        let producer = driver.open_topic(&name).unwrap().producer("p").make().unwrap();
        let push = producer.push(&NewEvent::text("1").partition(u64::from(partitions) - 1)).unwrap();
        assert_eq!(push.wait(PATIENCE).unwrap().partition, partitions - 1);
        // What went before stays, and keeps the client.
        producers.push(producer);
        driver.delete_topic(&name).unwrap();
    }
    eventually("the client of info topics to end, and no other", || resources(&driver)[0] == 2);
}
