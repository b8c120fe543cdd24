//! A typical program that uses Octopus, for tests that observe it from outside. It creates topics,
//! pushes events, pulls and acknowledges them, and waits with everything open until its standard
//! input ends. Then it pushes and pulls once more with the same objects. The first argument is the
//! configuration of its drivers; AWS credentials come from the environment. Its log goes to the
//! standard error stream, including any secrets.

use std::error::Error;
use std::io::Read as _;
use std::process::{ExitCode, id};
use std::time::Duration;

use octopus_loader::{Consumer, Driver, NewEvent, Producer, TopicOptions};
use serde_json::{Value, json};

const USAGE: &str = "Usage: job CONFIGURATION look|describe|create|work [topic|drivers]";
const EVENTS: usize = 2_000;
const PARTITIONS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [config, "look"] => look(config),
        [config, "describe"] => describe(config),
        [config, "create", topic] => create(config, topic),
        [config, "work", drivers] => drivers.parse().map_err(Into::into).and_then(|drivers| work(config, drivers)),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("FAILED {why}");
            ExitCode::FAILURE
        }
    }
}

fn make_driver(config: &str) -> Result<Driver> {
    let config: Value = serde_json::from_str(config)?;
    let builder = plugin_tests::open_library()?.driver_builder(config);
    Ok(builder.log(|level, source, message| eprintln!("{level:?} {source}: {message}")).create()?)
}

/// Makes one metadata request to the brokers.
fn look(config: &str) -> Result<()> {
    let exists = make_driver(config)?.topic_exists("no-such-topic")?;
    println!("LOOKED {exists}");
    Ok(())
}

fn describe(config: &str) -> Result<()> {
    println!("{}", make_driver(config)?.describe()?);
    Ok(())
}

fn create(config: &str, topic: &str) -> Result<()> {
    make_driver(config)?.create_topic(topic, &TopicOptions::default().replication(1))?;
    println!("CREATED");
    Ok(())
}

struct Job {
    driver: Driver,
    topic: String,
    producer: Producer,
    consumer: Consumer,
}

fn work(config: &str, drivers: usize) -> Result<()> {
    let jobs = (0..drivers).map(|number| Job::start(config, number)).collect::<Result<Vec<_>>>()?;
    jobs.iter().try_for_each(Job::round_trip)?;
    println!("WORKED");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    jobs.iter().try_for_each(Job::round_trip)?;
    jobs.into_iter().try_for_each(Job::end)?;
    println!("DONE");
    Ok(())
}

impl Job {
    fn start(config: &str, number: usize) -> Result<Self> {
        let driver = make_driver(config)?;
        let name = format!("job-{}-{number}", id());
        driver.create_topic(&name, &TopicOptions::default().replication(1).partitions(PARTITIONS))?;
        let topic = driver.open_topic(&name)?;
        let producer = topic.producer("job").make()?;
        let consumer = topic.consumer(&name).make()?;
        Ok(Job { driver, topic: name, producer, consumer })
    }

    fn round_trip(&self) -> Result<()> {
        for number in 0..EVENTS {
            self.producer.push_forget(&NewEvent::json(&json!({"number": number})).data(&[7; 100]))?;
        }
        self.producer.flush()?.wait(TIMEOUT)?;
        for read in 0..EVENTS {
            let event =
                self.consumer.next(TIMEOUT)?.ok_or_else(|| format!("only {read} of {EVENTS} events arrived"))?;
            if event.data() != [7; 100] {
                return Err("an event has unexpected data".into());
            }
            event.acknowledge()?;
        }
        Ok(self.consumer.commit(TIMEOUT)?)
    }

    fn end(self) -> Result<()> {
        self.consumer.close(TIMEOUT)?;
        let listed = self.driver.list_topics()?;
        if listed.get(&self.topic).is_none() {
            return Err(format!("{} is not listed: {listed}", self.topic).into());
        }
        Ok(self.driver.delete_topic(&self.topic)?)
    }
}
