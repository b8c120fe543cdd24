//! What a producer has pushed and not yet heard of: the room it takes, who is to be told of it, and the flushes that wait for it.
//!
//! Pushes belong to the epoch they were counted in. A flush ends the current epoch and is settled when that
//! epoch and all before it are empty, however long others go on pushing.

mod ledger;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::completions::Calls;
use crate::deadline::{Deadline, Moment};
use crate::error::{Error, Kind, Result};
use crate::future::{Delivered, Future};
use crate::poison::is_plugin_thread;
use crate::process_exit::{self, Progress};
pub use ledger::Place;
use ledger::{Entry, Ledger, Removed};

/// How much may be in flight at the same time; `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub events: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct Epoch {
    outstanding: u64,
    failures: u64,
    first_failure: Option<Error>,
    flushes: Vec<Arc<Future>>,
}

struct State {
    events: u64,
    bytes: u64,
    /// Of `events`, those whose results were told: only their room is still taken.
    told: u64,
    /// Events that were not delivered since the process exits.
    failed_at_exit: u64,
    ledger: Ledger,
    /// The number of the current epoch, which pushes are counted in.
    epoch: u64,
    current: Epoch,
    /// Those before it that are not over.
    ended: VecDeque<Epoch>,
    /// Why nothing more can be pushed.
    end: Option<Error>,
    waiting: usize,
}

/// The one lock that a push takes, and that reports take once for hundreds of them.
pub struct InFlight {
    limits: Limits,
    state: Mutex<State>,
    room: Condvar,
}

/// What an event needs to take its place.
pub struct Claim {
    /// The size of its record.
    pub bytes: u64,
    /// Where it goes, if it goes at once; otherwise [`InFlight::sending`] says that.
    pub partition: Option<u32>,
    /// Settled with its result, if the host wants that.
    pub future: Option<Arc<Future>>,
}

/// What became of one event, which gives its room back.
pub struct Report {
    pub place: Place,
    /// The size of its record.
    pub bytes: u64,
    pub result: Result<Delivered>,
}

/// An event that librdkafka has had for too long, or several of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    pub place: Place,
    pub partition: u32,
    pub events: u64,
    pub bytes: u64,
}

