//! Pulling and acknowledging: every event comes, in order, and positions move by acknowledgement only.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, Status, Topic};
use serde_json::json;

use crate::hosts::{C, compile, library, run_host};
use crate::kafka::{self, Kafka, unique};
use crate::proxy::ProxiedKafka;
use crate::support::{Log, PATIENCE, driver_with, eventually, nothing_comes, read, topic, topic_of};

/// Pushes events with the numbers 0 to `count` - 1 to partition 0.
fn fill(topic: &Topic, count: u64) {
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..count {
        producer.push_forget(&NewEvent::json(&number).partition(0)).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
}

fn committed(consumer: &Consumer, topic: &Topic) -> Option<i64> {
    kafka::committed_offset(Kafka::shared().bootstrap(), consumer.name(), topic.name(), 0)
}

#[test]
fn events_come_in_the_order_of_their_offsets() {
    let topic = topic("in-order", 1);
    fill(&topic, 1000);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for (number, event) in read(&consumer, 1000).iter().enumerate() {
        assert_eq!((event.id(), event.json().unwrap()), (number as u64, json!(number)));
    }
    assert!(nothing_comes(&consumer));
}

#[test]
fn large_events_that_are_kept_keep_no_more_memory_of_what_came_with_them_than_the_settings_allow() {
    const EVENTS: usize = 20_000;
    const SIZE: usize = 8 * 1024;
    let topic = topic("kept", 1);
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..EVENTS {
        let data = vec![number as u8; SIZE];
        producer.push_forget(&NewEvent::json(&number).data(&data)).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();

    let host = compile(&C, "keeping.c", &unique("keeping"), &["-D_DEFAULT_SOURCE", "-ldl"]);
    let kafka = json!({"bootstrap.servers": Kafka::shared().bootstrap(), "queued.max.messages.kbytes": 8 * 1024});
    // One in a hundred, which are 1.6 MiB: each in an answer of its own, of 1 MiB. These and what is fetched ahead may be 8 MiB.
    let (every, limit_kib) = (100, 64 * 1024);
    run_host(
        Command::new(host).arg(library()).args([json!({"kafka": kafka}).to_string(), topic.name().to_owned()]).args([
            EVENTS.to_string(),
            every.to_string(),
            limit_kib.to_string(),
        ]),
    );
}

#[test]
fn a_consumer_of_the_same_name_starts_after_the_last_acknowledged_event() {
    let topic = topic("resume", 1);
    fill(&topic, 10);
    let group = unique("group");
    let first = topic.consumer(&group).make().unwrap();
    let events = read(&first, 8);
    events[4].acknowledge().unwrap();
    first.close(PATIENCE).unwrap();
    let second = topic.consumer(&group).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 5, "what was read and not acknowledged comes again");
}

#[test]
fn without_an_acknowledgement_a_consumer_of_the_same_name_starts_at_the_beginning() {
    let topic = topic("again", 1);
    fill(&topic, 3);
    let group = unique("group");
    let first = topic.consumer(&group).make().unwrap();
    read(&first, 3);
    first.close(PATIENCE).unwrap();
    let second = topic.consumer(&group).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 0);
}

#[test]
fn acknowledging_out_of_order_counts_the_highest_and_never_goes_back() {
    let topic = topic("highest", 1);
    fill(&topic, 10);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let events = read(&consumer, 10);
    for index in [6, 2, 8, 0] {
        events[index].acknowledge().unwrap();
    }
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(committed(&consumer, &topic), Some(9));
    events[1].acknowledge().unwrap();
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(committed(&consumer, &topic), Some(9));
}

