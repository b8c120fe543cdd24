//! `push` and `push_many`, and the outcome that each event must have.

use std::ptr::null_mut;

use super::super::input::Input;
use super::super::memory::{Memory, bytes_of, known};
use super::host::{Host, Script, choose, destroy, prepare};
use super::results;
use super::{call, is_place, output};
use crate::abi::*;

/// The required outcome of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedOutcome {
    Rejected(octopus_status),
    /// `push` succeeds, and the future fails at once.
    Failed(octopus_status),
    Queued,
}

/// The record size limit of the small producer: the minimum of `message.max.bytes`, less the
/// overhead of librdkafka.
const SMALL_RECORD: usize = 1_000 - 36;

/// The producer of a call.
struct Target {
    producer: *mut octopus_producer,
    max_record: usize,
    by_host: bool,
}

impl Target {
    fn read(host: &Host, input: &mut Input) -> Self {
        let max_record = 1_000_000 - 36;
        match input.one_of(8) {
            0 => Target { producer: null_mut(), max_record, by_host: false },
            1 | 2 => Target { producer: host.small, max_record: SMALL_RECORD, by_host: false },
            3 | 4 => Target { producer: host.by_host, max_record, by_host: true },
            _ => Target { producer: host.plain, max_record, by_host: false },
        }
    }
}

/// An event of a host, and the script of its preparation.
fn event(memory: &mut Memory, input: &mut Input) -> (octopus_push_args, Box<Script>) {
    let script = Script::read(memory, input);
    let mut event: octopus_push_args = sized();
    event.metadata = match input.one_of(3) {
        0 => octopus_bytes::view(br#"{"a": [1, "b"]}"#),
        _ => memory.bytes(input),
    };
    let segments: Vec<_> = (0..input.one_of(4)).map(|_| memory.bytes(input)).collect();
    event.segment_count = segments.len() as u64;
    event.segments = match input.one_of(16) {
        0 => null_mut(),
        1 => memory.misaligned(size_of_val(&*segments)),
        _ => memory.array(&segments),
    };
    event.partition = input.number();
    event.has_partition = [0, 1, 0x8000_0000][usize::from(input.one_of(3))];
    event.metadata_is_serialized = u32::from(input.one_of(4) == 0);
    event.has_timeout = u32::from(input.one_of(4) == 0);
    event.timeout_ms = i64::from(input.one_of(3)) - 1;
    if input.one_of(4) == 0 {
        event.attributes = attributes(memory, input);
    }
    if input.one_of(3) == 0 {
        let mut preparation: octopus_preparation = sized();
        preparation.context = script.context();
        preparation.destroy = input.is().then_some(destroy);
        preparation.prepare = (input.one_of(8) > 0).then_some(prepare);
        preparation.select = input.is().then_some(choose);
        event.preparation = memory.growing(input, preparation);
        event.metadata.size *= u64::from(input.one_of(4) == 0);
    }
    (event, script)
}

fn attributes(memory: &mut Memory, input: &mut Input) -> *const octopus_push_attributes {
    let mut attributes: octopus_push_attributes = sized();
    attributes.key = memory.bytes(input);
    let headers: Vec<_> =
        (0..input.one_of(3)).map(|_| octopus_header { name: memory.text(input), value: memory.bytes(input) }).collect();
    attributes.header_count = headers.len() as u64;
    attributes.headers = match input.one_of(16) {
        0 => null_mut(),
        1 => memory.misaligned(size_of_val(&*headers)),
        _ => memory.array(&headers),
    };
    attributes.timestamp_ms = input.number() as i64;
    attributes.has_timestamp = u32::from(input.is());
    memory.growing(input, attributes)
}

/// The bytes that the attributes of an event add to its record; `None` if they are invalid.
///
/// # Safety
/// The pointers in `event` are NULL, misaligned, or from a live [`Memory`].
unsafe fn size_of_attributes(event: &octopus_push_args) -> Option<usize> {
    if event.attributes.is_null() {
        return Some(0);
    }
    // SAFETY: the pointers are NULL, misaligned, or from a live `Memory` (fn contract); arrays have
    // the stated lengths.
    unsafe {
        let attributes = known(event.attributes)?;
        if attributes.headers.is_null() && attributes.header_count > 0 || !attributes.headers.is_aligned() {
            return None;
        }
        if attributes.has_timestamp != 0 && attributes.timestamp_ms < 1 {
            return None;
        }
        let mut size = bytes_of(attributes.key)?.len();
        for at in 0..attributes.header_count as usize {
            let header = *attributes.headers.add(at);
            let name = bytes_of(octopus_bytes { data: header.name.data.cast(), size: header.name.size })?;
            std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('\0'))?;
            // Two lengths, of ten bytes at most.
            size += name.len() + bytes_of(header.value)?.len() + 20;
        }
        Some(size)
    }
}

