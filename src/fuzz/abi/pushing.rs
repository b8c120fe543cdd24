//! `push` and `push_many`, with what each must say.

use std::ptr::null_mut;

use super::super::input::Input;
use super::super::memory::{Memory, known, meant};
use super::host::{Host, Script, choose, destroy, prepare, sized};
use super::results;
use super::{call, is_place, output};
use crate::abi::*;

/// What must come of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Refused(octopus_status),
    /// Queued, and its future fails at once.
    Failed(octopus_status),
    Queued,
}

/// Of the small producer: the least that librdkafka takes, less what it adds to each record.
const SMALL_RECORD: usize = 1_000 - 36;

/// Who is pushed to.
struct Target {
    producer: *mut octopus_producer,
    most: usize,
    by_host: bool,
}

impl Target {
    fn read(host: &Host, input: &mut Input) -> Self {
        let most = 1_000_000 - 36;
        match input.one_of(8) {
            0 => Target { producer: null_mut(), most, by_host: false },
            1 | 2 => Target { producer: host.small, most: SMALL_RECORD, by_host: false },
            3 | 4 => Target { producer: host.by_host, most, by_host: true },
            _ => Target { producer: host.plain, most, by_host: false },
        }
    }
}

/// An event as a host gives it, and the script of its preparation.
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

/// What must come of an event of which the plugin knows this.
///
/// # Safety
/// What it points to is from [`Memory`].
unsafe fn outcome(target: &Target, event: &octopus_push_args, script: &Script, director: &Script) -> Outcome {
    let refused = Outcome::Refused;
    let failed = Outcome::Failed(OCTOPUS_CALLBACK_FAILED);
    // SAFETY: the caller's promise.
    unsafe {
        let preparation = known(event.preparation);
        let is_prepared = !event.preparation.is_null();
        if target.producer.is_null() || is_prepared && preparation.is_none_or(|own| own.prepare.is_none()) {
            return refused(OCTOPUS_INVALID_ARGUMENT);
        }
        if event.segments.is_null() && event.segment_count > 0 || !event.segments.is_aligned() {
            return refused(OCTOPUS_INVALID_ARGUMENT);
        }
        let mut data_size = 0;
        for at in 0..event.segment_count as usize {
            let Some(segment) = meant(*event.segments.add(at)) else { return refused(OCTOPUS_INVALID_ARGUMENT) };
            data_size += segment.len();
        }
        if let Some(own) = preparation {
            return match () {
                () if event.metadata.size > 0 => refused(OCTOPUS_INVALID_ARGUMENT),
                () if 16 + data_size > target.most => Outcome::Failed(OCTOPUS_TOO_LARGE),
                () if script.fails() => failed,
                () if 16 + script.appended_size() + data_size > target.most => Outcome::Failed(OCTOPUS_TOO_LARGE),
                () if own.select.is_some() && script.partition >= PARTITIONS_OF_A_TOPIC => failed,
                () if own.select.is_none() && target.by_host => chosen_by(director),
                () => Outcome::Queued,
            };
        }
        let Some(metadata) = meant(event.metadata) else { return refused(OCTOPUS_INVALID_ARGUMENT) };
        let is_text = event.metadata_is_serialized == 0;
        let text = match std::str::from_utf8(metadata) {
            _ if event.metadata.data.is_null() => "{}",
            Ok(text) => text,
            Err(_) if is_text => return refused(OCTOPUS_INVALID_METADATA),
            Err(_) => "",
        };
        let metadata_size = if is_text { 8 + text.len() } else { metadata.len() };
        match () {
            () if 16 + metadata_size + data_size > target.most => refused(OCTOPUS_TOO_LARGE),
            () if is_text && crate::json::check(text).is_err() => refused(OCTOPUS_INVALID_METADATA),
            () if target.by_host && is_text && director.fails() => refused(OCTOPUS_CALLBACK_FAILED),
            () if target.by_host => chosen_by(director),
            () => Outcome::Queued,
        }
    }
}