impl InFlight {
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { events: limits.events.min(Place::MOST), ..limits };
        let state = State {
            events: 0,
            bytes: 0,
            told: 0,
            failed_at_exit: 0,
            ledger: Ledger::default(),
            epoch: 0,
            current: Epoch::default(),
            ended: VecDeque::new(),
            end: None,
            waiting: 0,
        };
        InFlight { limits, state: Mutex::new(state), room: Condvar::new() }
    }

    /// Takes room for one event, waiting for it as long as `until` says; on a thread of the plugin, not waiting at all.
    /// An event larger than all the room there is gets it when nothing else is in flight.
    /// `give_up` has the reason to wait no longer, if there is one for whoever waits since then.
    pub fn take(
        &self,
        claim: Claim,
        until: impl FnOnce() -> Deadline,
        give_up: impl Fn(Instant) -> Option<Error>,
    ) -> Result<Place> {
        let state = self.state.lock();
        if self.has_room(&state, claim.bytes)? {
            return Ok(take_place(state, claim));
        }
        drop(state);
        if is_plugin_thread() { Err(would_block()) } else { self.wait_for_room(claim, until(), give_up) }
    }

    /// As [`take`](Self::take), for a thread that others wait for: `WouldBlock` when there is no room.
    pub fn take_without_waiting(&self, claim: Claim) -> Result<Place> {
        let state = self.state.lock();
        if self.has_room(&state, claim.bytes)? { Ok(take_place(state, claim)) } else { Err(would_block()) }
    }

    fn wait_for_room(
        &self,
        claim: Claim,
        deadline: Deadline,
        give_up: impl Fn(Instant) -> Option<Error>,
    ) -> Result<Place> {
        const SLICE: Duration = Duration::from_millis(500);
        let began = Instant::now();
        let mut state = self.state.lock();
        loop {
            if self.has_room(&state, claim.bytes)? {
                return Ok(take_place(state, claim));
            }
            if deadline.has_passed() {
                return Err(self.no_room(&state, claim.bytes));
            }
            state.waiting += 1;
            let timed_out = self.room.wait_for(&mut state, deadline.remaining(SLICE)).timed_out();
            state.waiting -= 1;
            if timed_out && let Some(why) = MutexGuard::unlocked(&mut state, || give_up(began)) {
                return Err(why);
            }
        }
    }

    fn has_room(&self, state: &State, bytes: u64) -> Result<bool> {
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        let fits = state.bytes.saturating_add(bytes) <= self.limits.bytes || state.events == 0;
        Ok(fits && state.events < self.limits.events)
    }

    /// Of an event that was prepared meanwhile: librdkafka is about to get it.
    pub fn sending(&self, place: Place, partition: u32) {
        self.state.lock().ledger.line_up(place, partition, Moment::now());
    }

    /// Counts an event whose record is made, and not sent yet, with that record's size. Never waits: what turned out
    /// larger delays the pushes after it.
    pub fn resize(&self, place: Place, bytes: u64) {
        let mut state = self.state.lock();
        let Some(entry) = state.ledger.get_mut(place) else { return };
        let before = std::mem::replace(&mut entry.bytes, bytes);
        state.bytes = state.bytes.saturating_sub(before).saturating_add(bytes);
        let wake = bytes < before && state.waiting > 0;
        drop(state);
        if wake {
            self.room.notify_all();
        }
    }

    fn no_room(&self, state: &State, bytes: u64) -> Error {
        Error::new(
            Kind::Unreachable,
            format!(
                "no room for an event of {bytes} bytes within the time limit: {} events and {} bytes are in flight{}; \
                 the brokers take them too slowly or not at all, or queue.buffering.max.messages ({}) or \
                 queue.buffering.max.kbytes ({}) is too small",
                state.events,
                state.bytes,
                match state.told {
                    0 => String::new(),
                    told => format!(", {told} of them longer than delivery.timeout.ms"),
                },
                self.limits.events,
                self.limits.bytes / 1024
            ),
        )
        .retriable(true)
    }

    /// Gives back the room of an event that was refused in its push, which says so itself.
    pub fn give_back(&self, place: Place, bytes: u64) {
        let mut state = self.state.lock();
        if let Some(entry) = state.take_out(place, bytes) {
            state.count_out(entry.epoch, 1, None);
        }
        self.tell(state, Vec::new());
    }

    /// Tells the results of many events and gives their room back, then wakes whoever waits: once.
    pub fn settle(&self, reports: &mut Vec<Report>) {
        let mut told = Vec::new();
        let mut state = self.state.lock();
        for Report { place, bytes, result } in reports.drain(..) {
            let Some(entry) = state.take_out(place, bytes) else { continue };
            state.count_out(entry.epoch, 1, result.as_ref().err());
            told.extend(entry.future.map(|future| (future, result)));
        }
        self.tell(state, told);
    }

    /// Tells now what became of these, if there is somebody to be told: flushes wait for them no longer. Their room stays
    /// taken until they are settled.
    pub fn give_up(&self, events: Vec<(Place, Option<Error>)>) {
        let mut told = Vec::new();
        let mut state = self.state.lock();
        for (place, failure) in events {
            let Some(entry) = state.ledger.get_mut(place).filter(|entry| !entry.is_reported) else { continue };
            entry.is_reported = true;
            let (epoch, events, future) = (entry.epoch, entry.events, entry.future.take());
            state.ledger.leave_line(place);
            state.told += events;
            state.count_out(epoch, events, failure.as_ref());
            told.extend(future.zip(failure.map(Err)));
        }
        self.tell(state, told);
    }

    /// Without the lock: settles these futures, and the flushes whose last events they were, and wakes who waits for room.
    fn tell(&self, mut state: MutexGuard<State>, told: Vec<(Arc<Future>, Result<Delivered>)>) {
        let drained = pop_drained(&mut state);
        let wake = state.waiting > 0;
        drop(state);
        if wake {
            self.room.notify_all();
        }
        let calls = Calls::default();
        for (future, result) in told {
            future.settle_delivery(result, &calls);
        }
        settle_flushes(drained, &calls);
    }

    /// Those that librdkafka has had for so long, the oldest first.
    pub fn overdue(&self, limit: Duration) -> Vec<Overdue> {
        let now = Moment::now();
        let mut overdue = Vec::new();
        let ledger = &mut self.state.lock().ledger;
        while let Some((place, entry)) = ledger.oldest()
            && now.since(entry.since) >= limit
        {
            let Entry { partition, events, bytes, .. } = *entry;
            overdue.push(Overdue { place, partition, events, bytes });
            ledger.leave_line(place);
        }
        overdue
    }

    /// How long nothing will be overdue.
    pub fn until_overdue(&self, limit: Duration) -> Duration {
        let mut state = self.state.lock();
        state.ledger.oldest().map_or(limit, |(_, entry)| limit.saturating_sub(Moment::now().since(entry.since)))
    }

    /// Ends the current epoch; `flush` is settled when everything pushed before is delivered or failed.
    pub fn flush(&self, flush: Arc<Future>) {
        let mut state = self.state.lock();
        let mut ended = std::mem::take(&mut state.current);
        ended.flushes.push(flush);
        state.ended.push_back(ended);
        state.epoch += 1;
        self.tell(state, Vec::new());
    }

    /// Whether somebody flushed and not everything before that has gone out.
    pub fn is_flushing(&self) -> bool {
        !self.state.lock().ended.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().events == 0
    }

    /// Whether each event has its result, though some may still take room.
    pub fn all_reported(&self) -> bool {
        let state = self.state.lock();
        state.events == state.told
    }

    pub fn progress(&self) -> Progress {
        let state = self.state.lock();
        debug_assert!(state.told <= state.events);
        Progress { pending: state.events.saturating_sub(state.told), failed: state.failed_at_exit }
    }

    /// No push from now on, for this reason; those that wait for room are woken and fail.
    pub fn end(&self, why: Error) {
        let mut state = self.state.lock();
        state.end.get_or_insert(why);
        drop(state);
        self.room.notify_all();
    }
}

