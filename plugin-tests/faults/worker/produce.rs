//! The worker that produces: one thread pushes at a constant rate, another waits for the result of
//! each push.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Producer, Push, Status};

use super::clock::Clock;
use super::{Command, Content, Corruption, ProducerJob, WorkerContext};
use crate::journal::{Entry, Journal, now};
use crate::run::{OrFail as _, Result};

/// The number of the event that is corrupted deliberately.
const CORRUPTED_NUMBER: u64 = 100;
/// The time limit of the flush and the close at the end, once the brokers work normally.
const END: Duration = Duration::from_secs(60);

struct Pushed {
    number: u64,
    push: Push,
    at: Instant,
}

pub fn run(context: &WorkerContext, job: &ProducerJob) -> Result<()> {
    let mut builder = context.topic.producer(&format!("producer-{}", job.producer));
    for (property, value) in context.job.kafka.as_object().into_iter().flatten() {
        builder = builder.kafka(property, value.clone());
    }
    let producer = builder.make().or_fail("creating the producer")?;
    let clock = Clock::start();
    let (sender, pushed) = mpsc::channel();
    let waiter = Waiter {
        journal: context.journal.clone(),
        clock: clock.clone(),
        limit: Duration::from_millis(job.result_timeout_ms),
        rng: fastrand::Rng::with_seed(!context.job.seed),
        omits_result: job.corruption == Some(Corruption::OmitResult),
    };
    let waiting = thread::spawn(move || waiter.run(&pushed));

    let mut pusher =
        Pusher { context, job, producer, clock, number: 0, rng: fastrand::Rng::with_seed(context.job.seed) };
    pusher.run(&sender);
    context.journal.write(&Entry::Pushed { count: pusher.number });
    drop(sender);
    pusher.end();
    waiting.join().map_err(|_| "the waiting thread panicked").or_fail("waiting for results")
}

struct Pusher<'a> {
    context: &'a WorkerContext,
    job: &'a ProducerJob,
    producer: Producer,
    clock: Clock,
    number: u64,
    rng: fastrand::Rng,
}

