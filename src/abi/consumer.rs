//! The consumer's slots: arguments in, one call to [`crate::consumer`], the result out.

use std::ffi::c_void;
use std::sync::Arc;

use super::args::{check_output, read_fixed};
use super::callback::{Owned, octopus_destroy_fn};
use super::error::octopus_error;
use super::event::octopus_event;
use super::forked_child::forward;
use super::future::octopus_future;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::status::octopus_status;
use super::thread_pool::octopus_thread_pool;
use crate::consumer::Consumer;
use crate::deadline::Deadline;
use crate::error::{Error, Kind};
use crate::event::SharedEvent;
use crate::process_exit;
use crate::processing::{Bounds, Flow};
use crate::thread_pool::ThreadPool;

/// Reads the events of one topic.
pub struct octopus_consumer {
    _private: [u8; 0],
}

handle!(Consumer, octopus_consumer, "consumer");

/// No position is committed.
pub const OCTOPUS_OFFSET_NONE: u64 = u64::MAX;

/// A processor goes on.
pub const OCTOPUS_PROCESS_CONTINUE: i32 = 0;
/// A processor has had enough: `process` ends with success.
pub const OCTOPUS_PROCESS_STOP: i32 = 1;

/// Called for each event by `process`, with NULL when none came in time; the event is borrowed for the call, and can be
/// retained. Returns `OCTOPUS_PROCESS_CONTINUE`, `OCTOPUS_PROCESS_STOP`, or any other number, which ends `process` with
/// `OCTOPUS_CALLBACK_FAILED`. Called on the pool's threads, several at a time; without threads, in the caller.
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
    /// Gives a ticket for the next event and returns at once. An event is taken only inside a wait that returns it, or a
    /// test; a ticket that is released before a wait or a getter gave its event has taken nothing, or hands it back.
    pub pull: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            future: *mut *mut octopus_future,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Waits at most `timeout_ms` milliseconds (negative: for ever) for a first event, then takes what else is
    /// there, at most `max`. Writes the events, each to be released, and their number. Statuses as of a pull's wait; what
    /// stands behind events that were taken is told by the next call. A record that marks the end of a topic is among
    /// the events, with `OCTOPUS_EVENT_ID_END_OF_TOPIC` as its id.
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
    /// Feeds events to `processor`, on `pool` (NULL: the driver's default pool, so in the caller), until it says stop
    /// or fails, or was given `max_events` (2^64-1: no limit; time-outs don't count). After `timeout_ms` milliseconds
    /// without an event (negative: never) it is called with NULL. Blocks its caller, and returns when all that was
    /// submitted has ended; what was taken and not processed is pulled next. Takes `processor` over, also when it
    /// fails: `destroy` is called once. `OCTOPUS_INVALID_ARGUMENT` when another `process` is at it;
    /// `OCTOPUS_WOULD_DEADLOCK` on a thread of the plugin or of that pool; `OCTOPUS_CALLBACK_FAILED`, also when the
    /// pool refuses; what a pull's wait says in place of an event.
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
    /// driver's `timeout_ms`) for Kafka's answer. Also reports an earlier commit that failed, unless one of
    /// the same partitions has succeeded since. Not needed for
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
    /// The offset of the event that comes next in this partition. `OCTOPUS_INVALID_ARGUMENT` when the partition is not
    /// this consumer's now. This and the next four wait at most the driver's `timeout_ms` for Kafka
    /// (`OCTOPUS_UNREACHABLE`, `OCTOPUS_KAFKA`) and say `OCTOPUS_WOULD_DEADLOCK` on a thread of the plugin.
    pub position: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The offset that a consumer of this name would start at; `OCTOPUS_OFFSET_NONE` where it has none, and would
    /// start at the earliest record. Of any partition of the topic.
    pub committed: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The number of offsets from the one that comes next to the end of this partition: events that were not delivered
    /// to this consumer yet. Statuses as of `position`.
    pub lag: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            events: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Goes on at this offset of the partition. `OCTOPUS_INVALID_ARGUMENT` when the partition is not this consumer's, or
    /// has no such offset; the end itself can be sought. Moves no committed position: acknowledging an event before the
    /// last acknowledged one changes nothing.
    pub seek: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partition: u32,
            offset: u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// The partitions that are this consumer's now, in order: writes at most `capacity` of them, and their whole number.
    /// `partitions` may be NULL when `capacity` is 0.
    pub assignment: Option<
        unsafe extern "C" fn(
            consumer: *const octopus_consumer,
            partitions: *mut u32,
            capacity: u64,
            count: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Commits what was acknowledged, leaves the group, and gives target partitions up: from then on pulls say
    /// `OCTOPUS_CLOSED`, and acknowledging says `OCTOPUS_STALE`. Waits for that at most the driver's `timeout_ms`.
    /// `OCTOPUS_KAFKA` or `OCTOPUS_UNREACHABLE` when the commit failed; `OCTOPUS_WOULD_DEADLOCK`.
    pub unsubscribe: Option<
        unsafe extern "C" fn(consumer: *const octopus_consumer, error: *mut *mut octopus_error) -> octopus_status,
    >,
    /// Commits what was acknowledged, leaves the group, and waits at most `timeout_ms` milliseconds (negative: for
    /// ever) for that; then it goes on in the background. Events in the host's hands stay valid.
    /// `OCTOPUS_TIMED_OUT`; `OCTOPUS_KAFKA` or `OCTOPUS_UNREACHABLE` when a commit failed and none of
    /// the same partitions has succeeded since;
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
    pull_many: Some(pull_many),
    process: Some(process),
    commit: Some(commit),
    position: Some(position),
    committed: Some(committed),
    lag: Some(lag),
    seek: Some(seek),
    assignment: Some(assignment),
    unsubscribe: Some(unsubscribe),
    close: Some(close),
    release: Some(release),
};