/// The required outcome of an event, as the plugin reads it.
///
/// # Safety
/// The pointers in `event` are NULL, misaligned, or from a live [`Memory`].
unsafe fn outcome(target: &Target, event: &octopus_push_args, script: &Script, director: &Script) -> ExpectedOutcome {
    let rejected = ExpectedOutcome::Rejected;
    let failed = ExpectedOutcome::Failed(OCTOPUS_CALLBACK_FAILED);
    // SAFETY: the pointers are NULL, misaligned, or from a live `Memory` (fn contract); arrays have
    // the stated lengths.
    unsafe {
        let preparation = known(event.preparation);
        let is_prepared = !event.preparation.is_null();
        if target.producer.is_null() || is_prepared && preparation.is_none_or(|own| own.prepare.is_none()) {
            return rejected(OCTOPUS_INVALID_ARGUMENT);
        }
        if event.segments.is_null() && event.segment_count > 0 || !event.segments.is_aligned() {
            return rejected(OCTOPUS_INVALID_ARGUMENT);
        }
        let mut data_size = 0;
        for at in 0..event.segment_count as usize {
            let Some(segment) = bytes_of(*event.segments.add(at)) else { return rejected(OCTOPUS_INVALID_ARGUMENT) };
            data_size += segment.len();
        }
        let attributes = size_of_attributes(event);
        let attributes_size = attributes.unwrap_or(0);
        if let Some(own) = preparation {
            return match () {
                () if event.metadata.size > 0 || attributes.is_none() => rejected(OCTOPUS_INVALID_ARGUMENT),
                () if 16 + data_size + attributes_size > target.max_record => {
                    ExpectedOutcome::Failed(OCTOPUS_TOO_LARGE)
                }
                () if script.fails() => failed,
                () if 16 + script.appended_size() + data_size + attributes_size > target.max_record => {
                    ExpectedOutcome::Failed(OCTOPUS_TOO_LARGE)
                }
                () if own.select.is_some() && script.partition >= PARTITION_COUNT => failed,
                () if own.select.is_none() && target.by_host => outcome_of_selection(director),
                () => ExpectedOutcome::Queued,
            };
        }
        let Some(metadata) = bytes_of(event.metadata) else { return rejected(OCTOPUS_INVALID_ARGUMENT) };
        let is_text = event.metadata_is_serialized == 0;
        let text = match std::str::from_utf8(metadata) {
            _ if event.metadata.data.is_null() => "{}",
            Ok(text) => text,
            Err(_) if is_text => return rejected(OCTOPUS_INVALID_METADATA),
            Err(_) => "",
        };
        let metadata_size = if is_text { 8 + text.len() } else { metadata.len() };
        match () {
            () if attributes.is_none() => rejected(OCTOPUS_INVALID_ARGUMENT),
            () if 16 + metadata_size + data_size + attributes_size > target.max_record => rejected(OCTOPUS_TOO_LARGE),
            () if is_text && crate::json::check(text).is_err() => rejected(OCTOPUS_INVALID_METADATA),
            () if target.by_host && is_text && director.fails() => rejected(OCTOPUS_CALLBACK_FAILED),
            () if target.by_host => outcome_of_selection(director),
            () => ExpectedOutcome::Queued,
        }
    }
}

/// The number of partitions of each topic.
const PARTITION_COUNT: u32 = 3;

fn outcome_of_selection(director: &Script) -> ExpectedOutcome {
    if director.fails() || director.partition >= PARTITION_COUNT {
        return ExpectedOutcome::Failed(OCTOPUS_CALLBACK_FAILED);
    }
    ExpectedOutcome::Queued
}

/// How many times a preparation must have been destroyed at the end of the call.
///
/// # Safety
/// `preparation` is NULL, misaligned, or from a live [`Memory`].
unsafe fn expected_destructions(preparation: *const octopus_preparation) -> u32 {
    // SAFETY: `preparation` is NULL, misaligned, or from a live `Memory` (fn contract).
    unsafe { known(preparation) }.is_some_and(|own| own.destroy.is_some() && !own.context.is_null()).into()
}

pub fn push(host: &Host, memory: &mut Memory, input: &mut Input) {
    let target = Target::read(host, input);
    let director = Script::read(memory, input);
    let (event, script) = event(memory, input);
    let event = memory.growing(input, event);
    let future = output(memory, input, null_mut::<octopus_future>());
    // SAFETY: pointers are NULL, misaligned or from `memory`; handles are NULL or live.
    unsafe {
        let seen = known(event);
        let expected = match &seen {
            _ if !future.is_null() && !is_place(future) => ExpectedOutcome::Rejected(OCTOPUS_INVALID_ARGUMENT),
            None => ExpectedOutcome::Rejected(OCTOPUS_INVALID_ARGUMENT),
            Some(seen) => outcome(&target, seen, &script, &director),
        };
        let status = director
            .direct(|| call(memory, input, |error| (PRODUCER.push.unwrap())(target.producer, event, future, error)));
        let given = match expected {
            ExpectedOutcome::Rejected(rejection) => {
                assert_eq!(status, rejection);
                null_mut()
            }
            _ if future.is_null() => null_mut(),
            _ => future.read(),
        };
        if !matches!(expected, ExpectedOutcome::Rejected(_)) {
            assert_eq!(status, OCTOPUS_OK, "{expected:?}");
        }
        if is_place(future) {
            assert_eq!(future.read(), given, "a result was written without success");
        }
        assert_eq!(
            script.destroyed.get(),
            seen.map_or(0, |seen| expected_destructions(seen.preparation)),
            "{expected:?}"
        );
        check_future(memory, input, expected, given);
    }
}

