//! The consumer's slots: arguments in, one call to [`crate::consumer`], the result out.

use std::ffi::c_void;
use std::sync::Arc;

use super::args::check_output;
use super::callback::octopus_destroy_fn;
use super::error::octopus_error;
use super::event::octopus_event;
use super::future::octopus_future;
use super::guard::call;
use super::handle::{self, handle};
use super::status::octopus_status;
use super::thread_pool::octopus_thread_pool;
use crate::consumer::Consumer;
use crate::deadline::Deadline;

/// Reads the events of one topic.
pub struct octopus_consumer {
    _private: [u8; 0],
}

handle!(Consumer, octopus_consumer, "consumer");

/// A processor goes on.
pub const OCTOPUS_GO_ON: i32 = 0;
/// A processor has had enough: `process` ends with success.
pub const OCTOPUS_STOP: i32 = 1;

/// Called for each event by `process`, with NULL when none came in time; the event is released after the call unless
/// it was retained. Returns `OCTOPUS_GO_ON`, `OCTOPUS_STOP`, or a negative number, which ends `process` with
/// `OCTOPUS_CALLBACK_FAILED`. Called on the pool's threads, several at a time.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_processor {
    pub function: Option<unsafe extern "C" fn(context: *mut c_void, event: *mut octopus_event) -> i32>,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// Consumers. Functions may be called from any thread, also at the same time.
/// Every function but `release` may return `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_CLOSED`, `OCTOPUS_FORKED` and
/// `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_consumer_api {
    /// `sizeof(octopus_consumer_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Gives a ticket for the next event and returns at once. An event is taken only inside a wait or test that
    /// returns it, so a ticket that is released before has taken nothing.
    pub pull: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Waits at most `timeout_ms` milliseconds (negative: for ever) for a first event, then takes what else is
    /// there, at most `max`. Writes the events, each to be released, and their number.
    pub pull_many: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            max: u64,
            timeout_ms: i64,
            events: *mut *mut octopus_event,
            count: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Feeds events to `processor`, on `pool` (NULL: in the caller), until it says stop or fails or has had
    /// `max_events`. Blocks its caller. Takes `processor` over.
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
    /// Commits what was acknowledged before the call and waits at most `timeout_ms` milliseconds (negative: the
    /// driver's `timeout_ms`) for Kafka's answer. Also tells of an earlier commit that failed. Not needed for
    /// safety: commits go every second, when partitions are taken away, and at the end.
    /// `OCTOPUS_TIMED_OUT` (brokers that are away included: it is tried again), `OCTOPUS_KAFKA`,
    /// `OCTOPUS_UNREACHABLE`, `OCTOPUS_WOULD_DEADLOCK`.
    pub commit: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The offset of the event that the next pull of this partition gives.
    pub position: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The offset that a consumer of this name would start at.
    pub committed: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The number of events in this partition that were not delivered to this consumer yet.
    pub lag: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            events: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Goes on at this offset of the partition.
    pub seek: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The partitions that are this consumer's now: writes at most `capacity` of them, and their whole number.
    pub assignment: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partitions: *mut u32,
            capacity: u64,
            count: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Leaves the group; nothing is pulled any more, but what was pulled can be acknowledged.
    pub unsubscribe: Option<
        unsafe extern "C" fn(consumer: *const octopus_consumer, error: *mut *mut octopus_error) -> octopus_status,
    >,
    /// Commits what was acknowledged, leaves the group, and waits at most `timeout_ms` milliseconds (negative: for
    /// ever) for that; then it goes on in the background. Events in the host's hands stay valid.
    /// `OCTOPUS_TIMED_OUT`; `OCTOPUS_KAFKA` or `OCTOPUS_UNREACHABLE` when the last commit failed;
    /// `OCTOPUS_WOULD_DEADLOCK`.
    pub close: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Gives the handle back and returns at once; without close before, committing and leaving begin then, in the
    /// background. Tickets that have not taken an event say `OCTOPUS_CLOSED`. Events stay valid; acknowledging them
    /// is stale as soon as the consumer has left. NULL does nothing.
    pub release: Option<unsafe extern "C" fn(consumer: *mut octopus_consumer)>,
}

pub static CONSUMER: octopus_consumer_api = octopus_consumer_api {
    size: size_of::<octopus_consumer_api>() as u64,
    pull: Some(pull),
    pull_many: None,
    process: None,
    commit: Some(commit),
    position: None,
    committed: None,
    lag: None,
    seek: None,
    assignment: None,
    unsubscribe: None,
    close: Some(close),
    release: Some(release),
};

unsafe extern "C" fn pull(
    consumer: *const octopus_consumer,
    future: *mut *mut octopus_future,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(future, "future")?;
            handle::give(Arc::new(consumer.pull()?), future);
            Ok(())
        })
    }
}

unsafe extern "C" fn commit(
    consumer: *const octopus_consumer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.commit(Deadline::from_millis(timeout_ms))) }
}

unsafe extern "C" fn close(
    consumer: *const octopus_consumer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.close(Deadline::from_millis(timeout_ms))) }
}

unsafe extern "C" fn release(consumer: *mut octopus_consumer) {
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Consumer>(consumer) };
}
