//! Row 10: no broker at all, in five ways. Each call of each noun ends within its own time, and names the address.

pub mod address;
mod calls;

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use address::Address;
use calls::Calls;
use octopus_loader::NewEvent;

use super::host::{Heard, held};
use super::mock::{ALL, Mock};
use crate::run::{Failure, OrFail, Result, Run, Tally, check};

pub fn run(run: &Run) -> Result<Tally> {
    let addresses = [Address::closed()?, Address::silent()?, Address::unknown(), Address::full()?];
    let mock = Mock::start(1)?;
    mock.topic("opened", &[1])?;
    let heard = Heard::default();
    let failed = Mutex::new(Vec::new());
    let rounds = run.pick(1, 10);
    let mut events = 0;
    for round in 0..rounds {
        // Of a topic that was opened somewhere else comes what shall find nobody.
        let topic = heard
            .driver(calls::config(&mock.bootstrap()))?
            .open_topic("opened")
            .or_fail("opening a topic of a mock cluster")?;
        events += thread::scope(|scope| {
            let left = scope.spawn(|| is_left(run, &heard, &failed));
            for address in &addresses {
                let calls = Calls { run, address, heard: &heard, failed: &failed, was_there: false };
                scope.spawn(move || calls.of_driver());
                let topic = &topic;
                scope.spawn(move || calls.of_producer(topic));
                for targets in [&[][..], &[0]] {
                    scope.spawn(move || calls.of_consumer(topic, targets));
                }
            }
            left.join().map_err(|_| Failure::new("a thread panicked"))?
        })?;
        events += addresses.len() as u64 * calls::EVENTS;
        run.keep(format_args!("round {round} is over"));
    }
    heard.keep(run);
    let failed = held(&failed);
    check(failed.is_empty(), format_args!("{} calls are not as they should be:\n{}", failed.len(), failed.join("\n")))?;
    let ways: Vec<&str> = addresses.iter().map(|address| address.is).chain(["a broker that went"]).collect();
    Ok(Tally { events, notes: vec![format!("{} rounds of {}", rounds, ways.join(", "))] })
}

/// What has worked finds its broker gone.
fn is_left(run: &Run, heard: &Heard, failed: &Mutex<Vec<String>>) -> Result<u64> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mock = Mock::start(1)?;
    mock.topic("left", &[1])?;
    let address = Address::left(mock.bootstrap());
    let driver = heard.driver(calls::config(&address.at))?;
    let topic = driver.open_topic("left").or_fail("opening a topic")?;
    let producer = calls::produce(&topic, &address.at).or_fail("making a producer")?;
    producer.push(&NewEvent::default()).and_then(|push| push.wait(PATIENCE)).or_fail("pushing")?;
    let reader = calls::consume(&topic, &address.at, &[0]).or_fail("making a consumer")?;
    let event = reader.next(PATIENCE).or_fail("pulling")?.ok_or_else(|| Failure::new("the event comes"))?;
    event.acknowledge().or_fail("acknowledging")?;
    mock.down(ALL)?;
    let calls = Calls { run, address: &address, heard, failed, was_there: true };
    thread::scope(|scope| {
        scope.spawn(move || calls.on_driver(driver));
        scope.spawn(move || calls.on_producer(producer));
        scope.spawn(move || calls.on_consumer(reader));
    });
    Ok(calls::EVENTS + 1)
}
