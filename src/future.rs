//! What a host waits on: a delivery, a flush, or a ticket for the next event. One type, since the ABI has one.
//!
//! Deliveries and flushes settle once and keep their result: waits can be repeated and run in parallel. A pull
//! is a ticket: it takes an event only inside a call that returns it, so dropping it before loses nothing.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::completions::{self, Calls, Completion};
use crate::consumer::Reader;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::event::SharedEvent;
use crate::poison::{Poison, ensure_not_plugin_thread};
use crate::sync::{Condvar, Mutex};
use crate::thread_pool::Mark;

/// Where the broker put an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    pub partition: u32,
    /// Unknown when the broker had the event already, from an attempt whose answer was lost.
    pub offset: Option<u64>,
}

/// Something that can be told that somebody waits, so that lingering records go out now.
pub trait FlushLinger: Send + Sync {
    /// Sends what lingers, returning when nothing is in flight or after `at_most`; at once if another thread is at it.
    /// Whether it has to be called again, since not all could be sent.
    fn flush_linger(&self, at_most: Duration) -> bool;
    /// The error for whoever waits since `began` for something that can't arrive, as no broker was ever reached; or for
    /// whoever waits no longer.
    fn unreached(&self, began: Option<Instant>) -> Option<Error>;
}

/// A result that arrives once and stays.
pub struct Promise<T> {
    slot: Mutex<Slot<T>>,
    arrived: Condvar,
}

struct Slot<T> {
    result: Option<Result<T>>,
    /// To be called when the result is there.
    completions: Vec<Completion>,
}

impl<T: Clone> Promise<T> {
    fn new() -> Self {
        Promise { slot: Mutex::new(Slot { result: None, completions: Vec::new() }), arrived: Condvar::new() }
    }

    /// Completions line up with the result, under its lock: one that is asked for after that stands behind them.
    fn settle(&self, result: Result<T>, calls: &Calls) {
        let mut slot = self.slot.lock();
        if slot.result.is_some() {
            return;
        }
        slot.result = Some(result);
        calls.line_up(std::mem::take(&mut slot.completions));
        drop(slot);
        self.arrived.notify_all();
    }

    fn get(&self) -> Option<Result<T>> {
        self.slot.lock().result.clone()
    }

    fn is_settled(&self) -> bool {
        self.slot.lock().result.is_some()
    }

    fn on_settled(&self, completion: Completion) {
        let mut slot = self.slot.lock();
        if slot.result.is_none() {
            return slot.completions.push(completion);
        }
        drop(slot);
        Calls::default().line_up([completion]);
    }

    fn wait_until_settled(&self, deadline: Deadline, queue: &Weak<dyn FlushLinger>) -> Result<T> {
        // Long enough for a round trip to a broker nearby; short enough not to make others wait for it.
        const LINGER_FLUSH: Duration = Duration::from_millis(1);
        const LONGEST_PAUSE: Duration = Duration::from_millis(64);
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
                // Most results are there at once, and a clock costs as much as all else.
                if let Some(error) = queue.unreached(Some(*began.get_or_insert_with(Instant::now))) {
                    return Err(error);
                }
            }
            let mut slot = self.slot.lock();
            if slot.result.is_none() {
                self.arrived.wait_for(&mut slot, deadline.remaining(pause));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

enum Awaited {
    Delivery(Promise<Delivered>, Weak<dyn FlushLinger>),
    Flush(Promise<()>, Weak<dyn FlushLinger>),
    Pull(PendingPull),
}

pub struct Future {
    pub poison: Poison,
    awaited: Awaited,
    /// The thread pool that has to do work before this can end.
    pool: Mark,
}

impl Future {
    /// Of an event that `pool` prepares.
    pub fn delivery(queue: Weak<dyn FlushLinger>, pool: Mark) -> Self {
        Future { poison: Poison::default(), awaited: Awaited::Delivery(Promise::new(), queue), pool }
    }

    pub fn flush(queue: Weak<dyn FlushLinger>, pool: Mark) -> Self {
        Future { poison: Poison::default(), awaited: Awaited::Flush(Promise::new(), queue), pool }
    }

    pub fn pull(reader: Arc<Reader>) -> Self {
        Future { poison: Poison::default(), awaited: Awaited::Pull(PendingPull::new(reader)), pool: Mark::NONE }
    }

    pub fn settle_delivery(&self, result: Result<Delivered>, calls: &Calls) {
        if let Awaited::Delivery(promise, _) = &self.awaited {
            promise.settle(result, calls);
        }
    }

    pub fn settle_flush(&self, result: Result<()>, calls: &Calls) {
        if let Awaited::Flush(promise, _) = &self.awaited {
            promise.settle(result, calls);
        }
    }

    /// Returns when the result is there, with its error if it is one, or `TimedOut` at the deadline.
    pub fn wait(&self, deadline: Deadline) -> Result<()> {
        if !deadline.has_passed() && !self.is_settled() {
            ensure_not_plugin_thread("waiting for a future")?;
            self.pool.ensure_not_on_pool_thread("waiting for a future")?;
        }
        match &self.awaited {
            Awaited::Delivery(promise, queue) => promise.wait_until_settled(deadline, queue).map(drop),
            Awaited::Flush(promise, queue) => promise.wait_until_settled(deadline, queue),
            Awaited::Pull(ticket) => ticket.wait(deadline).inspect(|()| ticket.mark_observed()),
        }
    }

    /// What `wait` returns if that is there already. This asks no clock, which can cost as much as all else that a pull does.
    pub fn look(&self) -> Option<Result<()>> {
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.get().map(|result| result.map(drop)),
            Awaited::Flush(promise, _) => promise.get(),
            Awaited::Pull(ticket) => ticket.look().map(|told| told.inspect(|()| ticket.mark_observed())),
        }
    }

    /// Whether `wait` would return at once; never blocks. A pull takes its event here if one is there; dropped without
    /// having given it to anybody, it hands it back.
    pub fn test(&self) -> bool {
        match &self.awaited {
            Awaited::Pull(ticket) => !matches!(ticket.wait(Deadline::PASSED), Err(e) if e.kind() == Kind::TimedOut),
            _ => self.is_settled(),
        }
    }

    /// Has `completion` called once when the result is there, on a thread of ours, never in this call. Until then the
    /// future is kept. A pull takes its event as the call begins; whatever its result is then stays.
    pub fn on_complete(self: &Arc<Self>, completion: impl FnOnce(&Arc<Future>) + Send + 'static) -> Result<()> {
        completions::start()?;
        let future = self.clone();
        let completion: Completion = Box::new(move || completion(&future));
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.on_settled(completion),
            Awaited::Flush(promise, _) => promise.on_settled(completion),
            Awaited::Pull(ticket) => return ticket.reader.clone().complete(self.clone(), completion),
        }
        Ok(())
    }

