//! Events that come to a function: process, completions, and several at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Bounds, Error, Flow, NewEvent, Status, Topic};
use serde_json::json;

use crate::kafka::unique;
use crate::support::{A_MOMENT, PATIENCE, eventually, nothing_comes, octopus, read, topic};

fn fill(topic: &Topic, count: u64) {
    let producer = topic.producer("filler").make().unwrap();
    for number in 0..count {
        producer.push_forget(&NewEvent::json(&number)).unwrap();
    }
    producer.flush().unwrap().wait(PATIENCE).unwrap();
}

/// Events to process, and not longer than `PATIENCE` without one.
fn at_most(max_events: u64) -> Bounds {
    Bounds { timeout: PATIENCE, max_events }
}

#[test]
fn each_event_is_processed_once_on_the_threads_of_the_pool_given() {
    let topic = topic("process", 3);
    fill(&topic, 600);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pool = octopus().thread_pool(4).unwrap();
    let (seen, threads) = (Mutex::new(HashSet::new()), Mutex::new(HashSet::new()));
    consumer
        .process(at_most(600), Some(&pool), |event| {
            let event = event.expect("events are there");
            assert!(seen.lock().unwrap().insert((event.partition(), event.id())), "{event:?} came twice");
            threads.lock().unwrap().insert(thread::current().id());
            event.acknowledge()?;
            Ok(Flow::Continue)
        })
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 600);
    let threads = threads.into_inner().unwrap();
    assert!(!threads.contains(&thread::current().id()) && threads.len() <= 4, "{threads:?}");
    consumer.commit(PATIENCE).unwrap();
    assert!((0..3).all(|partition| consumer.committed(partition).unwrap() == Some(200)));
}

#[test]
fn without_a_pool_events_are_processed_in_the_caller_and_in_order() {
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

#[test]
fn a_stop_from_whichever_thread_ends_processing_and_what_was_not_processed_comes_next() {
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
        assert!(rest.is_sorted(), "{threads} threads: in order");
        all.extend(rest);
        assert_eq!(all.len(), 500, "{threads} threads: nothing is lost, nothing comes twice");
        assert!(nothing_comes(&consumer));
    }
}

#[test]
fn a_stop_ends_processing_while_it_waits_for_ever_for_the_next_event() {
    /// Long enough for the caller to be waiting for another event, and early in its wait.
    const EARLY: Duration = Duration::from_millis(100);
    /// Unwoken, the caller would look only when a slice of its wait ends, some 400 ms after the stop.
    const AT_ONCE: Duration = Duration::from_millis(150);
    let topic = topic("process-wait", 1);
    fill(&topic, 1);
    let pool = octopus().thread_pool(1).unwrap();
    let stop_takes = || {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let stopped = Mutex::new(None);
        consumer
            .process(Bounds::default(), Some(&pool), |_| {
                thread::sleep(EARLY);
                *stopped.lock().unwrap() = Some(Instant::now());
                Ok(Flow::Stop)
            })
            .unwrap();
        stopped.into_inner().unwrap().unwrap().elapsed()
    };
    // The quickest of several, since a loaded machine may delay any one of them.
    let quickest = (0..5).map(|_| stop_takes()).min().unwrap();
    assert!(quickest < AT_ONCE, "the quickest stop took {quickest:?}");
}

#[test]
fn without_events_the_processor_is_called_at_each_time_out_so_that_it_can_stop() {
    let topic = topic("process-idle", 1);
    fill(&topic, 2);
    for threads in [0, 2] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let pool = octopus().thread_pool(threads).unwrap();
        let (events, time_outs) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let bounds = Bounds { timeout: Duration::from_millis(20), max_events: 100 };
        consumer
            .process(bounds, Some(&pool), |event| {
                if event.is_some() {
                    events.fetch_add(1, Ordering::Relaxed);
                } else if time_outs.fetch_add(1, Ordering::Relaxed) >= 3 && events.load(Ordering::Relaxed) == 2 {
                    return Ok(Flow::Stop);
                }
                Ok(Flow::Continue)
            })
            .unwrap();
        assert_eq!(events.into_inner(), 2);
    }
}

#[test]
fn a_processor_that_fails_ends_processing_with_its_failure_and_spoils_nothing() {
    let topic = topic("process-fail", 1);
    fill(&topic, 100);
    for threads in [0, 4] {
        let consumer = topic.consumer(&unique("group")).make().unwrap();
        let pool = octopus().thread_pool(threads).unwrap();
        let failing = |event: Option<octopus_loader::Event>| match event.unwrap().id() {
            10 => Err(Error::from_host("the analysis found no peak")),
            _ => Ok(Flow::Continue),
        };
        let error = consumer.process(at_most(100), Some(&pool), failing).unwrap_err();
        assert!(error.message.contains("no peak"), "{error}");
        assert!(consumer.next(PATIENCE).unwrap().is_some(), "the consumer goes on");
    }
}

