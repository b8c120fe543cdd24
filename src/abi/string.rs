//! Texts that the plugin made for the host.

use super::args::octopus_text;
use super::forked_child::forward;
use super::guard::quietly;

/// A text that the plugin made and the host releases.
pub struct octopus_string {
    _private: [u8; 0],
}

/// # Safety
/// `place` is writable.
pub unsafe fn give(text: String, place: *mut *mut octopus_string) {
    // SAFETY: the caller's promise.
    unsafe { place.write(Box::into_raw(Box::new(text)).cast()) };
}

/// Texts made by the plugin. Any thread.
#[repr(C)]
pub struct octopus_string_api {
    /// `sizeof(octopus_string_api)` in the plugin.
    pub size: u64,
    /// The text; valid until the string is released. Empty for NULL.
    pub view: Option<unsafe extern "C" fn(string: *const octopus_string) -> octopus_text>,
    /// Releases the string; NULL does nothing.
    pub release: Option<unsafe extern "C" fn(string: *mut octopus_string)>,
}

pub static STRING: octopus_string_api =
    octopus_string_api { size: size_of::<octopus_string_api>() as u64, view: Some(view), release: Some(release) };

unsafe extern "C" fn view(string: *const octopus_string) -> octopus_text {
    // SAFETY: NULL or a live string.
    unsafe { string.cast::<String>().as_ref() }.map_or(octopus_text::EMPTY, |text| octopus_text::view(text))
}

unsafe extern "C" fn release(string: *mut octopus_string) {
    forward!((); string.release(string));
    if !string.is_null() {
        // SAFETY: made by `give`, and released once.
        quietly(|| drop(unsafe { Box::from_raw(string.cast::<String>()) }));
    }
}
