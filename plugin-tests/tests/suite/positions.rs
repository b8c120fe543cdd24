//! Where a consumer stands and goes: target partitions, positions, lag, seeking, giving up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, SkippedOffsets, Status, Topic};
use serde_json::json;

use crate::kafka::{self, Kafka, unique};
use crate::proxy::{ProxiedKafka, Request};
use crate::support::{Log, PATIENCE, driver_with, eventually, nothing_comes, read, topic, topic_of};

/// Pushes `count` numbered events to each partition.
fn fill(topic: &Topic, count: u64) {
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..count {
        for partition in 0..topic.partition_count().into() {
            producer.push_forget(&NewEvent::json(&number).partition(partition)).unwrap();
        }
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
}

/// A consumer that has all partitions of its topic.
fn member(topic: &Topic) -> Consumer {
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    wait_for_assignment(&consumer, topic.partition_count() as usize);
    consumer
}

fn wait_for_assignment(consumer: &Consumer, count: usize) {
    eventually("the partitions are assigned", || consumer.assignment().unwrap().len() == count);
}

#[test]
fn a_consumer_with_targets_reads_those_partitions_and_no_others() {
    let topic = topic("targets", 4);
    fill(&topic, 50);
    let consumer = topic.consumer(&unique("reader")).targets(&[3, 1, 3]).make().unwrap();
    let events = read(&consumer, 100);
    for partition in [1, 3] {
        let ids: Vec<u64> = events.iter().filter(|e| e.partition() == partition).map(|e| e.id()).collect();
        assert_eq!(ids, (0..50).collect::<Vec<_>>(), "partition {partition}");
    }
    assert!(nothing_comes(&consumer));
    assert_eq!(consumer.assignment().unwrap(), [1, 3]);
}

#[test]
fn a_consumer_with_targets_goes_on_where_its_name_left_off() {
    let topic = topic("targets-resume", 2);
    fill(&topic, 10);
    let name = unique("reader");
    let first = topic.consumer(&name).targets(&[0, 1]).make().unwrap();
    for event in read(&first, 20) {
        if event.partition() == 1 && event.id() == 6 {
            event.acknowledge().unwrap();
        }
    }
    first.close(PATIENCE).unwrap();
    let second = topic.consumer(&name).targets(&[1]).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 7);
    drop(second);
    let third = topic.consumer(&name).targets(&[0]).make().unwrap();
    assert_eq!(read(&third, 1)[0].id(), 0, "nothing was acknowledged there");
    third.close(PATIENCE).unwrap();
    let member = topic.consumer(&name).make().unwrap();
    let of_1 = read(&member, 13).into_iter().find(|event| event.partition() == 1).unwrap();
    assert_eq!(of_1.id(), 7, "a member of the group of that name goes on there too");
}

#[test]
fn a_reader_with_targets_begins_where_its_settings_say_if_nothing_was_acknowledged() {
    let topic = topic("targets-begin", 1);
    fill(&topic, 10);
    let reader = |begin: &str| topic.consumer(&unique("reader")).targets(&[0]).kafka("auto.offset.reset", begin);
    let (first, last) = (reader("earliest").make().unwrap(), reader("latest").make().unwrap());
    assert_eq!(read(&first, 1)[0].id(), 0);
    let mut event = None;
    eventually("what was pushed after it began is read", || {
        fill(&topic, 1);
        event = last.next(Duration::from_millis(100)).unwrap();
        event.is_some()
    });
    assert!(event.unwrap().id() >= 10);
}

/// For longer than Octopus itself asks where a group stands, and more often than librdkafka asked.
#[test]
fn a_coordinator_that_is_not_one_yet_is_asked_again_until_it_is() {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap()}});
    let topic = topic_of(&driver_with(settings, &Log::default()), "not-coordinator", 1);
    fill(&topic, 1);
    let spoiler = kafka.spoil("", Request::OffsetFetch, |answer| {
        const NOT_COORDINATOR: [u8; 2] = 16_i16.to_be_bytes();
        // Version 8 and later end with the one group's error, its tags, and the answer's, of which there are none.
        let at = answer.len() - 4;
        answer[at..at + 2].copy_from_slice(&NOT_COORDINATOR);
        BEGAN.get_or_init(Instant::now).elapsed() > Duration::from_secs(7)
    });
    let reader = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    let member = topic.consumer(&unique("group")).make().unwrap();
    for consumer in [reader, member] {
        assert_eq!(read(&consumer, 1)[0].id(), 0);
    }
    assert!(spoiler.is_done(), "it was long enough");
}

