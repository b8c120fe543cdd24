//! Rows 1 to 7 and 21: what brokers and the network do to producers and consumers.

use std::time::{Duration, Instant};

use crate::brokers::Brokers;
use crate::journal::Entry;
use crate::oracle::{Failures, Rules, judge};
use crate::proxy::NetworkFault;
use crate::run::{Failure, Result, Run, Tally, check};
use crate::scene::{Cast, PATIENCE, Scene, Worker};
use crate::trouble::{self, Trouble, Whose};
use crate::worker::Command;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(from: u64, to: u64, chance: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(chance.u64(from * 1000..=to * 1000))
}

/// Opens a scene, makes these troubles one after the other, and judges what came of it: the longest time until events
/// flowed again, and the number of events.
fn play(run: &Run, brokers: &mut Brokers, cast: Cast, rules: &Rules, troubles: &[Trouble]) -> Result<(Duration, u64)> {
    let (mut scene, mut chance) = (Scene::open(run, brokers, cast)?, run.chance());
    let mut longest = Duration::ZERO;
    for trouble in troubles {
        longest = longest.max(trouble.make(&mut scene, brokers, &mut chance)?);
        brokers.heal(&scene.topic)?;
    }
    let events = judge(&scene.end(brokers)?, rules)?;
    Ok((longest, events))
}

/// Row 1. A consumer whose session ended while the broker was away is missed by its group for one more session, so that is short here.
pub fn crash(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let crashes: Vec<_> = (0..run.pick(1, 3)).map(|_| Trouble::Crash(Whose::Any, seconds(0, 8, &mut chance))).collect();
    let cast = Cast { consuming: serde_json::json!({"session.timeout.ms": 6000}), ..Cast::default() };
    let (longest, events) = play(run, brokers, cast, &Rules::default(), &crashes)?;
    let expected = format_args!("events flow 15 s after the broker is up again, not {longest:?}");
    check(longest <= Duration::from_secs(15), expected)?;
    Ok(Tally { events, notes: vec![format!("went on after {:.1} s", longest.as_secs_f64())] })
}

/// Row 2.
pub fn replicas_lost(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let mut losses = [Whose::Leader, Whose::Follower, Whose::Controller].map(|whose| {
        let down = seconds(1, run.pick(4, 15), &mut chance);
        Trouble::Crash(whose, down)
    });
    chance.shuffle(&mut losses);
    let (_, events) = play(run, brokers, Cast::default(), &Rules::default(), &losses)?;
    Ok(Tally { events, notes: Vec::new() })
}

/// Row 3: a pause that is shorter than the delivery time-out fails nothing; one that is longer fails what waited, on time.
pub fn pause(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let short = Trouble::Pause(Whose::Any, seconds(1, run.pick(8, 60), &mut chance));
    let (_, mut events) = play(run, brokers, Cast::default(), &Rules::default(), &[short])?;
    let delivery_timeout = seconds(3, 6, &mut chance);
    let long = Trouble::Pause(Whose::Any, delivery_timeout + seconds(4, run.pick(4, 20), &mut chance));
    let cast = Cast { delivery_timeout, ..Cast::default() };
    let (failed, of) = fails_in_time(run, brokers, cast, &[long])?;
    events += of;
    let timed = format!("{failed} timed out after {:.1} s", delivery_timeout.as_secs_f64());
    Ok(Tally { events, notes: vec![timed] })
}

/// Row 4.
pub fn too_few_replicas(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let delivery_timeout = seconds(4, 8, &mut chance);
    let trouble = Trouble::TooFew(delivery_timeout + seconds(4, run.pick(5, 30), &mut chance));
    let cast = Cast { delivery_timeout, ..Cast::default() };
    let (failed, events) = fails_in_time(run, brokers, cast, &[trouble])?;
    let timed = format!("{failed} timed out after {:.1} s", delivery_timeout.as_secs_f64());
    Ok(Tally { events, notes: vec![timed] })
}

/// As `play`, where some pushes must fail, when the delivery time-out is over; their number, and that of all events.
fn fails_in_time(run: &Run, brokers: &mut Brokers, cast: Cast, troubles: &[Trouble]) -> Result<(usize, u64)> {
    let rules = Rules { failures: Failures::NotBefore(cast.delivery_timeout.as_millis() as u64), ..Rules::default() };
    let mut scene = Scene::open(run, brokers, Cast { suffix: "-timed-out", ..cast })?;
    let mut chance = run.chance();
    for trouble in troubles {
        trouble.make(&mut scene, brokers, &mut chance)?;
        brokers.heal(&scene.topic)?;
    }
    let evidence = scene.end(brokers)?;
    let events = judge(&evidence, &rules)?;
    let failed = evidence.told().filter(|entry| matches!(entry, Entry::Failed { .. })).count();
    check(failed > 0, "some pushes timed out while no broker could take them, not none")?;
    Ok((failed, events))
}