pub fn push_many(host: &Host, memory: &mut Memory, input: &mut Input) {
    let target = Target::read(host, input);
    let director = Script::read(memory, input);
    let (events, scripts): (Vec<_>, Vec<_>) = (0..input.one_of(5)).map(|_| event(memory, input)).unzip();
    let size = memory.size_of_a_host::<octopus_push_args>(input);
    let count = events.len() as u64;
    let array = match input.one_of(16) {
        0 => null_mut(),
        1 => memory.misaligned(events.len() * size),
        _ => memory.growing_array(&events, size),
    };
    // The size of the first element is the stride, so all elements must have the same size.
    let other = usize::from(input.byte());
    if size >= 8 && (1..events.len()).contains(&other) && is_place(array) {
        // SAFETY: `other` is below the length of the array, whose elements have `size` bytes.
        unsafe { array.byte_add(other * size).cast::<u64>().write_unaligned(input.number()) };
    }
    let futures = match input.one_of(4) {
        0 => null_mut(),
        1 if !events.is_empty() => memory.misaligned(events.len() * 8),
        _ => memory.array(&vec![null_mut::<octopus_future>(); events.len()]),
    };
    let pushed = output(memory, input, u64::MAX);
    let status = director.direct(|| {
        call(memory, input, |error| {
            // SAFETY: pointers are NULL, misaligned or from `memory`; handles are NULL or live.
            unsafe { (PRODUCER.push_many.unwrap())(target.producer, array, count, futures, pushed, error) }
        })
    });

    // SAFETY: pointers are as above; `push_many` has written as many futures as `pushed` says.
    unsafe {
        // The plugin owns the preparations of all elements that it can read.
        let readable = elements(array, count);
        for (index, script) in scripts.iter().enumerate() {
            let expected = readable.get(index).map_or(0, |event| expected_destructions(event.preparation));
            assert_eq!(script.destroyed.get(), expected, "preparation {index} of {count}");
        }
        let places_are_wrong = !is_place(pushed) || (!futures.is_null() && !futures.is_aligned());
        if target.producer.is_null() || places_are_wrong {
            assert_eq!(status, OCTOPUS_INVALID_ARGUMENT);
            return;
        }
        let mut expected = OCTOPUS_OK;
        let mut outcomes = Vec::new();
        for (index, script) in scripts.iter().enumerate() {
            match readable.get(index).map(|event| outcome(&target, event, script, &director)) {
                Some(ExpectedOutcome::Rejected(status)) => expected = status,
                None => expected = OCTOPUS_INVALID_ARGUMENT,
                Some(outcome) => outcomes.push(outcome),
            }
            if expected != OCTOPUS_OK {
                break;
            }
        }
        assert_eq!((status, pushed.read()), (expected, outcomes.len() as u64), "{outcomes:?}");
        if !futures.is_null() {
            for (index, outcome) in outcomes.into_iter().enumerate() {
                check_future(memory, input, outcome, futures.add(index).read());
            }
        }
    }
}

/// The events of an array, up to the first invalid one.
///
/// # Safety
/// `array` is NULL, misaligned, or from a live [`Memory`] with `count` elements.
unsafe fn elements(array: *const octopus_push_args, count: u64) -> Vec<octopus_push_args> {
    let mut elements = Vec::new();
    if array.is_null() || !array.is_aligned() || count == 0 {
        return elements;
    }
    // SAFETY: the array has at least eight bytes, and `count` elements of `stride` bytes.
    unsafe {
        let stride = array.cast::<u64>().read();
        for index in 0..count {
            if stride < 8 || stride % 8 != 0 {
                break;
            }
            let element = array.byte_add((index * stride) as usize);
            if element.cast::<u64>().read() != stride {
                break;
            }
            elements.extend(known(element));
        }
    }
    elements
}

/// # Safety
/// `future` is NULL, or a future that the caller does not use afterwards: it is released.
unsafe fn check_future(memory: &mut Memory, input: &mut Input, outcome: ExpectedOutcome, future: *mut octopus_future) {
    if future.is_null() {
        return;
    }
    if let ExpectedOutcome::Failed(expected) = outcome {
        // SAFETY: `future` is live (fn contract).
        let status = call(memory, input, |error| unsafe { (FUTURE.wait.unwrap())(future, 0, error) });
        assert_eq!(status, expected);
    }
    // SAFETY: `future` is live and not used afterwards (fn contract).
    unsafe { results::use_future(memory, input, future) };
}
