//! What crosses by value: texts, bytes, and structs that grow. Everything that a host gives is checked here.

use std::ffi::c_char;

use crate::error::{Error, Result};

/// A text: UTF-8, `size` bytes, not necessarily ended by NUL. `(NULL, 0)` is empty.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct octopus_text {
    pub data: *const c_char,
    pub size: u64,
}

/// Bytes. `(NULL, 0)` is empty.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct octopus_bytes {
    pub data: *const u8,
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
    /// NULL, or `size` readable bytes for as long as the result is used.
    pub unsafe fn read<'a>(self, what: &str) -> Result<&'a str> {
        let bytes = octopus_bytes { data: self.data.cast(), size: self.size };
        // SAFETY: the caller's promise.
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
        // SAFETY: the caller's promise.
        unsafe { self.read(what) }.map(Some)
    }
}

impl octopus_bytes {
    pub fn view(bytes: &[u8]) -> Self {
        octopus_bytes { data: bytes.as_ptr(), size: bytes.len() as u64 }
    }

    pub const EMPTY: Self = octopus_bytes { data: std::ptr::null(), size: 0 };

    /// # Safety
    /// NULL, or `size` readable bytes for as long as the result is used.
    pub unsafe fn read<'a>(self, what: &str) -> Result<&'a [u8]> {
        // SAFETY: the caller's promise.
        unsafe { read_array(self.data, self.size, what) }
    }

    /// As [`read`](Self::read), without looking at the bytes, for [`as_checked`](Self::as_checked).
    pub fn check(self, what: &str) -> Result<()> {
        check_array(self.data, self.size, what)
    }

    /// # Safety
    /// `check` found nothing wrong, and so many bytes are readable for as long as the result is used.
    pub unsafe fn as_checked<'a>(self) -> &'a [u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: not NULL, of a possible size, and readable by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data, self.size as usize) }
    }
}

/// An array of `count` elements; `(NULL, 0)` is empty.
///
/// # Safety
/// NULL, or `count` readable elements for as long as the result is used.
pub unsafe fn read_array<'a, T>(data: *const T, count: u64, what: &str) -> Result<&'a [T]> {
    check_array(data, count, what)?;
    if data.is_null() {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned, of a possible size, and readable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, count as usize) })
}

/// Whether there can be such an array.
fn check_array<T>(data: *const T, count: u64, what: &str) -> Result<()> {
    if data.is_null() {
        if count == 0 {
            return Ok(());
        }
        return Err(Error::invalid(format!("{what}: NULL with a size of {count}")));
    }
    let fits = usize::try_from(count)
        .ok()
        .and_then(|n| n.checked_mul(size_of::<T>()))
        .is_some_and(|bytes| bytes <= isize::MAX as usize);
    if !fits {
        return Err(Error::invalid(format!("{what}: a size of {count} is more than memory can hold")));
    }
    if data.is_aligned() { Ok(()) } else { Err(misaligned(what)) }
}

/// Refuses what no result can be written to.
pub fn check_output<T>(place: *mut T, what: &str) -> Result<()> {
    if place.is_null() {
        return Err(Error::invalid(format!("{what}: NULL where the result should go")));
    }
    check_wanted(place, what)
}

/// As [`check_output`], for a result that the host may not want, and then gives NULL.
pub fn check_wanted<T>(place: *mut T, what: &str) -> Result<()> {
    if place.is_aligned() { Ok(()) } else { Err(misaligned(what)) }
}

/// A struct of the host's that never grows; `None` for NULL.
///
/// # Safety
/// NULL, or readable.
pub unsafe fn read_fixed<T: Copy>(from: *const T, what: &str) -> Result<Option<T>> {
    match from {
        _ if from.is_null() => Ok(None),
        _ if !from.is_aligned() => Err(misaligned(what)),
        // SAFETY: the caller's promise, and aligned.
        _ => Ok(Some(unsafe { from.read() })),
    }
}

