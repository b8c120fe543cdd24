//! librdkafka without Octopus, used as an efficient C program uses it: it keeps the topic object,
//! serves delivery reports every 256 pushes instead of at each push, and consumes with
//! `rd_kafka_consumer_poll` or in batches.

use std::ffi::{CString, c_char, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::bindings as rd;
use rdkafka::types::{
    RDKafka, RDKafkaConfRes, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr, RDKafkaTopic, RDKafkaType,
};

use crate::backend::{
    Backend, BenchConsumer, BenchProducer, DeliveryTimes, MAX_BATCH, POLL_INTERVAL, PulledEvents, TIMEOUT,
};
use crate::job::{Event, Job};

/// The number of pushes between two polls for delivery reports.
const PUSHES_PER_POLL: u64 = 256;
const POLL_INTERVAL_MS: i32 = POLL_INTERVAL.as_millis() as i32;

fn client(
    kind: RDKafkaType,
    job: &Job,
    ours: &[(&str, &str)],
    prepare: impl FnOnce(*mut rd::rd_kafka_conf_t),
) -> NonNull<RDKafka> {
    let mut why = [0; 512];
    // SAFETY: `rd_kafka_conf_new` has no preconditions.
    let conf = unsafe { rd::rd_kafka_conf_new() };
    let bootstrap = [("bootstrap.servers", job.bootstrap.as_str())];
    let theirs = job.kafka.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in bootstrap.into_iter().chain(ours.iter().copied()).chain(theirs) {
        let (c_name, c_value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
        // SAFETY: `conf` is live until `rd_kafka_new` below; the C strings outlive the call; `why`
        // has the size that is passed.
        let set =
            unsafe { rd::rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), why.as_mut_ptr(), why.len()) };
        assert!(set == RDKafkaConfRes::RD_KAFKA_CONF_OK, "{name}={value}: {:?}", reason_in(&why));
    }
    prepare(conf);
    // SAFETY: `conf` is live, and the client takes it over; `why` has the size that is passed.
    let client = unsafe { rd::rd_kafka_new(kind, conf, why.as_mut_ptr(), why.len()) };
    NonNull::new(client).unwrap_or_else(|| panic!("no client: {:?}", reason_in(&why)))
}

