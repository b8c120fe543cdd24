//! Row 27: a topic is deleted and created again under drivers, producers and consumers, with leader epochs that are lower, equal and
//! higher than before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, Event, NewEvent, Producer, Status};
use serde_json::json;

use crate::brokers::Brokers;
use crate::numbered::number_of;
use crate::run::{OrFail as _, Result, Run, Tally, check, eventually};
use crate::scene::{PATIENCE, make_topic};

const PARTITIONS: u32 = 3;
const OLD: Range<u64> = 0..300;
const NEW: Range<u64> = 1_000..1_600;
/// Within which open handles use the new topic.
const PICKED_UP: Duration = Duration::from_secs(30);
const PULL: Duration = Duration::from_millis(500);

/// Of the new topic's leader epochs, beside the old one's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Epochs {
    Lower,
    Equal,
    Higher,
}

/// Who deletes and creates it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    OwnDriver,
    OtherDriver,
}

const SCENES: [(Epochs, By); 6] = [
    (Epochs::Lower, By::OtherDriver),
    (Epochs::Equal, By::OwnDriver),
    (Epochs::Higher, By::OtherDriver),
    (Epochs::Lower, By::OwnDriver),
    (Epochs::Equal, By::OtherDriver),
    (Epochs::Higher, By::OwnDriver),
];

/// Row 27.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let chosen = if run.full { SCENES.to_vec() } else { vec![SCENES[run.seed as usize % SCENES.len()]] };
    let mut tally = Tally::default();
    for (number, (epochs, by)) in chosen.into_iter().enumerate() {
        let topic = format!("row-27-{:x}-{number}", run.seed);
        let took = recreate_below_handles(run, brokers, &topic, epochs, by)?;
        tally.events += (OLD.end - OLD.start) + (NEW.end - NEW.start);
        tally.notes.push(format!("{epochs:?} epochs, by its {by:?}: used after {:.1} s", took.as_secs_f64()));
    }
    Ok(tally)
}

fn driver(brokers: &Brokers) -> Result<Driver> {
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 60_000});
    octopus.driver(config).or_fail("making a driver")
}

/// Gives how long it took until the new topic was written and read.
fn recreate_below_handles(run: &Run, brokers: &mut Brokers, name: &str, epochs: Epochs, by: By) -> Result<Duration> {
    make_topic(&brokers.bootstrap(), name, PARTITIONS, brokers.count() as u32)?;
    let (own, other) = (driver(brokers)?, driver(brokers)?);
    let topic = own.open_topic(name).or_fail("opening the topic")?;
    let producer = topic.producer("p").kafka("delivery.timeout.ms", 10_000).make().or_fail("making a producer")?;
    let (early, late) = (format!("{name}-early"), format!("{name}-late"));
    let consumer = topic.consumer(&early).make().or_fail("making a consumer")?;
    push(&producer, OLD)?;
    let held = read(&consumer, OLD)?;
    // One that commits too late, and then is away.
    let tardy = topic.consumer(&late).make().or_fail("making a consumer")?;
    let old = read(&tardy, OLD)?;
    if epochs == Epochs::Lower {
        raise_leader_epochs(brokers, name)?;
        // The clients learn of the epochs.
        let numbers = OLD.end..OLD.end + 9;
        push(&producer, numbers.clone())?;
        read(&consumer, numbers)?;
    }

    held.iter().try_for_each(|event| event.acknowledge().or_fail("acknowledging"))?;
    let creator = if by == By::OwnDriver { &own } else { &other };
    creator.delete_topic(name).or_fail("deleting the topic")?;
    make_topic(&brokers.bootstrap(), name, PARTITIONS, brokers.count() as u32)?;
    // By name: into the new topic.
    let acknowledged = old.iter().filter(|event| event.acknowledge().is_ok()).count();
    let has_committed = acknowledged == old.len() && tardy.commit(PATIENCE).is_ok();
    drop(old);
    let _ = tardy.close(PATIENCE);
    if epochs == Epochs::Higher {
        raise_leader_epochs(brokers, name)?;
    }

    let started = Instant::now();
    eventually("a push is delivered", PICKED_UP, || {
        let pushed = producer.push(&NewEvent::text(&NEW.start.to_string()).partition(0));
        Ok(pushed.and_then(|push| push.wait(PULL)).is_ok().then_some(()))
    })?;
    push(&producer, NEW)?;
    let events = read(&consumer, NEW)?;
    let took = started.elapsed();
    check(took < PICKED_UP, format_args!("pushes and pulls go on within {PICKED_UP:?}, not {took:?}"))?;
    let stale =
        held.iter().filter(|event| event.acknowledge().is_err_and(|error| error.status == Status::Stale)).count();
    check(stale == held.len(), format_args!("events of the old topic are stale, not {stale} of {}", held.len()))?;
    // A broker that hears late of the deletion forgets what was committed before it did.
    let has_committed = has_committed && !brokers.committed(&late, name)?.is_empty();
    nothing_is_skipped_by_who_was_away(&own, name, &late, has_committed)?;
    positions_of_the_new_topic_count(run, &own, name, &early, consumer, events)?;
    drivers_go_on(&[own, other], name)?;
    Ok(took)
}

