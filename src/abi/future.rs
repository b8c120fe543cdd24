//! The future's slots: arguments in, one call to [`crate::future`], the result out.

use std::ffi::c_void;
use std::sync::Arc;

use super::args::{check_output, read_fixed};
use super::callback::{Owned, octopus_destroy_fn};
use super::error::octopus_error;
use super::event::octopus_event;
use super::forked_child::forward;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::status::{OCTOPUS_END_OF_TOPIC, OCTOPUS_OK, octopus_status};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::future::Future;

/// The result of a push or a flush, or a ticket for the next event.
pub struct octopus_future {
    _private: [u8; 0],
}

handle!(Future, octopus_future, "future");

/// The id of an event that is stored at an offset which the broker did not say.
pub const OCTOPUS_EVENT_ID_UNKNOWN: u64 = u64::MAX - 1;

/// Called once when the future ends, on a thread of the plugin, never within the registering call. `future` is borrowed
/// for the call: wait, test and the getters tell its result at once, and it can be retained. A callback may push, and
/// pull and register again; what would wait says `OCTOPUS_WOULD_DEADLOCK`. Pushes and flushes of the whole process
/// share a thread, pulls of one consumer have another: a callback that takes long delays those after it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_completion {
    pub function: Option<unsafe extern "C" fn(context: *mut c_void, future: *mut octopus_future)>,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// Futures. Functions may be called from any thread, also at the same time; results can be asked for repeatedly.
/// Every function but `retain` and `release` may return `OCTOPUS_INVALID_ARGUMENT` (a getter of another kind of
/// future, too), `OCTOPUS_FORKED` and `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_future_api {
    /// `sizeof(octopus_future_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Waits at most `timeout_ms` milliseconds (negative: for ever, 0: not at all) for the result and returns its
    /// status: `OCTOPUS_OK`, or the failure of the push, with whether the event may be stored; of a pull
    /// `OCTOPUS_END_OF_TOPIC`, `OCTOPUS_MALFORMED_RECORD`, `OCTOPUS_RECORDS_LOST`, `OCTOPUS_CLOSED`, or what keeps
    /// events from coming. `OCTOPUS_TIMED_OUT`: no result yet. `OCTOPUS_WOULD_DEADLOCK` on a thread of the plugin.
    pub wait: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            timeout_ms: i64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Writes 1 if wait would return at once, else 0. Never blocks. A pull takes its event here if one is there.
    pub test: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            completed: *mut i32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Has `completion` called once when the result is there; may be asked for several times. Takes the completion
    /// over, also when it fails: `destroy` is called once. Until the call the plugin keeps the future: it can be
    /// released at once. A pull takes its event, or what there is in place of one, as the call begins, and keeps it;
    /// when its consumer ends before, it is called with `OCTOPUS_CLOSED`.
    pub on_complete: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            completion: *const octopus_completion,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Of a push or pull: the event's id, which is its offset, `OCTOPUS_EVENT_ID_UNKNOWN` or
    /// `OCTOPUS_EVENT_ID_END_OF_TOPIC`. `OCTOPUS_WOULD_BLOCK` while there is no result; a failure is wait's.
    pub event_id: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            id: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Of a push or pull: the partition that the event is in. Statuses as of `event_id`.
    pub partition: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            partition: *mut u32,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Of a pull: the event, to be released. Statuses as of `event_id`.
    pub event: Option<
        unsafe extern "C" fn(
            future: *const octopus_future,
            event: *mut *mut octopus_event,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// One release more is needed. NULL does nothing.
    pub retain: Option<unsafe extern "C" fn(future: *const octopus_future)>,
    /// Gives the handle back; a push or flush goes on. NULL does nothing.
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(future, error, |future: &Arc<Future>| {
            future.look().unwrap_or_else(|| future.wait(Deadline::from_millis(timeout_ms)))?;
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live. The completion is taken over before
    // anything can fail.
    unsafe {
        let completion = read_fixed(completion, "completion")
            .map(|given| given.map(|c| (c.function, Owned { context: c.context, destroy: c.destroy })));
        call(future, error, move |future: &Arc<Future>| {
            let Some((Some(function), owned)) = completion? else {
                return Err(Error::invalid("completion: NULL where a function is needed"));
            };
            future.on_complete(move |future| {
                let owned = owned;
                // SAFETY: the host's function and context, called once and not destroyed yet; the future is borrowed.
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
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
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(future, error, |future: &Arc<Future>| -> Result<()> {
            check_output(event, "event")?;
            handle::give(future.event()?, event);
            Ok(())
        })
    }
}

unsafe extern "C" fn retain(future: *const octopus_future) {
    forward!((); future.retain(future));
    // SAFETY: NULL or a live handle.
    unsafe { handle::retain::<Arc<Future>>(future) };
}

unsafe extern "C" fn release(future: *mut octopus_future) {
    forward!((); future.release(future));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Arc<Future>>(future) };
}
