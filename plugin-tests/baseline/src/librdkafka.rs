//! librdkafka alone, used as a careful program in C would: a topic object that is kept, reports served now and then and not with
//! each push, records by a consumer's poll or in batches.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::bindings as rd;
use rdkafka::types::{
    RDKafka, RDKafkaConfRes, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr, RDKafkaTopic, RDKafkaType,
};

use crate::job::{Event, Job};
use crate::side::{BATCH, Consuming, Measured, PATIENCE, Producing, SLICE, Seen, Told};

/// Pushes between two looks for reports.
const UNSERVED: u64 = 256;
const SLICE_MS: i32 = SLICE.as_millis() as i32;

fn client(
    kind: RDKafkaType,
    job: &Job,
    ours: &[(&str, &str)],
    prepare: impl FnOnce(*mut rd::rd_kafka_conf_t),
) -> NonNull<RDKafka> {
    let mut why = [0; 512];
    // SAFETY: a new configuration, which the client takes over; texts outlive the calls that read them.
    unsafe {
        let conf = rd::rd_kafka_conf_new();
        let bootstrap = [("bootstrap.servers", job.bootstrap.as_str())];
        let theirs = job.kafka.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in bootstrap.into_iter().chain(ours.iter().copied()).chain(theirs) {
            let (c_name, c_value) = (CString::new(name).unwrap(), CString::new(value).unwrap());
            let set = rd::rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), why.as_mut_ptr(), why.len());
            assert!(set == RDKafkaConfRes::RD_KAFKA_CONF_OK, "{name}={value}: {:?}", CStr::from_ptr(why.as_ptr()));
        }
        prepare(conf);
        let client = rd::rd_kafka_new(kind, conf, why.as_mut_ptr(), why.len());
        NonNull::new(client).unwrap_or_else(|| panic!("no client: {:?}", CStr::from_ptr(why.as_ptr())))
    }
}

pub struct Librdkafka;

impl Measured for Librdkafka {
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
    told: OnceLock<&'static Told>,
}

// SAFETY: librdkafka's clients and topics may be used by any threads at the same time.
unsafe impl Sync for Producer {}

/// The message's opaque is its number and 1, if somebody wants to be told.
unsafe extern "C" fn report(_: *mut RDKafka, message: *const RDKafkaMessage, reports: *mut c_void) {
    // SAFETY: librdkafka lends the message for this call; the opaque is `Reports`, which is never freed.
    let (message, reports) = unsafe { (&*message, &*reports.cast::<Reports>()) };
    let is_delivered = message.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    (if is_delivered { &reports.delivered } else { &reports.failed }).fetch_add(1, Ordering::Release);
    if let (Some(told), Some(number)) = (reports.told.get(), (message._private as u64).checked_sub(1)) {
        told.note(number);
    }
}

impl Producer {
    pub fn new(job: &Job) -> Self {
        let reports: &'static Reports = Box::leak(Box::default());
        let client = client(RDKafkaType::RD_KAFKA_PRODUCER, job, &[("enable.idempotence", "true")], |conf| {
            // SAFETY: a live configuration; the function has the type asked for, the opaque lives for ever.
            unsafe {
                rd::rd_kafka_conf_set_dr_msg_cb(conf, Some(report));
                rd::rd_kafka_conf_set_opaque(conf, std::ptr::from_ref(reports).cast_mut().cast());
            }
        });
        let name = CString::new(job.topic.as_str()).unwrap();
        // SAFETY: a live client; NULL means the default settings.
        let topic = unsafe { rd::rd_kafka_topic_new(client.as_ptr(), name.as_ptr(), null_mut()) };
        Producer { client, topic: NonNull::new(topic).unwrap(), partitions: job.partitions.into(), reports }
    }

    fn produce(&self, number: u64, event: &Event, opaque: u64) {
        loop {
            // SAFETY: live handles; the payload is copied within the call; the opaque is a number.
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
            // SAFETY: reads a thread-local.
            let why = unsafe { rd::rd_kafka_last_error() };
            assert!(why == RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL, "{why:?}");
            self.poll(SLICE_MS);
        }
    }

    fn poll(&self, millis: i32) {
        // SAFETY: a live client.
        unsafe { rd::rd_kafka_poll(self.client.as_ptr(), millis) };
    }

    /// So many events have been delivered.
    fn await_delivered(&self, events: u64) {
        while self.reports.delivered.load(Ordering::Acquire) < events {
            self.poll(SLICE_MS);
            assert_eq!(self.reports.failed.load(Ordering::Acquire), 0, "deliveries failed");
        }
    }
}

impl Producing for Producer {
    /// How many deliveries there are by then: those of one partition come in the order of the pushes.
    type Ticket = u64;

    fn push(&self, number: u64, event: &Event) {
        self.produce(number, event, 0);
        if number % UNSERVED == UNSERVED - 1 {
            self.poll(0);
        }
    }

    fn push_for_ticket(&self, number: u64, event: &Event) -> u64 {
        self.push(number, event);
        number + 1
    }

    fn wait(&self, ticket: u64) {
        self.await_delivered(ticket);
    }

