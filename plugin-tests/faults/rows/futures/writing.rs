//! Futures of pushes and flushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use octopus_loader::{Delivered, Flush, NewEvent, Producer, Push, Topic};

use super::super::host::held;
use super::{PATIENCE, Progress, Shared};
use crate::run::{Failure, OrFail, Result, check};

pub struct Writer {
    topic: Topic,
    producer: Producer,
    /// Events pushed, which is the offset of the next one.
    pushed: u64,
    progress: Arc<Progress>,
    shared: Arc<Shared>,
}

impl Writer {
    pub fn new(topic: Topic, progress: Arc<Progress>, shared: Arc<Shared>) -> Result<Self> {
        let producer = produce(&topic)?;
        Ok(Writer { topic, producer, pushed: 0, progress, shared })
    }

    /// Events that are there, or will be.
    pub fn written(&self) -> u64 {
        self.pushed
    }

    /// Pushes so many events, and does with each future what chance says.
    pub fn push(&mut self, chance: &mut fastrand::Rng, count: usize) -> Result<()> {
        self.progress.begin("pushing");
        let event = NewEvent::text(r#"{"of": "futures"}"#).data(b"some bytes");
        let pushes = (0..count)
            .map(|_| {
                let at = self.pushed;
                self.pushed += 1;
                self.shared.events.fetch_add(1, Ordering::Relaxed);
                Ok((self.producer.push(&event).or_fail("pushing")?, at))
            })
            .collect::<Result<Vec<_>>>()?;
        for (push, at) in pushes {
            self.end(chance.u8(..6), push, at)?;
        }
        Ok(())
    }

    fn end(&self, way: u8, push: Push, at: u64) -> Result<()> {
        let progress = &self.progress;
        match way {
            0 => {
                progress.begin("waiting for a push");
                is_at(push.wait(PATIENCE), at)?;
                // The result stays.
                is_at(push.try_wait().map(|delivered| delivered.unwrap_or(NOWHERE)), at)?;
            }
            1 => drop(push),
            2 => {
                progress.begin("waiting for a push by twos");
                let both = thread::scope(|scope| {
                    let other = scope.spawn(|| push.wait(PATIENCE));
                    let own = push.wait(PATIENCE);
                    other.join().map(|others| (own, others))
                });
                let (own, others) = both.map_err(|_| Failure::new("a thread that waited panicked"))?;
                is_at(own, at)?;
                is_at(others, at)?;
            }
            3 => {
                progress.begin("asking a push");
                while !push.is_done().or_fail("testing a push")? {
                    thread::yield_now();
                }
                is_at(push.try_wait().map(|delivered| delivered.unwrap_or(NOWHERE)), at)?;
            }
            4 => self.be_told(&push, at)?,
            _ => {
                // By another thread than the one that pushed, which has let go of it.
                progress.begin("waiting for a push elsewhere");
                let waited = thread::spawn(move || push.wait(PATIENCE)).join();
                is_at(waited.map_err(|_| Failure::new("a thread that waited panicked"))?, at)?;
            }
        }
        progress.step("between futures");
        Ok(())
    }

    fn be_told(&self, push: &Push, at: u64) -> Result<()> {
        let (shared, told) = (self.shared.clone(), AtomicBool::new(false));
        shared.asked.fetch_add(1, Ordering::Relaxed);
        push.on_complete(move |push| {
            shared.told.fetch_add(1, Ordering::Relaxed);
            if told.swap(true, Ordering::Relaxed) {
                held(&shared.wrong).push(format!("the push of {at} complete a second time"));
            }
            if let Err(why) = is_at(push.wait(std::time::Duration::ZERO), at) {
                held(&shared.wrong).push(why.to_string());
            }
        })
        .or_fail("asking to be told of a push")
    }

    /// A flush is waited for, dropped, asked, told of, or waited for by twos.
    pub fn flush(&self, chance: &mut fastrand::Rng) -> Result<()> {
        let progress = &self.progress;
        progress.begin("flushing");
        let flush = self.producer.flush().or_fail("flushing")?;
        match chance.u8(..5) {
            0 => flush.wait(PATIENCE).or_fail("waiting for a flush")?,
            1 => drop(flush),
            2 => {
                progress.begin("asking a flush");
                while !flush.is_done().or_fail("testing a flush")? {
                    thread::yield_now();
                }
                flush.wait(std::time::Duration::ZERO).or_fail("a flush that is done")?;
            }
            3 => self.be_told_of(&flush)?,
            _ => {
                progress.begin("waiting for a flush by twos");
                let both = thread::scope(|scope| {
                    let other = scope.spawn(|| flush.wait(PATIENCE));
                    flush.wait(PATIENCE).and(other.join().unwrap_or(Ok(())))
                });
                both.or_fail("waiting for a flush by twos")?;
            }
        }
        progress.step("between futures");
        Ok(())
    }

    fn be_told_of(&self, flush: &Flush) -> Result<()> {
        let shared = self.shared.clone();
        shared.asked.fetch_add(1, Ordering::Relaxed);
        flush
            .on_complete(move |flush| {
                shared.told.fetch_add(1, Ordering::Relaxed);
                if let Err(why) = flush.wait(std::time::Duration::ZERO) {
                    held(&shared.wrong).push(format!("a flush that failed: {why}"));
                }
            })
            .or_fail("asking to be told of a flush")
    }

    /// Futures outlive their producer, closed or only let go of; the next events have another one.
    pub fn close(&mut self) -> Result<()> {
        let event = NewEvent::text("{}");
        let mut held_on = Vec::new();
        for _ in 0..8 {
            held_on.push((self.producer.push(&event).or_fail("pushing before a close")?, self.pushed));
            self.pushed += 1;
            self.shared.events.fetch_add(1, Ordering::Relaxed);
        }
        self.progress.begin("closing");
        let producer = std::mem::replace(&mut self.producer, produce(&self.topic)?);
        if self.pushed.is_multiple_of(2) {
            producer.close(PATIENCE).or_fail("closing")?;
            let closed = producer.push(&event).map(drop);
            let is = closed.as_ref().is_err_and(|error| error.status == octopus_loader::Status::Closed);
            check(is, format_args!("a closed producer takes nothing more: {closed:?}"))?;
        }
        drop(producer);
        self.progress.begin("waiting after a close");
        for (push, at) in held_on {
            is_at(push.wait(PATIENCE), at)?;
            self.progress.step("waiting after a close");
        }
        Ok(())
    }
}

const NOWHERE: Delivered = Delivered { partition: 0, id: None };

fn is_at(waited: octopus_loader::Result<Delivered>, at: u64) -> Result<()> {
    let delivered = waited.or_fail(format_args!("waiting for the event that goes to offset {at}"))?;
    let expected = Delivered { partition: 0, id: Some(at) };
    check(delivered == expected, format_args!("an event is at {expected:?}, not at {delivered:?}"))
}

fn produce(topic: &Topic) -> Result<Producer> {
    topic.producer("writer").make().or_fail("making a producer")
}
