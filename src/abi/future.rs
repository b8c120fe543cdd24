//! ABI slots of futures. Each slot validates its arguments, makes one call into
//! `crate::delivery::future` and converts the result.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::ffi::c_void;
use std::sync::Arc;

use super::args::{check_output, read_fixed};
use super::callback::{Owned, octopus_destroy_fn};
use super::error_handle::octopus_error;
use super::event::octopus_event;
use super::forked_child::forward;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::status::{OCTOPUS_END_OF_TOPIC, OCTOPUS_OK, octopus_status};
use crate::delivery::future::Future;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Result};

/// The future result of a push, a flush or a pull.
///
/// `octopus_producer_api::push`, `octopus_producer_api::flush` and `octopus_consumer_api::pull`
/// create it.
///
/// @since 0.1
pub struct octopus_future {
    _private: [u8; 0],
}

handle!(Future, octopus_future, "future");

/// Event id: the event is stored, but its offset is unknown, because the broker's first response
/// was lost.
pub const OCTOPUS_EVENT_ID_UNKNOWN: u64 = u64::MAX - 1;

/// A function that the plugin calls when a future completes.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_completion {
    /// Called once, when the future has its result.
    ///
    /// @param context The `context` of this struct.
    /// @param future The future, valid during the call. `wait`, `test` and the getters return its
    /// result at once. To keep it, retain it.
    /// @note Called on a plugin thread, never within `on_complete`. The completions of all pushes
    /// and flushes of the process share one thread, the pulls of each consumer have another one: a
    /// slow function delays those after it. It may push, pull and register completions; functions
    /// that would wait return `OCTOPUS_WOULD_DEADLOCK`. It must not unwind.
    pub function: Option<unsafe extern "C" fn(context: *mut c_void, future: *mut octopus_future)>,
    /// Passed to `function` and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// Functions of futures.
///
/// Any thread may call them, several threads also at the same time; the last `release` must be the
/// last use of the handle. A result can be read any number of times. A getter that the kind of
/// future does not have returns `OCTOPUS_INVALID_ARGUMENT`.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_future_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Waits for the result.
    ///
    /// Waiting for a push or a flush sends the events that linger in that producer now. If it
    /// fails, the status is one of `octopus_producer_api::push`, or `OCTOPUS_UNKNOWN_TOPIC`;
    /// `octopus_error_api::persisted` says whether a failed event may be stored.
    ///
    /// A pull takes the next event inside this call. It can also return:
    /// - `OCTOPUS_END_OF_TOPIC`, `OCTOPUS_MALFORMED_RECORD`, `OCTOPUS_RECORDS_LOST`,
    ///   `OCTOPUS_DAMAGED_DATA`, or `OCTOPUS_CALLBACK_FAILED` if the host's serializer failed:
    ///   these are results, which the future keeps; the next pull continues
    /// - `OCTOPUS_UNREACHABLE`, `OCTOPUS_UNKNOWN_TOPIC`, `OCTOPUS_TOO_LARGE`, `OCTOPUS_KAFKA`:
    ///   these errors persist until their cause is removed; waiting again may succeed
    /// - `OCTOPUS_CLOSED` if the consumer was closed
    ///
    /// @param future The future.
    /// @param timeout_ms The longest time to wait, in milliseconds; negative: no limit; 0: do not
    /// wait.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return One of:
    /// - `OCTOPUS_OK` if the event was delivered, everything was flushed, or an event was read
    /// - `OCTOPUS_TIMED_OUT` if there is no result yet
    /// - `OCTOPUS_UNREACHABLE` if no broker could be reached yet; waiting again may succeed
    /// - `OCTOPUS_WOULD_DEADLOCK` if the function would wait on a plugin thread, or in a task of
    ///   the pool that has to prepare the event
    ///
    /// @note Blocks until there is a result, at most `timeout_ms`.
    pub wait: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns whether `wait` would return at once.
    ///
    /// A pull takes the next event inside this call, if there is one. If the future is released
    /// before the host gets the event, another pull gets it.
    ///
    /// @param future The future.
    /// @param completed Receives 1 if `wait` would return at once, else 0.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub test: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            completed: *mut i32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Registers a function that is called once, when there is a result.
    ///
    /// Several functions may be registered. The plugin keeps the future until the call, so the host
    /// can release it at once. A pull takes its event, or its error, when the call begins, and
    /// keeps it; if its consumer is closed before, the result is `OCTOPUS_CLOSED`.
    ///
    /// @param future The future.
    /// @param completion The function. The plugin takes ownership, even if this call fails: it
    /// calls `destroy` once.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub on_complete: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            completion: *const octopus_completion,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the id of the event that was pushed or pulled.
    ///
    /// @param future The future of a push or a pull.
    /// @param id Receives the offset of the event, `OCTOPUS_EVENT_ID_UNKNOWN`, or
    /// `OCTOPUS_EVENT_ID_END_OF_TOPIC`.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_WOULD_BLOCK` if there is no result yet
    /// - The status of `wait` if the push or the pull failed
    ///
    /// @note Does not block.
    pub event_id: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            id: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the partition of the event that was pushed or pulled.
    ///
    /// @param future The future of a push or a pull.
    /// @param partition Receives the partition.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return The statuses of `event_id`.
    /// @note Does not block.
    pub partition: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            partition: *mut u32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the event that was pulled.
    ///
    /// @param future The future of a pull.
    /// @param event Receives a new reference to the event, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return The statuses of `event_id`.
    /// @note Does not block.
    pub event: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            event: *mut *mut octopus_event,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Adds a reference, which requires one more `release`.
    ///
    /// @param future The future; NULL has no effect.
    pub retain: Option<unsafe extern "C" fn(future: *const octopus_future)>,
    /// Releases a reference. A push or a flush continues; a pull that took no event has no effect.
    ///
    /// @param future The future; NULL has no effect.
    pub release: Option<unsafe extern "C" fn(future: *mut octopus_future)>,
}