fn misaligned(what: &str) -> Error {
    Error::invalid(format!("{what}: the pointer is not aligned"))
}

/// A struct that begins with its size and only ever grows at its end.
///
/// # Safety
/// `#[repr(C)]`, begins with a `u64` for its size, and all zeros are a valid value of it.
pub unsafe trait Growing: Copy {
    /// What the host filled, copied up to the smaller of both sizes; zeros for what an older host does not know.
    ///
    /// # Safety
    /// NULL, or readable for as many bytes as its first field says.
    unsafe fn read(from: *const Self, what: &str) -> Result<Self> {
        // SAFETY: the caller's promise.
        let size = unsafe { size_in(from, what) }?;
        if size >= size_of::<Self>() as u64 {
            // What most hosts give is a known number of bytes, so no function is called to copy them.
            // SAFETY: the caller's promise, and aligned.
            return Ok(unsafe { from.read() });
        }
        let mut copy = std::mem::MaybeUninit::<Self>::zeroed();
        let bytes = usize::try_from(size).unwrap_or(usize::MAX).min(size_of::<Self>());
        // SAFETY: so many bytes are readable there and writable here; zeros, and so any mix with them, are valid.
        unsafe {
            std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), bytes);
            Ok(copy.assume_init())
        }
    }

    /// An element of the host's array, whose elements are as far apart as the first one's size says.
    ///
    /// # Safety
    /// NULL, or an array of more than `index` such structs of one size, each readable for that.
    unsafe fn element(array: *const Self, index: u64, what: &str) -> Result<Self> {
        // SAFETY: the caller's promise.
        let stride = unsafe { size_in(array, what) }?;
        let place = index.checked_mul(stride).and_then(|offset| usize::try_from(offset).ok());
        let Some(place) = place.filter(|_| stride % align_of::<Self>() as u64 == 0) else {
            return Err(Error::invalid(format!("{what}: elements of {stride} bytes can't be in an array")));
        };
        // SAFETY: within the array by the caller's promise.
        let element = unsafe { array.cast::<u8>().add(place).cast::<Self>() };
        // SAFETY: as above.
        match unsafe { size_in(element, what) }? {
            // SAFETY: as above.
            size if size == stride => unsafe { Self::read(element, what) },
            size => Err(Error::invalid(format!(
                "{what}: element {index} has the size {size} and the first one {stride}; give all the same"
            ))),
        }
    }

    /// Writes as much as the host has room for, whose size it gave in the first field and finds there again.
    ///
    /// # Safety
    /// NULL, or writable for as many bytes as its first field says.
    unsafe fn write(self, to: *mut Self, what: &str) -> Result<()> {
        // SAFETY: the caller's promise.
        let size = unsafe { size_in(to, what) }?;
        let source: *const Self = &self;
        // SAFETY: as many bytes are readable here, and writable there if the host has room for them.
        let copy_behind_size = |bytes: usize| unsafe {
            let head = size_of::<u64>();
            std::ptr::copy_nonoverlapping(source.cast::<u8>().add(head), to.cast::<u8>().add(head), bytes - head);
        };
        // What most hosts have room for is a known number of bytes, so no function is called to copy them.
        if size >= size_of::<Self>() as u64 {
            copy_behind_size(size_of::<Self>())
        } else {
            copy_behind_size(size as usize)
        }
        Ok(())
    }
}

/// # Safety
/// NULL, or its first eight bytes are readable.
unsafe fn size_in<T>(place: *const T, what: &str) -> Result<u64> {
    if place.is_null() {
        return Err(Error::invalid(format!("{what}: NULL where a struct is needed")));
    }
    if !place.is_aligned() {
        return Err(misaligned(what));
    }
    // SAFETY: the caller's promise, and aligned.
    let size = unsafe { place.cast::<u64>().read() };
    if size < size_of::<u64>() as u64 {
        return Err(Error::invalid(format!(
            "{what}: its size is {size}; set the first field to the size of the struct before the call"
        )));
    }
    Ok(size)
}