#[test]
fn each_acknowledgement_that_is_taken_while_a_consumer_leaves_is_committed() {
    let topic = topic("acknowledged-last", 1);
    fill(&topic, 20_000);
    let with_targets = || topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    let in_a_group = || topic.consumer(&unique("group")).make().unwrap();
    for consumer in [with_targets(), in_a_group(), with_targets(), in_a_group()] {
        let events = read(&consumer, 20_000);
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for event in events.iter().take_while(|event| event.acknowledge().is_ok()) {
                    taken.store(event.id() + 1, Ordering::Release);
                    // So slowly that the consumer leaves meanwhile on a busy machine, too.
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            eventually("some are acknowledged", || taken.load(Ordering::Acquire) > 100);
            consumer.close(PATIENCE).unwrap();
        });
        let taken = taken.into_inner();
        assert!(taken < 20_000, "it left before all were acknowledged");
        let committed = kafka::committed_offset(Kafka::shared().bootstrap(), consumer.name(), topic.name(), 0);
        assert_eq!(committed, Some(taken as i64));
    }
}

#[test]
fn a_reader_with_targets_that_shares_its_name_with_members_is_told_so_naming_the_group() {
    let topic = topic("shared-name", 2);
    fill(&topic, 3);
    let member = member(&topic);
    let reader = topic.consumer(member.name()).targets(&[0]).make().unwrap();
    read(&reader, 1)[0].acknowledge().unwrap();
    let error = reader.commit(PATIENCE).unwrap_err();
    assert!(error.status == Status::Kafka && error.message.contains(member.name()), "{error}");
    assert!(error.message.contains("another name"), "{error}");
}

#[test]
fn a_target_that_does_not_exist_is_refused_with_the_number_of_partitions() {
    let topic = topic("no-target", 2);
    let error = topic.consumer("reader").targets(&[0, 2]).make().unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("partition 2") && error.message.contains("has 2"), "{error}");
}

#[test]
fn the_position_is_the_next_event_and_the_lag_what_is_left_from_there() {
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
fn the_committed_position_is_what_a_consumer_of_that_name_would_start_at() {
    let topic = topic("committed", 2);
    fill(&topic, 5);
    let consumer = member(&topic);
    assert_eq!(consumer.committed(0).unwrap(), None);
    let events = read(&consumer, 10);
    events.iter().find(|event| event.partition() == 0 && event.id() == 2).unwrap().acknowledge().unwrap();
    consumer.commit(PATIENCE).unwrap();
    assert_eq!((consumer.committed(0).unwrap(), consumer.committed(1).unwrap()), (Some(3), None));
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), consumer.name(), topic.name(), 0), Some(3));
}

#[test]
fn partitions_that_are_not_the_consumers_or_do_not_exist_have_no_position_and_the_error_says_so() {
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
    assert_eq!(consumer.committed(0).unwrap(), None, "of any partition of the topic");
}

#[test]
fn seeking_goes_back_and_forth_and_drops_what_was_fetched() {
    let topic = topic("seek", 2);
    fill(&topic, 200);
    let consumer = topic.consumer(&unique("reader")).targets(&[0, 1]).make().unwrap();
    read(&consumer, 100);
    let others = consumer.position(1).unwrap();
    for target in [5, 150, 0] {
        consumer.seek(0, target).unwrap();
        assert_eq!(consumer.position(0).unwrap(), target);
        let next = std::iter::repeat_with(|| read(&consumer, 1).remove(0)).find(|event| event.partition() == 0);
        assert_eq!(next.unwrap().id(), target);
    }
    assert!(consumer.position(1).unwrap() >= others, "the other partition went on");
    consumer.seek(0, 200).unwrap();
    assert_eq!(consumer.lag(0).unwrap(), 0, "the end can be sought");
    let error = consumer.seek(0, 201).unwrap_err();
    assert!(error.status == Status::InvalidArgument && error.message.contains("0 to 200"), "{error}");
}

