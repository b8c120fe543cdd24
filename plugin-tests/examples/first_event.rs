//! The first event: creates a topic, pushes an event, and reads it back.
//!
//! ```sh
//! cargo run --release --example first_event -- localhost:9092
//! ```

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use octopus_loader::{Library, NewEvent, Status, TopicOptions};
use serde_json::json;

const TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("first_event: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let servers = env::args().nth(1).ok_or("usage: first_event BOOTSTRAP-SERVERS")?;
    let library = Library::find()?;
    let driver = library.driver(json!({"kafka": {"bootstrap.servers": servers}}))?;
    // One replica, as a Kafka for a first try has one broker.
    match driver.create_topic("first-event", &TopicOptions::default().partitions(1).replication(1)) {
        Err(error) if error.status == Status::TopicExists => {} // by an earlier run
        created => created?,
    }
    let topic = driver.open_topic("first-event")?;

    // An event has metadata, which is JSON, and data, which is any bytes. `push` returns before the
    // event is stored, `wait` when it is.
    let producer = topic.producer("station-7").make()?;
    let push = producer.push(&NewEvent::json(&json!({"sensor": "roof", "celsius": 21.5})).data(b"raw samples"))?;
    let stored = push.wait(TIMEOUT)?;
    println!("stored at offset {}", stored.id.ok_or("the broker did not report the offset")?);

    // The name of a consumer is its consumer group, which Kafka keeps the position of.
    let consumer = topic.consumer("first-event-reader").make()?;
    let event = consumer.next(TIMEOUT)?.ok_or("no event arrived in time")?;
    println!("read offset {}: {} with {} bytes of data", event.id(), event.json()?, event.data().len());
    event.acknowledge()?; // the next run starts after it
    consumer.close(TIMEOUT)?;
    producer.close(TIMEOUT)?;
    Ok(())
}