impl Pusher<'_> {
    fn run(&mut self, sender: &mpsc::Sender<Pushed>) {
        let started = Instant::now();
        loop {
            match self.context.commands.try_recv() {
                Ok(Command::Flush(limit)) => self.flush(limit),
                Ok(Command::Close(limit)) => return self.close(limit),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            let due = (started.elapsed().as_secs_f64() * f64::from(self.job.rate)) as u64;
            // At most 50 at a time, so that pushes which the in-flight limit delayed are not made
            // up for in one burst.
            for _ in 0..due.saturating_sub(self.number).min(50) {
                self.push_next(sender);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn push_next(&mut self, sender: &mpsc::Sender<Pushed>) {
        let number = self.number;
        self.number += 1;
        match self.job.corruption {
            Some(Corruption::Lose) if number == CORRUPTED_NUMBER => {
                let lie = Entry::Delivered { number, partition: 0, id: None, after_ms: 0, at: now() };
                return self.context.journal.write(&lie);
            }
            Some(Corruption::Duplicate) if number == CORRUPTED_NUMBER => self.push(number, Some(0), None),
            Some(Corruption::Reorder) if number == CORRUPTED_NUMBER => {
                self.number += 1;
                self.push(number + 1, Some(0), Some(sender));
                return self.push(number, Some(0), Some(sender));
            }
            _ => {}
        }
        let partition = self.rng.bool().then(|| self.rng.u64(..));
        self.push(number, partition, Some(sender));
    }

    fn push(&mut self, number: u64, partition: Option<u64>, sender: Option<&mpsc::Sender<Pushed>>) {
        let content = Content { producer: self.job.producer, number };
        // Mostly small events; one in 50 is large, since the plugin handles large data differently.
        let max_size = if self.rng.u32(..50) == 0 { self.job.max_data } else { self.job.max_data.min(500) };
        let (metadata, data) = (content.metadata(), content.data(self.rng.usize(..=max_size)));
        let mut event = NewEvent::text(&metadata).data(&data);
        if let Some(partition) = partition {
            event = event.partition(partition);
        }
        let (limit, at) = (Duration::from_millis(self.context.job.timeout_ms), Instant::now());
        let (pushed, took) = self.clock.time(&self.context.journal, "push", limit, || self.producer.push(&event));
        match (pushed, sender) {
            (Ok(push), Some(sender)) => drop(sender.send(Pushed { number, push, at })),
            (Ok(_), None) => {}
            (Err(error), _) => {
                let (status, kafka, why) = (format!("{:?}", error.status), error.kafka_code, error.message);
                let after_ms = took.as_millis() as u64;
                self.context.journal.write(&Entry::Rejected { number, status, kafka, why, after_ms, at: now() });
                // As a host would, the worker waits a little after a rejected push.
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn flush(&self, limit: Duration) {
        self.call("flush", limit, || self.producer.flush().and_then(|flush| flush.wait(limit)));
    }

    fn close(&self, limit: Duration) {
        self.call("close", limit, || self.producer.close(limit));
    }

    fn call(&self, what: &str, limit: Duration, call: impl FnOnce() -> octopus_loader::Result<()>) {
        let (result, took) = self.clock.time(&self.context.journal, what, limit, call);
        let outcome = result.map_or_else(|error| format!("{:?}: {error}", error.status), |()| "Ok".to_owned());
        let (limit_ms, took_ms) = (limit.as_millis() as u64, took.as_millis() as u64);
        self.context.journal.write(&Entry::Called { what: what.to_owned(), limit_ms, took_ms, outcome, at: now() });
    }

    fn end(&self) {
        self.flush(END);
        self.close(END);
    }
}

struct Waiter {
    journal: std::sync::Arc<Journal>,
    clock: Clock,
    limit: Duration,
    rng: fastrand::Rng,
    omits_result: bool,
}

impl Waiter {
    /// Waits for the oldest push for a while, then for the next one, until no push is pending and
    /// none can follow.
    fn run(mut self, pushed: &Receiver<Pushed>) {
        let mut waited_for = VecDeque::new();
        loop {
            match pushed.recv_timeout(Duration::from_millis(if waited_for.is_empty() { 50 } else { 0 })) {
                Ok(new) => waited_for.push_back(new),
                Err(RecvTimeoutError::Disconnected) if waited_for.is_empty() => return,
                Err(_) => {}
            }
            waited_for.extend(pushed.try_iter());
            while let Some(next) = waited_for.pop_front() {
                if !self.settle(&next) {
                    waited_for.push_front(next);
                    break;
                }
            }
        }
    }

    /// Returns whether the push is done: it has a result, or it has been pending for too long.
    fn settle(&mut self, pushed: &Pushed) -> bool {
        let limit = Duration::from_millis(self.rng.u64(0..200));
        let (result, _) = self.clock.time(&self.journal, "wait", limit, || pushed.push.wait(limit));
        let (number, after_ms, at) = (pushed.number, pushed.at.elapsed().as_millis() as u64, now());
        let entry = match result {
            Err(error) if error.status == Status::TimedOut && pushed.at.elapsed() < self.limit => return false,
            Err(error) if error.status == Status::TimedOut => Entry::Unresolved { number, after_ms },
            _ if self.omits_result && number == CORRUPTED_NUMBER => return true,
            Ok(delivered) => {
                Entry::Delivered { number, partition: delivered.partition, id: delivered.id, after_ms, at }
            }
            Err(error) => {
                let possibly_persisted = error.persisted == octopus_loader::Persisted::Possibly;
                let (status, kafka, why) = (format!("{:?}", error.status), error.kafka_code, error.message);
                Entry::Failed { number, possibly_persisted, status, kafka, why, after_ms, at }
            }
        };
        self.journal.write(&entry);
        true
    }
}
