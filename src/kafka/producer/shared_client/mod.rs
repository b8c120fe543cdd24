//! A client of producers and its serving thread.
//!
//! The serving thread passes delivery reports to the members whose events they are for, fails
//! overdue events, and purges events that no member waits for any more.

pub mod member;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use member::{Member, MemberSlot};

use super::{BATCH_HEADER, KafkaProducer};
use crate::config::Properties;
use crate::delivery::future::Delivered;
use crate::delivery::in_flight::Report;
use crate::delivery::promise::FlushLinger;
use crate::kafka::Connection;
use crate::kafka::client::{Client, ClientRole, IDLE};
use crate::kafka::librdkafka::codes::Code;
use crate::kafka::librdkafka::errors;
use crate::kafka::librdkafka::message::copied_headers;
use crate::kafka::librdkafka::queue::QueueEvent;
use crate::kafka::librdkafka::text::text;
use crate::record::Attributes;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Persisted, Result};
use crate::support::threads::spawn;

/// A client with this many topics accepts no more: each refresh of metadata includes all of them,
/// deleted or not.
const MAX_TOPICS: usize = 1_000;

/// The pool that a client belongs to, from which producers join it.
pub trait ClientPool: Send + Sync {
    /// How long a client without members waits for the next one.
    fn idle_limit(&self) -> Duration;
    /// Removes a client without members, so that no producer joins it. False if it has members.
    fn remove_unused(&self, client: &Arc<ProducerClient>) -> bool;
}

pub type Pool = Weak<dyn ClientPool>;

/// Creates the member for this slot of the client.
pub type MakeMember<'a> = dyn Fn(MemberSlot, &Arc<ProducerClient>) -> Member + 'a;

/// A client and the producers that share it.
pub struct ProducerClient {
    pub client: Client,
    members: RwLock<Vec<Option<Arc<Member>>>>,
    /// The topics of all members, former ones included: librdkafka never forgets a topic.
    topics: Mutex<HashSet<String>>,
    /// Whether the client accepts no more members: after a panic, or while it holds events of
    /// former members.
    is_retired: AtomicBool,
}

impl ProducerClient {
    /// Creates a client with its first member. Others may join while the pool exists.
    pub fn start(
        connection: &Connection,
        name: &str,
        properties: Properties,
        pool: Pool,
        make: &MakeMember,
    ) -> Result<(Arc<Self>, Arc<Member>)> {
        let client = Client::new(connection, ClientRole::Producer, name, properties)?;
        let client = Arc::new(ProducerClient {
            client,
            members: RwLock::default(),
            topics: Mutex::default(),
            is_retired: AtomicBool::new(false),
        });
        // Joins before the thread is started, which ends a client without members.
        let member = client.join(make).ok_or_else(|| Error::new(Kind::Kafka, "a new client accepts no member"))?;
        let served = client.clone();
        let started = spawn("octopus-producer", move || served.serve_until_unused(&pool));
        if let Err(error) = started {
            // Breaks the reference cycle between client and member.
            client.members.write().clear();
            return Err(error);
        }
        Ok((client, member))
    }

    /// Adds a member. `None` if the client accepts no more.
    pub fn join(self: &Arc<Self>, make: &MakeMember) -> Option<Arc<Member>> {
        let mut members = self.members.write();
        if self.is_retired.load(Ordering::Acquire) {
            return None;
        }
        let slot = members.iter().position(Option::is_none).unwrap_or(members.len());
        let member = make(MemberSlot::new(slot)?, self);
        let has_old_topic = self.topics.lock().contains(member.topic_name());
        if !has_old_topic && self.topics.lock().len() >= MAX_TOPICS {
            return None;
        }
        // Added before the check for a fatal error: a later error is then reported to this member,
        // too.
        self.client.names().add(member.name());
        if self.client.fatal().or_else(|| self.client.query_fatal_error()).is_some() {
            self.client.names().remove(member.name());
            return None;
        }
        self.topics.lock().insert(member.topic_name().to_owned());
        let member = Arc::new(member.with_old_topic(has_old_topic));
        match members.get_mut(slot) {
            Some(free) => *free = Some(member.clone()),
            None => members.push(Some(member.clone())),
        }
        Some(member)
    }

    pub fn has_members(&self) -> bool {
        self.members.read().iter().any(Option::is_some)
    }

    fn members(&self) -> Vec<Arc<Member>> {
        self.members.read().iter().flatten().cloned().collect()
    }

