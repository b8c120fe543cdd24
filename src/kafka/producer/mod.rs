//! librdkafka's producer: records in. The only file that calls `rd_kafka_produce`.
//!
//! Producers with the same properties share a client (`clients`), each as a member of its own (`member`). One thread per
//! client (`serving`) takes delivery reports and hands them to the members.

mod clients;
mod flush;
mod member;
mod serving;
#[cfg(all(test, feature = "patched"))]
mod tests;

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;

use super::buffer::{Buffer, EncodedRecord};
use super::codes;
use super::native::TopicHandle;
use super::overdue::{self, WhenOverdue};
use super::{Connection, conf, errors};
use crate::config::{ClientSettings, Properties};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::future::{FlushLinger, Future};
use crate::in_flight::{InFlight, Limits, Place, Report};
use crate::process_exit;
use crate::record::Record;
use crate::thread_pool::Mark;
pub use clients::ProducerClients;
use member::{Member, Slot};
use serving::ProducerClient;

/// What librdkafka adds to a record at most, and counts against `message.max.bytes`: `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`
/// in its rdkafka_proto.h, all numbers of a record at their longest.
const RECORD_OVERHEAD: usize = 36;
/// The largest batch that librdkafka takes.
const MAX_BATCH_EVENTS: u64 = 1_000_000;
/// With smaller ones a producer would crawl: at most five requests are in flight, each with one batch of a partition.
/// How long events wait for company is `linger.ms`, not this.
const MIN_BATCH_EVENTS: u64 = 1_000;

/// How long creating a producer waits for what the brokers know of its topic, if its client knows something older.
const REFRESH: Duration = Duration::from_secs(1);

pub struct KafkaProducer {
    topic_name: String,
    topic: TopicHandle,
    member: Arc<Member>,
    slot: Slot,
    max_record: usize,
    /// The thread pool that prepares what is sent.
    pool: Mark,
    /// Closes the member.
    _open: Open,
}

