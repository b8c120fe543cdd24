//! The error's slots. They can't fail, so they give their result directly.

use super::args::octopus_text;
use super::forked_child::forward;
use super::guard::quietly;
use super::status::{OCTOPUS_OK, octopus_status, status_of};
use crate::error::{Error, Persisted};

/// What went wrong in one call. The caller's to release; nothing else depends on it.
pub struct octopus_error {
    _private: [u8; 0],
}

impl octopus_error {
    pub fn from_error(error: Error) -> *mut octopus_error {
        Box::into_raw(Box::new(error)).cast()
    }
}

/// The event is not in the topic and won't be.
pub const OCTOPUS_PERSISTED_NO: i32 = 0;
/// The event may be in the topic: the broker's answer was lost.
pub const OCTOPUS_PERSISTED_POSSIBLY: i32 = 1;

/// What an error tells. Every function takes NULL for "no error" and may be called from any thread.
#[repr(C)]
pub struct octopus_error_api {
    /// `sizeof(octopus_error_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// The status that the failed function returned; `OCTOPUS_OK` for NULL.
    pub code: Option<unsafe extern "C" fn(error: *const octopus_error) -> octopus_status>,
    /// librdkafka's or Kafka's error code (`rd_kafka_resp_err_t`): negative, found by the client; positive, said by
    /// a broker; 0, none.
    pub kafka_code: Option<unsafe extern "C" fn(error: *const octopus_error) -> i32>,
    /// 1 if the same call may succeed later without anything being changed by hand, else 0.
    pub retriable: Option<unsafe extern "C" fn(error: *const octopus_error) -> i32>,
    /// For a failed push: whether the event is in the topic all the same, an `OCTOPUS_PERSISTED_…`.
    pub persisted: Option<unsafe extern "C" fn(error: *const octopus_error) -> i32>,
    /// What was being done, to what, what was expected, and what to do; for a person. Valid until the error is
    /// released. Empty for NULL.
    pub message: Option<unsafe extern "C" fn(error: *const octopus_error) -> octopus_text>,
    /// Releases the error; NULL does nothing.
    pub release: Option<unsafe extern "C" fn(error: *mut octopus_error)>,
    /// For `OCTOPUS_DAMAGED_DATA` and `OCTOPUS_RECORDS_LOST`: the offsets that reading skips. Writes the partition, the first and
    /// the last of these offsets, each unless its pointer is NULL, and returns 1; or writes nothing and returns 0 if the error is
    /// about no offsets, or their end is not known yet.
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

/// # Safety
/// `error` is NULL or an error that was not released, for as long as the result is used.
unsafe fn get<'a>(error: *const octopus_error) -> Option<&'a Error> {
    // SAFETY: the caller's promise.
    unsafe { error.cast::<Error>().as_ref() }
}

unsafe extern "C" fn code(error: *const octopus_error) -> octopus_status {
    // SAFETY: NULL or a live error.
    unsafe { get(error) }.map_or(OCTOPUS_OK, |error| status_of(error.kind()))
}

unsafe extern "C" fn kafka_code(error: *const octopus_error) -> i32 {
    // SAFETY: NULL or a live error.
    unsafe { get(error) }.and_then(Error::kafka_code).unwrap_or(0)
}

unsafe extern "C" fn retriable(error: *const octopus_error) -> i32 {
    // SAFETY: NULL or a live error.
    unsafe { get(error) }.is_some_and(Error::is_retriable).into()
}

unsafe extern "C" fn persisted(error: *const octopus_error) -> i32 {
    // SAFETY: NULL or a live error.
    match unsafe { get(error) }.map(Error::persisted) {
        Some(Persisted::Possibly) => OCTOPUS_PERSISTED_POSSIBLY,
        _ => OCTOPUS_PERSISTED_NO,
    }
}

unsafe extern "C" fn message(error: *const octopus_error) -> octopus_text {
    // SAFETY: NULL or a live error.
    unsafe { get(error) }.map_or(octopus_text::EMPTY, |error| octopus_text::view(error.message()))
}

unsafe extern "C" fn skipped(
    error: *const octopus_error,
    partition: *mut u32,
    first_offset: *mut u64,
    last_offset: *mut u64,
) -> i32 {
    // SAFETY: NULL or a live error.
    let Some(offsets) = unsafe { get(error) }.and_then(Error::skipped) else { return 0 };
    // SAFETY: each is NULL or writable, as the caller of this slot promises.
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
        // SAFETY: made by `from_error`, and released once.
        quietly(|| drop(unsafe { Box::from_raw(error.cast::<Error>()) }));
    }
}
