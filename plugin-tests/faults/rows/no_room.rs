//! Row 9: a producer's room is full, as the broker doesn't take anything. In CI that is a mock cluster which is down, else a
//! real broker that is stopped where it stands.

mod readback;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, NewEvent, Persisted, Producer, ProducerBuilder, Push, Status, Topic, TopicOptions};
use serde_json::json;

use super::host::{Heard, held, within};
use super::mock::{ALL, Mock};
use super::own_broker::OwnBroker;
use super::process;
use crate::run::{Failure, OrFail, Result, Run, Tally, check, eventually};

const PATIENCE: Duration = Duration::from_mins(1);
/// The drivers' `timeout_ms`, where a push shall wait in vain.
const SHORT: Duration = Duration::from_millis(1_200);
const THREADS: usize = 8;

/// What doesn't take anything for a while.
enum Broker {
    Mock(Mock),
    Real(OwnBroker),
}

impl Broker {
    fn start(run: &Run) -> Result<Self> {
        if run.full { OwnBroker::start().map(Broker::Real) } else { Mock::start(1).map(Broker::Mock) }
    }

    fn driver(&self, heard: &Heard, timeout: Duration) -> Result<Driver> {
        let bootstrap = match self {
            Broker::Mock(mock) => mock.bootstrap(),
            Broker::Real(broker) => broker.bootstrap.clone(),
        };
        let kafka = json!({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 500});
        heard.driver(json!({"kafka": kafka, "disable_info_topic": true, "timeout_ms": timeout.as_millis() as u64}))
    }

    /// Made and found without hurry, whatever time limit its driver has.
    fn topic(&self, heard: &Heard, driver: &Driver, name: &str, partitions: u32) -> Result<Topic> {
        match self {
            Broker::Mock(mock) => mock.topic(name, &vec![1; partitions as usize])?,
            Broker::Real(_) => self
                .driver(heard, PATIENCE)?
                .create_topic(name, &TopicOptions::default().partitions(partitions).replication(1))
                .or_fail("making a topic")?,
        }
        eventually("the topic can be opened", PATIENCE, || match driver.open_topic(name) {
            Err(error) if error.status == Status::Unreachable => Ok(None),
            opened => opened.map(Some).or_fail("opening a topic"),
        })
    }

    fn stop(&self) -> Result<()> {
        match self {
            Broker::Mock(mock) => mock.down(ALL),
            Broker::Real(broker) => broker.stop(),
        }
    }

    fn go_on(&self) -> Result<()> {
        match self {
            Broker::Mock(mock) => mock.up(ALL),
            Broker::Real(broker) => broker.go_on(),
        }
    }
}

pub fn run(run: &Run) -> Result<Tally> {
    let (broker, heard) = (Broker::start(run)?, Heard::default());
    let played = play(run, &broker, &heard);
    heard.keep(run);
    played
}

fn play(run: &Run, broker: &Broker, heard: &Heard) -> Result<Tally> {
    let mut tally = Tally::default();
    let limits = [
        Limit { what: "10 events", properties: &[("queue.buffering.max.messages", 10)], batch: 0, fits: 10, size: 10 },
        Limit { what: "8 KiB", properties: &[("queue.buffering.max.kbytes", 8)], batch: 0, fits: 7, size: 1_000 },
        // One event a batch and one batch: so few would make a crawl of it.
        Limit { what: "batch parameters", properties: &[], batch: 1, fits: 10_000, size: 1 },
    ];
    for limit in limits {
        tally.events += is_refused_for_want_of_room(broker, heard, &limit)?;
        run.say(format_args!(
            "a room of {}: refused in time, with the reason, and all that had room is there",
            limit.what
        ));
    }
    for round in 0..run.pick(1, 5) {
        let pauses = run.pick(0, 8);
        tally.events += waits_until_there_is_room(run, broker, heard, round, pauses)?;
    }
    run.say("pushes that waited went through: none lost, none doubled, in order");
    let grown = memory_is_bounded(run, broker, heard, &mut tally)?;
    tally.notes.push(format!("100 MB by {THREADS} threads through 1 MB of room: {grown:.1} MB more memory at most"));
    Ok(tally)
}

/// A room, and how many events of a size it has place for.
struct Limit {
    what: &'static str,
    properties: &'static [(&'static str, u64)],
    batch: u64,
    fits: usize,
    size: usize,
}

impl Limit {
    fn lay_down<'a>(&self, mut builder: ProducerBuilder<'a>) -> ProducerBuilder<'a> {
        for (property, value) in self.properties {
            builder = builder.kafka(property, *value);
        }
        builder.batch_size(self.batch).max_batches(self.batch)
    }
}