    /// Takes the pull's event, or what there is in place of one, for good; false when nothing came in time.
    pub fn resolve(&self, deadline: Deadline) -> bool {
        match &self.awaited {
            Awaited::Pull(ticket) => ticket.resolve(deadline),
            _ => true,
        }
    }

    /// Whether there is a result; of a pull, whether it has taken its event.
    pub fn is_settled(&self) -> bool {
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.is_settled(),
            Awaited::Flush(promise, _) => promise.is_settled(),
            Awaited::Pull(ticket) => matches!(*ticket.state.lock(), PullState::Taken(_)),
        }
    }

    /// Where the pushed event is; an error of its own, or `WouldBlock` while there is no result yet.
    pub fn delivered(&self) -> Result<Delivered> {
        match &self.awaited {
            Awaited::Delivery(promise, _) => promise.get().unwrap_or_else(|| Err(not_yet())),
            Awaited::Pull(_) => {
                self.event().map(|event| Delivered { partition: event.partition(), offset: Some(event.id()) })
            }
            Awaited::Flush(..) => Err(Error::invalid("future: a flush has no event id and no partition")),
        }
    }

    /// Whether a pull took the mark that its topic has ended.
    pub fn is_end_of_topic(&self) -> bool {
        match &self.awaited {
            Awaited::Pull(ticket) => ticket.has_taken_the_end(),
            _ => false,
        }
    }

    /// The event that a pull took.
    pub fn event(&self) -> Result<SharedEvent> {
        match &self.awaited {
            Awaited::Pull(ticket) => ticket.give().unwrap_or_else(|| Err(not_yet())),
            _ => Err(Error::invalid("future: only a pull has an event; a push has an event id and a partition")),
        }
    }
}

fn not_yet() -> Error {
    Error::from_kind(Kind::WouldBlock)
}

/// A place in no queue: whoever waits takes the next event there is.
struct PendingPull {
    reader: Arc<Reader>,
    state: Mutex<PullState>,
    changed: Condvar,
    /// Whether the host has the event, or was told that it can have it.
    is_observed: AtomicBool,
}

enum PullState {
    Open,
    /// A thread is waiting for an event on its behalf, without holding the lock.
    Waiting,
    Taken(Result<SharedEvent>),
}

impl PendingPull {
    fn new(reader: Arc<Reader>) -> Self {
        let is_observed = AtomicBool::new(false);
        PendingPull { reader, state: Mutex::new(PullState::Open), changed: Condvar::new(), is_observed }
    }

    /// What was taken, to the host.
    fn give(&self) -> Option<Result<SharedEvent>> {
        self.taken().inspect(|_| self.mark_observed())
    }

    fn mark_observed(&self) {
        self.is_observed.store(true, Ordering::Release);
    }

    fn has_taken_the_end(&self) -> bool {
        matches!(&*self.state.lock(), PullState::Taken(Ok(event)) if event.is_end_of_topic())
    }

    fn taken(&self) -> Option<Result<SharedEvent>> {
        match &*self.state.lock() {
            PullState::Taken(result) => Some(result.clone()),
            _ => None,
        }
    }

