//! Makes one topic and ends: a process that a test can kill on the way.
//!
//! `creator <driver's configuration> <topic> <validator>`, the first and the last as JSON.

use std::env;
use std::process::ExitCode;

use octopus_loader::{Result, TopicOptions, TopicText};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [config, topic, validator] = &arguments[..] else {
        eprintln!("usage: creator <driver's configuration> <topic> <validator>");
        return ExitCode::from(2);
    };
    match create(config, topic, validator) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("creator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(config: &str, topic: &str, validator: &str) -> Result<()> {
    let driver = plugin_tests::open_library()?.driver_from_text(config)?;
    driver.create_topic(topic, &TopicOptions::default().replication(1).text(TopicText::Validator, validator))
}
