//! Feeds a consumer's events to a function of the host, on a thread pool, until that has had enough.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::consumer::Reader;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::event::SharedEvent;
use crate::thread_pool::{HIGHEST_PRIORITY, ThreadPool};

/// What a processor wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    GoOn,
    Stop,
}

/// Called with each event, and with none when none came in time; on the pool, several at a time.
pub type Processor = dyn Fn(Option<&SharedEvent>) -> Result<Flow> + Send + Sync;

/// Until when events are processed.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long to wait for an event before the processor is called without one; negative: for ever.
    pub timeout_ms: i64,
    /// Events to process; `u64::MAX` is no limit. Time-outs don't count.
    pub max_events: u64,
}

/// Returns when the processor said stop or failed, after so many events, or when no more events can come; and in any
/// case not before everything that was submitted has ended. Events that were taken and not processed go back.
pub fn process(reader: &Arc<Reader>, pool: &ThreadPool, processor: Box<Processor>, bounds: Bounds) -> Result<()> {
    let run = Arc::new(Run {
        reader: reader.clone(),
        processor,
        is_over: AtomicBool::new(false),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let _ended = AllEnded(&run);
    let most_at_once = most_at_once(pool);
    let mut taken = 0;
    while taken < bounds.max_events && !run.is_over() {
        run.wait_until_fewer_than(most_at_once);
        match reader.next_unless(Deadline::from_millis(bounds.timeout_ms), &run.is_over) {
            Ok(event) => {
                taken += 1;
                run.submit(pool, Some(event));
            }
            Err(error) if error.kind() != Kind::TimedOut => run.end(Err(error)),
            Err(_) if run.is_over() => break,
            Err(_) => {
                run.submit(pool, None);
                run.wait_until_fewer_than(1);
            }
        }
    }
    run.wait_until_fewer_than(1);
    run.conclude()
}

/// Enough to keep the threads busy, and few enough to be done with soon after a stop.
fn most_at_once(pool: &ThreadPool) -> u64 {
    pool.thread_count().saturating_mul(4).clamp(16, 1024)
}

struct Run {
    reader: Arc<Reader>,
    processor: Box<Processor>,
    is_over: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    submitted: u64,
    result: Option<Result<()>>,
    unprocessed: Vec<SharedEvent>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ends the run with this result, unless it ended before.
    fn end(&self, result: Result<()>) {
        self.state.lock().result.get_or_insert(result);
        self.is_over.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn submit(self: &Arc<Self>, pool: &ThreadPool, event: Option<SharedEvent>) {
        self.state.lock().submitted += 1;
        let job = Job { run: self.clone(), event, is_done: false };
        if let Err(refused) = pool.submit(Box::new(move || job.run()), HIGHEST_PRIORITY) {
            self.end(Err(refused.why.context("handing an event to the thread pool")));
            drop(refused.task);
        }
    }

    fn wait_until_fewer_than(&self, count: u64) {
        const SLICE: Duration = Duration::from_secs(1);
        let mut state = self.state.lock();
        while state.submitted >= count {
            self.changed.wait_for(&mut state, SLICE);
        }
    }

    fn conclude(&self) -> Result<()> {
        let mut state = self.state.lock();
        let unprocessed = std::mem::take(&mut state.unprocessed);
        let result = state.result.take().unwrap_or(Ok(()));
        drop(state);
        self.reader.hand_back(unprocessed);
        result
    }
}

/// Whatever ends `process`, the host's function is not called afterwards.
struct AllEnded<'a>(&'a Run);

impl Drop for AllEnded<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.wait_until_fewer_than(1);
    }
}

/// One call of the processor to be made. However it ends, the run hears of it.
struct Job {
    run: Arc<Run>,
    event: Option<SharedEvent>,
    is_done: bool,
}

impl Job {
    fn run(mut self) {
        if self.run.is_over() {
            return;
        }
        self.is_done = true;
        match catch_unwind(AssertUnwindSafe(|| (self.run.processor)(self.event.as_ref()))) {
            Ok(Ok(Flow::GoOn)) => {}
            Ok(Ok(Flow::Stop)) => self.run.end(Ok(())),
            Ok(Err(error)) => self.run.end(Err(error)),
            Err(_) => self.run.end(Err(Error::new(Kind::Panicked, "processing an event: a defect inside Octopus"))),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.is_done && !self.run.is_over() {
            let why = "the thread pool dropped a task without running it";
            self.run.end(Err(Error::new(Kind::HostCallback, format!("processing an event: {why}"))));
        }
        let mut state = self.run.state.lock();
        if !self.is_done {
            state.unprocessed.extend(self.event.take());
        }
        state.submitted -= 1;
        drop(state);
        self.run.changed.notify_all();
    }
}
