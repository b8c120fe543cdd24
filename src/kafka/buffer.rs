//! Memory for the bytes of a record that librdkafka takes ownership of, which saves a copy of large
//! records.

use std::ptr::NonNull;

use crate::support::error::Result;
use crate::support::resource_limit;

/// The bytes of a record that is not sent yet; `None` for one without a value.
pub struct EncodedRecord(pub(super) Option<Buffer>);

impl EncodedRecord {
    pub fn bytes(&self) -> &[u8] {
        let Some(buffer) = &self.0 else { return &[] };
        // SAFETY: `append` has initialized the first `size` bytes, which live as long as the
        // buffer.
        unsafe { std::slice::from_raw_parts(buffer.start.as_ptr(), buffer.size) }
    }
}

/// Memory from libc's `malloc`, which librdkafka can free.
pub(super) struct Buffer {
    pub start: NonNull<u8>,
    pub size: usize,
    capacity: usize,
}

// SAFETY: the buffer is the only owner of plain memory.
unsafe impl Send for Buffer {}

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Result<Self> {
        // SAFETY: has no precondition; NULL is handled below.
        match NonNull::new(unsafe { libc::malloc(capacity) }.cast()) {
            Some(start) => Ok(Buffer { start, size: 0, capacity }),
            None => {
                Err(resource_limit::of_errno(format_args!("allocating a record of {capacity} bytes"), libc::ENOMEM))
            }
        }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.capacity - self.size);
        // SAFETY: the first `size` bytes are within the allocation.
        let end = unsafe { self.start.as_ptr().add(self.size) };
        // SAFETY: `count` bytes fit after `end`; source and target are different allocations.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, count) };
        self.size += count;
    }

    /// Gives up ownership: the new owner of `start` frees the memory.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: `start` is from `malloc`, and `forget` was not called.
        unsafe { libc::free(self.start.as_ptr().cast()) };
    }
}
