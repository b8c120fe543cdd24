//! ABI slots of producers. Each slot validates its arguments, makes one call into
//! `crate::client::producer` and converts the result.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::sync::Arc;
use std::time::Instant;

use super::args::{Growing, check_optional_output, check_output};
use super::error_handle::octopus_error;
use super::event::{OCTOPUS_RECORD_BYTES, OCTOPUS_RECORD_DIASPORA, OCTOPUS_RECORD_JSON};
use super::forked_child::forward;
use super::future::octopus_future;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::preparation::HostPreparation;
use super::push_args::octopus_push_args;
use super::status::octopus_status;
use crate::client::producer::Producer;
use crate::config::ValueFormat;
use crate::support::deadline::Deadline;
use crate::support::error::Result;

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
    /// @param producer The producer.
    /// @param timeout_ms The longest time to wait, in milliseconds; negative: no limit; 0: do not
    /// wait.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return One of:
    /// - `OCTOPUS_OK` if all events were delivered
    /// - The status of a flush if events failed
    /// - `OCTOPUS_TIMED_OUT` if events are still in flight: the plugin continues to deliver them
    /// - `OCTOPUS_UNREACHABLE` if no broker could be reached yet
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
}

pub static PRODUCER: octopus_producer_api = octopus_producer_api {
    size: size_of::<octopus_producer_api>() as u64,
    push: Some(push),
    push_many: Some(push_many),
    flush: Some(flush),
    max_event_size: Some(max_event_size),
    close: Some(close),
    release: Some(release),
    record_format: Some(record_format),
};

unsafe extern "C" fn push(
    producer: *const octopus_producer,
    event: *const octopus_push_args,
    future: *mut *mut octopus_future,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.push(producer, event, future, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot). The plugin owns the preparation before anything can fail.
    unsafe {
        let event = octopus_push_args::read(event, "event");
        let preparation = event.as_ref().map_or(Ok(None), |event| HostPreparation::take(event.preparation));
        call(producer, error, |producer: &Arc<Producer>| {
            let event = event.as_ref().map_err(Clone::clone)?;
            check_optional_output(future, "future")?;
            let deadline = event.deadline(Instant::now);
            if let Some(delivery) = event.push_to(producer, preparation?, !future.is_null(), deadline)? {
                handle::write(delivery, future);
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn push_many(
    producer: *const octopus_producer,
    events: *const octopus_push_args,
    count: u64,
    futures: *mut *mut octopus_future,
    pushed: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.push_many(producer, events, count, futures, pushed, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call, the
    // arrays for `count` elements (contract of the slot).
    unsafe {
        let mut remaining = RemainingEvents { events, next: 0, count };
        call(producer, error, move |producer: &Arc<Producer>| {
            check_output(pushed, "pushed")?;
            check_optional_output(futures, "futures")?;
            pushed.write(0);
            let mut began = None;
            for index in 0..count {
                let (event, preparation) = remaining.take_next()?;
                let deadline = event.deadline(|| *began.get_or_insert_with(Instant::now));
                if let Some(delivery) = event.push_to(producer, preparation, !futures.is_null(), deadline)? {
                    handle::write(delivery, futures.add(index as usize));
                }
                pushed.write(index + 1);
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn flush(
    producer: *const octopus_producer,
    future: *mut *mut octopus_future,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.flush(producer, future, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(producer, error, |producer: &Arc<Producer>| {
            check_optional_output(future, "future")?;
            let flush = producer.flush()?;
            if !future.is_null() {
                handle::write(flush, future);
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn max_event_size(
    producer: *const octopus_producer,
    bytes: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.max_event_size(producer, bytes, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(producer, error, |producer: &Arc<Producer>| {
            check_output(bytes, "bytes")?;
            bytes.write(producer.max_event_size()?);
            Ok(())
        })
    }
}

unsafe extern "C" fn close(
    producer: *const octopus_producer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.close(producer, timeout_ms, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(producer, error, |producer: &Arc<Producer>| producer.close(Deadline::from_millis(timeout_ms))) }
}

unsafe extern "C" fn release(producer: *mut octopus_producer) {
    forward!((); producer.release(producer));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<Producer>>(producer) };
}

unsafe extern "C" fn record_format(
    producer: *const octopus_producer,
    format: *mut u32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.record_format(producer, format, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(producer, error, |producer: &Arc<Producer>| {
            check_output(format, "format")?;
            format.write(match producer.format() {
                None => OCTOPUS_RECORD_DIASPORA,
                Some(ValueFormat::Json) => OCTOPUS_RECORD_JSON,
                Some(ValueFormat::Bytes) => OCTOPUS_RECORD_BYTES,
            });
            Ok(())
        })
    }
}

/// The events of an array that were not pushed yet. The plugin owns their preparations too, so
/// dropping this destroys them.
struct RemainingEvents {
    events: *const octopus_push_args,
    next: u64,
    count: u64,
}

impl RemainingEvents {
    /// # Safety
    /// The array is NULL, or has `count` elements of one size, which live during this call.
    unsafe fn take_next(&mut self) -> Result<(octopus_push_args, Option<Box<HostPreparation>>)> {
        // SAFETY: the array is NULL or has more than `next` elements (fn contract).
        let event = unsafe { octopus_push_args::element(self.events, self.next, "events") }?;
        self.next += 1;
        // SAFETY: the preparation of an element is NULL or readable (contract of the slot).
        Ok((event, unsafe { HostPreparation::take(event.preparation) }?))
    }
}

impl Drop for RemainingEvents {
    fn drop(&mut self) {
        while self.next < self.count {
            let before = self.next;
            // SAFETY: `push_many` created `self` and drops it, during the call for which the array
            // is valid.
            if unsafe { self.take_next() }.is_err() && self.next == before {
                return; // the array can't be read
            }
        }
    }
}
