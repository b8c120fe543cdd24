//! Memory for the bytes of a record, which librdkafka takes over and frees: a copy less for large ones.

use std::ptr::NonNull;

use crate::error::Result;
use crate::resource_limit;

/// The bytes of a record that is still to be sent.
pub struct EncodedRecord(pub(super) Buffer);

impl EncodedRecord {
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes were written there, and live as long as the buffer.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.size) }
    }
}

/// Memory from libc's `malloc`, which librdkafka can free.
pub(super) struct Buffer {
    pub start: NonNull<u8>,
    pub size: usize,
    capacity: usize,
}

// SAFETY: plain memory of which this is the one owner.
unsafe impl Send for Buffer {}

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Result<Self> {
        // SAFETY: asks for memory; NULL is seen below.
        match NonNull::new(unsafe { libc::malloc(capacity) }.cast()) {
            Some(start) => Ok(Buffer { start, size: 0, capacity }),
            None => {
                Err(resource_limit::of_errno(format_args!("allocating a record of {capacity} bytes"), libc::ENOMEM))
            }
        }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        let fitting = bytes.len().min(self.capacity - self.size);
        // SAFETY: so many bytes fit behind those that are there; source and target are different allocations.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(self.size), fitting) };
        self.size += fitting;
    }

    /// Whoever took the pointer frees it.
    pub fn give_away(self) {
        std::mem::forget(self);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: from `malloc`, and not given away.
        unsafe { libc::free(self.start.as_ptr().cast()) };
    }
}
