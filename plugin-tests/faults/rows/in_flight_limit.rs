//! Row 9: a producer reaches its in-flight limit since the broker stores nothing. In CI the broker
//! is a mock cluster that is down, otherwise a real broker that is stopped (SIGSTOP).

mod readback;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Persisted, Producer, ProducerBuilder, Push, Status, Topic, TopicOptions};
use octopus_testkit::Kafka;
use serde_json::json;

use super::host::{CallbackLog, lock, within};
use super::mock::{ALL, Mock};
use super::process;
use crate::run::{Failure, OrFail, Result, Run, Tally, check, eventually};

const MAX_WAIT: Duration = Duration::from_mins(1);
/// The drivers' `timeout_ms` where a push must fail at the limit.
const SHORT: Duration = Duration::from_millis(1_200);
const THREADS: usize = 8;

/// A broker that can be paused.
enum Broker {
    Mock(Mock),
    Real(Kafka),
}

impl Broker {
    fn start(run: &Run) -> Result<Self> {
        if run.full { Kafka::start(&[]).map(Broker::Real) } else { Mock::start(1).map(Broker::Mock) }
    }

    fn driver(&self, callback_log: &CallbackLog, timeout: Duration) -> Result<Driver> {
        let bootstrap = match self {
            Broker::Mock(mock) => mock.bootstrap(),
            Broker::Real(broker) => broker.bootstrap().to_owned(),
        };
        let kafka = json!({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500});
        callback_log
            .driver(json!({"kafka": kafka, "disable_info_topic": true, "timeout_ms": timeout.as_millis() as u64}))
    }

    /// Creates and opens a topic; the driver's short `timeout_ms` does not apply.
    fn topic(&self, callback_log: &CallbackLog, driver: &Driver, name: &str, partitions: u32) -> Result<Topic> {
        match self {
            Broker::Mock(mock) => mock.topic(name, &vec![1; partitions as usize])?,
            Broker::Real(_) => self
                .driver(callback_log, MAX_WAIT)?
                .create_topic(name, &TopicOptions::default().partitions(partitions).replication(1))
                .or_fail("creating a topic")?,
        }
        eventually("the topic can be opened", MAX_WAIT, || match driver.open_topic(name) {
            Err(error) if error.status == Status::Unreachable => Ok(None),
            opened => opened.map(Some).or_fail("opening a topic"),
        })
    }

    fn pause(&self) -> Result<()> {
        match self {
            Broker::Mock(mock) => mock.down(ALL),
            Broker::Real(broker) => broker.pause(),
        }
    }

    fn resume(&self) -> Result<()> {
        match self {
            Broker::Mock(mock) => mock.up(ALL),
            Broker::Real(broker) => broker.resume(),
        }
    }
}

pub fn run(run: &Run) -> Result<Tally> {
    let (broker, callback_log) = (Broker::start(run)?, CallbackLog::default());
    let result = run_checks(run, &broker, &callback_log);
    callback_log.write_to(run);
    result
}

fn run_checks(run: &Run, broker: &Broker, callback_log: &CallbackLog) -> Result<Tally> {
    let mut tally = Tally::default();
    let limits = [
        Limit {
            what: "10 events",
            properties: &[("queue.buffering.max.messages", 10)],
            batch: 0,
            capacity: 10,
            size: 10,
        },
        Limit { what: "8 KiB", properties: &[("queue.buffering.max.kbytes", 8)], batch: 0, capacity: 7, size: 1_000 },
        // One event per batch and one batch would make the row too slow.
        Limit { what: "batch parameters", properties: &[], batch: 1, capacity: 10_000, size: 1 },
    ];
    for limit in limits {
        tally.events += push_fails_at_limit(broker, callback_log, &limit)?;
        run.report(format_args!(
            "a limit of {}: rejected in time, with the reason, and all accepted events are stored",
            limit.what
        ));
    }
    for round in 0..run.pick(1, 5) {
        let pauses = run.pick(0, 8);
        tally.events += push_waits_at_limit(run, broker, callback_log, round, pauses)?;
    }
    run.report("pushes that waited were delivered: none lost, none duplicated, in order");
    let grown = memory_is_bounded(run, broker, callback_log, &mut tally)?;
    tally.notes.push(format!("100 MB by {THREADS} threads through a limit of 1 MB: {grown:.1} MB more memory at most"));
    Ok(tally)
}

/// An in-flight limit, and how many events of a size it permits.
struct Limit {
    what: &'static str,
    properties: &'static [(&'static str, u64)],
    batch: u64,
    capacity: usize,
    size: usize,
}

impl Limit {
    fn apply_to<'a>(&self, mut builder: ProducerBuilder<'a>) -> ProducerBuilder<'a> {
        for (property, value) in self.properties {
            builder = builder.kafka(property, *value);
        }
        builder.batch_size(self.batch).max_batches(self.batch)
    }
}

