//! One producer among those that share a client: its events in flight, its flushes and its end are its own.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use rdkafka::bindings as rd;

use super::flush::TopicFlush;
use super::serving::{ProducerClient, delivering};
use crate::error::{Error, Kind, Persisted, Result};
use crate::future::FlushLinger;
use crate::in_flight::{InFlight, Overdue, Place};
use crate::kafka::client::{Client, ClientRole};
use crate::kafka::codes::Code;
use crate::kafka::errors;
use crate::kafka::native::TopicHandle;
use crate::process_exit::{ExitFlush, Progress};

pub struct Member {
    pub in_flight: InFlight,
    slot: Slot,
    client: Arc<ProducerClient>,
    /// As messages show it.
    name: String,
    topic_name: String,
    /// What a flush sends.
    topic: OnceCell<TopicHandle>,
    /// Whether a producer of this client had the topic before.
    has_old_topic: bool,
    /// When events in flight are overdue, unless librdkafka sees to that.
    overdue_after: Option<Duration>,
    topic_flush: TopicFlush,
    /// How often it was flushed: an event that was on its way to librdkafka meanwhile has to be flushed once more.
    flushes: AtomicU32,
    /// Whether its name is among the client's.
    is_named: AtomicBool,
    /// Whether a thread pool may still have events that were pushed.
    is_prepared_elsewhere: AtomicBool,
    is_closing: AtomicBool,
}

/// A member's place among those of its client. librdkafka carries it with each event, above the event's own place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

impl Slot {
    /// No member's.
    pub const NONE: Slot = Slot(usize::MAX);

    /// `None` for more than there can be.
    pub fn new(index: usize) -> Option<Self> {
        u32::try_from(index).ok().map(|_| Slot(index << u32::BITS))
    }

    pub fn index(self) -> usize {
        self.0 >> u32::BITS
    }

    #[inline]
    pub fn opaque(self, place: Place) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0 | place.to_opaque().addr())
    }

    #[inline]
    pub fn read_opaque(opaque: *mut c_void) -> Option<(Slot, Place)> {
        Some((Slot(opaque.addr() & !(u32::MAX as usize)), Place::from_opaque(opaque)?))
    }
}

