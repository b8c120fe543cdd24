//! Pulling events from one or several threads: order, memory, timeouts, and pending pulls.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Status};
use serde_json::json;

use crate::hosts::{C, compile, library, run_host};
use crate::kafka::{Kafka, unique};
use crate::support::{TIMEOUT, eventually, has_no_event, push_numbers, read, topic};

#[test]
fn events_arrive_in_offset_order() {
    let topic = topic("in-order", 1);
    push_numbers(&topic, 1000);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for (number, event) in read(&consumer, 1000).iter().enumerate() {
        assert_eq!((event.id(), event.json().unwrap()), (number as u64, json!(number)));
    }
    assert!(has_no_event(&consumer));
}

/// A kept event pins its whole fetch response. The C host keeps one event in a hundred and checks
/// that its memory stays below a limit.
#[test]
fn kept_large_events_pin_bounded_memory() {
    const EVENTS: usize = 20_000;
    const SIZE: usize = 8 * 1024;
    let topic = topic("kept", 1);
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..EVENTS {
        let data = vec![number as u8; SIZE];
        producer.push_forget(&NewEvent::json(&number).data(&data)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();

    let host = compile(&C, "keeping.c", &unique("keeping"), &["-D_DEFAULT_SOURCE", "-ldl"]);
    let kafka = json!({"bootstrap.servers": Kafka::shared().bootstrap(), "queued.max.messages.kbytes": 8 * 1024});
    // One event in a hundred is 1.6 MiB in total. Each is in a fetch response of its own, of 1 MiB.
    // The pinned responses and the prefetched records may take 8 MiB together.
    let (every, limit_kib) = (100, 64 * 1024);
    run_host(
        Command::new(host).arg(library()).args([json!({"kafka": kafka}).to_string(), topic.name().to_owned()]).args([
            EVENTS.to_string(),
            every.to_string(),
            limit_kib.to_string(),
        ]),
    );
}

/// A pull that is dropped before it returned an event leaves the event to the next pull.
#[test]
fn dropped_pull_takes_no_event() {
    let topic = topic("dropped-pulls", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let early: Vec<_> = (0..5).map(|_| consumer.pull().unwrap()).collect();
    assert!(consumer.pull().unwrap().wait(Duration::from_millis(50)).unwrap().is_none());
    push_numbers(&topic, 20);
    drop(early);
    let mut numbers = Vec::new();
    let started = Instant::now();
    while numbers.len() < 20 {
        assert!(started.elapsed() < TIMEOUT);
        drop(consumer.pull().unwrap());
        if let Some(event) = consumer.pull().unwrap().wait(Duration::from_millis(20)).unwrap() {
            numbers.push(event.id());
        }
    }
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

/// `is_done` reserves an event for the pull. Dropping the pull returns the event in offset order.
#[test]
fn pull_that_was_only_tested_returns_its_event_in_order() {
    let topic = topic("tested-pulls", 1);
    push_numbers(&topic, 20);
    for dropped_last_first in [false, true] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let mut pulls: Vec<_> = (0..6).map(|_| consumer.pull().unwrap()).collect();
        eventually("each pull has its event", || pulls.iter().all(|pull| pull.is_done().unwrap()));
        let kept = pulls.remove(2);
        if dropped_last_first {
            pulls.reverse();
        }
        pulls.into_iter().for_each(drop);
        let ids: Vec<_> = read(&consumer, 19).iter().map(|event| event.id()).collect();
        assert_eq!(ids, (0..20).filter(|id| *id != 2).collect::<Vec<_>>());
        assert_eq!(kept.wait(TIMEOUT).unwrap().unwrap().id(), 2);
        assert!(has_no_event(&consumer));
    }
}

/// Waiting for a pull again returns the same event.
#[test]
fn pull_keeps_its_event() {
    let topic = topic("completed-pull", 1);
    push_numbers(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pull = consumer.pull().unwrap();
    let event = pull.wait(TIMEOUT).unwrap().unwrap();
    assert_eq!(pull.wait(Duration::ZERO).unwrap().unwrap().id(), event.id());
    assert!(pull.is_done().unwrap());
    assert_eq!(read(&consumer, 1)[0].id(), 1);
}

#[test]
fn concurrent_pulls_deliver_each_event_once() {
    let topic = topic("threads", 3);
    let producer = topic.producer("p").make().unwrap();
    for number in 0..3000 {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let count = AtomicUsize::new(0);
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    let started = Instant::now();
                    while count.load(Ordering::Relaxed) < 3000 && started.elapsed() < TIMEOUT {
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
fn wait_times_out_while_another_thread_waits_longer() {
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
        // The machine may delay one of the waits; the consumer must not delay all of them.
        assert!(times.iter().all(|time| *time >= Duration::from_millis(200)), "{times:?}");
        assert!(times.iter().min() < Some(&Duration::from_millis(450)), "{times:?}");
    });
}

#[test]
fn threads_waiting_for_one_pull_get_the_same_event() {
    let topic = topic("one-pull", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pull = consumer.pull().unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| pull.wait(TIMEOUT).unwrap().unwrap().id())).collect();
        push_numbers(&topic, 10);
        let ids: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids, [0; 4]);
    });
    assert_eq!(read(&consumer, 1)[0].id(), 1);
}

#[test]
fn pending_pull_does_not_keep_consumer_in_its_group() {
    let topic = topic("pending-pull", 2);
    let producer = topic.producer("p").make().unwrap();
    for partition in 0..2 {
        producer.push(&NewEvent::text("{}").partition(partition)).unwrap().wait(TIMEOUT).unwrap();
    }
    let group = unique("group");
    let first = topic.consumer(&group).make().unwrap();
    let (completed, pending) = (first.pull().unwrap(), first.pull().unwrap());
    completed.wait(TIMEOUT).unwrap().unwrap();
    drop(first);
    let second = topic.consumer(&group).make().unwrap();
    let mut partitions: Vec<_> = read(&second, 2).iter().map(|event| event.partition()).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1], "both partitions are assigned to the second consumer");
    assert_eq!(pending.wait(TIMEOUT).map(drop).unwrap_err().status, Status::Closed);
    assert!(completed.wait(Duration::ZERO).unwrap().is_some(), "a completed pull keeps its event");
}

