//! Calls on results: futures, events, and queries of consumers and drivers.

use std::ffi::c_void;
use std::ptr::null_mut;

use super::super::input::Input;
use super::super::memory::Memory;
use super::host::Host;
use super::{call, is_place, output};
use crate::abi::*;

/// Calls functions of a future, and releases it.
///
/// # Safety
/// `future` is a live future of a push that the caller does not use afterwards.
pub unsafe fn use_future(memory: &mut Memory, input: &mut Input, future: *mut octopus_future) {
    // SAFETY: the future is live until its release at the end (fn contract); pointers are NULL,
    // misaligned or from `memory`.
    unsafe {
        for _ in 0..input.one_of(3) {
            match input.one_of(7) {
                0 => {
                    let place = output(memory, input, 7);
                    let status = call(memory, input, |error| (FUTURE.test.unwrap())(future, place, error));
                    assert_eq!(status == OCTOPUS_OK, is_place(place));
                    assert!(status != OCTOPUS_OK || [0, 1].contains(&place.read()));
                }
                1 => {
                    call(memory, input, |error| (FUTURE.wait.unwrap())(future, 0, error));
                }
                2 => {
                    let place = output(memory, input, 7);
                    let status = call(memory, input, |error| (FUTURE.event_id.unwrap())(future, place, error));
                    assert!(status != OCTOPUS_OK || is_place(place));
                }
                3 => {
                    let place = output(memory, input, 7);
                    let status = call(memory, input, |error| (FUTURE.partition.unwrap())(future, place, error));
                    assert!(status != OCTOPUS_OK || is_place(place) && place.read() < 3);
                }
                4 => {
                    let place = output(memory, input, null_mut());
                    let status = call(memory, input, |error| (FUTURE.event.unwrap())(future, place, error));
                    assert_eq!(status, OCTOPUS_INVALID_ARGUMENT, "a push has no event");
                }
                5 => {
                    (FUTURE.retain.unwrap())(future);
                    (FUTURE.release.unwrap())(future);
                }
                _ => complete(memory, input, future),
            }
        }
        (FUTURE.release.unwrap())(future);
    }
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn completed(context: *mut c_void, _: *mut octopus_future) {
    // SAFETY: `context` is the box from `complete`, which is destroyed after this call.
    unsafe { *context.cast::<u64>() += 1 };
}

/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn destroy_box(context: *mut c_void) {
    // SAFETY: `context` is from `Box::into_raw`, and the ABI destroys it once. The sanitizer
    // reports a second destruction, or none.
    drop(unsafe { Box::from_raw(context.cast::<u64>()) });
}

/// # Safety
/// `future` is live.
unsafe fn complete(memory: &mut Memory, input: &mut Input, future: *mut octopus_future) {
    let function = (input.one_of(4) > 0).then_some(completed as unsafe extern "C" fn(_, _));
    let place = match input.one_of(8) {
        0 => null_mut(),
        1 => memory.misaligned(size_of::<octopus_completion>()),
        _ => {
            let context = Box::into_raw(Box::new(0_u64)).cast();
            memory.array(&[octopus_completion { function, context, destroy: Some(destroy_box) }])
        }
    };
    // SAFETY: `future` is live (fn contract); `place` is NULL, misaligned or from `memory`.
    let status = call(memory, input, |error| unsafe { (FUTURE.on_complete.unwrap())(future, place, error) });
    assert_eq!(status == OCTOPUS_OK, is_place(place) && function.is_some());
}

/// Views an event in structs of any size, and compares them with the full struct.
pub fn view(host: &Host, memory: &mut Memory, input: &mut Input) {
    let event = match input.one_of(8) {
        0 => null_mut(),
        number => host.events[usize::from(number) % host.events.len()],
    };
    let before: octopus_event_view = octopus_event_view { id: 77, partition: 77, ..sized() };
    let size = memory.size_of_a_host::<octopus_event_view>(input);
    let place = match input.one_of(16) {
        0 => null_mut(),
        1 => memory.misaligned(size_of::<octopus_event_view>()),
        _ => memory.growing_array(&[before], size),
    };
    // SAFETY: `place` is NULL, misaligned, or from `memory` with at least `size` bytes; the events
    // are live.
    unsafe {
        let untouched: Vec<u8> =
            if is_place(place) { std::slice::from_raw_parts(place.cast(), size.max(8)).to_vec() } else { Vec::new() };
        let status = call(memory, input, |error| (EVENT.view.unwrap())(event, place, error));
        let is_possible = !event.is_null() && is_place(place) && size >= 8;
        assert_eq!(status, if is_possible { OCTOPUS_OK } else { OCTOPUS_INVALID_ARGUMENT });
        if is_place(place) {
            let mut full: octopus_event_view = sized();
            if is_possible {
                assert_eq!((EVENT.view.unwrap())(event, &mut full, null_mut()), OCTOPUS_OK);
            }
            let now = std::slice::from_raw_parts(place.cast::<u8>(), size.max(8));
            let whole = std::slice::from_raw_parts((&raw const full).cast::<u8>(), size_of_val(&full));
            let written = if is_possible { 8..size.min(whole.len()) } else { 0..0 };
            assert_eq!(now[written.clone()], whole[written.clone()]);
            let end = written.end.max(8).min(now.len());
            assert!(now[..8] == untouched[..8] && now[end..] == untouched[end..], "bytes of the host were changed");
        }
        if !event.is_null() && input.is() {
            (EVENT.retain.unwrap())(event);
            (EVENT.release.unwrap())(event);
        }
        let status = call(memory, input, |error| (EVENT.acknowledge.unwrap())(event, error));
        assert_eq!(status == OCTOPUS_OK, !event.is_null());
    }
}

/// Calls that need no broker.
pub fn query(host: &Host, memory: &mut Memory, input: &mut Input) {
    let consumer = if input.one_of(8) == 0 { null_mut() } else { host.consumer };
    // SAFETY: pointers are NULL, misaligned, or from `memory` with the stated lengths; handles are
    // NULL or live.
    unsafe {
        match input.one_of(12) {
            0 => {
                let (max, count) = (u64::from(input.one_of(4)), output(memory, input, 99_u64));
                let events = match input.one_of(4) {
                    0 => null_mut(),
                    1 => memory.misaligned(max as usize * 8),
                    _ => memory.array(&vec![null_mut(); max as usize]),
                };
                // No input pushes to the topic of the consumer, so there is no event.
                let status =
                    call(memory, input, |error| (CONSUMER.pull_many.unwrap())(consumer, max, 0, events, count, error));
                assert!(status != OCTOPUS_OK || max == 0 && is_place(count) && count.read() == 0, "status {status}");
            }
            1 => {
                let capacity = u64::from(input.one_of(3));
                let partitions = match input.one_of(4) {
                    0 => null_mut(),
                    1 if capacity > 0 => memory.misaligned(capacity as usize * 4),
                    _ => memory.array(&vec![77_u32; capacity as usize]),
                };
                let count = output(memory, input, 99_u64);
                let status = call(memory, input, |error| {
                    (CONSUMER.assignment.unwrap())(consumer, partitions, capacity, count, error)
                });
                let is_possible = !consumer.is_null() && is_place(count) && (capacity == 0 || is_place(partitions));
                assert_eq!(status == OCTOPUS_OK, is_possible);
                if is_possible {
                    assert_eq!(count.read(), 1);
                    assert!((0..capacity as usize).all(|at| partitions.add(at).read() == [host.partition, 77, 77][at]));
                }
            }
            2 => {
                let place = output(memory, input, null_mut());
                let status = call(memory, input, |error| (CONSUMER.pull.unwrap())(consumer, place, error));
                assert_eq!(status == OCTOPUS_OK, is_place(place) && !consumer.is_null());
                if status == OCTOPUS_OK {
                    let pull = place.read();
                    let status = call(memory, input, |error| (FUTURE.wait.unwrap())(pull, 0, error));
                    assert_eq!(status, OCTOPUS_TIMED_OUT);
                    (FUTURE.release.unwrap())(pull);
                }
            }
            3 => {
                let other = match input.number() as u32 {
                    ours if ours == host.partition => u32::MAX,
                    other => other,
                };
                let place = output(memory, input, 7_u64);
                let offset = input.number();
                let status = match input.one_of(3) {
                    0 => call(memory, input, |error| (CONSUMER.position.unwrap())(consumer, other, place, error)),
                    1 => call(memory, input, |error| (CONSUMER.lag.unwrap())(consumer, other, place, error)),
                    _ => call(memory, input, |error| (CONSUMER.seek.unwrap())(consumer, other, offset, error)),
                };
                assert!(status < OCTOPUS_OK, "partition {other} is not assigned: {status}");
            }
            4 => {
                let place = output(memory, input, 7_u64);
                call(memory, input, |error| (PRODUCER.max_event_size.unwrap())(host.small, place, error));
            }
            5 => {
                let place = output(memory, input, null_mut());
                let status = call(memory, input, |error| (DRIVER.describe.unwrap())(host.driver, place, error));
                assert_eq!(status == OCTOPUS_OK, is_place(place));
                if status == OCTOPUS_OK {
                    let description = (STRING_API.view.unwrap())(place.read());
                    assert!(description.read("description").is_ok_and(|json| json.starts_with('{')));
                    (STRING_API.release.unwrap())(place.read());
                }
            }
            6 => {
                let place = output(memory, input, null_mut());
                let status =
                    call(memory, input, |error| (DRIVER.default_thread_pool.unwrap())(host.driver, place, error));
                assert_eq!(status == OCTOPUS_OK, is_place(place));
                if status == OCTOPUS_OK {
                    (THREAD_POOL.release.unwrap())(place.read());
                }
            }
            7 => {
                let place = output(memory, input, octopus_text::EMPTY);
                let status = match input.is() {
                    true => call(memory, input, |error| (TOPIC.name.unwrap())(host.topic, place, error)),
                    false => call(memory, input, |error| (TOPIC.components.unwrap())(host.topic, place, error)),
                };
                assert_eq!(status == OCTOPUS_OK, is_place(place));
                assert!(status != OCTOPUS_OK || place.read().read("text").is_ok());
            }
            8 => {
                let place = output(memory, input, 7_u32);
                let status = call(memory, input, |error| (TOPIC.partition_count.unwrap())(host.topic, place, error));
                assert_eq!(status == OCTOPUS_OK, is_place(place));
            }
            9 => {
                let place = output(memory, input, null_mut());
                let status = call(memory, input, |error| (PRODUCER.flush.unwrap())(host.plain, place, error));
                assert_eq!(status == OCTOPUS_OK, place.is_null() || is_place(place));
                if status == OCTOPUS_OK && !place.is_null() {
                    (FUTURE.release.unwrap())(place.read());
                }
            }
            10 => process(consumer, memory, input),
            _ => call_with_null(input),
        }
    }
}

use crate::abi::string::STRING as STRING_API;

/// Called at the first timeout, without an event. Stops `process`.
///
/// # Safety
/// The plugin calls it as the contract of the callback in include/octopus.h says.
unsafe extern "C" fn process_none(_: *mut c_void, event: *mut octopus_event) -> i32 {
    assert!(event.is_null(), "there is an event");
    OCTOPUS_PROCESS_STOP
}

/// # Safety
/// `consumer` is NULL or live.
unsafe fn process(consumer: *mut octopus_consumer, memory: &mut Memory, input: &mut Input) {
    let function = (input.one_of(4) > 0).then_some(process_none as unsafe extern "C" fn(_, _) -> i32);
    let place = match input.one_of(8) {
        0 => null_mut(),
        1 => memory.misaligned(size_of::<octopus_processor>()),
        _ => {
            let context = Box::into_raw(Box::new(0_u64)).cast();
            memory.array(&[octopus_processor { function, context, destroy: Some(destroy_box) }])
        }
    };
    let max_events = input.number();
    let status = call(memory, input, |error| {
        // SAFETY: `consumer` is NULL or live (fn contract); the processor is NULL, misaligned or
        // from `memory`.
        unsafe { (CONSUMER.process.unwrap())(consumer, place, 0, max_events, std::ptr::null(), error) }
    });
    assert_eq!(status == OCTOPUS_OK, !consumer.is_null() && is_place(place) && function.is_some(), "status {status}");
}

/// Functions that do nothing for NULL.
fn call_with_null(input: &mut Input) {
    let major = input.number() as u32;
    assert_eq!(octopus_register(major).is_null(), major != OCTOPUS_ABI_MAJOR);
    // SAFETY: all of these functions accept NULL.
    unsafe {
        (ERROR.release.unwrap())(null_mut());
        (STRING_API.release.unwrap())(null_mut());
        (DRIVER.release.unwrap())(null_mut());
        (TOPIC.release.unwrap())(null_mut());
        (PRODUCER.release.unwrap())(null_mut());
        (CONSUMER.release.unwrap())(null_mut());
        (THREAD_POOL.release.unwrap())(null_mut());
        (FUTURE.retain.unwrap())(null_mut());
        (FUTURE.release.unwrap())(null_mut());
        (EVENT.retain.unwrap())(null_mut());
        (EVENT.release.unwrap())(null_mut());
        assert_eq!((STRING_API.view.unwrap())(null_mut()).size, 0);
        assert_eq!((ERROR.code.unwrap())(null_mut()), OCTOPUS_OK);
    }
}