    fn member(&self, slot: MemberSlot) -> Option<Arc<Member>> {
        self.members.read().get(slot.index())?.clone()
    }

    /// Serves events for up to `timeout` on a thread other than the serving thread.
    pub fn serve_for(&self, timeout: Duration) {
        let mut event = self.client.main.poll(timeout);
        while event.is_some() {
            self.serve_guarded(event);
            event = self.client.main.poll(Duration::ZERO);
        }
    }

    fn serve_until_unused(self: &Arc<Self>, pool: &Pool) {
        /// How often members are checked while delivery reports arrive without a pause.
        /// `Queue::wake` has them checked at once.
        const MEMBER_CHECK_INTERVAL: Duration = Duration::from_millis(10);
        let mut pace = FlushPace::default();
        let (mut last_check, mut until, mut unused_since) = (None, Instant::now(), None);
        loop {
            let event = self.client.main.poll(until.saturating_duration_since(Instant::now()));
            let is_due = last_check.is_none_or(|at: Instant| at.elapsed() >= MEMBER_CHECK_INTERVAL);
            let was_woken = event.is_none();
            self.serve_guarded(event);
            if !was_woken && !is_due {
                continue;
            }
            let members = self.remove_finished_members();
            if members.is_empty() {
                let since = *unused_since.get_or_insert_with(Instant::now);
                if self.can_end(pool, since) {
                    return;
                }
            } else {
                unused_since = None;
            }
            self.guarded(|| {
                self.probe_if_failing();
                self.client.warn_unless_reached();
                members.iter().for_each(|member| member.fail_overdue_events());
            });
            let now = Instant::now();
            last_check = Some(now);
            let overdue = members.iter().filter_map(|member| member.until_overdue()).min();
            until = now + overdue.unwrap_or(IDLE).min(IDLE).min(pace.flush(&members).unwrap_or(IDLE));
        }
    }

    /// Removes the members that are closed and whose events are all reported. Returns the others.
    fn remove_finished_members(&self) -> Vec<Arc<Member>> {
        let members = self.members();
        let is_finished = |member: &Arc<Member>| member.is_closing() && member.in_flight.all_reported();
        if !members.iter().any(is_finished) {
            return members;
        }
        if self.retire_if_unneeded(&members) {
            members.iter().for_each(|member| member.remove_name());
            self.purge_overdue(&members);
            // Even if the purge timed out: no call waits for these events, and no member has
            // joined.
            self.members.write().clear();
            return Vec::new();
        }
        let mut slots = self.members.write();
        for slot in slots.iter_mut() {
            // A member with overdue events keeps its slot until librdkafka reports them.
            if let Some(member) = slot.as_ref().filter(|member| is_finished(member)) {
                member.remove_name();
            }
            slot.take_if(|member| is_finished(member) && member.in_flight.is_empty());
        }
        slots.iter().flatten().cloned().collect()
    }

    /// Retires the client if `members` are all of its members and none needs the events that are
    /// still in flight. No producer may join then, as a purge could leave some of these events
    /// behind.
    fn retire_if_unneeded(&self, members: &[Arc<Member>]) -> bool {
        let slots = self.members.write();
        let is_finished = |member: &Arc<Member>| member.is_closing() && member.in_flight.all_reported();
        let is_last = slots.iter().flatten().count() == members.len() && members.iter().all(is_finished);
        let is_pending = members.iter().any(|member| !member.in_flight.is_empty());
        if is_last && is_pending {
            self.is_retired.store(true, Ordering::Release);
        }
        is_last && is_pending
    }

    /// Whether the client, which has had no members since `unused_since`, ends now.
    fn can_end(self: &Arc<Self>, pool: &Pool, unused_since: Instant) -> bool {
        match pool.upgrade() {
            Some(pool) if unused_since.elapsed() >= pool.idle_limit() || self.is_retired.load(Ordering::Acquire) => {
                pool.remove_unused(self)
            }
            Some(_) => false,
            // The last producer of the driver may have joined meanwhile.
            None => !self.has_members(),
        }
    }

