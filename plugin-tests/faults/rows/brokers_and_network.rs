//! Rows 1 to 7 and 21: faults of brokers and of the network below producers and consumers.

use std::time::{Duration, Instant};

use octopus_testkit::proxy::NetworkFault;

use crate::brokers::Brokers;
use crate::fault::{self, Fault, Target};
use crate::journal::Entry;
use crate::oracle::{Failures, Rules, judge};
use crate::run::{Failure, Result, Run, Tally, check};
use crate::scenario::{MAX_WAIT, Participants, Scenario, Worker};
use crate::worker::Command;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(from: u64, to: u64, rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(rng.u64(from * 1000..=to * 1000))
}

/// Opens a scenario, injects the faults one after the other, and has the oracle check the run.
/// Returns the longest time until events flowed again, and the number of events.
fn run_faults(
    run: &Run,
    brokers: &mut Brokers,
    participants: Participants,
    rules: &Rules,
    faults: &[Fault],
) -> Result<(Duration, u64)> {
    let (mut scenario, mut rng) = (Scenario::open(run, brokers, participants)?, run.rng());
    let mut longest = Duration::ZERO;
    for fault in faults {
        longest = longest.max(fault.inject(&mut scenario, brokers, &mut rng)?);
        brokers.restore(&scenario.topic)?;
    }
    let events = judge(&scenario.end(brokers)?, rules)?;
    Ok((longest, events))
}

/// Row 1. A group waits for a member whose session ended while the broker was down for one more
/// session timeout, which is therefore short here.
pub fn crash(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let crashes: Vec<_> = (0..run.pick(1, 3)).map(|_| Fault::Crash(Target::Any, seconds(0, 8, &mut rng))).collect();
    let participants = Participants {
        consumer_properties: serde_json::json!({"session.timeout.ms": 6000}),
        ..Participants::default()
    };
    let (longest, events) = run_faults(run, brokers, participants, &Rules::default(), &crashes)?;
    let expected = format_args!("events flow within 15 s after the broker has restarted, not {longest:?}");
    check(longest <= Duration::from_secs(15), expected)?;
    Ok(Tally { events, notes: vec![format!("events flowed after {:.1} s", longest.as_secs_f64())] })
}

/// Row 2: each role of a broker is lost in turn, in random order.
pub fn replicas_lost(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let mut losses = [Target::Leader, Target::Follower, Target::Controller].map(|target| {
        let down = seconds(1, run.pick(4, 15), &mut rng);
        Fault::Crash(target, down)
    });
    rng.shuffle(&mut losses);
    let (_, events) = run_faults(run, brokers, Participants::default(), &Rules::default(), &losses)?;
    Ok(Tally { events, notes: Vec::new() })
}

/// Row 3: a pause shorter than the delivery timeout fails no push; a longer one fails the waiting
/// pushes on time.
pub fn pause(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let short = Fault::Pause(Target::Any, seconds(1, run.pick(8, 60), &mut rng));
    let (_, mut events) = run_faults(run, brokers, Participants::default(), &Rules::default(), &[short])?;
    let delivery_timeout = seconds(3, 6, &mut rng);
    let long = Fault::Pause(Target::Any, delivery_timeout + seconds(4, run.pick(4, 20), &mut rng));
    let participants = Participants { delivery_timeout, ..Participants::default() };
    let (failed, of) = run_until_timeouts(run, brokers, participants, &[long])?;
    events += of;
    let timed = format!("{failed} timed out after {:.1} s", delivery_timeout.as_secs_f64());
    Ok(Tally { events, notes: vec![timed] })
}

/// Row 4: with too few replicas in sync, pushes fail once the delivery timeout has expired.
pub fn too_few_replicas(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let delivery_timeout = seconds(4, 8, &mut rng);
    let fault = Fault::TooFew(delivery_timeout + seconds(4, run.pick(5, 30), &mut rng));
    let participants = Participants { delivery_timeout, ..Participants::default() };
    let (failed, events) = run_until_timeouts(run, brokers, participants, &[fault])?;
    let timed = format!("{failed} timed out after {:.1} s", delivery_timeout.as_secs_f64());
    Ok(Tally { events, notes: vec![timed] })
}

/// As `run_faults`, for faults that outlast the delivery timeout, so that some pushes must fail
/// then. Returns the number of failed pushes and of all events.
fn run_until_timeouts(
    run: &Run,
    brokers: &mut Brokers,
    participants: Participants,
    faults: &[Fault],
) -> Result<(usize, u64)> {
    let rules =
        Rules { failures: Failures::NotBefore(participants.delivery_timeout.as_millis() as u64), ..Rules::default() };
    let mut scenario = Scenario::open(run, brokers, Participants { suffix: "-timed-out", ..participants })?;
    let mut rng = run.rng();
    for fault in faults {
        fault.inject(&mut scenario, brokers, &mut rng)?;
        brokers.restore(&scenario.topic)?;
    }
    let evidence = scenario.end(brokers)?;
    let events = judge(&evidence, &rules)?;
    let failed = evidence.producer_entries().filter(|entry| matches!(entry, Entry::Failed { .. })).count();
    check(failed > 0, "some pushes time out while no broker can store them, none did")?;
    Ok((failed, events))
}

