//! A partition in a Fetch response, as a broker with a damaged disk can send it, for librdkafka's record batch reader.

use std::mem::MaybeUninit;

use super::input::Input;

/// As `fuzzed_response_t` of batches.c.
#[repr(C)]
#[derive(Debug)]
struct FuzzedResponse {
    bytes: *const u8,
    size: usize,
    fetch_offset: i64,
    /// Of the partition, -1 if the response doesn't say it.
    end_offset: i64,
    /// Where damage was found behind other batches, or -1.
    failed_offset: i64,
    /// Where a batch is that the broker has sent nothing behind, or -1.
    unconfirmed_offset: i64,
    is_probe: bool,
    /// Of a version in which a broker may truncate the first batch.
    is_old: bool,
    /// The checksums of batches are made right.
    is_signed: bool,
}

/// As `fuzzed_result_t` of batches.c.
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

/// The input is some choices, and what the broker sends.
pub fn batches(input: &[u8]) {
    let mut input = Input::new(input);
    let [is_probe, is_old, is_signed, is_known_end] = [0; 4].map(|_| input.is());
    let fetch_offset = offset(&mut input);
    let end_offset = if is_known_end { offset(&mut input) } else { -1 };
    let [failed_offset, unconfirmed_offset] = [0; 2].map(|_| if input.is() { fetch_offset } else { -1 });
    let bytes = input.rest();
    if bytes.is_empty() {
        return; // the fetcher sees that
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
    // SAFETY: the bytes live for the call, which fills the result; this process has one thread that fuzzes.
    let result = unsafe {
        octopus_fuzz_batches(&response, result.as_mut_ptr());
        result.assume_init()
    };
    check(&response, &result);
}

fn offset(input: &mut Input) -> i64 {
    i64::try_from(input.number() >> 1).expect("half of a number")
}

fn check(response: &FuzzedResponse, result: &FuzzedResult) {
    let shown = || format!("{response:?} gave {result:?}");
    assert!(result.position >= response.fetch_offset, "positions don't move back: {}", shown());
    if response.is_probe {
        assert_eq!((result.position, result.record_count), (response.fetch_offset, 0), "a probe reads nothing");
    }
    if result.record_count > 0 {
        assert!(result.first >= response.fetch_offset, "nothing comes again: {}", shown());
        assert!(result.position > result.last, "what came is behind the position: {}", shown());
        assert!(result.is_ordered, "records come in order: {}", shown());
        let is_before_the_end = response.end_offset < 0 || result.last < response.end_offset;
        assert!(is_before_the_end, "nothing comes from behind the end: {}", shown());
    }
    if !response.is_old && !response.is_probe && result.position == response.fetch_offset {
        // What came without an error and without a batch at the position, the fetcher reports. With one it only waits.
        let is_reported = if result.error == 0 { result.batch_count == 0 } else { result.error_count > 0 };
        let is_silent = !is_reported && !result.is_damaged && !result.is_unconfirmed;
        assert!(!is_silent, "nothing is passed over in silence: {}", shown());
    }
}