#[test]
fn what_is_acknowledged_is_committed_within_a_second_without_being_asked() {
    let topic = topic("by-itself", 1);
    fill(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read(&consumer, 2)[1].acknowledge().unwrap();
    eventually("the position is committed", || committed(&consumer, &topic) == Some(2));
}

#[test]
fn what_is_only_read_is_never_committed() {
    let topic = topic("only-read", 1);
    fill(&topic, 5);
    let wants_to =
        [("enable.auto.commit", "true"), ("enable.auto.offset.store", "true"), ("auto.commit.interval.ms", "100")];
    let mut builder = topic.consumer(&unique("group"));
    for (setting, value) in wants_to {
        builder = builder.kafka(setting, value);
    }
    let consumer = builder.make().unwrap();
    read(&consumer, 5);
    consumer.commit(PATIENCE).expect("nothing to commit");
    consumer.close(PATIENCE).unwrap();
    assert_eq!(committed(&consumer, &topic), None);
}

#[test]
fn releasing_a_consumer_commits_and_leaves_the_group_at_once() {
    let topic = topic("leave", 1);
    fill(&topic, 4);
    let group = unique("group");
    let first = topic.consumer(&group).kafka("session.timeout.ms", 45_000).make().unwrap();
    let events = read(&first, 3);
    events[1].acknowledge().unwrap();
    drop(first);
    let started = Instant::now();
    let second = topic.consumer(&group).make().unwrap();
    assert_eq!(read(&second, 1)[0].id(), 2);
    assert!(started.elapsed() < Duration::from_secs(20), "nobody waited for the session to end");
    assert_eq!(events[2].json().unwrap(), json!(2), "an event outlives its consumer");
    assert_eq!(events[2].acknowledge().unwrap_err().status, Status::Stale);
}

#[test]
fn a_ticket_that_is_dropped_has_taken_nothing() {
    let topic = topic("tickets", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let early: Vec<_> = (0..5).map(|_| consumer.pull().unwrap()).collect();
    assert!(consumer.pull().unwrap().wait(Duration::from_millis(50)).unwrap().is_none());
    fill(&topic, 20);
    drop(early);
    let mut numbers = Vec::new();
    let started = Instant::now();
    while numbers.len() < 20 {
        assert!(started.elapsed() < PATIENCE);
        drop(consumer.pull().unwrap());
        if let Some(event) = consumer.pull().unwrap().wait(Duration::from_millis(20)).unwrap() {
            numbers.push(event.id());
        }
    }
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_ticket_that_was_only_asked_whether_it_has_an_event_hands_it_back_in_order() {
    let topic = topic("asked-ticket", 1);
    fill(&topic, 20);
    for dropped_last_first in [false, true] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let mut asked: Vec<_> = (0..6).map(|_| consumer.pull().unwrap()).collect();
        eventually("each has its event", || asked.iter().all(|ticket| ticket.is_done().unwrap()));
        let kept = asked.remove(2);
        if dropped_last_first {
            asked.reverse();
        }
        asked.into_iter().for_each(drop);
        let ids: Vec<_> = read(&consumer, 19).iter().map(|event| event.id()).collect();
        assert_eq!(ids, (0..20).filter(|id| *id != 2).collect::<Vec<_>>());
        assert_eq!(kept.wait(PATIENCE).unwrap().unwrap().id(), 2);
        assert!(nothing_comes(&consumer));
    }
}

#[test]
fn a_ticket_keeps_the_event_that_it_took() {
    let topic = topic("kept-ticket", 1);
    fill(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let ticket = consumer.pull().unwrap();
    let event = ticket.wait(PATIENCE).unwrap().unwrap();
    assert_eq!(ticket.wait(Duration::ZERO).unwrap().unwrap().id(), event.id());
    assert!(ticket.is_done().unwrap());
    assert_eq!(read(&consumer, 1)[0].id(), 1);
}

#[test]
fn several_threads_pull_from_one_consumer_and_each_event_comes_once() {
    let topic = topic("threads", 3);
    let producer = topic.producer("p").make().unwrap();
    for number in 0..3000 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let count = AtomicUsize::new(0);
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    let started = Instant::now();
                    while count.load(Ordering::Relaxed) < 3000 && started.elapsed() < PATIENCE {
                        if let Some(event) = consumer.next(Duration::from_millis(50)).unwrap() {
                            count.fetch_add(1, Ordering::Relaxed);
                            mine.push((event.partition(), event.id()));
                        }
                    }
                    mine
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), count.into_inner()), (3000, 3000));
}

