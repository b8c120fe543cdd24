//! The topic's slots: arguments in, one call to [`crate::topic`], the result out.

use std::sync::Arc;

use super::args::{Growing, check_output, octopus_text, read_array};
use super::consumer::octopus_consumer;
use super::error::octopus_error;
use super::forked_child::forward;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::producer::octopus_producer;
use super::status::octopus_status;
use super::thread_pool::octopus_thread_pool;
use crate::config::ClientSettings;
use crate::error::{Error, Result};
use crate::thread_pool::ThreadPool;
use crate::topic::Topic;

/// An opened topic.
pub struct octopus_topic {
    _private: [u8; 0],
}

handle!(Topic, octopus_topic, "topic");

/// Events of one producer reach a partition in the order of the calls to push.
pub const OCTOPUS_ORDERING_STRICT: i32 = 0;
/// They may be reordered by the pool that prepares them.
pub const OCTOPUS_ORDERING_LOOSE: i32 = 1;
/// A batch size that adapts to the load.
pub const OCTOPUS_BATCH_SIZE_ADAPTIVE: u64 = u64::MAX;

/// How a producer is to be made; NULL or zeros give the defaults. The texts are read during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_producer_args {
    /// `sizeof(octopus_producer_args)`, set by the host.
    pub size: u64,
    /// Shown in messages and statistics.
    pub name: octopus_text,
    /// JSON; its `kafka` object is laid over the driver's, `client` is `"shared"` or `"dedicated"`. Anything but an object is
    /// ignored.
    pub options: octopus_text,
    /// Events in a batch: 0, no preference; `OCTOPUS_BATCH_SIZE_ADAPTIVE`; else librdkafka's `batch.num.messages`, at least 1,000
    /// so that no producer crawls. How long events wait for a batch is `kafka.linger.ms`.
    pub batch_size: u64,
    /// Batches that may be held: 0, no preference. With a batch size, their product, at least 10,000, is
    /// `queue.buffering.max.messages` unless `kafka` says it: the events that may be in flight.
    pub max_batches: u64,
    /// `OCTOPUS_ORDERING_STRICT` or `OCTOPUS_ORDERING_LOOSE`.
    pub ordering: i32,
    /// Zero.
    pub reserved: u32,
    /// Where events are validated, serialized and put in order; NULL: the driver's default pool, so in the calls to
    /// push. On a pool with threads what fails there fails the push's future. The producer keeps the pool.
    pub thread_pool: *const octopus_thread_pool,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are empty texts, numbers and NULL.
unsafe impl Growing for octopus_producer_args {}

/// How a consumer is to be made. The texts and the array are read during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_consumer_args {
    /// `sizeof(octopus_consumer_args)`, set by the host.
    pub size: u64,
    /// Its group: consumers of one name share the partitions, and go on where that name left off. Not empty.
    pub name: octopus_text,
    /// JSON; its `kafka` object is laid over the driver's. Anything but an object is ignored.
    pub options: octopus_text,
    /// Events in a batch: 0, no preference; `OCTOPUS_BATCH_SIZE_ADAPTIVE`.
    pub batch_size: u64,
    /// Batches that may be held: 0, no preference. With a batch size, their product, at least 1,000, is librdkafka's
    /// `queued.min.messages`, unless the options set that.
    pub max_batches: u64,
    /// Partitions to read, and no others, from the committed positions of the name on; none: those that the group
    /// gives. Readers with targets don't join the group: a name is used either by them or by members, since Kafka
    /// refuses the commits of the former while there are members.
    pub targets: *const u32,
    /// The number of `targets`; one that doesn't exist is `OCTOPUS_INVALID_ARGUMENT`.
    pub target_count: u64,
    /// Reserved; NULL. The pool of `process` is given there.
    pub thread_pool: *const octopus_thread_pool,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are empty texts, numbers and NULL.
unsafe impl Growing for octopus_consumer_args {}

/// Topics. Functions may be called from any thread, also at the same time.
/// Every function but `release` may return `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_FORKED` and `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_topic_api {
    /// `sizeof(octopus_topic_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// The name that it was opened by; valid until the topic is released.
    pub name: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            name: *mut octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The number of partitions when it was opened.
    pub partition_count: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            count: *mut u32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// `{"validator":…,"selector":…,"serializer":…}`, each as it was given when the topic was made; valid until the
    /// topic is released.
    pub components: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            json: *mut octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Makes a producer. Producers of the driver with the same properties share a Kafka client and its threads, unless the
    /// options say `"client": "dedicated"`. `args` may be NULL.
    /// `OCTOPUS_INVALID_CONFIGURATION`, `OCTOPUS_UNSUPPORTED`.
    pub make_producer: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            args: *const octopus_producer_args,
            producer: *mut *mut octopus_producer,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Makes a consumer with a Kafka client and a thread of its own, which joins its group.
    /// `OCTOPUS_INVALID_CONFIGURATION`, `OCTOPUS_UNSUPPORTED`, `OCTOPUS_KAFKA`.
    pub make_consumer: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            args: *const octopus_consumer_args,
            consumer: *mut *mut octopus_consumer,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Gives the handle back; producers and consumers made from it go on. NULL does nothing.
    pub release: Option<unsafe extern "C" fn(topic: *mut octopus_topic)>,
}

