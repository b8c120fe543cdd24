//! Arguments that cross the ABI by value: texts, bytes, and structs that grow. Everything that a
//! host passes is validated here.

use std::ffi::c_char;

use crate::support::error::{Error, Result};

/// A text in UTF-8, not necessarily terminated by NUL.
///
/// `{NULL, 0}` is the empty text. `OCTOPUS_TEXT` makes one of a string literal. A text that the
/// host passes must stay readable during the call only, since the plugin copies what it keeps.
///
/// @since 0.1
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct octopus_text {
    /// The first byte, or NULL if `size` is 0.
    pub data: *const c_char,
    /// The number of bytes.
    pub size: u64,
}

/// A piece of memory. `{NULL, 0}` is empty.
///
/// Bytes that the host passes must stay readable during the call only, since the plugin copies what
/// it keeps.
///
/// @since 0.1
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct octopus_bytes {
    /// The first byte, or NULL if `size` is 0.
    pub data: *const u8,
    /// The number of bytes.
    pub size: u64,
}

impl octopus_text {
    pub const fn of(text: &'static str) -> Self {
        octopus_text { data: text.as_ptr().cast(), size: text.len() as u64 }
    }

    /// A view that is valid as long as `text` is.
    pub fn view(text: &str) -> Self {
        octopus_text { data: text.as_ptr().cast(), size: text.len() as u64 }
    }

    pub const EMPTY: Self = octopus_text { data: std::ptr::null(), size: 0 };

    /// The text; `what` names it in errors.
    ///
    /// # Safety
    /// `data` is NULL, or points to `size` bytes that are readable as long as the result is used.
    pub unsafe fn read<'a>(self, what: &str) -> Result<&'a str> {
        let bytes = octopus_bytes { data: self.data.cast(), size: self.size };
        // SAFETY: `data` is NULL or has `size` readable bytes (fn contract).
        let bytes = unsafe { bytes.read(what) }?;
        std::str::from_utf8(bytes).map_err(|why| Error::invalid(format!("{what}: not UTF-8: {why}")))
    }

    /// As [`read`](Self::read); an empty text is `None`.
    ///
    /// # Safety
    /// As for `read`.
    pub unsafe fn read_optional<'a>(self, what: &str) -> Result<Option<&'a str>> {
        if self.size == 0 {
            return Ok(None);
        }
        // SAFETY: `data` is NULL or has `size` readable bytes (fn contract).
        unsafe { self.read(what) }.map(Some)
    }
}

impl octopus_bytes {
    pub fn view(bytes: &[u8]) -> Self {
        octopus_bytes { data: bytes.as_ptr(), size: bytes.len() as u64 }
    }

    pub const EMPTY: Self = octopus_bytes { data: std::ptr::null(), size: 0 };

    /// The bytes; `what` names them in errors.
    ///
    /// # Safety
    /// `data` is NULL, or points to `size` bytes that are readable as long as the result is used.
    pub unsafe fn read<'a>(self, what: &str) -> Result<&'a [u8]> {
        // SAFETY: `data` is NULL or has `size` readable bytes (fn contract).
        unsafe { read_array(self.data, self.size, what) }
    }

    /// The checks of [`read`](Self::read) without access to the bytes, for
    /// [`as_checked`](Self::as_checked).
    pub fn check(self, what: &str) -> Result<()> {
        check_array(self.data, self.size, what)
    }

    /// The bytes of a value that passed [`check`](Self::check).
    ///
    /// # Safety
    /// `check` returned `Ok`, and `size` bytes are readable as long as the result is used.
    pub unsafe fn as_checked<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: `data` is not NULL, `check` accepted the size, and `size` bytes are readable (fn
        // contract).
        unsafe { std::slice::from_raw_parts(self.data, self.size as usize) }
    }
}

