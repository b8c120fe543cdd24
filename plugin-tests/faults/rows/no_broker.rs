//! Row 10: no reachable broker, in five ways. Each call of each object ends within its time limit,
//! and its error names the address.

pub mod address;
mod calls;

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use address::Address;
use calls::Calls;
use octopus_loader::NewEvent;

use super::host::{CallbackLog, lock};
use super::mock::{ALL, Mock};
use crate::run::{Failure, OrFail, Result, Run, Tally, check};

pub fn run(run: &Run) -> Result<Tally> {
    let addresses = [Address::closed()?, Address::silent()?, Address::unknown(), Address::dropping_packets()?];
    let mock = Mock::start(1)?;
    mock.topic("opened", &[1])?;
    let callback_log = CallbackLog::default();
    let failed = Mutex::new(Vec::new());
    let rounds = run.pick(1, 10);
    let mut events = 0;
    for round in 0..rounds {
        // Topics are opened at the mock cluster. Their producers and consumers then get the
        // unreachable address.
        let topic = callback_log
            .driver(calls::config(&mock.bootstrap()))?
            .open_topic("opened")
            .or_fail("opening a topic of a mock cluster")?;
        events += thread::scope(|scope| {
            let left = scope.spawn(|| calls_after_broker_loss(run, &callback_log, &failed));
            for address in &addresses {
                let calls = Calls { run, address, callback_log: &callback_log, failed: &failed, was_reachable: false };
                scope.spawn(move || calls.check_new_driver());
                let topic = &topic;
                scope.spawn(move || calls.check_new_producer(topic));
                for targets in [&[][..], &[0]] {
                    scope.spawn(move || calls.check_new_consumer(topic, targets));
                }
            }
            left.join().map_err(|_| Failure::new("a thread panicked"))?
        })?;
        events += addresses.len() as u64 * calls::EVENTS;
        run.log(format_args!("round {round} is over"));
    }
    callback_log.write_to(run);
    let failed = lock(&failed);
    check(
        failed.is_empty(),
        format_args!("{} calls did not behave as expected:\n{}", failed.len(), failed.join("\n")),
    )?;
    let descriptions: Vec<&str> =
        addresses.iter().map(|address| address.description).chain(["a broker that went down"]).collect();
    Ok(Tally { events, notes: vec![format!("{} rounds of {}", rounds, descriptions.join(", "))] })
}

/// Makes the calls on objects that have worked before their broker went down.
fn calls_after_broker_loss(run: &Run, callback_log: &CallbackLog, failed: &Mutex<Vec<String>>) -> Result<u64> {
    const MAX_WAIT: Duration = Duration::from_secs(20);
    let mock = Mock::start(1)?;
    mock.topic("left", &[1])?;
    let address = Address::of_lost_broker(mock.bootstrap());
    let driver = callback_log.driver(calls::config(&address.address))?;
    let topic = driver.open_topic("left").or_fail("opening a topic")?;
    let producer = calls::produce(&topic, &address.address).or_fail("creating a producer")?;
    producer.push(&NewEvent::default()).and_then(|push| push.wait(MAX_WAIT)).or_fail("pushing")?;
    let reader = calls::consume(&topic, &address.address, &[0]).or_fail("creating a consumer")?;
    let event = reader.next(MAX_WAIT).or_fail("pulling")?.ok_or_else(|| Failure::new("the event arrives"))?;
    event.acknowledge().or_fail("acknowledging")?;
    mock.down(ALL)?;
    let calls = Calls { run, address: &address, callback_log, failed, was_reachable: true };
    thread::scope(|scope| {
        scope.spawn(move || calls.check_driver(driver));
        scope.spawn(move || calls.check_producer(producer));
        scope.spawn(move || calls.check_consumer(reader));
    });
    Ok(calls::EVENTS + 1)
}
