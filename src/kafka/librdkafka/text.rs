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

/// Writes a text into a buffer of C, which ends it if it is too long.
///
/// # Safety
/// The buffer has `size` bytes, at least 1.
#[cfg_attr(not(feature = "patched"), allow(dead_code, reason = "patches call what writes texts"))]
pub unsafe fn write_text(text: &str, buffer: *mut c_char, size: usize) {
    let length = text.len().min(size.saturating_sub(1));
    // SAFETY: the buffer has `size` bytes (contract of this function), and `length` is less.
    unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), length) };
    // SAFETY: as above.
    unsafe { buffer.wrapping_add(length).write(0) };
}
