//! librdkafka's producer: records in, delivery reports out. The only file that calls `rd_kafka_produce`.
//!
//! One thread serves the reports. It goes on after its producer, or the last of the siblings that share it, is
//! dropped, until everything in flight is delivered or has failed, and then destroys the client.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;
use rdkafka::types::RDKafkaErrorCode;

use super::buffer::{Buffer, EncodedRecord};
use super::client::{Client, ClientRole, IDLE};
use super::codes::{self, Code};
use super::native::{QueueEvent, TopicHandle};
use super::overdue::{Overdue, Watch};
use super::{Connection, conf, errors};
use crate::completions::spawn;
use crate::config::{ClientSettings, Properties};
use crate::deadline::{Deadline, as_millis_rounded_up};
use crate::error::{Error, Kind, Result, Stored};
use crate::future::{Delivered, Future, Hurry};
use crate::in_flight::{Fate, InFlight, Limits, Outcome, Place};
use crate::record::Record;
use crate::thread_pool::Mark;

/// What librdkafka adds to a record at most, and counts against `message.max.bytes`: `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`
/// in its rdkafka_proto.h, all numbers of a record at their longest.
const RECORD_OVERHEAD: usize = 36;
/// The largest batch that librdkafka takes.
const MOST_BATCHED: u64 = 1_000_000;
/// With smaller ones a producer would crawl: at most five requests are in flight, each with one batch of a partition.
/// How long events wait for company is `linger.ms`, not this.
const LEAST_BATCHED: u64 = 1_000;

pub struct KafkaProducer {
    topic_name: String,
    topic: TopicHandle,
    shared: Arc<Shared>,
    max_record: usize,
    /// The thread pool that prepares what is sent.
    pool: Mark,
    /// Held by all siblings: the last one to go closes what they share.
    open: Arc<Open>,
}

/// The client, its serving thread and the room in it; siblings for several topics share them.
struct Shared {
    in_flight: InFlight,
    /// When events in flight are overdue, unless librdkafka sees to that.
    watch: Option<Watch>,
    hurrying: AtomicBool,
    closing: AtomicBool,
    client: Client,
}

impl KafkaProducer {
    pub fn new(connection: &Connection, topic_name: &str, settings: &ClientSettings, overdue: Overdue) -> Result<Self> {
        let mut properties = connection.properties.overlaid_with(&settings.kafka);
        // What was acknowledged by Kafka is there once and in order, whatever is retried meanwhile.
        properties.set("enable.idempotence", "true");
        // With librdkafka's 10 s between attempts to connect, events would wait so much longer than their brokers are away.
        if properties.get("reconnect.backoff.ms").is_none() {
            properties.set_default("reconnect.backoff.max.ms", "1000");
        }
        if settings.batch_size > 0 {
            let batched = settings.batch_size.clamp(LEAST_BATCHED, MOST_BATCHED);
            properties.set("batch.num.messages", batched.to_string());
        }
        if let Some(events) = events_held(settings) {
            properties.set_default("queue.buffering.max.messages", events.to_string());
        }
        let wanted = conf::native(&properties)?;
        check_linger(&properties, &wanted)?;
        let watch = match overdue {
            Overdue::Kept => Watch::in_place_of_librdkafka(&mut properties, topic_name)?,
            Overdue::Dropped => None,
        };
        let limits = Limits {
            events: match conf::effective_number(&wanted, "queue.buffering.max.messages")? {
                0 => u64::MAX,
                events => events,
            },
            bytes: conf::effective_number(&wanted, "queue.buffering.max.kbytes")?.saturating_mul(1024),
        };
        // Room is counted here, where a push can wait for it and be woken; librdkafka's own limits lie above.
        properties.set("queue.buffering.max.messages", "0");
        properties.set("queue.buffering.max.kbytes", i32::MAX.to_string());

        let client = Client::new(connection, ClientRole::Producer, &settings.name, properties)?;
        let topic = TopicHandle::new(&client.handle, topic_name)?;
        let shared = Arc::new(Shared {
            in_flight: InFlight::new(limits),
            watch,
            hurrying: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            client,
        });
        let served = shared.clone();
        spawn("octopus-producer", move || served.serve_until_closed())?;
        let max_message = conf::effective_number(&wanted, "message.max.bytes")? as usize;
        Ok(KafkaProducer {
            topic_name: topic_name.to_owned(),
            topic,
            open: Arc::new(Open(shared.clone())),
            shared,
            max_record: max_message.saturating_sub(RECORD_OVERHEAD),
            pool: Mark::NONE,
        })
    }

