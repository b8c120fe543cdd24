//! ABI slots of topics. Each slot validates its arguments, makes one call into
//! `crate::client::topic` and converts the result.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::sync::Arc;

use super::args::{Growing, check_output, octopus_text, read_array};
use super::consumer::octopus_consumer;
use super::error_handle::octopus_error;
use super::forked_child::forward;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::producer::octopus_producer;
use super::status::octopus_status;
use super::thread_pool::octopus_thread_pool;
use crate::client::consumer::Consumer;
use crate::client::producer::Producer;
use crate::client::topic::Topic;
use crate::config::ClientSettings;
use crate::support::error::{Error, Result};
use crate::support::thread_pool::ThreadPool;

/// An open topic: creates producers and consumers.
///
/// `octopus_driver_api::open_topic` creates it.
///
/// @since 0.1
pub struct octopus_topic {
    _private: [u8; 0],
}

handle!(Topic, octopus_topic, "topic");

/// Ordering of a producer: the events of one thread reach a partition in the order of its calls of
/// `push`.
pub const OCTOPUS_ORDERING_STRICT: i32 = 0;
/// Ordering of a producer: threads of its pool may reorder events.
pub const OCTOPUS_ORDERING_LOOSE: i32 = 1;
/// Batch size: adapts to the load.
pub const OCTOPUS_BATCH_SIZE_ADAPTIVE: u64 = u64::MAX;

/// Options of a producer.
///
/// Zeros mean the defaults. The plugin copies the texts during the call.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_producer_args {
    /// `sizeof(octopus_producer_args)`, set by the host.
    pub size: u64,
    /// The name that log messages and statistics show.
    pub name: octopus_text,
    /// Options as a JSON object; see docs/reference/configuration.md.
    ///
    /// Its `kafka` object overrides properties of the driver; `client` is `"shared"` or
    /// `"dedicated"`. Any JSON value that is not an object is ignored.
    pub options: octopus_text,
    /// The number of events in a batch: 0 for no preference, `OCTOPUS_BATCH_SIZE_ADAPTIVE`, or a
    /// number.
    ///
    /// A number sets librdkafka's `batch.num.messages`, to at least 1,000. `kafka.linger.ms` is the
    /// time that events wait for a batch, in milliseconds.
    pub batch_size: u64,
    /// The number of batches that may be in flight; 0 for no preference.
    ///
    /// With a batch size, the product of both, at least 10,000, is the number of events that may be
    /// in flight (`queue.buffering.max.messages`), unless `kafka` sets that property.
    pub max_batches: u64,
    /// `OCTOPUS_ORDERING_STRICT` or `OCTOPUS_ORDERING_LOOSE`.
    pub ordering: i32,
    /// Reserved; 0.
    pub reserved: u32,
    /// The thread pool that validates and serializes the events; NULL: the driver's default pool,
    /// which has no threads, so that this happens during `push`.
    ///
    /// On a pool with threads, failures of these steps are reported by the future of the push. The
    /// producer holds a reference to the pool.
    pub thread_pool: *const octopus_thread_pool,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are empty texts, numbers and
// NULL.
unsafe impl Growing for octopus_producer_args {}

/// Options of a consumer.
///
/// Zeros mean the defaults, except for `name`. The plugin copies the texts and the array during the
/// call.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_consumer_args {
    /// `sizeof(octopus_consumer_args)`, set by the host.
    pub size: u64,
    /// The name of the consumer, which is the name of its consumer group. Required.
    ///
    /// Consumers with the same name share the partitions, and continue at the offset that the name
    /// committed.
    pub name: octopus_text,
    /// Options as a JSON object; see docs/reference/configuration.md.
    ///
    /// Its `kafka` object overrides properties of the driver. Any JSON value that is not an object
    /// is ignored.
    pub options: octopus_text,
    /// The number of events in a batch: 0 for no preference, `OCTOPUS_BATCH_SIZE_ADAPTIVE`, or a
    /// number.
    pub batch_size: u64,
    /// The number of batches to prefetch; 0 for no preference.
    ///
    /// With a batch size, the product of both, at least 1,000, is librdkafka's
    /// `queued.min.messages`, unless the options set that property.
    pub max_batches: u64,
    /// The partitions to read; NULL: those that the consumer group assigns.
    ///
    /// A consumer with targets does not join the group. It starts at the committed offsets of
    /// `name` and commits under that name. Kafka rejects such commits while the group has members,
    /// so use a name either for members or for consumers with targets.
    pub targets: *const u32,
    /// The number of elements of `targets`. A target that does not exist is
    /// `OCTOPUS_INVALID_ARGUMENT`.
    pub target_count: u64,
    /// Reserved; NULL. `octopus_consumer_api::process` has a parameter for its pool.
    pub thread_pool: *const octopus_thread_pool,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are empty texts, numbers and
// NULL.
unsafe impl Growing for octopus_consumer_args {}

