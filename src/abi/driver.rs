//! ABI slots of drivers. Each slot validates its arguments, makes one call into
//! `crate::client::driver` and converts the result.

mod slots;

use super::args::{Growing, octopus_text};
use super::component::octopus_component;
use super::error_handle::octopus_error;
use super::handle::handle;
use super::services::octopus_host_services;
use super::status::octopus_status;
use super::string::octopus_string;
use super::thread_pool::octopus_thread_pool;
use super::topic::octopus_topic;
use crate::client::driver::Driver;

/// A driver: one configuration of a Kafka cluster, from which everything else is created.
///
/// `octopus_driver_api::create` creates it.
///
/// @since 0.1
pub struct octopus_driver {
    _private: [u8; 0],
}

handle!(Driver, octopus_driver, "driver");

/// Options of a new topic.
///
/// Zeros mean the defaults.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_create_topic_args {
    /// `sizeof(octopus_create_topic_args)`, set by the host.
    pub size: u64,
    /// Options as a JSON object: `num_partitions`, `replication_factor`, `disable_info_topic`,
    /// `config`; see docs/reference/configuration.md.
    pub options: octopus_text,
    /// The validator, a JSON object with a `"type"`; empty: `{"type":"default"}`.
    pub validator: octopus_text,
    /// The selector, a JSON object with a `"type"`; empty: `{"type":"default"}`.
    pub selector: octopus_text,
    /// The serializer, a JSON object with a `"type"`; empty: `{"type":"default"}`.
    pub serializer: octopus_text,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are empty texts.
unsafe impl Growing for octopus_create_topic_args {}

/// Figures of a driver, as of the call. Counters only grow, from the creation of the driver on.
///
/// docs/reference/statistics.md explains each one.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_stats {
    /// `sizeof(octopus_stats)`, set by the host before the call.
    pub size: u64,
    /// Events in flight in all producers.
    pub events_in_flight: u64,
    /// Bytes in flight in all producers: of the events' metadata, data, and sizes.
    pub bytes_in_flight: u64,
    /// The age of the oldest event that librdkafka has and whose result is not reported, in
    /// milliseconds; -1: there is none.
    pub oldest_event_ms: i64,
    /// Counter: delivered events.
    pub delivered: u64,
    /// Counter: bytes of the delivered events.
    pub delivered_bytes: u64,
    /// Counter: events whose failure was reported.
    pub failed: u64,
    /// Half of the delivered events took at most this long, in milliseconds.
    pub latency_p50_ms: u64,
    /// 90 % of the delivered events took at most this long, in milliseconds.
    pub latency_p90_ms: u64,
    /// 99 % of the delivered events took at most this long, in milliseconds.
    pub latency_p99_ms: u64,
    /// The longest time of a delivered event, in milliseconds.
    pub latency_max_ms: u64,
    /// The lag of all assigned partitions together, in offsets; -1: it is unknown.
    pub lag: i64,
    /// Counter: assignments and revocations of partitions.
    pub rebalances: u64,
    /// Counter: requests to brokers that were repeated.
    pub retries: u64,
    /// Counter: requests to brokers without a response in time.
    pub request_timeouts: u64,
    /// Counter: bytes sent to brokers.
    pub sent_bytes: u64,
    /// Counter: bytes received from brokers.
    pub received_bytes: u64,
    /// Counter: attempts to connect to brokers.
    pub connects: u64,
    /// Counter: lost and closed connections.
    pub disconnects: u64,
    /// The age of the oldest token in use, in milliseconds; -1: there is none.
    pub token_age_ms: i64,
    /// Kafka clients.
    pub clients: u64,
    /// librdkafka's threads, and one of the plugin for each client.
    pub threads: u64,
    /// Open connections to brokers.
    pub connections: u64,
    /// Counter: repeated warnings and errors that were not logged.
    pub suppressed_log_lines: u64,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are numbers.
unsafe impl Growing for octopus_stats {}