    /// Tells that a thread pool prepares what is sent: waiting there for a delivery could be waiting for itself.
    pub fn prepared_on(self, pool: Mark) -> Self {
        KafkaProducer { pool, ..self }
    }

    /// One for another topic, which shares this one's client, room and fate.
    pub fn sibling(&self, topic_name: &str) -> Result<Self> {
        Ok(KafkaProducer {
            topic_name: topic_name.to_owned(),
            topic: TopicHandle::new(&self.shared.client.handle, topic_name)?,
            shared: self.shared.clone(),
            max_record: self.max_record,
            pool: self.pool,
            open: self.open.clone(),
        })
    }

    /// As Kafka knows the topic now. What this client knew of it is brought up to date, which matters to one that
    /// used a topic of this name that has been deleted since.
    pub fn partition_count(&self, deadline: Deadline) -> Result<Option<u32>> {
        self.shared.client.partition_count(&self.topic_name, deadline)
    }

    /// Fails while something stands between this client and the brokers that time doesn't heal: what would join what
    /// is in flight is told why it can't leave.
    pub fn check_way(&self) -> Result<()> {
        let doing = |why: Error| why.during(format_args!("reaching the brokers of topic {:?}", self.topic_name));
        self.shared.client.check_way().map_err(doing)
    }

    /// Whether this client takes nothing more, after a fatal error or a panic.
    pub fn has_ended(&self) -> bool {
        self.shared.in_flight.has_ended()
    }

    pub fn in_flight(&self) -> &InFlight {
        &self.shared.in_flight
    }

    /// The largest record that this client sends, in bytes: `message.max.bytes` without the overhead.
    pub fn max_record(&self) -> usize {
        self.max_record
    }

    /// Encodes the record and queues it in the place that was taken for its size; the returned future is settled by its
    /// delivery report.
    pub fn send(&self, partition: u32, record: &impl Record, place: Place) -> Result<Arc<Future>> {
        self.send_woken_by(self.waker(), partition, record, place)
    }

    /// As [`send`](Self::send), but waiting for it doesn't cut the linger short, which records need that shall go
    /// together with others.
    pub fn send_unhurried(&self, partition: u32, record: &impl Record, place: Place) -> Result<Arc<Future>> {
        self.send_woken_by(Weak::<Shared>::new(), partition, record, place)
    }

    fn send_woken_by(
        &self,
        waker: Weak<dyn Hurry>,
        partition: u32,
        record: &impl Record,
        place: Place,
    ) -> Result<Arc<Future>> {
        let future = Arc::new(Future::delivery(place, waker, self.pool));
        match self.encode_and_produce(partition, record, place.bytes() as usize, &future) {
            Ok(()) => Ok(future),
            Err(error) => {
                self.shared.in_flight.settle(&mut vec![Outcome::delivered(place)]);
                Err(error)
            }
        }
    }

    /// The future of an event that has its place and is sent later, by [`send_encoded`](Self::send_encoded).
    pub fn promise(&self, place: Place) -> Arc<Future> {
        Arc::new(Future::delivery(place, self.waker(), self.pool))
    }

    /// The bytes of a record of this size, to be sent later.
    pub fn encode(&self, record: &impl Record, size: usize) -> Result<EncodedRecord> {
        let mut buffer = Buffer::with_capacity(size)?;
        record.encode(|bytes| buffer.append(bytes));
        Ok(EncodedRecord(buffer))
    }

    /// Counts the event with the size that its record has, now that it is made.
    pub fn resize(&self, future: &Future, record: &EncodedRecord) {
        if let Some(held) = future.held() {
            self.shared.in_flight.resize(held, record.bytes().len() as u64);
        }
    }

    /// Queues a record; its delivery report settles the future. On an error the future is the caller's to fail.
    pub fn send_encoded(&self, partition: u32, record: EncodedRecord, future: &Arc<Future>) -> Result<()> {
        self.produce(partition, Bytes::ToKeep(record.0), future)
    }

    /// Settles the future of an event that can't be sent, and gives its room back. The next flush tells of it, unless
    /// its failure was told before.
    pub fn fail(&self, future: &Future, error: Error) {
        let is_news = future.settle_delivery(Err(error.clone()));
        if let Some(place) = future.place() {
            let fate = if is_news { Fate::Failed(error) } else { Fate::Delivered };
            self.shared.in_flight.settle(&mut vec![Outcome { place, fate }]);
        }
    }

