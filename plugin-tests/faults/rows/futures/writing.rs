//! Futures of pushes and flushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use octopus_loader::{Delivered, Flush, NewEvent, Producer, Push, Topic};

use super::super::host::lock;
use super::{MAX_WAIT, Progress, Shared};
use crate::run::{Failure, OrFail, Result, check};

pub struct Writer {
    topic: Topic,
    producer: Producer,
    /// The number of pushed events, which is the offset of the next one.
    pushed: u64,
    progress: Arc<Progress>,
    shared: Arc<Shared>,
}

impl Writer {
    pub fn new(topic: Topic, progress: Arc<Progress>, shared: Arc<Shared>) -> Result<Self> {
        let producer = produce(&topic)?;
        Ok(Writer { topic, producer, pushed: 0, progress, shared })
    }

    /// The number of events that are stored or will be.
    pub fn written(&self) -> u64 {
        self.pushed
    }

    /// Pushes `count` events and uses each future in a random way.
    pub fn push(&mut self, rng: &mut fastrand::Rng, count: usize) -> Result<()> {
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
            self.end(rng.u8(..6), push, at)?;
        }
        Ok(())
    }

    fn end(&self, way: u8, push: Push, at: u64) -> Result<()> {
        let progress = &self.progress;
        match way {
            0 => {
                progress.begin("waiting for a push");
                check_offset(push.wait(MAX_WAIT), at)?;
                // The result can be read again.
                check_offset(push.try_wait().map(|delivered| delivered.unwrap_or(NOWHERE)), at)?;
            }
            1 => drop(push),
            2 => {
                progress.begin("waiting for a push on two threads");
                let both = thread::scope(|scope| {
                    let other = scope.spawn(|| push.wait(MAX_WAIT));
                    let own = push.wait(MAX_WAIT);
                    other.join().map(|others| (own, others))
                });
                let (own, others) = both.map_err(|_| Failure::new("a thread that waited panicked"))?;
                check_offset(own, at)?;
                check_offset(others, at)?;
            }
            3 => {
                progress.begin("polling a push");
                while !push.is_done().or_fail("testing a push")? {
                    thread::yield_now();
                }
                check_offset(push.try_wait().map(|delivered| delivered.unwrap_or(NOWHERE)), at)?;
            }
            4 => self.complete_by_callback(&push, at)?,
            _ => {
                // On another thread than the one that pushed, which has dropped the future.
                progress.begin("waiting for a push on another thread");
                let waited = thread::spawn(move || push.wait(MAX_WAIT)).join();
                check_offset(waited.map_err(|_| Failure::new("a thread that waited panicked"))?, at)?;
            }
        }
        progress.step("between futures");
        Ok(())
    }

    fn complete_by_callback(&self, push: &Push, at: u64) -> Result<()> {
        let (shared, was_called) = (self.shared.clone(), AtomicBool::new(false));
        shared.requested.fetch_add(1, Ordering::Relaxed);
        push.on_complete(move |push| {
            shared.called.fetch_add(1, Ordering::Relaxed);
            if was_called.swap(true, Ordering::Relaxed) {
                lock(&shared.wrong).push(format!("the completion of push {at} was called twice"));
            }
            if let Err(why) = check_offset(push.wait(std::time::Duration::ZERO), at) {
                lock(&shared.wrong).push(why.to_string());
            }
        })
        .or_fail("registering a completion of a push")
    }

    /// Waits for, drops or polls a flush, registers a completion, or waits for it on two threads.
    pub fn flush(&self, rng: &mut fastrand::Rng) -> Result<()> {
        let progress = &self.progress;
        progress.begin("flushing");
        let flush = self.producer.flush().or_fail("flushing")?;
        match rng.u8(..5) {
            0 => flush.wait(MAX_WAIT).or_fail("waiting for a flush")?,
            1 => drop(flush),
            2 => {
                progress.begin("polling a flush");
                while !flush.is_done().or_fail("testing a flush")? {
                    thread::yield_now();
                }
                flush.wait(std::time::Duration::ZERO).or_fail("a flush that is done")?;
            }
            3 => self.complete_flush_by_callback(&flush)?,
            _ => {
                progress.begin("waiting for a flush on two threads");
                let both = thread::scope(|scope| {
                    let other = scope.spawn(|| flush.wait(MAX_WAIT));
                    flush.wait(MAX_WAIT).and(other.join().unwrap_or(Ok(())))
                });
                both.or_fail("waiting for a flush on two threads")?;
            }
        }
        progress.step("between futures");
        Ok(())
    }

    fn complete_flush_by_callback(&self, flush: &Flush) -> Result<()> {
        let shared = self.shared.clone();
        shared.requested.fetch_add(1, Ordering::Relaxed);
        flush
            .on_complete(move |flush| {
                shared.called.fetch_add(1, Ordering::Relaxed);
                if let Err(why) = flush.wait(std::time::Duration::ZERO) {
                    lock(&shared.wrong).push(format!("a flush failed: {why}"));
                }
            })
            .or_fail("registering a completion of a flush")
    }

    /// Futures outlive their producer, whether it was closed or only released. Later events use a
    /// new producer.
    pub fn close(&mut self) -> Result<()> {
        let event = NewEvent::text("{}");
        let mut pending = Vec::new();
        for _ in 0..8 {
            pending.push((self.producer.push(&event).or_fail("pushing before a close")?, self.pushed));
            self.pushed += 1;
            self.shared.events.fetch_add(1, Ordering::Relaxed);
        }
        self.progress.begin("closing");
        let producer = std::mem::replace(&mut self.producer, produce(&self.topic)?);
        if self.pushed.is_multiple_of(2) {
            producer.close(MAX_WAIT).or_fail("closing")?;
            let closed = producer.push(&event).map(drop);
            let is_expected = closed.as_ref().is_err_and(|error| error.status == octopus_loader::Status::Closed);
            check(is_expected, format_args!("a closed producer rejects pushes: {closed:?}"))?;
        }
        drop(producer);
        self.progress.begin("waiting after a close");
        for (push, at) in pending {
            check_offset(push.wait(MAX_WAIT), at)?;
            self.progress.step("waiting after a close");
        }
        Ok(())
    }
}

const NOWHERE: Delivered = Delivered { partition: 0, id: None };

fn check_offset(waited: octopus_loader::Result<Delivered>, at: u64) -> Result<()> {
    let delivered = waited.or_fail(format_args!("waiting for the event at offset {at}"))?;
    let expected = Delivered { partition: 0, id: Some(at) };
    check(delivered == expected, format_args!("an event is at {expected:?}, not at {delivered:?}"))
}

fn produce(topic: &Topic) -> Result<Producer> {
    topic.producer("writer").make().or_fail("creating a producer")
}
