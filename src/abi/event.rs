//! The event's slots: arguments in, one call to [`crate::event`], the result out.

use super::args::{Growing, octopus_bytes, octopus_text};
use super::error::octopus_error;
use super::forked_child::forward;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::status::octopus_status;
use crate::event::{Event, SharedEvent};

/// An event as it was read.
pub struct octopus_event {
    _private: [u8; 0],
}

handle!(Event, octopus_event, "event");

/// The id of the event that marks the end of a topic.
pub const OCTOPUS_EVENT_ID_END_OF_TOPIC: u64 = u64::MAX;
const _: () = assert!(OCTOPUS_EVENT_ID_END_OF_TOPIC == crate::event::NO_MORE_EVENTS);

/// What an event holds; the pointers are valid until the event is released.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_event_view {
    /// `sizeof(octopus_event_view)`, set by the host before the call.
    pub size: u64,
    /// The metadata as JSON; NULL when the topic's serializer is one that only the host has.
    pub metadata: octopus_text,
    /// The metadata as the serializer wrote it.
    pub serialized_metadata: octopus_bytes,
    /// The data, in one piece.
    pub data: octopus_bytes,
    /// The offset in the partition, or `OCTOPUS_EVENT_ID_END_OF_TOPIC`.
    pub id: u64,
    /// Milliseconds since 1970 by the producer's or the broker's clock; -1 when the record has none.
    pub timestamp_ms: i64,
    /// The partition that it was read from.
    pub partition: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are NULL pointers and numbers.
unsafe impl Growing for octopus_event_view {}

/// Events. Functions may be called from any thread, also at the same time. An event stays valid whatever happens to
/// its consumer; one of more than 1 KiB keeps the fetch response that it came in, and with it the consumer's client.
/// Every function but `retain` and `release` may return `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_FORKED` and
/// `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_event_api {
    /// `sizeof(octopus_event_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Writes what the event holds, as many bytes as `view->size` says.
    pub view: Option<
        unsafe extern "C" fn(
            event: *const octopus_event,
            view: *mut octopus_event_view,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Says that this event and all before it in its partition are done with: a consumer of the same name created
    /// later starts after it. Acknowledging an earlier one afterwards changes nothing. Returns at once; committed
    /// within a second. `OCTOPUS_STALE` when the partition was taken away since the event was read.
    pub acknowledge:
        Option<unsafe extern "C" fn(event: *const octopus_event, error: *mut *mut octopus_error) -> octopus_status>,
    /// One release more is needed. NULL does nothing.
    pub retain: Option<unsafe extern "C" fn(event: *const octopus_event)>,
    /// Gives the handle back, and what views point to. NULL does nothing.
    pub release: Option<unsafe extern "C" fn(event: *mut octopus_event)>,
}

pub static EVENT: octopus_event_api = octopus_event_api {
    size: size_of::<octopus_event_api>() as u64,
    view: Some(view),
    acknowledge: Some(acknowledge),
    retain: Some(retain),
    release: Some(release),
};

unsafe extern "C" fn view(
    event: *const octopus_event,
    view: *mut octopus_event_view,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); event.view(event, view, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(event, error, |event: &SharedEvent| {
            let filled = octopus_event_view {
                size: size_of::<octopus_event_view>() as u64,
                metadata: event.metadata().map_or(octopus_text::EMPTY, octopus_text::view),
                serialized_metadata: octopus_bytes::view(event.serialized_metadata()),
                data: octopus_bytes::view(event.data()),
                id: event.id(),
                timestamp_ms: event.timestamp_ms(),
                partition: event.partition(),
                reserved: 0,
            };
            filled.write(view, "view")
        })
    }
}

unsafe extern "C" fn acknowledge(event: *const octopus_event, error: *mut *mut octopus_error) -> octopus_status {
    forward!(refuse(error); event.acknowledge(event, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe { call(event, error, |event: &SharedEvent| event.acknowledge()) }
}

unsafe extern "C" fn retain(event: *const octopus_event) {
    forward!((); event.retain(event));
    // SAFETY: NULL or a live handle.
    unsafe { handle::retain::<SharedEvent>(event) };
}

unsafe extern "C" fn release(event: *mut octopus_event) {
    forward!((); event.release(event));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<SharedEvent>(event) };
}