/// Each partition gets another leader at least once.
fn raise_leader_epochs(brokers: &mut Brokers, topic: &str) -> Result<()> {
    for number in 0..brokers.count() {
        brokers.kill(number)?;
        brokers.restart(number)?;
        brokers.heal(topic)?;
    }
    Ok(())
}

fn push(producer: &Producer, numbers: Range<u64>) -> Result<()> {
    for number in numbers {
        let text = number.to_string();
        let event = NewEvent::text(&text).partition(number % u64::from(PARTITIONS));
        producer.push_forget(&event).or_fail("pushing")?;
    }
    producer.flush().or_fail("flushing")?.wait(PATIENCE).or_fail("waiting for a flush").map(drop)
}

/// The last one that came of each of these numbers, which all come. In between, pulls may tell what became of the topic.
fn read(consumer: &Consumer, numbers: Range<u64>) -> Result<Vec<Event>> {
    let (started, mut reported) = (Instant::now(), BTreeSet::new());
    let mut found = BTreeMap::new();
    while found.len() < (numbers.end - numbers.start) as usize {
        check(
            started.elapsed() < PATIENCE,
            format_args!("the numbers {numbers:?} come, not {} of them; reported: {reported:?}", found.len()),
        )?;
        match consumer.next(PULL) {
            Ok(Some(event)) => {
                let number = number_of(&event)?;
                if numbers.contains(&number) {
                    found.insert(number, event);
                }
            }
            Ok(None) => {}
            Err(error) => drop(reported.insert(error.to_string())),
        }
    }
    Ok(found.into_values().collect())
}

fn nothing_is_skipped_by_who_was_away(driver: &Driver, name: &str, group: &str, has_committed: bool) -> Result<()> {
    let topic = driver.open_topic(name).or_fail("opening the topic")?;
    let consumer = topic.consumer(group).make().or_fail("making a consumer")?;
    let mut losses = 0;
    let mut missing: BTreeSet<u64> = NEW.collect();
    eventually("who was away reads the new topic from its beginning", PATIENCE, || {
        match consumer.next(PULL) {
            Ok(Some(event)) => drop(missing.remove(&number_of(&event)?)),
            Ok(None) => {}
            Err(error) => losses += usize::from(error.status == Status::RecordsLost),
        }
        Ok(missing.is_empty().then_some(()))
    })?;
    check(losses > 0 || !has_committed, "a pull tells that the committed positions are of a topic that was deleted")?;
    consumer.close(PATIENCE).or_fail("closing a consumer")
}

/// What was acknowledged of the new topic does not come again, and everything else does.
fn positions_of_the_new_topic_count(
    run: &Run,
    driver: &Driver,
    name: &str,
    group: &str,
    consumer: Consumer,
    events: Vec<Event>,
) -> Result<()> {
    let cut = NEW.start + run.chance().u64(1..NEW.end - NEW.start);
    let (mut rest, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for event in &events {
        let number = number_of(event)?;
        if number < cut {
            event.acknowledge().or_fail(format_args!("acknowledging {number}"))?;
            acknowledged.insert(number);
        } else {
            rest.insert(number);
        }
    }
    drop(events);
    consumer.close(PATIENCE).or_fail("closing a consumer")?;
    let topic = driver.open_topic(name).or_fail("opening the topic")?;
    let again = topic.consumer(group).make().or_fail("making a consumer")?;
    eventually("what was not acknowledged comes again", PATIENCE, || {
        if let Some(event) = again.next(PULL).or_fail("pulling")? {
            let number = number_of(&event)?;
            rest.remove(&number);
            // The first one was pushed more than once.
            check(
                number == NEW.start || !acknowledged.contains(&number),
                format_args!("what was acknowledged does not come again, as {number} did"),
            )?;
        }
        Ok(rest.is_empty().then_some(()))
    })?;
    again.close(PATIENCE).or_fail("closing a consumer")
}

fn drivers_go_on(drivers: &[Driver], name: &str) -> Result<()> {
    for (number, driver) in drivers.iter().enumerate() {
        let opened = driver.open_topic(name).or_fail("opening the topic")?;
        check(opened.partition_count() == PARTITIONS, "it has its partitions")?;
        let listed = driver.list_topics().or_fail("listing the topics")?;
        check(listed.get(name).is_some(), "the topic is listed")?;
        let another = format!("{name}-another-{number}");
        let options = octopus_loader::TopicOptions::default().replication(1);
        driver.create_topic(&another, &options).or_fail("making another topic")?;
    }
    Ok(())
}