/// The topics have so many.
const PARTITIONS_OF_A_TOPIC: u32 = 3;

fn chosen_by(director: &Script) -> Outcome {
    if director.fails() || director.partition >= PARTITIONS_OF_A_TOPIC {
        return Outcome::Failed(OCTOPUS_CALLBACK_FAILED);
    }
    Outcome::Queued
}

/// How often a preparation must have been destroyed by the end of the call that it was given to.
///
/// # Safety
/// NULL, misaligned, or from [`Memory`].
unsafe fn destroyed(preparation: *const octopus_preparation) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { known(preparation) }.is_some_and(|own| own.destroy.is_some() && !own.context.is_null()).into()
}

pub fn push(host: &Host, memory: &mut Memory, input: &mut Input) {
    let target = Target::read(host, input);
    let director = Script::read(memory, input);
    let (event, script) = event(memory, input);
    let event = memory.growing(input, event);
    let future = output(memory, input, null_mut::<octopus_future>());
    // SAFETY: pointers are NULL, misaligned or from `memory`, handles are live.
    unsafe {
        let seen = known(event);
        let expected = match &seen {
            _ if !future.is_null() && !is_place(future) => Outcome::Refused(OCTOPUS_INVALID_ARGUMENT),
            None => Outcome::Refused(OCTOPUS_INVALID_ARGUMENT),
            Some(seen) => outcome(&target, seen, &script, &director),
        };
        let status = director
            .direct(|| call(memory, input, |error| (PRODUCER.push.unwrap())(target.producer, event, future, error)));
        let given = match expected {
            Outcome::Refused(refusal) => {
                assert_eq!(status, refusal);
                null_mut()
            }
            _ if future.is_null() => null_mut(),
            _ => future.read(),
        };
        if !matches!(expected, Outcome::Refused(_)) {
            assert_eq!(status, OCTOPUS_OK, "{expected:?}");
        }
        if is_place(future) {
            assert_eq!(future.read(), given, "a result is written on success only");
        }
        assert_eq!(script.destroyed.get(), seen.map_or(0, |seen| destroyed(seen.preparation)), "{expected:?}");
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
    // The first one says how far they are apart.
    let other = usize::from(input.byte());
    if size >= 8 && (1..events.len()).contains(&other) && is_place(array) {
        // SAFETY: within the array.
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
            // SAFETY: pointers are NULL, misaligned or from `memory`, handles are live.
            unsafe { (PRODUCER.push_many.unwrap())(target.producer, array, count, futures, pushed, error) }
        })
    });

    // SAFETY: as above; futures were written as far as `pushed` says.
    unsafe {
        // As far as they can be read, they are the plugin's.
        let readable = elements(array, count);
        for (index, script) in scripts.iter().enumerate() {
            let expected = readable.get(index).map_or(0, |event| destroyed(event.preparation));
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
                Some(Outcome::Refused(status)) => expected = status,
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

/// The events of an array up to the first that can't be one.
///
/// # Safety
/// NULL, misaligned, or from [`Memory`].
unsafe fn elements(array: *const octopus_push_args, count: u64) -> Vec<octopus_push_args> {
    let mut elements = Vec::new();
    if array.is_null() || !array.is_aligned() || count == 0 {
        return elements;
    }
    // SAFETY: the first eight bytes are there in any case; the others are looked at only within the array.
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
/// NULL, or a future to be released.
unsafe fn check_future(memory: &mut Memory, input: &mut Input, outcome: Outcome, future: *mut octopus_future) {
    if future.is_null() {
        return;
    }
    if let Outcome::Failed(expected) = outcome {
        // SAFETY: live.
        let status = call(memory, input, |error| unsafe { (FUTURE.wait.unwrap())(future, 0, error) });
        assert_eq!(status, expected);
    }
    // SAFETY: live.
    unsafe { results::use_future(memory, input, future) };
}
