//! Consumers with target partitions; positions, committed offsets and lag; seek and unsubscribe.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, SkippedOffsets, Status, Topic};
use serde_json::json;

use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ApiKey, ProxiedKafka};
use crate::support::{Log, TIMEOUT, driver_with, eventually, has_no_event, read, topic, topic_of};

/// Pushes `count` numbered events to each partition.
fn fill(topic: &Topic, count: u64) {
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..count {
        for partition in 0..topic.partition_count().into() {
            producer.push_forget(&NewEvent::json(&number).partition(partition)).unwrap();
        }
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

/// Creates a consumer and waits until all partitions of its topic are assigned to it.
fn member(topic: &Topic) -> Consumer {
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    wait_for_assignment(&consumer, topic.partition_count() as usize);
    consumer
}

fn wait_for_assignment(consumer: &Consumer, count: usize) {
    eventually("the partitions are assigned", || consumer.assignment().unwrap().len() == count);
}

#[test]
fn consumer_with_targets_reads_only_those_partitions() {
    let topic = topic("targets", 4);
    fill(&topic, 50);
    let consumer = topic.consumer(&unique("reader")).targets(&[3, 1, 3]).make().unwrap();
    let events = read(&consumer, 100);
    for partition in [1, 3] {
        let ids: Vec<u64> = events.iter().filter(|e| e.partition() == partition).map(|e| e.id()).collect();
        assert_eq!(ids, (0..50).collect::<Vec<_>>(), "partition {partition}");
    }
    assert!(has_no_event(&consumer));
    assert_eq!(consumer.assignment().unwrap(), [1, 3]);
}

/// A consumer with targets and a group member of the same name use the same committed offsets.
#[test]
fn consumer_with_targets_resumes_at_its_committed_offsets() {
    let topic = topic("targets-resume", 2);
    fill(&topic, 10);
    let name = unique("reader");
    let first = topic.consumer(&name).targets(&[0, 1]).make().unwrap();
    for event in read(&first, 20) {
        if event.partition() == 1 && event.id() == 6 {
            event.acknowledge().unwrap();
        }
    }
    first.close(TIMEOUT).unwrap();
    let second = topic.consumer(&name).targets(&[1]).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 7);
    drop(second);
    let third = topic.consumer(&name).targets(&[0]).make().unwrap();
    assert_eq!(read(&third, 1)[0].id(), 0, "nothing was acknowledged in partition 0");
    third.close(TIMEOUT).unwrap();
    let member = topic.consumer(&name).make().unwrap();
    let of_1 = read(&member, 13).into_iter().find(|event| event.partition() == 1).unwrap();
    assert_eq!(of_1.id(), 7, "a member of the group of that name starts there too");
}

/// Without a committed offset, `auto.offset.reset` decides where a consumer with targets starts.
#[test]
fn consumer_with_targets_without_commit_starts_at_offset_reset() {
    let topic = topic("targets-begin", 1);
    fill(&topic, 10);
    let reader = |reset: &str| topic.consumer(&unique("reader")).targets(&[0]).kafka("auto.offset.reset", reset);
    let (first, last) = (reader("earliest").make().unwrap(), reader("latest").make().unwrap());
    assert_eq!(read(&first, 1)[0].id(), 0);
    let mut event = None;
    eventually("an event that was pushed after the start is read", || {
        fill(&topic, 1);
        event = last.next(Duration::from_millis(100)).unwrap();
        event.is_some()
    });
    assert!(event.unwrap().id() >= 10);
}

/// The broker reports NOT_COORDINATOR for 7 s: longer than one query of Octopus for committed
/// offsets takes, and for more retries than librdkafka makes without its patch.
#[test]
fn not_coordinator_error_is_retried_until_it_ends() {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "not-coordinator", 1);
    fill(&topic, 1);
    let corruption = kafka.corrupt_responses("", ApiKey::OffsetFetch, |response| {
        const NOT_COORDINATOR: [u8; 2] = 16_i16.to_be_bytes();
        // A response of version 8 or later ends with the error code of the only group (2 bytes) and
        // two empty lists of tagged fields: those of the group and of the response.
        let at = response.len() - 4;
        response[at..at + 2].copy_from_slice(&NOT_COORDINATOR);
        STARTED.get_or_init(Instant::now).elapsed() > Duration::from_secs(7)
    });
    let reader = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    let member = topic.consumer(&unique("group")).make().unwrap();
    for consumer in [reader, member] {
        assert_eq!(read(&consumer, 1)[0].id(), 0);
    }
    assert!(corruption.is_done(), "NOT_COORDINATOR was not returned for 7 s");
}

