//! A message that librdkafka fetched, or an error about a partition, as an owned value.

#[cfg(feature = "patched")]
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::codes::Code;
use super::text::text;
use crate::support::fork::is_forked_child;

#[cfg(feature = "patched")]
unsafe extern "C" {
    /// Added to librdkafka by src/kafka/patches/0024-hook-fetch-response-of-message.patch.
    fn octopus_fetch_response_of(message: *const rd::rd_kafka_message_t, bytes: *mut usize) -> *const c_void;
    /// Added by 0039-fix-damaged-batches.patch. 1 if the message is an error about damaged offsets;
    /// `last` is -1 while the end of the damage is unknown.
    fn octopus_damaged_offsets_of(message: *const rd::rd_kafka_message_t, first: *mut i64, last: *mut i64) -> c_int;
}

/// The identity of a fetch response: its address and size in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FetchResponse {
    pub address: usize,
    pub bytes: usize,
}

/// A message from a topic, or an error about one. It keeps its whole fetch response in memory and
/// is destroyed before its client.
pub struct Message(NonNull<rd::rd_kafka_message_t>);

// SAFETY: a message is plain memory; the reference count of its fetch response is atomic.
unsafe impl Send for Message {}
// SAFETY: shared references only read it.
unsafe impl Sync for Message {}

impl Message {
    /// Takes ownership of a message; `None` for NULL.
    ///
    /// # Safety
    /// `message` is NULL or was returned by a consume function of librdkafka and has no other
    /// owner. The caller drops the result before the client.
    pub unsafe fn from_raw(message: *mut rd::rd_kafka_message_t) -> Option<Self> {
        NonNull::new(message).map(Message)
    }

    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: `self` owns the message, which is alive until the drop.
        unsafe { self.0.as_ref() }
    }

    pub fn error(&self) -> Code {
        // SAFETY: the message is alive as long as `self`.
        unsafe { Code::read(&raw const self.raw().err) }
    }

    pub fn error_text(&self) -> String {
        // SAFETY: the message is alive as long as `self`.
        let reason = unsafe { rd::rd_kafka_message_errstr(self.0.as_ptr()) };
        // SAFETY: the text is NULL or NUL-terminated and lives as long as the message.
        unsafe { text(reason) }
    }

    pub fn payload(&self) -> &[u8] {
        let raw = self.raw();
        if raw.payload.is_null() {
            return &[];
        }
        // SAFETY: librdkafka guarantees `len` bytes that live as long as the message, which `self`
        // owns.
        unsafe { std::slice::from_raw_parts(raw.payload.cast(), raw.len) }
    }

    /// Prefetches the beginning of the payload into the CPU cache. A broker thread on another core
    /// wrote it last, so that the first read would wait for it.
    pub fn prefetch_payload(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch may have any address, and SSE, which has the instruction, is part of
        // x86-64.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.raw().payload.cast());
        }
    }

    /// The fetch response of the message, which the message keeps in memory. `None` for an error
    /// without one, and for every message of a librdkafka without patches.
    pub fn response(&self) -> Option<FetchResponse> {
        #[cfg(feature = "patched")]
        {
            let mut bytes = 0;
            // SAFETY: the message is alive as long as `self`; `bytes` is writable.
            let response = unsafe { octopus_fetch_response_of(self.0.as_ptr(), &mut bytes) };
            (!response.is_null()).then(|| FetchResponse { address: response.addr(), bytes })
        }
        #[cfg(not(feature = "patched"))]
        None
    }

    /// The first offset of the damaged records that this error is about, and the last one once it
    /// is known. `None` for any other message, and for every message of a librdkafka without
    /// patches.
    pub fn damaged_offsets(&self) -> Option<(u64, Option<u64>)> {
        #[cfg(feature = "patched")]
        {
            let (mut first, mut last) = (0, 0);
            // SAFETY: the message is alive as long as `self`; both pointers are writable.
            let is_damage = unsafe { octopus_damaged_offsets_of(self.0.as_ptr(), &mut first, &mut last) } != 0;
            is_damage.then(|| Some((u64::try_from(first).ok()?, u64::try_from(last).ok())))?
        }
        #[cfg(not(feature = "patched"))]
        None
    }

    /// The topic's name; empty for an error without a topic.
    pub fn topic(&self) -> String {
        let topic = self.raw().rkt;
        if topic.is_null() {
            return String::new();
        }
        // SAFETY: the message keeps its topic alive.
        let name = unsafe { rd::rd_kafka_topic_name(topic) };
        // SAFETY: the name is NUL-terminated and lives as long as the topic.
        unsafe { text(name) }
    }

    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Milliseconds since 1970; -1 if the record has no timestamp.
    pub fn timestamp(&self) -> i64 {
        // SAFETY: the message is alive as long as `self`; NULL omits the type of the timestamp.
        unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), std::ptr::null_mut()) }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: `self` owns the message, and the client is alive (contract of `from_raw`).
            unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) };
        }
    }
}
