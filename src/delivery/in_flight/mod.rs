//! The events of one producer that are in flight: the permits that they hold, the futures that
//! report their results, and the flushes that wait for them.
//!
//! Each push belongs to the epoch in which it took its permit. A flush ends the current epoch and
//! settles when that epoch and all earlier ones are empty. So a flush ends although other threads
//! continue to push.

mod epochs;
mod gate;
mod ledger;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::delivery::future::{Delivered, Future};
use crate::delivery::totals::DeliveryTotals;
use crate::support::callbacks::CallbackBatch;
use crate::support::deadline::{Deadline, Moment};
use crate::support::error::{Error, Kind, Result};
use crate::support::process_exit::{self, Progress};
use crate::support::threads::is_plugin_thread;
use epochs::Epoch;
use gate::Gate;
pub use ledger::Permit;
use ledger::{Entry, Ledger, Removed};

/// How much may be in flight at the same time; `u64::MAX` means no limit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub events: u64,
    pub bytes: u64,
}

struct InFlightState {
    events: u64,
    bytes: u64,
    /// Of `events`, those whose results are reported already; they only hold their permits.
    reported: u64,
    /// Events whose delivery failed after the process began to exit.
    failed_at_exit: u64,
    ledger: Ledger,
    /// The number of the current epoch.
    epoch: u64,
    current: Epoch,
    /// The ended epochs that are not empty yet, oldest first.
    ended: VecDeque<Epoch>,
    gate: Gate,
    /// The number of threads that wait for a permit.
    waiting: usize,
}

/// Counts the events in flight. A push takes its lock once; delivery reports take it once per
/// hundreds of events.
pub struct InFlight {
    limits: Limits,
    /// Of all producers of the driver.
    totals: Arc<DeliveryTotals>,
    state: Mutex<InFlightState>,
    released: Condvar,
}

/// What [`InFlight::acquire`] has to know of an event.
pub struct PermitRequest {
    /// The size of the event's record.
    pub bytes: u64,
    /// The partition, if the caller sends the record now; else see [`InFlight::mark_sending`].
    pub partition: Option<u32>,
    /// The future that reports the event's result, if the host wants one.
    pub future: Option<Arc<Future>>,
}

/// What is in flight at a moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub events: u64,
    pub bytes: u64,
    /// The age of the oldest event that librdkafka has and that is not overdue. The failure of
    /// overdue ones is reported.
    pub oldest: Option<Duration>,
}

/// The result of one event. Settling it releases the event's permit.
pub struct Report {
    pub permit: Permit,
    /// The size of its record.
    pub bytes: u64,
    pub result: Result<Delivered>,
}

/// An entry of the ledger whose events librdkafka has had for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    pub permit: Permit,
    pub partition: u32,
    pub events: u64,
    pub bytes: u64,
}

impl InFlight {
    pub fn new(limits: Limits, totals: Arc<DeliveryTotals>) -> Self {
        let limits = Limits { events: limits.events.min(Permit::MAX_COUNT), ..limits };
        let state = InFlightState {
            events: 0,
            bytes: 0,
            reported: 0,
            failed_at_exit: 0,
            ledger: Ledger::default(),
            epoch: 0,
            current: Epoch::default(),
            ended: VecDeque::new(),
            gate: Gate::default(),
            waiting: 0,
        };
        InFlight { limits, totals, state: Mutex::new(state), released: Condvar::new() }
    }

    /// Acquires a permit for one event. At the limit, it waits until the deadline that `deadline`
    /// returns; on a plugin thread it never waits and returns `WouldBlock`. An event larger than
    /// the limit gets a permit when nothing else is in flight.
    ///
    /// `fail_fast` is called whenever nothing has been released for half a second. It gets the time
    /// at which the wait began, and may return an error that ends the wait.
    pub fn acquire(
        &self,
        request: PermitRequest,
        deadline: impl FnOnce() -> Deadline,
        fail_fast: impl Fn(Instant) -> Option<Error>,
    ) -> Result<Permit> {
        let state = self.state.lock();
        if self.has_capacity(&state, request.bytes)? {
            return Ok(grant_permit(state, request));
        }
        drop(state);
        self.wait_for_capacity(request, deadline(), fail_fast, Self::limit_error)
    }

    /// As [`acquire`](Self::acquire), and returns `TimedOut` at the deadline.
    pub fn acquire_until(
        &self,
        deadline: Deadline,
        request: PermitRequest,
        fail_fast: impl Fn(Instant) -> Option<Error>,
    ) -> Result<Permit> {
        self.wait_for_capacity(request, deadline, fail_fast, |_, _, _| Error::from_kind(Kind::TimedOut))
    }

    /// As [`acquire`](Self::acquire), but never waits: returns `WouldBlock` at the limit.
    pub fn try_acquire(&self, request: PermitRequest) -> Result<Permit> {
        let state = self.state.lock();
        if self.has_capacity(&state, request.bytes)? { Ok(grant_permit(state, request)) } else { Err(would_block()) }
    }

