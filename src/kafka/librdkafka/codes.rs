//! Error codes as numbers.
//!
//! A broker may send a code that this librdkafka has no name for: a newer broker's, or a corrupted
//! one. librdkafka passes it on. Reading such a number as the bindings' enum is undefined behavior,
//! so that the functions that return a broker's code are declared here again, with a number as
//! their result.

use std::ffi::{c_char, c_int};

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

/// A code of librdkafka, which is negative, or of a broker, which librdkafka may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Code(c_int);

impl Code {
    pub fn number(self) -> i32 {
        self.0
    }

    pub fn is_error(self) -> bool {
        self.0 != 0
    }

    /// Reads the error field of one of librdkafka's structs.
    ///
    /// # Safety
    /// `field` points to a live, initialized field.
    pub unsafe fn read(field: *const rd::rd_kafka_resp_err_t) -> Self {
        // SAFETY: `field` is live and initialized (contract of this function); the enum is a
        // `c_int` in C.
        Code(unsafe { field.cast::<c_int>().read() })
    }
}

impl From<rd::rd_kafka_resp_err_t> for Code {
    fn from(code: rd::rd_kafka_resp_err_t) -> Self {
        Code(code as c_int)
    }
}

/// The named code, or [`RDKafkaErrorCode::Unknown`] if librdkafka has no name for it.
impl From<Code> for RDKafkaErrorCode {
    fn from(code: Code) -> Self {
        rd::rd_kafka_resp_err_t::try_from(code.0).map_or(RDKafkaErrorCode::Unknown, Into::into)
    }
}

#[allow(clashing_extern_declarations, reason = "the bindings' enum can't hold every number that these return")]
unsafe extern "C" {
    pub fn rd_kafka_ConfigResource_error(resource: *const rd::rd_kafka_ConfigResource_t) -> Code;
    pub fn rd_kafka_committed(
        client: *mut rd::rd_kafka_t,
        partitions: *mut rd::rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> Code;
    pub fn rd_kafka_err2str(code: Code) -> *const c_char;
    pub fn rd_kafka_error_code(error: *const rd::rd_kafka_error_t) -> Code;
    pub fn rd_kafka_event_error(event: *mut rd::rd_kafka_event_t) -> Code;
    pub fn rd_kafka_fatal_error(client: *mut rd::rd_kafka_t, reason: *mut c_char, size: usize) -> Code;
    pub fn rd_kafka_last_error() -> Code;
    pub fn rd_kafka_metadata(
        client: *mut rd::rd_kafka_t,
        all_topics: c_int,
        topic: *mut rd::rd_kafka_topic_t,
        metadata: *mut *const rd::rd_kafka_metadata,
        timeout_ms: c_int,
    ) -> Code;
    pub fn rd_kafka_query_watermark_offsets(
        client: *mut rd::rd_kafka_t,
        topic: *const c_char,
        partition: i32,
        low: *mut i64,
        high: *mut i64,
        timeout_ms: c_int,
    ) -> Code;
    pub fn rd_kafka_topic_result_error(result: *const rd::rd_kafka_topic_result_t) -> Code;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_without_a_name_keeps_its_number() {
        let code = Code(12_345);
        assert_eq!((code.number(), RDKafkaErrorCode::from(code)), (12_345, RDKafkaErrorCode::Unknown));
        let known = Code::from(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT);
        assert_eq!(RDKafkaErrorCode::from(known), RDKafkaErrorCode::OperationTimedOut);
    }
}
