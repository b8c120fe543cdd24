//! A host's memory. Whatever a pointer points to is an allocation of its own, exactly as long as it is said to be, so that a
//! sanitizer sees who goes beyond it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::null_mut;

use super::input::Input;
use crate::abi::{Growing, octopus_bytes, octopus_text};

/// What all structs of the ABI are aligned to.
const ALIGNMENT: usize = 8;

/// Lives until the calls that it was made for are over.
#[derive(Default)]
pub struct Memory(Vec<(*mut u8, Layout)>);

impl Drop for Memory {
    fn drop(&mut self) {
        for (start, layout) in self.0.drain(..) {
            // SAFETY: from `take`, freed once.
            unsafe { dealloc(start, layout) };
        }
    }
}

impl Memory {
    fn take(&mut self, size: usize) -> *mut u8 {
        let layout = Layout::from_size_align(size.max(1), ALIGNMENT).expect("a size that memory has");
        // SAFETY: not of size 0.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        self.0.push((start, layout));
        start
    }

    pub fn keep(&mut self, bytes: &[u8]) -> *mut u8 {
        let start = self.take(bytes.len());
        // SAFETY: so many bytes are there.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        start
    }

    /// A copy of the values, one behind the other.
    pub fn array<T: Copy>(&mut self, values: &[T]) -> *mut T {
        let start = self.take(size_of_val(values)).cast::<T>();
        // SAFETY: so many values fit, and nothing of the ABI is aligned to more than `ALIGNMENT`.
        unsafe { start.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        start
    }

    /// `(NULL, 0)`, NULL with a size, nothing behind a pointer, or bytes.
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

    /// A struct that grows, as a host has it whose header is older or newer than the plugin, or the same: so many bytes of
    /// `value` as it says, and then what the plugin doesn't know. Sometimes NULL, or where no such struct can be.
    pub fn growing<T: Growing>(&mut self, input: &mut Input, value: T) -> *mut T {
        match input.one_of(32) {
            0 => return null_mut(),
            1 => return self.misaligned(size_of::<T>()),
            _ => {}
        }
        let size = self.size_of_a_host::<T>(input);
        self.growing_array(&[value], size)
    }

    /// Somewhere between two places where a struct can be.
    pub fn misaligned<T>(&mut self, size: usize) -> *mut T {
        self.keep(&vec![0xA5; size + ALIGNMENT]).wrapping_add(1).cast()
    }

    pub fn size_of_a_host<T>(&mut self, input: &mut Input) -> usize {
        match input.one_of(4) {
            0 => usize::from(input.byte()) % (size_of::<T>() + 64),
            _ => size_of::<T>(),
        }
    }

    /// Such structs behind each other, as far apart as they are long.
    pub fn growing_array<T: Growing>(&mut self, values: &[T], size: usize) -> *mut T {
        const HEAD: usize = size_of::<u64>();
        if size < HEAD || values.is_empty() {
            return self.array(&[size as u64]).cast();
        }
        let mut all = vec![0xA5; values.len() * size];
        for (index, value) in values.iter().enumerate() {
            let place = &mut all[index * size..];
            // A struct ends between two fields: a size that cuts through a word has nothing in that word.
            let whole = size.min(size_of::<T>()) / HEAD * HEAD;
            // SAFETY: so many bytes are in both.
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

/// What a plugin may know of such a struct: nothing where none can be, zeros where the host's ends.
///
/// # Safety
/// NULL, misaligned, or from [`Memory`].
pub unsafe fn known<T: Growing>(host: *const T) -> Option<T> {
    if host.is_null() || !host.is_aligned() {
        return None;
    }
    // SAFETY: structs of `Memory` have a size.
    let size = unsafe { host.cast::<u64>().read() } as usize;
    if size < size_of::<u64>() {
        return None;
    }
    let mut known = std::mem::MaybeUninit::<T>::zeroed();
    for at in 0..size.min(size_of::<T>()) {
        // SAFETY: within the host's size and within ours.
        unsafe { known.as_mut_ptr().cast::<u8>().add(at).write(host.cast::<u8>().add(at).read()) };
    }
    // SAFETY: zeros and what a host may give are values of such structs.
    Some(unsafe { known.assume_init() })
}

/// The bytes that a host means; `None` for NULL with a size.
///
/// # Safety
/// From [`Memory`], and used while that lives.
pub unsafe fn meant<'a>(bytes: octopus_bytes) -> Option<&'a [u8]> {
    match (bytes.data.is_null(), bytes.size) {
        (true, 0) => Some(&[]),
        (true, _) => None,
        // SAFETY: so many bytes are there.
        (false, size) => Some(unsafe { std::slice::from_raw_parts(bytes.data, size as usize) }),
    }
}
