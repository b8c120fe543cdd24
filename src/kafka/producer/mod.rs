//! librdkafka's producer: it queues records. Only this module calls `rd_kafka_produce`.
//!
//! Producers with the same properties share a client (`shared_client`), of which each is a member.
//! One thread per client, the serving thread, receives delivery reports and passes them to the
//! members.

mod clients;
mod linger;
mod outgoing_record;
mod shared_client;
#[cfg(all(test, feature = "patched"))]
mod tests;
mod transaction;

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::config::NativeClientConfig;

use super::buffer::{Buffer, EncodedRecord};
use super::overdue::{self, WhenOverdue};
use super::{Connection, transactions_unsupported};
use crate::config::{ClientSettings, Properties};
use crate::delivery::future::Future;
use crate::delivery::in_flight::{InFlight, Limits, Permit, Report};
use crate::delivery::promise::FlushLinger;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::topic_handle::TopicHandle;
use crate::kafka::librdkafka::{conf, errors};
use crate::record::{Attributes, Record};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::process_exit;
use crate::support::thread_pool::PoolId;
pub use clients::ProducerClients;
use outgoing_record::OutgoingRecord;
use shared_client::ProducerClient;
use shared_client::member::{Member, MemberSlot};
pub use transaction::TransactionEnd;
use transaction::{Transactions, add_transactional_id, failed_transaction_error};

/// The maximum overhead of a record that librdkafka counts against `message.max.bytes`:
/// `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD` in its rdkafka_proto.h, with all varints at their longest.
const RECORD_OVERHEAD: usize = 36;
/// The header of a record batch, which a topic's `max.message.bytes` counts, too: the fields up to
/// the records in the message format of Kafka 0.11 (KIP-98).
const BATCH_HEADER: usize = 61;
/// The largest `batch.num.messages` that librdkafka accepts.
const MAX_BATCH_EVENTS: u64 = 1_000_000;
/// The minimum for `batch.num.messages`. At most five requests are in flight, each with one batch
/// of a partition, so that smaller batches would make a producer slow. How long events wait for
/// others of their batch is set by `linger.ms`, not by this.
const MIN_BATCH_EVENTS: u64 = 1_000;

/// How long creating a producer waits for metadata of its topic, if the client may have outdated
/// metadata.
const METADATA_REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// A producer of one topic.
pub struct KafkaProducer {
    topic_name: String,
    topic: TopicHandle,
    member: Arc<Member>,
    slot: MemberSlot,
    max_record: usize,
    /// The thread pool that prepares the records.
    pool: PoolId,
    /// Of a producer with a transactional id.
    transactions: Option<Transactions>,
    /// Closes the member when it is dropped.
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
        // The records of info topics are no events.
        let is_of_host = overdue == WhenOverdue::Keep;
        let mut overdue = overdue;
        if let Some(id) = &settings.transactional_id {
            if connection.embedded.is_some() {
                return Err(transactions_unsupported("transactional_id"));
            }
            add_transactional_id(&mut properties, id)?;
            // An event that is delivered later could be part of another transaction.
            overdue = WhenOverdue::Drop;
        }
        // Kafka stores each acknowledged record once and in order, despite retries.
        properties.set("enable.idempotence", "true");
        if settings.batch_size > 0 {
            let batched = settings.batch_size.clamp(MIN_BATCH_EVENTS, MAX_BATCH_EVENTS);
            properties.set("batch.num.messages", batched.to_string());
        }
        if let Some(events) = max_events_in_flight(settings) {
            properties.set_default("queue.buffering.max.messages", events.to_string());
        }
        let config = conf::native(&properties)?;
        check_linger(&properties, &config)?;
        let overdue_after = match overdue {
            WhenOverdue::Keep => overdue::take_delivery_timeout(&mut properties)?,
            WhenOverdue::Drop => None,
        };
        let limits = Limits {
            events: match conf::effective_number(&config, "queue.buffering.max.messages")? {
                0 => u64::MAX,
                events => events,
            },
            bytes: conf::effective_number(&config, "queue.buffering.max.kbytes")?.saturating_mul(1024),
        };
        // The in-flight limit is enforced by `InFlight`, on which a push can wait and be woken.
        // librdkafka's own limits are above it.
        properties.set("queue.buffering.max.messages", "0");
        properties.set("queue.buffering.max.kbytes", i32::MAX.to_string());