pub static FUTURE: octopus_future_api = octopus_future_api {
    size: size_of::<octopus_future_api>() as u64,
    wait: Some(wait),
    test: Some(test),
    on_complete: Some(on_complete),
    event_id: Some(event_id),
    partition: Some(partition),
    event: Some(event),
    retain: Some(retain),
    release: Some(release),
};

unsafe extern "C" fn wait(
    future: *const octopus_future,
    timeout_ms: i64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); future.wait(future, timeout_ms, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(future, error, |future: &Arc<Future>| {
            future.try_result().unwrap_or_else(|| future.wait(Deadline::from_millis(timeout_ms)))?;
            Ok(if future.is_end_of_topic() { OCTOPUS_END_OF_TOPIC } else { OCTOPUS_OK })
        })
    }
}

unsafe extern "C" fn test(
    future: *const octopus_future,
    completed: *mut i32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); future.test(future, completed, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(future, error, |future: &Arc<Future>| {
            check_output(completed, "completed")?;
            completed.write(future.test().into());
            Ok(())
        })
    }
}

unsafe extern "C" fn on_complete(
    future: *const octopus_future,
    completion: *const octopus_completion,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); future.on_complete(future, completion, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot). The plugin owns the completion before anything can fail.
    unsafe {
        let completion = read_fixed(completion, "completion")
            .map(|given| given.map(|c| (c.function, Owned { context: c.context, destroy: c.destroy })));
        call(future, error, move |future: &Arc<Future>| {
            let Some((Some(function), owned)) = completion? else {
                return Err(Error::invalid("completion: NULL where a function is needed"));
            };
            future.on_complete(move |future| {
                let owned = owned;
                // SAFETY: function and context are the host's, and `owned` keeps the context from
                // being destroyed; the future lives during the call.
                function(owned.context, Arc::as_ptr(future).cast_mut().cast());
            })
        })
    }
}

unsafe extern "C" fn event_id(
    future: *const octopus_future,
    id: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); future.event_id(future, id, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(future, error, |future: &Arc<Future>| {
            check_output(id, "id")?;
            id.write(future.delivered()?.offset.unwrap_or(OCTOPUS_EVENT_ID_UNKNOWN));
            Ok(())
        })
    }
}

unsafe extern "C" fn partition(
    future: *const octopus_future,
    partition: *mut u32,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); future.partition(future, partition, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(future, error, |future: &Arc<Future>| {
            check_output(partition, "partition")?;
            partition.write(future.delivered()?.partition);
            Ok(())
        })
    }
}

unsafe extern "C" fn event(
    future: *const octopus_future,
    event: *mut *mut octopus_event,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); future.event(future, event, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(future, error, |future: &Arc<Future>| -> Result<()> {
            check_output(event, "event")?;
            handle::write(future.event()?, event);
            Ok(())
        })
    }
}

unsafe extern "C" fn retain(future: *const octopus_future) {
    forward!((); future.retain(future));
    // SAFETY: NULL or a live handle (contract of the slot).
    unsafe { handle::retain::<Arc<Future>>(future) };
}

unsafe extern "C" fn release(future: *mut octopus_future) {
    forward!((); future.release(future));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<Future>>(future) };
}
