//! Acknowledgements, committed offsets and consumer groups, and errors of the topic or the broker
//! that pulls report. Pulling itself is tested in `pulls`.

use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, Status, Topic};
use serde_json::json;

use crate::kafka::{self, Kafka, unique};
use crate::proxy::ProxiedKafka;
use crate::support::{Log, TIMEOUT, driver_with, eventually, has_no_event, push_numbers, read, topic, topic_of};

fn committed(consumer: &Consumer, topic: &Topic) -> Option<u64> {
    kafka::committed_offset(Kafka::shared().bootstrap(), consumer.name(), topic.name(), 0)
}

#[test]
fn consumer_of_same_name_starts_after_last_acknowledged_event() {
    let topic = topic("resume", 1);
    push_numbers(&topic, 10);
    let group = unique("group");
    let first = topic.consumer(&group).make().unwrap();
    let events = read(&first, 8);
    events[4].acknowledge().unwrap();
    first.close(TIMEOUT).unwrap();
    let second = topic.consumer(&group).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 5, "events after the acknowledged one are read again");
}

#[test]
fn consumer_without_acknowledgements_starts_at_the_beginning() {
    let topic = topic("again", 1);
    push_numbers(&topic, 3);
    let group = unique("group");
    let first = topic.consumer(&group).make().unwrap();
    read(&first, 3);
    first.close(TIMEOUT).unwrap();
    let second = topic.consumer(&group).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 0);
}

/// An acknowledgement of an earlier event never moves the committed offset back.
#[test]
fn acknowledging_out_of_order_commits_the_highest_offset() {
    let topic = topic("highest", 1);
    push_numbers(&topic, 10);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let events = read(&consumer, 10);
    for index in [6, 2, 8, 0] {
        events[index].acknowledge().unwrap();
    }
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(committed(&consumer, &topic), Some(9));
    events[1].acknowledge().unwrap();
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(committed(&consumer, &topic), Some(9));
}

#[test]
fn acknowledged_event_is_committed_automatically() {
    let topic = topic("automatic-commit", 1);
    push_numbers(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read(&consumer, 2)[1].acknowledge().unwrap();
    eventually("the position is committed", || committed(&consumer, &topic) == Some(2));
}

/// The properties that make librdkafka commit on its own have no effect.
#[test]
fn event_without_acknowledgement_is_never_committed() {
    let topic = topic("only-read", 1);
    push_numbers(&topic, 5);
    let settings =
        [("enable.auto.commit", "true"), ("enable.auto.offset.store", "true"), ("auto.commit.interval.ms", "100")];
    let mut builder = topic.consumer(&unique("group"));
    for (setting, value) in settings {
        builder = builder.kafka(setting, value);
    }
    let consumer = builder.make().unwrap();
    read(&consumer, 5);
    consumer.commit(TIMEOUT).expect("nothing to commit");
    consumer.close(TIMEOUT).unwrap();
    assert_eq!(committed(&consumer, &topic), None);
}

#[test]
fn releasing_a_consumer_commits_and_leaves_its_group() {
    let topic = topic("leave", 1);
    push_numbers(&topic, 4);
    let group = unique("group");
    let first = topic.consumer(&group).kafka("session.timeout.ms", 45_000).make().unwrap();
    let events = read(&first, 3);
    events[1].acknowledge().unwrap();
    drop(first);
    let started = Instant::now();
    let second = topic.consumer(&group).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 2);
    assert!(started.elapsed() < Duration::from_secs(20), "the group waited for the session timeout");
    assert_eq!(events[2].json().unwrap(), json!(2), "an event outlives its consumer");
    assert_eq!(events[2].acknowledge().unwrap_err().status, Status::Stale);
}

#[test]
fn consumers_of_same_name_share_partitions_without_duplicates() {
    let topic = topic("shared", 4);
    let group = unique("group");
    let producer = topic.producer("p").make().unwrap();
    let first = topic.consumer(&group).make().unwrap();
    let push = |from: u64, to: u64| {
        (from..to).for_each(|number| producer.push_forget(&NewEvent::json(&number)).unwrap());
        producer.flush().unwrap().wait(TIMEOUT).unwrap();
    };
    push(0, 400);
    let mut seen = Vec::new();
    let mut take = |consumer: &Consumer| {
        if let Some(event) = consumer.next(Duration::from_millis(20)).unwrap() {
            seen.push((event.partition(), event.id()));
            event.acknowledge().is_ok()
        } else {
            false
        }
    };
    for _ in 0..200 {
        while !take(&first) {}
    }
    let second = topic.consumer(&group).make().unwrap();
    push(400, 800);
    let mut by_second = 0;
    let started = Instant::now();
    loop {
        let (a, b) = (take(&first), take(&second));
        by_second += usize::from(b);
        if !a && !b && by_second > 0 && has_no_event(&first) && has_no_event(&second) {
            break;
        }
        assert!(started.elapsed() < TIMEOUT * 2);
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 800, "every event was seen");
    // When a partition is revoked, at most one event of it was read and not yet acknowledged.
    assert!(all <= 800 + 4, "{} events were delivered twice", all - 800);
}

