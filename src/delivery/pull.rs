//! A pull that has not taken its event yet.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::event::SharedEvent;
use crate::support::callbacks::Completion;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::sync::{Condvar, Mutex};

/// Takes the event of a pull before the deadline; false if none came in time.
pub type ResolvePull = Box<dyn Fn(Deadline) -> bool + Send>;

/// The source that pulls take their events from.
pub trait EventSource: Send + Sync {
    /// Takes the next event; `TimedOut` if none comes before the deadline.
    fn next(&self, deadline: Deadline) -> Result<SharedEvent>;
    /// Takes the next event if the source has it already. `None` also if only [`next`](Self::next)
    /// can find out.
    fn try_next(&self) -> Option<Result<SharedEvent>>;
    /// Returns events that nobody used. The next pulls take them.
    fn return_events(&self, events: Vec<SharedEvent>);
    /// Calls `completion` on a plugin thread when `resolve` has taken an event.
    fn on_resolved(self: Arc<Self>, resolve: ResolvePull, completion: Completion) -> Result<()>;
}

/// A pull and its result. A pull reserves no event: the first call that waits takes the next one,
/// so pending pulls have no order among them.
pub struct PendingPull {
    source: Arc<dyn EventSource>,
    state: Mutex<PullState>,
    changed: Condvar,
    /// Whether the host has the event, or knows that the pull has it.
    is_observed: AtomicBool,
}

enum PullState {
    /// No thread waits for an event.
    Open,
    /// A thread waits for an event for this pull, without holding the lock.
    Waiting,
    Taken(Result<SharedEvent>),
}

impl PendingPull {
    pub fn new(source: Arc<dyn EventSource>) -> Self {
        let is_observed = AtomicBool::new(false);
        PendingPull { source, state: Mutex::new(PullState::Open), changed: Condvar::new(), is_observed }
    }

    /// The result for the host, if the pull has one.
    pub fn take_result(&self) -> Option<Result<SharedEvent>> {
        self.taken().inspect(|_| self.mark_observed())
    }

    pub fn mark_observed(&self) {
        self.is_observed.store(true, Ordering::Release);
    }

    pub fn is_end_of_topic(&self) -> bool {
        matches!(&*self.state.lock(), PullState::Taken(Ok(event)) if event.is_end_of_topic())
    }

    /// Whether the pull has taken its event.
    pub fn is_settled(&self) -> bool {
        matches!(*self.state.lock(), PullState::Taken(_))
    }

    pub fn source(&self) -> Arc<dyn EventSource> {
        self.source.clone()
    }

    fn taken(&self) -> Option<Result<SharedEvent>> {
        match &*self.state.lock() {
            PullState::Taken(result) => Some(result.clone()),
            _ => None,
        }
    }

    /// Waits for an event, or for the error in its place.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        // The pull keeps only errors that are reported once; the consumer reports the others again.
        self.wait_and_keep(deadline, Error::is_reported_once)
    }

    /// Waits for an event and keeps the result, also an error; false if none came before the
    /// deadline.
    pub fn resolve(&self, deadline: Deadline) -> bool {
        let is_final = |error: &Error| error.kind() != Kind::TimedOut;
        let is_resolved = self.wait_and_keep(deadline, is_final).map_or_else(|error| is_final(&error), |_| true);
        self.is_observed.store(is_resolved, Ordering::Release);
        is_resolved
    }

    /// Waits for an event. Keeps the event, and an error for which `keep` returns true.
    fn wait_and_keep(&self, deadline: Deadline, keep: impl Fn(&Error) -> bool) -> Result<()> {
        if let Some(taken) = self.acquire_wait(deadline)? {
            return taken;
        }
        WaitGuard(self).finish(self.source.next(deadline), keep)
    }

    /// The result, or the event that the source has already; never waits.
    pub fn try_result(&self) -> Option<Result<()>> {
        let mut state = self.state.lock();
        match &*state {
            PullState::Taken(result) => return Some(outcome_of(result)),
            PullState::Waiting => return None,
            PullState::Open => *state = PullState::Waiting,
        }
        drop(state);
        let guard = WaitGuard(self);
        self.source.try_next().map(|result| guard.finish(result, Error::is_reported_once))
    }

    /// Waits while another thread waits for this pull. Returns that thread's result if it has one;
    /// with `None`, the caller has the right to wait and has to create the [`WaitGuard`].
    fn acquire_wait(&self, deadline: Deadline) -> Result<Option<Result<()>>> {
        const SLICE: Duration = Duration::from_secs(1);
        let mut state = self.state.lock();
        loop {
            match &*state {
                PullState::Taken(result) => return Ok(Some(outcome_of(result))),
                PullState::Open => {
                    *state = PullState::Waiting;
                    return Ok(None);
                }
                PullState::Waiting if deadline.has_passed() => return Err(Error::from_kind(Kind::TimedOut)),
                PullState::Waiting => {
                    self.changed.wait_for(&mut state, deadline.remaining(SLICE));
                }
            }
        }
    }
}

impl Drop for PendingPull {
    /// Returns an event that the host has not observed.
    fn drop(&mut self) {
        if let PullState::Taken(Ok(event)) = self.state.get_mut()
            && !*self.is_observed.get_mut()
        {
            self.source.return_events(vec![event.clone()]);
        }
    }
}

/// The right of one thread to wait for a pull. Dropping it, also during a panic, lets another
/// thread wait.
struct WaitGuard<'a>(&'a PendingPull);

impl WaitGuard<'_> {
    /// Ends the wait. The pull keeps an event for good, and an error for which `keep` returns true.
    fn finish(self, result: Result<SharedEvent>, keep: impl Fn(&Error) -> bool) -> Result<()> {
        let outcome = outcome_of(&result);
        if result.as_ref().err().is_none_or(keep) {
            ManuallyDrop::new(self).set_state(PullState::Taken(result));
        }
        outcome
    }

    fn set_state(&self, state: PullState) {
        *self.0.state.lock() = state;
        self.0.changed.notify_all();
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.set_state(PullState::Open);
    }
}

fn outcome_of(result: &Result<SharedEvent>) -> Result<()> {
    result.as_ref().map(drop).map_err(Clone::clone)
}
