//! cJSON, which librdkafka contains.

use std::ffi::{c_char, c_void};

use crate::kafka::librdkafka::text::text;

/// Patch 0046.
#[test]
fn cjson_is_a_version_without_known_vulnerabilities() {
    unsafe extern "C" {
        fn cJSON_Version() -> *const c_char;
        fn cJSON_ParseWithLength(text: *const c_char, length: usize) -> *mut c_void;
        fn cJSON_Delete(item: *mut c_void);
    }
    // SAFETY: has no precondition; returns a static text.
    assert_eq!(unsafe { text(cJSON_Version()) }, "1.7.19");
    // Older versions read past the end of these texts. AddressSanitizer detects it, since the
    // allocation ends there.
    for truncated in
        ["{\"1\":1,", "[1,", "\"\\", "{\"a\": true, \"b\": [ null,9999999999999999999999999999999999999999999999"]
    {
        let exact: Box<[u8]> = truncated.as_bytes().into();
        // SAFETY: the text has the given length; the result is owned here and may be NULL.
        unsafe { cJSON_Delete(cJSON_ParseWithLength(exact.as_ptr().cast(), exact.len())) };
    }
}
