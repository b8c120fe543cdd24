//! The slots of consumers. Each one checks its arguments and makes one call into
//! [`Consumer`].

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use super::{OCTOPUS_OFFSET_NONE, OCTOPUS_PROCESS_CONTINUE, OCTOPUS_PROCESS_STOP, octopus_consumer, octopus_processor};
use crate::abi::args::{check_output, read_fixed};
use crate::abi::callback::Owned;
use crate::abi::error_handle::octopus_error;
use crate::abi::event::octopus_event;
use crate::abi::forked_child::forward;
use crate::abi::future::octopus_future;
use crate::abi::guard::{call, refuse};
use crate::abi::handle::{self};
use crate::abi::status::octopus_status;
use crate::abi::thread_pool::octopus_thread_pool;
use crate::client::consumer::Consumer;
use crate::client::consumer::processing::{Bounds, Flow};
use crate::event::SharedEvent;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind};
use crate::support::process_exit;
use crate::support::thread_pool::ThreadPool;
use std::sync::Arc;

pub(super) unsafe extern "C" fn pull(
    consumer: *const octopus_consumer,
    future: *mut *mut octopus_future,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.pull(consumer, future, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(future, "future")?;
            handle::write(Arc::new(consumer.pull()?), future);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn pull_many(
    consumer: *const octopus_consumer,
    max_events: u64,
    timeout_ms: i64,
    events: *mut *mut octopus_event,
    count: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.pull_many(consumer, max_events, timeout_ms, events, count, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call, the
    // array for `max_events` elements (contract of the slot).
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(count, "count")?;
            if max_events > 0 {
                check_output(events, "events")?;
            }
            let taken = consumer.pull_many(max_events, Deadline::from_millis(timeout_ms))?;
            count.write(taken.len() as u64);
            for (index, event) in taken.into_iter().enumerate() {
                handle::write(event, events.add(index));
            }
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn process(
    consumer: *const octopus_consumer,
    processor: *const octopus_processor,
    timeout_ms: i64,
    max_events: u64,
    pool: *const octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.process(consumer, processor, timeout_ms, max_events, pool, error));
    // SAFETY: the handles are NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot). The plugin owns the processor before anything can fail.
    unsafe {
        let processor = read_fixed(processor, "processor")
            .map(|given| given.map(|p| (p.function, Owned { context: p.context, destroy: p.destroy })));
        call(consumer, error, move |consumer: &Arc<Consumer>| {
            let Some((Some(function), owned)) = processor? else {
                return Err(Error::invalid("processor: NULL where a function is needed"));
            };
            let processor = move |event: Option<&SharedEvent>| {
                let owned = &owned;
                if process_exit::has_begun() {
                    return Ok(Flow::Stop);
                }
                let event = event.map_or(std::ptr::null_mut(), |event| event.as_ptr().cast_mut().cast());
                // SAFETY: function and context are the host's, and `owned` keeps the context from
                // being destroyed; the event lives during the call.
                match function(owned.context, event) {
                    OCTOPUS_PROCESS_CONTINUE => Ok(Flow::Continue),
                    OCTOPUS_PROCESS_STOP => Ok(Flow::Stop),
                    other => Err(Error::new(Kind::HostCallback, format!("the processor failed: it returned {other}"))),
                }
            };
            let pool = if pool.is_null() { None } else { Some(handle::borrow::<Arc<ThreadPool>>(pool)?) };
            consumer.process(Box::new(processor), Bounds { timeout_ms, max_events }, pool.as_deref().map(|p| &**p))
        })
    }
}

pub(super) unsafe extern "C" fn commit(
    consumer: *const octopus_consumer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.commit(consumer, timeout_ms, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.commit(Deadline::from_millis(timeout_ms))) }
}

pub(super) unsafe extern "C" fn position(
    consumer: *const octopus_consumer,
    partition: u32,
    offset: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.position(consumer, partition, offset, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(offset, "offset")?;
            offset.write(consumer.position(partition)?);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn committed(
    consumer: *const octopus_consumer,
    partition: u32,
    offset: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.committed(consumer, partition, offset, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(offset, "offset")?;
            offset.write(consumer.committed(partition)?.unwrap_or(OCTOPUS_OFFSET_NONE));
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn lag(
    consumer: *const octopus_consumer,
    partition: u32,
    events: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.lag(consumer, partition, events, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(events, "events")?;
            events.write(consumer.lag(partition)?);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn seek(
    consumer: *const octopus_consumer,
    partition: u32,
    offset: u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.seek(consumer, partition, offset, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.seek(partition, offset)) }
}

pub(super) unsafe extern "C" fn assignment(
    consumer: *const octopus_consumer,
    partitions: *mut u32,
    capacity: u64,
    count: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.assignment(consumer, partitions, capacity, count, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(count, "count")?;
            if capacity > 0 {
                check_output(partitions, "partitions")?;
            }
            let assigned = consumer.assignment()?;
            for (index, partition) in assigned.iter().take(usize::try_from(capacity).unwrap_or(usize::MAX)).enumerate()
            {
                partitions.add(index).write(*partition);
            }
            count.write(assigned.len() as u64);
            Ok(())
        })
    }
}

pub(super) unsafe extern "C" fn unsubscribe(
    consumer: *const octopus_consumer,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.unsubscribe(consumer, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.unsubscribe()) }
}

pub(super) unsafe extern "C" fn close(
    consumer: *const octopus_consumer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.close(consumer, timeout_ms, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.close(Deadline::from_millis(timeout_ms))) }
}

pub(super) unsafe extern "C" fn release(consumer: *mut octopus_consumer) {
    forward!((); consumer.release(consumer));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<Consumer>>(consumer) };
}
