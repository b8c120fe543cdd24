//! The result of a push, a flush or a pull. One type, since the ABI has one.
//!
//! Deliveries and flushes settle once and keep their result: waits can be repeated and run in
//! parallel. A pull takes an event only inside a call that returns it, so that dropping the future
//! before loses nothing.

use std::sync::{Arc, Weak};

use super::promise::{FlushLinger, Promise};
use super::pull::{EventSource, PendingPull};
use crate::event::SharedEvent;
use crate::support::callbacks::{self, CallbackBatch, Completion};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::poison::Poison;
use crate::support::thread_pool::PoolId;
use crate::support::threads::ensure_not_plugin_thread;

/// Where the broker put an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    pub partition: u32,
    /// `None` if the broker had the event already, from an attempt whose response was lost.
    pub offset: Option<u64>,
}

enum Awaited {
    Delivery(Promise<Delivered>, Weak<dyn FlushLinger>),
    Flush(Promise<()>, Weak<dyn FlushLinger>),
    Pull(PendingPull),
}

pub struct Future {
    pub poison: Poison,
    awaited: Awaited,
    /// The thread pool whose tasks the result depends on.
    pool: PoolId,
}

impl Future {
    /// The future of an event that `pool` prepares.
    pub fn delivery(queue: Weak<dyn FlushLinger>, pool: PoolId) -> Self {
        Future { poison: Poison::default(), awaited: Awaited::Delivery(Promise::new(), queue), pool }
    }

    pub fn flush(queue: Weak<dyn FlushLinger>, pool: PoolId) -> Self {
        Future { poison: Poison::default(), awaited: Awaited::Flush(Promise::new(), queue), pool }
    }

    pub fn pull(source: Arc<dyn EventSource>) -> Self {
        Future { poison: Poison::default(), awaited: Awaited::Pull(PendingPull::new(source)), pool: PoolId::NONE }
    }

    pub fn settle_delivery(&self, result: Result<Delivered>, callbacks: &CallbackBatch) {
        if let Awaited::Delivery(promise, _) = &self.awaited {
            promise.settle(result, callbacks);
        }
    }

    pub fn settle_flush(&self, result: Result<()>, callbacks: &CallbackBatch) {
        if let Awaited::Flush(promise, _) = &self.awaited {
            promise.settle(result, callbacks);
        }
    }

    /// Waits for the result. Returns its error if it is one, or `TimedOut` at the deadline.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        if !deadline.has_passed() && !self.is_settled() {
            ensure_not_plugin_thread("waiting for a future")?;
            self.pool.ensure_not_on_pool_thread("waiting for a future")?;
        }
        match &self.awaited {
            Awaited::Delivery(promise, queue) => promise.wait(deadline, queue).map(drop),
            Awaited::Flush(promise, queue) => promise.wait(deadline, queue),
            Awaited::Pull(pull) => pull.wait(deadline).inspect(|()| pull.mark_observed()),
        }
    }

    /// The result of `wait` if it is there already. Reads no clock, which can cost as much as the
    /// rest of a pull.
    pub fn try_result(&self) -> Option<Result<()>> {
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.get().map(|result| result.map(drop)),
            Awaited::Flush(promise, _) => promise.get(),
            Awaited::Pull(pull) => pull.try_result().map(|result| result.inspect(|()| pull.mark_observed())),
        }
    }

    /// Whether `wait` would return at once; never blocks. A pull takes its event here if one is
    /// there. If it is dropped before the host gets the event, it returns the event to its source.
    pub fn test(&self) -> bool {
        match &self.awaited {
            Awaited::Pull(pull) => !matches!(pull.wait(Deadline::PASSED), Err(e) if e.kind() == Kind::TimedOut),
            _ => self.is_settled(),
        }
    }

    /// Calls `completion` once when the result is there: on a plugin thread, never in this call.
    /// Keeps the future alive until then. A pull has its final result when `completion` begins.
    pub fn on_complete(self: &Arc<Self>, completion: impl FnOnce(&Arc<Future>) + Send + 'static) -> Result<()> {
        callbacks::start()?;
        let future = self.clone();
        let completion: Completion = Box::new(move || completion(&future));
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.on_settled(completion),
            Awaited::Flush(promise, _) => promise.on_settled(completion),
            Awaited::Pull(pull) => {
                let future = self.clone();
                return pull.source().on_resolved(Box::new(move |deadline| future.resolve(deadline)), completion);
            }
        }
        Ok(())
    }

    /// Takes the pull's event, or the error in its place, for good; false if neither came in time.
    pub fn resolve(&self, deadline: Deadline) -> bool {
        match &self.awaited {
            Awaited::Pull(pull) => pull.resolve(deadline),
            _ => true,
        }
    }

    /// Whether there is a result; for a pull, whether it has taken its event.
    pub fn is_settled(&self) -> bool {
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.is_settled(),
            Awaited::Flush(promise, _) => promise.is_settled(),
            Awaited::Pull(pull) => pull.is_settled(),
        }
    }

    /// Where the pushed event is, or its error; `WouldBlock` while there is no result.
    pub fn delivered(&self) -> Result<Delivered> {
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.get().unwrap_or_else(|| Err(no_result_yet())),
            Awaited::Pull(_) => {
                self.event().map(|event| Delivered { partition: event.partition(), offset: Some(event.id()) })
            }
            Awaited::Flush(..) => Err(Error::invalid("future: a flush has no event id and no partition")),
        }
    }

    /// Whether a pull took the end-of-topic mark.
    pub fn is_end_of_topic(&self) -> bool {
        match &self.awaited {
            Awaited::Pull(pull) => pull.is_end_of_topic(),
            _ => false,
        }
    }

    /// The event that a pull took.
    pub fn event(&self) -> Result<SharedEvent> {
        match &self.awaited {
            Awaited::Pull(pull) => pull.take_result().unwrap_or_else(|| Err(no_result_yet())),
            _ => Err(Error::invalid("future: only a pull has an event; a push has an event id and a partition")),
        }
    }
}

fn no_result_yet() -> Error {
    Error::from_kind(Kind::WouldBlock)
}