/// Functions of drivers.
///
/// Any thread may call them, several threads also at the same time; `release` must be the last use
/// of the handle. Functions that wait for brokers or for the topic service wait at most the
/// driver's `timeout_ms` (default 60,000 ms); then they return `OCTOPUS_UNREACHABLE`, and the
/// message names what did not respond. On a plugin thread they block the client of that thread for
/// as long.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_driver_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Creates a driver.
    ///
    /// @param config The configuration as a JSON object; see docs/reference/configuration.md.
    /// Copied during the call.
    /// @param services Callbacks of the host; may be NULL. The plugin takes ownership of them, even
    /// if the function fails.
    /// @param driver Receives the driver, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_CONFIGURATION`; the message names the key
    /// - `OCTOPUS_UNSUPPORTED` if this build lacks a feature that the configuration needs
    /// - `OCTOPUS_KAFKA` if librdkafka rejects the configuration, or the topic service the identity
    /// - `OCTOPUS_UNREACHABLE` if the topic service does not respond to the request for a key
    ///
    /// @note Starts the threads of the driver's client, but does not wait for a broker. With the
    /// option `globus` and no key in the environment it asks the topic service, at most
    /// `timeout_ms`.
    pub create: Option<
        unsafe extern "C" fn(
            config: octopus_text,
            services: *const octopus_host_services,
            driver: *mut *mut octopus_driver,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Creates a topic, and waits until it can be opened.
    ///
    /// A topic that another creator began to create is completed once that attempt is 30 s old.
    ///
    /// @param driver The driver.
    /// @param name The name of the topic.
    /// @param args The options and components; may be NULL.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_TOPIC_EXISTS`
    /// - `OCTOPUS_COMPONENT` if a component can't be created or has an unknown type
    /// - `OCTOPUS_INVALID_CONFIGURATION` if an option is wrong
    /// - `OCTOPUS_UNREACHABLE` if brokers or the topic service did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_CALLBACK_FAILED` if the host provides no authorization for the topic service
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until the topic exists, at most `timeout_ms`.
    pub create_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            args: *const octopus_create_topic_args,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Opens an existing topic. Never creates one.
    ///
    /// @param driver The driver.
    /// @param name The name of the topic.
    /// @param topic Receives the topic, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_UNKNOWN_TOPIC` if the topic did not appear within the driver's `open_retry_ms`
    ///   (default 5,000 ms)
    /// - `OCTOPUS_COMPONENT` if a component of the topic is malformed or can't be created
    /// - `OCTOPUS_UNREACHABLE` if brokers or the topic service did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_CALLBACK_FAILED` if the host provides no authorization for the topic service
    ///
    /// @note Blocks at most `timeout_ms`.
    pub open_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            topic: *mut *mut octopus_topic,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Deletes a topic and its info topic, and waits until both are gone.
    ///
    /// @param driver The driver.
    /// @param name The name of the topic.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_UNKNOWN_TOPIC`
    /// - `OCTOPUS_UNSUPPORTED` with the embedded Kafka
    /// - `OCTOPUS_UNREACHABLE` if brokers or the topic service did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_CALLBACK_FAILED` if the host provides no authorization for the topic service
    ///
    /// @note Blocks until the topics are gone, at most `timeout_ms`.
    pub delete_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns whether a topic exists. Never creates one.
    ///
    /// @param driver The driver.
    /// @param name The name of the topic.
    /// @param exists Receives 1 if the topic exists, else 0.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_UNREACHABLE` if brokers or the topic service did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_CALLBACK_FAILED` if the host provides no authorization for the topic service
    ///
    /// @note Blocks at most `timeout_ms`.
    pub topic_exists: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            exists: *mut i32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Lists all topics of the driver's namespace that have an info topic.
    ///
    /// @param driver The driver.
    /// @param json Receives `{name:
    /// {"validator":…,"selector":…,"serializer":…,"num_partitions":n}}`, a string that the host
    /// releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_UNREACHABLE` if brokers or the topic service did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_CALLBACK_FAILED` if the host provides no authorization for the topic service
    ///
    /// @note Blocks at most `timeout_ms`.
    pub list_topics: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            json: *mut *mut octopus_string,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the thread pool that is used where the host passes none. It has no threads.
    ///
    /// @param driver The driver.
    /// @param pool Receives a reference to the pool, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub default_thread_pool: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Registers the host's components of one role and one type.
    ///
    /// They are used for topics that are created or opened from then on.
    ///
    /// @param driver The driver.
    /// @param role `OCTOPUS_ROLE_VALIDATOR`, `OCTOPUS_ROLE_SELECTOR` or `OCTOPUS_ROLE_SERIALIZER`.
    /// @param type_name The `"type"` of the components.
    /// @param component The functions. The plugin takes ownership when it has read the struct, even
    /// if the function fails: it calls `destroy` once, when the driver and everything that was made
    /// from it are gone.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also for a type that is built in or registered already, and if
    ///   a function that the role needs is NULL
    ///
    /// @note Does not block.
    pub register_component: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            role: i32,
            type_name: octopus_text,
            component: *const octopus_component,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Describes the driver: its configuration including defaults, versions, and resources, for
    /// example its clients.
    ///
    /// @param driver The driver.
    /// @param json Receives a JSON object with masked secrets, a string that the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub describe: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            json: *mut *mut octopus_string,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Releases the handle. Topics, producers and consumers of the driver are not affected.
    ///
    /// @param driver The driver; NULL has no effect.
    /// @note Does not block.
    pub release: Option<unsafe extern "C" fn(driver: *mut octopus_driver)>,
    /// Removes all records of a topic. Its info topic, and so its components, stay.
    ///
    /// Open consumers continue with the next record, after `OCTOPUS_RECORDS_LOST` if they had not
    /// read all records. With a topic service, the service recreates the topic: its offsets begin
    /// at 0 again, and open producers and consumers continue with the new topic
    /// (docs/reliability.md, "Recreated topics").
    ///
    /// @param driver The driver.
    /// @param name The name of the topic.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_UNKNOWN_TOPIC`
    /// - `OCTOPUS_UNSUPPORTED` with the embedded Kafka
    /// - `OCTOPUS_UNREACHABLE` if brokers or the topic service did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_CALLBACK_FAILED` if the host provides no authorization for the topic service
    ///
    /// @note Blocks until the records are gone, at most `timeout_ms`.
    /// @since 0.1
    pub empty_topic: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            name: octopus_text,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Reads the figures of the driver. They are always counted, and reading them contacts no
    /// broker.
    ///
    /// @param driver The driver.
    /// @param stats Receives the figures: as many bytes as `stats->size` says, which the host sets.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    /// @since 0.1
    pub stats: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            stats: *mut octopus_stats,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Reads the figures of the driver, and those of each producer, consumer and partition.
    ///
    /// @param driver The driver.
    /// @param json Receives a JSON object, a string that the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    /// @since 0.1
    pub stats_json: Option<
        unsafe extern "C" fn(
            driver: *const octopus_driver,
            json: *mut *mut octopus_string,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
}

pub static DRIVER: octopus_driver_api = octopus_driver_api {
    size: size_of::<octopus_driver_api>() as u64,
    create: Some(slots::create),
    create_topic: Some(slots::create_topic),
    open_topic: Some(slots::open_topic),
    delete_topic: Some(slots::delete_topic),
    topic_exists: Some(slots::topic_exists),
    list_topics: Some(slots::list_topics),
    default_thread_pool: Some(slots::default_thread_pool),
    register_component: Some(slots::register_component),
    describe: Some(slots::describe),
    release: Some(slots::release),
    empty_topic: Some(slots::empty_topic),
    stats: Some(slots::stats),
    stats_json: Some(slots::stats_json),
};
