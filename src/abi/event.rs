//! ABI slots of events. Each slot validates its arguments, makes one call into `crate::event` and
//! converts the result.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use super::args::{Growing, check_output, octopus_bytes, octopus_text};
use super::error_handle::octopus_error;
use super::forked_child::forward;
use super::guard::{call, refuse};
use super::handle::{self, handle};
use super::status::octopus_status;
use crate::event::{Event, RecordFormat, SharedEvent};
use crate::record::TimestampType;
use crate::support::error::Error;

/// An event that a consumer read.
///
/// @since 0.1
pub struct octopus_event {
    _private: [u8; 0],
}

handle!(Event, octopus_event, "event");

/// Event id: the event marks the end of its topic, and has neither metadata nor data.
pub const OCTOPUS_EVENT_ID_END_OF_TOPIC: u64 = u64::MAX;
const _: () = assert!(OCTOPUS_EVENT_ID_END_OF_TOPIC == crate::event::NO_MORE_EVENTS);

/// A record of Octopus: metadata as the topic's serializer wrote it, and data.
pub const OCTOPUS_RECORD_DIASPORA: u32 = 0;
/// A record whose value is JSON, which is the metadata, and `serialized_metadata`, too. There is no
/// data.
pub const OCTOPUS_RECORD_JSON: u32 = 1;
/// A record whose value is the data. The metadata is `null`, and `serialized_metadata` is empty.
pub const OCTOPUS_RECORD_BYTES: u32 = 2;
/// A record without a value (a tombstone), which deletes its key in a topic that is compacted. The
/// metadata is `null`, and there is no data.
pub const OCTOPUS_RECORD_TOMBSTONE: u32 = 3;

/// The content of an event.
///
/// Its pointers are valid until the last reference to the event is released.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_event_view {
    /// `sizeof(octopus_event_view)`, set by the host before the call.
    pub size: u64,
    /// The metadata as JSON.
    ///
    /// `data` is NULL if the event marks the end of a topic, and if the plugin does not have the
    /// topic's serializer.
    pub metadata: octopus_text,
    /// The metadata as the serializer wrote it.
    pub serialized_metadata: octopus_bytes,
    /// The data, in one piece.
    pub data: octopus_bytes,
    /// The offset in the partition, or `OCTOPUS_EVENT_ID_END_OF_TOPIC`.
    pub id: u64,
    /// The timestamp of the producer or the broker, in milliseconds since 1970-01-01 UTC; -1 if the
    /// record has none.
    pub timestamp_ms: i64,
    /// The partition that the event was read from.
    pub partition: u32,
    /// The format of the record: one of `OCTOPUS_RECORD_…`. Only with the option `records`, of the
    /// consumer or the driver, are there others than `OCTOPUS_RECORD_DIASPORA`.
    pub record_format: u32,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are NULL pointers and numbers.
unsafe impl Growing for octopus_event_view {}

/// The timestamp type of a record without a timestamp.
pub const OCTOPUS_TIMESTAMP_MISSING: u32 = 0;
/// The producer set the timestamp.
pub const OCTOPUS_TIMESTAMP_CREATE: u32 = 1;
/// The broker set the timestamp, when it stored the record.
pub const OCTOPUS_TIMESTAMP_LOG_APPEND: u32 = 2;

/// What a record has beside its value.
///
/// Its pointers are valid until the last reference to the event is released.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_event_attributes {
    /// `sizeof(octopus_event_attributes)`, set by the host before the call.
    pub size: u64,
    /// The key. `data` is NULL if the record has none, and not NULL if the key is empty.
    pub key: octopus_bytes,
    /// The number of headers; `octopus_event_api::header` returns each of them.
    pub header_count: u64,
    /// Who set the timestamp: one of `OCTOPUS_TIMESTAMP_…`.
    pub timestamp_type: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are NULL pointers and numbers.
unsafe impl Growing for octopus_event_attributes {}

/// A header of a record. Several headers may have the same name.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_header {
    /// The name. That of a push is not empty and has no NUL; other programs may write empty ones.
    pub name: octopus_text,
    /// The value. `data` is NULL if the header has none, and not NULL if the value is empty.
    pub value: octopus_bytes,
}

