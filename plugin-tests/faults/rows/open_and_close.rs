//! Row 19: everything is opened, used, and let go of, again and again, in any order, with futures and events still in hand,
//! every third time without a broker. Nothing is left but what is still held, and then nothing.

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use octopus_loader::{Bounds, Consumer, Event, Flow, NewEvent, Producer, Status, Topic, TopicOptions};
use serde_json::json;

use super::host::{Heard, held, octopus, within};
use super::no_broker::address::Address;
use super::own_broker::OwnBroker;
use super::process;
use crate::run::{Failure, OrFail, Result, Run, Tally, check, eventually};

const PATIENCE: Duration = Duration::from_secs(30);
/// For each close.
const CLOSING: Duration = Duration::from_secs(5);
/// Leaving a group behind a broker that is gone takes the longest: docs/abi.md, "Closing and releasing".
const SETTLING: Duration = Duration::from_secs(60);
/// Large enough to keep the broker's response that it came in, and with it the consumer's client.
const LARGE: usize = 10_000;
const TOPICS: usize = 4;

/// What is given back in random order.
type Handle = Box<dyn Any + Send>;

/// What a process has that could leak.
#[derive(Debug, Clone, Copy)]
struct Count {
    threads: usize,
    descriptors: usize,
}

impl Count {
    fn now() -> Result<Self> {
        Ok(Count { threads: process::threads()?, descriptors: process::descriptors()? })
    }

    fn is_at_most(self, other: Count) -> bool {
        self.threads <= other.threads && self.descriptors <= other.descriptors
    }
}

pub fn run(run: &Run) -> Result<Tally> {
    let (rounds, cycles) = run.pick((6, 5), (100, 10));
    let (broker, nobody, heard) = (OwnBroker::start()?, Address::closed()?, Heard::default());
    let setting = Setting { broker: &broker, nobody: &nobody, heard: &heard, events: AtomicU64::new(0) };
    let base = {
        let driver = setting.driver(&broker.bootstrap, PATIENCE)?;
        for number in 0..TOPICS {
            let options = TopicOptions::default().partitions(2).replication(1);
            driver.create_topic(&topic_name(number), &options).or_fail("making a topic")?;
        }
        // What the process keeps for good, a thread for callbacks say, is made by the first use.
        drop(driver);
        setting.round(run, u64::MAX, 3)?;
        settled("the first round is over", None)?
    };
    run.say(format_args!("begins with {base:?}"));
    let mut memory = Vec::new();
    for round in 0..rounds {
        let kept = setting.round(run, round, cycles)?;
        let keeps_a_client = kept.iter().any(|event| event.data().len() == LARGE);
        let as_said = !keeps_a_client || Count::now()?.threads > base.threads;
        check(as_said, "a large event that is held keeps its consumer's client")?;
        drop(kept);
        settled(format_args!("round {round} is over and nothing is held"), Some(base))?;
        // What is kept here would look like what is left there.
        heard.keep(run);
        let bytes = process::allocated();
        run.keep(format_args!("after round {round}: {bytes} bytes, {:?}", Count::now()?));
        memory.push(bytes as f64 / 1e3);
    }
    let (middle, last) = (
        mean(&memory[rounds as usize / 3..][..rounds as usize / 3]),
        mean(&memory[memory.len() - rounds as usize / 3..]),
    );
    /// What is taken in steps, a table that grows say, differs by so much: less than 400 bytes for each time.
    const NOISE_KB: f64 = 100.0;
    let grew =
        format_args!("memory stays: {middle:.0} kB in the middle third, {last:.0} kB in the last; all: {memory:.0?}");
    check(last < middle + NOISE_KB, grew)?;
    let notes = vec![
        format!("{} times; threads and descriptors as before", rounds * cycles),
        format!("memory {middle:.0} kB in the middle third, {last:.0} kB in the last"),
    ];
    Ok(Tally { events: setting.events.into_inner(), notes })
}