#[test]
fn consumers_of_one_name_share_the_partitions_and_nothing_acknowledged_comes_again() {
    let topic = topic("shared", 4);
    let group = unique("group");
    let producer = topic.producer("p").make().unwrap();
    let first = topic.consumer(&group).make().unwrap();
    let push = |from: u64, to: u64| {
        (from..to).for_each(|number| producer.push_forget(&NewEvent::json(&number)).unwrap());
        producer.flush().unwrap().wait(PATIENCE).unwrap();
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
        if !a && !b && by_second > 0 && nothing_comes(&first) && nothing_comes(&second) {
            break;
        }
        assert!(started.elapsed() < PATIENCE * 2);
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 800, "every event was seen");
    // Between the reading and the taking away of a partition lies at most one event of each partition.
    assert!(all <= 800 + 4, "{} events came twice", all - 800);
}

#[test]
fn an_idle_host_keeps_its_partitions() {
    let topic = topic("idle", 1);
    fill(&topic, 1);
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
    // Only time shows it: longer than a consumer may be silent.
    std::thread::sleep(Duration::from_secs(9));
    event.acknowledge().expect("the partition was not taken away");
    consumer.commit(PATIENCE).unwrap();
    assert_eq!(log.count(|line| line.contains("revoked") || line.contains("lost")), 0, "{log:?}");
}

#[test]
fn records_that_were_removed_before_they_were_read_are_told_once_and_reading_goes_on() {
    let kafka = Kafka::shared();
    let topic = topic("removed", 1);
    fill(&topic, 3);
    let consumer = topic.consumer(&unique("group")).kafka("fetch.wait.max.ms", 10).make().unwrap();
    read(&consumer, 3);
    // While this consumer can't fetch, the broker removes what it has not read yet.
    consumer.close(PATIENCE).unwrap();
    let group = unique("group");
    let second = topic.consumer(&group).make().unwrap();
    read(&second, 2)[1].acknowledge().unwrap();
    second.close(PATIENCE).unwrap();
    fill(&topic, 7);
    kafka::delete_records(kafka.bootstrap(), topic.name(), 0, 6);
    let third = topic.consumer(&group).make().unwrap();
    let error = third.next(PATIENCE).map(drop).unwrap_err();
    assert_eq!(error.status, Status::RecordsLost, "{error}");
    assert!(error.message.contains("offsets 2 to 5 of partition 0"), "{error}");
    assert_eq!(read(&third, 1)[0].id(), 6);
}

#[test]
fn a_closed_consumer_says_so_and_wakes_whoever_waits() {
    let topic = topic("closing", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let ticket = consumer.pull().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ticket.wait(octopus_loader::FOREVER).map(drop).unwrap_err().status);
        std::thread::sleep(Duration::from_millis(100));
        consumer.close(PATIENCE).unwrap();
        assert_eq!(waiting.join().unwrap(), Status::Closed);
    });
    assert_eq!(consumer.pull().map(drop).unwrap_err().status, Status::Closed);
    assert_eq!(consumer.commit(PATIENCE).unwrap_err().status, Status::Closed);
    assert_eq!(consumer.close(PATIENCE).unwrap_err().status, Status::Closed);
}

#[test]
fn a_wait_ends_at_its_time_also_while_another_thread_waits_longer() {
    let topic = topic("waits", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| consumer.next(Duration::from_secs(3)).unwrap());
        let times: Vec<_> = (0..5)
            .map(|_| {
                let started = Instant::now();
                assert!(consumer.next(Duration::from_millis(200)).unwrap().is_none());
                started.elapsed()
            })
            .collect();
        // The machine may be slow once; the consumer must not be slow each time.
        assert!(times.iter().all(|time| *time >= Duration::from_millis(200)), "{times:?}");
        assert!(times.iter().min() < Some(&Duration::from_millis(450)), "{times:?}");
    });
}

#[test]
fn an_empty_name_is_refused_since_it_is_the_groups() {
    let topic = topic("nameless", 1);
    let error = topic.consumer("").make().map(drop).unwrap_err();
    assert_eq!(error.status, Status::InvalidArgument);
    assert!(error.message.contains("group"), "{error}");
}

