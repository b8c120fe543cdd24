//! The producer's slots: arguments in, one call to [`crate::producer`], the result out.

use std::sync::Arc;

use super::args::{Growing, check_output, check_wanted, octopus_bytes, read_array};
use super::error::octopus_error;
use super::forked_child::forward;
use super::future::octopus_future;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::preparation::{HostPreparation, octopus_preparation};
use super::status::octopus_status;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::future::Future;
use crate::json;
use crate::producer::{NewEvent, Producer};
use crate::record::{EventRecord, Metadata};

/// Pushes events into one topic.
pub struct octopus_producer {
    _private: [u8; 0],
}

handle!(Producer, octopus_producer, "producer");

/// One event. Its bytes are copied before push returns. The largest event and how many may be in flight are set by
/// `kafka.message.max.bytes`, `kafka.queue.buffering.max.messages` and `kafka.queue.buffering.max.kbytes`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_push_args {
    /// `sizeof(octopus_push_args)`, set by the host.
    pub size: u64,
    /// JSON in UTF-8, or, with `metadata_is_serialized`, the bytes that a serializer of the host made of it.
    /// `(NULL, 0)`: `{}`.
    pub metadata: octopus_bytes,
    /// The data, in one or several pieces that are put together in order; may be `(NULL, 0)`.
    pub segments: *const octopus_bytes,
    /// The number of `segments`.
    pub segment_count: u64,
    /// The partition asked for, if `has_partition` is not 0; the topic's selector decides.
    pub partition: u64,
    /// Not 0: `partition` is asked for.
    pub has_partition: u32,
    /// Not 0: `metadata` goes into the record as it is.
    pub metadata_is_serialized: u32,
    /// NULL, or how the host makes the event ready itself: then `metadata` is `(NULL, 0)`. Taken over, also when the push
    /// fails: its `destroy` is called once.
    pub preparation: *const octopus_preparation,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are empty slices and numbers.
unsafe impl Growing for octopus_push_args {}

/// Producers. Functions may be called from any thread, also at the same time.
/// Every function but `release` may return `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_CLOSED`, `OCTOPUS_FORKED` and
/// `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_producer_api {
    /// `sizeof(octopus_producer_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Queues one event for delivery and returns at once; waits only while no room is left, at most the driver's
    /// `timeout_ms` (then `OCTOPUS_UNREACHABLE`). On a thread of the plugin it never waits but returns
    /// `OCTOPUS_WOULD_BLOCK`. `future` may be NULL when the host doesn't want to hear of the delivery; the event is
    /// sent all the same, and a flush counts it. An event refused here was not queued: `OCTOPUS_TOO_LARGE`,
    /// `OCTOPUS_INVALID_METADATA`, `OCTOPUS_COMPONENT`, `OCTOPUS_KAFKA`.
    pub push: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            event: *const octopus_push_args,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Queues `count` events in order, as push does. All elements of `events` have the same `size`, which is how far they
    /// are apart. Stops at the first that is refused, with its status. Writes how many were queued to `pushed`, also
    /// when it stops, and so many futures to `futures` unless that is NULL. Takes over the preparations of all of them.
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
    /// Sends what lingers, now, waited on or not. The future ends when everything pushed before is delivered or has
    /// failed: with success, or with an error that counts the failures since the flush before and tells the first.
    /// `future` may be NULL.
    pub flush: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The largest event that push takes: bytes of metadata and data together.
    pub max_event_size: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            bytes: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Takes no more events, and waits at most `timeout_ms` milliseconds (negative: for ever) until those in flight
    /// are delivered or have failed; the error is a flush's. After `OCTOPUS_TIMED_OUT` they are still being
    /// delivered in the background. `OCTOPUS_WOULD_DEADLOCK` on a thread of the plugin.
    pub close: Option<
        unsafe extern "C" fn(
            producer: *const octopus_producer,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Gives the handle back and returns at once. Without close before, what is in flight is delivered in the
    /// background, at most for `kafka.delivery.timeout.ms`. When the process exits it waits for that, at most for the
    /// driver's `exit_flush_ms`. NULL does nothing.
    pub release: Option<unsafe extern "C" fn(producer: *mut octopus_producer)>,
}

pub static PRODUCER: octopus_producer_api = octopus_producer_api {
    size: size_of::<octopus_producer_api>() as u64,
    push: Some(push),
    push_many: Some(push_many),
    flush: Some(flush),
    max_event_size: Some(max_event_size),
    close: Some(close),
    release: Some(release),
};