unsafe extern "C" fn pull(
    consumer: *const octopus_consumer,
    future: *mut *mut octopus_future,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.pull(consumer, future, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(future, "future")?;
            handle::give(Arc::new(consumer.pull()?), future);
            Ok(())
        })
    }
}

unsafe extern "C" fn pull_many(
    consumer: *const octopus_consumer,
    max: u64,
    timeout_ms: i64,
    events: *mut *mut octopus_event,
    count: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.pull_many(consumer, max, timeout_ms, events, count, error));
    // SAFETY: pointers are NULL or valid during this call, the array for `max` elements; the handle is live.
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(count, "count")?;
            if max > 0 {
                check_output(events, "events")?;
            }
            let taken = consumer.pull_many(max, Deadline::from_millis(timeout_ms))?;
            count.write(taken.len() as u64);
            for (index, event) in taken.into_iter().enumerate() {
                handle::give(event, events.add(index));
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn process(
    consumer: *const octopus_consumer,
    processor: *const octopus_processor,
    timeout_ms: i64,
    max_events: u64,
    pool: *const octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.process(consumer, processor, timeout_ms, max_events, pool, error));
    // SAFETY: pointers are NULL or valid during this call; handles are live. The processor is taken over before
    // anything can fail.
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
                // SAFETY: the host's function and context, not destroyed yet; the event is borrowed for the call.
                match function(owned.context, event) {
                    OCTOPUS_PROCESS_CONTINUE => Ok(Flow::GoOn),
                    OCTOPUS_PROCESS_STOP => Ok(Flow::Stop),
                    other => Err(Error::new(Kind::HostCallback, format!("the processor failed: it returned {other}"))),
                }
            };
            let pool = if pool.is_null() { None } else { Some(handle::borrow::<Arc<ThreadPool>>(pool)?) };
            consumer.process(Box::new(processor), Bounds { timeout_ms, max_events }, pool.as_deref().map(|p| &**p))
        })
    }
}

unsafe extern "C" fn commit(
    consumer: *const octopus_consumer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.commit(consumer, timeout_ms, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.commit(Deadline::from_millis(timeout_ms))) }
}

unsafe extern "C" fn position(
    consumer: *const octopus_consumer,
    partition: u32,
    offset: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.position(consumer, partition, offset, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(offset, "offset")?;
            offset.write(consumer.position(partition)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn committed(
    consumer: *const octopus_consumer,
    partition: u32,
    offset: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.committed(consumer, partition, offset, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(offset, "offset")?;
            offset.write(consumer.committed(partition)?.unwrap_or(OCTOPUS_OFFSET_NONE));
            Ok(())
        })
    }
}

unsafe extern "C" fn lag(
    consumer: *const octopus_consumer,
    partition: u32,
    events: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.lag(consumer, partition, events, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(consumer, error, |consumer: &Arc<Consumer>| {
            check_output(events, "events")?;
            events.write(consumer.lag(partition)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn seek(
    consumer: *const octopus_consumer,
    partition: u32,
    offset: u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.seek(consumer, partition, offset, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.seek(partition, offset)) }
}

unsafe extern "C" fn assignment(
    consumer: *const octopus_consumer,
    partitions: *mut u32,
    capacity: u64,
    count: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.assignment(consumer, partitions, capacity, count, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
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

unsafe extern "C" fn unsubscribe(consumer: *const octopus_consumer, error: *mut *mut octopus_error) -> octopus_status {
    forward!(refuse(error); consumer.unsubscribe(consumer, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.unsubscribe()) }
}

unsafe extern "C" fn close(
    consumer: *const octopus_consumer,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); consumer.close(consumer, timeout_ms, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(consumer, error, |consumer: &Arc<Consumer>| consumer.close(Deadline::from_millis(timeout_ms))) }
}

unsafe extern "C" fn release(consumer: *mut octopus_consumer) {
    forward!((); consumer.release(consumer));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Arc<Consumer>>(consumer) };
}