/// Functions of events.
///
/// Any thread may call them, several threads also at the same time; the last `release` must be the
/// last use of the handle. None of them blocks. An event stays valid after its consumer is closed
/// or released. An event whose record is larger than 1 KiB keeps its fetch response, and thereby
/// the consumer's client, in memory; so release events soon.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_event_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Returns the content of the event.
    ///
    /// @param event The event.
    /// @param view Receives the content: as many bytes as `view->size` says, which the host sets
    /// before.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    pub view: Option<
        unsafe extern "C" fn(
            event: *const octopus_event,
            view: *mut octopus_event_view,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Acknowledges this event and all events before it in its partition.
    ///
    /// A consumer of the same name that is created later starts after it. Acknowledging an earlier
    /// event afterwards has no effect. The plugin commits acknowledged events once a second, and on
    /// `octopus_consumer_api::commit`.
    ///
    /// @param event The event.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_STALE` if the partition was revoked since the event was read, or the consumer has
    ///   left the group
    pub acknowledge:
        Option<unsafe extern "C" fn(event: *const octopus_event, error: *mut *mut octopus_error) -> octopus_status>,
    /// Adds a reference, which requires one more `release`.
    ///
    /// @param event The event; NULL has no effect.
    pub retain: Option<unsafe extern "C" fn(event: *const octopus_event)>,
    /// Releases a reference. The last release ends the validity of views of the event.
    ///
    /// @param event The event; NULL has no effect.
    pub release: Option<unsafe extern "C" fn(event: *mut octopus_event)>,
    /// Returns the key of the event's record, the number of its headers, and who set its timestamp.
    ///
    /// @param event The event.
    /// @param attributes Receives them: as many bytes as `attributes->size` says, which the host
    /// sets before.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    pub attributes: Option<
        unsafe extern "C" fn(
            event: *const octopus_event,
            attributes: *mut octopus_event_attributes,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns a header of the event's record.
    ///
    /// @param event The event.
    /// @param index The number of the header, from 0 on, in the order of the record.
    /// @param header Receives the header. Its pointers are valid until the last reference to the
    /// event is released.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or `OCTOPUS_INVALID_ARGUMENT` if the record has no such header.
    pub header: Option<
        unsafe extern "C" fn(
            event: *const octopus_event,
            index: u64,
            header: *mut octopus_header,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
}

pub static EVENT: octopus_event_api = octopus_event_api {
    size: size_of::<octopus_event_api>() as u64,
    view: Some(view),
    acknowledge: Some(acknowledge),
    retain: Some(retain),
    release: Some(release),
    attributes: Some(attributes),
    header: Some(header),
};

unsafe extern "C" fn view(
    event: *const octopus_event,
    view: *mut octopus_event_view,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); event.view(event, view, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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
                record_format: match event.format() {
                    RecordFormat::Diaspora => OCTOPUS_RECORD_DIASPORA,
                    RecordFormat::Json => OCTOPUS_RECORD_JSON,
                    RecordFormat::Bytes => OCTOPUS_RECORD_BYTES,
                    RecordFormat::Tombstone => OCTOPUS_RECORD_TOMBSTONE,
                },
            };
            filled.write(view, "view")
        })
    }
}

unsafe extern "C" fn acknowledge(event: *const octopus_event, error: *mut *mut octopus_error) -> octopus_status {
    forward!(refuse(error); event.acknowledge(event, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe { call(event, error, |event: &SharedEvent| event.acknowledge()) }
}

unsafe extern "C" fn retain(event: *const octopus_event) {
    forward!((); event.retain(event));
    // SAFETY: NULL or a live handle (contract of the slot).
    unsafe { handle::retain::<SharedEvent>(event) };
}

unsafe extern "C" fn release(event: *mut octopus_event) {
    forward!((); event.release(event));
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<SharedEvent>(event) };
}

unsafe extern "C" fn attributes(
    event: *const octopus_event,
    attributes: *mut octopus_event_attributes,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); event.attributes(event, attributes, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(event, error, |event: &SharedEvent| {
            let filled = octopus_event_attributes {
                size: size_of::<octopus_event_attributes>() as u64,
                key: event.key().map_or(octopus_bytes::EMPTY, octopus_bytes::view),
                header_count: event.headers().len() as u64,
                timestamp_type: match event.timestamp_type() {
                    TimestampType::Missing => OCTOPUS_TIMESTAMP_MISSING,
                    TimestampType::Create => OCTOPUS_TIMESTAMP_CREATE,
                    TimestampType::LogAppend => OCTOPUS_TIMESTAMP_LOG_APPEND,
                },
                reserved: 0,
            };
            filled.write(attributes, "attributes")
        })
    }
}

unsafe extern "C" fn header(
    event: *const octopus_event,
    index: u64,
    header: *mut octopus_header,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); event.header(event, index, header, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
    unsafe {
        call(event, error, |event: &SharedEvent| {
            check_output(header, "header")?;
            let headers = event.headers();
            let found = usize::try_from(index).ok().and_then(|index| headers.get(index)).ok_or_else(|| {
                Error::invalid(format!("index: header {index} of a record with {} headers", headers.len()))
            })?;
            header.write(octopus_header {
                name: octopus_text::view(&found.name),
                value: found.value.as_deref().map_or(octopus_bytes::EMPTY, octopus_bytes::view),
            });
            Ok(())
        })
    }
}