#[test]
fn the_group_is_the_bare_name_whatever_the_settings_and_the_namespace_say() {
    let driver = driver_with(json!({"namespace": "lab", "kafka": {"group.id": "other"}}), &Log::default());
    let topic = topic_of(&driver, "grouped", 1);
    fill(&topic, 1);
    let group = unique("group");
    let consumer = topic.consumer(&group).kafka("group.id", "another").make().unwrap();
    read(&consumer, 1)[0].acknowledge().unwrap();
    consumer.commit(PATIENCE).unwrap();
    let name = format!("lab.{}", topic.name());
    assert_eq!(kafka::committed_offset(Kafka::shared().bootstrap(), &group, &name, 0), Some(1));
}

#[test]
fn a_consumer_reads_on_when_its_topic_was_deleted_and_says_so() {
    let kafka = Kafka::shared();
    let topic = topic("deleted", 1);
    fill(&topic, 1);
    let consumer = topic.consumer(&unique("group")).kafka("topic.metadata.refresh.interval.ms", 200).make().unwrap();
    read(&consumer, 1);
    kafka::delete_topic(kafka.bootstrap(), topic.name());
    let mut statuses = Vec::new();
    eventually("a pull tells of it, twice", || {
        if let Err(error) = consumer.next(Duration::from_millis(100)) {
            assert!(error.message.contains(topic.name()), "{error}");
            statuses.push(error.status);
        }
        statuses.len() >= 2
    });
    assert_eq!(statuses[0], Status::UnknownTopic);
}

#[test]
fn a_consumer_that_reaches_no_broker_says_who_does_not_answer_and_reads_on_when_one_does() {
    let kafka = ProxiedKafka::start();
    let settings = json!({"kafka": {"bootstrap.servers": kafka.bootstrap(), "reconnect.backoff.max.ms": 200}});
    let topic = topic_of(&driver_with(settings.clone(), &Log::default()), "cut-off", 1);
    fill(&topic, 2);
    let mut impatient = settings;
    impatient["timeout_ms"] = json!(1_000);
    let topic = driver_with(impatient, &Log::default()).open_topic(topic.name()).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    read(&consumer, 2);

    kafka.break_off();
    let mut times = 0;
    eventually("pulls say that nobody answers, again and again", || {
        if let Err(error) = consumer.next(Duration::from_millis(100)) {
            assert_eq!(error.status, Status::Unreachable, "{error}");
            assert!(error.message.contains(kafka.bootstrap()) && error.retriable, "{error}");
            times += 1;
        }
        times == 3
    });
    kafka.let_go();
    eventually("pulls only time out again", || consumer.next(Duration::from_millis(100)).is_ok());
    fill(&topic, 1);
    eventually(
        "the next event",
        || matches!(consumer.next(Duration::from_millis(100)), Ok(Some(event)) if event.id() == 2),
    );
}

#[test]
fn a_ticket_that_is_still_held_does_not_keep_a_released_consumer_in_its_group() {
    let topic = topic("held-ticket", 2);
    let producer = topic.producer("p").make().unwrap();
    for partition in 0..2 {
        producer.push(&NewEvent::text("{}").partition(partition)).unwrap().wait(PATIENCE).unwrap();
    }
    let group = unique("group");
    let first = topic.consumer(&group).make().unwrap();
    let (taken, open) = (first.pull().unwrap(), first.pull().unwrap());
    taken.wait(PATIENCE).unwrap().unwrap();
    drop(first);
    let second = topic.consumer(&group).make().unwrap();
    let mut partitions: Vec<_> = read(&second, 2).iter().map(|event| event.partition()).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1], "both partitions are the second consumer's");
    assert_eq!(open.wait(PATIENCE).map(drop).unwrap_err().status, Status::Closed);
    assert!(taken.wait(Duration::ZERO).unwrap().is_some(), "what was taken stays");
}

#[test]
fn threads_that_wait_on_one_ticket_get_the_same_event_and_take_no_other() {
    let topic = topic("one-ticket", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let ticket = consumer.pull().unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| ticket.wait(PATIENCE).unwrap().unwrap().id())).collect();
        fill(&topic, 10);
        let ids: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids, [0; 4]);
    });
    assert_eq!(read(&consumer, 1)[0].id(), 1);
}