#[test]
fn idle_host_keeps_its_partitions() {
    let topic = topic("idle", 1);
    push_numbers(&topic, 1);
    let log = Log::default();
    let driver = driver_with(json!({}), &log);
    let consumer = driver
        .open_topic(topic.name())
        .unwrap()
        .consumer(&unique("group"))
        .kafka("max.poll.interval.ms", 6_000)
        .kafka("session.timeout.ms", 6_000)
        .make()
        .unwrap();
    let event = &read(&consumer, 1)[0];
    // Longer than max.poll.interval.ms, after which librdkafka leaves the group of an application
    // that does not poll.
    std::thread::sleep(Duration::from_secs(9));
    event.acknowledge().expect("the partition is still assigned");
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!(log.count(|line| line.contains("revoked") || line.contains("lost")), 0, "{log:?}");
}

/// The error names the lost offsets, and the next pull returns the first record that is left.
#[test]
fn records_deleted_before_reading_are_reported_once() {
    let kafka = Kafka::shared();
    let topic = topic("removed", 1);
    push_numbers(&topic, 3);
    let consumer = topic.consumer(&unique("group")).kafka("fetch.wait.max.ms", 10).make().unwrap();
    read(&consumer, 3);
    // The group has no consumer while the broker deletes records that the group has not read.
    consumer.close(TIMEOUT).unwrap();
    let group = unique("group");
    let second = topic.consumer(&group).make().unwrap();
    read(&second, 2)[1].acknowledge().unwrap();
    second.close(TIMEOUT).unwrap();
    push_numbers(&topic, 7);
    kafka::delete_records(kafka.bootstrap(), topic.name(), 0, 6);
    let third = topic.consumer(&group).make().unwrap();
    let error = third.next(TIMEOUT).map(drop).unwrap_err();
    assert_eq!(error.status, Status::RecordsLost, "{error}");
    assert!(error.message.contains("offsets 2 to 5 of partition 0"), "{error}");
    assert_eq!(read(&third, 1)[0].id(), 6);
}

/// The name of a consumer is its group id, which Kafka does not allow to be empty.
#[test]
fn empty_consumer_name_is_rejected() {
    let topic = topic("nameless", 1);
    let error = topic.consumer("").make().map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("group"), "{error}");
}

/// Neither the namespace of the driver nor `group.id` changes it.
#[test]
fn group_id_is_the_consumer_name_whatever_the_settings() {
    let driver = driver_with(json!({"namespace": "lab", "kafka": {"group.id": "other"}}), &Log::default());
    let topic = topic_of(&driver, "grouped", 1);
    push_numbers(&topic, 1);
    let group = unique("group");
    let consumer = topic.consumer(&group).kafka("group.id", "another").make().unwrap();
    read(&consumer, 1)[0].acknowledge().unwrap();
    consumer.commit(TIMEOUT).unwrap();
    let name = format!("lab.{}", topic.name());
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, &name, 0), Some(1));
}

#[test]
fn deleted_topic_is_reported_by_each_pull() {
    let kafka = Kafka::shared();
    let topic = topic("deleted", 1);
    push_numbers(&topic, 1);
    let consumer = topic.consumer(&unique("group")).kafka("topic.metadata.refresh.interval.ms", 200).make().unwrap();
    read(&consumer, 1);
    kafka::delete_topic(kafka.bootstrap(), topic.name());
    let mut statuses = Vec::new();
    eventually("two pulls report the deletion", || {
        if let Err(error) = consumer.next(Duration::from_millis(100)) {
            assert!(error.message.contains(topic.name()), "{error}");
            statuses.push(error.status);
        }
        statuses.len() >= 2
    });
    assert_eq!(statuses[0], Status::UnknownTopic);
}

/// Each pull reports the error while no broker is reachable; afterwards the consumer reads on.
#[test]
fn consumer_names_the_unreachable_broker_and_recovers() {
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "reconnect.backoff.max.ms": 200}});
    let topic = topic_of(&driver_with(settings.clone(), &Log::default()), "disconnected", 1);
    push_numbers(&topic, 2);
    let mut short_timeout = settings;
    short_timeout["timeout_ms"] = json!(1_000);
    let topic = driver_with(short_timeout, &Log::default()).open_topic(topic.name()).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read(&consumer, 2);

    kafka.disconnect();
    let mut times = 0;
    eventually("three pulls report that no broker is reachable", || {
        if let Err(error) = consumer.next(Duration::from_millis(100)) {
            assert_eq!(error.status, Status::Unreachable, "{error}");
            assert!(error.message.contains(kafka.bootstrap()) && error.retriable, "{error}");
            times += 1;
        }
        times == 3
    });
    kafka.resume();
    eventually("pulls time out without an error", || consumer.next(Duration::from_millis(100)).is_ok());
    push_numbers(&topic, 1);
    eventually(
        "the next event",
        || matches!(consumer.next(Duration::from_millis(100)), Ok(Some(event)) if event.id() == 2),
    );
}