    fn wait(&self, deadline: Deadline) -> Result<()> {
        // The rest is the consumer's to say again.
        self.wait_and_keep(deadline, Error::is_reported_once)
    }

    fn resolve(&self, deadline: Deadline) -> bool {
        let in_time = |error: &Error| error.kind() != Kind::TimedOut;
        let has_come = self.wait_and_keep(deadline, in_time).map_or_else(|error| in_time(&error), |_| true);
        self.is_observed.store(has_come, Ordering::Release);
        has_come
    }

    fn wait_and_keep(&self, deadline: Deadline, keep: impl Fn(&Error) -> bool) -> Result<()> {
        if let Some(taken) = self.take_turn(deadline)? {
            return taken;
        }
        Turn(self).end_with(self.reader.next(deadline), keep)
    }

    fn look(&self) -> Option<Result<()>> {
        let mut state = self.state.lock();
        match &*state {
            PullState::Taken(result) => return Some(success_of(result)),
            PullState::Waiting => return None,
            PullState::Open => *state = PullState::Waiting,
        }
        drop(state);
        let turn = Turn(self);
        self.reader.look().map(|result| turn.end_with(result, Error::is_reported_once))
    }

    /// Waits until no other thread redeems this ticket; tells whether that one took an event, or gives nothing and the turn.
    fn take_turn(&self, deadline: Deadline) -> Result<Option<Result<()>>> {
        const SLICE: Duration = Duration::from_secs(1);
        let mut state = self.state.lock();
        loop {
            match &*state {
                PullState::Taken(result) => return Ok(Some(success_of(result))),
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
    /// What was taken and not given to anybody is read next.
    fn drop(&mut self) {
        if let PullState::Taken(Ok(event)) = self.state.get_mut()
            && !*self.is_observed.get_mut()
        {
            self.reader.hand_back(vec![event.clone()]);
        }
    }
}

/// The right to wait a ticket; given back however the redeeming ends.
struct Turn<'a>(&'a PendingPull);

impl Turn<'_> {
    /// What was taken out of the topic is the ticket's for good, and so is an error of which `keep` says so.
    fn end_with(self, result: Result<SharedEvent>, keep: impl Fn(&Error) -> bool) -> Result<()> {
        let told = success_of(&result);
        if result.as_ref().err().is_none_or(keep) {
            ManuallyDrop::new(self).give_back(PullState::Taken(result));
        }
        told
    }

    fn give_back(&self, state: PullState) {
        *self.0.state.lock() = state;
        self.0.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.give_back(PullState::Open);
    }
}

fn success_of(result: &Result<SharedEvent>) -> Result<()> {
    result.as_ref().map(drop).map_err(Clone::clone)
}

#[cfg(all(test, feature = "loom"))]
mod models {
    use loom::sync::Arc as ModelledArc;
    use loom::sync::atomic::{AtomicUsize, Ordering as ModelledOrdering};
    use loom::thread;

    use super::*;

    struct Nobody;

    impl FlushLinger for Nobody {
        fn flush_linger(&self, _: Duration) -> bool {
            false
        }

        fn unreached(&self, _: Option<Instant>) -> Option<Error> {
            None
        }
    }

    /// The first result is the one that every wait returns, and no wait misses its arrival.
    #[test]
    fn every_wait_returns_the_first_result() {
        loom::model(|| {
            let promise = ModelledArc::new(Promise::<u32>::new());
            let (first, second) = (promise.clone(), promise.clone());
            let settling = thread::spawn(move || {
                first.settle(Ok(1), &Calls::default());
                first.settle(Ok(2), &Calls::default());
            });
            let wait = |promise: &Promise<u32>| {
                let nobody: Weak<dyn FlushLinger> = Weak::<Nobody>::new();
                promise.wait_until_settled(Deadline::NEVER, &nobody).unwrap()
            };
            let waiting = thread::spawn(move || wait(&second));
            assert_eq!(wait(&promise), 1);
            assert_eq!(waiting.join().unwrap(), 1);
            settling.join().unwrap();
        });
    }

    /// A completion that is asked for while the result arrives is lined up once: kept or dropped by the promise, never both.
    #[test]
    fn completion_is_lined_up_once() {
        struct Counted(ModelledArc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, ModelledOrdering::Relaxed);
            }
        }
        loom::model(|| {
            let gone = ModelledArc::new(AtomicUsize::new(0));
            let promise = ModelledArc::new(Promise::<u32>::new());
            let settled = promise.clone();
            let settling = thread::spawn(move || settled.settle(Ok(1), &Calls::default()));
            let counted = Counted(gone.clone());
            // Without the thread that calls completions, what is lined up is dropped at once.
            promise.on_settled(Box::new(move || drop(counted)));
            settling.join().unwrap();
            assert!(promise.slot.lock().completions.is_empty());
            assert_eq!(gone.load(ModelledOrdering::Relaxed), 1);
        });
    }
}