    fn wait_for_capacity(
        &self,
        request: PermitRequest,
        deadline: Deadline,
        fail_fast: impl Fn(Instant) -> Option<Error>,
        at_deadline: impl FnOnce(&Self, &InFlightState, u64) -> Error,
    ) -> Result<Permit> {
        const SLICE: Duration = Duration::from_millis(500);
        let began = Instant::now();
        let mut state = self.state.lock();
        loop {
            if self.has_capacity(&state, request.bytes)? {
                return Ok(grant_permit(state, request));
            }
            if is_plugin_thread() {
                return Err(would_block());
            }
            if deadline.has_passed() {
                return Err(at_deadline(self, &state, request.bytes));
            }
            state.waiting += 1;
            let timed_out = self.released.wait_for(&mut state, deadline.remaining(SLICE)).timed_out();
            state.waiting -= 1;
            if timed_out && let Some(error) = MutexGuard::unlocked(&mut state, || fail_fast(began)) {
                return Err(error);
            }
        }
    }

    fn has_capacity(&self, state: &InFlightState, bytes: u64) -> Result<bool> {
        state.gate.check()?;
        let fits = state.bytes.saturating_add(bytes) <= self.limits.bytes || state.events == 0;
        Ok(fits && state.events < self.limits.events)
    }

    /// Starts the age of an event that was prepared after it took its permit. The caller sends it
    /// next.
    pub fn mark_sending(&self, permit: Permit, partition: u32) {
        self.state.lock().ledger.list_by_age(permit, partition, Moment::now());
    }

    /// Corrects the size of an event when its record is made, before it is sent. Never waits: a
    /// record that is larger than expected delays later pushes instead.
    pub fn resize(&self, permit: Permit, bytes: u64) {
        let mut state = self.state.lock();
        let Some(entry) = state.ledger.get_mut(permit) else { return };
        let before = std::mem::replace(&mut entry.bytes, bytes);
        debug_assert!(state.bytes >= before, "each entry's bytes are part of the sum");
        state.bytes = state.bytes.saturating_sub(before).saturating_add(bytes);
        let wake = bytes < before && state.waiting > 0;
        drop(state);
        if wake {
            self.released.notify_all();
        }
    }

    fn limit_error(&self, state: &InFlightState, bytes: u64) -> Error {
        Error::new(
            Kind::Unreachable,
            format!(
                "the in-flight limit left no capacity for an event of {bytes} bytes before the timeout: \
                 {} events and {} bytes are in flight{}; the brokers accept them too slowly or not at all, or \
                 queue.buffering.max.messages ({}) or queue.buffering.max.kbytes ({}) is too small",
                state.events,
                state.bytes,
                match state.reported {
                    0 => String::new(),
                    reported => format!(", {reported} of them for longer than delivery.timeout.ms"),
                },
                self.limits.events,
                self.limits.bytes / 1024
            ),
        )
        .retriable(true)
    }

    /// Releases the permit of an event that its push rejects. The push returns the error, so no
    /// flush reports it.
    pub fn release(&self, permit: Permit, bytes: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.remove(permit, bytes) {
            state.count_finished(entry.epoch, 1, None);
        }
        self.settle_unlocked(state, Vec::new());
    }

    /// Reports the results of many events and releases their permits, then wakes the waiting pushes
    /// once.
    pub fn settle(&self, reports: &mut Vec<Report>) {
        let mut reported = Vec::new();
        let mut tally = self.totals.tally();
        let mut state = self.state.lock();
        for Report { permit, bytes, result } in reports.drain(..) {
            let Some(entry) = state.remove(permit, bytes) else { continue };
            tally.count(entry.since, entry.bytes, result.is_ok());
            state.count_finished(entry.epoch, 1, result.as_ref().err());
            reported.extend(entry.future.map(|future| (future, result)));
        }
        // Before the futures, after which a host may read the totals.
        drop(tally);
        self.settle_unlocked(state, reported);
    }

    /// Reports the results of events before librdkafka does; flushes stop waiting for them. The
    /// events hold their permits until they are settled. Without an error, only the flushes are
    /// affected.
    pub fn report_early(&self, events: Vec<(Permit, Option<Error>)>) {
        let mut reported = Vec::new();
        let mut state = self.state.lock();
        for (permit, failure) in events {
            let Some(entry) = state.ledger.get_mut(permit).filter(|entry| !entry.is_reported) else { continue };
            entry.is_reported = true;
            let (epoch, events, future) = (entry.epoch, entry.events, entry.future.take());
            state.ledger.unlist(permit);
            state.reported += events;
            state.count_finished(epoch, events, failure.as_ref());
            if failure.is_some() {
                self.totals.add_failed(events);
            }
            reported.extend(future.zip(failure.map(Err)));
        }
        self.settle_unlocked(state, reported);
    }