/// Row 5: connections are reset in the middle of requests and responses.
pub fn resets(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let rounds = vec![Fault::Resets(run.pick(10, 40))];
    let (_, events) = run_faults(run, brokers, Participants::default(), &Rules::default(), &rounds)?;
    Ok(Tally { events, notes: vec![format!("{} resets", run.pick(10, 40))] })
}

/// Row 6: a slow network, then one that drops everything, while producers and consumers flush and
/// close.
pub fn slow_network(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let participants = Participants {
        consumer_properties: serde_json::json!({"session.timeout.ms": 6000}),
        ..Participants::default()
    };
    let mut scenario = Scenario::open(run, brokers, participants)?;
    let late = NetworkFault::Delay(Duration::from_millis(rng.u64(20..300)));
    for (fault, duration) in [(late, run.pick(3, 20)), (NetworkFault::Trickle, run.pick(2, 4))] {
        Fault::Network(fault, duration * SECOND).inject(&mut scenario, brokers, &mut rng)?;
    }
    scenario.run.report("black hole: producers flush and close, consumers close");
    brokers.set_network_fault(NetworkFault::BlackHole);
    let (flush, close) = (seconds(0, 2, &mut rng), seconds(1, 3, &mut rng));
    for producer in scenario.producers() {
        producer.send(Command::Flush(flush));
        producer.send(Command::Close(close));
    }
    for consumer in scenario.consumers() {
        consumer.send(Command::Close(close));
    }
    for worker in scenario.all() {
        let is_close = |entry: &Entry| match entry {
            Entry::Called { what, took_ms, .. } if what == "close" => Some(*took_ms),
            _ => None,
        };
        worker.await_entry("close has returned", MAX_WAIT, is_close)?;
    }
    brokers.restore(&scenario.topic)?;
    // The consumer that closed during the black hole is gone; another one reads the remaining
    // records.
    scenario.add_consumer(1000, false, serde_json::json!({}))?;
    let events = judge(&scenario.end(brokers)?, &Rules::default())?;
    Ok(Tally { events, notes: Vec::new() })
}

/// Row 7. In Kafka's responses only record batches have a checksum, so corrupted responses may
/// report anything. The row checks that every push ends, that delivered events are stored with the
/// right content, and that no process crashes.
pub fn corruption(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut rng = run.rng();
    let mut scenario =
        Scenario::open(run, brokers, Participants { delivery_timeout: 20 * SECOND, ..Participants::default() })?;
    let before = brokers.fault_count();
    for one_in in [100_000, 20_000, 5_000, 1_000] {
        brokers.set_network_fault(NetworkFault::Flip(one_in));
        std::thread::sleep(seconds(2, run.pick(3, 8), &mut rng));
    }
    let flipped = brokers.fault_count() - before;
    check(flipped > 0, "some bits were flipped")?;
    brokers.restore(&scenario.topic)?;
    // A corrupted offset may have made the first consumer skip records; another group reads all of
    // them.
    scenario.all().try_for_each(Worker::expect_alive)?;
    for consumer in scenario.consumers() {
        consumer.kill()?;
    }
    scenario.add_consumer_of("again", 1000, false, serde_json::json!({"session.timeout.ms": 6000}))?;
    let rules = Rules { failures: Failures::Any, responses_are_intact: false, ..Rules::default() };
    let events = judge(&scenario.end(brokers)?, &rules)?;
    Ok(Tally { events, notes: vec![format!("{flipped} bits flipped")] })
}

/// Row 21: random faults, one after the other, for an hour.
pub fn an_hour(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let duration = run.pick(Duration::from_secs(40), Duration::from_hours(1));
    let mut rng = run.rng();
    let mut scenario =
        Scenario::open(run, brokers, Participants { rate: 200, consumers: 2, ..Participants::default() })?;
    let (started, mut memory, mut faults) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < duration {
        fault::random(&mut rng).inject(&mut scenario, brokers, &mut rng)?;
        brokers.restore(&scenario.topic)?;
        faults += 1;
        std::thread::sleep(seconds(1, 6, &mut rng));
        memory.push(scenario.all().map(|worker| worker.memory()).sum::<Result<u64>>()?);
        scenario.run.report(format_args!("{} MB in all workers", memory.last().unwrap_or(&0) >> 20));
    }
    let events = judge(&scenario.end(brokers)?, &Rules::default())?;
    let mut notes = vec![format!("{faults} faults")];
    if run.full {
        notes.push(check_memory_is_constant(&memory)?);
    }
    Ok(Tally { events, notes })
}

/// Compares the last third of the time with the middle one: memory may grow at first.
fn check_memory_is_constant(memory: &[u64]) -> Result<String> {
    let third = memory.len() / 3;
    let [middle, last] = [&memory[third..2 * third], &memory[2 * third..]].map(|part| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or(0) >> 20
    });
    let memory_use = format!("{middle} MB in the middle third of the time, {last} MB in the last");
    if last > middle + middle / 10 + 8 {
        Err(Failure(format!("memory stays constant, not {memory_use}")))
    } else {
        Ok(memory_use)
    }
}
