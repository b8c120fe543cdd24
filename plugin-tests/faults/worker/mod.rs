//! A worker process: a host of the plugin that runs one producer or one consumer and records the
//! results in its journal. It reads commands from its standard input, one per line, and exits when
//! that is closed.

mod clock;
mod consume;
mod event;
mod forward;
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
pub use forward::{Death, ForwarderJob, Point};

use crate::journal::{Entry, Journal, now};
use crate::run::{Failure, OrFail as _, Result};

/// The first argument of a worker process; the second is its job.
pub const WORKER_ARGUMENT: &str = "--worker";

/// The task of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub bootstrap: String,
    pub topic: String,
    pub journal: PathBuf,
    pub seed: u64,
    /// Additional Kafka properties of the producer or the consumer.
    pub kafka: Value,
    /// The driver's `timeout_ms`.
    pub timeout_ms: u64,
    pub role: Role,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    Produce(ProducerJob),
    Consume(ConsumerJob),
    Forward(ForwarderJob),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProducerJob {
    /// The producer's number in its scenario, which its events contain.
    pub producer: u32,
    /// Events per second.
    pub rate: u32,
    /// The maximum size of an event's data, in bytes.
    pub max_data: usize,
    /// How long a push may be pending until it counts as unresolved.
    pub result_timeout_ms: u64,
    /// A defect that the worker introduces deliberately, so that row 0 can check that the oracle
    /// finds it.
    pub corruption: Option<Corruption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Corruption {
    /// Records an event as delivered without pushing it.
    Lose,
    /// Pushes an event twice.
    Duplicate,
    /// Pushes two events of a partition in the wrong order.
    Reorder,
    /// Records no result of an event.
    OmitResult,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsumerJob {
    pub group: String,
    /// How many of a thousand events are acknowledged, at random.
    pub acknowledged_in_1000: u32,
    /// Whether events are held and acknowledged in random order.
    pub out_of_order: bool,
}

/// What a row sends to a running worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Flush (a consumer: commit), with this time limit.
    Flush(Duration),
    /// Close, with this time limit.
    Close(Duration),
    /// Finish what was begun, then exit.
    Stop,
}

/// What producers and consumers share.
struct WorkerContext {
    job: Job,
    journal: Arc<Journal>,
    topic: Topic,
    driver: Driver,
    commands: Receiver<Command>,
}

pub fn run(job: &str) -> ExitCode {
    match serde_json::from_str(job).or_fail("reading the job").and_then(run_job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("worker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run_job(job: Job) -> Result<()> {
    let journal = Arc::new(Journal::create(&job.journal)?);
    let octopus = plugin_tests::open_library().or_fail("loading the library")?;
    let config = json!({"kafka": {"bootstrap.servers": job.bootstrap}, "timeout_ms": job.timeout_ms});
    let rebalanced = journal.clone();
    let driver = octopus
        .driver_builder(config)
        .log(|level, source, message| eprintln!("{} {level:?} {source}: {message}", now()))
        .rebalance(move |_, kind, partitions| {
            let (kind, partitions) = (format!("{kind:?}"), partitions.to_vec());
            rebalanced.write(&Entry::Rebalanced { kind, partitions, at: now() });
        })
        .create()
        .or_fail("creating the driver")?;
    let topic = driver.open_topic(&job.topic).or_fail("opening the topic")?;
    let context = WorkerContext { commands: listen(), topic, driver, journal: journal.clone(), job: job.clone() };
    match job.role {
        Role::Produce(producer_job) => produce::run(&context, &producer_job)?,
        Role::Consume(consumer_job) => consume::run(&context, &consumer_job)?,
        Role::Forward(forwarder_job) => forward::run(&context, &forwarder_job)?,
    }
    journal.write(&Entry::Ended);
    Ok(())
}

fn listen() -> Receiver<Command> {
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            match Command::read(&line) {
                Ok(command) if sender.send(command).is_err() => return,
                Ok(_) => {}
                Err(why) => eprintln!("worker: {why}"),
            }
        }
        let _ = sender.send(Command::Stop);
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
            _ => Err(Failure(format!("unknown command {line:?}"))),
        }
    }
}