    /// Releases the lock, wakes the pushes that wait for a permit, then settles these futures and
    /// the flushes whose epochs are empty.
    fn settle_unlocked(&self, mut state: MutexGuard<InFlightState>, reported: Vec<(Arc<Future>, Result<Delivered>)>) {
        let drained = epochs::pop_drained(&mut state.ended);
        let wake = state.waiting > 0;
        drop(state);
        if wake {
            self.released.notify_all();
        }
        let callbacks = CallbackBatch::default();
        for (future, result) in reported {
            future.settle_delivery(result, &callbacks);
        }
        epochs::settle_flushes(drained, &callbacks);
    }

    /// Takes the events that librdkafka has had for at least `limit` off the age list, oldest
    /// first.
    pub fn overdue(&self, limit: Duration) -> Vec<Overdue> {
        let now = Moment::now();
        let mut overdue = Vec::new();
        let ledger = &mut self.state.lock().ledger;
        while let Some((permit, entry)) = ledger.oldest()
            && now.since(entry.since) >= limit
        {
            let Entry { partition, events, bytes, .. } = *entry;
            overdue.push(Overdue { permit, partition, events, bytes });
            ledger.unlist(permit);
        }
        overdue
    }

    /// The time until the oldest event is overdue; `limit` if librdkafka has none.
    pub fn until_overdue(&self, limit: Duration) -> Duration {
        let mut state = self.state.lock();
        state.ledger.oldest().map_or(limit, |(_, entry)| limit.saturating_sub(Moment::now().since(entry.since)))
    }

    /// Ends the current epoch. `flush` settles when each event pushed before is delivered or
    /// failed.
    pub fn flush(&self, flush: Arc<Future>) {
        let mut state = self.state.lock();
        let mut ended = std::mem::take(&mut state.current);
        ended.flushes.push(flush);
        state.ended.push_back(ended);
        state.epoch += 1;
        self.settle_unlocked(state, Vec::new());
    }

    /// Whether a flush waits for events that were pushed before it.
    pub fn is_flushing(&self) -> bool {
        !self.state.lock().ended.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().events == 0
    }

    /// Whether the result of each event is reported. Some events may still hold permits.
    pub fn all_reported(&self) -> bool {
        let state = self.state.lock();
        state.events == state.reported
    }

    /// What is in flight now.
    pub fn usage(&self) -> Usage {
        let mut state = self.state.lock();
        let oldest = state.ledger.oldest().map(|(_, entry)| Moment::now().since(entry.since));
        Usage { events: state.events, bytes: state.bytes, oldest }
    }

    pub fn progress(&self) -> Progress {
        let state = self.state.lock();
        debug_assert!(state.reported <= state.events);
        Progress { pending: state.events.saturating_sub(state.reported), failed: state.failed_at_exit }
    }
}

/// Counts the event. The caller has checked that the limit allows it.
fn grant_permit(mut state: MutexGuard<InFlightState>, request: PermitRequest) -> Permit {
    state.events += 1;
    state.bytes += request.bytes;
    state.current.outstanding += 1;
    let epoch = state.epoch;
    match (request.partition, request.future) {
        (Some(partition), None) => state.ledger.join(epoch, request.bytes, partition, Moment::now()),
        (partition, future) => {
            let permit = state.ledger.insert(epoch, request.bytes, future);
            if let Some(partition) = partition {
                state.ledger.list_by_age(permit, partition, Moment::now());
            }
            permit
        }
    }
}

fn would_block() -> Error {
    Error::from_kind(Kind::WouldBlock).retriable(true)
}

impl InFlightState {
    /// Releases an event's permit. Returns `None` if the event's result is reported already, or if
    /// the event is not in flight.
    fn remove(&mut self, permit: Permit, bytes: u64) -> Option<Removed> {
        let entry = self.ledger.remove(permit, bytes)?;
        debug_assert!(self.events > 0 && self.bytes >= entry.bytes, "each entry is part of the sums");
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if entry.is_reported {
            debug_assert!(self.reported > 0, "each reported entry was counted");
            self.reported = self.reported.saturating_sub(1);
            return None;
        }
        Some(entry)
    }

    fn count_finished(&mut self, epoch: u64, events: u64, failure: Option<&Error>) {
        if let Some(failure) = failure {
            self.gate.note_failure(failure);
            self.failed_at_exit += if process_exit::has_begun() { events } else { 0 };
        }
        debug_assert!(epoch <= self.epoch, "an event belongs to an epoch that has begun");
        let ago = self.epoch.saturating_sub(epoch) as usize;
        let epoch = match ago {
            0 => Some(&mut self.current),
            _ => self.ended.len().checked_sub(ago).and_then(|index| self.ended.get_mut(index)),
        };
        let Some(epoch) = epoch else { return };
        debug_assert!(epoch.outstanding >= events, "an epoch counts each of its events until its result");
        epoch.outstanding = epoch.outstanding.saturating_sub(events);
        if let Some(failure) = failure {
            epoch.failures += events;
            epoch.first_failure.get_or_insert_with(|| failure.clone());
        }
    }
}