pub static TOPIC: octopus_topic_api = octopus_topic_api {
    size: size_of::<octopus_topic_api>() as u64,
    name: Some(name),
    partition_count: Some(partition_count),
    components: Some(components),
    make_producer: Some(make_producer),
    make_consumer: Some(make_consumer),
    release: Some(release),
};

unsafe extern "C" fn name(
    topic: *const octopus_topic,
    name: *mut octopus_text,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); topic.name(topic, name, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(name, "name")?;
            name.write(octopus_text::view(topic.name()));
            Ok(())
        })
    }
}

unsafe extern "C" fn partition_count(
    topic: *const octopus_topic,
    count: *mut u32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); topic.partition_count(topic, count, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(count, "count")?;
            count.write(topic.partition_count());
            Ok(())
        })
    }
}

unsafe extern "C" fn components(
    topic: *const octopus_topic,
    json: *mut octopus_text,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); topic.components(topic, json, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(json, "json")?;
            json.write(octopus_text::view(topic.components_json()));
            Ok(())
        })
    }
}

unsafe extern "C" fn make_producer(
    topic: *const octopus_topic,
    args: *const octopus_producer_args,
    producer: *mut *mut octopus_producer,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); topic.make_producer(topic, args, producer, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(producer, "producer")?;
            let (settings, pool) = match args.is_null() {
                true => (ClientSettings::default(), None),
                false => octopus_producer_args::read(args, "args")?.settings()?,
            };
            handle::give(Arc::new(topic.make_producer(&settings, pool)?), producer);
            Ok(())
        })
    }
}

unsafe extern "C" fn make_consumer(
    topic: *const octopus_topic,
    args: *const octopus_consumer_args,
    consumer: *mut *mut octopus_consumer,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); topic.make_consumer(topic, args, consumer, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(consumer, "consumer")?;
            let settings = octopus_consumer_args::read(args, "args")?.settings()?;
            handle::give(Arc::new(topic.make_consumer(settings)?), consumer);
            Ok(())
        })
    }
}

unsafe extern "C" fn release(topic: *mut octopus_topic) {
    forward!((); topic.release(topic));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Arc<Topic>>(topic) };
}

impl octopus_producer_args {
    /// # Safety
    /// The texts are NULL or readable during this call; the pool is NULL or live.
    unsafe fn settings(&self) -> Result<(ClientSettings, Option<Arc<ThreadPool>>)> {
        let loose = match self.ordering {
            OCTOPUS_ORDERING_STRICT => false,
            OCTOPUS_ORDERING_LOOSE => true,
            other => return Err(Error::invalid(format!("args.ordering: {other} is neither strict (0) nor loose (1)"))),
        };
        let pool = match self.thread_pool.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(Arc::clone(&*unsafe { handle::borrow::<Arc<ThreadPool>>(self.thread_pool) }?)),
        };
        // SAFETY: the caller's promise.
        let settings = unsafe { client_settings(self.name, self.options, self.batch_size, self.max_batches) }?;
        Ok((ClientSettings { loose, ..settings }, pool))
    }
}

impl octopus_consumer_args {
    /// # Safety
    /// The texts and the array are NULL or readable during this call.
    unsafe fn settings(&self) -> Result<ClientSettings> {
        // SAFETY: the caller's promise.
        let targets = unsafe { read_array(self.targets, self.target_count, "args.targets") }?;
        if !self.thread_pool.is_null() {
            return Err(Error::invalid("args.thread_pool: reserved; give the pool to `process`"));
        }
        // SAFETY: the caller's promise.
        let settings = unsafe { client_settings(self.name, self.options, self.batch_size, self.max_batches) }?;
        Ok(ClientSettings { targets: targets.to_vec(), ..settings })
    }
}

/// # Safety
/// The texts are NULL or readable during this call.
unsafe fn client_settings(
    name: octopus_text,
    options: octopus_text,
    batch_size: u64,
    max_batches: u64,
) -> Result<ClientSettings> {
    // SAFETY: the caller's promise.
    let (name, options) = unsafe { (name.read("args.name")?, options.read_optional("args.options")?) };
    if name.contains('\0') {
        return Err(Error::invalid("args.name: contains a NUL character"));
    }
    ClientSettings::new(name, batch_size, max_batches, options)
}
