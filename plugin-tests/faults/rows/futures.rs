//! Row 20: threads wait for futures of their own, drop them, poll them, receive their completion
//! callbacks, wait after a close, and wait with two threads for one future. None hangs, and each
//! has exactly one result. The embedded Kafka is used.

mod reading;
mod writing;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, TopicOptions};
use octopus_testkit::poll;
use serde_json::json;

use super::host::{CallbackLog, lock};
use crate::run::{Failure, OrFail, Result, Run, Tally, check};

const THREADS: usize = 16;
/// A future that is pending for longer counts as hanging.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The progress of one thread. The watchdog fails the row when it stops, and names the current
/// operation.
#[derive(Default)]
pub struct Progress {
    futures: AtomicU64,
    doing: Mutex<&'static str>,
    ended: AtomicBool,
}

impl Progress {
    /// Counts a future that is done or dropped, and sets the next operation.
    pub fn step(&self, next: &'static str) {
        self.futures.fetch_add(1, Ordering::Relaxed);
        self.begin(next);
    }

    pub fn begin(&self, doing: &'static str) {
        *lock(&self.doing) = doing;
    }
}

/// Counters that all threads share.
#[derive(Default)]
pub struct Shared {
    /// The number of completion callbacks that were registered, and that were called.
    pub requested: AtomicU64,
    pub called: AtomicU64,
    /// Wrong results that completion callbacks found.
    pub wrong: Mutex<Vec<String>>,
    pub events: AtomicU64,
}

pub fn run(run: &Run) -> Result<Tally> {
    let wanted = run.pick(30_000, 1_000_000);
    let callback_log = CallbackLog::default();
    let driver = callback_log.driver(json!({"embedded": {}, "disable_info_topic": true}))?;
    let shared = Arc::new(Shared::default());
    let (mut workers, mut progress) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for number in 0..THREADS {
        let worker = Worker::prepare(&driver, number, run, wanted / THREADS as u64, shared.clone())?;
        progress.push(worker.progress.clone());
        // Not scoped threads: a scope would wait for a thread that hangs.
        workers.push(thread::spawn(move || worker.run()));
    }
    drop(driver);
    watch(run, &progress, began)?;
    for worker in workers {
        worker.join().map_err(|_| Failure::new("a thread that waited for futures panicked"))??;
    }
    let requested = shared.requested.load(Ordering::Relaxed);
    poll(MAX_WAIT, || (shared.called.load(Ordering::Relaxed) >= requested).then_some(()));
    let called = shared.called.load(Ordering::Relaxed);
    check(called == requested, format_args!("each of {requested} completions is called once, not {called} in all"))?;
    let wrong = lock(&shared.wrong);
    check(wrong.is_empty(), format_args!("wrong results in completions: {}", wrong.join("; ")))?;
    let futures: u64 = progress.iter().map(|progress| progress.futures.load(Ordering::Relaxed)).sum();
    check(futures >= wanted, format_args!("{wanted} futures were checked, not {futures}"))?;
    callback_log.write_to(run);
    let rate = futures as f64 / began.elapsed().as_secs_f64();
    let notes =
        vec![format!("{futures} futures by {THREADS} threads, {requested} with a completion, {rate:.0} a second")];
    Ok(Tally { events: shared.events.load(Ordering::Relaxed), notes })
}

/// Returns when all threads have ended; fails when one makes no progress.
fn watch(run: &Run, progress: &[Arc<Progress>], began: Instant) -> Result<()> {
    let mut seen: Vec<(u64, Instant)> = progress.iter().map(|_| (0, began)).collect();
    let mut last_report = began;
    loop {
        let mut running = false;
        for (number, (progress, seen)) in progress.iter().zip(&mut seen).enumerate() {
            if progress.ended.load(Ordering::Acquire) {
                continue;
            }
            running = true;
            let futures = progress.futures.load(Ordering::Relaxed);
            if futures != seen.0 {
                *seen = (futures, Instant::now());
            }
            let doing = *lock(&progress.doing);
            let hangs = format_args!("thread {number} hangs after {futures} futures while {doing}");
            check(seen.1.elapsed() < MAX_WAIT, hangs)?;
        }
        if !running {
            return Ok(());
        }
        if last_report.elapsed() > Duration::from_secs(30) {
            last_report = Instant::now();
            let counts: Vec<u64> = seen.iter().map(|(futures, _)| *futures).collect();
            run.report(format_args!("futures of each thread: {counts:?}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// One thread with a topic of its own.
struct Worker {
    writer: writing::Writer,
    reader: reading::Reader,
    progress: Arc<Progress>,
    rng: fastrand::Rng,
    futures: u64,
}

impl Worker {
    fn prepare(driver: &Driver, number: usize, run: &Run, futures: u64, shared: Arc<Shared>) -> Result<Self> {
        let name = format!("futures-{number}");
        driver.create_topic(&name, &TopicOptions::default().replication(1)).or_fail("creating a topic")?;
        let topic = driver.open_topic(&name).or_fail("opening a topic")?;
        let progress = Arc::new(Progress::default());
        let consumer = topic.consumer(&name).targets(&[0]).make().or_fail("creating a consumer")?;
        Ok(Worker {
            reader: reading::Reader::new(consumer, progress.clone(), shared.clone()),
            writer: writing::Writer::new(topic, progress.clone(), shared)?,
            progress,
            rng: fastrand::Rng::with_seed(run.seed.wrapping_add(number as u64)),
            futures,
        })
    }

    fn run(mut self) -> Result<()> {
        let result = self.run_to_end();
        self.progress.ended.store(true, Ordering::Release);
        result
    }

    fn run_to_end(&mut self) -> Result<()> {
        while self.progress.futures.load(Ordering::Relaxed) < self.futures {
            let count = self.rng.usize(1..=200);
            self.writer.push(&mut self.rng, count)?;
            self.writer.flush(&mut self.rng)?;
            // The embedded Kafka keeps only the newest events, so reading must keep up with
            // writing.
            self.reader.read(&mut self.rng, self.writer.written())?;
            if self.rng.u32(..100) == 0 {
                self.writer.close()?;
            }
        }
        self.writer.close()?;
        self.reader.close()
    }
}