        if process_exit::has_begun() {
            return Err(Error::from_kind(Kind::Closed));
        }
        let max_message = conf::effective_number(&config, "message.max.bytes")? as usize;
        debug_assert!(max_message >= RECORD_OVERHEAD, "librdkafka accepts no message.max.bytes below 1000");
        // With gapless guarantee one failed event is a fatal error of the client.
        let needs_own_client = settings.is_dedicated
            || settings.transactional_id.is_some()
            || conf::effective(&config, "enable.gapless.guarantee")? == "true";
        let totals = if is_of_host { connection.stats.deliveries.clone() } else { Arc::default() };
        let make = |slot, client: &Arc<ProducerClient>| {
            let in_flight = InFlight::new(limits, totals.clone());
            Member::new(slot, client.clone(), &settings.name, topic_name, in_flight, overdue_after)
        };
        let member = match clients {
            Some(clients) if !needs_own_client => clients.join(connection, &settings.name, properties, &make)?,
            _ => {
                ProducerClient::start(connection, &settings.name, properties, Weak::<ProducerClients>::new(), &make)?.1
            }
        };
        // From here on, an error return closes the member.
        let open = Open(member.clone());
        let topic = member.topic()?;
        if member.has_old_topic() {
            // The client's metadata may be older than new partitions, or than a topic that was
            // deleted and created again. An error here is also an error of the first push.
            let _ = member.client().partition_count(topic_name, Deadline::after(METADATA_REFRESH_TIMEOUT));
        }
        // The call that writes an info topic waits for its records, so that they need no flush at
        // exit.
        if is_of_host {
            let described: Weak<Member> = Arc::downgrade(&member);
            connection.stats.add_producer(described);
            // An open transaction is never committed at exit, so that its events need not arrive.
            if settings.transactional_id.is_none() {
                let flushed: Weak<Member> = Arc::downgrade(&member);
                process_exit::register(flushed, connection.exit_flush)?;
            }
        }
        let transactions = match settings.transactional_id {
            None => None,
            Some(_) => Some(Transactions::start(connection, member.clone())?),
        };
        Ok(KafkaProducer {
            topic_name: topic_name.to_owned(),
            topic,
            transactions,
            _open: open,
            slot: member.slot(),
            member,
            max_record: max_message.saturating_sub(RECORD_OVERHEAD),
            pool: PoolId::NONE,
        })
    }

    /// Sets the thread pool that prepares the records. Waiting for a delivery on one of its threads
    /// could be a deadlock, so that futures reject it.
    pub fn prepared_on(self, pool: PoolId) -> Self {
        if pool != PoolId::NONE {
            self.mark_prepared_elsewhere();
        }
        KafkaProducer { pool, ..self }
    }

    /// From now on, other threads may send pushed events later.
    pub fn mark_prepared_elsewhere(&self) {
        self.member.mark_prepared_elsewhere();
    }

    /// The number of partitions of the topic, `None` if there is no such topic. Refreshes the
    /// client's metadata, which matters if it knows a topic of this name that has been deleted
    /// since.
    pub fn partition_count(&self, deadline: Deadline) -> Result<Option<u32>> {
        self.member.client().partition_count(&self.topic_name, deadline)
    }

    /// Fails while a persistent failure prevents connections to the brokers. New pushes are then
    /// rejected with its reason.
    pub fn check_connection(&self) -> Result<()> {
        let context = |error: Error| error.context(format_args!("reaching the brokers of topic {:?}", self.topic_name));
        self.member.client().check_connection().map_err(context)
    }

    /// The error of a push that has waited for the in-flight limit since `began`, if no broker was
    /// ever reached.
    pub fn unreached(&self, began: Instant) -> Option<Error> {
        self.member.client().unreached(Some(began), "waiting for the in-flight limit")
    }

    pub fn in_flight(&self) -> &InFlight {
        &self.member.in_flight
    }

    /// The number of flushes so far.
    #[inline]
    pub fn flushes(&self) -> u32 {
        self.member.flushes()
    }

    /// Flushes again if the number of flushes has changed since a push began, as that flush may
    /// have missed its event. `flushes` is the number at the beginning of the push.
    #[inline(always)]
    pub fn flush_after(&self, flushes: u32) {
        if self.member.flushes() != flushes {
            self.member.flush_again();
        }
    }

    /// Sends the records that linger.
    pub fn end_linger(&self) {
        self.member.start_flushing();
    }

    /// The largest record that this client sends, in bytes: `message.max.bytes` without the
    /// overhead.
    pub fn max_record(&self) -> usize {
        self.max_record
    }

    /// The `message.max.bytes` that a record of this size needs.
    pub fn required_limit(record: usize) -> usize {
        record.saturating_add(RECORD_OVERHEAD)
    }

    /// A future that the delivery report of its event settles.
    pub fn future(&self) -> Arc<Future> {
        Arc::new(Future::delivery(self.waker(), self.pool))
    }

    /// As [`future`](Self::future), but waiting for it does not end the linger: for records that
    /// must be sent in one batch.
    pub fn lingering_future(&self) -> Arc<Future> {
        Arc::new(Future::delivery(Weak::<Member>::new(), self.pool))
    }

    /// Encodes and queues the record. `permit` is the permit for its `size`, which is released on
    /// failure.
    pub fn send(&self, to: Target, record: &impl Record, size: usize, permit: Permit) -> Result<()> {
        let sent = self.encode_and_produce(to, record, size, permit);
        if sent.is_err() {
            self.member.in_flight.release(permit, size as u64);
        }
        sent
    }

    /// Encodes a record of this size, to be sent later.
    pub fn encode(&self, record: &impl Record, size: usize) -> Result<EncodedRecord> {
        if record.is_tombstone() {
            return Ok(EncodedRecord(None));
        }
        let mut buffer = Buffer::with_capacity(size)?;
        record.encode(|bytes| buffer.append(bytes));
        Ok(EncodedRecord(Some(buffer)))
    }

    /// Queues a record. Its delivery report settles its future; on an error the caller does.
    pub fn send_encoded(&self, to: Target, record: EncodedRecord, permit: Permit) -> Result<()> {
        self.member.in_flight.mark_sending(permit, to.partition);
        self.produce(to, record.0.map_or(Bytes::Absent, Bytes::ToOwn), permit)
    }

    /// Reports that an event can't be sent, and releases its permit. The next flush reports the
    /// failure, unless it was reported before.
    pub fn fail(&self, permit: Permit, error: Error) {
        // An event that is prepared before it is sent has a permit of its own, which has its number
        // of bytes.
        self.member.in_flight.settle(&mut vec![Report { permit, bytes: 0, result: Err(error) }]);
    }

    fn encode_and_produce(&self, to: Target, record: &impl Record, size: usize, permit: Permit) -> Result<()> {
        if record.is_tombstone() {
            return self.produce(to, Bytes::Absent, permit);
        }
        if size <= MAX_SCRATCH_RECORD {
            let sent = SCRATCH.try_with(|scratch| {
                let scratch = &mut *scratch.borrow_mut();
                scratch.clear();
                record.encode(|bytes| scratch.extend_from_slice(bytes));
                self.produce(to, Bytes::ToCopy(scratch), permit)
            });
            // The scratch memory of a thread that ends may be destroyed before a thread-local of
            // the host that still pushes.
            if let Ok(result) = sent {
                return result;
            }
        }
        let mut buffer = Buffer::with_capacity(size)?;
        record.encode(|bytes| buffer.append(bytes));
        self.produce(to, Bytes::ToOwn(buffer), permit)
    }

    /// Ends the linger, whether or not the host waits for the returned future. It settles when all
    /// events that were sent before are delivered or have failed.
    pub fn flush(&self) -> Arc<Future> {
        let flush = Arc::new(Future::flush(self.waker(), self.pool));
        self.member.in_flight.flush(flush.clone());
        self.member.start_flushing();
        flush
    }

    fn produce(&self, to: Target, bytes: Bytes, permit: Permit) -> Result<()> {
        let (flags, payload, size) = match &bytes {
            Bytes::ToCopy(scratch) => (rd::RD_KAFKA_MSG_F_COPY, scratch.as_ptr().cast_mut(), scratch.len()),
            Bytes::ToOwn(buffer) => (rd::RD_KAFKA_MSG_F_FREE, buffer.start.as_ptr(), buffer.size),
            Bytes::Absent => (rd::RD_KAFKA_MSG_F_COPY, std::ptr::null_mut(), 0),
        };
        let (partition, payload, opaque) = (to.partition as i32, payload.cast(), self.slot.opaque(permit));
        let queued = match to.attributes {
            None => {
                let topic = self.topic.as_ptr();
                // SAFETY: `self.topic` keeps topic and client alive. `payload` has `size` bytes, or
                // is NULL.
                // librdkafka copies them, or, if the call succeeds, owns and frees them. The opaque
                // pointer is a number and never dereferenced.
                let result = unsafe {
                    rd::rd_kafka_produce(topic, partition, flags, payload, size, std::ptr::null(), 0, opaque)
                };
                // SAFETY: has no precondition; reads a thread-local.
                if result == 0 { Ok(()) } else { Err(unsafe { codes::rd_kafka_last_error() }) }
            }
            Some(attributes) => {
                let record = OutgoingRecord { topic: &self.topic, partition, flags, payload, size, opaque };
                // SAFETY: as above.
                unsafe { record.produce_with(attributes) }
            }
        };
        queued.map_err(|code| self.rejection(code, to.partition, size))?;
        if let Bytes::ToOwn(buffer) = bytes {
            buffer.forget();
        }
        Ok(())
    }

    /// The error of a record that librdkafka has not queued.
    fn rejection(&self, code: Code, partition: u32, size: usize) -> Error {
        let fatal = self.member.client().fatal();
        let failed = || self.transactions.as_ref().and_then(|_| failed_transaction_error(code));
        let error = fatal.or_else(failed).or_else(|| errors::deleted_topic_error(code));
        let error = error.unwrap_or_else(|| errors::error(code, ""));
        error.context(format_args!("pushing {size} bytes to partition {partition} of topic {:?}", self.topic_name))
    }

    /// The partition of a key, which is that of Java's client.
    pub fn partition_of_key(&self, key: &[u8], partitions: u32) -> u32 {
        let (count, none) = (partitions.max(1) as i32, std::ptr::null_mut());
        // SAFETY: the key has `key.len()` bytes; the function uses nothing else but the count,
        // which is not 0.
        let partition = unsafe {
            rd::rd_kafka_msg_partitioner_murmur2(self.topic.as_ptr(), key.as_ptr().cast(), key.len(), count, none, none)
        };
        partition as u32
    }

    fn waker(&self) -> Weak<dyn FlushLinger> {
        let member: Weak<Member> = Arc::downgrade(&self.member);
        member
    }
}