    fn encode_and_produce(
        &self,
        partition: u32,
        record: &impl Record,
        size: usize,
        future: &Arc<Future>,
    ) -> Result<()> {
        if size <= LARGEST_COPIED_TWICE {
            let sent = SCRATCH.try_with(|scratch| {
                let scratch = &mut *scratch.borrow_mut();
                scratch.clear();
                record.encode(|bytes| scratch.extend_from_slice(bytes));
                self.produce(partition, Bytes::ToCopy(scratch), future)
            });
            // As a thread ends the scratch goes first, and what the host has run then may still push.
            if let Ok(result) = sent {
                return result;
            }
        }
        let mut buffer = Buffer::with_capacity(size)?;
        record.encode(|bytes| buffer.append(bytes));
        self.produce(partition, Bytes::ToKeep(buffer), future)
    }

    /// Settled when everything sent before is delivered or has failed; sends what lingers, waited on or not.
    pub fn flush(&self) -> Arc<Future> {
        let flush = Arc::new(Future::flush(self.waker(), self.pool));
        self.shared.in_flight.flush(flush.clone());
        self.shared.client.main.wake();
        flush
    }

    fn produce(&self, partition: u32, bytes: Bytes, future: &Arc<Future>) -> Result<()> {
        let (flags, payload, size) = match &bytes {
            Bytes::ToCopy(scratch) => (rd::RD_KAFKA_MSG_F_COPY, scratch.as_ptr().cast_mut(), scratch.len()),
            Bytes::ToKeep(buffer) => (rd::RD_KAFKA_MSG_F_FREE, buffer.start.as_ptr(), buffer.size),
        };
        let opaque = Arc::into_raw(future.clone());
        // SAFETY: topic and client are alive; the payload has `size` bytes, is copied or, from then on, librdkafka's
        // to free; the opaque comes back in exactly one delivery report.
        let refused = unsafe {
            rd::rd_kafka_produce(
                self.topic.as_ptr(),
                partition as i32,
                flags,
                payload.cast(),
                size,
                std::ptr::null(),
                0,
                opaque.cast_mut().cast(),
            )
        };
        if refused == 0 {
            if let Some(watch) = &self.shared.watch {
                watch.begin(partition, future);
            }
            if let Bytes::ToKeep(buffer) = bytes {
                buffer.give_away();
            }
            return Ok(());
        }
        let error = self.refusal(partition, size);
        // SAFETY: refused, so librdkafka did not keep the opaque.
        drop(unsafe { Arc::from_raw(opaque) });
        Err(error)
    }

    fn refusal(&self, partition: u32, size: usize) -> Error {
        let error = match self.shared.client.fatal() {
            Some(fatal) => fatal,
            // SAFETY: reads a thread-local.
            None => gone(unsafe { codes::rd_kafka_last_error() }).unwrap_or_else(errors::last_error),
        };
        error.during(format_args!("pushing {size} bytes to partition {partition} of topic {:?}", self.topic_name))
    }

    fn waker(&self) -> Weak<dyn Hurry> {
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        shared
    }
}

/// While there is one, the serving thread waits for more to come.
struct Open(Arc<Shared>);

impl Drop for Open {
    /// What is in flight is still delivered, by the serving thread.
    fn drop(&mut self) {
        self.0.in_flight.end(Error::bare(Kind::Closed));
        self.0.closing.store(true, Ordering::Release);
        self.0.client.main.wake();
    }
}

impl Hurry for Shared {
    fn hurry(&self, at_most: Duration) {
        if self.hurrying.swap(true, Ordering::AcqRel) {
            return;
        }
        // While a flush runs, librdkafka takes linger.ms as over. It returns early when nothing is in flight.
        // SAFETY: the client is alive.
        unsafe { rd::rd_kafka_flush(self.client.handle.as_ptr(), as_millis_rounded_up(at_most)) };
        self.hurrying.store(false, Ordering::Release);
    }
}

impl Shared {
    fn serve_until_closed(&self) {
        const FIRST_PAUSE: Duration = Duration::from_millis(1);
        const LONGEST_PAUSE: Duration = Duration::from_millis(64);
        let (mut pause, mut due) = (FIRST_PAUSE, Instant::now());
        while !(self.closing.load(Ordering::Acquire) && self.in_flight.all_told()) {
            let event = if self.in_flight.is_flushing() || self.closing.load(Ordering::Acquire) {
                // By the clock, not for each event: what librdkafka says of a flush would have us flush again.
                if Instant::now() >= due {
                    self.hurry(Duration::from_millis(1));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    due = Instant::now() + pause;
                }
                self.client.main.poll(due.saturating_duration_since(Instant::now()))
            } else {
                (pause, due) = (FIRST_PAUSE, Instant::now());
                self.client.main.poll(self.watch.as_ref().map_or(IDLE, |watch| watch.until_next().min(IDLE)))
            };
            self.look_after_trouble();
            self.give_up_on_overdue();
            self.serve_guarded(event);
        }
        self.drop_overdue();
    }

