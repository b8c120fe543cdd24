//! Passes a record with a key, headers or a timestamp to librdkafka, which has a function of its
//! own for them that takes more time.

use std::ffi::{c_int, c_void};
use std::ptr;

use rd::rd_kafka_vtype_t as Part;
use rdkafka::bindings as rd;

use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::topic_handle::TopicHandle;
use crate::record::{Attributes, Header};

/// A record for librdkafka.
pub(super) struct OutgoingRecord<'a> {
    pub(super) topic: &'a TopicHandle,
    pub(super) partition: i32,
    pub(super) flags: c_int,
    pub(super) payload: *mut c_void,
    pub(super) size: usize,
    /// A number that librdkafka returns with the delivery report.
    pub(super) opaque: *mut c_void,
}

impl OutgoingRecord<'_> {
    /// Queues the record with these attributes, or returns why librdkafka does not take it.
    ///
    /// # Safety
    /// `payload` has `size` bytes. With the flag `RD_KAFKA_MSG_F_FREE` librdkafka owns them if the
    /// call succeeds, and frees them.
    #[cold]
    pub(super) unsafe fn produce_with(&self, attributes: &Attributes) -> Result<(), Code> {
        let key = attributes.key.as_deref();
        let headers = Headers::copy(&attributes.headers);
        let parts = [
            part(Part::RD_KAFKA_VTYPE_RKT, |value| value.rkt = self.topic.as_ptr()),
            part(Part::RD_KAFKA_VTYPE_PARTITION, |value| value.i32_ = self.partition),
            part(Part::RD_KAFKA_VTYPE_MSGFLAGS, |value| value.i = self.flags),
            part(Part::RD_KAFKA_VTYPE_VALUE, |value| value.mem = memory(self.payload, self.size)),
            part(Part::RD_KAFKA_VTYPE_KEY, |value| value.mem = of_bytes(key)),
            part(Part::RD_KAFKA_VTYPE_OPAQUE, |value| value.ptr = self.opaque),
            // 0 is the time of the call.
            part(Part::RD_KAFKA_VTYPE_TIMESTAMP, |value| value.i64_ = attributes.timestamp_ms.unwrap_or(0)),
            part(Part::RD_KAFKA_VTYPE_HEADERS, |value| value.headers = headers.0),
        ];
        // SAFETY: the topic keeps itself and its client alive. The payload has `size` bytes, which
        // librdkafka copies or owns (contract of this function). It copies the key. If the call
        // succeeds, it owns the headers. The opaque pointer is a number and never dereferenced.
        let error = unsafe { rd::rd_kafka_produceva(self.topic.client(), parts.as_ptr(), parts.len()) };
        if error.is_null() {
            headers.forget();
            return Ok(());
        }
        // SAFETY: the error is not NULL; this function owns it.
        let code = unsafe { codes::rd_kafka_error_code(error) };
        // SAFETY: this function owns the error and does not use it afterwards.
        unsafe { rd::rd_kafka_error_destroy(error) };
        Err(code)
    }
}

type Value = rd::rd_kafka_vu_s__bindgen_ty_1;
type Memory = rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1;

fn part(vtype: Part, set: impl FnOnce(&mut Value)) -> rd::rd_kafka_vu_t {
    let mut u = Value { _pad: [0; 64] };
    set(&mut u);
    rd::rd_kafka_vu_t { vtype, u }
}

fn memory(ptr: *mut c_void, size: usize) -> Memory {
    Memory { ptr, size }
}

fn of_bytes(bytes: Option<&[u8]>) -> Memory {
    bytes.map_or(memory(ptr::null_mut(), 0), |bytes| memory(bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

/// librdkafka's copy of headers, or NULL if there are none.
struct Headers(*mut rd::rd_kafka_headers_t);

impl Headers {
    fn copy(headers: &[Header]) -> Self {
        if headers.is_empty() {
            return Headers(ptr::null_mut());
        }
        // SAFETY: has no precondition.
        let copy = Headers(unsafe { rd::rd_kafka_headers_new(headers.len()) });
        for header in headers {
            let value = of_bytes(header.value.as_deref());
            let name = &header.name;
            // SAFETY: the list is alive; name and value have the given sizes, and are copied. It
            // fails only for lists that are read-only.
            unsafe {
                rd::rd_kafka_header_add(
                    copy.0,
                    name.as_ptr().cast(),
                    name.len() as isize,
                    value.ptr.cast_const(),
                    value.size as isize,
                )
            };
        }
        copy
    }

    /// librdkafka owns them now.
    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the list is alive, and nothing else refers to it.
            unsafe { rd::rd_kafka_headers_destroy(self.0) };
        }
    }
}