#[test]
fn closed_consumer_fails_calls_and_wakes_waiting_threads() {
    let topic = topic("closing", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pull = consumer.pull().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pull.wait(octopus_loader::FOREVER).map(drop).unwrap_err().status);
        std::thread::sleep(Duration::from_millis(100));
        consumer.close(TIMEOUT).unwrap();
        assert_eq!(waiting.join().unwrap(), Status::Closed);
    });
    assert_eq!(consumer.pull().map(drop).unwrap_err().status, Status::Closed);
    assert_eq!(consumer.commit(TIMEOUT).unwrap_err().status, Status::Closed);
    assert_eq!(consumer.close(TIMEOUT).unwrap_err().status, Status::Closed);
}

/// The coordinator refuses the member for good, here because of its session timeout.
#[test]
fn group_that_cannot_be_joined_is_reported_by_each_pull() {
    let topic = topic("unjoined", 1);
    let consumer = topic.consumer(&unique("group")).kafka("session.timeout.ms", 100).kafka("heartbeat.interval.ms", 30);
    let consumer = consumer.make().unwrap();
    let started = Instant::now();
    let mut errors = Vec::new();
    while errors.len() < 3 {
        assert!(started.elapsed() < TIMEOUT, "only {errors:?}");
        errors.extend(consumer.next(Duration::from_millis(200)).err());
    }
    for error in errors {
        assert_eq!((error.status, error.retriable), (Status::Kafka, false), "{error}");
        assert!(error.message.contains("JoinGroup failed: Broker: Invalid session timeout"), "{error}");
    }
}
