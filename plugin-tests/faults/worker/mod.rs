//! A producer or a consumer in a process of its own: a host of the plugin that does one thing and writes down what becomes of
//! it. It takes commands, a line each, from its standard input, and ends when that ends.

mod clock;
mod consume;
mod event;
mod produce;

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use octopus_loader::{Driver, Topic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use event::Content;

use crate::journal::{Entry, Journal, now};
use crate::run::{Failure, OrFail as _, Result};

/// The first argument of a process that is a worker; the second is its job.
pub const ROLE: &str = "--worker";

/// What a worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub bootstrap: String,
    pub topic: String,
    pub journal: PathBuf,
    pub seed: u64,
    /// Further properties of the producer or the consumer.
    pub kafka: Value,
    /// The driver's `timeout_ms`.
    pub timeout_ms: u64,
    pub role: Role,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    Produce(Producing),
    Consume(Consuming),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Producing {
    /// Which producer of the run it is; its events say so.
    pub producer: u32,
    /// Events a second.
    pub rate: u32,
    /// The most data in an event, in bytes.
    pub largest: usize,
    /// How long a push may remain without a result, from then on it is unanswered.
    pub answer_within_ms: u64,
    /// One wrong that is done on purpose, to see that it is found.
    pub spoil: Option<Spoil>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spoil {
    /// Says of an event that it was delivered, and never pushes it.
    Lose,
    /// Pushes an event twice.
    Double,
    /// Pushes two events of a partition in the wrong order.
    Swap,
    /// Says nothing of what became of an event.
    Swallow,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Consuming {
    pub group: String,
    /// Of a thousand events, so many are acknowledged; the others by a later one, or by nobody.
    pub acknowledged_in_1000: u32,
    /// Whether what it holds back comes in any order.
    pub out_of_order: bool,
}

/// What a worker is told while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Flushes, and waits at most so long.
    Flush(Duration),
    /// Closes, and waits at most so long.
    Close(Duration),
    /// Finishes what it has begun, and ends.
    Stop,
}

/// What all workers have.
struct Post {
    job: Job,
    journal: Arc<Journal>,
    topic: Topic,
    _driver: Driver,
    commands: Receiver<Command>,
}

pub fn work(job: &str) -> ExitCode {
    match serde_json::from_str(job).or_fail("reading the job").and_then(do_job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("worker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn do_job(job: Job) -> Result<()> {
    let journal = Arc::new(Journal::create(&job.journal)?);
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": job.bootstrap}, "timeout_ms": job.timeout_ms});
    let rebalanced = journal.clone();
    let driver = octopus
        .driver_builder(config)
        .log(|level, source, message| eprintln!("{} {level:?} {source}: {message}", now()))
        .rebalance(move |_, how, partitions| {
            let (how, partitions) = (format!("{how:?}"), partitions.to_vec());
            rebalanced.write(&Entry::Rebalanced { how, partitions, at: now() });
        })
        .create()
        .or_fail("making the driver")?;
    let topic = driver.open_topic(&job.topic).or_fail("opening the topic")?;
    let post = Post { commands: listen(), topic, _driver: driver, journal: journal.clone(), job: job.clone() };
    match job.role {
        Role::Produce(producing) => produce::work(&post, &producing)?,
        Role::Consume(consuming) => consume::work(&post, &consuming)?,
    }
    journal.write(&Entry::Ended);
    Ok(())
}

fn listen() -> Receiver<Command> {
    let (tell, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            match Command::read(&line) {
                Ok(command) if tell.send(command).is_err() => return,
                Ok(_) => {}
                Err(why) => eprintln!("worker: {why}"),
            }
        }
        let _ = tell.send(Command::Stop);
    });
    commands
}

impl Command {
    pub fn line(self) -> String {
        match self {
            Command::Flush(limit) => format!("flush {}\n", limit.as_millis()),
            Command::Close(limit) => format!("close {}\n", limit.as_millis()),
            Command::Stop => "stop\n".to_owned(),
        }
    }

    fn read(line: &str) -> Result<Self> {
        let (what, limit) = line.split_once(' ').unwrap_or((line, "0"));
        let limit = Duration::from_millis(limit.parse().or_fail(format_args!("reading the command {line:?}"))?);
        match what {
            "flush" => Ok(Command::Flush(limit)),
            "close" => Ok(Command::Close(limit)),
            "stop" => Ok(Command::Stop),
            _ => Err(Failure(format!("there is no command {line:?}"))),
        }
    }
}
