//! The handle of an error. It is apart from the slots of errors, which use the guard that makes it.

use crate::support::error::Error;

/// The error of one failed call.
///
/// The caller of the failed function owns it and releases it with `octopus_error_api::release`. It
/// is independent of all other objects: there is no "last error" of a thread or a handle.
///
/// @since 0.1
pub struct octopus_error {
    _private: [u8; 0],
}

impl octopus_error {
    pub fn from_error(error: Error) -> *mut octopus_error {
        Box::into_raw(Box::new(error)).cast()
    }

    /// # Safety
    /// `error` is NULL or an error that was not released, for as long as the result is used.
    pub unsafe fn get<'a>(error: *const octopus_error) -> Option<&'a Error> {
        // SAFETY: `error` is NULL or live (fn contract).
        unsafe { error.cast::<Error>().as_ref() }
    }
}