#[test]
fn what_c_returns_other_than_go_on_and_stop_fails_processing_with_the_number() {
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
fn processing_ends_after_so_many_events_and_none_is_taken_beyond() {
    let topic = topic("process-max", 1);
    fill(&topic, 20);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let pool = octopus().thread_pool(2).unwrap();
    let count = AtomicUsize::new(0);
    let counting = |_: Option<octopus_loader::Event>| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Flow::Continue)
    };
    for (max, sum) in [(0, 0), (7, 7), (5, 12)] {
        consumer.process(at_most(max), Some(&pool), counting).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), sum);
    }
    assert_eq!(read(&consumer, 1)[0].id(), 12);
}

#[test]
fn a_second_process_at_the_same_time_is_refused_and_a_later_one_is_not() {
    let topic = topic("process-twice", 1);
    fill(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let nested = Mutex::new(None);
    let again = || consumer.process(at_most(1), None, |_| Ok(Flow::Continue));
    consumer
        .process(at_most(1), None, |_| {
            *nested.lock().unwrap() = Some(again());
            Ok(Flow::Continue)
        })
        .unwrap();
    let refused = nested.into_inner().unwrap().unwrap().unwrap_err();
    assert!(refused.status == Status::InvalidArgument && refused.message.contains("processed already"), "{refused}");
    again().unwrap();
}

#[test]
fn closing_ends_processing_that_waits_for_an_event() {
    let topic = topic("process-close", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let is_at_it = AtomicBool::new(false);
    thread::scope(|scope| {
        let processing = scope.spawn(|| {
            let bounds = Bounds { timeout: Duration::from_millis(50), ..Bounds::default() };
            consumer.process(bounds, None, |_| {
                is_at_it.store(true, Ordering::Relaxed);
                Ok(Flow::Continue)
            })
        });
        eventually("it processes", || is_at_it.load(Ordering::Relaxed));
        consumer.close(PATIENCE).unwrap();
        assert_eq!(processing.join().unwrap().unwrap_err().status, Status::Closed);
    });
}

#[test]
fn in_a_task_of_a_pool_processing_on_that_pool_would_wait_for_itself() {
    let topic = topic("process-inside", 1);
    let consumer = Arc::new(topic.consumer(&unique("group")).make().unwrap());
    let pool = Arc::new(octopus().thread_pool(1).unwrap());
    let (sender, result) = mpsc::channel();
    let (inner, on) = (consumer.clone(), pool.clone());
    pool.submit(0, move || {
        sender.send(inner.process(at_most(1), Some(&on), |_| Ok(Flow::Continue))).unwrap();
    })
    .unwrap();
    assert_eq!(result.recv_timeout(PATIENCE).unwrap().unwrap_err().status, Status::WouldDeadlock);
}

#[test]
fn a_malformed_record_ends_processing_and_the_next_process_goes_on_behind_it() {
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
fn several_events_come_at_once_or_none_in_time() {
    let topic = topic("pull-many", 1);
    fill(&topic, 100);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let mut ids = Vec::new();
    while ids.len() < 100 {
        let events = consumer.pull_many(30, PATIENCE).unwrap();
        assert!((1..=30).contains(&events.len()));
        ids.extend(events.iter().map(|event| event.id()));
    }
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert!(consumer.pull_many(30, A_MOMENT).unwrap().is_empty());
    assert!(consumer.pull_many(0, PATIENCE).unwrap().is_empty(), "none asked for");
}

#[test]
fn what_stands_behind_events_that_were_taken_at_once_is_told_by_the_next_call() {
    let topic = topic("pull-many-malformed", 1);
    fill(&topic, 2);
    crate::kafka::kcat_write(crate::kafka::Kafka::shared().bootstrap(), topic.name(), 0, b"no event");
    fill(&topic, 2);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (mut ids, mut errors) = (Vec::new(), Vec::new());
    while ids.len() < 4 {
        match consumer.pull_many(10, PATIENCE) {
            Ok(events) => ids.extend(events.iter().map(|event| event.id())),
            Err(error) => errors.push((ids.len(), error.status)),
        }
    }
    assert_eq!((ids, errors), (vec![0, 1, 3, 4], vec![(2, Status::MalformedRecord)]));
}

#[test]
fn threads_that_pull_many_from_one_consumer_get_each_event_once() {
    let topic = topic("pull-many-threads", 4);
    fill(&topic, 4_000);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let seen = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while seen.lock().unwrap().len() < 4_000 {
                    for event in consumer.pull_many(100, A_MOMENT).unwrap() {
                        assert!(seen.lock().unwrap().insert((event.partition(), event.id())));
                    }
                }
            });
        }
    });
}