    fn push_told(&self, number: u64, event: &Event, told: &'static Told) {
        self.reports.told.get_or_init(|| told);
        self.produce(number, event, number + 1);
    }

    fn serve(&self) {
        self.poll(SLICE_MS);
    }

    fn flush(&self) {
        // SAFETY: a live client.
        let ended = unsafe { rd::rd_kafka_flush(self.client.as_ptr(), PATIENCE.as_millis() as i32) };
        assert!(ended == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{ended:?}");
        assert_eq!(self.reports.failed.load(Ordering::Acquire), 0, "deliveries failed");
    }

    fn close(self) {}
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once, the topic first.
        unsafe {
            rd::rd_kafka_topic_destroy(self.topic.as_ptr());
            rd::rd_kafka_destroy(self.client.as_ptr());
        }
    }
}

pub struct Consumer {
    client: NonNull<RDKafka>,
    queue: NonNull<RDKafkaQueue>,
    topic: CString,
    partitions: u32,
    batch: [*mut RDKafkaMessage; BATCH],
}

impl Consumer {
    /// With what the plugin sets: docs/configuration.md, "Consumers".
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
        // SAFETY: a live client.
        let queue = unsafe {
            rd::rd_kafka_poll_set_consumer(client.as_ptr());
            rd::rd_kafka_queue_get_consumer(client.as_ptr())
        };
        let topic = CString::new(job.topic.as_str()).unwrap();
        let batch = [null_mut(); BATCH];
        let consumer =
            Consumer { client, queue: NonNull::new(queue).unwrap(), topic, partitions: job.partitions, batch };
        consumer.assign();
        consumer
    }

    fn assign(&self) {
        // SAFETY: a live client; the list is copied by the call that takes it, and destroyed once.
        let assigned = unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(self.partitions as i32);
            for partition in 0..self.partitions as i32 {
                let added = rd::rd_kafka_topic_partition_list_add(list, self.topic.as_ptr(), partition);
                // Asks where the group stands, as the plugin does.
                (*added).offset = rd::RD_KAFKA_OFFSET_STORED.into();
            }
            let assigned = rd::rd_kafka_assign(self.client.as_ptr(), list);
            rd::rd_kafka_topic_partition_list_destroy(list);
            assigned
        };
        assert!(assigned == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{assigned:?}");
    }
}

impl Seen {
    /// Looks at a message and gives it back.
    ///
    /// # Safety
    /// It is one of librdkafka's that nobody has given back.
    unsafe fn take(&mut self, message: *mut RDKafkaMessage) {
        // SAFETY: the caller's promise; the payload has so many bytes.
        unsafe {
            assert!((*message).err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{:?}", (*message).err);
            let record = std::slice::from_raw_parts((*message).payload.cast::<u8>(), (*message).len);
            self.stamp = Event::stamp_in(record);
            self.bytes += record.len() as u64;
            self.events += 1;
            rd::rd_kafka_message_destroy(message);
        }
    }
}

/// A message that is given back when it is dropped.
pub struct Held(*mut RDKafkaMessage);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: ours, and given back once.
        unsafe { rd::rd_kafka_message_destroy(self.0) };
    }
}

impl Consumer {
    fn next(&self) -> *mut RDKafkaMessage {
        for _ in 0..1_000 {
            // SAFETY: a live client.
            let message = unsafe { rd::rd_kafka_consumer_poll(self.client.as_ptr(), PATIENCE.as_millis() as i32) };
            assert!(!message.is_null(), "no event came");
            // SAFETY: a message of librdkafka's that nobody has given back.
            if unsafe { (*message).err } != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR {
                return message;
            }
            // The broker was still making its topic for groups, and the consumer has no place to begin at.
            // SAFETY: as above; given back once.
            unsafe { rd::rd_kafka_message_destroy(message) };
            self.assign();
        }
        panic!("the group had no coordinator again and again");
    }
}

impl Consuming for Consumer {
    type Held = Held;

    fn hold(&mut self) -> Held {
        Held(self.next())
    }

    fn pull(&mut self) -> Seen {
        let mut seen = Seen::default();
        // SAFETY: fresh from the client.
        unsafe { seen.take(self.next()) };
        seen
    }

    /// What a consumer has in librdkafka is `rd_kafka_consumer_poll`.
    fn pull_many(&mut self) -> Seen {
        self.pull()
    }

    /// With a queue's function for batches, which leaves out what is done for each message of a consumer's.
    fn pull_batch(&mut self) -> Seen {
        let mut seen = Seen::default();
        // SAFETY: a live queue, and room for so many messages, which are taken once.
        unsafe {
            let batch = self.batch.as_mut_ptr();
            let count = rd::rd_kafka_consume_batch_queue(self.queue.as_ptr(), SLICE_MS, batch, BATCH);
            for &message in self.batch.iter().take(count.max(0) as usize) {
                seen.take(message);
            }
        }
        seen
    }

    fn close(self) {}
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once, the queue first.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue.as_ptr());
            rd::rd_kafka_consumer_close(self.client.as_ptr());
            rd::rd_kafka_destroy(self.client.as_ptr());
        }
    }
}
