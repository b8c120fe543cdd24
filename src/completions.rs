//! Calls the host when something has ended: one thread for the whole process, started when it is first needed, so that
//! a callback that takes its time keeps no client from its deliveries.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::poison::mark_plugin_thread;
use crate::{process_exit, resource_limit};

/// What is to be called, once.
pub type Completion = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Line {
    waiting: Mutex<Vec<Completion>>,
    changed: Condvar,
}

static LINE: OnceCell<&'static Line> = OnceCell::new();

/// Makes sure that there is a thread; to be asked before something is promised.
pub fn start() -> Result<()> {
    LINE.get_or_try_init(|| {
        let line: &'static Line = Box::leak(Box::default());
        spawn("octopus-callbacks", || line.call_for_ever()).map(|()| line)
    })
    .map(drop)
}

/// What is lined up while there is one is called, in order, on the thread of the callbacks: woken once, when it is dropped.
#[derive(Default)]
pub struct Calls(Cell<bool>);

impl Calls {
    pub fn line_up(&self, completions: impl IntoIterator<Item = Completion>) {
        let mut completions = completions.into_iter().peekable();
        if let (Some(line), Some(_)) = (LINE.get(), completions.peek()) {
            line.waiting.lock().extend(completions);
            self.0.set(true);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let (Some(line), true) = (LINE.get(), self.0.get()) {
            line.changed.notify_one();
        }
    }
}

/// Calls one here; a panic of ours inside it ends there.
pub fn call_here(completion: Completion) {
    // What the host's function uses may be destroyed already, and so may what its context refers to.
    if process_exit::has_begun() {
        return std::mem::forget(completion);
    }
    let _ = catch_unwind(AssertUnwindSafe(completion));
}

/// Starts a thread of the plugin.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            mark_plugin_thread();
            work();
        })
        .map(drop)
        .map_err(|cause| resource_limit::error(format_args!("creating the thread {name}"), &cause))
}

impl Line {
    fn call_for_ever(&self) {
        loop {
            for completion in self.next() {
                call_here(completion);
            }
        }
    }

    /// All that there are, so that those that line up meanwhile don't wait for the lock.
    fn next(&self) -> Vec<Completion> {
        const SLICE: Duration = Duration::from_secs(60);
        let mut waiting = self.waiting.lock();
        while waiting.is_empty() {
            self.changed.wait_for(&mut waiting, SLICE);
        }
        std::mem::take(&mut waiting)
    }
}