    /// Catches a panic, for example in a callback of the host: it must not end the serving thread.
    fn serve_guarded(&self, event: Option<QueueEvent>) {
        let Some(event) = event else { return };
        self.guarded(|| self.serve(&event));
    }

    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.fail("a panic while serving an event of librdkafka; this is a bug of Octopus");
        }
    }

    /// Purges the overdue events of these members from librdkafka. All of them are reported
    /// already.
    fn purge_overdue(&self, members: &[Arc<Member>]) {
        const TIMEOUT: Duration = Duration::from_secs(5);
        let deadline = Deadline::after(TIMEOUT);
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
        let is_pending = || members.iter().any(|member| !member.in_flight.is_empty());
        while is_pending() && !deadline.has_passed() {
            // SAFETY: `self.client` keeps the client alive. The delivery reports of purged events
            // release their permits.
            unsafe { rd::rd_kafka_purge(self.client.handle.as_ptr(), flags) };
            self.serve_guarded(self.client.main.poll(deadline.remaining(Duration::from_millis(100))));
        }
    }

    /// Probes the brokers while there is a persistent failure. Events in flight then wait until
    /// their delivery timeout. Those of a client that brokers have never accepted fail at once:
    /// none of them was ever sent.
    fn probe_if_failing(&self) {
        if self.client.probe_if_due() && self.client.never_connected_error().is_some() {
            let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
            // SAFETY: `self.client` keeps the client alive. The delivery reports of purged events
            // fail them.
            unsafe { rd::rd_kafka_purge(self.client.handle.as_ptr(), flags) };
        }
    }

    fn serve(&self, event: &QueueEvent) {
        if event.kind() == rd::RD_KAFKA_EVENT_DR {
            self.settle(event);
        } else if self.client.serve(event).is_some()
            && let Some(fatal) = self.client.fatal()
        {
            self.members().iter().for_each(|member| member.in_flight.end(fatal.clone()));
        }
    }

    /// Fails all events of all members after a panic.
    fn fail(&self, reason: &str) {
        log::error!(logger: self.client.log(), target: &self.client.name(), "{reason}");
        self.is_retired.store(true, Ordering::Release);
        let error = Error::new(Kind::Panicked, reason.to_owned());
        self.members().iter().for_each(|member| member.in_flight.end(error.clone()));
    }

    /// Collects the delivery reports of an event and settles them in groups of one member: the
    /// reports of a batch are mostly of one member.
    fn settle(&self, event: &QueueEvent) {
        const CHUNK: usize = 512;
        let mut messages = [std::ptr::null::<rd::rd_kafka_message_t>(); CHUNK];
        // SAFETY: `event` is alive.
        let expected = unsafe { rd::rd_kafka_event_message_count(event.as_ptr()) };
        let mut reports = Vec::with_capacity(expected.min(CHUNK));
        let (mut current, mut member) = (MemberSlot::NONE, None);
        // The reports of a batch arrive together. If the offset of its first record is unknown,
        // librdkafka numbers the records from -1 on.
        let mut has_offsets = true;
        loop {
            // SAFETY: `event` is alive; the array has the given length.
            let count = unsafe { rd::rd_kafka_event_message_array(event.as_ptr(), messages.as_mut_ptr(), CHUNK) };
            // SAFETY: the first `count` elements are messages that live as long as `event`.
            for message in messages[..count].iter().filter_map(|message| unsafe { message.as_ref() }) {
                // SAFETY: `message` is alive.
                has_offsets &= message.offset >= 0 || unsafe { Code::read(&raw const message.err) }.is_error();
                let Some((slot, permit)) = MemberSlot::read_opaque(message._private) else { continue };
                if slot != current {
                    self.settle_reports(member.as_deref(), &mut reports);
                    // The member exists: it stays until all of its events are reported.
                    (current, member) = (slot, self.member(slot));
                }
                // After a panic over one report the others must still be settled.
                let result = catch_unwind(AssertUnwindSafe(|| self.delivery_result(message, has_offsets)));
                let bytes = message.len as u64;
                reports.push(Report { permit, bytes, result: result.unwrap_or_else(|_| Err(self.panic_error())) });
            }
            self.settle_reports(member.as_deref(), &mut reports);
            if count == 0 {
                return;
            }
        }
    }

    /// Settles the events of one member.
    fn settle_reports(&self, member: Option<&Member>, reports: &mut Vec<Report>) {
        if reports.iter().any(|report| report.result.is_ok()) {
            self.client.record_success();
        }
        match member {
            Some(member) if !reports.is_empty() => member.in_flight.settle(reports),
            _ => reports.clear(),
        }
    }

    fn panic_error(&self) -> Error {
        self.fail("a panic while serving a delivery report; this is a bug of Octopus");
        let reason = "a panic while serving the delivery report: whether the event is stored is unknown";
        Error::new(Kind::Panicked, reason).with_persisted(Persisted::Possibly)
    }

    /// The result of an event by its delivery report.
    fn delivery_result(&self, message: &rd::rd_kafka_message_t, has_offsets: bool) -> Result<Delivered> {
        // SAFETY: `message` is alive.
        let code = unsafe { Code::read(&raw const message.err) };
        if !code.is_error() {
            let offset = u64::try_from(message.offset).ok().filter(|_| has_offsets);
            return Ok(Delivered { partition: message.partition as u32, offset });
        }
        // SAFETY: `message` is alive.
        let persisted = match unsafe { rd::rd_kafka_message_status(message) } {
            rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED if !errors::is_outcome_unknown(code) => {
                Persisted::No
            }
            _ => Persisted::Possibly,
        };
        // SAFETY: `message` is alive and keeps its topic alive.
        let topic_name = unsafe { rd::rd_kafka_topic_name(message.rkt) };
        // SAFETY: the name is NUL-terminated and lives as long as the topic.
        let topic_name = unsafe { text(topic_name) };
        let operation = delivering(1, message.len as u64, message.partition as u32, &topic_name);
        if matches!(code.into(), RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
            && let Some(error) = self.client.never_connected_error().or_else(|| self.client.query_fatal_error())
        {
            return Err(error.with_persisted(persisted).context(operation));
        }
        if let Some(error) = errors::deleted_topic_error(code) {
            return Err(error.with_persisted(persisted).context(operation));
        }
        // SAFETY: `message` is alive.
        let reason = unsafe { rd::rd_kafka_message_produce_errstr(message) };
        // SAFETY: the text is NULL or NUL-terminated and lives as long as the message.
        let reason = unsafe { text(reason) };
        let reason = match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::MessageTimedOut => self.client.timeout_reason(),
            RDKafkaErrorCode::MessageSizeTooLarge => format!(
                "raise the Kafka topic's max.message.bytes, of which this event alone needs up to {} (less if \
                 it is compressed), or lower kafka.batch.size",
                KafkaProducer::required_limit(message.len)
                    .saturating_add(size_of_attributes(message))
                    .saturating_add(BATCH_HEADER)
            ),
            _ => reason,
        };
        Err(errors::error(code, &reason).with_persisted(persisted).context(operation))
    }
}

