//! What both sides can do, so that the same code measures them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::job::{Event, Job, Times};

/// Nothing here takes longer, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// What waits in a loop waits so long at a time.
pub const SLICE: Duration = Duration::from_millis(100);
/// What is read at once, at most.
pub const BATCH: usize = 1_000;

/// One of the two sides of a comparison.
pub trait Measured {
    /// What there is before producers and consumers.
    type Opened;
    type Producer: Producing;
    type Consumer: Consuming;

    fn open(job: &Job) -> Self::Opened;

    fn producer(opened: &Self::Opened, job: &Job) -> Self::Producer;

    fn consumer(opened: &Self::Opened, job: &Job) -> Self::Consumer;
}

/// Pushes to one topic, to one partition after the other; whatever fails ends the process, and so the measurement.
pub trait Producing: Sync {
    type Ticket;

    fn push(&self, number: u64, event: &Event);

    fn push_for_ticket(&self, number: u64, event: &Event) -> Self::Ticket;

    /// Waits for a delivery; tickets are waited for in the order of their pushes.
    fn wait(&self, ticket: Self::Ticket);

    /// Has `told` note when the event's result is there.
    fn push_told(&self, number: u64, event: &Event, told: &'static Told);

    /// Serves what tells of results, where that is the host's to do, for a while.
    fn serve(&self) {
        std::thread::sleep(SLICE);
    }

    /// Sends what lingers, and waits until all is delivered.
    fn flush(&self);

    fn close(self);
}

/// Reads all partitions of a topic from their beginning.
pub trait Consuming {
    type Held;

    /// Waits for an event, and keeps it.
    fn hold(&mut self) -> Self::Held;

    /// Waits for an event.
    fn pull(&mut self) -> Seen;

    /// Waits for some events; where there is no such call, for one.
    fn pull_many(&mut self) -> Seen;

    /// By the call that takes most events at once.
    fn pull_batch(&mut self) -> Seen {
        self.pull_many()
    }

    fn close(self);
}

/// Of events that were pulled, and looked at.
#[derive(Default)]
pub struct Seen {
    pub events: u64,
    pub bytes: u64,
    /// The number in front of the last one's data.
    pub stamp: u64,
}

/// When the results of pushes came.
pub struct Told {
    pub began: Instant,
    ends: Vec<AtomicU64>,
}

impl Told {
    pub fn of(events: u64) -> &'static Self {
        let ends = (0..events).map(|_| AtomicU64::new(0)).collect();
        Box::leak(Box::new(Told { began: Instant::now(), ends }))
    }

    pub fn note(&self, number: u64) {
        self.ends[number as usize].store(self.began.elapsed().as_nanos() as u64, Ordering::Release);
    }

    /// How long each took from when it should have begun.
    pub fn times(&self, should_begin: impl Fn(u64) -> Duration) -> Option<Times> {
        let took = |(number, end): (usize, &AtomicU64)| {
            let end = Duration::from_nanos(end.load(Ordering::Acquire));
            end.saturating_sub(should_begin(number as u64)).as_nanos() as f64 / 1e3
        };
        Times::of(self.ends.iter().enumerate().map(took).collect())
    }
}
