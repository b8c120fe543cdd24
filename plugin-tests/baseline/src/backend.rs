//! The interface of a measured client, so that the same code measures each side of a comparison.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::job::{Event, Job, Times};

/// The timeout of each call. A call that takes longer hangs.
pub const TIMEOUT: Duration = Duration::from_secs(120);
/// The timeout of one call in a polling loop.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum number of events that one call pulls.
pub const MAX_BATCH: usize = 1_000;

/// A client that is measured: one side of a comparison.
pub trait Backend {
    /// What producers and consumers are created from.
    type Opened;
    type Producer: BenchProducer;
    type Consumer: BenchConsumer;

    fn open(job: &Job) -> Self::Opened;

    fn producer(opened: &Self::Opened, job: &Job) -> Self::Producer;

    fn consumer(opened: &Self::Opened, job: &Job) -> Self::Consumer;
}

/// Pushes to one topic, round robin over its partitions. A failure panics, which ends the process
/// and so the measurement.
pub trait BenchProducer: Sync {
    /// A pending delivery.
    type Delivery;

    fn push(&self, number: u64, event: &Event);

    fn push_tracked(&self, number: u64, event: &Event) -> Self::Delivery;

    /// Waits for a delivery. The deliveries must be waited for in the order of their pushes.
    fn wait(&self, delivery: Self::Delivery);

    /// Pushes an event and records in `times` when its delivery is reported.
    fn push_timed(&self, number: u64, event: &Event, times: &'static DeliveryTimes);

    /// Serves delivery reports for [`POLL_INTERVAL`], if the host has to do that.
    fn serve(&self) {
        std::thread::sleep(POLL_INTERVAL);
    }

    /// Ends the linger and waits until all events are delivered.
    fn flush(&self);

    fn close(self);
}

/// Reads all partitions of a topic from their beginning.
pub trait BenchConsumer {
    type Held;

    /// Waits for an event and returns it.
    fn hold(&mut self) -> Self::Held;

    /// Pulls one event.
    fn pull(&mut self) -> PulledEvents;

    /// Pulls some events, or one event if the client has no function for several.
    fn pull_many(&mut self) -> PulledEvents;

    /// Pulls some events with the client's fastest function.
    fn pull_batch(&mut self) -> PulledEvents {
        self.pull_many()
    }

    fn close(self);
}

/// Sums over pulled events, whose bytes were read.
#[derive(Default)]
pub struct PulledEvents {
    pub events: u64,
    pub bytes: u64,
    /// The number at the start of the last event's data.
    pub stamp: u64,
}

/// The times at which the deliveries of pushes were reported.
pub struct DeliveryTimes {
    pub began: Instant,
    ends: Vec<AtomicU64>,
}

impl DeliveryTimes {
    /// Leaked, since delivery callbacks outlive the measurement.
    pub fn for_events(events: u64) -> &'static Self {
        let ends = (0..events).map(|_| AtomicU64::new(0)).collect();
        Box::leak(Box::new(DeliveryTimes { began: Instant::now(), ends }))
    }

    pub fn record(&self, number: u64) {
        self.ends[number as usize].store(self.began.elapsed().as_nanos() as u64, Ordering::Release);
    }

    /// Returns the distribution of the latencies, each from the time at which its push should have
    /// begun.
    pub fn latencies(&self, should_begin: impl Fn(u64) -> Duration) -> Option<Times> {
        let took = |(number, end): (usize, &AtomicU64)| {
            let end = Duration::from_nanos(end.load(Ordering::Acquire));
            end.saturating_sub(should_begin(number as u64)).as_nanos() as f64 / 1e3
        };
        Times::of(self.ends.iter().enumerate().map(took).collect())
    }
}