/// Keeps the member open: dropping it closes the member.
struct Open(Arc<Member>);

impl Drop for Open {
    /// The serving thread still delivers the events in flight.
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The in-flight limit of events, if the batch parameters give it. The minimum keeps usual programs
/// fast.
fn max_events_in_flight(settings: &ClientSettings) -> Option<u64> {
    const MIN_EVENTS: u64 = 10_000;
    const MAX_EVENTS: u64 = 10_000_000;
    let has_preference = settings.batch_size != 0 && settings.batch_size != u64::MAX && settings.max_batches != 0;
    has_preference.then(|| settings.batch_size.saturating_mul(settings.max_batches).clamp(MIN_EVENTS, MAX_EVENTS))
}

/// Checks that the linger is shorter than the delivery timeout. librdkafka checks it only when the
/// topic is used, with the error "invalid argument".
fn check_linger(properties: &Properties, config: &NativeClientConfig) -> Result<()> {
    // The default of CONFIGURATION.md: it is a topic's property, which a client's configuration
    // does not have.
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

/// The largest record that is encoded into scratch memory, in bytes. librdkafka copies it into the
/// allocation of its message, which is cheaper for small records than an allocation of their own.
const MAX_SCRATCH_RECORD: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a record goes, and what it has beside its value.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub partition: u32,
    pub attributes: Option<&'a Attributes>,
}

impl Target<'_> {
    /// A record of this partition that has only a value.
    pub fn partition(partition: u32) -> Self {
        Target { partition, attributes: None }
    }
}

/// The bytes of a record for librdkafka.
enum Bytes<'a> {
    ToCopy(&'a [u8]),
    ToOwn(Buffer),
    /// The record has no value.
    Absent,
}