fn push_fails_at_limit(broker: &Broker, callback_log: &CallbackLog, limit: &Limit) -> Result<u64> {
    let driver = broker.driver(callback_log, SHORT)?;
    let name = unique("small");
    let topic = broker.topic(callback_log, &driver, &name, 1)?;
    let producer = limit.apply_to(topic.producer("limited")).make().or_fail("creating a producer")?;
    let data = vec![0; limit.size];
    let push = || producer.push(&NewEvent::default().data(&data));
    push().and_then(|push| push.wait(MAX_WAIT)).or_fail("pushing while the broker is up")?;
    broker.pause()?;
    let accepted = (0..limit.capacity)
        .map(|_| within(Duration::ZERO, "a push below the limit", push)?.or_fail("pushing below the limit"))
        .collect::<Result<Vec<Push>>>()?;
    let (refused, waited) = within(SHORT, "a push at the limit", || {
        let began = Instant::now();
        (push(), began.elapsed())
    })?;
    check(waited >= SHORT, format_args!("a push at the limit waits {SHORT:?}, not {waited:?}"))?;
    check_limit_error(refused.map(drop), limit.capacity)?;
    broker.resume()?;
    let accepted = delivered(&accepted)?;
    check(
        accepted.iter().copied().eq(1..=limit.capacity as u64),
        format_args!("each accepted event is stored once: {accepted:?}"),
    )?;
    producer.close(MAX_WAIT).or_fail("closing, where rejected pushes are not counted")?;
    Ok(limit.capacity as u64 + 2)
}

fn check_limit_error(refused: octopus_loader::Result<()>, in_flight: usize) -> Result<()> {
    let Err(error) = refused else { return Err(Failure::new("a push at the limit is rejected")) };
    let actual = (error.status, error.retriable, error.persisted);
    let expected = (Status::Unreachable, true, Persisted::No);
    check(actual == expected, format_args!("a push at the limit fails with {expected:?}, not {error:?}"))?;
    let in_flight = format!("{in_flight} events");
    for word in [in_flight.as_str(), "queue.buffering.max.messages", "queue.buffering.max.kbytes", "brokers"] {
        check(error.message.contains(word), format_args!("a push at the limit names {word:?}, not only: {error}"))?;
    }
    Ok(())
}

/// Waits for the pushes and returns the offsets of their events.
fn delivered(pushes: &[Push]) -> Result<Vec<u64>> {
    let id = |push: &Push| {
        let id = push.wait(MAX_WAIT).or_fail("waiting for an accepted event")?.id;
        id.ok_or_else(|| Failure::new("a delivered event has an offset"))
    };
    pushes.iter().map(id).collect()
}

/// Threads push with a small in-flight limit while the broker is paused; they wait, and continue
/// when it does.
fn push_waits_at_limit(run: &Run, broker: &Broker, callback_log: &CallbackLog, round: u64, pauses: u32) -> Result<u64> {
    const MAX_EVENTS: u64 = 20;
    let each: u32 = run.pick(250, 2_000);
    let driver = broker.driver(callback_log, MAX_WAIT)?;
    let name = unique("waiting");
    let topic = broker.topic(callback_log, &driver, &name, 2)?;
    let producer = topic
        .producer("waiting")
        .kafka("queue.buffering.max.messages", MAX_EVENTS)
        .make()
        .or_fail("creating a producer")?;
    for partition in 0..2 {
        let first = NewEvent::json(&"first").partition(partition);
        producer.push(&first).and_then(|push| push.wait(MAX_WAIT)).or_fail("pushing while the broker is up")?;
    }
    broker.pause()?;
    let queued = AtomicU64::new(0);
    let mut rng = fastrand::Rng::with_seed(run.seed ^ round);
    let logs = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (producer, queued) = (&producer, &queued);
                scope.spawn(move || push_all(producer, thread, each, queued))
            })
            .collect();
        let check_full = || {
            let all = queued.load(Ordering::Relaxed);
            check(
                all <= MAX_EVENTS,
                format_args!("at most {MAX_EVENTS} events are accepted while the broker is paused, not {all}"),
            )?;
            Ok((all == MAX_EVENTS).then_some(()))
        };
        let full = eventually("the limit is reached", MAX_WAIT, check_full).and_then(|()| {
            thread::sleep(Duration::from_millis(300));
            check_full().map(drop)
        });
        let mut resumed = broker.resume();
        for _ in 0..pauses {
            thread::sleep(Duration::from_millis(rng.u64(1..200)));
            resumed = resumed.and(broker.pause());
            thread::sleep(Duration::from_millis(rng.u64(1..1_500)));
            resumed = resumed.and(broker.resume());
        }
        let logs: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        full.and(resumed).map(|()| logs)
    })?;
    let mut expected = BTreeSet::new();
    for log in logs {
        for event in log.map_err(|_| Failure::new("a thread that pushed panicked"))?? {
            let again = format_args!("each event has an offset of its own, {event:?} occurs twice");
            check(expected.insert(event.clone()), again)?;
        }
    }
    producer.close(MAX_WAIT).or_fail("closing")?;
    let bootstrap = match broker {
        Broker::Mock(mock) => mock.bootstrap(),
        Broker::Real(broker) => broker.bootstrap().to_owned(),
    };
    let stored = readback::all(&bootstrap, &name, 2, expected.len() + 2, MAX_WAIT)?;
    let stored: BTreeSet<_> = stored.into_iter().filter(|event| event.thread != "first").collect();
    let (lost, unexpected) = (expected.difference(&stored).count(), stored.difference(&expected).count());
    check(
        lost + unexpected == 0,
        format_args!("exactly the delivered events are stored: {lost} are missing, {unexpected} are unexpected"),
    )?;
    readback::check_order(&stored)?;
    Ok(expected.len() as u64)
}

