//! The slots of producers. Each one checks its arguments and makes one call into
//! [`Producer`].

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::sync::Arc;
use std::time::Instant;

use super::octopus_producer;
use crate::abi::args::{Growing, check_optional_output, check_output, read_array};
use crate::abi::consumer::octopus_consumer;
use crate::abi::error_handle::octopus_error;
use crate::abi::event::{OCTOPUS_RECORD_BYTES, OCTOPUS_RECORD_DIASPORA, OCTOPUS_RECORD_JSON};
use crate::abi::forked_child::forward;
use crate::abi::future::octopus_future;
use crate::abi::guard::{call, refuse};
use crate::abi::handle;
use crate::abi::preparation::HostPreparation;
use crate::abi::push_args::octopus_push_args;
use crate::abi::status::octopus_status;
use crate::client::consumer::Consumer;
use crate::client::producer::Producer;
use crate::config::ValueFormat;
use crate::support::deadline::Deadline;
use crate::support::error::Result;

pub(super) unsafe extern "C" fn push(
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

pub(super) unsafe extern "C" fn push_many(
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

pub(super) unsafe extern "C" fn flush(
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

pub(super) unsafe extern "C" fn max_event_size(
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

pub(super) unsafe extern "C" fn close(
    producer: *const octopus_producer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.close(producer, timeout_ms, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(producer, error, |producer: &Arc<Producer>| producer.close(Deadline::from_millis(timeout_ms))) }
}

pub(super) unsafe extern "C" fn release(producer: *mut octopus_producer) {
    forward!((); producer.release(producer));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<Producer>>(producer) };
}

pub(super) unsafe extern "C" fn record_format(
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

pub(super) unsafe extern "C" fn begin_transaction(
    producer: *const octopus_producer,
    consumers: *const *const octopus_consumer,
    count: u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.begin_transaction(producer, consumers, count, error));
    // SAFETY: the handles are NULL or live, and all pointers are NULL or valid during this call,
    // the array for `count` elements (contract of the slot).
    unsafe {
        call(producer, error, |producer: &Arc<Producer>| {
            let handles = read_array(consumers, count, "consumers")?.iter();
            let consumers =
                handles.map(|handle| handle::borrow::<Arc<Consumer>>(*handle)).collect::<Result<Vec<_>>>()?;
            let consumers: Vec<_> = consumers.iter().map(|consumer| &***consumer).collect();
            producer.begin_transaction(&consumers)
        })
    }
}

pub(super) unsafe extern "C" fn commit_transaction(
    producer: *const octopus_producer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.commit_transaction(producer, timeout_ms, error));
    let deadline = Deadline::from_millis(timeout_ms);
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(producer, error, |producer: &Arc<Producer>| producer.commit_transaction(deadline)) }
}

pub(super) unsafe extern "C" fn abort_transaction(
    producer: *const octopus_producer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); producer.abort_transaction(producer, timeout_ms, error));
    let deadline = Deadline::from_millis(timeout_ms);
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(producer, error, |producer: &Arc<Producer>| producer.abort_transaction(deadline)) }
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
