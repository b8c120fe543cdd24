//! Row 34: a broker that lacks records becomes the leader of a partition (unclean leader election),
//! after a consumer has read and committed them.

use std::ops::Range;
use std::time::{Duration, Instant};

use octopus_loader::{Consumer, NewEvent, Producer, Status, Topic};
use octopus_testkit::tools::kafka_tool;
use serde_json::json;

use crate::brokers::Brokers;
use crate::numbered::{number_of, push};
use crate::run::{OrFail as _, Result, Run, Tally, check, eventually};
use crate::scenario::MAX_WAIT;

/// The indexes of the brokers with replicas of the topic; the third broker completes the
/// controllers' quorum.
const LEADER: usize = 0;
const FOLLOWER: usize = 1;
const REPLICATED: Range<u64> = 0..100;
/// Delivered while the follower is down, so that the new leader lacks them.
const TRUNCATED: Range<u64> = 100..200;
const NEW: u64 = 1_000;
const PULL: Duration = Duration::from_millis(500);

/// Row 34, with fewer new events than truncated ones, and with more.
pub fn run(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let counts = [20, 300];
    let chosen = if run.full { counts.to_vec() } else { vec![counts[run.seed as usize % counts.len()]] };
    let mut tally = Tally::default();
    for count in chosen {
        let took = truncate_under_consumer(run, brokers, &format!("row-34-{:x}-{count}", run.seed), NEW..NEW + count)?;
        tally.events += TRUNCATED.end + count;
        tally.notes.push(format!(
            "{count} events in place of {}: read after {:.1} s",
            TRUNCATED.end - TRUNCATED.start,
            took.as_secs_f64()
        ));
    }
    Ok(tally)
}

/// Returns how long it took to read the new events.
fn truncate_under_consumer(run: &Run, brokers: &mut Brokers, name: &str, new: Range<u64>) -> Result<Duration> {
    create(brokers, name)?;
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": brokers.bootstrap()}, "timeout_ms": 60_000});
    let driver = octopus.driver(config).or_fail("creating a driver")?;
    let topic = driver.open_topic(name).or_fail("opening the topic")?;
    let producer = topic.producer("p").make().or_fail("creating a producer")?;
    let consumer = topic.consumer(name).make().or_fail("creating a consumer")?;
    push(&producer, REPLICATED)?;
    read_and_commit(&consumer, REPLICATED)?;
    brokers.kill(FOLLOWER)?;
    push(&producer, TRUNCATED)?;
    read_and_commit(&consumer, TRUNCATED)?;
    brokers.kill(LEADER)?;
    brokers.restart(FOLLOWER)?;
    eventually("the broker that lacks records leads", MAX_WAIT, || {
        Ok((brokers.leader(name, 0).ok() == Some(FOLLOWER)).then_some(()))
    })?;

    // The producer's sequence numbers don't match the log any more. It must fail before the other
    // one is created, which would share its client, and with it the sequence numbers.
    let rejected = producer.push(&NewEvent::text("0")).or_fail("pushing")?.wait(MAX_WAIT);
    check(
        rejected.as_ref().is_err_and(|error| error.kafka_code == Some(45)),
        format_args!("a producer fails as out of order after log truncation, not {rejected:?}"),
    )?;
    let producer = topic.producer("q").make().or_fail("creating another producer")?;
    push(&producer, new.clone())?;
    let started = Instant::now();
    let reported = read_after_truncation(&consumer, new.clone())?;
    let took = started.elapsed();
    check(!reported.is_empty(), "a pull reports the log truncation")?;
    reported.iter().for_each(|error| run.log(error));
    consumer.close(MAX_WAIT).or_fail("closing a consumer")?;
    check_nothing_skipped_or_repeated(&topic, &producer, name, new.end)?;
    brokers.restart(LEADER)?;
    brokers.restore("__consumer_offsets")?;
    Ok(took)
}

/// Creates the topic with its replicas on `LEADER` and `FOLLOWER`.
fn create(brokers: &Brokers, name: &str) -> Result<()> {
    let bootstrap = brokers.bootstrap();
    let replicas = format!("{}:{}", LEADER + 1, FOLLOWER + 1);
    let args = ["--bootstrap-server", &bootstrap, "--create", "--topic", name, "--replica-assignment", &replicas];
    let settings = ["--config", "unclean.leader.election.enable=true", "--config", "min.insync.replicas=1"];
    kafka_tool("org.apache.kafka.tools.TopicCommand", &[&args[..], &settings].concat(), b"").map(drop)
}

fn read_and_commit(consumer: &Consumer, numbers: Range<u64>) -> Result<()> {
    for wanted in numbers {
        let event = consumer.next(MAX_WAIT).or_fail(format_args!("pulling event {wanted}"))?;
        let got = event.as_ref().map(number_of).transpose()?;
        check(got == Some(wanted), format_args!("event {wanted} is next, not {got:?}"))?;
        event.map_or(Ok(()), |event| event.acknowledge()).or_fail("acknowledging")?;
    }
    consumer.commit(MAX_WAIT).or_fail("committing")
}

/// Returns the errors that pulls reported until all these events arrived, in order and without
/// others.
fn read_after_truncation(consumer: &Consumer, numbers: Range<u64>) -> Result<Vec<String>> {
    let (started, mut reported) = (Instant::now(), Vec::new());
    let mut wanted = numbers.start;
    while wanted < numbers.end {
        check(started.elapsed() < MAX_WAIT, format_args!("event {wanted} arrives; reported: {reported:?}"))?;
        match consumer.next(PULL) {
            Ok(None) => {}
            Ok(Some(event)) => {
                let number = number_of(&event)?;
                check(number == wanted, format_args!("event {wanted} is next, not {number}; reported: {reported:?}"))?;
                event.acknowledge().or_fail("acknowledging")?;
                wanted += 1;
            }
            Err(error) if error.status == Status::RecordsLost => reported.push(error.to_string()),
            Err(error) => return Err(error).or_fail("pulling"),
        }
    }
    Ok(reported)
}

fn check_nothing_skipped_or_repeated(topic: &Topic, producer: &Producer, group: &str, next: u64) -> Result<()> {
    push(producer, next..next + 10)?;
    let consumer = topic.consumer(group).make().or_fail("creating a consumer")?;
    read_and_commit(&consumer, next..next + 10)?;
    consumer.close(MAX_WAIT).or_fail("closing a consumer")
}
