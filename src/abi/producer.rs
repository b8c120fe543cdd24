//! ABI slots of producers. Each slot validates its arguments, makes one call into
//! `crate::client::producer` and converts the result.

mod slots;

use super::consumer::octopus_consumer;
use super::error_handle::octopus_error;
use super::future::octopus_future;
use super::handle::handle;
use super::push_args::octopus_push_args;
use super::status::octopus_status;
use crate::client::producer::Producer;

/// A producer: pushes events into one topic.
///
/// `octopus_topic_api::make_producer` creates it.
///
/// @since 0.1
pub struct octopus_producer {
    _private: [u8; 0],
}

handle!(Producer, octopus_producer, "producer");

/// Functions of producers.
///
/// Any thread may call them, several threads also at the same time; `release` must be the last use
/// of the handle. Each function but `release` can also return `OCTOPUS_CLOSED`.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_producer_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Queues one event for delivery.
    ///
    /// If the push fails, the event is not queued. Later failures are reported by the future, and
    /// by the next flush.
    ///
    /// @param producer The producer.
    /// @param event The event. Its bytes are copied before the function returns.
    /// @param future Receives the future of the delivery, which the host releases; may be NULL. The
    /// event is sent in any case.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_UNREACHABLE` (retriable) if the in-flight limit was reached until the driver's
    ///   `timeout_ms` passed, or no broker could be reached yet
    /// - `OCTOPUS_TIMED_OUT` if the limit was reached until the `timeout_ms` of `event` passed
    /// - `OCTOPUS_WOULD_BLOCK` if the limit is reached and the thread must not wait
    /// - `OCTOPUS_TOO_LARGE`
    /// - `OCTOPUS_INVALID_METADATA`
    /// - `OCTOPUS_COMPONENT` if the topic has a component that is missing here
    /// - `OCTOPUS_CALLBACK_FAILED` if a component or the thread pool of the host failed
    /// - `OCTOPUS_KAFKA` if the client has failed for good, or brokers have rejected its
    ///   credentials for 5 s
    /// - `OCTOPUS_INVALID_ARGUMENT` also outside of a transaction if the producer has transactions
    /// - `OCTOPUS_MUST_ABORT` if the transaction has failed
    /// - `OCTOPUS_FENCED`
    ///
    /// @note Blocks only while the in-flight limit is reached, at most the driver's `timeout_ms`
    /// (milliseconds), or the `timeout_ms` of `event`. On a plugin thread, and in a task of the
    /// producer's pool, it never blocks.
    pub push: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            event: *const octopus_push_args,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Queues several events in order, as `push` does, until one fails.
    ///
    /// `pushed` and `futures` are written even if the function fails.
    ///
    /// @param producer The producer.
    /// @param events The events. All have the same `size`, which is also the stride of the array.
    /// The plugin takes ownership of the preparations of all of them, even if it does not queue
    /// them.
    /// @param count The number of elements of `events`.
    /// @param futures Receives the futures of the queued events, which the host releases; an array
    /// of `count` elements, or NULL.
    /// @param pushed Receives the number of events that were queued.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or the status of the first push that failed (see `push`).
    /// @note Blocks as `push` does, for each event. A `timeout_ms` of an event counts from the
    /// beginning of the whole call.
    pub push_many: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            events: *const octopus_push_args,
            count: u64,
            futures: *mut *mut octopus_future,
            pushed: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Starts a flush: sends the events that linger now.
    ///
    /// The future completes when all events that were pushed before are delivered or have failed.
    /// It succeeds, or has an error with the number of events that failed since the previous flush
    /// and the details of the first failure.
    ///
    /// @param producer The producer.
    /// @param future Receives the future of the flush, which the host releases; may be NULL.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub flush: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the size of the largest event that `push` accepts.
    ///
    /// @param producer The producer.
    /// @param bytes Receives the size of metadata and data together, in bytes.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub max_event_size: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            bytes: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Closes the producer: rejects further pushes and waits until no event is in flight.
    ///
    /// Closing twice is `OCTOPUS_CLOSED`. The handle must still be released.
    ///
    /// An open transaction is aborted; one whose commit may have succeeded already is committed. If
    /// that fails, the status is one of `abort_transaction` or `commit_transaction`, and if the
    /// transaction is still open, the producer is, too: repeat the call.
    ///
    /// @param producer The producer.
    /// @param timeout_ms The longest time to wait, in milliseconds; negative: no limit; 0: do not
    /// wait.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return One of:
    /// - `OCTOPUS_OK` if all events were delivered
    /// - The status of a flush if events failed
    /// - `OCTOPUS_TIMED_OUT` if events are still in flight: the plugin continues to deliver them
    /// - `OCTOPUS_UNREACHABLE` if no broker could be reached yet
    /// - `OCTOPUS_MUST_ABORT` if a transaction was open, which has been aborted
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread, and in a task of the producer's pool
    ///
    /// @note Blocks until no event is in flight, at most `timeout_ms`.
    pub close: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Releases the handle.
    ///
    /// Events in flight are delivered in the background, for at most `kafka.delivery.timeout.ms`
    /// milliseconds. When the process exits, it waits for them at most the driver's `exit_flush_ms`
    /// milliseconds.
    ///
    /// @param producer The producer; NULL has no effect.
    /// @note Does not block, except in a forked child: there the release of the last handle waits
    /// for the deliveries, at most `exit_flush_ms`.
    pub release: Option<unsafe extern "C" fn(producer: *mut octopus_producer)>,
    /// Returns the format of the records that the producer writes, by its option `records` or the
    /// driver's.
    ///
    /// @param producer The producer.
    /// @param format Receives one of `OCTOPUS_RECORD_…`.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub record_format: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            format: *mut u32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Begins a transaction of a producer with the option `transactional_id`.
    ///
    /// It contains the events that are pushed from now on, and the positions that are acknowledged
    /// in `consumers` until the commit: all of them are stored, or none. Outside of a transaction
    /// pushes are rejected. See docs/reference/abi.md, "Transactions".
    ///
    /// @param producer The producer.
    /// @param consumers The consumers whose positions the transaction commits; an array of `count`
    /// elements, or NULL. They have the option `"commits": "transaction"`, and are part of no other
    /// transaction. They may be released at any time.
    /// @param count The number of elements of `consumers`.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` if a transaction is open already, or a consumer does not fit
    /// - `OCTOPUS_FENCED`
    /// - `OCTOPUS_KAFKA` if the client has failed for good
    ///
    /// @note Does not block.
    pub begin_transaction: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            consumers: *const *const octopus_consumer,
            count: u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Commits the open transaction: waits until its events are delivered, then stores them and the
    /// acknowledged positions together.
    ///
    /// Events that are acknowledged during the call belong to the next transaction.
    ///
    /// @param producer The producer.
    /// @param timeout_ms The longest time to wait, in milliseconds; negative: the driver's
    /// `timeout_ms`, which is also the maximum; 0: do not wait.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return One of:
    /// - `OCTOPUS_OK`
    /// - `OCTOPUS_TIMED_OUT` if the commit is not done yet: repeat the call, which continues
    /// - `OCTOPUS_UNREACHABLE`: as `OCTOPUS_TIMED_OUT`
    /// - `OCTOPUS_MUST_ABORT` if an event was not delivered, the partition of an acknowledged event
    ///   was revoked, the group's coordinator did not take the positions, or a consumer was in a
    ///   transaction whose producer was released before its outcome was known
    /// - `OCTOPUS_FENCED` also if the transaction was open for longer than
    ///   `kafka.transaction.timeout.ms`: the coordinator has aborted it
    /// - `OCTOPUS_KAFKA` if the client has failed for good
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread, and in a task of the producer's pool
    ///
    /// @note Blocks until the coordinator has confirmed the commit, at most `timeout_ms`.
    pub commit_transaction: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Aborts the open transaction: none of its events is stored.
    ///
    /// Its consumers continue at the positions of the last committed transaction. Events that they
    /// have returned since are read again; those that the host still has are stale. The futures of
    /// events that were not delivered yet fail.
    ///
    /// @param producer The producer.
    /// @param timeout_ms As in `commit_transaction`.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return One of:
    /// - `OCTOPUS_OK`
    /// - `OCTOPUS_TIMED_OUT` or `OCTOPUS_UNREACHABLE`: repeat the call, which continues
    /// - `OCTOPUS_INVALID_ARGUMENT` also if a commit may have succeeded already: repeat the commit
    /// - `OCTOPUS_FENCED` if there is a newer producer: it has aborted the transaction, and the
    ///   consumers continue as after `OCTOPUS_OK`
    /// - `OCTOPUS_KAFKA` if the client has failed for good
    /// - `OCTOPUS_WOULD_DEADLOCK` on a plugin thread, and in a task of the producer's pool
    ///
    /// @note Blocks until the coordinator has confirmed the abort, at most `timeout_ms`.
    pub abort_transaction: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
}

pub static PRODUCER: octopus_producer_api = octopus_producer_api {
    size: size_of::<octopus_producer_api>() as u64,
    push: Some(slots::push),
    push_many: Some(slots::push_many),
    flush: Some(slots::flush),
    max_event_size: Some(slots::max_event_size),
    close: Some(slots::close),
    release: Some(slots::release),
    record_format: Some(slots::record_format),
    begin_transaction: Some(slots::begin_transaction),
    commit_transaction: Some(slots::commit_transaction),
    abort_transaction: Some(slots::abort_transaction),
};