#[test]
fn acknowledgements_accepted_during_close_are_committed() {
    let topic = topic("acknowledged-last", 1);
    fill(&topic, 20_000);
    let with_targets = || topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    let in_a_group = || topic.consumer(&unique("group")).make().unwrap();
    for consumer in [with_targets(), in_a_group(), with_targets(), in_a_group()] {
        let events = read(&consumer, 20_000);
        let acknowledged = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for event in events.iter().take_while(|event| event.acknowledge().is_ok()) {
                    acknowledged.store(event.id() + 1, Ordering::Release);
                    // The pause lets the consumer close meanwhile, on a busy machine too.
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            eventually("some events are acknowledged", || acknowledged.load(Ordering::Acquire) > 100);
            consumer.close(TIMEOUT).unwrap();
        });
        let acknowledged = acknowledged.into_inner();
        assert!(acknowledged < 20_000, "the consumer was not closed before all events were acknowledged");
        let committed = kafka::committed_offset(Kafka::shared().bootstrap(), consumer.name(), topic.name(), 0);
        assert_eq!(committed, Some(acknowledged));
    }
}

/// A consumer with targets cannot commit while its name is that of a group with members. The error
/// names the group and advises another name.
#[test]
fn commit_with_targets_in_a_group_with_members_names_the_group() {
    let topic = topic("shared-name", 2);
    fill(&topic, 3);
    let member = member(&topic);
    let reader = topic.consumer(member.name()).targets(&[0]).make().unwrap();
    read(&reader, 1)[0].acknowledge().unwrap();
    let error = reader.commit(TIMEOUT).unwrap_err();
    assert!(error.status == Status::Kafka && error.message.contains(member.name()), "{error}");
    assert!(error.message.contains("another name"), "{error}");
}

#[test]
fn nonexistent_target_is_rejected_with_the_partition_count() {
    let topic = topic("no-target", 2);
    let error = topic.consumer("reader").targets(&[0, 2]).make().unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("partition 2") && error.message.contains("has 2"), "{error}");
}

#[test]
fn position_is_the_next_event_and_lag_counts_from_there() {
    let topic = topic("position", 1);
    fill(&topic, 10);
    let consumer = member(&topic);
    assert_eq!((consumer.position(0).unwrap(), consumer.lag(0).unwrap()), (0, 10));
    read(&consumer, 4);
    assert_eq!((consumer.position(0).unwrap(), consumer.lag(0).unwrap()), (4, 6));
    fill(&topic, 5);
    assert_eq!(consumer.lag(0).unwrap(), 11);
    read(&consumer, 11);
    assert_eq!((consumer.position(0).unwrap(), consumer.lag(0).unwrap()), (15, 0));
}

#[test]
fn committed_offset_is_where_the_group_would_start() {
    let topic = topic("committed", 2);
    fill(&topic, 5);
    let consumer = member(&topic);
    assert_eq!(consumer.committed(0).unwrap(), None);
    let events = read(&consumer, 10);
    events.iter().find(|event| event.partition() == 0 && event.id() == 2).unwrap().acknowledge().unwrap();
    consumer.commit(TIMEOUT).unwrap();
    assert_eq!((consumer.committed(0).unwrap(), consumer.committed(1).unwrap()), (Some(3), None));
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), consumer.name(), topic.name(), 0), Some(3));
}

/// `position`, `lag` and `seek` need an assigned partition; `committed` needs an existing one.
#[test]
fn position_of_an_unassigned_partition_is_an_error() {
    let topic = topic("not-mine", 3);
    fill(&topic, 1);
    let consumer = topic.consumer(&unique("reader")).targets(&[1]).make().unwrap();
    wait_for_assignment(&consumer, 1);
    for error in [
        consumer.position(0).unwrap_err(),
        consumer.lag(2).unwrap_err(),
        consumer.seek(0, 0).unwrap_err(),
        consumer.committed(7).unwrap_err(),
    ] {
        assert!(error.status == Status::InvalidArgument && error.message.contains("partition"), "{error}");
    }
    assert_eq!(consumer.committed(0).unwrap(), None, "committed offsets need no assignment");
}

#[test]
fn seek_in_either_direction_discards_prefetched_events() {
    let topic = topic("seek", 2);
    fill(&topic, 200);
    let consumer = topic.consumer(&unique("reader")).targets(&[0, 1]).make().unwrap();
    read(&consumer, 100);
    let other_position = consumer.position(1).unwrap();
    for target in [5, 150, 0] {
        consumer.seek(0, target).unwrap();
        assert_eq!(consumer.position(0).unwrap(), target);
        let next = std::iter::repeat_with(|| read(&consumer, 1).remove(0)).find(|event| event.partition() == 0);
        assert_eq!(next.unwrap().id(), target);
    }
    assert!(consumer.position(1).unwrap() >= other_position, "the seek moved the other partition");
    consumer.seek(0, 200).unwrap();
    assert_eq!(consumer.lag(0).unwrap(), 0, "a seek to the end is valid");
    let error = consumer.seek(0, 201).unwrap_err();
    assert!(error.status == Status::InvalidArgument && error.message.contains("0 to 200"), "{error}");
}

