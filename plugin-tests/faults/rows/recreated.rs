//! Row 27: a topic is deleted and created again while drivers, producers and consumers use it, with
//! leader epochs that are lower, equal and higher than before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, Driver, Event, NewEvent, Producer, Status};
use octopus_testkit::tools::committed_offsets;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde_json::json;

use crate::brokers::Brokers;
use crate::numbered::number_of;
use crate::run::{OrFail as _, Result, Run, Tally, check, eventually};
use crate::scenario::{MAX_WAIT, create_topic};

const PARTITIONS: u32 = 3;
const OLD: Range<u64> = 0..300;
const NEW: Range<u64> = 1_000..1_600;
/// Within this time open handles must use the new topic.
const MAX_SWITCH_TIME: Duration = Duration::from_secs(30);
const PULL: Duration = Duration::from_millis(500);

/// The leader epochs of the new topic, compared with those of the old one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Epochs {
    Lower,
    Equal,
    Higher,
}

/// Which driver deletes and creates the topic: the one whose handles are open, or another one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Creator {
    OwnDriver,
    OtherDriver,
}

const SCENARIOS: [(Epochs, Creator); 6] = [
    (Epochs::Lower, Creator::OtherDriver),
    (Epochs::Equal, Creator::OwnDriver),
    (Epochs::Higher, Creator::OtherDriver),
    (Epochs::Lower, Creator::OwnDriver),
    (Epochs::Equal, Creator::OtherDriver),
    (Epochs::Higher, Creator::OwnDriver),
];

/// Row 27.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let chosen = if run.full { SCENARIOS.to_vec() } else { vec![SCENARIOS[run.seed as usize % SCENARIOS.len()]] };
    let mut tally = Tally::default();
    for (number, (epochs, creator)) in chosen.into_iter().enumerate() {
        let topic = format!("row-27-{:x}-{number}", run.seed);
        let took = recreate_under_open_handles(run, brokers, &topic, epochs, creator)?;
        tally.events += (OLD.end - OLD.start) + (NEW.end - NEW.start);
        tally
            .notes
            .push(format!("{epochs:?} epochs, recreated by {creator:?}: used after {:.1} s", took.as_secs_f64()));
    }
    Ok(tally)
}

fn driver(brokers: &Brokers) -> Result<Driver> {
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 60_000});
    octopus.driver(config).or_fail("creating a driver")
}

/// Returns how long it took until the new topic was written and read.
fn recreate_under_open_handles(
    run: &Run,
    brokers: &mut Brokers,
    name: &str,
    epochs: Epochs,
    creator: Creator,
) -> Result<Duration> {
    create_topic(&brokers.bootstrap(), name, PARTITIONS, brokers.count() as u32)?;
    let (own, other) = (driver(brokers)?, driver(brokers)?);
    let topic = own.open_topic(name).or_fail("opening the topic")?;
    let producer = topic.producer("p").kafka("delivery.timeout.ms", 10_000).make().or_fail("creating a producer")?;
    let (early, late) = (format!("{name}-early"), format!("{name}-late"));
    let consumer = topic.consumer(&early).make().or_fail("creating a consumer")?;
    push(&producer, OLD)?;
    let held = read(&consumer, OLD)?;
    // This consumer commits after the topic was recreated, and is then closed.
    let late_consumer = topic.consumer(&late).make().or_fail("creating a consumer")?;
    let old = read(&late_consumer, OLD)?;
    let paused = format!("{name}-paused");
    let positions_of_paused = {
        let consumer = topic.consumer(&paused).make().or_fail("creating a consumer")?;
        read(&consumer, OLD)?.iter().try_for_each(|event| event.acknowledge().or_fail("acknowledging"))?;
        // The group accepts commits from outside once its member has left.
        consumer.close(MAX_WAIT).or_fail("closing a consumer")?;
        GroupPositions::read(brokers, &paused, name)?
    };
    if epochs == Epochs::Lower {
        raise_leader_epochs(brokers, name)?;
        // These events make the clients learn the new epochs.
        let numbers = OLD.end..OLD.end + 9;
        push(&producer, numbers.clone())?;
        read(&consumer, numbers)?;
    }

    held.iter().try_for_each(|event| event.acknowledge().or_fail("acknowledging"))?;
    let creating_driver = if creator == Creator::OwnDriver { &own } else { &other };
    creating_driver.delete_topic(name).or_fail("deleting the topic")?;
    create_topic(&brokers.bootstrap(), name, PARTITIONS, brokers.count() as u32)?;
    // The commit names the topic and not its id, so it reaches the new topic.
    let acknowledged = old.iter().filter(|event| event.acknowledge().is_ok()).count();
    let has_committed = acknowledged == old.len() && late_consumer.commit(MAX_WAIT).is_ok();
    drop(old);
    let _ = late_consumer.close(MAX_WAIT);
    if epochs == Epochs::Higher {
        raise_leader_epochs(brokers, name)?;
    }

    let started = Instant::now();
    eventually("a push is delivered", MAX_SWITCH_TIME, || {
        let pushed = producer.push(&NewEvent::text(&NEW.start.to_string()).partition(0));
        Ok(pushed.and_then(|push| push.wait(PULL)).is_ok().then_some(()))
    })?;
    push(&producer, NEW)?;
    let events = read(&consumer, NEW)?;
    let took = started.elapsed();
    check(took < MAX_SWITCH_TIME, format_args!("pushes and pulls succeed within {MAX_SWITCH_TIME:?}, not {took:?}"))?;
    let stale =
        held.iter().filter(|event| event.acknowledge().is_err_and(|error| error.status == Status::Stale)).count();
    check(stale == held.len(), format_args!("events of the old topic are stale, not {stale} of {}", held.len()))?;
    // A broker that learns late of the deletion removes what was committed before.
    let has_committed = has_committed && !committed_offsets(&brokers.bootstrap(), &late, name)?.is_empty();
    check_absent_consumer_skips_nothing(&own, name, &late, has_committed)?;
    positions_of_paused.commit()?;
    check_absent_consumer_skips_nothing(&own, name, &paused, true)?;
    check_positions_of_new_topic(run, &own, name, &early, consumer, events)?;
    check_drivers(&[own, other], name)?;
    Ok(took)
}

