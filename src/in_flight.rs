//! What a producer has pushed and not yet heard of: the room it takes, and the flushes that wait for it.
//!
//! Pushes belong to the epoch they were counted in. A flush ends the current epoch and is settled when that
//! epoch and all before it are empty, however long others go on pushing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::future::Future;
use crate::health::is_plugin_thread;

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
    /// Of `events`, those that have failed as overdue: only their room is still taken.
    overdue: u64,
    /// The number of `epochs[0]`; the last of them is the one that pushes are counted in.
    first_epoch: u64,
    epochs: VecDeque<Epoch>,
    /// Why nothing more can be pushed.
    end: Option<Error>,
    waiting: usize,
}

pub struct InFlight {
    limits: Limits,
    state: Mutex<State>,
    room: Condvar,
}

/// One event's place among those in flight, and the room it has; given back with [`InFlight::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    epoch: u64,
    bytes: u64,
}

impl Place {
    /// The size of the record that the room was taken for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A place in the hands of its event's future. It may turn out larger or smaller than what was taken.
pub struct Held {
    epoch: u64,
    bytes: AtomicU64,
}

impl From<Place> for Held {
    fn from(place: Place) -> Self {
        Held { epoch: place.epoch, bytes: AtomicU64::new(place.bytes) }
    }
}

impl Held {
    pub fn place(&self) -> Place {
        Place { epoch: self.epoch, bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What became of one event, which gives its room back.
pub struct Outcome {
    pub place: Place,
    pub fate: Fate,
}

pub enum Fate {
    Delivered,
    Failed(Error),
    /// It has failed as overdue before, and flushes were told.
    ToldBefore,
}

impl Outcome {
    pub fn delivered(place: Place) -> Self {
        Outcome { place, fate: Fate::Delivered }
    }
}

impl InFlight {
    pub fn new(limits: Limits) -> Self {
        let state = State {
            events: 0,
            bytes: 0,
            overdue: 0,
            first_epoch: 0,
            epochs: VecDeque::from([Epoch::default()]),
            end: None,
            waiting: 0,
        };
        InFlight { limits, state: Mutex::new(state), room: Condvar::new() }
    }

    /// Takes room for one event, waiting for it until `deadline`; on a thread of the plugin, not waiting at all.
    /// An event larger than all the room there is gets it when nothing else is in flight.
    pub fn take(&self, bytes: u64, deadline: Deadline) -> Result<Place> {
        self.take_room(bytes, deadline, !is_plugin_thread())
    }

    /// As [`take`](Self::take), for a thread that others wait for: `WouldBlock` when there is no room.
    pub fn take_without_waiting(&self, bytes: u64) -> Result<Place> {
        self.take_room(bytes, Deadline::NEVER, false)
    }

    fn take_room(&self, bytes: u64, deadline: Deadline, may_wait: bool) -> Result<Place> {
        const SLICE: Duration = Duration::from_secs(1);
        let mut state = self.state.lock();
        loop {
            if let Some(end) = &state.end {
                return Err(end.clone());
            }
            let fits = state.events < self.limits.events
                && (state.bytes.saturating_add(bytes) <= self.limits.bytes || state.events == 0);
            if fits {
                state.events += 1;
                state.bytes += bytes;
                let epoch = state.first_epoch + state.epochs.len() as u64 - 1;
                if let Some(current) = state.epochs.back_mut() {
                    current.outstanding += 1;
                }
                return Ok(Place { epoch, bytes });
            }
            if !may_wait {
                return Err(Error::bare(Kind::WouldBlock).retriable(true));
            }
            if deadline.has_passed() {
                return Err(self.no_room(&state, bytes));
            }
            state.waiting += 1;
            self.room.wait_for(&mut state, deadline.remaining(SLICE));
            state.waiting -= 1;
        }
    }

    /// Counts an event whose record is made, and not sent yet, with that record's size. Never waits: what turned out
    /// larger delays the pushes after it.
    pub fn resize(&self, held: &Held, bytes: u64) {
        if held.place().bytes == bytes {
            return;
        }
        let mut state = self.state.lock();
        let before = held.bytes.swap(bytes, Ordering::Relaxed);
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
                match state.overdue {
                    0 => String::new(),
                    overdue => format!(", {overdue} of them longer than delivery.timeout.ms"),
                },
                self.limits.events,
                self.limits.bytes / 1024
            ),
        )
        .retriable(true)
    }

    /// Gives back the room of a whole array of events, then wakes whoever waits: once.
    pub fn settle(&self, outcomes: &mut Vec<Outcome>) {
        let mut state = self.state.lock();
        for Outcome { place, fate } in outcomes.drain(..) {
            state.events = state.events.saturating_sub(1);
            state.bytes = state.bytes.saturating_sub(place.bytes);
            match fate {
                Fate::Delivered => state.count_out(place, None),
                Fate::Failed(failure) => state.count_out(place, Some(failure)),
                Fate::ToldBefore => state.overdue = state.overdue.saturating_sub(1),
            }
        }
        let drained = pop_drained(&mut state);
        let wake = state.waiting > 0;
        drop(state);
        if wake {
            self.room.notify_all();
        }
        settle_flushes(drained);
    }

    /// These have failed as overdue: flushes wait for them no longer. Their room stays taken until they are settled.
    pub fn give_up_waiting(&self, overdue: Vec<(Place, Error)>) {
        let mut state = self.state.lock();
        for (place, failure) in overdue {
            state.overdue += 1;
            state.count_out(place, Some(failure));
        }
        let drained = pop_drained(&mut state);
        drop(state);
        settle_flushes(drained);
    }

    /// Ends the current epoch; `flush` is settled when everything pushed before is delivered or failed.
    pub fn flush(&self, flush: Arc<Future>) {
        let mut state = self.state.lock();
        if let Some(current) = state.epochs.back_mut() {
            current.flushes.push(flush);
        }
        state.epochs.push_back(Epoch::default());
        let drained = pop_drained(&mut state);
        drop(state);
        settle_flushes(drained);
    }

    /// Whether somebody flushed and not everything before that has gone out.
    pub fn is_flushing(&self) -> bool {
        self.state.lock().epochs.len() > 1
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().events == 0
    }

    /// Whether each event has its result, though some may still take room.
    pub fn all_told(&self) -> bool {
        let state = self.state.lock();
        state.events == state.overdue
    }

    pub fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// No push from now on, for this reason; those that wait for room are woken and fail.
    pub fn end(&self, why: Error) {
        let mut state = self.state.lock();
        state.end.get_or_insert(why);
        drop(state);
        self.room.notify_all();
    }
}

impl State {
    fn count_out(&mut self, place: Place, failure: Option<Error>) {
        let index = place.epoch.saturating_sub(self.first_epoch) as usize;
        let Some(epoch) = self.epochs.get_mut(index) else { return };
        epoch.outstanding = epoch.outstanding.saturating_sub(1);
        if let Some(failure) = failure {
            epoch.failures += 1;
            epoch.first_failure.get_or_insert(failure);
        }
    }
}

/// Takes the epochs that are over and empty off the front.
fn pop_drained(state: &mut State) -> Vec<Epoch> {
    let mut drained = Vec::new();
    while state.epochs.len() > 1 && state.epochs[0].outstanding == 0 {
        drained.extend(state.epochs.pop_front());
        state.first_epoch += 1;
    }
    drained
}

fn settle_flushes(drained: Vec<Epoch>) {
    for epoch in drained {
        let result = match epoch.first_failure {
            None => Ok(()),
            Some(first) => Err(first.during(format_args!(
                "flushing: {} of the events pushed since the flush before were not delivered; the first",
                epoch.failures
            ))),
        };
        for flush in epoch.flushes {
            flush.settle_flush(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::future::Hurry;

    struct NoHurry;
    impl Hurry for NoHurry {
        fn hurry(&self, _: Duration) {}
    }

    fn flush_of(in_flight: &InFlight) -> Arc<Future> {
        let flush = Arc::new(Future::flush(Weak::<NoHurry>::new(), crate::thread_pool::Mark::NONE));
        in_flight.flush(flush.clone());
        flush
    }

    fn delivered(place: Place) -> Vec<Outcome> {
        vec![Outcome::delivered(place)]
    }

    fn room_for(events: u64) -> InFlight {
        InFlight::new(Limits { events, bytes: 1000 })
    }

    const NOW: i64 = 0;

    #[test]
    fn a_flush_waits_for_what_was_pushed_before_it_and_for_nothing_after() {
        let in_flight = room_for(10);
        assert!(flush_of(&in_flight).test(), "nothing to wait for");
        let before = in_flight.take(1, Deadline::NEVER).unwrap();
        let flush = flush_of(&in_flight);
        let after = in_flight.take(1, Deadline::NEVER).unwrap();
        in_flight.settle(&mut delivered(after));
        assert!(!flush.test());
        in_flight.settle(&mut delivered(before));
        assert!(flush.test());
        assert!(in_flight.is_empty() && !in_flight.is_flushing());
    }

    #[test]
    fn a_later_flush_waits_for_the_epochs_before_its_own() {
        let in_flight = room_for(10);
        let first = in_flight.take(1, Deadline::NEVER).unwrap();
        let early = flush_of(&in_flight);
        let late = flush_of(&in_flight);
        assert!(!early.test() && !late.test());
        in_flight.settle(&mut delivered(first));
        assert!(early.test() && late.test());
    }

    #[test]
    fn a_flush_counts_the_failures_and_names_the_first() {
        let in_flight = room_for(10);
        let places = [0; 3].map(|_| in_flight.take(1, Deadline::NEVER).unwrap());
        let flush = flush_of(&in_flight);
        let why = Error::new(Kind::Kafka, "broker said no");
        let failed = places.map(|place| Outcome { place, fate: Fate::Failed(why.clone()) });
        in_flight.settle(&mut failed.into());
        let message = flush.wait(Deadline::from_millis(NOW)).unwrap_err().message().to_owned();
        assert!(message.contains("3 of the events") && message.contains("broker said no"), "{message}");
        assert!(flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok(), "said once");
    }

    #[test]
    fn an_overdue_event_is_told_by_one_flush_and_keeps_its_room_until_it_is_settled() {
        let in_flight = room_for(1);
        let place = in_flight.take(1, Deadline::NEVER).unwrap();
        let flush = flush_of(&in_flight);
        assert!(!in_flight.all_told());
        in_flight.give_up_waiting(vec![(place, Error::new(Kind::Kafka, "too late"))]);
        assert!(flush.wait(Deadline::from_millis(NOW)).unwrap_err().message().contains("too late"));
        assert!(in_flight.all_told() && !in_flight.is_empty());
        let refused = in_flight.take(1, Deadline::from_millis(NOW)).unwrap_err();
        assert!(refused.message().contains("1 of them longer than delivery.timeout.ms"), "{refused}");
        in_flight.settle(&mut vec![Outcome { place, fate: Fate::ToldBefore }]);
        assert!(in_flight.is_empty() && flush_of(&in_flight).wait(Deadline::from_millis(NOW)).is_ok());
        in_flight.take(1, Deadline::from_millis(NOW)).unwrap();
    }

    #[test]
    fn a_push_without_room_waits_for_a_delivery_and_is_woken_by_it() {
        let in_flight = room_for(1);
        let place = in_flight.take(1, Deadline::NEVER).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| in_flight.take(1, Deadline::after(Duration::from_secs(60))));
            while in_flight.state.lock().waiting == 0 {
                std::thread::yield_now();
            }
            in_flight.settle(&mut delivered(place));
            assert!(waiting.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_push_without_room_fails_at_its_deadline_with_the_settings_to_look_at() {
        let in_flight = room_for(1);
        in_flight.take(1, Deadline::NEVER).unwrap();
        let error = in_flight.take(1, Deadline::from_millis(NOW)).unwrap_err();
        assert!(error.message().contains("queue.buffering.max.messages"), "{error}");
        assert!(error.is_retriable());
    }

    #[test]
    fn an_event_larger_than_the_room_goes_when_nothing_else_does() {
        let in_flight = room_for(10);
        let place = in_flight.take(5000, Deadline::from_millis(NOW)).unwrap();
        assert!(in_flight.take(1, Deadline::from_millis(NOW)).is_err());
        in_flight.settle(&mut delivered(place));
        in_flight.take(1, Deadline::from_millis(NOW)).unwrap();
    }

    #[test]
    fn the_end_wakes_whoever_waits_for_room() {
        let in_flight = room_for(1);
        in_flight.take(1, Deadline::NEVER).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| in_flight.take(1, Deadline::NEVER));
            while in_flight.state.lock().waiting == 0 {
                std::thread::yield_now();
            }
            in_flight.end(Error::bare(Kind::Closed));
            assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::Closed);
        });
    }

    #[test]
    fn on_a_thread_of_the_plugin_a_push_never_waits_for_room() {
        let in_flight = room_for(1);
        in_flight.take(1, Deadline::NEVER).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                crate::health::mark_plugin_thread();
                let error = in_flight.take(1, Deadline::NEVER).unwrap_err();
                assert_eq!(error.kind(), Kind::WouldBlock);
                assert!(error.is_retriable());
            });
        });
    }
}