/// Counts the event in, where there is room for it.
fn take_place(mut state: MutexGuard<State>, claim: Claim) -> Place {
    state.events += 1;
    state.bytes += claim.bytes;
    state.current.outstanding += 1;
    let epoch = state.epoch;
    match (claim.partition, claim.future) {
        (Some(partition), None) => state.ledger.join(epoch, claim.bytes, partition, Moment::now()),
        (partition, future) => {
            let place = state.ledger.insert(epoch, claim.bytes, future);
            if let Some(partition) = partition {
                state.ledger.line_up(place, partition, Moment::now());
            }
            place
        }
    }
}

fn would_block() -> Error {
    Error::from_kind(Kind::WouldBlock).retriable(true)
}

impl State {
    /// Gives back an event's room. `None` if its result was told before, or if it isn't there.
    fn take_out(&mut self, place: Place, bytes: u64) -> Option<Removed> {
        let entry = self.ledger.remove(place, bytes)?;
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if entry.is_reported {
            self.told = self.told.saturating_sub(1);
            return None;
        }
        Some(entry)
    }

    fn count_out(&mut self, epoch: u64, events: u64, failure: Option<&Error>) {
        if failure.is_some() && process_exit::has_begun() {
            self.failed_at_exit += events;
        }
        let ago = self.epoch.saturating_sub(epoch) as usize;
        let counted_in = match ago {
            0 => Some(&mut self.current),
            _ => self.ended.len().checked_sub(ago).and_then(|index| self.ended.get_mut(index)),
        };
        let Some(epoch) = counted_in else { return };
        epoch.outstanding = epoch.outstanding.saturating_sub(events);
        if let Some(failure) = failure {
            epoch.failures += events;
            epoch.first_failure.get_or_insert_with(|| failure.clone());
        }
    }
}

/// Takes the epochs that are over and empty off the front.
fn pop_drained(state: &mut State) -> Vec<Epoch> {
    let mut drained = Vec::new();
    while state.ended.front().is_some_and(|first| first.outstanding == 0) {
        drained.extend(state.ended.pop_front());
    }
    drained
}

fn settle_flushes(drained: Vec<Epoch>, calls: &Calls) {
    for epoch in drained {
        let result = match epoch.first_failure {
            None => Ok(()),
            Some(first) => Err(first.context(format_args!(
                "flushing: {} of the events pushed since the flush before were not delivered; the first",
                epoch.failures
            ))),
        };
        for flush in epoch.flushes {
            flush.settle_flush(result.clone(), calls);
        }
    }
}
