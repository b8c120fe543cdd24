//! The worker that produces: one thread pushes at a steady rate, another waits for what becomes of each event.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{NewEvent, Producer, Push, Status};

use super::clock::Clock;
use super::{Command, Content, Post, Producing, Spoil};
use crate::journal::{Entry, Journal, now};
use crate::run::{OrFail as _, Result};

/// At which number a wrong is done on purpose.
const SPOILED: u64 = 100;
/// How long the end may take, once the brokers are well.
const END: Duration = Duration::from_secs(60);

struct Pushed {
    number: u64,
    push: Push,
    at: Instant,
}

pub fn work(post: &Post, producing: &Producing) -> Result<()> {
    let mut builder = post.topic.producer(&format!("producer-{}", producing.producer));
    for (property, value) in post.job.kafka.as_object().into_iter().flatten() {
        builder = builder.kafka(property, value.clone());
    }
    let producer = builder.make().or_fail("making the producer")?;
    let clock = Clock::start();
    let (tell, pushed) = mpsc::channel();
    let waiter = Waiter {
        journal: post.journal.clone(),
        clock: clock.clone(),
        limit: Duration::from_millis(producing.answer_within_ms),
        chance: fastrand::Rng::with_seed(!post.job.seed),
        swallows: producing.spoil == Some(Spoil::Swallow),
    };
    let waiting = thread::spawn(move || waiter.work(&pushed));

    let mut pusher =
        Pusher { post, producing, producer, clock, number: 0, chance: fastrand::Rng::with_seed(post.job.seed) };
    pusher.work(&tell);
    post.journal.write(&Entry::Pushed { count: pusher.number });
    drop(tell);
    pusher.end();
    waiting.join().map_err(|_| "the thread that waits panicked").or_fail("waiting for results")
}

struct Pusher<'a> {
    post: &'a Post,
    producing: &'a Producing,
    producer: Producer,
    clock: Clock,
    number: u64,
    chance: fastrand::Rng,
}

impl Pusher<'_> {
    fn work(&mut self, tell: &mpsc::Sender<Pushed>) {
        let started = Instant::now();
        loop {
            match self.post.commands.try_recv() {
                Ok(Command::Flush(limit)) => self.flush(limit),
                Ok(Command::Close(limit)) => return self.close(limit),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            let due = (started.elapsed().as_secs_f64() * f64::from(self.producing.rate)) as u64;
            // What couldn't be pushed while there was no room is not made up for at once.
            for _ in 0..due.saturating_sub(self.number).min(50) {
                self.push_next(tell);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn push_next(&mut self, tell: &mpsc::Sender<Pushed>) {
        let number = self.number;
        self.number += 1;
        match self.producing.spoil {
            Some(Spoil::Lose) if number == SPOILED => {
                let lie = Entry::Delivered { number, partition: 0, id: None, after_ms: 0, at: now() };
                return self.post.journal.write(&lie);
            }
            Some(Spoil::Double) if number == SPOILED => self.push(number, Some(0), None),
            Some(Spoil::Swap) if number == SPOILED => {
                self.number += 1;
                self.push(number + 1, Some(0), Some(tell));
                return self.push(number, Some(0), Some(tell));
            }
            _ => {}
        }
        let partition = self.chance.bool().then(|| self.chance.u64(..));
        self.push(number, partition, Some(tell));
    }

    fn push(&mut self, number: u64, partition: Option<u64>, tell: Option<&mpsc::Sender<Pushed>>) {
        let content = Content { producer: self.producing.producer, number };
        // Mostly small ones, now and then a large one, which takes another way through the plugin.
        let most = if self.chance.u32(..50) == 0 { self.producing.largest } else { self.producing.largest.min(500) };
        let (metadata, data) = (content.metadata(), content.data(self.chance.usize(..=most)));
        let mut event = NewEvent::text(&metadata).data(&data);
        if let Some(partition) = partition {
            event = event.partition(partition);
        }
        let (limit, at) = (Duration::from_millis(self.post.job.timeout_ms), Instant::now());
        let (pushed, took) = self.clock.time(&self.post.journal, "push", limit, || self.producer.push(&event));
        match (pushed, tell) {
            (Ok(push), Some(tell)) => drop(tell.send(Pushed { number, push, at })),
            (Ok(_), None) => {}
            (Err(error), _) => {
                let (status, kafka, why) = (format!("{:?}", error.status), error.kafka_code, error.message);
                let after_ms = took.as_millis() as u64;
                self.post.journal.write(&Entry::Refused { number, status, kafka, why, after_ms, at: now() });
                // A host that is refused waits a little before it tries the next one.
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
        let (result, took) = self.clock.time(&self.post.journal, what, limit, call);
        let said = result.map_or_else(|error| format!("{:?}: {error}", error.status), |()| "Ok".to_owned());
        let (limit_ms, took_ms) = (limit.as_millis() as u64, took.as_millis() as u64);
        self.post.journal.write(&Entry::Called { what: what.to_owned(), limit_ms, took_ms, said, at: now() });
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
    chance: fastrand::Rng,
    swallows: bool,
}

impl Waiter {
    /// Waits for the oldest for a while, then for the next, as long as there are some or some may come.
    fn work(mut self, pushed: &Receiver<Pushed>) {
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

    /// Whether there is a result, or too long none.
    fn settle(&mut self, pushed: &Pushed) -> bool {
        let limit = Duration::from_millis(self.chance.u64(0..200));
        let (result, _) = self.clock.time(&self.journal, "wait", limit, || pushed.push.wait(limit));
        let (number, after_ms, at) = (pushed.number, pushed.at.elapsed().as_millis() as u64, now());
        let entry = match result {
            Err(error) if error.status == Status::TimedOut && pushed.at.elapsed() < self.limit => return false,
            Err(error) if error.status == Status::TimedOut => Entry::Unanswered { number, after_ms },
            _ if self.swallows && number == SPOILED => return true,
            Ok(delivered) => {
                Entry::Delivered { number, partition: delivered.partition, id: delivered.id, after_ms, at }
            }
            Err(error) => {
                let perhaps = error.persisted == octopus_loader::Persisted::Possibly;
                let (status, kafka, why) = (format!("{:?}", error.status), error.kafka_code, error.message);
                Entry::Failed { number, perhaps, status, kafka, why, after_ms, at }
            }
        };
        self.journal.write(&entry);
        true
    }
}
