//! A message that librdkafka fetched, or an error about a partition, as an owned value.

#[cfg(feature = "patched")]
use std::ffi::c_int;
use std::ffi::{c_uint, c_void};
use std::ptr::{self, NonNull};

use rdkafka::bindings as rd;

use super::codes::Code;
use super::text::text;
use crate::record::{Attributes, Header, TimestampType};
use crate::support::error::{Error, Kind, Result};
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

    /// Whether the record has no value.
    pub fn is_tombstone(&self) -> bool {
        self.raw().payload.is_null()
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

    /// Milliseconds since 1970, or -1 if the record has no timestamp, and who set it.
    pub fn timestamp(&self) -> (i64, TimestampType) {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE as c_uint;
        // SAFETY: the message is alive as long as `self`. `kind` is writable, and has the type of
        // the C enum: librdkafka passes on what a broker sent, which may be no value of it.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), (&raw mut kind).cast()) };
        if ms < 0 {
            return (-1, TimestampType::Missing);
        }
        (ms, TIMESTAMP_TYPES.get(kind as usize).copied().unwrap_or_default())
    }

    /// The key and the headers, if the record has any.
    pub fn attributes(&mut self) -> Result<Option<Box<Attributes>>> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive as long as `self`, which owns it, and `headers` is writable.
        // The call stores what it has parsed in the message, which `&mut self` allows.
        let code = unsafe { rd::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        if code == NO_HEADERS && self.raw().key.is_null() {
            return Ok(None);
        }
        self.copied_attributes(code, headers).map(Some)
    }

    #[cold]
    fn copied_attributes(
        &mut self,
        code: rd::rd_kafka_resp_err_t,
        headers: *const rd::rd_kafka_headers_t,
    ) -> Result<Box<Attributes>> {
        if headers.is_null() && code != NO_HEADERS {
            return Err(Error::new(Kind::MalformedRecord, "its headers have no valid format"));
        }
        let raw = self.raw();
        // SAFETY: librdkafka guarantees `key_len` bytes at `key` if it is not NULL.
        let key = unsafe { copied(raw.key, raw.key_len) };
        let copy = Box::new(Attributes { key, headers: copied_headers(headers), timestamp_ms: None });
        let mut parsed = ptr::null_mut();
        // SAFETY: as in `attributes`. After the call, the headers belong to this function.
        if unsafe { rd::rd_kafka_message_detach_headers(self.0.as_ptr(), &mut parsed) } == NO_ERROR {
            // SAFETY: nothing else refers to the headers.
            unsafe { rd::rd_kafka_headers_destroy(parsed) };
        }
        Ok(copy)
    }
}

const NO_ERROR: rd::rd_kafka_resp_err_t = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
const NO_HEADERS: rd::rd_kafka_resp_err_t = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT;
/// By librdkafka's number.
const TIMESTAMP_TYPES: [TimestampType; 3] = [TimestampType::Missing, TimestampType::Create, TimestampType::LogAppend];

/// The headers of a message, which is alive.
pub fn copied_headers(headers: *const rd::rd_kafka_headers_t) -> Vec<Header> {
    let mut copy = Vec::new();
    if headers.is_null() {
        return copy;
    }
    loop {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers belong to a message that is alive; the pointers are writable.
        let code = unsafe { rd::rd_kafka_header_get_all(headers, copy.len(), &mut name, &mut value, &mut size) };
        if Code::from(code).is_error() {
            return copy;
        }
        // SAFETY: the name is NUL-terminated and lives as long as the message.
        let name = unsafe { text(name) }.into();
        // SAFETY: librdkafka guarantees `size` bytes at `value` if it is not NULL.
        copy.push(Header { name, value: unsafe { copied(value, size) } });
    }
}

/// # Safety
/// `bytes` is NULL, or has `size` readable bytes.
unsafe fn copied(bytes: *const c_void, size: usize) -> Option<Box<[u8]>> {
    // SAFETY: `bytes` is not NULL, so that `size` bytes are readable (contract of this function).
    (!bytes.is_null()).then(|| unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size) }.into())
}

impl Drop for Message {
    fn drop(&mut self) {
        if !is_forked_child() {
            // SAFETY: `self` owns the message, and the client is alive (contract of `from_raw`).
            unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) };
        }
    }
}
