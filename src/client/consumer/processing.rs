//! Calls a function of the host with each event of a consumer, on a thread pool, until it stops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::reader::Reader;
use crate::delivery::pull::EventSource;
use crate::event::SharedEvent;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::thread_pool::{HIGHEST_PRIORITY, ThreadPool};

/// Whether a processor wants more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Stop,
}

/// The host's function. It gets each event, or `None` if none came before the timeout. Several
/// threads of the pool may call it at the same time.
pub type Processor = dyn Fn(Option<&SharedEvent>) -> Result<Flow> + Send + Sync;

/// When processing ends.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long to wait for an event before the processor is called without one; negative: without
    /// a limit.
    pub timeout_ms: i64,
    /// The number of events to process; `u64::MAX` means no limit. Timeouts don't count.
    pub max_events: u64,
}

/// Processes events until the processor stops or fails, until `bounds.max_events` events are
/// processed, or until pulling fails. Returns when all submitted tasks have ended. Events that were
/// taken and not processed return to the reader.
pub fn process(reader: &Arc<Reader>, pool: &ThreadPool, processor: Box<Processor>, bounds: Bounds) -> Result<()> {
    let run = Arc::new(ProcessingRun {
        reader: reader.clone(),
        processor,
        is_over: AtomicBool::new(false),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let _end = EndOnDrop(&run);
    let max_concurrent_tasks = max_concurrent_tasks(pool);
    let mut taken = 0;
    while taken < bounds.max_events && !run.is_over() {
        run.wait_for_fewer_tasks_than(max_concurrent_tasks);
        match reader.next_unless(Deadline::from_millis(bounds.timeout_ms), &run.is_over) {
            Ok(event) => {
                taken += 1;
                run.submit(pool, Some(event));
            }
            Err(error) if error.kind() != Kind::TimedOut => run.end(Err(error)),
            Err(_) if run.is_over() => break,
            Err(_) => {
                run.submit(pool, None);
                run.wait_for_fewer_tasks_than(1);
            }
        }
    }
    run.wait_for_fewer_tasks_than(1);
    run.take_result()
}

/// The number of tasks that keeps the threads busy, and still ends soon after a stop.
fn max_concurrent_tasks(pool: &ThreadPool) -> u64 {
    pool.thread_count().saturating_mul(4).clamp(16, 1024)
}

struct ProcessingRun {
    reader: Arc<Reader>,
    processor: Box<Processor>,
    is_over: AtomicBool,
    state: Mutex<RunState>,
    changed: Condvar,
}

#[derive(Default)]
struct RunState {
    unfinished: u64,
    result: Option<Result<()>>,
    unprocessed: Vec<SharedEvent>,
}

impl ProcessingRun {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ends the run. The first result counts.
    fn end(&self, result: Result<()>) {
        self.state.lock().result.get_or_insert(result);
        self.is_over.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn submit(self: &Arc<Self>, pool: &ThreadPool, event: Option<SharedEvent>) {
        self.state.lock().unfinished += 1;
        let task = ProcessTask { run: self.clone(), event, is_done: false };
        if let Err(rejected) = pool.submit(Box::new(move || task.run()), HIGHEST_PRIORITY) {
            self.end(Err(rejected.error.context("submitting an event to the thread pool")));
            drop(rejected.task);
        }
    }

    fn wait_for_fewer_tasks_than(&self, count: u64) {
        const SLICE: Duration = Duration::from_secs(1);
        let mut state = self.state.lock();
        while state.unfinished >= count {
            self.changed.wait_for(&mut state, SLICE);
        }
    }

    fn take_result(&self) -> Result<()> {
        let mut state = self.state.lock();
        let unprocessed = std::mem::take(&mut state.unprocessed);
        let result = state.result.take().unwrap_or(Ok(()));
        drop(state);
        self.reader.return_events(unprocessed);
        result
    }
}

/// Ends the run when `process` returns, also by a panic: the host's function is not called
/// afterwards.
struct EndOnDrop<'a>(&'a ProcessingRun);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.wait_for_fewer_tasks_than(1);
    }
}

/// One call of the processor. Dropping it, with or without having run, counts it as finished.
struct ProcessTask {
    run: Arc<ProcessingRun>,
    event: Option<SharedEvent>,
    is_done: bool,
}

impl ProcessTask {
    fn run(mut self) {
        if self.run.is_over() {
            return;
        }
        self.is_done = true;
        match catch_unwind(AssertUnwindSafe(|| (self.run.processor)(self.event.as_ref()))) {
            Ok(Ok(Flow::Continue)) => {}
            Ok(Ok(Flow::Stop)) => self.run.end(Ok(())),
            Ok(Err(error)) => self.run.end(Err(error)),
            Err(_) => {
                let reason = "processing an event: a panic inside Octopus; report this as a bug";
                self.run.end(Err(Error::new(Kind::Panicked, reason)));
            }
        }
    }
}

impl Drop for ProcessTask {
    fn drop(&mut self) {
        if !self.is_done && !self.run.is_over() {
            let reason = "processing an event: the thread pool dropped the task without running it";
            self.run.end(Err(Error::new(Kind::HostCallback, reason)));
        }
        let mut state = self.run.state.lock();
        if !self.is_done {
            state.unprocessed.extend(self.event.take());
        }
        state.unfinished -= 1;
        drop(state);
        self.run.changed.notify_all();
    }
}
