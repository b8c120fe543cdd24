//! Fuzzes librdkafka's record batch reader with the data of one partition in a fetch response, as a
//! broker with a damaged disk can send it.

use std::mem::MaybeUninit;

use super::input::Input;

/// Mirrors `fuzzed_response_t` in batches.c.
#[repr(C)]
#[derive(Debug)]
struct FuzzedResponse {
    bytes: *const u8,
    size: usize,
    fetch_offset: i64,
    /// The end of the partition; -1 if the response does not contain it.
    end_offset: i64,
    /// The offset of damage that was found after other batches, or -1.
    failed_offset: i64,
    /// The offset of a batch that was the last one in an earlier response, or -1.
    unconfirmed_offset: i64,
    is_probe: bool,
    /// Whether the version of the response allows the broker to truncate the first batch.
    is_old: bool,
    /// Whether the C code corrects the checksums of the batches.
    is_signed: bool,
}

/// Mirrors `fuzzed_result_t` in batches.c.
#[repr(C)]
#[derive(Debug)]
struct FuzzedResult {
    position: i64,
    error: i32,
    batch_count: i32,
    base_offset: i64,
    next_offset: i64,
    is_damaged: bool,
    is_unconfirmed: bool,
    record_count: usize,
    error_count: usize,
    first: i64,
    last: i64,
    is_ordered: bool,
}

unsafe extern "C" {
    fn octopus_fuzz_batches(response: *const FuzzedResponse, result: *mut FuzzedResult);
}

/// The input consists of some choices and the bytes that the broker sends.
pub fn batches(input: &[u8]) {
    let mut input = Input::new(input);
    let [is_probe, is_old, is_signed, is_known_end] = [0; 4].map(|_| input.is());
    let fetch_offset = offset(&mut input);
    let end_offset = if is_known_end { offset(&mut input) } else { -1 };
    let [failed_offset, unconfirmed_offset] = [0; 2].map(|_| if input.is() { fetch_offset } else { -1 });
    let bytes = input.rest();
    if bytes.is_empty() {
        return; // the fetcher handles an empty response itself
    }
    let response = FuzzedResponse {
        bytes: bytes.as_ptr(),
        size: bytes.len(),
        fetch_offset,
        end_offset,
        failed_offset,
        unconfirmed_offset,
        is_probe,
        is_old,
        is_signed,
    };
    let mut result = MaybeUninit::uninit();
    // SAFETY: `response` and its bytes live during the call, and `result` is writable. The C code
    // is not thread-safe; libFuzzer calls the target on one thread.
    unsafe { octopus_fuzz_batches(&response, result.as_mut_ptr()) };
    // SAFETY: the call has filled all fields of `result`.
    let result = unsafe { result.assume_init() };
    check(&response, &result);
}

fn offset(input: &mut Input) -> i64 {
    i64::try_from(input.number() >> 1).expect("half of a number")
}

fn check(response: &FuzzedResponse, result: &FuzzedResult) {
    let shown = || format!("{response:?} gave {result:?}");
    assert!(result.position >= response.fetch_offset, "the position moved back: {}", shown());
    if response.is_probe {
        assert_eq!((result.position, result.record_count), (response.fetch_offset, 0), "a probe read records");
    }
    if result.record_count > 0 {
        assert!(result.first >= response.fetch_offset, "a record was repeated: {}", shown());
        assert!(result.position > result.last, "a record is after the position: {}", shown());
        assert!(result.is_ordered, "records are not in order: {}", shown());
        let is_before_the_end = response.end_offset < 0 || result.last < response.end_offset;
        assert!(is_before_the_end, "a record is after the end: {}", shown());
    }
    if !response.is_old && !response.is_probe && result.position == response.fetch_offset {
        // The fetcher reports a response without an error and without a batch at the position. If
        // there is a batch, the fetcher only waits, so the reader must report it.
        let is_reported = if result.error == 0 { result.batch_count == 0 } else { result.error_count > 0 };
        let is_silent = !is_reported && !result.is_damaged && !result.is_unconfirmed;
        assert!(!is_silent, "data was skipped without a report: {}", shown());
    }
}
