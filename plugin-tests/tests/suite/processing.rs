//! `process`, completion callbacks, and calls that push or pull several events.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Bounds, Error, Flow, NewEvent, Status, Topic};
use serde_json::json;

use crate::kafka::unique;
use crate::support::{SHORT_WAIT, TIMEOUT, eventually, has_no_event, octopus, read, topic};

fn fill(topic: &Topic, count: u64) {
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..count {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(TIMEOUT).unwrap();
}

/// Bounds of `max_events` events, and of [`TIMEOUT`] without an event.
fn at_most(max_events: u64) -> Bounds {
    Bounds { timeout: TIMEOUT, max_events }
}

#[test]
fn process_with_a_pool_runs_each_event_once_on_its_threads() {
    let topic = topic("process", 3);
    fill(&topic, 600);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    let (seen, threads) = (Mutex::new(HashSet::new()), Mutex::new(HashSet::new()));
    consumer
        .process(at_most(600), Some(&pool), |event| {
            let event = event.expect("an event");
            assert!(seen.lock().unwrap().insert((event.partition(), event.id())), "{event:?} was processed twice");
            threads.lock().unwrap().insert(thread::current().id());
            event.acknowledge()?;
            Ok(Flow::Continue)
        })
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 600);
    let threads = threads.into_inner().unwrap();
    assert!(!threads.contains(&thread::current().id()) && threads.len() <= 4, "{threads:?}");
    consumer.commit(TIMEOUT).unwrap();
    assert!((0..3).all(|partition| consumer.committed(partition).unwrap() == Some(200)));
}

#[test]
fn process_without_a_pool_runs_in_order_on_the_caller() {
    let topic = topic("process-here", 1);
    fill(&topic, 50);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (caller, ids) = (thread::current().id(), Mutex::new(Vec::new()));
    consumer
        .process(at_most(50), None, |event| {
            assert_eq!(thread::current().id(), caller);
            ids.lock().unwrap().push(event.unwrap().id());
            Ok(Flow::Continue)
        })
        .unwrap();
    assert_eq!(ids.into_inner().unwrap(), (0..50).collect::<Vec<_>>());
}

/// The consumer has already taken events for the pool; after the stop the next pulls return them.
#[test]
fn stop_on_any_thread_leaves_unprocessed_events_for_pulls() {
    let topic = topic("process-stop", 1);
    fill(&topic, 500);
    for threads in [0, 1, 4] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let pool = octopus().thread_pool(threads).unwrap();
        let processed = Mutex::new(HashSet::new());
        consumer
            .process(Bounds::default(), Some(&pool), |event| {
                let id = event.unwrap().id();
                processed.lock().unwrap().insert(id);
                Ok(if id == 100 { Flow::Stop } else { Flow::Continue })
            })
            .unwrap();
        let mut all = processed.into_inner().unwrap();
        let rest: Vec<u64> = read(&consumer, 500 - all.len()).iter().map(|event| event.id()).collect();
        assert!(rest.is_sorted(), "{threads} threads: the remaining events are out of order");
        all.extend(rest);
        assert_eq!(all.len(), 500, "{threads} threads: events are lost or duplicated");
        assert!(has_no_event(&consumer));
    }
}

#[test]
fn stop_interrupts_an_unbounded_wait_for_the_next_event() {
    /// After this time the caller waits for another event, and is early in its wait.
    const STOP_DELAY: Duration = Duration::from_millis(100);
    /// Without a wakeup the caller would notice the stop when the current slice of its wait ends,
    /// some 400 ms later.
    const MAX_DELAY: Duration = Duration::from_millis(150);
    let topic = topic("process-wait", 1);
    fill(&topic, 1);
    let pool = octopus().thread_pool(1).unwrap();
    let measure_stop = || {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let stopped = Mutex::new(None);
        consumer
            .process(Bounds::default(), Some(&pool), |_| {
                thread::sleep(STOP_DELAY);
                *stopped.lock().unwrap() = Some(Instant::now());
                Ok(Flow::Stop)
            })
            .unwrap();
        stopped.into_inner().unwrap().unwrap().elapsed()
    };
    // A loaded machine may delay any one stop, but not all of them.
    let fastest = (0..5).map(|_| measure_stop()).min().unwrap();
    assert!(fastest < MAX_DELAY, "the fastest stop took {fastest:?}");
}