/// Functions of topics.
///
/// Any thread may call them, several threads also at the same time; `release` must be the last use
/// of the handle. Only `make_producer` may wait for a broker, at most 1 s.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_topic_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Returns the name that the topic was opened with.
    ///
    /// @param topic The topic.
    /// @param name Receives the name, which is valid until the topic is released.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    pub name: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            name: *mut octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the number of partitions that the topic had when it was opened.
    ///
    /// @param topic The topic.
    /// @param count Receives the number.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    pub partition_count: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            count: *mut u32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the components of the topic.
    ///
    /// @param topic The topic.
    /// @param json Receives `{"validator":…,"selector":…,"serializer":…}`, with the JSON objects
    /// that were passed when the topic was created. Valid until the topic is released.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    pub components: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            json: *mut octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Creates a producer of the topic.
    ///
    /// Producers of one driver with the same properties share a Kafka client and its threads,
    /// unless the option `client` is `"dedicated"`.
    ///
    /// @param topic The topic.
    /// @param args The options; may be NULL.
    /// @param producer Receives the producer, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_CONFIGURATION`; the message names the key
    /// - `OCTOPUS_UNSUPPORTED` if this build lacks a feature that the properties need
    /// - `OCTOPUS_COMPONENT` if the host's selector can't be created
    /// - `OCTOPUS_KAFKA` if librdkafka rejects the properties
    ///
    /// @note Asks a broker for the topic's metadata if the client that it shares knows the topic
    /// already, and waits at most 1 s for that. Otherwise it does not wait for a broker: the client
    /// connects in the background.
    pub make_producer: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            args: *const octopus_producer_args,
            producer: *mut *mut octopus_producer,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Creates a consumer of the topic, which joins its consumer group in the background.
    ///
    /// It has a Kafka client and a plugin thread of its own. It keeps its partitions even while the
    /// host does not pull.
    ///
    /// @param topic The topic.
    /// @param args The options; `name` is required.
    /// @param consumer Receives the consumer, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also for an empty name and for a target that does not exist
    /// - `OCTOPUS_INVALID_CONFIGURATION`; the message names the key
    /// - `OCTOPUS_UNSUPPORTED` if this build lacks a feature that the properties need
    /// - `OCTOPUS_KAFKA` if librdkafka rejects the properties
    ///
    /// @note Does not wait for a broker.
    pub make_consumer: Option<
        unsafe extern "C" fn(
            topic: *const octopus_topic,
            args: *const octopus_consumer_args,
            consumer: *mut *mut octopus_consumer,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Releases the handle. Producers and consumers of the topic are not affected.
    ///
    /// @param topic The topic; NULL has no effect.
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(producer, "producer")?;
            let (settings, pool) = match args.is_null() {
                true => (ClientSettings::default(), None),
                false => octopus_producer_args::read(args, "args")?.settings()?,
            };
            handle::write(Arc::new(Producer::open(topic.clone(), &settings, pool)?), producer);
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(topic, error, |topic: &Arc<Topic>| {
            check_output(consumer, "consumer")?;
            let settings = octopus_consumer_args::read(args, "args")?.settings()?;
            handle::write(Arc::new(Consumer::open(topic.clone(), settings)?), consumer);
            Ok(())
        })
    }
}

unsafe extern "C" fn release(topic: *mut octopus_topic) {
    forward!((); topic.release(topic));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<Topic>>(topic) };
}

impl octopus_producer_args {
    /// Checks and copies the options.
    ///
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
            // SAFETY: the pool is live (fn contract).
            false => Some(Arc::clone(&*unsafe { handle::borrow::<Arc<ThreadPool>>(self.thread_pool) }?)),
        };
        // SAFETY: the texts are NULL or readable (fn contract).
        let settings = unsafe {
            client_settings(self.name, self.options, self.batch_size, self.max_batches, ClientSettings::of_producer)
        }?;
        Ok((ClientSettings { loose, ..settings }, pool))
    }
}

impl octopus_consumer_args {
    /// Checks and copies the options.
    ///
    /// # Safety
    /// The texts and the array are NULL or readable during this call.
    unsafe fn settings(&self) -> Result<ClientSettings> {
        // SAFETY: the array is NULL or readable (fn contract).
        let targets = unsafe { read_array(self.targets, self.target_count, "args.targets") }?;
        if !self.thread_pool.is_null() {
            return Err(Error::invalid("args.thread_pool: reserved, must be NULL; pass the pool to `process`"));
        }
        // SAFETY: the texts are NULL or readable (fn contract).
        let settings = unsafe {
            client_settings(self.name, self.options, self.batch_size, self.max_batches, ClientSettings::of_consumer)
        }?;
        Ok(ClientSettings { targets: targets.to_vec(), ..settings })
    }
}

/// Reads the options of a producer, or those of a consumer.
type ReadOptions = fn(&str, u64, u64, Option<&str>) -> Result<ClientSettings>;

/// Checks and copies the options that producers and consumers have in common.
///
/// # Safety
/// The texts are NULL or readable during this call.
unsafe fn client_settings(
    name: octopus_text,
    options: octopus_text,
    batch_size: u64,
    max_batches: u64,
    read: ReadOptions,
) -> Result<ClientSettings> {
    // SAFETY: the texts are NULL or readable (fn contract).
    let (name, options) = unsafe { (name.read("args.name")?, options.read_optional("args.options")?) };
    if name.contains('\0') {
        return Err(Error::invalid("args.name: contains a NUL character"));
    }
    read(name, batch_size, max_batches, options)
}