unsafe extern "C" fn push(
    producer: *const octopus_producer,
    event: *const octopus_push_args,
    future: *mut *mut octopus_future,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.push(producer, event, future, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live. What is taken over is so before
    // anything can fail.
    unsafe {
        let event = octopus_push_args::read(event, "event");
        let preparation = event.as_ref().map_or(Ok(None), |event| HostPreparation::take(event.preparation));
        call(producer, error, |producer: &Arc<Producer>| {
            let event = event.as_ref().map_err(Clone::clone)?;
            check_wanted(future, "future")?;
            if let Some(delivery) = event.push_to(producer, preparation?, !future.is_null())? {
                handle::give(delivery, future);
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
    // SAFETY: pointers are NULL or valid during this call, the arrays for `count` elements; the handle is live.
    unsafe {
        let mut unpushed = Unpushed { events, next: 0, count };
        call(producer, error, move |producer: &Arc<Producer>| {
            check_output(pushed, "pushed")?;
            check_wanted(futures, "futures")?;
            pushed.write(0);
            for index in 0..count {
                let (event, preparation) = unpushed.take_next()?;
                if let Some(delivery) = event.push_to(producer, preparation, !futures.is_null())? {
                    handle::give(delivery, futures.add(index as usize));
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(producer, error, |producer: &Arc<Producer>| {
            check_wanted(future, "future")?;
            let flush = producer.flush()?;
            if !future.is_null() {
                handle::give(flush, future);
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(producer, error, |producer: &Arc<Producer>| producer.close(Deadline::from_millis(timeout_ms))) }
}

unsafe extern "C" fn release(producer: *mut octopus_producer) {
    forward!((); producer.release(producer));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Arc<Producer>>(producer) };
}

/// The events of an array that no push was tried of; their preparations are the plugin's all the same.
struct Unpushed {
    events: *const octopus_push_args,
    next: u64,
    count: u64,
}

impl Unpushed {
    /// # Safety
    /// The array is NULL or has `count` elements of one size, which live during this call.
    unsafe fn take_next(&mut self) -> Result<(octopus_push_args, Option<Box<HostPreparation>>)> {
        // SAFETY: the caller's promise.
        let event = unsafe { octopus_push_args::element(self.events, self.next, "events") }?;
        self.next += 1;
        // SAFETY: as above.
        Ok((event, unsafe { HostPreparation::take(event.preparation) }?))
    }
}

impl Drop for Unpushed {
    fn drop(&mut self) {
        while self.next < self.count {
            let before = self.next;
            // SAFETY: the promise of the slot that made this and drops it.
            if unsafe { self.take_next() }.is_err() && self.next == before {
                return; // elements that can't be read
            }
        }
    }
}

impl octopus_push_args {
    /// # Safety
    /// Metadata and segments are NULL or readable during this call.
    unsafe fn push_to(
        &self,
        producer: &Producer,
        preparation: Option<Box<HostPreparation>>,
        wants_future: bool,
    ) -> Result<Option<Arc<Future>>> {
        // SAFETY: the caller's promise.
        let segments = unsafe { read_array(self.segments, self.segment_count, "event.segments") }?;
        for segment in segments {
            segment.check("event.segments")?;
        }
        let metadata = match preparation {
            // SAFETY: the caller's promise.
            None => unsafe { self.metadata() }?,
            Some(_) => self.no_metadata()?,
        };
        // SAFETY: readable by the caller's promise, and checked above.
        let record = EventRecord::new(metadata, segments.iter().map(|segment| unsafe { segment.as_checked() }));
        let partition = (self.has_partition != 0).then_some(self.partition);
        let event = NewEvent { record, partition, wants_future };
        match preparation {
            None => producer.push(&event),
            Some(preparation) => producer.push_prepared(&event, preparation),
        }
    }

    /// Of an event whose preparation makes it.
    fn no_metadata<'a>(&self) -> Result<Metadata<'a>> {
        if self.metadata.size > 0 {
            return Err(Error::invalid("event.metadata: should be empty, since event.preparation makes it"));
        }
        Ok(Metadata::Serialized(&[]))
    }

    /// # Safety
    /// The metadata is NULL or readable for as long as the result is used.
    unsafe fn metadata<'a>(&self) -> Result<Metadata<'a>> {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.metadata.read("event.metadata") }?;
        if self.metadata_is_serialized != 0 {
            return Ok(Metadata::Serialized(bytes));
        }
        if self.metadata.data.is_null() {
            return Ok(Metadata::Json("{}"));
        }
        let text = json::text(bytes).map_err(|why| {
            Error::new(
                crate::error::Kind::InvalidMetadata,
                format!("pushing an event: the metadata is not UTF-8: {why}"),
            )
        })?;
        Ok(Metadata::Json(text))
    }
}