    /// A panic in here, in a host's callback say, must not stop the reports.
    fn serve_guarded(&self, event: Option<QueueEvent>) {
        let Some(event) = event else { return };
        if catch_unwind(AssertUnwindSafe(|| self.serve(&event))).is_err() {
            self.fail("a panic while serving an event of librdkafka; this is a defect of Octopus");
        }
    }

    /// Fails what is in flight for longer than it may be. librdkafka keeps it: `overdue` says why.
    fn give_up_on_overdue(&self) {
        let Some(watch) = &self.watch else { return };
        let mut given_up = Vec::new();
        for event in watch.take_overdue() {
            let Some(place) = event.future.place() else { continue };
            let error = self.overdue_error(watch, event.partition, place);
            if event.future.settle_delivery(Err(error.clone())) {
                given_up.push((place, error));
            }
        }
        if !given_up.is_empty() {
            self.in_flight.give_up_waiting(given_up);
        }
    }

    fn overdue_error(&self, watch: &Watch, partition: u32, place: Place) -> Error {
        let code = Code::from(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
        let reason = format!(
            "{}: no broker has confirmed it within delivery.timeout.ms ({}); it is kept, and may still be stored; {}",
            errors::describe(code),
            watch.limit.as_millis(),
            self.client.why_timed_out()
        );
        errors::error(code, &reason).stored(Stored::Perhaps).during(delivering(place.bytes(), partition, &watch.topic))
    }

    /// Everything was told: what librdkafka still has is nobody's any more.
    fn drop_overdue(&self) {
        const AT_MOST: Duration = Duration::from_secs(5);
        let deadline = Deadline::after(AT_MOST);
        let flags = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
        while !self.in_flight.is_empty() && !deadline.has_passed() {
            // SAFETY: the client is alive. It answers by delivery reports, which give back what the events hold.
            unsafe { rd::rd_kafka_purge(self.client.handle.as_ptr(), flags) };
            self.serve_guarded(self.client.main.poll(deadline.remaining(Duration::from_millis(100))));
        }
    }

    /// What is in flight when something comes between this client and the brokers stays there for its delivery time-out.
    /// But a client that has never been let in fails what it holds: nothing of that has left, and nothing is about to.
    fn look_after_trouble(&self) {
        if self.client.look_again() && self.client.kept_out_by().is_some() {
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
            self.in_flight.end(fatal);
        }
    }

    fn fail(&self, why: &str) {
        log::error!(logger: self.client.log(), target: self.client.name(), "{why}");
        self.in_flight.end(Error::new(Kind::Panicked, why));
    }

    /// Settles the futures of a whole array of delivery reports, then gives their room back at once.
    fn settle(&self, event: &QueueEvent) {
        const AT_ONCE: usize = 512;
        let mut messages = [std::ptr::null::<rd::rd_kafka_message_t>(); AT_ONCE];
        let mut outcomes = Vec::with_capacity(AT_ONCE);
        // The reports of a batch come together. Where its first record is unknown, librdkafka counts on from -1.
        let mut is_placed = true;
        loop {
            // SAFETY: the event is alive and the array as long as said.
            let count = unsafe { rd::rd_kafka_event_message_array(event.as_ptr(), messages.as_mut_ptr(), AT_ONCE) };
            if count == 0 {
                return;
            }
            // SAFETY: the messages live as long as the event.
            for message in messages[..count].iter().filter_map(|message| unsafe { message.as_ref() }) {
                // SAFETY: a field of what is alive.
                is_placed &= message.offset >= 0 || unsafe { Code::read(&raw const message.err) }.is_error();
                // A panic over one report must not leave the others' futures waiting for ever.
                match catch_unwind(AssertUnwindSafe(|| self.settle_one(message, is_placed))) {
                    Ok(outcome) => outcomes.extend(outcome),
                    Err(_) => self.fail("a panic while serving a delivery report; this is a defect of Octopus"),
                }
            }
            self.in_flight.settle(&mut outcomes);
        }
    }

    fn settle_one(&self, message: &rd::rd_kafka_message_t, is_placed: bool) -> Option<Outcome> {
        // SAFETY: made in `produce`, and this is its one report.
        let report = unsafe { Report::from_opaque(message._private) }?;
        let result = self.result_of(message, is_placed);
        if result.is_ok() {
            self.client.note_success();
        }
        let failure = result.as_ref().err().cloned();
        let fate = match (report.0.settle_delivery(result), failure) {
            (false, _) => Fate::ToldBefore,
            (true, None) => Fate::Delivered,
            (true, Some(failure)) => Fate::Failed(failure),
        };
        Some(Outcome { place: report.0.place()?, fate })
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
            rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED if !errors::leaves_open(code) => Stored::No,
            _ => Stored::Perhaps,
        };
        // SAFETY: the message keeps its topic alive; the name is copied.
        let topic_name = unsafe { super::native::text(rd::rd_kafka_topic_name(message.rkt)) };
        let doing = delivering(message.len as u64, message.partition as u32, &topic_name);
        if RDKafkaErrorCode::from(code) == RDKafkaErrorCode::PurgeQueue
            && let Some(trouble) = self.client.kept_out_by()
        {
            return Err(trouble.stored(stored).during(doing));
        }
        if let Some(gone) = gone(code) {
            return Err(gone.stored(stored).during(doing));
        }
        // SAFETY: the message is alive; the text is copied.
        let reason = unsafe { super::native::text(rd::rd_kafka_message_produce_errstr(message)) };
        let reason = match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::MessageTimedOut => self.client.why_timed_out(),
            _ => reason,
        };
        Err(errors::error(code, &reason).stored(stored).during(doing))
    }
}

