//! Partitions and ordering, the program of docs/guide/partitions-and-ordering.md: which partition
//! an event goes to, which order holds, and how consumers share partitions.
//!
//! ```sh
//! cargo run --release --example partitions_and_ordering -- localhost:9092
//! ```

use std::env;
use std::error::Error;
use std::process::{ExitCode, id};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use octopus_loader::{Library, NewEvent, Producer, Topic, TopicOptions};
use serde_json::json;

const PARTITIONS: u32 = 3;
/// The number of readings of each sensor.
const READINGS: u64 = 500;
const SENSORS: u64 = 4;
const TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("partitions_and_ordering: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let servers = env::args().nth(1).ok_or("usage: partitions_and_ordering BOOTSTRAP-SERVERS")?;
    let library = Library::find()?;
    let driver = library.driver(json!({"kafka": {"bootstrap.servers": servers}}))?;
    let name = format!("partitions-{}-{}", id(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis());

    driver.create_topic(&name, &TopicOptions::default().partitions(PARTITIONS).replication(1))?;
    let topic = driver.open_topic(&name)?;
    println!("the topic has {} partitions", topic.partition_count());

    let producer = topic.producer("sensors").make()?;
    push_without_and_with_a_partition(&producer)?;
    push_from_threads(&producer)?;
    producer.close(TIMEOUT)?;

    share_the_partitions(&topic, &format!("{name}-analysis"))?;
    read_one_partition(&topic, &format!("{name}-inspection"))
}

fn push_without_and_with_a_partition(producer: &Producer) -> Result<()> {
    let mut chosen = Vec::new();
    for number in 0..6 {
        let push = producer.push(&NewEvent::json(&json!({"number": number})))?;
        chosen.push(push.wait(TIMEOUT)?.partition);
    }
    println!("six events without a request went to partitions {chosen:?}");
    ensure(chosen == [0, 1, 2, 0, 1, 2], "the default selector takes the partitions in turn")?;

    let push = producer.push(&NewEvent::json(&json!({"sensor": 7})).partition(7))?;
    let partition = push.wait(TIMEOUT)?.partition;
    println!("an event that requested partition 7 went to partition {partition}");
    ensure(partition == 7 % PARTITIONS, "the default selector takes the number modulo the partitions")
}

/// One thread per sensor. The number of the sensor is the requested partition, so that the events
/// of a sensor are in one partition.
fn push_from_threads(producer: &Producer) -> Result<()> {
    thread::scope(|scope| {
        let push_all = |sensor: u64| {
            for number in 0..READINGS {
                let event = NewEvent::json(&json!({"sensor": sensor, "number": number})).partition(sensor);
                producer.push_forget(&event)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..SENSORS).map(|sensor| scope.spawn(move || push_all(sensor))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("the thread does not panic"))
    })
}

/// Two consumers of one name are one group: each partition is read by one of them.
fn share_the_partitions(topic: &Topic, group: &str) -> Result<()> {
    let first = topic.consumer(group).make()?;
    wait_until("the consumer has all partitions", || Ok(first.assignment()?.len() == PARTITIONS as usize))?;
    println!("one consumer alone reads partitions {:?}", first.assignment()?);

    let second = topic.consumer(group).make()?;
    wait_until("both have partitions, together all", || {
        let counts = [first.assignment()?.len(), second.assignment()?.len()];
        Ok(counts.iter().all(|count| *count > 0) && counts.iter().sum::<usize>() == PARTITIONS as usize)
    })?;
    let (ours, theirs) = (first.assignment()?, second.assignment()?);
    println!("two consumers of the same name read partitions {ours:?} and {theirs:?}");

    // The readings of each sensor arrive in order, whichever consumer reads its partition.
    let mut next = [0; SENSORS as usize];
    wait_until("all readings are read", || {
        for consumer in [&first, &second] {
            for event in consumer.pull_many(100, Duration::from_millis(100))? {
                let reading = event.json()?;
                if let (Some(sensor), Some(number)) = (reading["sensor"].as_u64(), reading["number"].as_u64()) {
                    ensure(next[sensor as usize] == number, "the readings of a sensor are in order")?;
                    next[sensor as usize] += 1;
                }
                event.acknowledge()?;
            }
        }
        Ok(next == [READINGS; SENSORS as usize])
    })?;
    println!("they read {READINGS} readings of each of {SENSORS} sensors, in order");
    first.close(TIMEOUT)?;
    Ok(second.close(TIMEOUT)?)
}

/// A reader of target partitions does not join a group, so it shares nothing.
fn read_one_partition(topic: &Topic, name: &str) -> Result<()> {
    let reader = topic.consumer(name).targets(&[2]).make()?;
    let event = reader.next(TIMEOUT)?.ok_or("partition 2 has no event")?;
    println!("a reader of partition 2 begins with {event:?}: {}", event.metadata().unwrap_or_default());
    ensure((event.partition(), event.id()) == (2, 0), "it begins with the first event of its partition")?;
    Ok(reader.close(TIMEOUT)?)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure(start.elapsed() < TIMEOUT, what)?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(format!("this is not so: {what}").into()) }
}