/// The processor is called without an event, so that it can stop.
#[test]
fn process_without_events_calls_the_processor_at_each_timeout() {
    let topic = topic("process-idle", 1);
    fill(&topic, 2);
    for threads in [0, 2] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let pool = octopus().thread_pool(threads).unwrap();
        let (events, timeouts) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let bounds = Bounds { timeout: Duration::from_millis(20), max_events: 100 };
        consumer
            .process(bounds, Some(&pool), |event| {
                if event.is_some() {
                    events.fetch_add(1, Ordering::Relaxed);
                } else if timeouts.fetch_add(1, Ordering::Relaxed) >= 3 && events.load(Ordering::Relaxed) == 2 {
                    return Ok(Flow::Stop);
                }
                Ok(Flow::Continue)
            })
            .unwrap();
        assert_eq!(events.into_inner(), 2);
    }
}

#[test]
fn failed_processor_ends_process_and_keeps_the_consumer_usable() {
    let topic = topic("process-fail", 1);
    fill(&topic, 100);
    for threads in [0, 4] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let pool = octopus().thread_pool(threads).unwrap();
        let failing = |event: Option<octopus_loader::Event>| match event.unwrap().id() {
            10 => Err(Error::from_host("the analysis found no peak")),
            _ => Ok(Flow::Continue),
        };
        // Other threads may take all events that they can while one returns the error.
        let error = consumer.process(at_most(50), Some(&pool), failing).unwrap_err();
        assert!(error.message.contains("no peak"), "{error}");
        assert!(consumer.next(TIMEOUT).unwrap().is_some(), "the consumer is still usable");
    }
}

/// A host in C may return any number.
#[test]
fn unknown_processor_result_fails_process_with_its_number() {
    let topic = topic("process-number", 1);
    fill(&topic, 3);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    for number in [-7, 2] {
        let error = consumer.process(at_most(3), None, |_| Ok(Flow::Fail(number))).unwrap_err();
        assert_eq!(error.status, Status::CallbackFailed);
        assert!(error.message.contains(&format!("returned {number}")), "{error}");
    }
}

#[test]
fn process_with_max_events_takes_no_event_beyond_it() {
    let topic = topic("process-max", 1);
    fill(&topic, 20);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    let count = AtomicUsize::new(0);
    let counting = |_: Option<octopus_loader::Event>| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Flow::Continue)
    };
    for (max_events, total) in [(0, 0), (7, 7), (5, 12)] {
        consumer.process(at_most(max_events), Some(&pool), counting).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), total);
    }
    assert_eq!(read(&consumer, 1)[0].id(), 12);
}