/// What librdkafka's own words for it don't say: it has let go of the partition, or the topic has fewer of them now.
fn gone(code: Code) -> Option<Error> {
    use RDKafkaErrorCode::{BrokerDestroy, UnknownPartition};
    let why = "there is no such topic any more, or it has no such partition: it was deleted, or made again";
    matches!(code.into(), BrokerDestroy | UnknownPartition)
        .then(|| Error::new(Kind::UnknownTopic, why).with_kafka_code(code.number()))
}

fn delivering(bytes: u64, partition: u32, topic: &str) -> String {
    format!("delivering {bytes} bytes to partition {partition} of topic {topic:?}")
}

/// Events that may be in flight, when the batch parameters say so; never so few that a usual program crawls.
fn events_held(settings: &ClientSettings) -> Option<u64> {
    const LEAST: u64 = 10_000;
    const MOST: u64 = 10_000_000;
    let has_preference = settings.batch_size != 0 && settings.batch_size != u64::MAX && settings.max_batches != 0;
    has_preference.then(|| settings.batch_size.saturating_mul(settings.max_batches).clamp(LEAST, MOST))
}

/// librdkafka finds this one only when the topic is used, and says no more than "invalid argument".
fn check_linger(properties: &Properties, config: &NativeClientConfig) -> Result<()> {
    // A topic's property: a client's configuration does not tell its default, which is CONFIGURATION.md's.
    let delivery = properties.get("delivery.timeout.ms").or(properties.get("message.timeout.ms")).unwrap_or("300000");
    let linger = conf::effective(config, "linger.ms")?;
    match (linger.parse::<f64>(), delivery.parse::<f64>()) {
        (Ok(linger_ms), Ok(delivery_ms)) if delivery_ms > 0.0 && linger_ms >= delivery_ms => Err(Error::configuration(
            "kafka.linger.ms",
            format_args!("{linger} must be less than kafka.delivery.timeout.ms, which is {delivery}"),
        )),
        _ => Ok(()),
    }
}

/// A future whose delivery report is being read; it is settled whatever happens.
struct Report(Arc<Future>);

impl Report {
    /// # Safety
    /// `opaque` is NULL or comes from `produce`, and this is the only time that it is turned back.
    unsafe fn from_opaque(opaque: *mut c_void) -> Option<Self> {
        // SAFETY: the caller's promise.
        (!opaque.is_null()).then(|| Report(unsafe { Arc::from_raw(opaque.cast::<Future>().cast_const()) }))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "a panic while serving the delivery report: whether the event is stored is unknown";
            self.0.settle_delivery(Err(Error::new(Kind::Panicked, why).stored(Stored::Perhaps)));
        }
    }
}

/// Up to here a record is built in scratch memory, which librdkafka copies into one allocation with its message:
/// for small records that is cheaper than an allocation of their own.
const LARGEST_COPIED_TWICE: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

enum Bytes<'a> {
    ToCopy(&'a [u8]),
    ToKeep(Buffer),
}