/// A seek also moves no committed offset.
#[test]
fn seek_right_after_assignment_takes_effect_without_commit() {
    let topic = topic("seek-at-once", 1);
    fill(&topic, 20);
    for _ in 0..5 {
        let consumer = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
        wait_for_assignment(&consumer, 1);
        consumer.seek(0, 12).unwrap();
        let events = read(&consumer, 8);
        assert_eq!(events[0].id(), 12);
        events[2].acknowledge().unwrap();
        consumer.seek(0, 1).unwrap();
        read(&consumer, 1)[0].acknowledge().unwrap();
        consumer.commit(TIMEOUT).unwrap();
        assert_eq!(consumer.committed(0).unwrap(), Some(15), "an earlier acknowledgement moved it");
    }
}

#[test]
fn seek_during_concurrent_pulls_returns_no_earlier_events() {
    let topic = topic("seek-and-pull", 1);
    fill(&topic, 2_000);
    let consumer = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    wait_for_assignment(&consumer, 1);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Some(event) = consumer.next(TIMEOUT / 100).unwrap() {
                        assert_eq!(event.json().unwrap(), json!(event.id()));
                    }
                }
            });
        }
        for round in 0..50 {
            consumer.seek(0, round * 37 % 2_000).unwrap();
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    consumer.seek(0, 1_000).unwrap();
    let ids: Vec<u64> = read(&consumer, 1_000).iter().map(|event| event.id()).collect();
    assert_eq!(ids, (1_000..2_000).collect::<Vec<_>>());
}

/// A consumer of the same name gets the partition without waiting for the end of the session.
#[test]
fn unsubscribe_commits_leaves_the_group_and_ends_pulls() {
    let topic = topic("unsubscribe", 1);
    fill(&topic, 5);
    let consumer = member(&topic);
    let events = read(&consumer, 3);
    events[1].acknowledge().unwrap();
    consumer.unsubscribe().unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(2));
    assert!(consumer.assignment().unwrap().is_empty());
    assert_eq!(consumer.next(TIMEOUT).unwrap_err().status, Status::Closed);
    assert_eq!(events[2].acknowledge().unwrap_err().status, Status::Stale);
    let successor = topic.consumer(consumer.name()).make().unwrap();
    assert_eq!(read(&successor, 1)[0].id(), 2);
    consumer.unsubscribe().unwrap();
    consumer.close(TIMEOUT).unwrap();
}

#[test]
fn unsubscribe_releases_targets_and_commits() {
    let topic = topic("unsubscribe-targets", 1);
    fill(&topic, 5);
    let consumer = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    read(&consumer, 3)[2].acknowledge().unwrap();
    consumer.unsubscribe().unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(3));
    assert!(consumer.assignment().unwrap().is_empty());
}

#[test]
fn two_consumers_with_the_same_targets_both_get_all_events() {
    let topic = topic("both", 1);
    fill(&topic, 10);
    let readers = [(); 2].map(|()| topic.consumer(&unique("reader")).targets(&[0]).make().unwrap());
    for reader in &readers {
        assert_eq!(read(reader, 10).len(), 10);
    }
}

/// `auto.offset.reset=latest` means the end of the partition only without a committed offset. Here
/// an offset is committed and its record deleted: the consumer reads all records that remain.
#[test]
fn lost_position_with_latest_is_reported_and_skips_nothing() {
    let topic = topic("lost-position", 1);
    fill(&topic, 10);
    let name = unique("reader");
    let reader = || topic.consumer(&name).kafka("auto.offset.reset", "latest").make().unwrap();
    let first = topic.consumer(&name).make().unwrap();
    read(&first, 5)[4].acknowledge().unwrap();
    first.close(TIMEOUT).unwrap();

    let bootstrap = Kafka::shared().bootstrap();
    kafka::delete_records(bootstrap, topic.name(), 0, 8);
    let second = reader();
    let error = second.next(TIMEOUT).unwrap_err();
    assert_eq!(error.status, Status::RecordsLost, "{error}");
    assert_eq!(error.skipped, Some(SkippedOffsets { partition: 0, first: 5, last: 7 }));
    let ids: Vec<u64> = read(&second, 2).iter().map(|event| event.id()).collect();
    assert_eq!(ids, [8, 9]);
    second.close(TIMEOUT).unwrap();

    // All remaining records are deleted.
    kafka::delete_records(bootstrap, topic.name(), 0, 10);
    let third = reader();
    let error = third.next(TIMEOUT).unwrap_err();
    assert_eq!(error.skipped, Some(SkippedOffsets { partition: 0, first: 8, last: 9 }), "{error}");
    assert_eq!((third.position(0).unwrap(), third.lag(0).unwrap()), (10, 0));
    assert!(has_no_event(&third));
}
