//! Row 19: all objects are created, used and released repeatedly, in random order, with futures and
//! events still held, every third time without a broker. Only what is still held remains, and
//! nothing once that is released.

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use octopus_loader::{Bounds, Consumer, Event, Flow, NewEvent, Producer, Status, Topic, TopicOptions};
use octopus_testkit::Kafka;
use serde_json::json;

use super::host::{CallbackLog, lock, octopus, within};
use super::no_broker::address::Address;
use super::process;
use crate::run::{Failure, OrFail, Result, Run, Tally, check, eventually};

const MAX_WAIT: Duration = Duration::from_secs(30);
/// The time limit of each close.
const MAX_CLOSE_TIME: Duration = Duration::from_secs(5);
/// A consumer that leaves its group while the broker is down takes the longest:
/// docs/reference/abi.md, "Closing and releasing".
const MAX_SETTLE_TIME: Duration = Duration::from_secs(60);
/// Large enough that a held event keeps its fetch response, and with it the consumer's client.
const LARGE: usize = 10_000;
const TOPICS: usize = 4;

/// An object that is released in random order.
type Handle = Box<dyn Any + Send>;

/// The resources of the process that could leak.
#[derive(Debug, Clone, Copy)]
struct ResourceCount {
    threads: usize,
    descriptors: usize,
}

impl ResourceCount {
    fn now() -> Result<Self> {
        Ok(ResourceCount { threads: process::threads()?, descriptors: process::descriptors()? })
    }

    fn is_at_most(self, other: ResourceCount) -> bool {
        self.threads <= other.threads && self.descriptors <= other.descriptors
    }
}

pub fn run(run: &Run) -> Result<Tally> {
    let (rounds, cycles) = run.pick((6, 5), (100, 10));
    let (broker, closed_address, callback_log) = (Kafka::start(&[])?, Address::closed()?, CallbackLog::default());
    let environment = Environment {
        broker: &broker,
        closed_address: &closed_address,
        callback_log: &callback_log,
        events: AtomicU64::new(0),
    };
    let base = {
        let driver = environment.driver(broker.bootstrap(), MAX_WAIT)?;
        for number in 0..TOPICS {
            let options = TopicOptions::default().partitions(2).replication(1);
            driver.create_topic(&topic_name(number), &options).or_fail("creating a topic")?;
        }
        // The first use creates what the process keeps for good, e.g. a thread for callbacks.
        drop(driver);
        environment.round(run, u64::MAX, 3)?;
        settled("the first round is over", None)?
    };
    run.report(format_args!("starts with {base:?}"));
    let mut memory = Vec::new();
    for round in 0..rounds {
        let kept = environment.round(run, round, cycles)?;
        let keeps_a_client = kept.iter().any(|event| event.data().len() == LARGE);
        let keeps_threads = !keeps_a_client || ResourceCount::now()?.threads > base.threads;
        check(keeps_threads, "a large event that is held keeps its consumer's client")?;
        drop(kept);
        settled(format_args!("round {round} is over and nothing is held"), Some(base))?;
        // Recorded log lines would look like leaked memory.
        callback_log.write_to(run);
        let bytes = process::allocated();
        run.log(format_args!("after round {round}: {bytes} bytes, {:?}", ResourceCount::now()?));
        memory.push(bytes as f64 / 1e3);
    }
    let (middle, last) = (
        mean(&memory[rounds as usize / 3..][..rounds as usize / 3]),
        mean(&memory[memory.len() - rounds as usize / 3..]),
    );
    /// Structures that grow in steps, such as tables, cause differences of this size. It is less
    /// than 400 bytes per cycle.
    const NOISE_KB: f64 = 100.0;
    let grew = format_args!(
        "memory is constant: {middle:.0} kB in the middle third, {last:.0} kB in the last; all: {memory:.0?}"
    );
    check(last < middle + NOISE_KB, grew)?;
    let notes = vec![
        format!("{} cycles; threads and descriptors as before", rounds * cycles),
        format!("memory {middle:.0} kB in the middle third, {last:.0} kB in the last"),
    ];
    Ok(Tally { events: environment.events.into_inner(), notes })
}

