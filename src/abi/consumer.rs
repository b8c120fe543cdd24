//! ABI slots of consumers. Each slot validates its arguments, makes one call into
//! `crate::client::consumer` and converts the result.

mod slots;

use std::ffi::c_void;

use super::callback::octopus_destroy_fn;
use super::error_handle::octopus_error;
use super::event::octopus_event;
use super::future::octopus_future;
use super::handle::handle;
use super::status::octopus_status;
use super::thread_pool::octopus_thread_pool;
use crate::client::consumer::Consumer;

/// A consumer: reads the events of one topic.
///
/// `octopus_topic_api::make_consumer` creates it.
///
/// @since 0.1
pub struct octopus_consumer {
    _private: [u8; 0],
}

handle!(Consumer, octopus_consumer, "consumer");

/// Result of `octopus_consumer_api::committed`: no offset is committed.
pub const OCTOPUS_OFFSET_NONE: u64 = u64::MAX;

/// Result of a processor: continue with the next event.
pub const OCTOPUS_PROCESS_CONTINUE: i32 = 0;
/// Result of a processor: stop; `octopus_consumer_api::process` returns `OCTOPUS_OK`.
pub const OCTOPUS_PROCESS_STOP: i32 = 1;

/// A function that `octopus_consumer_api::process` calls for each event.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_processor {
    /// Processes one event.
    ///
    /// @param context The `context` of this struct.
    /// @param event The event, valid during the call; to keep it, retain it. NULL if no event came
    /// within the timeout.
    /// @return `OCTOPUS_PROCESS_CONTINUE`; `OCTOPUS_PROCESS_STOP`; any other number makes `process`
    /// return `OCTOPUS_CALLBACK_FAILED`.
    /// @note Called on threads of the pool, several calls at the same time, also for events of one
    /// partition; without a pool that has threads, on the thread that called `process`. It must not
    /// unwind.
    pub function: Option<unsafe extern "C" fn(context: *mut c_void, event: *mut octopus_event) -> i32>,
    /// Passed to `function` and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// Functions of consumers.