impl KafkaProducer {
    pub fn new(
        connection: &Connection,
        topic_name: &str,
        settings: &ClientSettings,
        overdue: WhenOverdue,
        clients: Option<&Arc<ProducerClients>>,
    ) -> Result<Self> {
        let mut properties = connection.properties.overlaid_with(&settings.kafka);
        // What was acknowledged by Kafka is there once and in order, whatever is retried meanwhile.
        properties.set("enable.idempotence", "true");
        if settings.batch_size > 0 {
            let batched = settings.batch_size.clamp(MIN_BATCH_EVENTS, MAX_BATCH_EVENTS);
            properties.set("batch.num.messages", batched.to_string());
        }
        if let Some(events) = events_held(settings) {
            properties.set_default("queue.buffering.max.messages", events.to_string());
        }
        let wanted = conf::native(&properties)?;
        check_linger(&properties, &wanted)?;
        let overdue_after = match overdue {
            WhenOverdue::Keep => overdue::take_limit(&mut properties)?,
            WhenOverdue::Drop => None,
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

        if process_exit::has_begun() {
            return Err(Error::from_kind(Kind::Closed));
        }
        let max_message = conf::effective_number(&wanted, "message.max.bytes")? as usize;
        // With it one event that fails ends the client.
        let is_alone = settings.is_dedicated || conf::effective(&wanted, "enable.gapless.guarantee")? == "true";
        let make = |slot, client: &Arc<ProducerClient>| {
            Member::new(slot, client.clone(), &settings.name, topic_name, InFlight::new(limits), overdue_after)
        };
        let member = match clients {
            Some(clients) if !is_alone => clients.join(connection, &settings.name, properties, &make)?,
            _ => ProducerClient::start(connection, &settings.name, properties, Weak::new(), &make)?.1,
        };
        // From here on the member is closed by being dropped.
        let open = Open(member.clone());
        let topic = member.topic()?;
        if member.has_old_topic() {
            // The client may know it as it was before partitions were added, or before it was deleted and made again. What
            // fails here, fails a push, too.
            let _ = member.client().partition_count(topic_name, Deadline::after(REFRESH));
        }
        // Info topics' records belong to a call that waits for them.
        if overdue == WhenOverdue::Keep {
            let flushed: Weak<Member> = Arc::downgrade(&member);
            process_exit::register(flushed, connection.exit_flush)?;
        }
        Ok(KafkaProducer {
            topic_name: topic_name.to_owned(),
            topic,
            _open: open,
            slot: member.slot(),
            member,
            max_record: max_message.saturating_sub(RECORD_OVERHEAD),
            pool: Mark::NONE,
        })
    }

    /// Tells that a thread pool prepares what is sent: waiting there for a delivery could be waiting for itself.
    pub fn prepared_on(self, pool: Mark) -> Self {
        if pool != Mark::NONE {
            self.mark_prepared_elsewhere();
        }
        KafkaProducer { pool, ..self }
    }

    /// From now on, events that were pushed may be sent later, by other threads.
    pub fn mark_prepared_elsewhere(&self) {
        self.member.mark_prepared_elsewhere();
    }

    /// As Kafka knows the topic now. What this client knew of it is brought up to date, which matters to one that
    /// used a topic of this name that has been deleted since.
    pub fn partition_count(&self, deadline: Deadline) -> Result<Option<u32>> {
        self.member.client().partition_count(&self.topic_name, deadline)
    }

    /// Fails while something stands between this client and the brokers that time doesn't heal: what would join what
    /// is in flight is told why it can't leave.
    pub fn check_way(&self) -> Result<()> {
        let doing = |why: Error| why.context(format_args!("reaching the brokers of topic {:?}", self.topic_name));
        self.member.client().check_way().map_err(doing)
    }

    /// The error for whoever waits since `began` for room, as no broker was ever reached.
    pub fn unreached(&self, began: Instant) -> Option<Error> {
        self.member.client().unreached(Some(began), "waiting for room among the events in flight")
    }

    pub fn in_flight(&self) -> &InFlight {
        &self.member.in_flight
    }

    /// How often its events were flushed until now.
    #[inline]
    pub fn flushes(&self) -> u32 {
        self.member.flushes()
    }

    /// After a push that began when there were so many flushes: one that came meanwhile may have missed its event.
    #[inline]
    pub fn flush_after(&self, flushes: u32) {
        if self.member.flushes() != flushes {
            self.member.flush_again();
        }
    }

    /// The largest record that this client sends, in bytes: `message.max.bytes` without the overhead.
    pub fn max_record(&self) -> usize {
        self.max_record
    }

    /// Settled by the delivery report of the event that takes its place with it.
    pub fn future(&self) -> Arc<Future> {
        Arc::new(Future::delivery(self.waker(), self.pool))
    }

    /// As [`future`](Self::future), but waiting for it doesn't cut the linger short, which records need that shall go
    /// together with others.
    pub fn lingering_future(&self) -> Arc<Future> {
        Arc::new(Future::delivery(Weak::<Member>::new(), self.pool))
    }

    /// Encodes the record and queues it in the place that was taken for its `size`.
    pub fn send(&self, partition: u32, record: &impl Record, size: usize, place: Place) -> Result<()> {
        let sent = self.encode_and_produce(partition, record, size, place);
        if sent.is_err() {
            self.member.in_flight.give_back(place, size as u64);
        }
        sent
    }

    /// The bytes of a record of this size, to be sent later.
    pub fn encode(&self, record: &impl Record, size: usize) -> Result<EncodedRecord> {
        let mut buffer = Buffer::with_capacity(size)?;
        record.encode(|bytes| buffer.append(bytes));
        Ok(EncodedRecord(buffer))
    }

    /// Queues a record; its delivery report tells what became of it. On an error that is the caller's to tell.
    pub fn send_encoded(&self, partition: u32, record: EncodedRecord, place: Place) -> Result<()> {
        self.member.in_flight.sending(place, partition);
        self.produce(partition, Bytes::ToKeep(record.0), place)
    }

    /// Tells that an event can't be sent, and gives its room back. The next flush tells of it, unless its failure was told
    /// before.
    pub fn fail(&self, place: Place, error: Error) {
        // What is made ready before it is sent has a place to itself, which knows its bytes.
        self.member.in_flight.settle(&mut vec![Report { place, bytes: 0, result: Err(error) }]);
    }

    fn encode_and_produce(&self, partition: u32, record: &impl Record, size: usize, place: Place) -> Result<()> {
        if size <= LARGEST_COPIED_TWICE {
            let sent = SCRATCH.try_with(|scratch| {
                let scratch = &mut *scratch.borrow_mut();
                scratch.clear();
                record.encode(|bytes| scratch.extend_from_slice(bytes));
                self.produce(partition, Bytes::ToCopy(scratch), place)
            });
            // As a thread ends the scratch goes first, and what the host has run then may still push.
            if let Ok(result) = sent {
                return result;
            }
        }
        let mut buffer = Buffer::with_capacity(size)?;
        record.encode(|bytes| buffer.append(bytes));
        self.produce(partition, Bytes::ToKeep(buffer), place)
    }

    /// Settled when everything sent before is delivered or has failed; sends what lingers, waited on or not.
    pub fn flush(&self) -> Arc<Future> {
        let flush = Arc::new(Future::flush(self.waker(), self.pool));
        self.member.in_flight.flush(flush.clone());
        self.member.start_flushing();
        flush
    }

    fn produce(&self, partition: u32, bytes: Bytes, place: Place) -> Result<()> {
        let (flags, payload, size) = match &bytes {
            Bytes::ToCopy(scratch) => (rd::RD_KAFKA_MSG_F_COPY, scratch.as_ptr().cast_mut(), scratch.len()),
            Bytes::ToKeep(buffer) => (rd::RD_KAFKA_MSG_F_FREE, buffer.start.as_ptr(), buffer.size),
        };
        // SAFETY: topic and client are alive; the payload has `size` bytes, is copied or, from then on, librdkafka's
        // to free; the opaque is a number.
        let refused = unsafe {
            rd::rd_kafka_produce(
                self.topic.as_ptr(),
                partition as i32,
                flags,
                payload.cast(),
                size,
                std::ptr::null(),
                0,
                self.slot.opaque(place),
            )
        };
        if refused == 0 {
            if let Bytes::ToKeep(buffer) = bytes {
                buffer.give_away();
            }
            return Ok(());
        }
        Err(self.refusal(partition, size))
    }

    fn refusal(&self, partition: u32, size: usize) -> Error {
        let error = match self.member.client().fatal() {
            Some(fatal) => fatal,
            // SAFETY: reads a thread-local.
            None => errors::gone(unsafe { codes::rd_kafka_last_error() }).unwrap_or_else(errors::last_error),
        };
        error.context(format_args!("pushing {size} bytes to partition {partition} of topic {:?}", self.topic_name))
    }

    fn waker(&self) -> Weak<dyn FlushLinger> {
        let member: Weak<Member> = Arc::downgrade(&self.member);
        member
    }
}

/// While there is one, the member takes events.
struct Open(Arc<Member>);

impl Drop for Open {
    /// What is in flight is still delivered, by the serving thread.
    fn drop(&mut self) {
        self.0.close();
    }
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
