//! A client of producers, and the thread that serves it: delivery reports in, and handed to the members whose events they are
//! about; what is overdue is told, and what nobody waits for any more is dropped.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::clients::Pool;
use super::member::{Member, Slot};
use crate::completions::spawn;
use crate::config::Properties;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Persisted, Result};
use crate::future::{Delivered, FlushLinger};
use crate::in_flight::Report;
use crate::kafka::client::{Client, ClientRole, IDLE};
use crate::kafka::codes::Code;
use crate::kafka::native::{self, QueueEvent};
use crate::kafka::{Connection, errors};

/// A client with so many topics takes no more: each one, deleted or not, has its part in each refresh of metadata.
const MOST_TOPICS: usize = 1_000;

/// Makes the member for this slot of the client.
pub type MakeMember<'a> = dyn Fn(Slot, &Arc<ProducerClient>) -> Member + 'a;

/// A client, the producers that use it, and what its serving thread does.
pub struct ProducerClient {
    pub client: Client,
    members: RwLock<Vec<Option<Arc<Member>>>>,
    /// What its members, those that have gone included, produced to: librdkafka forgets none of them.
    topics: Mutex<HashSet<String>>,
    /// Whether producers may not join, after a panic or with events of producers that are gone.
    is_retired: AtomicBool,
}