#[test]
fn several_events_are_pushed_in_one_call_in_order_and_it_stops_at_the_first_that_is_refused() {
    let topic = topic("push-many", 1);
    let producer = topic.producer("many").make().unwrap();
    let data: Vec<[u8; 8]> = (0..1_000_u64).map(u64::to_le_bytes).collect();
    let events: Vec<_> = (0..1_000).map(|n| NewEvent::json(&n).data(&data[n])).collect();
    let (pushes, result) = producer.push_many(&events);
    result.unwrap();
    for (number, push) in (0..).zip(&pushes) {
        assert_eq!(push.wait(PATIENCE).unwrap().id, Some(number));
    }
    let with_a_bad_one = [NewEvent::json(&1), NewEvent::json(&2), NewEvent::text("no JSON"), NewEvent::json(&3)];
    let (pushes, result) = producer.push_many(&with_a_bad_one);
    assert_eq!((pushes.len(), result.unwrap_err().status), (2, Status::InvalidMetadata));
    let (none, result) = producer.push_many(&[]);
    assert!(none.is_empty() && result.is_ok());
    producer.close(PATIENCE).unwrap();
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    assert_eq!(read(&consumer, 1_002)[1_001].json().unwrap(), json!(2));
    assert!(nothing_comes(&consumer));
}

#[test]
fn threads_that_push_many_at_the_same_time_lose_nothing_and_keep_their_own_order() {
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
    producer.close(PATIENCE).unwrap();
    let mut next = [0; 4];
    for event in read(&topic.consumer(&unique("group")).make().unwrap(), 4_000) {
        let numbers = event.json().unwrap();
        let thread = numbers[0].as_u64().unwrap() as usize;
        assert_eq!(numbers[1], next[thread]);
        next[thread] += 1;
    }
}

#[test]
fn a_push_and_a_flush_call_when_they_are_done_once_and_never_in_the_registering_call() {
    let topic = topic("completions", 1);
    let producer = topic.producer("completing").kafka("linger.ms", 50).make().unwrap();
    let (sender, told) = mpsc::channel();
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
    flush.wait(PATIENCE).unwrap();
    let flushed = sender.clone();
    flush.on_complete(move |flush| flushed.send(flush.wait(Duration::ZERO).ok().map(|()| 999)).unwrap()).unwrap();
    drop(sender);
    let ids: Vec<_> = told.iter().map(Option::unwrap).collect();
    assert_eq!(ids, (0..200).chain([999]).collect::<Vec<_>>(), "each once, in the order that they were done");
}

#[test]
fn a_push_that_fails_calls_with_its_failure() {
    let topic = topic("completion-failure", 1);
    let kafka = crate::kafka::Kafka::shared();
    let name = unique("small");
    crate::kafka::create_topic(kafka.bootstrap(), &name, 1, &[("max.message.bytes", "1000")]);
    let small = crate::support::driver().open_topic(&name).unwrap();
    drop(topic);
    let producer = small.producer("failing").make().unwrap();
    let (sender, told) = mpsc::channel();
    let push = producer.push(&NewEvent::default().data(&[0; 5_000])).unwrap();
    push.on_complete(move |push| sender.send(push.wait(Duration::ZERO)).unwrap()).unwrap();
    drop(push);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap_err().status, Status::TooLarge);
}

#[test]
fn a_pull_calls_with_its_event_and_can_be_asked_for_again_from_there() {
    let topic = topic("pull-completion", 1);
    fill(&topic, 50);
    let consumer = Arc::new(topic.consumer(&unique("group")).make().unwrap());
    let (sender, told) = mpsc::channel();
    pull_on(consumer.clone(), sender, 50);
    let ids: Vec<_> = (0..50).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
}

/// Takes `count` events, one after the other, each asked for when the one before has come.
fn pull_on(consumer: Arc<octopus_loader::Consumer>, sender: mpsc::Sender<u64>, count: usize) {
    if count == 0 {
        return;
    }
    let ticket = consumer.pull().unwrap();
    ticket
        .on_complete(move |ticket| {
            sender.send(ticket.wait(Duration::ZERO).unwrap().expect("its event").id()).unwrap();
            pull_on(consumer, sender, count - 1);
        })
        .unwrap();
}

#[test]
fn pulls_that_wait_for_an_event_are_called_with_closed_when_their_consumer_ends() {
    let topic = topic("pull-closed", 1);
    let consumer = topic.consumer(&unique("group")).make().unwrap();
    let (sender, told) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        consumer.pull().unwrap().on_complete(move |pull| sender.send(pull.wait(Duration::ZERO)).unwrap()).unwrap();
    }
    consumer.close(PATIENCE).unwrap();
    for _ in 0..3 {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().unwrap_err().status, Status::Closed);
    }
}

#[test]
fn in_a_completion_what_would_wait_for_the_plugin_says_so_and_a_push_goes_on() {
    let topic = topic("completion-thread", 1);
    let producer = Arc::new(topic.producer("pushing").make().unwrap());
    let (sender, told) = mpsc::channel();
    let again = producer.clone();
    let push = producer.push(&NewEvent::default()).unwrap();
    push.on_complete(move |_| {
        let push = again.push(&NewEvent::default()).unwrap();
        sender.send((push.wait(PATIENCE).unwrap_err().status, again.close(PATIENCE).unwrap_err().status)).unwrap();
    })
    .unwrap();
    let would_deadlock = (Status::WouldDeadlock, Status::WouldDeadlock);
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), would_deadlock);
    producer.close(PATIENCE).unwrap();
    assert_eq!(crate::kafka::kcat_read(crate::kafka::Kafka::shared().bootstrap(), topic.name()).len(), 2);
}