fn topic_name(number: usize) -> String {
    format!("open-and-close-{number}")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What there is once nothing goes on in the background any more; no more than before, if that is known.
fn settled(when: impl std::fmt::Display, base: Option<Count>) -> Result<Count> {
    let mut last = Count::now()?;
    let mut same = 0;
    let what = format!("{when}, no more threads and descriptors than {base:?}");
    let found = eventually(&what, SETTLING, || {
        let now = Count::now()?;
        same = if (now.threads, now.descriptors) == (last.threads, last.descriptors) { same + 1 } else { 0 };
        last = now;
        let is_settled = match base {
            Some(base) => now.is_at_most(base),
            // Nothing has come or gone for two seconds.
            None => same >= 100,
        };
        Ok(is_settled.then_some(now))
    });
    found.map_err(|why| Failure::new(format_args!("{why}; there are {last:?}: {}", process::thread_names())))
}

struct Setting<'a> {
    broker: &'a OwnBroker,
    nobody: &'a Address,
    heard: &'a Heard,
    events: AtomicU64,
}

impl Setting<'_> {
    fn driver(&self, bootstrap: &str, timeout: Duration) -> Result<octopus_loader::Driver> {
        self.heard.driver(json!({
            "kafka": {"bootstrap.servers": bootstrap},
            "disable_info_topic": true,
            "timeout_ms": timeout.as_millis() as u64,
        }))
    }

    /// So many times, five at a time; gives the events that are still held.
    fn round(&self, run: &Run, round: u64, cycles: u64) -> Result<Vec<Event>> {
        const AT_ONCE: u64 = 5;
        let (kept, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
        thread::scope(|scope| {
            for thread in 0..AT_ONCE.min(cycles) {
                let (kept, failed) = (&kept, &failed);
                scope.spawn(move || {
                    for cycle in (thread..cycles).step_by(AT_ONCE as usize) {
                        let number = round.wrapping_mul(cycles).wrapping_add(cycle);
                        let mut chance = fastrand::Rng::with_seed(run.seed ^ number);
                        match self.cycle(number, &mut chance) {
                            Ok(events) => held(kept).extend(events),
                            Err(why) => {
                                held(failed).get_or_insert(Failure::new(format_args!("time {number}: {why}")));
                            }
                        }
                    }
                });
            }
        });
        let failed = held(&failed).take();
        failed.map_or(Ok(()), Err)?;
        Ok(std::mem::take(&mut *held(&kept)))
    }

    fn cycle(&self, number: u64, chance: &mut fastrand::Rng) -> Result<Vec<Event>> {
        let mut handles: Vec<Handle> = Vec::new();
        let driver = self.driver(&self.broker.bootstrap, PATIENCE)?;
        let topic = driver.open_topic(&topic_name(chance.usize(..TOPICS))).or_fail("opening a topic")?;
        let pool = octopus()?.thread_pool(chance.u64(..3)).or_fail("making a pool")?;
        let mut kept = Vec::new();
        if number % 3 == 2 {
            self.use_nobody(&topic, &mut handles, chance)?;
        } else {
            let producer = topic.producer("opened").pool(&pool).make().or_fail("making a producer")?;
            self.push(&producer, &mut handles, chance)?;
            // A name is used either by members of a group or by readers with targets: docs/abi.md, "Consuming".
            let name = chance.u8(..4);
            let consumer = match chance.bool() {
                true => topic.consumer(&format!("reader-{name}")).targets(&[0, 1]),
                false => topic.consumer(&format!("group-{name}")),
            };
            let consumer = consumer.make().or_fail("making a consumer")?;
            kept = self.pull(&consumer, &mut handles, chance)?;
            self.end(producer, consumer, &mut handles, chance, true)?;
        }
        handles.extend([Box::new(driver) as Handle, Box::new(topic), Box::new(pool)]);
        chance.shuffle(&mut handles);
        for handle in handles {
            within(Duration::from_millis(500), "releasing a handle", || drop(handle))?;
        }
        Ok(kept)
    }

    fn push(&self, producer: &Producer, handles: &mut Vec<Handle>, chance: &mut fastrand::Rng) -> Result<()> {
        let large = vec![7; LARGE];
        for number in 0..chance.u64(1..40) {
            let data = if number % 4 == 0 { &large[..] } else { &large[..100] };
            let push = producer.push(&NewEvent::json(&json!({"number": number})).data(data).partition(number % 2));
            let push = push.or_fail("pushing")?;
            self.events.fetch_add(1, Ordering::Relaxed);
            match chance.u8(..4) {
                0 => drop(push.wait(PATIENCE).or_fail("waiting for a push")?),
                1 => push.on_complete(|_| ()).or_fail("asking to be told of a push")?,
                2 => handles.push(Box::new(push)),
                _ => drop(push),
            }
        }
        handles.push(Box::new(producer.flush().or_fail("flushing")?));
        Ok(())
    }

    /// Reads some events, gives some of them to be held, and leaves tickets behind.
    fn pull(&self, consumer: &Consumer, handles: &mut Vec<Handle>, chance: &mut fastrand::Rng) -> Result<Vec<Event>> {
        let mut kept = Vec::new();
        // Another member of the group may have what is there.
        for _ in 0..chance.u8(1..8) {
            let Some(event) = consumer.next(Duration::from_millis(300)).or_fail("pulling")? else { break };
            self.events.fetch_add(1, Ordering::Relaxed);
            match event.acknowledge() {
                Err(error) if error.status != Status::Stale => return Err(Failure::new(error)),
                _ => {}
            }
            if chance.bool() { kept.push(event) } else { handles.push(Box::new(event)) }
        }
        let ticket = consumer.pull().or_fail("pulling")?;
        let tested = consumer.pull().or_fail("pulling")?;
        tested.is_done().or_fail("testing a pull")?;
        handles.extend([Box::new(ticket) as Handle, Box::new(tested)]);
        consumer.pull().and_then(|ticket| ticket.on_complete(|_| ())).or_fail("asking to be told of an event")?;
        let bounds = Bounds { timeout: Duration::from_millis(50), max_events: 5 };
        consumer
            .process(bounds, None, |event| Ok(if event.is_some() { Flow::Continue } else { Flow::Stop }))
            .or_fail("processing")?;
        Ok(kept)
    }

    /// A driver, a producer and a consumer that find nobody.
    fn use_nobody(&self, topic: &Topic, handles: &mut Vec<Handle>, chance: &mut fastrand::Rng) -> Result<()> {
        let at = self.nobody.at.as_str();
        let driver = self.driver(at, Duration::from_millis(200))?;
        let opened = driver.open_topic("nowhere").map(drop);
        let unreachable = opened.as_ref().is_err_and(|error| error.status == Status::Unreachable);
        check(unreachable, format_args!("nobody has the topic, not {opened:?}"))?;
        let producer = topic.producer("lonely").kafka("bootstrap.servers", at).kafka("delivery.timeout.ms", 1_000);
        let producer = producer.make().or_fail("making a producer")?;
        for _ in 0..chance.usize(1..20) {
            handles.push(Box::new(producer.push(&NewEvent::default()).or_fail("pushing")?));
            self.events.fetch_add(1, Ordering::Relaxed);
        }
        handles.push(Box::new(producer.flush().or_fail("flushing")?));
        let consumer = topic.consumer("lonely").kafka("bootstrap.servers", at).make().or_fail("making a consumer")?;
        let ticket = consumer.pull().or_fail("pulling")?;
        let nothing = ticket.wait(Duration::from_millis(50)).or_fail("waiting for an event")?;
        check(nothing.is_none(), "nobody has events")?;
        handles.extend([Box::new(driver) as Handle, Box::new(ticket)]);
        self.end(producer, consumer, handles, chance, false)
    }

    /// Closes them, which has its time, or leaves them to be let go of.
    fn end(
        &self,
        producer: Producer,
        consumer: Consumer,
        handles: &mut Vec<Handle>,
        chance: &mut fastrand::Rng,
        is_well: bool,
    ) -> Result<()> {
        let may = |what: &str, closed: octopus_loader::Result<()>| match closed {
            Err(error) if is_well => Err(Failure::new(format_args!("{what} with a broker there: {error}"))),
            _ => Ok(()),
        };
        let close_producer = || within(CLOSING, "closing a producer", || producer.close(CLOSING));
        let close_consumer = || within(CLOSING, "closing a consumer", || consumer.close(CLOSING));
        match chance.u8(..4) {
            0 => {}
            1 => may("closing a producer", close_producer()?)?,
            2 => may("closing a consumer", close_consumer()?)?,
            _ => {
                may("closing a consumer", close_consumer()?)?;
                may("closing a producer", close_producer()?)?;
            }
        }
        handles.extend([Box::new(producer) as Handle, Box::new(consumer)]);
        Ok(())
    }
}
