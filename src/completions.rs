//! Calls the host when something has ended: one thread for the whole process, started when it is first needed, so that
//! a callback that takes its time keeps no client from its deliveries.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Kind, Result};
use crate::health::mark_plugin_thread;

/// What is to be called, once.
pub type Completion = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Line {
    waiting: Mutex<VecDeque<Completion>>,
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

/// Has these called on the thread of the callbacks, in order.
pub fn call(completions: Vec<Completion>) {
    if let (Some(line), false) = (LINE.get(), completions.is_empty()) {
        line.waiting.lock().extend(completions);
        line.changed.notify_one();
    }
}

/// Calls one here; a panic of ours inside it ends there.
pub fn call_here(completion: Completion) {
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
        .map_err(|why| Error::new(Kind::Kafka, format!("starting the thread {name}: {why}")))
}

impl Line {
    fn call_for_ever(&self) {
        loop {
            call_here(self.next());
        }
    }

    fn next(&self) -> Completion {
        const SLICE: Duration = Duration::from_secs(60);
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(completion) = waiting.pop_front() {
                return completion;
            }
            self.changed.wait_for(&mut waiting, SLICE);
        }
    }
}
