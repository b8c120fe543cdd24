//! ABI slots of errors. They can't fail, so they return their result instead of a status.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use super::args::octopus_text;
use super::error_handle::octopus_error;
use super::forked_child::forward;
use super::guard::quietly;
use super::status::{OCTOPUS_OK, octopus_status, status_of};
use crate::support::error::{Error, Persisted};

/// The event is not stored in the topic, and won't be.
pub const OCTOPUS_PERSISTED_NO: i32 = 0;
/// The event may be stored in the topic: the broker's response was lost, or does not say.
pub const OCTOPUS_PERSISTED_POSSIBLY: i32 = 1;

/// Functions of errors.
///
/// Any thread may call them; `release` must be the last use of the error. None of them blocks. Each
/// accepts NULL, which means "no error".
///
/// @since 0.1
#[repr(C)]
pub struct octopus_error_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Returns the status that the failed function returned.
    ///
    /// @param error The error, or NULL.
    /// @return The status; `OCTOPUS_OK` for NULL.
    pub code: Option<unsafe extern "C" fn(error: *const octopus_error) -> octopus_status>,
    /// Returns the error code of Kafka or librdkafka (`rd_kafka_resp_err_t`).
    ///
    /// @param error The error, or NULL.
    /// @return A positive code if a broker reported the error, a negative code if the client
    /// detected it, 0 if there is no such code.
    pub kafka_code: Option<unsafe extern "C" fn(error: *const octopus_error) -> i32>,
    /// Returns whether the same call may succeed later although nobody changes anything.
    ///
    /// @param error The error, or NULL.
    /// @return 1 if a retry makes sense, else 0.
    pub retriable: Option<unsafe extern "C" fn(error: *const octopus_error) -> i32>,
    /// Returns whether the event of a failed push may be stored in the topic nevertheless.
    ///
    /// @param error The error, or NULL.
    /// @return `OCTOPUS_PERSISTED_NO` or `OCTOPUS_PERSISTED_POSSIBLY`. In the second case, pushing
    /// the event again may store it twice.
    pub persisted: Option<unsafe extern "C" fn(error: *const octopus_error) -> i32>,
    /// Returns a description for a person: what was attempted, on what, what happened, what to do.
    ///
    /// The wording may change in any version; do not parse it.
    ///
    /// @param error The error, or NULL.
    /// @return The message, empty for NULL. It is valid until the error is released.
    pub message: Option<unsafe extern "C" fn(error: *const octopus_error) -> octopus_text>,
    /// Releases an error.
    ///
    /// @param error The error; NULL has no effect.
    pub release: Option<unsafe extern "C" fn(error: *mut octopus_error)>,
    /// Returns the offsets that reading skips because of this error.
    ///
    /// `OCTOPUS_DAMAGED_DATA` and `OCTOPUS_RECORDS_LOST` have such offsets.
    ///
    /// @param error The error, or NULL.
    /// @param partition Receives the partition; may be NULL.
    /// @param first_offset Receives the first offset that is skipped; may be NULL.
    /// @param last_offset Receives the last offset that is skipped; may be NULL.
    /// @return 1 if the offsets are written; 0 if nothing is written, because the error concerns no
    /// offsets or their end is not known yet.
    /// @since 0.1
    pub skipped: Option<
        unsafe extern "C" fn(
            error: *const octopus_error,
            partition: *mut u32,
            first_offset: *mut u64,
            last_offset: *mut u64,
        ) -> i32,
    >,
}

pub static ERROR: octopus_error_api = octopus_error_api {
    size: size_of::<octopus_error_api>() as u64,
    code: Some(code),
    kafka_code: Some(kafka_code),
    retriable: Some(retriable),
    persisted: Some(persisted),
    message: Some(message),
    release: Some(release),
    skipped: Some(skipped),
};

unsafe extern "C" fn code(error: *const octopus_error) -> octopus_status {
    // SAFETY: `error` is NULL or live (contract of the slot).
    unsafe { octopus_error::get(error) }.map_or(OCTOPUS_OK, |error| status_of(error.kind()))
}

unsafe extern "C" fn kafka_code(error: *const octopus_error) -> i32 {
    // SAFETY: `error` is NULL or live (contract of the slot).
    unsafe { octopus_error::get(error) }.and_then(Error::kafka_code).unwrap_or(0)
}

unsafe extern "C" fn retriable(error: *const octopus_error) -> i32 {
    // SAFETY: `error` is NULL or live (contract of the slot).
    unsafe { octopus_error::get(error) }.is_some_and(Error::is_retriable).into()
}

unsafe extern "C" fn persisted(error: *const octopus_error) -> i32 {
    // SAFETY: `error` is NULL or live (contract of the slot).
    match unsafe { octopus_error::get(error) }.map(Error::persisted) {
        Some(Persisted::Possibly) => OCTOPUS_PERSISTED_POSSIBLY,
        _ => OCTOPUS_PERSISTED_NO,
    }
}

unsafe extern "C" fn message(error: *const octopus_error) -> octopus_text {
    // SAFETY: `error` is NULL or live (contract of the slot).
    unsafe { octopus_error::get(error) }.map_or(octopus_text::EMPTY, |error| octopus_text::view(error.message()))
}

unsafe extern "C" fn skipped(
    error: *const octopus_error,
    partition: *mut u32,
    first_offset: *mut u64,
    last_offset: *mut u64,
) -> i32 {
    // SAFETY: `error` is NULL or live (contract of the slot).
    let Some(offsets) = unsafe { octopus_error::get(error) }.and_then(Error::skipped) else { return 0 };
    // SAFETY: each pointer is NULL or writable (contract of the slot).
    unsafe {
        if let Some(place) = partition.as_mut() {
            *place = offsets.partition;
        }
        if let Some(place) = first_offset.as_mut() {
            *place = offsets.first;
        }
        if let Some(place) = last_offset.as_mut() {
            *place = offsets.last;
        }
    }
    1
}

unsafe extern "C" fn release(error: *mut octopus_error) {
    forward!((); error.release(error));
    if !error.is_null() {
        // SAFETY: `from_error` allocated it, and the host releases it once (contract of the slot).
        quietly(|| drop(unsafe { Box::from_raw(error.cast::<Error>()) }));
    }
}