fn is_refused_for_want_of_room(broker: &Broker, heard: &Heard, limit: &Limit) -> Result<u64> {
    let driver = broker.driver(heard, SHORT)?;
    let name = unique("small");
    let topic = broker.topic(heard, &driver, &name, 1)?;
    let producer = limit.lay_down(topic.producer("cramped")).make().or_fail("making a producer")?;
    let data = vec![0; limit.size];
    let push = || producer.push(&NewEvent::default().data(&data));
    push().and_then(|push| push.wait(PATIENCE)).or_fail("pushing while the broker takes events")?;
    broker.stop()?;
    let fitting = (0..limit.fits)
        .map(|_| within(Duration::ZERO, "a push that has room", push)?.or_fail("pushing into the room"))
        .collect::<Result<Vec<Push>>>()?;
    let (refused, waited) = within(SHORT, "a push without room", || {
        let began = Instant::now();
        (push(), began.elapsed())
    })?;
    check(waited >= SHORT, format_args!("a push waits {SHORT:?} for room, not {waited:?}"))?;
    is_no_room(refused.map(drop), limit.fits)?;
    broker.go_on()?;
    let fitting = delivered(&fitting)?;
    check(fitting.iter().copied().eq(1..=limit.fits as u64), format_args!("what had room is there once: {fitting:?}"))?;
    producer.close(PATIENCE).or_fail("closing: what was refused is not counted")?;
    Ok(limit.fits as u64 + 2)
}

fn is_no_room(refused: octopus_loader::Result<()>, in_flight: usize) -> Result<()> {
    let Err(error) = refused else { return Err(Failure::new("a push without room is refused")) };
    let is = (error.status, error.retriable, error.persisted);
    let expected = (Status::Unreachable, true, Persisted::No);
    check(is == expected, format_args!("a push without room is {expected:?}, not {error:?}"))?;
    let in_flight = format!("{in_flight} events");
    for word in [in_flight.as_str(), "queue.buffering.max.messages", "queue.buffering.max.kbytes", "brokers"] {
        check(error.message.contains(word), format_args!("a push without room names {word:?}, not only: {error}"))?;
    }
    Ok(())
}

/// Where each of them is.
fn delivered(pushes: &[Push]) -> Result<Vec<u64>> {
    let id = |push: &Push| {
        let id = push.wait(PATIENCE).or_fail("waiting for an event that had room")?.id;
        id.ok_or_else(|| Failure::new("the broker says where an event is"))
    };
    pushes.iter().map(id).collect()
}

/// Threads push into a small room while the broker stands still, wait, and go on when it does.
fn waits_until_there_is_room(run: &Run, broker: &Broker, heard: &Heard, round: u64, pauses: u32) -> Result<u64> {
    const ROOM: u64 = 20;
    let each: u32 = run.pick(250, 2_000);
    let driver = broker.driver(heard, PATIENCE)?;
    let name = unique("waiting");
    let topic = broker.topic(heard, &driver, &name, 2)?;
    let producer =
        topic.producer("patient").kafka("queue.buffering.max.messages", ROOM).make().or_fail("a producer")?;
    for partition in 0..2 {
        let first = NewEvent::json(&"first").partition(partition);
        producer.push(&first).and_then(|push| push.wait(PATIENCE)).or_fail("pushing while the broker takes events")?;
    }
    broker.stop()?;
    let queued = AtomicU64::new(0);
    let mut chance = fastrand::Rng::with_seed(run.seed ^ round);
    let logs = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (producer, queued) = (&producer, &queued);
                scope.spawn(move || push_all(producer, thread, each, queued))
            })
            .collect();
        let stands = || {
            let all = queued.load(Ordering::Relaxed);
            check(all <= ROOM, format_args!("at most {ROOM} events have room while nobody takes any, not {all}"))?;
            Ok((all == ROOM).then_some(()))
        };
        let stood = eventually("the room is full", PATIENCE, stands).and_then(|()| {
            thread::sleep(Duration::from_millis(300));
            stands().map(drop)
        });
        let mut told = broker.go_on();
        for _ in 0..pauses {
            thread::sleep(Duration::from_millis(chance.u64(1..200)));
            told = told.and(broker.stop());
            thread::sleep(Duration::from_millis(chance.u64(1..1_500)));
            told = told.and(broker.go_on());
        }
        let logs: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        stood.and(told).map(|()| logs)
    })?;
    let mut expected = BTreeSet::new();
    for log in logs {
        for place in log.map_err(|_| Failure::new("a thread that pushed panicked"))?? {
            let again = format_args!("each event has a place of its own, not {place:?} again");
            check(expected.insert(place.clone()), again)?;
        }
    }
    producer.close(PATIENCE).or_fail("closing")?;
    let bootstrap = match broker {
        Broker::Mock(mock) => mock.bootstrap(),
        Broker::Real(broker) => broker.bootstrap.clone(),
    };
    let there = readback::all(&bootstrap, &name, 2, expected.len() + 2, PATIENCE)?;
    let there: BTreeSet<_> = there.into_iter().filter(|place| place.whose != "first").collect();
    let (lost, strange) = (expected.difference(&there).count(), there.difference(&expected).count());
    check(
        lost + strange == 0,
        format_args!("what was delivered is there and nothing else: {lost} are missing, {strange} are not known"),
    )?;
    readback::is_in_order(&there)?;
    Ok(expected.len() as u64)
}