/// Row 5.
pub fn resets(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let rounds = vec![Trouble::Resets(run.pick(10, 40))];
    let (_, events) = play(run, brokers, Cast::default(), &Rules::default(), &rounds)?;
    Ok(Tally { events, notes: vec![format!("{} resets", run.pick(10, 40))] })
}

/// Row 6: slow bytes, then none, in which producers flush and close.
pub fn slow_network(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let cast = Cast { consuming: serde_json::json!({"session.timeout.ms": 6000}), ..Cast::default() };
    let mut scene = Scene::open(run, brokers, cast)?;
    let late = NetworkFault::Delay(Duration::from_millis(chance.u64(20..300)));
    for (fault, how_long) in [(late, run.pick(3, 20)), (NetworkFault::Trickle, run.pick(2, 4))] {
        Trouble::Network(fault, how_long * SECOND).make(&mut scene, brokers, &mut chance)?;
    }
    scene.run.say("nothing passes, and the producers flush and close");
    brokers.set(NetworkFault::BlackHole);
    let (flush, close) = (seconds(0, 2, &mut chance), seconds(1, 3, &mut chance));
    for producer in scene.producers() {
        producer.tell(Command::Flush(flush));
        producer.tell(Command::Close(close));
    }
    for consumer in scene.consumers() {
        consumer.tell(Command::Close(close));
    }
    for worker in scene.all() {
        let is_close = |entry: &Entry| match entry {
            Entry::Called { what, took_ms, .. } if what == "close" => Some(*took_ms),
            _ => None,
        };
        worker.await_entry("close has returned", PATIENCE, is_close)?;
    }
    brokers.heal(&scene.topic)?;
    // The one that closed in the dark is gone; what it has not seen another one sees.
    scene.add_consumer(1000, false, serde_json::json!({}))?;
    let events = judge(&scene.end(brokers)?, &Rules::default())?;
    Ok(Tally { events, notes: Vec::new() })
}

/// Row 7. Kafka's answers have no checksum but that of batches of records, so what they say may be anything: what is looked at is
/// that every push ends, that what was delivered is there, and what is in events, and that no process ends by it.
pub fn corruption(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let mut chance = run.chance();
    let mut scene = Scene::open(run, brokers, Cast { delivery_timeout: 20 * SECOND, ..Cast::default() })?;
    let before = brokers.faults_done();
    for one_in in [100_000, 20_000, 5_000, 1_000] {
        brokers.set(NetworkFault::Flip(one_in));
        std::thread::sleep(seconds(2, run.pick(3, 8), &mut chance));
    }
    let flipped = brokers.faults_done() - before;
    check(flipped > 0, "some bits were turned")?;
    brokers.heal(&scene.topic)?;
    // Another one reads what the first one may have been led past.
    scene.all().try_for_each(Worker::expect_alive)?;
    for consumer in scene.consumers() {
        consumer.kill()?;
    }
    scene.add_consumer_of("again", 1000, false, serde_json::json!({"session.timeout.ms": 6000}))?;
    let rules = Rules { failures: Failures::Any, answers_are_true: false, ..Rules::default() };
    let events = judge(&scene.end(brokers)?, &rules)?;
    Ok(Tally { events, notes: vec![format!("{flipped} bits turned")] })
}

/// Row 21.
pub fn an_hour(run: &Run, brokers: &mut Brokers) -> Result<Tally> {
    let how_long = run.pick(Duration::from_secs(40), Duration::from_hours(1));
    let mut chance = run.chance();
    let mut scene = Scene::open(run, brokers, Cast { rate: 200, consumers: 2, ..Cast::default() })?;
    let (started, mut memory, mut troubles) = (Instant::now(), Vec::new(), 0);
    while started.elapsed() < how_long {
        trouble::any(&mut chance).make(&mut scene, brokers, &mut chance)?;
        brokers.heal(&scene.topic)?;
        troubles += 1;
        std::thread::sleep(seconds(1, 6, &mut chance));
        memory.push(scene.all().map(|worker| worker.memory()).sum::<Result<u64>>()?);
        scene.run.say(format_args!("{} MB in all workers", memory.last().unwrap_or(&0) >> 20));
    }
    let events = judge(&scene.end(brokers)?, &Rules::default())?;
    let mut notes = vec![format!("{troubles} troubles")];
    if run.full {
        notes.push(is_flat(&memory)?);
    }
    Ok(Tally { events, notes })
}

/// The last third of the time against the one before: what a program needs at first it may take.
fn is_flat(memory: &[u64]) -> Result<String> {
    let third = memory.len() / 3;
    let [middle, last] = [&memory[third..2 * third], &memory[2 * third..]].map(|part| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or(0) >> 20
    });
    let told = format!("{middle} MB in the middle third of the time, {last} MB in the last");
    if last > middle + middle / 10 + 8 { Err(Failure(format!("memory is flat, not {told}"))) } else { Ok(told) }
}