/// The committed positions of a group, as a consumer that is paused for some time would commit them
/// again: with the metadata that Octopus wrote.
struct GroupPositions {
    client: BaseConsumer,
    list: TopicPartitionList,
}

impl GroupPositions {
    fn read(brokers: &Brokers, group: &str, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers.bootstrap()).set("group.id", group);
        let client: BaseConsumer = config.create().or_fail("creating a client of the group")?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, PARTITIONS as i32 - 1);
        let list = client.committed_offsets(list, MAX_WAIT).or_fail("reading committed positions")?;
        check(list.elements().iter().all(|part| !part.metadata().is_empty()), "committed positions have metadata")?;
        Ok(GroupPositions { client, list })
    }

    fn commit(&self) -> Result<()> {
        self.client.commit(&self.list, CommitMode::Sync).or_fail("committing positions of the old topic")
    }
}

/// Each partition gets another leader at least once.
fn raise_leader_epochs(brokers: &mut Brokers, topic: &str) -> Result<()> {
    for number in 0..brokers.count() {
        brokers.kill(number)?;
        brokers.restart(number)?;
        brokers.restore(topic)?;
    }
    Ok(())
}

fn push(producer: &Producer, numbers: Range<u64>) -> Result<()> {
    for number in numbers {
        let text = number.to_string();
        let event = NewEvent::text(&text).partition(number % u64::from(PARTITIONS));
        producer.push_forget(&event).or_fail("pushing")?;
    }
    producer.flush().or_fail("flushing")?.wait(MAX_WAIT).or_fail("waiting for a flush").map(drop)
}

/// Returns the last event with each of the numbers; all must arrive. Pulls in between may report
/// what happened to the topic.
fn read(consumer: &Consumer, numbers: Range<u64>) -> Result<Vec<Event>> {
    let (started, mut reported) = (Instant::now(), BTreeSet::new());
    let mut found = BTreeMap::new();
    while found.len() < (numbers.end - numbers.start) as usize {
        check(
            started.elapsed() < MAX_WAIT,
            format_args!("all events {numbers:?} arrive, not {}; reported: {reported:?}", found.len()),
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

fn check_absent_consumer_skips_nothing(driver: &Driver, name: &str, group: &str, has_committed: bool) -> Result<()> {
    let topic = driver.open_topic(name).or_fail("opening the topic")?;
    let consumer = topic.consumer(group).make().or_fail("creating a consumer")?;
    let mut losses = 0;
    let mut missing: BTreeSet<u64> = NEW.collect();
    eventually("the absent consumer reads the new topic from its beginning", MAX_WAIT, || {
        match consumer.next(PULL) {
            Ok(Some(event)) => drop(missing.remove(&number_of(&event)?)),
            Ok(None) => {}
            Err(error) => losses += usize::from(error.status == Status::RecordsLost),
        }
        Ok(missing.is_empty().then_some(()))
    })?;
    check(losses > 0 || !has_committed, "a pull reports that the committed positions are of a deleted topic")?;
    consumer.close(MAX_WAIT).or_fail("closing a consumer")
}

/// Acknowledged events of the new topic are not delivered again, and all others are.
fn check_positions_of_new_topic(
    run: &Run,
    driver: &Driver,
    name: &str,
    group: &str,
    consumer: Consumer,
    events: Vec<Event>,
) -> Result<()> {
    let cut = NEW.start + run.rng().u64(1..NEW.end - NEW.start);
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
    consumer.close(MAX_WAIT).or_fail("closing a consumer")?;
    let topic = driver.open_topic(name).or_fail("opening the topic")?;
    let again = topic.consumer(group).make().or_fail("creating a consumer")?;
    eventually("unacknowledged events are delivered again", MAX_WAIT, || {
        if let Some(event) = again.next(PULL).or_fail("pulling")? {
            let number = number_of(&event)?;
            rest.remove(&number);
            // The first number was pushed several times.
            check(
                number == NEW.start || !acknowledged.contains(&number),
                format_args!("acknowledged events are not delivered again, {number} was"),
            )?;
        }
        Ok(rest.is_empty().then_some(()))
    })?;
    again.close(MAX_WAIT).or_fail("closing a consumer")
}

fn check_drivers(drivers: &[Driver], name: &str) -> Result<()> {
    for (number, driver) in drivers.iter().enumerate() {
        let opened = driver.open_topic(name).or_fail("opening the topic")?;
        check(opened.partition_count() == PARTITIONS, "the topic has its partitions")?;
        let listed = driver.list_topics().or_fail("listing the topics")?;
        check(listed.get(name).is_some(), "the topic is listed")?;
        let another = format!("{name}-another-{number}");
        let options = octopus_loader::TopicOptions::default().replication(1);
        driver.create_topic(&another, &options).or_fail("creating another topic")?;
    }
    Ok(())
}