/// An array of `count` elements; `(NULL, 0)` is empty.
///
/// # Safety
/// `data` is NULL, or points to `count` elements that are readable as long as the result is used.
pub unsafe fn read_array<'a, T>(data: *const T, count: u64, what: &str) -> Result<&'a [T]> {
    check_array(data, count, what)?;
    if data.is_null() {
        return Ok(&[]);
    }
    // SAFETY: `data` is not NULL; `check_array` checked alignment and size; `count` elements are
    // readable (fn contract).
    Ok(unsafe { std::slice::from_raw_parts(data, count as usize) })
}

/// Rejects NULL with a count, a size that no memory has, and a pointer that is not aligned.
// In the path of a push, where a call costs as much as the checks.
#[inline(always)]
fn check_array<T>(data: *const T, count: u64, what: &str) -> Result<()> {
    if data.is_null() && count == 0 {
        return Ok(());
    }
    let has_memory = count <= (isize::MAX as usize / size_of::<T>()) as u64;
    if has_memory && !data.is_null() && data.is_aligned() { Ok(()) } else { Err(invalid_array(data, count, what)) }
}

/// Why an array is rejected.
#[cold]
fn invalid_array<T>(data: *const T, count: u64, what: &str) -> Error {
    if data.is_null() {
        Error::invalid(format!("{what}: NULL with a size of {count}"))
    } else if data.is_aligned() {
        Error::invalid(format!("{what}: a size of {count} is more than memory can hold"))
    } else {
        misaligned(what)
    }
}

/// Rejects a pointer that no result can be written to.
pub fn check_output<T>(place: *mut T, what: &str) -> Result<()> {
    if place.is_null() {
        return Err(Error::invalid(format!("{what}: NULL where the result should go")));
    }
    check_optional_output(place, what)
}

/// As [`check_output`], for an optional result, for which the host may pass NULL.
pub fn check_optional_output<T>(place: *mut T, what: &str) -> Result<()> {
    if place.is_aligned() { Ok(()) } else { Err(misaligned(what)) }
}

/// Reads a struct of the host that never grows; `None` for NULL.
///
/// # Safety
/// `from` is NULL or readable.
pub unsafe fn read_fixed<T: Copy>(from: *const T, what: &str) -> Result<Option<T>> {
    match from {
        _ if from.is_null() => Ok(None),
        _ if !from.is_aligned() => Err(misaligned(what)),
        // SAFETY: `from` is readable (fn contract), not NULL, and aligned.
        _ => Ok(Some(unsafe { from.read() })),
    }
}

#[cold]
fn misaligned(what: &str) -> Error {
    Error::invalid(format!("{what}: the pointer is not aligned"))
}

