//! Checks a driver's configuration: prints it with its secrets masked, and whether the brokers, and
//! the topic service if there is one, accept this client. docs/guide/security.md uses it.
//!
//! ```sh
//! cargo run --release --example security -- CONFIGURATION.json    # or host:port
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let Some(argument) = std::env::args().nth(1) else {
        eprintln!("usage: security CONFIGURATION.json | host:port");
        return ExitCode::FAILURE;
    };
    match run(&argument) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("security: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read_config(file: &str) -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(file)?)?)
}

fn run(argument: &str) -> Result<()> {
    let config: Value = match argument.ends_with(".json") {
        true => read_config(argument).map_err(|error| format!("reading {argument}: {error}"))?,
        false => json!({"kafka": {"bootstrap.servers": argument}}),
    };
    let driver = plugin_tests::open_library()?.driver(config)?;
    println!("kafka: {:#}", driver.describe()?["kafka"]);
    let began = Instant::now();
    let topics = driver.list_topics()?;
    let count = topics.as_object().map_or(0, |topics| topics.len());
    println!("accepted after {} ms; this client sees {count} topics of Octopus", began.elapsed().as_millis());
    Ok(())
}
