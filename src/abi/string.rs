//! Strings that the plugin allocates for the host, and the table of their functions.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use super::args::octopus_text;
use super::forked_child::forward;
use super::guard::quietly;

/// A text that the plugin allocated, and that the host releases with `octopus_string_api::release`.
///
/// @since 0.1
pub struct octopus_string {
    _private: [u8; 0],
}

/// Writes a string to `place`; the host releases it.
///
/// # Safety
/// `place` is writable.
pub unsafe fn write(text: String, place: *mut *mut octopus_string) {
    // SAFETY: `place` is writable (fn contract).
    unsafe { place.write(Box::into_raw(Box::new(text)).cast()) };
}

/// Functions of strings.
///
/// Any thread may call them. None of them blocks.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_string_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Returns the text of a string.
    ///
    /// @param string The string, or NULL.
    /// @return The text, empty for NULL. It is valid until the string is released.
    pub view: Option<unsafe extern "C" fn(string: *const octopus_string) -> octopus_text>,
    /// Releases a string.
    ///
    /// @param string The string; NULL has no effect.
    pub release: Option<unsafe extern "C" fn(string: *mut octopus_string)>,
}

pub static STRING: octopus_string_api =
    octopus_string_api { size: size_of::<octopus_string_api>() as u64, view: Some(view), release: Some(release) };

unsafe extern "C" fn view(string: *const octopus_string) -> octopus_text {
    // SAFETY: `string` is NULL or live (contract of the slot).
    unsafe { string.cast::<String>().as_ref() }.map_or(octopus_text::EMPTY, |text| octopus_text::view(text))
}

unsafe extern "C" fn release(string: *mut octopus_string) {
    forward!((); string.release(string));
    if !string.is_null() {
        // SAFETY: `write` allocated it, and the host releases it once (contract of the slot).
        quietly(|| drop(unsafe { Box::from_raw(string.cast::<String>()) }));
    }
}