fn push_all(producer: &Producer, thread: usize, count: u32, queued: &AtomicU64) -> Result<Vec<readback::StoredEvent>> {
    let mut pushes = Vec::new();
    for number in 0..count {
        let name = format!("{thread}");
        let event = NewEvent::json(&json!({"whose": name, "number": number})).partition((thread % 2) as u64);
        let push = producer.push(&event).or_fail("a push that waits at the limit")?;
        queued.fetch_add(1, Ordering::Relaxed);
        pushes.push((push, name, number));
    }
    let stored_event = |(push, thread, number): (Push, String, u32)| {
        let at = push.wait(MAX_WAIT).or_fail("waiting for an event that was accepted")?;
        let id = at.id.ok_or_else(|| Failure::new("a delivered event has an offset"))?;
        Ok(readback::StoredEvent { partition: at.partition, offset: id, thread, number })
    };
    pushes.into_iter().map(stored_event).collect()
}

/// Returns by how many megabytes the process has grown at most.
fn memory_is_bounded(run: &Run, broker: &Broker, callback_log: &CallbackLog, tally: &mut Tally) -> Result<f64> {
    const SIZE: usize = 10_000;
    const EVENTS: u64 = 10_000;
    /// The in-flight limit, a broker's requests and responses, threads' stacks; with a mock cluster
    /// its records too.
    const ALLOWED: f64 = 24.0;
    let driver = broker.driver(callback_log, Duration::from_millis(200))?;
    let topic = broker.topic(callback_log, &driver, &unique("memory"), 1)?;
    let producer =
        topic.producer("memory").kafka("queue.buffering.max.kbytes", 1_024).make().or_fail("creating a producer")?;
    let data = vec![1; SIZE];
    let push = || producer.push(&NewEvent::default().data(&data));
    push().and_then(|push| push.wait(MAX_WAIT)).or_fail("pushing while the broker is up")?;
    broker.pause()?;
    let before = process::resident()?;
    let (wanted, refused, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (largest, ids) = (AtomicU64::new(before), Mutex::new(BTreeSet::new()));
    let push_until_accepted = || -> Result<()> {
        let mut own = Vec::new();
        while wanted.fetch_add(1, Ordering::Relaxed) < EVENTS {
            loop {
                match push() {
                    Ok(push) => break own.push(push),
                    Err(error) => {
                        let is_expected = error.status == Status::Unreachable && error.retriable;
                        check(is_expected, format_args!("a push at the limit fails as retriable: {error:?}"))?;
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        let delivered = delivered(&own)?;
        lock(&ids).extend(delivered);
        Ok(())
    };
    thread::scope(|scope| {
        let watch = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                largest.fetch_max(process::resident()?, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(push_until_accepted)).collect();
        let min_rejected = run.pick(16, 100);
        let rejected = eventually("enough pushes were rejected", MAX_WAIT, || {
            Ok((refused.load(Ordering::Relaxed) >= min_rejected).then_some(()))
        });
        let resumed = broker.resume();
        let done = threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>();
        over.store(true, Ordering::Relaxed);
        rejected.and(resumed)?;
        for done in done.into_iter().chain([watch.join()]) {
            done.map_err(|_| Failure::new("a thread panicked"))??;
        }
        Ok(())
    })?;
    let all = lock(&ids).iter().copied().eq(1..=EVENTS);
    check(all, format_args!("{EVENTS} events have consecutive offsets: {}", lock(&ids).len()))?;
    producer.close(MAX_WAIT).or_fail("closing")?;
    tally.events += EVENTS + 1;
    let grown = (largest.into_inner() - before) as f64 / 1e6;
    check(grown < ALLOWED, format_args!("memory grows by less than {ALLOWED} MB, not {grown:.1} MB"))?;
    Ok(grown)
}

fn unique(name: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
