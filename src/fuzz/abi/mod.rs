//! Fuzzes the slots of the C ABI with everything that a host can pass: structs of any size, NULL,
//! misaligned pointers, invalid texts, extreme numbers, callbacks that fail. The memory is always
//! valid by the rules of C. Where that is simple, the expected result is computed independently
//! here.

#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a target calls a sequence of ABI functions under one precondition"
)]

mod host;
mod ownership;
mod pushing;
mod results;

use std::ptr::null_mut;

use super::input::Input;
use super::memory::Memory;
use crate::abi::*;
use host::Host;

/// Several calls in one input, so that a call can depend on the state that an earlier one left.
const MAX_CALLS: usize = 6;

pub fn abi(input: &[u8]) {
    let mut input = Input::new(input);
    let host = Host::get();
    for _ in 0..MAX_CALLS {
        if input.is_used_up() {
            break;
        }
        let mut memory = Memory::default();
        match input.one_of(12) {
            0..=3 => pushing::push(host, &mut memory, &mut input),
            4..=6 => pushing::push_many(host, &mut memory, &mut input),
            7 => ownership::make_client(host, &mut memory, &mut input),
            8 => ownership::create(host, &mut memory, &mut input),
            9 => ownership::pool(host, &mut memory, &mut input),
            10 => results::view(host, &mut memory, &mut input),
            _ => results::query(host, &mut memory, &mut input),
        }
    }
}

/// Calls a slot that may fail, and checks its status and error.
fn call(
    memory: &mut Memory,
    input: &mut Input,
    slot: impl FnOnce(*mut *mut octopus_error) -> octopus_status,
) -> octopus_status {
    let place = match input.one_of(4) {
        0 => null_mut(),
        // A slot must overwrite the pointer without reading it.
        _ => memory.array(&[std::ptr::dangling_mut::<octopus_error>()]),
    };
    let status = slot(place);
    let wants_error = !place.is_null();
    // SAFETY: `place` is not NULL, and the slot has written to it.
    let error = if wants_error { unsafe { place.read() } } else { null_mut() };
    let message = describe(error, status);
    assert!((OCTOPUS_FORKED + 1..=OCTOPUS_WOULD_BLOCK).contains(&status), "status {status}: {message}");
    assert_eq!(
        !error.is_null(),
        wants_error && status < OCTOPUS_OK,
        "status {status}: an error object exists exactly for a failure"
    );
    status
}

/// Checks an error, releases it, and returns its message.
fn describe(error: *mut octopus_error, status: octopus_status) -> String {
    // SAFETY: `error` is NULL or live until its release at the end; the functions accept NULL.
    unsafe {
        let code = (ERROR.code.unwrap())(error);
        let message = (ERROR.message.unwrap())(error).read("message").expect("a message is UTF-8").to_owned();
        let retriable = (ERROR.retriable.unwrap())(error);
        assert!([0, 1].contains(&retriable), "{message}");
        assert!(
            [OCTOPUS_PERSISTED_NO, OCTOPUS_PERSISTED_POSSIBLY].contains(&(ERROR.persisted.unwrap())(error)),
            "{message}"
        );
        (ERROR.kafka_code.unwrap())(error);
        (ERROR.release.unwrap())(error);
        if !error.is_null() {
            assert_eq!(code, status, "{message}");
            assert!(message.len() > 10, "{message}");
        }
        message
    }
}

/// A pointer for a result that contains `before`, or NULL, or a misaligned pointer.
fn output<T: Copy>(memory: &mut Memory, input: &mut Input, before: T) -> *mut T {
    match input.one_of(16) {
        0 => null_mut(),
        1 if align_of::<T>() > 1 => memory.misaligned(size_of::<T>()),
        _ => memory.array(&[before]),
    }
}

fn is_place<T>(place: *mut T) -> bool {
    !place.is_null() && place.is_aligned()
}