impl ProducerClient {
    /// A client with its first member. Others may join it as long as there is the pool.
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
        // Before the thread, which ends without members.
        let member = client.join(make).ok_or_else(|| Error::new(Kind::Kafka, "a new client takes no member"))?;
        let served = client.clone();
        let started = spawn("octopus-producer", move || served.serve_until_unused(&pool));
        if let Err(error) = started {
            // They refer to each other.
            client.members.write().clear();
            return Err(error);
        }
        Ok((client, member))
    }

    /// `None` if no more producers may join.
    pub fn join(self: &Arc<Self>, make: &MakeMember) -> Option<Arc<Member>> {
        let mut members = self.members.write();
        if self.is_retired.load(Ordering::Acquire) {
            return None;
        }
        let slot = members.iter().position(Option::is_none).unwrap_or(members.len());
        let member = make(Slot::new(slot)?, self);
        let has_old_topic = self.topics.lock().contains(member.topic_name());
        if !has_old_topic && self.topics.lock().len() >= MOST_TOPICS {
            return None;
        }
        // Before the look for a fatal error: one that comes later is reported to this one, too.
        self.client.names().add(member.name());
        if self.client.fatal().or_else(|| self.client.ended_by()).is_some() {
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

    fn member(&self, slot: Slot) -> Option<Arc<Member>> {
        self.members.read().get(slot.index())?.clone()
    }

    /// Serves events for so long, as another thread than the serving one.
    pub fn serve_for(&self, at_most: Duration) {
        let mut event = self.client.main.poll(at_most);
        while event.is_some() {
            self.serve_guarded(event);
            event = self.client.main.poll(Duration::ZERO);
        }
    }

    fn serve_until_unused(self: &Arc<Self>, pool: &Pool) {
        /// While reports come in without a pause, members are looked after so often. Whoever wants more wakes this thread.
        const LOOKING_AFTER: Duration = Duration::from_millis(10);
        let mut pace = FlushPace::default();
        let (mut looked, mut until, mut unused_since) = (None, Instant::now(), None);
        loop {
            let event = self.client.main.poll(until.saturating_duration_since(Instant::now()));
            let is_due = looked.is_none_or(|at: Instant| at.elapsed() >= LOOKING_AFTER);
            let was_woken = event.is_none();
            self.serve_guarded(event);
            if !was_woken && !is_due {
                continue;
            }
            let members = self.let_go();
            if members.is_empty() {
                let since = *unused_since.get_or_insert_with(Instant::now);
                if self.may_end(pool, since) {
                    return;
                }
            } else {
                unused_since = None;
            }
            self.guarded(|| {
                self.probe_if_failing();
                self.client.warn_unless_reached();
                members.iter().for_each(|member| member.give_up_on_overdue());
            });
            let now = Instant::now();
            looked = Some(now);
            let overdue = members.iter().filter_map(|member| member.until_overdue()).min();
            until = now + overdue.unwrap_or(IDLE).min(IDLE).min(pace.flush(&members).unwrap_or(IDLE));
        }
    }

    /// Lets those go that take no more events and have told of all; those that stay.
    fn let_go(&self) -> Vec<Arc<Member>> {
        let members = self.members();
        let is_over = |member: &Arc<Member>| member.is_closing() && member.in_flight.all_reported();
        if !members.iter().any(is_over) {
            return members;
        }
        if self.retires_with(&members) {
            members.iter().for_each(|member| member.take_name());
            self.drop_overdue(&members);
            // Whatever became of the purge: nobody waits, and no other has joined.
            self.members.write().clear();
            return Vec::new();
        }
        let mut slots = self.members.write();
        for slot in slots.iter_mut() {
            // One with overdue events keeps its slot until librdkafka reports them.
            if let Some(member) = slot.as_ref().filter(|member| is_over(member)) {
                member.take_name();
            }
            slot.take_if(|member| is_over(member) && member.in_flight.is_empty());
        }
        slots.iter().flatten().cloned().collect()
    }

    /// Whether nobody needs any more what these members, which are all, still have in flight. Then no other may join, as it would
    /// inherit what a purge leaves behind.
    fn retires_with(&self, members: &[Arc<Member>]) -> bool {
        let slots = self.members.write();
        let is_left = |member: &Arc<Member>| member.is_closing() && member.in_flight.all_reported();
        let is_last = slots.iter().flatten().count() == members.len() && members.iter().all(is_left);
        let is_pending = members.iter().any(|member| !member.in_flight.is_empty());
        if is_last && is_pending {
            self.is_retired.store(true, Ordering::Release);
        }
        is_last && is_pending
    }

    /// Whether the client, unused since then, ends now.
    fn may_end(self: &Arc<Self>, pool: &Pool, unused_since: Instant) -> bool {
        match pool.upgrade() {
            Some(pool) if unused_since.elapsed() >= pool.idle_limit || self.is_retired.load(Ordering::Acquire) => {
                pool.take_out(self)
            }
            Some(_) => false,
            // A producer may have joined and gone meanwhile, as the last one of its driver.
            None => !self.has_members(),
        }
    }

    /// A panic in here, in a host's callback say, must not stop the reports.
    fn serve_guarded(&self, event: Option<QueueEvent>) {
        let Some(event) = event else { return };
        self.guarded(|| self.serve(&event));
    }

    fn guarded(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.fail("a panic while serving an event of librdkafka; this is a defect of Octopus");
        }
    }

    /// Everything was told: what librdkafka still has is nobody's any more.
    fn drop_overdue(&self, members: &[Arc<Member>]) {
        const AT_MOST: Duration = Duration::from_secs(5);
        let deadline = Deadline::after(AT_MOST);
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
        let is_pending = || members.iter().any(|member| !member.in_flight.is_empty());
        while is_pending() && !deadline.has_passed() {
            // SAFETY: the client is alive. It answers by delivery reports, which give back what the events hold.
            unsafe { rd::rd_kafka_purge(self.client.handle.as_ptr(), flags) };
            self.serve_guarded(self.client.main.poll(deadline.remaining(Duration::from_millis(100))));
        }
    }

    /// What is in flight when something comes between this client and the brokers stays there for its delivery time-out.
    /// But a client that has never been let in fails what it holds: nothing of that has left, and nothing is about to.
    fn probe_if_failing(&self) {
        if self.client.look_again() && self.client.never_connected_error().is_some() {
            let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
            // SAFETY: the client is alive. It answers by delivery reports.
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

    fn fail(&self, why: &str) {
        log::error!(logger: self.client.log(), target: &self.client.name(), "{why}");
        self.is_retired.store(true, Ordering::Release);
        let error = Error::new(Kind::Panicked, why.to_owned());
        self.members().iter().for_each(|member| member.in_flight.end(error.clone()));
    }

    /// Takes in a whole array of delivery reports, then tells of them at once: of one member after the other, since the reports of
    /// a batch mostly are of one.
    fn settle(&self, event: &QueueEvent) {
        const AT_ONCE: usize = 512;
        let mut messages = [std::ptr::null::<rd::rd_kafka_message_t>(); AT_ONCE];
        // SAFETY: the event is alive.
        let expected = unsafe { rd::rd_kafka_event_message_count(event.as_ptr()) };
        let mut reports = Vec::with_capacity(expected.min(AT_ONCE));
        let (mut current, mut member) = (Slot::NONE, None);
        // The reports of a batch come together. Where its first record is unknown, librdkafka counts on from -1.
        let mut is_placed = true;
        loop {
            // SAFETY: the event is alive and the array as long as said.
            let count = unsafe { rd::rd_kafka_event_message_array(event.as_ptr(), messages.as_mut_ptr(), AT_ONCE) };
            // SAFETY: the messages live as long as the event.
            for message in messages[..count].iter().filter_map(|message| unsafe { message.as_ref() }) {
                // SAFETY: a field of what is alive.
                is_placed &= message.offset >= 0 || unsafe { Code::read(&raw const message.err) }.is_error();
                let Some((slot, place)) = Slot::read_opaque(message._private) else { continue };
                if slot != current {
                    self.hand_over(member.as_deref(), &mut reports);
                    // Always there: a member stays until all of its events are reported.
                    (current, member) = (slot, self.member(slot));
                }
                // A panic over one report must not leave the others' events waiting for ever.
                let result = catch_unwind(AssertUnwindSafe(|| self.result_of(message, is_placed)));
                let bytes = message.len as u64;
                reports.push(Report { place, bytes, result: result.unwrap_or_else(|_| Err(self.panicked())) });
            }
            self.hand_over(member.as_deref(), &mut reports);
            if count == 0 {
                return;
            }
        }
    }

    fn hand_over(&self, member: Option<&Member>, reports: &mut Vec<Report>) {
        if reports.iter().any(|report| report.result.is_ok()) {
            self.client.note_success();
        }
        match member {
            Some(member) if !reports.is_empty() => member.in_flight.settle(reports),
            _ => reports.clear(),
        }
    }

    fn panicked(&self) -> Error {
        self.fail("a panic while serving a delivery report; this is a defect of Octopus");
        let why = "a panic while serving the delivery report: whether the event is stored is unknown";
        Error::new(Kind::Panicked, why).with_persisted(Persisted::Possibly)
    }

    fn result_of(&self, message: &rd::rd_kafka_message_t, is_placed: bool) -> Result<Delivered> {
        // SAFETY: a field of what is alive.
        let code = unsafe { Code::read(&raw const message.err) };
        if !code.is_error() {
            let offset = u64::try_from(message.offset).ok().filter(|_| is_placed);
            return Ok(Delivered { partition: message.partition as u32, offset });
        }
        // SAFETY: the message is alive.
        let stored = match unsafe { rd::rd_kafka_message_status(message) } {
            rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED if !errors::leaves_open(code) => Persisted::No,
            _ => Persisted::Possibly,
        };
        // SAFETY: the message keeps its topic alive; the name is copied.
        let topic_name = unsafe { native::text(rd::rd_kafka_topic_name(message.rkt)) };
        let doing = delivering(1, message.len as u64, message.partition as u32, &topic_name);
        if matches!(code.into(), RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
            && let Some(why) = self.client.never_connected_error().or_else(|| self.client.ended_by())
        {
            return Err(why.with_persisted(stored).context(doing));
        }
        if let Some(gone) = errors::gone(code) {
            return Err(gone.with_persisted(stored).context(doing));
        }
        // SAFETY: the message is alive; the text is copied.
        let reason = unsafe { native::text(rd::rd_kafka_message_produce_errstr(message)) };
        let reason = match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::MessageTimedOut => self.client.why_timed_out(),
            _ => reason,
        };
        Err(errors::error(code, &reason).with_persisted(stored).context(doing))
    }
}

/// How often members that flush are flushed again: events of a topic that was unknown when they flushed are not sent by that.
struct FlushPace {
    pause: Duration,
    due: Instant,
}

impl FlushPace {
    const FIRST_PAUSE: Duration = Duration::from_millis(1);
    const LONGEST_PAUSE: Duration = Duration::from_millis(64);

    /// Flushes the members that want it, if it is time. When it will be again, if some do.
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
            self.pause = (self.pause * 2).min(Self::LONGEST_PAUSE);
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

pub(super) fn delivering(events: u64, bytes: u64, partition: u32, topic: &str) -> String {
    let several = if events > 1 { format!("{events} events, together ") } else { String::new() };
    format!("delivering {several}{bytes} bytes to partition {partition} of topic {topic:?}")
}