#[test]
fn concurrent_process_is_rejected_and_a_later_one_is_not() {
    let topic = topic("process-twice", 1);
    fill(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let nested = Mutex::new(None);
    let process_one = || consumer.process(at_most(1), None, |_| Ok(Flow::Continue));
    consumer
        .process(at_most(1), None, |_| {
            *nested.lock().unwrap() = Some(process_one());
            Ok(Flow::Continue)
        })
        .unwrap();
    let rejected = nested.into_inner().unwrap().unwrap().unwrap_err();
    assert!(rejected.status == Status::InvalidArgument && rejected.message.contains("still running"), "{rejected}");
    process_one().unwrap();
}

#[test]
fn close_ends_a_process_that_waits_for_an_event() {
    let topic = topic("process-close", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let has_started = AtomicBool::new(false);
    thread::scope(|scope| {
        let processing = scope.spawn(|| {
            let bounds = Bounds { timeout: Duration::from_millis(50), ..Bounds::default() };
            consumer.process(bounds, None, |_| {
                has_started.store(true, Ordering::Relaxed);
                Ok(Flow::Continue)
            })
        });
        eventually("processing starts", || has_started.load(Ordering::Relaxed));
        consumer.close(TIMEOUT).unwrap();
        assert_eq!(processing.join().unwrap().unwrap_err().status, Status::Closed);
    });
}

#[test]
fn process_in_a_task_of_its_own_pool_would_deadlock() {
    let topic = topic("process-inside", 1);
    let consumer = Arc::new(topic.consumer(&unique("group")).make().unwrap());
    let pool = Arc::new(octopus().thread_pool(1).unwrap());
    let (sender, result) = mpsc::channel();
    let (inner, on) = (consumer.clone(), pool.clone());
    pool.submit(0, move || {
        sender.send(inner.process(at_most(1), Some(&on), |_| Ok(Flow::Continue))).unwrap();
    })
    .unwrap();
    assert_eq!(result.recv_timeout(TIMEOUT).unwrap().unwrap_err().status, Status::WouldDeadlock);
}

#[test]
fn malformed_record_ends_process_and_is_skipped_afterwards() {
    let topic = topic("process-malformed", 1);
    fill(&topic, 1);
    crate::kafka::kcat_write(crate::kafka::Kafka::shared().bootstrap(), topic.name(), 0, b"no event");
    fill(&topic, 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let error = consumer.process(at_most(9), None, |_| Ok(Flow::Continue)).unwrap_err();
    assert_eq!(error.status, Status::MalformedRecord);
    assert_eq!(read(&consumer, 1)[0].id(), 2);
}

#[test]
fn pull_many_returns_several_events_or_none_at_its_timeout() {
    let topic = topic("pull-many", 1);
    fill(&topic, 100);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let mut ids = Vec::new();
    while ids.len() < 100 {
        let events = consumer.pull_many(30, TIMEOUT).unwrap();
        assert!((1..=30).contains(&events.len()));
        ids.extend(events.iter().map(|event| event.id()));
    }
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert!(consumer.pull_many(30, SHORT_WAIT).unwrap().is_empty());
    assert!(consumer.pull_many(0, TIMEOUT).unwrap().is_empty(), "a limit of 0 events");
}

#[test]
fn pull_many_reports_an_error_after_the_events_before_it() {
    let topic = topic("pull-many-malformed", 1);
    fill(&topic, 2);
    crate::kafka::kcat_write(crate::kafka::Kafka::shared().bootstrap(), topic.name(), 0, b"no event");
    fill(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (mut ids, mut errors) = (Vec::new(), Vec::new());
    while ids.len() < 4 {
        match consumer.pull_many(10, TIMEOUT) {
            Ok(events) => ids.extend(events.iter().map(|event| event.id())),
            Err(error) => errors.push((ids.len(), error.status)),
        }
    }
    assert_eq!((ids, errors), (vec![0, 1, 3, 4], vec![(2, Status::MalformedRecord)]));
}

#[test]
fn concurrent_pull_many_returns_each_event_once() {
    let topic = topic("pull-many-threads", 4);
    fill(&topic, 4_000);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let seen = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while seen.lock().unwrap().len() < 4_000 {
                    for event in consumer.pull_many(100, SHORT_WAIT).unwrap() {
                        assert!(seen.lock().unwrap().insert((event.partition(), event.id())));
                    }
                }
            });
        }
    });
}

#[test]
fn push_many_keeps_order_and_stops_at_the_first_rejection() {
    let topic = topic("push-many", 1);
    let producer = topic.producer("many").make().unwrap();
    let data: Vec<[u8; 8]> = (0..1_000_u64).map(u64::to_le_bytes).collect();
    let events: Vec<_> = (0..1_000).map(|n| NewEvent::json(&n).data(&data[n])).collect();
    let (pushes, result) = producer.push_many(&events);
    result.unwrap();
    for (number, push) in (0..).zip(&pushes) {
        assert_eq!(push.wait(TIMEOUT).unwrap().id, Some(number));
    }
    let with_an_invalid_event = [NewEvent::json(&1), NewEvent::json(&2), NewEvent::text("no JSON"), NewEvent::json(&3)];
    let (pushes, result) = producer.push_many(&with_an_invalid_event);
    assert_eq!((pushes.len(), result.unwrap_err().status), (2, Status::InvalidMetadata));
    let (none, result) = producer.push_many(&[]);
    assert!(none.is_empty() && result.is_ok());
    producer.close(TIMEOUT).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert_eq!(read(&consumer, 1_002)[1_001].json().unwrap(), json!(2));
    assert!(has_no_event(&consumer));
}

#[test]
fn concurrent_push_many_keeps_each_threads_order() {
    let topic = topic("push-many-threads", 1);
    let producer = topic.producer("many").make().unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for round in 0..10 {
                    let events: Vec<_> = (0..100).map(|n| NewEvent::json(&json!([thread, round * 100 + n]))).collect();
                    producer.push_many(&events).1.unwrap();
                }
            });
        }
    });
    producer.close(TIMEOUT).unwrap();
    let mut next = [0; 4];
    for event in read(&topic.consumer(&unique("group")).make().unwrap(), 4_000) {
        let numbers = event.json().unwrap();
        let thread = numbers[0].as_u64().unwrap() as usize;
        assert_eq!(numbers[1], next[thread]);
        next[thread] += 1;
    }
}