/// The bytes of a message's key and headers.
fn size_of_attributes(message: &rd::rd_kafka_message_t) -> usize {
    let mut headers = std::ptr::null_mut();
    // SAFETY: `message` is alive, and `headers` is writable. A produced message has its headers, if
    // any, so that the call parses nothing.
    unsafe { rd::rd_kafka_message_headers(message, &mut headers) };
    let copied = Attributes { headers: copied_headers(headers), ..Attributes::default() };
    copied.size().saturating_add(message.key_len)
}

/// When members that flush are flushed again, with a growing pause: a flush does not send events of
/// a topic that is unknown at that time.
struct FlushPace {
    pause: Duration,
    due: Instant,
}

impl FlushPace {
    const FIRST_PAUSE: Duration = Duration::from_millis(1);
    const MAX_PAUSE: Duration = Duration::from_millis(64);

    /// Flushes the members that need it, if it is due. Returns the time until the next flush, if
    /// one is needed.
    fn flush(&mut self, members: &[Arc<Member>]) -> Option<Duration> {
        let mut flushing = members.iter().filter(|member| member.is_flushing()).peekable();
        if flushing.peek().is_none() {
            *self = FlushPace::default();
            return None;
        }
        let now = Instant::now();
        if now >= self.due {
            for member in flushing {
                member.flush_linger(Self::FIRST_PAUSE);
            }
            self.pause = (self.pause * 2).min(Self::MAX_PAUSE);
            self.due = now + self.pause;
        }
        Some(self.due.saturating_duration_since(Instant::now()))
    }
}

impl Default for FlushPace {
    fn default() -> Self {
        FlushPace { pause: Self::FIRST_PAUSE, due: Instant::now() }
    }
}

/// The context of a delivery error.
pub(super) fn delivering(events: u64, bytes: u64, partition: u32, topic: &str) -> String {
    let several = if events > 1 { format!("{events} events, together ") } else { String::new() };
    format!("delivering {several}{bytes} bytes to partition {partition} of topic {topic:?}")
}
