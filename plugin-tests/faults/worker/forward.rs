//! The worker that forwards: it reads events of one topic and stores a result of each in another
//! one, in transactions. It kills itself at a point that its job names.

use std::process;
use std::thread;
use std::time::Duration;

use octopus_loader::{Consumer, Event, NewEvent, Producer, Result as OctopusResult, Status};
use serde::{Deserialize, Serialize};

use super::WorkerContext;
use crate::run::{Failure, OrFail as _, Result};

/// How many events a transaction has at most.
const MAX_EVENTS: usize = 25;
const PULL: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForwarderJob {
    pub output: String,
    pub group: String,
    pub transactional_id: String,
    /// Where it dies; `None` if it goes on until nothing is left to read.
    pub death: Option<Death>,
}

/// When a worker kills itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Death {
    pub point: Point,
    /// After how many committed transactions.
    pub after: u32,
    /// How long after the beginning of a call that is interrupted, in microseconds.
    pub delay_us: u64,
}

/// A point of a transaction. The calls are interrupted, and the others end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    MakingProducer,
    Pulled,
    Begun,
    HalfPushed,
    Pushed,
    Flushed,
    Acknowledged,
    Committing,
    Committed,
    Aborting,
    Aborted,
}

impl Point {
    pub const ALL: [Point; 11] = [
        Point::MakingProducer,
        Point::Pulled,
        Point::Begun,
        Point::HalfPushed,
        Point::Pushed,
        Point::Flushed,
        Point::Acknowledged,
        Point::Committing,
        Point::Committed,
        Point::Aborting,
        Point::Aborted,
    ];
}

struct Forwarder<'a> {
    job: &'a ForwarderJob,
    consumer: Consumer,
    producer: Producer,
    committed: u32,
}

pub fn run(context: &WorkerContext, job: &ForwarderJob) -> Result<()> {
    if job.death.is_some_and(|death| death.point == Point::MakingProducer) {
        job.die_later();
    }
    let output = context.driver.open_topic(&job.output).or_fail("opening the output")?;
    let producer = output.producer("forwarder").option("transactional_id", job.transactional_id.as_str()).make();
    let producer = producer.or_fail("creating the producer")?;
    let mut consumer = context.topic.consumer(&job.group).option("commits", "transaction");
    for (property, value) in context.job.kafka.as_object().into_iter().flatten() {
        consumer = consumer.kafka(property, value.clone());
    }
    let consumer = consumer.make().or_fail("creating the consumer")?;
    Forwarder { job, consumer, producer, committed: 0 }.forward_all()
}

impl ForwarderJob {
    /// Dies while the call that follows runs, or soon afterwards.
    fn die_later(&self) {
        let delay = Duration::from_micros(self.death.map_or(0, |death| death.delay_us));
        thread::spawn(move || {
            thread::sleep(delay);
            die()
        });
    }
}

impl Forwarder<'_> {
    fn forward_all(mut self) -> Result<()> {
        loop {
            let events = self.consumer.pull_many(MAX_EVENTS, PULL).or_fail("pulling")?;
            if events.is_empty() && self.job.death.is_none() && self.has_read_all()? {
                self.producer.close(LIMIT).or_fail("closing the producer")?;
                return self.consumer.close(LIMIT).or_fail("closing the consumer");
            }
            if !events.is_empty() {
                self.forward(&events)?;
            }
        }
    }

    /// Whether it has each partition, and nothing is left there.
    fn has_read_all(&self) -> Result<bool> {
        let assigned = self.consumer.assignment().or_fail("reading the assignment")?;
        let lags = assigned.iter().map(|partition| self.consumer.lag(*partition)).collect::<OctopusResult<Vec<_>>>();
        Ok(!assigned.is_empty() && lags.or_fail("reading the lag")?.iter().all(|lag| *lag == 0))
    }

    fn forward(&mut self, events: &[Event]) -> Result<()> {
        self.reach(Point::Pulled);
        self.producer.begin_transaction(&[&self.consumer]).or_fail("beginning a transaction")?;
        self.reach(Point::Begun);
        let (first, second) = events.split_at(events.len() / 2);
        self.push(first)?;
        self.reach(Point::HalfPushed);
        self.push(second)?;
        self.reach(Point::Pushed);
        if self.is_due(Point::Flushed) {
            self.producer.flush().and_then(|flush| flush.wait(LIMIT)).or_fail("flushing")?;
            die();
        }
        for event in events {
            // One that is stale makes the commit fail.
            let _ = event.acknowledge();
        }
        self.reach(Point::Acknowledged);
        if self.is_due(Point::Aborting) || self.is_due(Point::Aborted) {
            return self.abort();
        }
        if self.is_due(Point::Committing) {
            self.job.die_later();
        }
        match self.producer.commit_transaction(LIMIT) {
            Ok(()) => {
                self.reach(Point::Committed);
                self.committed += 1;
                Ok(())
            }
            Err(error) if error.status == Status::MustAbort => self.abort(),
            Err(error) => Err(Failure(format!("committing: {error}"))),
        }
    }

    fn push(&self, events: &[Event]) -> Result<()> {
        events.iter().try_for_each(|event| {
            let metadata = event.metadata().unwrap_or_default();
            let result = NewEvent::text(metadata).partition(event.partition().into());
            self.producer.push_forget(&result).or_fail("pushing")
        })
    }

    fn abort(&self) -> Result<()> {
        if self.is_due(Point::Aborting) {
            self.job.die_later();
        }
        self.producer.abort_transaction(LIMIT).or_fail("aborting")?;
        self.reach(Point::Aborted);
        Ok(())
    }

    fn is_due(&self, point: Point) -> bool {
        self.job.death.is_some_and(|death| death.point == point && death.after <= self.committed)
    }

    fn reach(&self, point: Point) {
        if self.is_due(point) {
            die();
        }
    }
}

/// Ends the process as a kill from outside does: nothing of it runs any more.
fn die() -> ! {
    // SAFETY: `kill` has no memory preconditions; the process is this one.
    unsafe { libc::kill(process::id() as i32, libc::SIGKILL) };
    loop {
        thread::park();
    }
}
