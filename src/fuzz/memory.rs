//! The memory of a host. Each pointer refers to a separate allocation of exactly the stated size,
//! so that a sanitizer detects accesses beyond it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::null_mut;

use super::input::Input;
use crate::abi::{Growing, octopus_bytes, octopus_text};

/// The alignment of all structs of the ABI.
const ALIGNMENT: usize = 8;

/// Owns the allocations of one call.
#[derive(Default)]
pub struct Memory(Vec<(*mut u8, Layout)>);

impl Drop for Memory {
    fn drop(&mut self) {
        for (start, layout) in self.0.drain(..) {
            // SAFETY: `take` allocated `start` with this layout, and `drain` yields it once.
            unsafe { dealloc(start, layout) };
        }
    }
}

impl Memory {
    fn take(&mut self, size: usize) -> *mut u8 {
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).expect("the size is valid");
        // SAFETY: the size of the layout is at least 1.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        self.0.push((start, layout));
        start
    }

    pub fn keep(&mut self, bytes: &[u8]) -> *mut u8 {
        let start = self.take(bytes.len());
        // SAFETY: `take` allocated `bytes.len()` bytes.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        start
    }

    /// A copy of the values as an array.
    pub fn array<T: Copy>(&mut self, values: &[T]) -> *mut T {
        let start = self.take(size_of_val(values)).cast::<T>();
        // SAFETY: `take` allocated the size of `values`, aligned to `ALIGNMENT`, which no type of
        // the ABI exceeds.
        unsafe { start.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        start
    }

    /// `(NULL, 0)`, NULL with a size, a pointer to an empty allocation, or bytes.
    pub fn bytes(&mut self, input: &mut Input) -> octopus_bytes {
        match input.one_of(8) {
            0 => octopus_bytes::EMPTY,
            1 => octopus_bytes { data: null_mut(), size: input.number() },
            2 => octopus_bytes { data: self.keep(&[]), size: 0 },
            _ => {
                let bytes = input.bytes();
                octopus_bytes { data: self.keep(bytes), size: bytes.len() as u64 }
            }
        }
    }

    pub fn text(&mut self, input: &mut Input) -> octopus_text {
        let bytes = self.bytes(input);
        octopus_text { data: bytes.data.cast(), size: bytes.size }
    }

    /// A growing struct of a host whose header is older or newer than the plugin, or the same:
    /// `value`, truncated, or followed by bytes that the plugin does not know. Sometimes NULL or
    /// misaligned.
    pub fn growing<T: Growing>(&mut self, input: &mut Input, value: T) -> *mut T {
        match input.one_of(32) {
            0 => return null_mut(),
            1 => return self.misaligned(size_of::<T>()),
            _ => {}
        }
        let size = self.size_of_a_host::<T>(input);
        self.growing_array(&[value], size)
    }

    /// A misaligned pointer.
    pub fn misaligned<T>(&mut self, size: usize) -> *mut T {
        self.keep(&vec![0xA5; size + ALIGNMENT]).wrapping_add(1).cast()
    }

    pub fn size_of_a_host<T>(&mut self, input: &mut Input) -> usize {
        match input.one_of(4) {
            0 => usize::from(input.byte()) % (size_of::<T>() + 64),
            _ => size_of::<T>(),
        }
    }

    /// An array of growing structs with a stride of `size`.
    pub fn growing_array<T: Growing>(&mut self, values: &[T], size: usize) -> *mut T {
        const HEAD: usize = size_of::<u64>();
        if size < HEAD || values.is_empty() {
            return self.array(&[size as u64]).cast();
        }
        let mut all = vec![0xA5; values.len() * size];
        for (index, value) in values.iter().enumerate() {
            let place = &mut all[index * size..];
            // A struct ends between two fields, so a word that `size` cuts off is zero.
            let whole = size.min(size_of::<T>()) / HEAD * HEAD;
            // SAFETY: `whole` is at most the size of `T`, and at most that of the slice.
            unsafe { place.as_mut_ptr().copy_from_nonoverlapping(std::ptr::from_ref(value).cast(), whole) };
            let cut = size.min(size_of::<T>());
            if whole < cut {
                place[whole..cut].fill(0);
            }
            place[..HEAD].copy_from_slice(&(size as u64).to_le_bytes());
        }
        self.keep(&all).cast()
    }
}

/// A growing struct as the plugin reads it, with zeros after the end of the host's; `None` for an
/// invalid pointer.
///
/// # Safety
/// `host` is NULL, misaligned, or from a live [`Memory`].
pub unsafe fn known<T: Growing>(host: *const T) -> Option<T> {
    if host.is_null() || !host.is_aligned() {
        return None;
    }
    // SAFETY: `host` is aligned, and allocations of `Memory` for structs have at least 8 bytes.
    let size = unsafe { host.cast::<u64>().read() } as usize;
    if size < size_of::<u64>() {
        return None;
    }
    let mut known = std::mem::MaybeUninit::<T>::zeroed();
    let read = size.min(size_of::<T>());
    // SAFETY: `read` is at most `size`, the size of the allocation of `host`, and at most the size
    // of `T`; the two do not overlap.
    unsafe { known.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(host.cast(), read) };
    // SAFETY: `Growing` types consist of integers, pointers and optional functions, so zeros and
    // the bytes of a valid host struct are valid.
    Some(unsafe { known.assume_init() })
}

/// The bytes of a host; `None` for NULL with a size.
///
/// # Safety
/// `bytes` is from a [`Memory`] that lives for `'a`.
pub unsafe fn bytes_of<'a>(bytes: octopus_bytes) -> Option<&'a [u8]> {
    match (bytes.data.is_null(), bytes.size) {
        (true, 0) => Some(&[]),
        (true, _) => None,
        // SAFETY: `data` points to `size` bytes that live for `'a` (fn contract).
        (false, size) => Some(unsafe { std::slice::from_raw_parts(bytes.data, size as usize) }),
    }
}