impl Member {
    pub fn new(
        slot: Slot,
        client: Arc<ProducerClient>,
        name: &str,
        topic_name: &str,
        in_flight: InFlight,
        overdue_after: Option<Duration>,
    ) -> Self {
        Member {
            in_flight,
            slot,
            client,
            name: ClientRole::Producer.shown(name),
            topic_name: topic_name.to_owned(),
            topic: OnceCell::new(),
            has_old_topic: false,
            overdue_after,
            topic_flush: TopicFlush::default(),
            flushes: AtomicU32::new(0),
            is_named: AtomicBool::new(true),
            is_prepared_elsewhere: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn topic_name(&self) -> &str {
        &self.topic_name
    }

    pub fn with_old_topic(self, has_old_topic: bool) -> Self {
        Member { has_old_topic, ..self }
    }

    pub fn has_old_topic(&self) -> bool {
        self.has_old_topic
    }

    pub fn client(&self) -> &Client {
        &self.client.client
    }

    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The topic that it produces to; kept here, too, for flushes.
    pub fn topic(&self) -> Result<TopicHandle> {
        let topic = || TopicHandle::new(&self.client().handle, &self.topic_name);
        self.topic.get_or_try_init(topic)?;
        topic()
    }

    #[inline]
    pub fn flushes(&self) -> u32 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Takes its name from the client's: it has told of all of its events.
    pub fn take_name(&self) {
        if self.is_named.swap(false, Ordering::AcqRel) {
            self.client().names().remove(&self.name);
        }
    }

    pub fn mark_prepared_elsewhere(&self) {
        self.is_prepared_elsewhere.store(true, Ordering::Relaxed);
    }

    /// Sends what lingers, and has the serving thread see to what can't be sent yet.
    pub fn start_flushing(&self) {
        #[cfg(feature = "patched")]
        self.flush_linger(Duration::ZERO);
        self.client().main.wake();
    }

    /// Sends what a flush, which is under way, has missed.
    pub fn flush_again(&self) {
        if cfg!(feature = "patched") {
            self.flush_topic(Duration::ZERO);
        }
    }

    /// Returns whether events are left.
    fn flush_topic(&self, at_most: Duration) -> bool {
        self.topic.get().is_none_or(|topic| self.topic_flush.flush(self.client(), topic, at_most))
    }

    /// Takes no more events. What is in flight is still delivered.
    pub fn close(&self) {
        self.in_flight.end(Error::from_kind(Kind::Closed));
        self.is_closing.store(true, Ordering::Release);
        self.start_flushing();
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Whether lingering events should go out now that did not when it flushed.
    pub fn is_flushing(&self) -> bool {
        let waits = (self.is_closing() && !self.in_flight.all_reported()) || self.in_flight.is_flushing();
        let is_partly_flushed = cfg!(not(feature = "patched")) || self.topic_flush.has_left_events();
        waits && (is_partly_flushed || self.is_prepared_elsewhere.load(Ordering::Relaxed))
    }

    /// How long nothing will be overdue.
    pub fn until_overdue(&self) -> Option<Duration> {
        self.overdue_after.map(|limit| self.in_flight.until_overdue(limit))
    }

    /// Fails what is in flight for longer than it may be. librdkafka keeps it: `overdue` says why.
    pub fn give_up_on_overdue(&self) {
        let Some(limit) = self.overdue_after else { return };
        let overdue = self.in_flight.overdue(limit);
        if !overdue.is_empty() {
            let given_up = overdue.into_iter().map(|event| (event.place, Some(self.overdue_error(event, limit))));
            self.in_flight.give_up(given_up.collect());
        }
    }

    fn overdue_error(&self, event: Overdue, limit: Duration) -> Error {
        let code = Code::from(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
        let reason = format!(
            "{}: no broker has confirmed it within delivery.timeout.ms ({}); it is kept, and may still be stored; {}",
            errors::describe(code),
            limit.as_millis(),
            self.client().why_timed_out()
        );
        let doing = delivering(event.events, event.bytes, event.partition, &self.topic_name);
        errors::error(code, &reason).with_persisted(Persisted::Possibly).context(doing)
    }
}

impl FlushLinger for Member {
    fn flush_linger(&self, at_most: Duration) -> bool {
        self.flushes.fetch_add(1, Ordering::AcqRel);
        let has_left_events = self.flush_topic(at_most);
        has_left_events || self.is_prepared_elsewhere.load(Ordering::Relaxed)
    }

    fn unreached(&self, began: Option<Instant>) -> Option<Error> {
        let doing = format_args!("waiting for deliveries to topic {:?}", self.topic_name);
        // What is waited for is kept, and may still be delivered.
        self.client().unreached(began, doing).map(|error| error.with_persisted(Persisted::Possibly))
    }
}

impl ExitFlush for Member {
    fn name(&self) -> String {
        format!("{} of topic {:?}", self.name, self.topic_name)
    }

    fn close(&self) {
        self.in_flight.end(Error::from_kind(Kind::Closed));
    }

    /// As the serving thread does, which may be in the callback of the host that exits.
    fn advance(&self) {
        const SLICE: Duration = Duration::from_millis(1);
        self.flush_linger(SLICE);
        self.client.serve_for(SLICE);
    }

    fn progress(&self) -> Progress {
        self.in_flight.progress()
    }

    fn reason(&self) -> String {
        self.client().why_timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_has_the_slot_and_the_place() {
        let place = Place::from_opaque(std::ptr::without_provenance_mut(7)).unwrap();
        for index in [0, 1, u32::MAX as usize] {
            let slot = Slot::new(index).unwrap();
            assert_eq!(slot.index(), index);
            assert_eq!(Slot::read_opaque(slot.opaque(place)), Some((slot, place)));
        }
        assert_eq!(Slot::new(1 << u32::BITS), None);
        assert_eq!(Slot::read_opaque(std::ptr::null_mut()), None);
    }
}