/// The reason that librdkafka wrote into a buffer, up to its NUL.
fn reason_in(buffer: &[c_char]) -> String {
    let bytes: Vec<_> = buffer.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub struct Librdkafka;

impl Backend for Librdkafka {
    type Opened = ();
    type Producer = Producer;
    type Consumer = Consumer;

    fn open(_: &Job) {}

    fn producer((): &(), job: &Job) -> Producer {
        Producer::new(job)
    }

    fn consumer((): &(), job: &Job) -> Consumer {
        Consumer::new(job)
    }
}

pub struct Producer {
    client: NonNull<RDKafka>,
    topic: NonNull<RDKafkaTopic>,
    partitions: u64,
    reports: &'static Reports,
}

#[derive(Default)]
struct Reports {
    delivered: AtomicU64,
    failed: AtomicU64,
    times: OnceLock<&'static DeliveryTimes>,
}

// SAFETY: librdkafka's functions on clients and topics are thread-safe.
unsafe impl Sync for Producer {}

/// Counts a delivery report. The opaque of a message is its number plus 1 if the delivery is timed,
/// else NULL.
///
/// # Safety
/// librdkafka calls it as its delivery report callback: `message` is live during this call, and
/// `reports` is the opaque that [`Producer::new`] set.
unsafe extern "C" fn report(_: *mut RDKafka, message: *const RDKafkaMessage, reports: *mut c_void) {
    // SAFETY: `message` is live during this call (fn contract).
    let message = unsafe { &*message };
    // SAFETY: the opaque is a leaked `Reports` (fn contract).
    let reports = unsafe { &*reports.cast::<Reports>() };
    let is_delivered = message.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    (if is_delivered { &reports.delivered } else { &reports.failed }).fetch_add(1, Ordering::Release);
    if let (Some(times), Some(number)) = (reports.times.get(), (message._private as u64).checked_sub(1)) {
        times.record(number);
    }
}

impl Producer {
    pub fn new(job: &Job) -> Self {
        let reports: &'static Reports = Box::leak(Box::default());
        let client = client(RDKafkaType::RD_KAFKA_PRODUCER, job, &[("enable.idempotence", "true")], |conf| {
            // SAFETY: `client` keeps `conf` live during this closure; librdkafka calls `report`
            // with a live message and the opaque that is set next.
            unsafe { rd::rd_kafka_conf_set_dr_msg_cb(conf, Some(report)) };
            // SAFETY: `client` keeps `conf` live during this closure; `reports` is leaked.
            unsafe { rd::rd_kafka_conf_set_opaque(conf, std::ptr::from_ref(reports).cast_mut().cast()) };
        });
        let name = CString::new(job.topic.as_str()).unwrap();
        // SAFETY: `client` is live, `name` outlives the call; NULL selects the default settings.
        let topic = unsafe { rd::rd_kafka_topic_new(client.as_ptr(), name.as_ptr(), null_mut()) };
        Producer { client, topic: NonNull::new(topic).unwrap(), partitions: job.partitions.into(), reports }
    }

    fn produce(&self, number: u64, event: &Event, opaque: u64) {
        loop {
            // SAFETY: `self` owns the live topic; MSG_F_COPY copies the payload before the call
            // returns; the opaque is a number that is never dereferenced.
            let refused = unsafe {
                rd::rd_kafka_produce(
                    self.topic.as_ptr(),
                    (number % self.partitions) as i32,
                    rd::RD_KAFKA_MSG_F_COPY,
                    event.record.as_ptr().cast_mut().cast(),
                    event.record.len(),
                    null(),
                    0,
                    opaque as *mut c_void,
                )
            };
            if refused == 0 {
                return;
            }
            // SAFETY: has no preconditions; it reads a thread-local.
            let why = unsafe { rd::rd_kafka_last_error() };
            assert!(why == RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL, "{why:?}");
            self.poll(POLL_INTERVAL_MS);
        }
    }

    fn poll(&self, millis: i32) {
        // SAFETY: `self` owns the live client.
        unsafe { rd::rd_kafka_poll(self.client.as_ptr(), millis) };
    }

    /// Waits until `events` events are delivered.
    fn await_delivered(&self, events: u64) {
        while self.reports.delivered.load(Ordering::Acquire) < events {
            self.poll(POLL_INTERVAL_MS);
            assert_eq!(self.reports.failed.load(Ordering::Acquire), 0, "deliveries failed");
        }
    }
}

impl BenchProducer for Producer {
    /// The number of deliveries to wait for: those of one partition are reported in the order of
    /// their pushes.
    type Delivery = u64;

    fn push(&self, number: u64, event: &Event) {
        self.produce(number, event, 0);
        if number % PUSHES_PER_POLL == PUSHES_PER_POLL - 1 {
            self.poll(0);
        }
    }

    fn push_tracked(&self, number: u64, event: &Event) -> u64 {
        self.push(number, event);
        number + 1
    }

    fn wait(&self, delivery: u64) {
        self.await_delivered(delivery);
    }

    fn push_timed(&self, number: u64, event: &Event, times: &'static DeliveryTimes) {
        self.reports.times.get_or_init(|| times);
        self.produce(number, event, number + 1);
    }

    fn serve(&self) {
        self.poll(POLL_INTERVAL_MS);
    }

    fn flush(&self) {
        // SAFETY: `self` owns the live client.
        let ended = unsafe { rd::rd_kafka_flush(self.client.as_ptr(), TIMEOUT.as_millis() as i32) };
        assert!(ended == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{ended:?}");
        assert_eq!(self.reports.failed.load(Ordering::Acquire), 0, "deliveries failed");
    }

    fn close(self) {}
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: `self` owns the topic and destroys it once, before its client.
        unsafe { rd::rd_kafka_topic_destroy(self.topic.as_ptr()) };
        // SAFETY: `self` owns the client and destroys it once.
        unsafe { rd::rd_kafka_destroy(self.client.as_ptr()) };
    }
}

pub struct Consumer {
    client: NonNull<RDKafka>,
    queue: NonNull<RDKafkaQueue>,
    topic: CString,
    partitions: u32,
    batch: [*mut RDKafkaMessage; MAX_BATCH],
}

impl Consumer {
    /// Sets the properties that the plugin sets: docs/reference/configuration.md, "Consumers".
    pub fn new(job: &Job) -> Self {
        let ours = [
            ("group.id", job.topic.as_str()),
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("fetch.queue.backoff.ms", "10"),
            ("check.crcs", "true"),
        ];
        let client = client(RDKafkaType::RD_KAFKA_CONSUMER, job, &ours, |_| ());
        // SAFETY: `client` is live.
        unsafe { rd::rd_kafka_poll_set_consumer(client.as_ptr()) };
        // SAFETY: `client` is live.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(client.as_ptr()) };
        let topic = CString::new(job.topic.as_str()).unwrap();
        let batch = [null_mut(); MAX_BATCH];
        let consumer =
            Consumer { client, queue: NonNull::new(queue).unwrap(), topic, partitions: job.partitions, batch };
        consumer.assign();
        consumer
    }

    fn assign(&self) {
        // SAFETY: `rd_kafka_topic_partition_list_new` has no preconditions.
        let list = unsafe { rd::rd_kafka_topic_partition_list_new(self.partitions as i32) };
        for partition in 0..self.partitions as i32 {
            // SAFETY: `list` is live until it is destroyed below; the topic's name is a C string,
            // which the call copies.
            let added = unsafe { rd::rd_kafka_topic_partition_list_add(list, self.topic.as_ptr(), partition) };
            // Starts at the group's committed offset, as the plugin does.
            // SAFETY: `added` is the new element of `list`, valid until the next one is added.
            unsafe { (*added).offset = rd::RD_KAFKA_OFFSET_STORED.into() };
        }
        // SAFETY: `self` owns the live client; `list` is live, and the call copies it.
        let assigned = unsafe { rd::rd_kafka_assign(self.client.as_ptr(), list) };
        // SAFETY: `list` is live, and destroyed once, here.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(list) };
        assert!(assigned == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{assigned:?}");
    }
}

impl PulledEvents {
    /// Counts a message, reads its stamp and destroys it.
    ///
    /// # Safety
    /// `message` is a message of librdkafka that is not destroyed yet, and the caller does not use
    /// it afterwards.
    #[inline]
    unsafe fn take(&mut self, message: *mut RDKafkaMessage) {
        // SAFETY: `message` is not destroyed yet (fn contract).
        let RDKafkaMessage { err, payload, len, .. } = unsafe { *message };
        assert!(err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{err:?}");
        // SAFETY: the payload of a message without an error has `len` bytes (rdkafka.h), which are
        // live until the message is destroyed below.
        let record = unsafe { std::slice::from_raw_parts(payload.cast::<u8>(), len) };
        self.stamp = Event::stamp_in(record);
        self.bytes += record.len() as u64;
        self.events += 1;
        // SAFETY: `message` is destroyed once, here, and not used afterwards (fn contract).
        unsafe { rd::rd_kafka_message_destroy(message) };
    }
}

/// An owned message, which is destroyed when it is dropped.
pub struct Held(*mut RDKafkaMessage);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: `self` owns the message and destroys it once.
        unsafe { rd::rd_kafka_message_destroy(self.0) };
    }
}

impl Consumer {
    fn next(&self) -> *mut RDKafkaMessage {
        for _ in 0..1_000 {
            // SAFETY: `self` owns the live client.
            let message = unsafe { rd::rd_kafka_consumer_poll(self.client.as_ptr(), TIMEOUT.as_millis() as i32) };
            assert!(!message.is_null(), "no event came");
            // SAFETY: `message` is not NULL and not destroyed yet.
            if unsafe { (*message).err } != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR {
                return message;
            }
            // The broker was still creating `__consumer_offsets`, so the consumer has no committed
            // offset.
            // SAFETY: `message` is live, and destroyed once, here.
            unsafe { rd::rd_kafka_message_destroy(message) };
            self.assign();
        }
        panic!("the group had no coordinator again and again");
    }
}

impl BenchConsumer for Consumer {
    type Held = Held;

    fn hold(&mut self) -> Held {
        Held(self.next())
    }

    fn pull(&mut self) -> PulledEvents {
        let mut pulled = PulledEvents::default();
        // SAFETY: `next` returns a live message that nothing else destroys.
        unsafe { pulled.take(self.next()) };
        pulled
    }

    /// librdkafka's function for consumers of a group, `rd_kafka_consumer_poll`, returns one
    /// message.
    fn pull_many(&mut self) -> PulledEvents {
        self.pull()
    }

    /// Uses the batch function of the queue, which skips the work that `rd_kafka_consumer_poll`
    /// does for each message.
    fn pull_batch(&mut self) -> PulledEvents {
        let mut pulled = PulledEvents::default();
        let batch = self.batch.as_mut_ptr();
        // SAFETY: `self` owns the live queue; `batch` has space for `MAX_BATCH` messages.
        let count =
            unsafe { rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), POLL_INTERVAL_MS, batch, MAX_BATCH) };
        for &message in self.batch.iter().take(count.max(0) as usize) {
            // SAFETY: each of the `count` returned messages is live, and used once, here.
            unsafe { pulled.take(message) };
        }
        pulled
    }

    fn close(self) {}
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: `self` owns the queue and destroys it once, before its client.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) };
        // SAFETY: `self` owns the client, which is live until the next call.
        unsafe { rd::rd_kafka_consumer_close(self.client.as_ptr()) };
        // SAFETY: `self` owns the client and destroys it once.
        unsafe { rd::rd_kafka_destroy(self.client.as_ptr()) };
    }
}
