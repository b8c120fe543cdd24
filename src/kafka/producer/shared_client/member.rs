//! One producer among those that share a client: its events in flight, its flushes and its end are
//! its own.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use rdkafka::bindings as rd;

use super::{ProducerClient, delivering};
use crate::delivery::in_flight::{InFlight, Overdue, Permit};
use crate::delivery::promise::FlushLinger;
use crate::kafka::client::{Client, ClientRole};
use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::topic_handle::TopicHandle;
use crate::kafka::producer::linger::TopicFlush;
use crate::kafka::stats::{Describe, ProducerStats};
use crate::support::error::{Error, Kind, Persisted, Result};
use crate::support::process_exit::{ExitFlush, Progress};

pub struct Member {
    pub in_flight: InFlight,
    slot: MemberSlot,
    client: Arc<ProducerClient>,
    /// The name in messages.
    name: String,
    /// The name that the host has given.
    given_name: String,
    topic_name: String,
    /// The topic that a flush sends.
    topic: OnceCell<TopicHandle>,
    /// Whether another member of the client has used the topic before.
    has_old_topic: bool,
    /// After which time events in flight are overdue; `None` if librdkafka handles that.
    overdue_after: Option<Duration>,
    topic_flush: TopicFlush,
    /// The number of flushes. A push that has queued its event during a flush flushes again.
    flushes: AtomicU32,
    /// Whether the client has the name of this member.
    is_named: AtomicBool,
    /// Whether a thread pool may hold pushed events.
    is_prepared_elsewhere: AtomicBool,
    is_closing: AtomicBool,
}

/// The index of a member in its client. librdkafka carries it with each event, in the upper half of
/// the opaque pointer; the lower half is the event's permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberSlot(usize);

impl MemberSlot {
    /// The slot of no member.
    pub const NONE: MemberSlot = MemberSlot(usize::MAX);

    /// `None` if the index does not fit.
    pub fn new(index: usize) -> Option<Self> {
        u32::try_from(index).ok().map(|_| MemberSlot(index << u32::BITS))
    }

    pub fn index(self) -> usize {
        self.0 >> u32::BITS
    }

    /// The opaque pointer of an event.
    #[inline]
    pub fn opaque(self, permit: Permit) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0 | permit.to_opaque().addr())
    }

    /// Slot and permit of an opaque pointer.
    #[inline]
    pub fn read_opaque(opaque: *mut c_void) -> Option<(MemberSlot, Permit)> {
        Some((MemberSlot(opaque.addr() & !(u32::MAX as usize)), Permit::from_opaque(opaque)?))
    }
}