#[test]
fn completions_run_once_and_never_in_the_registering_call() {
    let topic = topic("completions", 1);
    let producer = topic.producer("completing").kafka("linger.ms", 50).make().unwrap();
    let (sender, results) = mpsc::channel();
    let here = thread::current().id();
    for number in 0..200_u64 {
        let sender = sender.clone();
        let push = producer.push(&NewEvent::json(&number)).unwrap();
        push.on_complete(move |push| {
            assert_ne!(thread::current().id(), here);
            sender.send(push.wait(Duration::ZERO).unwrap().id).unwrap();
        })
        .unwrap();
    }
    let flush = producer.flush().unwrap();
    flush.wait(TIMEOUT).unwrap();
    let flushed = sender.clone();
    flush.on_complete(move |flush| flushed.send(flush.wait(Duration::ZERO).ok().map(|()| 999)).unwrap()).unwrap();
    drop(sender);
    let ids: Vec<_> = results.iter().map(Option::unwrap).collect();
    assert_eq!(ids, (0..200).chain([999]).collect::<Vec<_>>(), "each completion runs once, in the order of completion");
}

#[test]
fn completion_of_a_failed_push_gets_its_error() {
    let topic = topic("completion-failure", 1);
    let kafka = crate::kafka::Kafka::shared();
    let name = unique("small");
    crate::kafka::create_topic(kafka.bootstrap(), &name, 1, &[("max.message.bytes", "1000")]);
    let small = crate::support::driver().open_topic(&name).unwrap();
    drop(topic);
    let producer = small.producer("failing").make().unwrap();
    let (sender, results) = mpsc::channel();
    let push = producer.push(&NewEvent::default().data(&[0; 5_000])).unwrap();
    push.on_complete(move |push| sender.send(push.wait(Duration::ZERO)).unwrap()).unwrap();
    drop(push);
    assert_eq!(results.recv_timeout(TIMEOUT).unwrap().unwrap_err().status, Status::TooLarge);
}

#[test]
fn completion_of_a_pull_gets_its_event_and_can_pull_again() {
    let topic = topic("pull-completion", 1);
    fill(&topic, 50);
    let consumer = Arc::new(topic.consumer(&unique("group")).make().unwrap());
    let (sender, results) = mpsc::channel();
    pull_in_completions(consumer.clone(), sender, 50);
    let ids: Vec<_> = (0..50).map(|_| results.recv_timeout(TIMEOUT).unwrap()).collect();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
}

/// Pulls `count` events; the completion of each pull starts the next one.
fn pull_in_completions(consumer: Arc<octopus_loader::Consumer>, sender: mpsc::Sender<u64>, count: usize) {
    if count == 0 {
        return;
    }
    let pull = consumer.pull().unwrap();
    pull.on_complete(move |pull| {
        sender.send(pull.wait(Duration::ZERO).unwrap().expect("an event").id()).unwrap();
        pull_in_completions(consumer, sender, count - 1);
    })
    .unwrap();
}

#[test]
fn close_completes_pending_pulls_with_closed() {
    let topic = topic("pull-closed", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (sender, results) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        consumer.pull().unwrap().on_complete(move |pull| sender.send(pull.wait(Duration::ZERO)).unwrap()).unwrap();
    }
    consumer.close(TIMEOUT).unwrap();
    for _ in 0..3 {
        assert_eq!(results.recv_timeout(TIMEOUT).unwrap().unwrap_err().status, Status::Closed);
    }
}

/// A completion runs on a plugin thread: calls that would wait for such a thread fail there.
#[test]
fn waiting_in_a_completion_would_deadlock_but_push_works() {
    let topic = topic("completion-thread", 1);
    let producer = Arc::new(topic.producer("pushing").make().unwrap());
    let (sender, results) = mpsc::channel();
    let inner = producer.clone();
    let push = producer.push(&NewEvent::default()).unwrap();
    push.on_complete(move |_| {
        let push = inner.push(&NewEvent::default()).unwrap();
        sender.send((push.wait(TIMEOUT).unwrap_err().status, inner.close(TIMEOUT).unwrap_err().status)).unwrap();
    })
    .unwrap();
    let would_deadlock = (Status::WouldDeadlock, Status::WouldDeadlock);
    assert_eq!(results.recv_timeout(TIMEOUT).unwrap(), would_deadlock);
    producer.close(TIMEOUT).unwrap();
    assert_eq!(crate::kafka::kcat_read(crate::kafka::Kafka::shared().bootstrap(), topic.name()).len(), 2);
}
