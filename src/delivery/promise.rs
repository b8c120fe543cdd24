//! A result that arrives once and stays.

use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::support::callbacks::{CallbackBatch, Completion};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::sync::{Condvar, Mutex};

/// The producer queue that a promise waits for. Waiting ends its linger, since a wait that lasts
/// for `linger.ms` gains nothing.
pub trait FlushLinger: Send + Sync {
    /// Sends the records that linger. Returns when nothing is in flight or after `at_most`; at once
    /// if another thread flushes. Returns whether records may be left, so that another call is
    /// needed.
    fn flush_linger(&self, at_most: Duration) -> bool;
    /// The error if no broker was ever reached. `began` is when the wait began, which continues for
    /// a while in case a broker is reached yet; without it, the wait is over.
    fn unreached(&self, began: Option<Instant>) -> Option<Error>;
}

/// A result that arrives once and stays.
pub struct Promise<T> {
    slot: Mutex<Slot<T>>,
    arrived: Condvar,
}

struct Slot<T> {
    result: Option<Result<T>>,
    /// The completions to call when the result arrives.
    completions: Vec<Completion>,
}

impl<T: Clone> Promise<T> {
    pub(super) fn new() -> Self {
        Promise { slot: Mutex::new(Slot { result: None, completions: Vec::new() }), arrived: Condvar::new() }
    }

    /// Stores the first result and queues the completions. It queues them under the promise's lock,
    /// so that completions are called in the order in which they were registered.
    pub(super) fn settle(&self, result: Result<T>, callbacks: &CallbackBatch) {
        let mut slot = self.slot.lock();
        if slot.result.is_some() {
            return;
        }
        slot.result = Some(result);
        callbacks.enqueue(std::mem::take(&mut slot.completions));
        drop(slot);
        self.arrived.notify_all();
    }

    pub(super) fn get(&self) -> Option<Result<T>> {
        self.slot.lock().result.clone()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.slot.lock().result.is_some()
    }

    pub(super) fn on_settled(&self, completion: Completion) {
        let mut slot = self.slot.lock();
        if slot.result.is_none() {
            return slot.completions.push(completion);
        }
        drop(slot);
        CallbackBatch::default().enqueue([completion]);
    }

    pub(super) fn wait(&self, deadline: Deadline, queue: &Weak<dyn FlushLinger>) -> Result<T> {
        // Long enough for a round trip to a nearby broker; short enough that no other flush waits
        // long.
        const LINGER_FLUSH: Duration = Duration::from_millis(1);
        const MAX_PAUSE: Duration = Duration::from_millis(64);
        let mut pause = Duration::from_millis(1);
        let mut began = None;
        let mut lingers = true;
        loop {
            if let Some(result) = self.get() {
                return result;
            }
            if deadline.has_passed() {
                let unreached = began.and_then(|_| queue.upgrade()?.unreached(None));
                return Err(unreached.unwrap_or_else(|| Error::from_kind(Kind::TimedOut)));
            }
            if let Some(queue) = queue.upgrade() {
                lingers = lingers && queue.flush_linger(deadline.remaining(LINGER_FLUSH));
                // The clock is read only here: most results are there already, and reading it would
                // cost as much as everything else.
                if let Some(error) = queue.unreached(Some(*began.get_or_insert_with(Instant::now))) {
                    return Err(error);
                }
            }
            let mut slot = self.slot.lock();
            if slot.result.is_none() {
                self.arrived.wait_for(&mut slot, deadline.remaining(pause));
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}
