//! Row 34: a broker that lacks records becomes the leader of a partition (unclean leader election), below a consumer that has read and
//! committed them.

use std::ops::Range;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, Producer, Status, Topic};
use serde_json::json;

use crate::brokers::{Brokers, kafka_tool};
use crate::numbered::{number_of, push};
use crate::run::{OrFail as _, Result, Run, Tally, check, eventually};
use crate::scene::PATIENCE;

/// The brokers that have the topic, by their places; the third one keeps the controllers' quorum.
const LEADER: usize = 0;
const FOLLOWER: usize = 1;
const REPLICATED: Range<u64> = 0..100;
/// Delivered while the follower is away.
const CUT: Range<u64> = 100..200;
const NEW: u64 = 1_000;
const PULL: Duration = Duration::from_millis(500);

/// Row 34, with fewer events in place of those that were cut, and with more.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let counts = [20, 300];
    let chosen = if run.full { counts.to_vec() } else { vec![counts[run.seed as usize % counts.len()]] };
    let mut tally = Tally::default();
    for count in chosen {
        let took = cut_below_consumer(run, brokers, &format!("row-34-{:x}-{count}", run.seed), NEW..NEW + count)?;
        tally.events += CUT.end + count;
        tally.notes.push(format!(
            "{count} events in place of {}: read after {:.1} s",
            CUT.end - CUT.start,
            took.as_secs_f64()
        ));
    }
    Ok(tally)
}

/// Gives how long it took to read the new events.
fn cut_below_consumer(run: &Run, brokers: &mut Brokers, name: &str, new: Range<u64>) -> Result<Duration> {
    create(brokers, name)?;
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 60_000});
    let driver = octopus.driver(config).or_fail("making a driver")?;
    let topic = driver.open_topic(name).or_fail("opening the topic")?;
    let producer = topic.producer("p").make().or_fail("making a producer")?;
    let consumer = topic.consumer(name).make().or_fail("making a consumer")?;
    push(&producer, REPLICATED)?;
    read_and_commit(&consumer, REPLICATED)?;
    brokers.kill(FOLLOWER)?;
    push(&producer, CUT)?;
    read_and_commit(&consumer, CUT)?;
    brokers.kill(LEADER)?;
    brokers.restart(FOLLOWER)?;
    eventually("the broker that lacks records leads", PATIENCE, || {
        Ok((brokers.leader(name, 0).ok() == Some(FOLLOWER)).then_some(()))
    })?;

    // Its sequence numbers do not fit the log any more, and a producer that shared its client would have them, too.
    let refused = producer.push(&NewEvent::text("0")).or_fail("pushing")?.wait(PATIENCE);
    check(
        refused.as_ref().is_err_and(|error| error.kafka_code == Some(45)),
        format_args!("events of a producer whose log was cut are out of order, not {refused:?}"),
    )?;
    let producer = topic.producer("q").make().or_fail("making another producer")?;
    push(&producer, new.clone())?;
    let started = Instant::now();
    let reported = read_after_cut(&consumer, new.clone())?;
    let took = started.elapsed();
    check(!reported.is_empty(), "a pull reports that the log was cut")?;
    reported.iter().for_each(|error| run.keep(error));
    consumer.close(PATIENCE).or_fail("closing a consumer")?;
    nothing_is_skipped_or_repeated(&topic, &producer, name, new.end)?;
    brokers.restart(LEADER)?;
    brokers.heal("__consumer_offsets")?;
    Ok(took)
}

/// With its replicas where they are known.
fn create(brokers: &Brokers, name: &str) -> Result<()> {
    let bootstrap = brokers.bootstrap();
    let replicas = format!("{}:{}", LEADER + 1, FOLLOWER + 1);
    let args = ["--bootstrap-server", &bootstrap, "--create", "--topic", name, "--replica-assignment", &replicas];
    let settings = ["--config", "unclean.leader.election.enable=true", "--config", "min.insync.replicas=1"];
    kafka_tool("org.apache.kafka.tools.TopicCommand", &[&args[..], &settings].concat()).map(drop)
}

fn read_and_commit(consumer: &Consumer, numbers: Range<u64>) -> Result<()> {
    for wanted in numbers {
        let event = consumer.next(PATIENCE).or_fail(format_args!("pulling event {wanted}"))?;
        let got = event.as_ref().map(number_of).transpose()?;
        check(got == Some(wanted), format_args!("event {wanted} comes next, not {got:?}"))?;
        event.map_or(Ok(()), |event| event.acknowledge()).or_fail("acknowledging")?;
    }
    consumer.commit(PATIENCE).or_fail("committing")
}

/// Gives what pulls have reported until all these came, in order, and nothing else.
fn read_after_cut(consumer: &Consumer, numbers: Range<u64>) -> Result<Vec<String>> {
    let (started, mut reported) = (Instant::now(), Vec::new());
    let mut wanted = numbers.start;
    while wanted < numbers.end {
        check(started.elapsed() < PATIENCE, format_args!("event {wanted} comes; reported: {reported:?}"))?;
        match consumer.next(PULL) {
            Ok(None) => {}
            Ok(Some(event)) => {
                let number = number_of(&event)?;
                check(
                    number == wanted,
                    format_args!("event {wanted} comes next, not {number}; reported: {reported:?}"),
                )?;
                event.acknowledge().or_fail("acknowledging")?;
                wanted += 1;
            }
            Err(error) if error.status == Status::RecordsLost => reported.push(error.to_string()),
            Err(error) => return Err(error).or_fail("pulling"),
        }
    }
    Ok(reported)
}

fn nothing_is_skipped_or_repeated(topic: &Topic, producer: &Producer, group: &str, next: u64) -> Result<()> {
    push(producer, next..next + 10)?;
    let consumer = topic.consumer(group).make().or_fail("making a consumer")?;
    read_and_commit(&consumer, next..next + 10)?;
    consumer.close(PATIENCE).or_fail("closing a consumer")
}