fn push_all(producer: &Producer, thread: usize, count: u32, queued: &AtomicU64) -> Result<Vec<readback::Place>> {
    let mut pushes = Vec::new();
    for number in 0..count {
        let whose = format!("{thread}");
        let event = NewEvent::json(&json!({"whose": whose, "number": number})).partition((thread % 2) as u64);
        let push = producer.push(&event).or_fail("a push that waits until there is room")?;
        queued.fetch_add(1, Ordering::Relaxed);
        pushes.push((push, whose, number));
    }
    let place = |(push, whose, number): (Push, String, u32)| {
        let at = push.wait(PATIENCE).or_fail("waiting for an event that found room")?;
        let id = at.id.ok_or_else(|| Failure::new("the broker says where an event is"))?;
        Ok(readback::Place { partition: at.partition, offset: id, whose, number })
    };
    pushes.into_iter().map(place).collect()
}

/// Gives by how many megabytes the process grew at most.
fn memory_is_bounded(run: &Run, broker: &Broker, heard: &Heard, tally: &mut Tally) -> Result<f64> {
    const SIZE: usize = 10_000;
    const EVENTS: u64 = 10_000;
    /// The room, a broker's requests and answers, threads' stacks; of a mock cluster its records too.
    const ALLOWED: f64 = 24.0;
    let driver = broker.driver(heard, Duration::from_millis(200))?;
    let topic = broker.topic(heard, &driver, &unique("heavy"), 1)?;
    let producer = topic.producer("pressed").kafka("queue.buffering.max.kbytes", 1_024).make().or_fail("a producer")?;
    let data = vec![1; SIZE];
    let push = || producer.push(&NewEvent::default().data(&data));
    push().and_then(|push| push.wait(PATIENCE)).or_fail("pushing while the broker takes events")?;
    broker.stop()?;
    let before = process::resident()?;
    let (wanted, refused, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (largest, ids) = (AtomicU64::new(before), Mutex::new(BTreeSet::new()));
    let pressing = || -> Result<()> {
        let mut own = Vec::new();
        while wanted.fetch_add(1, Ordering::Relaxed) < EVENTS {
            loop {
                match push() {
                    Ok(push) => break own.push(push),
                    Err(error) => {
                        let is = error.status == Status::Unreachable && error.retriable;
                        check(is, format_args!("without room a push is to be tried again: {error:?}"))?;
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        let delivered = delivered(&own)?;
        held(&ids).extend(delivered);
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
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(pressing)).collect();
        let turned_away = run.pick(16, 100);
        let pressed = eventually("all threads were turned away", PATIENCE, || {
            Ok((refused.load(Ordering::Relaxed) >= turned_away).then_some(()))
        });
        let told = broker.go_on();
        let done = threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>();
        over.store(true, Ordering::Relaxed);
        pressed.and(told)?;
        for done in done.into_iter().chain([watch.join()]) {
            done.map_err(|_| Failure::new("a thread panicked"))??;
        }
        Ok(())
    })?;
    let all = held(&ids).iter().copied().eq(1..=EVENTS);
    check(all, format_args!("{EVENTS} events are at as many offsets in a row: {}", held(&ids).len()))?;
    producer.close(PATIENCE).or_fail("closing")?;
    tally.events += EVENTS + 1;
    let grown = (largest.into_inner() - before) as f64 / 1e6;
    check(grown < ALLOWED, format_args!("memory grows by less than {ALLOWED} MB, not {grown:.1} MB"))?;
    Ok(grown)
}

fn unique(name: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