/// A struct that begins with its size in bytes and only grows at its end.
///
/// # Safety
/// The type is `#[repr(C)]`, begins with a `u64` for its size, and all zeros are a valid value of
/// it.
pub unsafe trait Growing: Copy {
    /// Copies the host's struct, up to the smaller of both sizes. Fields that an older host does
    /// not know are zero.
    ///
    /// # Safety
    /// `from` is NULL, or readable for as many bytes as its first field says.
    unsafe fn read(from: *const Self, what: &str) -> Result<Self> {
        // SAFETY: `from` is NULL or begins with a readable size (fn contract).
        let size = unsafe { size_in(from, what) }?;
        if size >= size_of::<Self>() as u64 {
            // The usual case. The size is a constant here, so the compiler copies without a call of
            // memcpy.
            // SAFETY: `from` is readable for `size_of::<Self>()` bytes (fn contract), and `size_in`
            // checked its alignment.
            return Ok(unsafe { from.read() });
        }
        let mut copy = std::mem::MaybeUninit::<Self>::zeroed();
        let bytes = usize::try_from(size).unwrap_or(usize::MAX).min(size_of::<Self>());
        // SAFETY: `bytes` is at most the host's size, so readable (fn contract), and at most the
        // size of `copy`.
        unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), bytes) };
        // SAFETY: the bytes beyond those of the host are zero, which is valid (trait contract).
        Ok(unsafe { copy.assume_init() })
    }

    /// Reads an element of the host's array. The size of the first element is the stride of the
    /// array.
    ///
    /// # Safety
    /// `array` is NULL, or has more than `index` structs of one size, each readable for that size.
    unsafe fn element(array: *const Self, index: u64, what: &str) -> Result<Self> {
        // SAFETY: `array` is NULL or begins with a readable size (fn contract).
        let stride = unsafe { size_in(array, what) }?;
        let place = index.checked_mul(stride).and_then(|offset| usize::try_from(offset).ok());
        let Some(place) = place.filter(|_| stride % align_of::<Self>() as u64 == 0) else {
            return Err(Error::invalid(format!("{what}: elements of {stride} bytes can't be in an array")));
        };
        // SAFETY: the array has more than `index` elements (fn contract), so the pointer stays
        // within it.
        let element = unsafe { array.cast::<u8>().add(place).cast::<Self>() };
        // SAFETY: the element is readable (fn contract).
        match unsafe { size_in(element, what) }? {
            // SAFETY: the element is readable for `stride` bytes (fn contract).
            size if size == stride => unsafe { Self::read(element, what) },
            size => Err(Error::invalid(format!(
                "{what}: element {index} has the size {size} and the first one {stride}; all must have the same size"
            ))),
        }
    }

    /// Writes as many bytes as the host's struct has, by the size in its first field. That field is
    /// left unchanged.
    ///
    /// # Safety
    /// `to` is NULL, or writable for as many bytes as its first field says.
    unsafe fn write(self, to: *mut Self, what: &str) -> Result<()> {
        // SAFETY: `to` is NULL or begins with a readable size (fn contract).
        let size = unsafe { size_in(to, what) }?;
        let source: *const Self = &self;
        // SAFETY: `bytes` is at most the size of `self` and at most the host's size, for which `to`
        // is writable (fn contract).
        let copy_behind_size = |bytes: usize| unsafe {
            const HEAD: usize = size_of::<u64>();
            let (source, to) = (source.cast::<u8>().wrapping_add(HEAD), to.cast::<u8>().wrapping_add(HEAD));
            std::ptr::copy_nonoverlapping(source, to, bytes - HEAD);
        };
        // As in `read`: a constant size needs no call of memcpy.
        if size >= size_of::<Self>() as u64 {
            copy_behind_size(size_of::<Self>())
        } else {
            copy_behind_size(size as usize)
        }
        Ok(())
    }
}

/// A value that has its size and otherwise zeros, as a host writes `{.size = sizeof args}`.
#[cfg(any(test, fuzzing))]
pub fn sized<T: Growing>() -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: a `Growing` type begins with a `u64` for its size (trait contract).
    unsafe { value.as_mut_ptr().cast::<u64>().write(size_of::<T>() as u64) };
    // SAFETY: zeros are valid for all fields (trait contract), and any size is a valid `u64`.
    unsafe { value.assume_init() }
}

/// The size in the first field of a struct.
///
/// # Safety
/// `place` is NULL, or its first eight bytes are readable.
// In the path of an event, as `check_array`.
#[inline(always)]
unsafe fn size_in<T>(place: *const T, what: &str) -> Result<u64> {
    if !place.is_null() && place.is_aligned() {
        // SAFETY: eight bytes are readable (fn contract), `place` is not NULL, and it is aligned.
        let size = unsafe { place.cast::<u64>().read() };
        if size >= size_of::<u64>() as u64 { Ok(size) } else { Err(invalid_size(size, what)) }
    } else {
        Err(invalid_struct(place.is_null(), what))
    }
}

#[cold]
fn invalid_struct(is_null: bool, what: &str) -> Error {
    if is_null { Error::invalid(format!("{what}: NULL where a struct is needed")) } else { misaligned(what) }
}

#[cold]
fn invalid_size(size: u64, what: &str) -> Error {
    let reason = "set the first field to the size of the struct before the call";
    Error::invalid(format!("{what}: its size is {size}; {reason}"))
}