#[test]
fn a_seek_right_after_the_assignment_holds_and_moves_no_committed_position() {
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
        consumer.commit(PATIENCE).unwrap();
        assert_eq!(consumer.committed(0).unwrap(), Some(15), "acknowledging an earlier one changes nothing");
    }
}

#[test]
fn seeking_while_other_threads_pull_gives_no_event_from_before_the_place_after_it() {
    let topic = topic("seek-and-pull", 1);
    fill(&topic, 2_000);
    let consumer = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    wait_for_assignment(&consumer, 1);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Some(event) = consumer.next(PATIENCE / 100).unwrap() {
                        assert_eq!(event.json().unwrap(), json!(event.id()));
                    }
                }
            });
        }
        for round in 0..50 {
            consumer.seek(0, round * 37 % 2_000).unwrap();
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    consumer.seek(0, 1_000).unwrap();
    let ids: Vec<u64> = read(&consumer, 1_000).iter().map(|event| event.id()).collect();
    assert_eq!(ids, (1_000..2_000).collect::<Vec<_>>());
}

#[test]
fn unsubscribing_commits_leaves_at_once_and_ends_pulling() {
    let topic = topic("unsubscribe", 1);
    fill(&topic, 5);
    let consumer = member(&topic);
    let events = read(&consumer, 3);
    events[1].acknowledge().unwrap();
    consumer.unsubscribe().unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(2));
    assert!(consumer.assignment().unwrap().is_empty());
    assert_eq!(consumer.next(PATIENCE).unwrap_err().status, Status::Closed);
    assert_eq!(events[2].acknowledge().unwrap_err().status, Status::Stale);
    let heir = topic.consumer(consumer.name()).make().unwrap();
    assert_eq!(read(&heir, 1)[0].id(), 2, "nobody waited for the session to end");
    consumer.unsubscribe().unwrap();
    consumer.close(PATIENCE).unwrap();
}

#[test]
fn unsubscribing_gives_target_partitions_up_and_commits() {
    let topic = topic("unsubscribe-targets", 1);
    fill(&topic, 5);
    let consumer = topic.consumer(&unique("reader")).targets(&[0]).make().unwrap();
    read(&consumer, 3)[2].acknowledge().unwrap();
    consumer.unsubscribe().unwrap();
    assert_eq!(consumer.committed(0).unwrap(), Some(3));
    assert!(consumer.assignment().unwrap().is_empty());
}

#[test]
fn two_readers_with_the_same_targets_both_get_everything() {
    let topic = topic("both", 1);
    fill(&topic, 10);
    let readers = [(); 2].map(|()| topic.consumer(&unique("reader")).targets(&[0]).make().unwrap());
    for reader in &readers {
        assert_eq!(read(reader, 10).len(), 10);
    }
}

/// Where nothing is committed "latest" begins at the end; here something was, and what is behind it is still to be read.
#[test]
fn lost_position_is_reported_at_once_and_latest_skips_nothing_behind_it() {
    let topic = topic("lost-position", 1);
    fill(&topic, 10);
    let name = unique("reader");
    let reader = || topic.consumer(&name).kafka("auto.offset.reset", "latest").make().unwrap();
    let first = topic.consumer(&name).make().unwrap();
    read(&first, 5)[4].acknowledge().unwrap();
    first.close(PATIENCE).unwrap();

    let bootstrap = Kafka::shared().bootstrap();
    kafka::delete_records(bootstrap, topic.name(), 0, 8);
    let second = reader();
    let error = second.next(PATIENCE).unwrap_err();
    assert_eq!(error.status, Status::RecordsLost, "{error}");
    assert_eq!(error.skipped, Some(SkippedOffsets { partition: 0, first: 5, last: 7 }));
    let ids: Vec<u64> = read(&second, 2).iter().map(|event| event.id()).collect();
    assert_eq!(ids, [8, 9]);
    second.close(PATIENCE).unwrap();

    // Nothing is left that would come.
    kafka::delete_records(bootstrap, topic.name(), 0, 10);
    let third = reader();
    let error = third.next(PATIENCE).unwrap_err();
    assert_eq!(error.skipped, Some(SkippedOffsets { partition: 0, first: 8, last: 9 }), "{error}");
    assert_eq!((third.position(0).unwrap(), third.lag(0).unwrap()), (10, 0));
    assert!(nothing_comes(&third));
}