fn topic_name(number: usize) -> String {
    format!("open-and-close-{number}")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Waits until the background work has ended, and returns the resources: no more than `base` if
/// that is given.
fn settled(when: impl std::fmt::Display, base: Option<ResourceCount>) -> Result<ResourceCount> {
    let mut last = ResourceCount::now()?;
    let mut same = 0;
    let what = format!("{when}, no more threads and descriptors than {base:?}");
    let found = eventually(&what, MAX_SETTLE_TIME, || {
        let now = ResourceCount::now()?;
        same = if (now.threads, now.descriptors) == (last.threads, last.descriptors) { same + 1 } else { 0 };
        last = now;
        let is_settled = match base {
            Some(base) => now.is_at_most(base),
            // Nothing has changed for two seconds.
            None => same >= 100,
        };
        Ok(is_settled.then_some(now))
    });
    found.map_err(|why| Failure::new(format_args!("{why}; there are {last:?}: {}", process::thread_names())))
}

struct Environment<'a> {
    broker: &'a Kafka,
    closed_address: &'a Address,
    callback_log: &'a CallbackLog,
    events: AtomicU64,
}

impl Environment<'_> {
    fn driver(&self, bootstrap: &str, timeout: Duration) -> Result<octopus_loader::Driver> {
        self.callback_log.driver(json!({
            "kafka": {"bootstrap.servers": bootstrap},
            "disable_info_topic": true,
            "timeout_ms": timeout.as_millis() as u64,
        }))
    }

    /// Runs this many cycles, five at a time, and returns the events that are still held.
    fn round(&self, run: &Run, round: u64, cycles: u64) -> Result<Vec<Event>> {
        const AT_ONCE: u64 = 5;
        let (kept, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
        thread::scope(|scope| {
            for thread in 0..AT_ONCE.min(cycles) {
                let (kept, failed) = (&kept, &failed);
                scope.spawn(move || {
                    for cycle in (thread..cycles).step_by(AT_ONCE as usize) {
                        let number = round.wrapping_mul(cycles).wrapping_add(cycle);
                        let mut rng = fastrand::Rng::with_seed(run.seed ^ number);
                        match self.cycle(number, &mut rng) {
                            Ok(events) => lock(kept).extend(events),
                            Err(why) => {
                                lock(failed).get_or_insert(Failure::new(format_args!("cycle {number}: {why}")));
                            }
                        }
                    }
                });
            }
        });
        let failed = lock(&failed).take();
        failed.map_or(Ok(()), Err)?;
        Ok(std::mem::take(&mut *lock(&kept)))
    }

    fn cycle(&self, number: u64, rng: &mut fastrand::Rng) -> Result<Vec<Event>> {
        let mut handles: Vec<Handle> = Vec::new();
        let driver = self.driver(self.broker.bootstrap(), MAX_WAIT)?;
        let topic = driver.open_topic(&topic_name(rng.usize(..TOPICS))).or_fail("opening a topic")?;
        let pool = octopus()?.thread_pool(rng.u64(..3)).or_fail("creating a pool")?;
        let mut kept = Vec::new();
        if number % 3 == 2 {
            self.use_closed_address(&topic, &mut handles, rng)?;
        } else {
            let producer = topic.producer("opened").pool(&pool).make().or_fail("creating a producer")?;
            self.push(&producer, &mut handles, rng)?;
            // A group name is used either by group members or by readers with targets:
            // docs/reference/abi.md, "Consuming".
            let name = rng.u8(..4);
            let consumer = match rng.bool() {
                true => topic.consumer(&format!("reader-{name}")).targets(&[0, 1]),
                false => topic.consumer(&format!("group-{name}")),
            };
            let consumer = consumer.make().or_fail("creating a consumer")?;
            kept = self.pull(&consumer, &mut handles, rng)?;
            self.end(producer, consumer, &mut handles, rng, true)?;
        }
        handles.extend([Box::new(driver) as Handle, Box::new(topic), Box::new(pool)]);
        rng.shuffle(&mut handles);
        for handle in handles {
            within(Duration::from_millis(500), "releasing a handle", || drop(handle))?;
        }
        Ok(kept)
    }

    fn push(&self, producer: &Producer, handles: &mut Vec<Handle>, rng: &mut fastrand::Rng) -> Result<()> {
        let large = vec![7; LARGE];
        for number in 0..rng.u64(1..40) {
            let data = if number % 4 == 0 { &large[..] } else { &large[..100] };
            let push = producer.push(&NewEvent::json(&json!({"number": number})).data(data).partition(number % 2));
            let push = push.or_fail("pushing")?;
            self.events.fetch_add(1, Ordering::Relaxed);
            match rng.u8(..4) {
                0 => drop(push.wait(MAX_WAIT).or_fail("waiting for a push")?),
                1 => push.on_complete(|_| ()).or_fail("registering a completion of a push")?,
                2 => handles.push(Box::new(push)),
                _ => drop(push),
            }
        }
        handles.push(Box::new(producer.flush().or_fail("flushing")?));
        Ok(())
    }

    /// Reads some events, returns some of them to be held, and leaves pending pulls.
    fn pull(&self, consumer: &Consumer, handles: &mut Vec<Handle>, rng: &mut fastrand::Rng) -> Result<Vec<Event>> {
        let mut kept = Vec::new();
        // Another member of the group may have the events.
        for _ in 0..rng.u8(1..8) {
            let Some(event) = consumer.next(Duration::from_millis(300)).or_fail("pulling")? else { break };
            self.events.fetch_add(1, Ordering::Relaxed);
            match event.acknowledge() {
                Err(error) if error.status != Status::Stale => return Err(Failure::new(error)),
                _ => {}
            }
            if rng.bool() { kept.push(event) } else { handles.push(Box::new(event)) }
        }
        let pull = consumer.pull().or_fail("pulling")?;
        let tested = consumer.pull().or_fail("pulling")?;
        tested.is_done().or_fail("testing a pull")?;
        handles.extend([Box::new(pull) as Handle, Box::new(tested)]);
        consumer.pull().and_then(|pull| pull.on_complete(|_| ())).or_fail("registering a completion of a pull")?;
        let bounds = Bounds { timeout: Duration::from_millis(50), max_events: 5 };
        consumer
            .process(bounds, None, |event| Ok(if event.is_some() { Flow::Continue } else { Flow::Stop }))
            .or_fail("processing")?;
        Ok(kept)
    }

    /// Uses a driver, a producer and a consumer whose broker refuses connections.
    fn use_closed_address(&self, topic: &Topic, handles: &mut Vec<Handle>, rng: &mut fastrand::Rng) -> Result<()> {
        let at = self.closed_address.address.as_str();
        let driver = self.driver(at, Duration::from_millis(200))?;
        let opened = driver.open_topic("nowhere").map(drop);
        let unreachable = opened.as_ref().is_err_and(|error| error.status == Status::Unreachable);
        check(unreachable, format_args!("no broker is reachable, not {opened:?}"))?;
        let producer = topic.producer("unreachable").kafka("bootstrap.servers", at).kafka("delivery.timeout.ms", 1_000);
        let producer = producer.make().or_fail("creating a producer")?;
        for _ in 0..rng.usize(1..20) {
            handles.push(Box::new(producer.push(&NewEvent::default()).or_fail("pushing")?));
            self.events.fetch_add(1, Ordering::Relaxed);
        }
        handles.push(Box::new(producer.flush().or_fail("flushing")?));
        let consumer =
            topic.consumer("unreachable").kafka("bootstrap.servers", at).make().or_fail("creating a consumer")?;
        let pull = consumer.pull().or_fail("pulling")?;
        let nothing = pull.wait(Duration::from_millis(50)).or_fail("waiting for an event")?;
        check(nothing.is_none(), "an unreachable broker returns no events")?;
        handles.extend([Box::new(driver) as Handle, Box::new(pull)]);
        self.end(producer, consumer, handles, rng, false)
    }

    /// Closes both, one or none of them; what is not closed is only released.
    fn end(
        &self,
        producer: Producer,
        consumer: Consumer,
        handles: &mut Vec<Handle>,
        rng: &mut fastrand::Rng,
        is_well: bool,
    ) -> Result<()> {
        let check_closed = |what: &str, closed: octopus_loader::Result<()>| match closed {
            Err(error) if is_well => Err(Failure::new(format_args!("{what} while the broker is up: {error}"))),
            _ => Ok(()),
        };
        let close_producer = || within(MAX_CLOSE_TIME, "closing a producer", || producer.close(MAX_CLOSE_TIME));
        let close_consumer = || within(MAX_CLOSE_TIME, "closing a consumer", || consumer.close(MAX_CLOSE_TIME));
        match rng.u8(..4) {
            0 => {}
            1 => check_closed("closing a producer", close_producer()?)?,
            2 => check_closed("closing a consumer", close_consumer()?)?,
            _ => {
                check_closed("closing a consumer", close_consumer()?)?;
                check_closed("closing a producer", close_producer()?)?;
            }
        }
        handles.extend([Box::new(producer) as Handle, Box::new(consumer)]);
        Ok(())
    }
}
