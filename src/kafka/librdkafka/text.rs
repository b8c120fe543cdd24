//! C strings.

use std::ffi::{CStr, CString, c_char};

use crate::support::error::{Error, Result};

/// A name as a C string. A NUL character in it is an error.
pub fn c_string(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid(format!("{name:?} contains a NUL character")))
}

/// Copies a C text; NULL is empty.
///
/// # Safety
/// `text` is NULL or a NUL-terminated text that lives during this call.
pub unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: `text` is NUL-terminated and alive (contract of this function).
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
