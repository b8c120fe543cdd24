//! The slots of the C ABI, called as a host may call them: structs of any size, NULL, pointers that are not aligned, texts that are
//! none, numbers at their edges, callbacks that fail. Memory is what C's rules demand. What each call must return is worked
//! out a second time here, where that can be said simply.

mod host;
mod pushing;
mod results;
mod taking_over;

use std::ptr::null_mut;

use super::input::Input;
use super::memory::Memory;
use crate::abi::*;
use host::Host;

/// Calls in one input: state that they leave in a handle meets the next ones.
const MOST_CALLS: usize = 6;

pub fn abi(input: &[u8]) {
    let mut input = Input::new(input);
    let host = Host::get();
    for _ in 0..MOST_CALLS {
        if input.is_used_up() {
            break;
        }
        let mut memory = Memory::default();
        match input.one_of(12) {
            0..=3 => pushing::push(host, &mut memory, &mut input),
            4..=6 => pushing::push_many(host, &mut memory, &mut input),
            7 => taking_over::make_client(host, &mut memory, &mut input),
            8 => taking_over::create(host, &mut memory, &mut input),
            9 => taking_over::pool(host, &mut memory, &mut input),
            10 => results::view(host, &mut memory, &mut input),
            _ => results::ask(host, &mut memory, &mut input),
        }
    }
}

/// Calls a slot that may fail, and looks at what comes back.
fn call(
    memory: &mut Memory,
    input: &mut Input,
    slot: impl FnOnce(*mut *mut octopus_error) -> octopus_status,
) -> octopus_status {
    let place = match input.one_of(4) {
        0 => null_mut(),
        // Overwritten unread.
        _ => memory.array(&[std::ptr::dangling_mut::<octopus_error>()]),
    };
    let status = slot(place);
    let wants_error = !place.is_null();
    // SAFETY: NULL, or written by the slot.
    let error = if wants_error { unsafe { place.read() } } else { null_mut() };
    let why = describe(error, status);
    assert!((OCTOPUS_FORKED + 1..=OCTOPUS_WOULD_BLOCK).contains(&status), "status {status}: {why}");
    assert_eq!(!error.is_null(), wants_error && status < OCTOPUS_OK, "an error object is there for a failure only");
    status
}

/// All that an error says, which is then released.
fn describe(error: *mut octopus_error, status: octopus_status) -> String {
    // SAFETY: NULL, or a live error until its release.
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

/// A place for a result, NULL, or none that a result can be written to; and what is there before.
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