impl Member {
    pub fn new(
        slot: MemberSlot,
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
            name: ClientRole::Producer.display_name(name),
            given_name: name.to_owned(),
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

    pub fn slot(&self) -> MemberSlot {
        self.slot
    }

    /// A handle of the topic. The member keeps one, too, for flushes.
    pub fn topic(&self) -> Result<TopicHandle> {
        let topic = || TopicHandle::new(&self.client().handle, &self.topic_name);
        self.topic.get_or_try_init(topic)?;
        topic()
    }

    #[inline]
    pub fn flushes(&self) -> u32 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Removes the member's name from the client, once all of its events are reported.
    pub fn remove_name(&self) {
        if self.is_named.swap(false, Ordering::AcqRel) {
            self.client().names().remove(&self.name);
        }
    }

    pub fn mark_prepared_elsewhere(&self) {
        self.is_prepared_elsewhere.store(true, Ordering::Relaxed);
    }

    /// Ends the linger. The serving thread flushes again for events that can't be sent yet.
    pub fn start_flushing(&self) {
        #[cfg(feature = "patched")]
        self.flush_linger(Duration::ZERO);
        self.client().main.wake();
    }

    /// Sends an event that a concurrent flush may have missed.
    pub fn flush_again(&self) {
        if cfg!(feature = "patched") {
            self.flush_topic(Duration::ZERO);
        }
    }

    /// Returns whether events are left that linger.
    fn flush_topic(&self, timeout: Duration) -> bool {
        self.topic.get().is_none_or(|topic| self.topic_flush.flush(self.client(), topic, timeout))
    }

    /// Rejects further events. Those in flight are still delivered.
    pub fn close(&self) {
        self.in_flight.end(Error::from_kind(Kind::Closed));
        self.is_closing.store(true, Ordering::Release);
        self.start_flushing();
    }

    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Whether there may be lingering events that the last flush did not send.
    pub fn is_flushing(&self) -> bool {
        let waits = (self.is_closing() && !self.in_flight.all_reported()) || self.in_flight.is_flushing();
        let is_partly_flushed = cfg!(not(feature = "patched")) || self.topic_flush.has_left_events();
        waits && (is_partly_flushed || self.is_prepared_elsewhere.load(Ordering::Relaxed))
    }

    /// How long no event will be overdue.
    pub fn until_overdue(&self) -> Option<Duration> {
        self.overdue_after.map(|limit| self.in_flight.until_overdue(limit))
    }

    /// Fails the futures of overdue events. librdkafka keeps the events; `overdue` says why.
    pub fn fail_overdue_events(&self) {
        let Some(limit) = self.overdue_after else { return };
        let overdue = self.in_flight.overdue(limit);
        if !overdue.is_empty() {
            let given_up = overdue.into_iter().map(|event| (event.permit, Some(self.overdue_error(event, limit))));
            self.in_flight.report_early(given_up.collect());
        }
    }

    fn overdue_error(&self, event: Overdue, limit: Duration) -> Error {
        let code = Code::from(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
        let reason = format!(
            "{}: no broker has confirmed it within delivery.timeout.ms ({}); it is kept in the producer and may still be stored; {}",
            errors::describe(code),
            limit.as_millis(),
            self.client().timeout_reason()
        );
        let operation = delivering(event.events, event.bytes, event.partition, &self.topic_name);
        errors::error(code, &reason).with_persisted(Persisted::Possibly).context(operation)
    }
}

impl Describe<ProducerStats> for Member {
    fn stats(&self) -> ProducerStats {
        ProducerStats::new(&self.given_name, &self.topic_name, self.in_flight.usage())
    }
}

impl FlushLinger for Member {
    fn flush_linger(&self, timeout: Duration) -> bool {
        self.flushes.fetch_add(1, Ordering::AcqRel);
        let has_left_events = self.flush_topic(timeout);
        has_left_events || self.is_prepared_elsewhere.load(Ordering::Relaxed)
    }

    fn unreached(&self, began: Option<Instant>) -> Option<Error> {
        let operation = format_args!("waiting for deliveries to topic {:?}", self.topic_name);
        // The events stay in the producer and may still be delivered.
        self.client().unreached(began, operation).map(|error| error.with_persisted(Persisted::Possibly))
    }
}

impl ExitFlush for Member {
    fn name(&self) -> String {
        format!("{} of topic {:?}", self.name, self.topic_name)
    }

    fn close(&self) {
        self.in_flight.end(Error::from_kind(Kind::Closed));
    }

    /// Serves the client as the serving thread does, which may be blocked in a callback of the
    /// host.
    fn advance(&self) {
        const SLICE: Duration = Duration::from_millis(1);
        self.flush_linger(SLICE);
        self.client.serve_for(SLICE);
    }

    fn progress(&self) -> Progress {
        self.in_flight.progress()
    }

    fn reason(&self) -> String {
        self.client().timeout_reason()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_has_slot_and_permit() {
        let permit = Permit::from_opaque(std::ptr::without_provenance_mut(7)).unwrap();
        for index in [0, 1, u32::MAX as usize] {
            let slot = MemberSlot::new(index).unwrap();
            assert_eq!(slot.index(), index);
            assert_eq!(MemberSlot::read_opaque(slot.opaque(permit)), Some((slot, permit)));
        }
        assert_eq!(MemberSlot::new(1 << u32::BITS), None);
        assert_eq!(MemberSlot::read_opaque(std::ptr::null_mut()), None);
    }
}
