//! Row 20: threads wait on futures of their own, drop them, poll them, are told of them, wait after a close, and wait by twos
//! on one. None hangs, and each has one result. The Kafka is the embedded one.

mod reading;
mod writing;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use octopus_loader::{Driver, TopicOptions};
use serde_json::json;

use super::host::{Heard, held};
use crate::run::{Failure, OrFail, Result, Run, Tally, check};

const THREADS: usize = 16;
/// Beyond that a future hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one thread is at; the watchdog looks at it, and tells of it when it stands.
#[derive(Default)]
pub struct Progress {
    futures: AtomicU64,
    doing: Mutex<&'static str>,
    ended: AtomicBool,
}

impl Progress {
    /// One more future has its result, or was dropped; the next thing is this.
    pub fn step(&self, next: &'static str) {
        self.futures.fetch_add(1, Ordering::Relaxed);
        self.begin(next);
    }

    pub fn begin(&self, doing: &'static str) {
        *held(&self.doing) = doing;
    }
}

/// What became of each way to treat a future.
#[derive(Default)]
pub struct Shared {
    /// Completions that were asked for, and that were called.
    pub asked: AtomicU64,
    pub told: AtomicU64,
    /// Completions that found something else than there must be.
    pub wrong: Mutex<Vec<String>>,
    pub events: AtomicU64,
}

pub fn run(run: &Run) -> Result<Tally> {
    let wanted = run.pick(30_000, 1_000_000);
    let heard = Heard::default();
    let driver = heard.driver(json!({"embedded": {}, "disable_info_topic": true}))?;
    let shared = Arc::new(Shared::default());
    let (mut workers, mut progress) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for number in 0..THREADS {
        let worker = Worker::prepare(&driver, number, run, wanted / THREADS as u64, shared.clone())?;
        progress.push(worker.progress.clone());
        // Not scoped: one that hangs can't be waited for.
        workers.push(thread::spawn(move || worker.work()));
    }
    drop(driver);
    watch(run, &progress, began)?;
    for worker in workers {
        worker.join().map_err(|_| Failure::new("a thread that waited for futures panicked"))??;
    }
    let (asked, deadline) = (shared.asked.load(Ordering::Relaxed), Instant::now() + PATIENCE);
    while shared.told.load(Ordering::Relaxed) < asked && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let told = shared.told.load(Ordering::Relaxed);
    check(told == asked, format_args!("each of {asked} completions is called once, not {told} in all"))?;
    let wrong = held(&shared.wrong);
    check(wrong.is_empty(), format_args!("completions found: {}", wrong.join("; ")))?;
    let futures: u64 = progress.iter().map(|progress| progress.futures.load(Ordering::Relaxed)).sum();
    check(futures >= wanted, format_args!("{wanted} futures were looked at, not {futures}"))?;
    heard.keep(run);
    let rate = futures as f64 / began.elapsed().as_secs_f64();
    let notes = vec![format!("{futures} futures by {THREADS} threads, {asked} with a completion, {rate:.0} a second")];
    Ok(Tally { events: shared.events.load(Ordering::Relaxed), notes })
}

/// Returns when all have ended; fails when one stands still.
fn watch(run: &Run, progress: &[Arc<Progress>], began: Instant) -> Result<()> {
    let mut seen: Vec<(u64, Instant)> = progress.iter().map(|_| (0, began)).collect();
    let mut spoke = began;
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
            let doing = *held(&progress.doing);
            let stands = format_args!("thread {number} hangs behind {futures} futures, at: {doing}");
            check(seen.1.elapsed() < PATIENCE, stands)?;
        }
        if !running {
            return Ok(());
        }
        if spoke.elapsed() > Duration::from_secs(30) {
            spoke = Instant::now();
            let counts: Vec<u64> = seen.iter().map(|(futures, _)| *futures).collect();
            run.say(format_args!("futures of each thread: {counts:?}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// One thread, with a topic of its own, so that its events are its own.
struct Worker {
    writer: writing::Writer,
    reader: reading::Reader,
    progress: Arc<Progress>,
    chance: fastrand::Rng,
    futures: u64,
}

impl Worker {
    fn prepare(driver: &Driver, number: usize, run: &Run, futures: u64, shared: Arc<Shared>) -> Result<Self> {
        let name = format!("futures-{number}");
        driver.create_topic(&name, &TopicOptions::default().replication(1)).or_fail("making a topic")?;
        let topic = driver.open_topic(&name).or_fail("opening a topic")?;
        let progress = Arc::new(Progress::default());
        let consumer = topic.consumer(&name).targets(&[0]).make().or_fail("making a consumer")?;
        Ok(Worker {
            reader: reading::Reader::new(consumer, progress.clone(), shared.clone()),
            writer: writing::Writer::new(topic, progress.clone(), shared)?,
            progress,
            chance: fastrand::Rng::with_seed(run.seed.wrapping_add(number as u64)),
            futures,
        })
    }

    fn work(mut self) -> Result<()> {
        let result = self.work_through();
        self.progress.ended.store(true, Ordering::Release);
        result
    }

    fn work_through(&mut self) -> Result<()> {
        while self.progress.futures.load(Ordering::Relaxed) < self.futures {
            let count = self.chance.usize(1..=200);
            self.writer.push(&mut self.chance, count)?;
            self.writer.flush(&mut self.chance)?;
            // Reading keeps up with writing: the embedded Kafka keeps only the newest events.
            self.reader.read(&mut self.chance, self.writer.written())?;
            if self.chance.u32(..100) == 0 {
                self.writer.close()?;
            }
        }
        self.writer.close()?;
        self.reader.close()
    }
}
