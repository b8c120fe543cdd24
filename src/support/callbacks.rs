//! Runs completion callbacks of the host on one thread of the process, so that a slow callback does
//! not delay the deliveries of a client. The thread is started when it is first needed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex};

use crate::support::error::Result;
use crate::support::process_exit;
use crate::support::threads::spawn;

/// A callback, called at most once.
pub type Completion = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct CallbackQueue {
    pending: Mutex<Vec<Completion>>,
    changed: Condvar,
}

static QUEUE: OnceCell<&'static CallbackQueue> = OnceCell::new();

/// Starts the thread unless it runs. Call this before accepting a callback: it can fail.
pub fn start() -> Result<()> {
    QUEUE
        .get_or_try_init(|| {
            let queue: &'static CallbackQueue = Box::leak(Box::default());
            spawn("octopus-callbacks", || queue.run()).map(|()| queue)
        })
        .map(drop)
}

/// Enqueues callbacks, and wakes their thread once, when it is dropped.
#[derive(Default)]
pub struct CallbackBatch(Cell<bool>);

impl CallbackBatch {
    pub fn enqueue(&self, completions: impl IntoIterator<Item = Completion>) {
        let mut completions = completions.into_iter().peekable();
        if let (Some(queue), Some(_)) = (QUEUE.get(), completions.peek()) {
            queue.pending.lock().extend(completions);
            self.0.set(true);
        }
    }
}

impl Drop for CallbackBatch {
    fn drop(&mut self) {
        if let (Some(queue), true) = (QUEUE.get(), self.0.get()) {
            queue.changed.notify_one();
        }
    }
}

/// Runs a callback on this thread. Catches a panic of the plugin inside it.
pub fn run_callback(completion: Completion) {
    // The objects that the host's function and its context refer to may be destroyed already.
    if process_exit::has_begun() {
        return std::mem::forget(completion);
    }
    let _ = catch_unwind(AssertUnwindSafe(completion));
}

impl CallbackQueue {
    fn run(&self) {
        loop {
            for completion in self.next_batch() {
                run_callback(completion);
            }
        }
    }

    /// Waits for callbacks and takes all of them, so that the lock is free while they run.
    fn next_batch(&self) -> Vec<Completion> {
        const SLICE: Duration = Duration::from_secs(60);
        let mut pending = self.pending.lock();
        while pending.is_empty() {
            self.changed.wait_for(&mut pending, SLICE);
        }
        std::mem::take(&mut pending)
    }
}
