//! Forwards the events of one topic to another one in transactions.
//!
//! ```sh
//! cargo run --release --example exactly_once -- localhost:9092
//! ```

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use octopus_loader::{Consumer, Library, NewEvent, Producer, Result, Status, TopicOptions};
use serde_json::json;

const READINGS: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("exactly_once: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Forwards the events that are available in one transaction. Returns their number, which is 0 if
/// the transaction was aborted.
fn forward(readings: &Consumer, results: &Producer) -> Result<usize> {
    let events = readings.pull_many(100, Duration::from_millis(500))?;
    results.begin_transaction(&[readings])?;
    let pushed = events.iter().try_for_each(|event| {
        results.push_forget(&NewEvent::text(event.metadata().unwrap_or("{}")))?;
        event.acknowledge()
    });
    match pushed.and_then(|()| results.commit_transaction(TIMEOUT)) {
        Ok(()) => Ok(events.len()),
        Err(error) if [Status::MustAbort, Status::Stale].contains(&error.status) => {
            results.abort_transaction(TIMEOUT).map(|()| 0)
        }
        Err(error) => Err(error),
    }
}

fn run() -> std::result::Result<(), Box<dyn Error>> {
    let servers = env::args().nth(1).ok_or("usage: exactly_once BOOTSTRAP-SERVERS")?;
    let library = Library::find()?;
    let driver = library.driver(json!({"kafka": {"bootstrap.servers": servers}}))?;
    for name in ["exactly-once-rust-readings", "exactly-once-rust-results"] {
        match driver.create_topic(name, &TopicOptions::default().partitions(1).replication(1)) {
            Err(error) if error.status == Status::TopicExists => {} // by an earlier run
            created => created?,
        }
    }
    let topic = driver.open_topic("exactly-once-rust-readings")?;
    let instrument = topic.producer("instrument").make()?;
    for number in 0..READINGS {
        instrument.push_forget(&NewEvent::json(&json!({"number": number})))?;
    }
    instrument.close(TIMEOUT)?;

    let results = driver.open_topic("exactly-once-rust-results")?;
    let results = results.producer("forwarder").option("transactional_id", "exactly-once-rust").make()?;
    let readings = topic.consumer("exactly-once-rust").option("commits", "transaction").make()?;
    let mut count = 0;
    while count < READINGS {
        count += forward(&readings, &results)?;
    }
    println!("{count} events forwarded");
    results.close(TIMEOUT)?;
    readings.close(TIMEOUT)?;
    Ok(())
}