///
/// Any thread may call them, several threads also at the same time; `release` must be the last use
/// of the handle. Each function but `release` can also return `OCTOPUS_CLOSED`.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_consumer_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Creates a future for the next event.
    ///
    /// The future takes an event only inside `wait` or `test`, or when a registered completion is
    /// called. Releasing it before loses nothing: another pull reads the event.
    ///
    /// @param consumer The consumer.
    /// @param future Receives the future, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub pull: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Waits for an event, and reads further events that are available without waiting.
    ///
    /// If no event was read, neither `events` nor `count` is written. An error that follows the
    /// events that were read is reported by the next call. The record that marks the end of a topic
    /// is among the events, with the id `OCTOPUS_EVENT_ID_END_OF_TOPIC`.
    ///
    /// @param consumer The consumer.
    /// @param max_events The number of events to read at most.
    /// @param timeout_ms The longest time to wait for the first event, in milliseconds; negative:
    /// no limit; 0: do not wait.
    /// @param events Receives the events, which the host releases; an array of `max_events`
    /// elements.
    /// @param count Receives the number of events.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return One of:
    /// - `OCTOPUS_OK` if at least one event was read, or `max_events` is 0
    /// - `OCTOPUS_TIMED_OUT`
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread, unless `timeout_ms` is 0
    /// - The failure of a pull (see `octopus_future_api::wait`)
    ///
    /// @note Blocks until there is an event, at most `timeout_ms`.
    pub pull_many: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            max_events: u64,
            timeout_ms: i64,
            events: *mut *mut octopus_event,
            count: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Passes events to a processor until that stops or fails, or `max_events` events were passed.
    ///
    /// Events that were read but not processed are read by the next pull, in order.
    ///
    /// @param consumer The consumer.
    /// @param processor The processor. The plugin takes ownership, even if the function fails: it
    /// calls `destroy` once.
    /// @param timeout_ms The time without an event after which the processor is called with NULL,
    /// in milliseconds; negative: never.
    /// @param max_events The number of events to pass; 2^64-1: no limit. Calls with NULL do not
    /// count.
    /// @param pool The pool that runs the processor; NULL: the driver's default pool, so the
    /// calling thread.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_CALLBACK_FAILED` if the processor failed or the pool rejected a task
    /// - `OCTOPUS_INVALID_ARGUMENT` also if another `process` of this consumer is running
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread, and in a task of `pool`
    /// - The failure of a pull (see `octopus_future_api::wait`)
    ///
    /// @note Blocks until all calls of the processor have returned.
    pub process: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            processor: *const octopus_processor,
            timeout_ms: i64,
            max_events: u64,
            pool: *const octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Commits the events that were acknowledged before the call.
    ///
    /// This is optional: the plugin commits every second, before partitions are revoked, and when
    /// the consumer is closed. The function also reports an earlier commit that failed, unless a
    /// later commit of the same partitions succeeded.
    ///
    /// @param consumer The consumer.
    /// @param timeout_ms The longest time to wait, in milliseconds; negative: the driver's
    /// `timeout_ms`, which is always an upper bound.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_TIMED_OUT` if Kafka did not respond in time; the plugin retries
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_UNREACHABLE`
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until Kafka responds, at most `timeout_ms`.
    pub commit: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the position in a partition: the offset of the event that is read next.
    ///
    /// @param consumer The consumer.
    /// @param partition The partition, one that is assigned to this consumer.
    /// @param offset Receives the offset.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also if the partition is not assigned to this consumer
    /// - `OCTOPUS_UNREACHABLE` if brokers did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until Kafka responds, at most the driver's `timeout_ms` (milliseconds).
    pub position: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the committed offset of a partition: where a new consumer of this name starts.
    ///
    /// @param consumer The consumer.
    /// @param partition Any partition of the topic.
    /// @param offset Receives the offset; `OCTOPUS_OFFSET_NONE` if the name has committed none, so
    /// that a new consumer starts where `auto.offset.reset` says, by default at the earliest
    /// record.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also if the partition does not exist
    /// - `OCTOPUS_UNREACHABLE` if brokers did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until Kafka responds, at most the driver's `timeout_ms` (milliseconds).
    pub committed: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the lag in a partition: the number of offsets from the position to the end.
    ///
    /// @param consumer The consumer.
    /// @param partition The partition, one that is assigned to this consumer.
    /// @param events Receives the number of offsets.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also if the partition is not assigned to this consumer
    /// - `OCTOPUS_UNREACHABLE` if brokers did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until Kafka responds, at most the driver's `timeout_ms` (milliseconds).
    pub lag: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            events: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Sets the position in a partition.
    ///
    /// This does not change the committed offset, and acknowledging an event before the last
    /// acknowledged one still has no effect.
    ///
    /// @param consumer The consumer.
    /// @param partition The partition, one that is assigned to this consumer.
    /// @param offset The offset to read next: from the first offset that is kept to the end of the
    /// partition, inclusive.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also if the partition is not assigned to this consumer, or has
    ///   no such offset
    /// - `OCTOPUS_UNREACHABLE` if brokers did not respond in time
    /// - `OCTOPUS_KAFKA`
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until Kafka responds, at most the driver's `timeout_ms` (milliseconds).
    pub seek: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the partitions that are assigned to this consumer, in ascending order.
    ///
    /// @param consumer The consumer.
    /// @param partitions Receives at most `capacity` partitions; may be NULL if `capacity` is 0.
    /// @param capacity The number of elements of `partitions`.
    /// @param count Receives the number of assigned partitions, which can be larger than
    /// `capacity`.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub assignment: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partitions: *mut u32,
            capacity: u64,
            count: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Commits, leaves the group, and gives up all partitions.
    ///
    /// From then on pulls return `OCTOPUS_CLOSED`, and acknowledgements return `OCTOPUS_STALE`.
    ///
    /// @param consumer The consumer.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_KAFKA` or `OCTOPUS_UNREACHABLE` if the commit failed
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until that is done, at most the driver's `timeout_ms` (milliseconds).
    pub unsubscribe: Option<
        unsafe extern "C" fn(consumer: *const octopus_consumer, error: *mut *mut octopus_error) -> octopus_status,
    >,
    /// Closes the consumer: commits and leaves the group.
    ///
    /// Events that the host holds stay valid. Closing twice is `OCTOPUS_CLOSED`. The handle must
    /// still be released.
    ///
    /// @param consumer The consumer.
    /// @param timeout_ms The longest time to wait, in milliseconds; negative: no limit; 0: do not
    /// wait.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_TIMED_OUT` if it is not done yet: it continues in the background
    /// - `OCTOPUS_KAFKA` or `OCTOPUS_UNREACHABLE` if a commit failed, and no later commit of the
    ///   same partitions succeeded
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread
    ///
    /// @note Blocks until that is done, at most `timeout_ms`.
    pub close: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Releases the handle.
    ///
    /// Without `close` before, the consumer commits and leaves the group in the background. Futures
    /// of pulls that have no event complete with `OCTOPUS_CLOSED`. Events stay valid, but can't be
    /// acknowledged once the consumer has left the group.
    ///
    /// @param consumer The consumer; NULL has no effect.
    /// @note Does not block.
    pub release: Option<unsafe extern "C" fn(consumer: *mut octopus_consumer)>,
}

pub static CONSUMER: octopus_consumer_api = octopus_consumer_api {
    size: size_of::<octopus_consumer_api>() as u64,
    pull: Some(slots::pull),
    pull_many: Some(slots::pull_many),
    process: Some(slots::process),
    commit: Some(slots::commit),
    position: Some(slots::position),
    committed: Some(slots::committed),
    lag: Some(slots::lag),
    seek: Some(slots::seek),
    assignment: Some(slots::assignment),
    unsubscribe: Some(slots::unsubscribe),
    close: Some(slots::close),
    release: Some(slots::release),
};
