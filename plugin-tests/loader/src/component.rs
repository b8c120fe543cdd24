//! Components that this program provides: traits, made into the functions that C knows.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use octopus::abi::*;

use crate::raw::{bytes, read_bytes, read_text, text};
use crate::services::{closure, give_away};

/// Decides which events may be pushed. Called from any thread, several at a time.
pub trait Validator: Send + Sync + 'static {
    /// Refuses an event by saying why.
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<(), String>;
}

/// Decides which partition an event goes to. Each producer has one of its own, called by one thread at a time.
pub trait Selector: Send + 'static {
    /// The partition, of so many; `requested` is what the push asked for, if it did.
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32, String>;
}

/// Makes bytes of metadata, and metadata of those bytes. Called from any thread, several at a time.
pub trait Serializer: Send + Sync + 'static {
    /// The bytes for this JSON text.
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>, String>;
    /// The JSON text in these bytes.
    fn deserialize(&self, bytes: &[u8]) -> Result<String, String>;
}

type Make<T> = dyn Fn(&str) -> Result<T, String> + Send + Sync;

pub(crate) fn validators<V: Validator>(
    make: impl Fn(&str) -> Result<V, String> + Send + Sync + 'static,
) -> octopus_component {
    octopus_component { validate: Some(validate::<V>), ..component(make) }
}

pub(crate) fn selectors<S: Selector>(
    make: impl Fn(&str) -> Result<S, String> + Send + Sync + 'static,
) -> octopus_component {
    octopus_component { select: Some(select::<S>), ..component(make) }
}

pub(crate) fn serializers<S: Serializer>(
    make: impl Fn(&str) -> Result<S, String> + Send + Sync + 'static,
) -> octopus_component {
    octopus_component { serialize: Some(serialize::<S>), deserialize: Some(deserialize::<S>), ..component(make) }
}

/// What all kinds have; whoever gets it has to hand it to the plugin, which destroys the closure.
fn component<T: 'static>(make: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static) -> octopus_component {
    let (context, destroy) = give_away::<Make<T>>(Box::new(make));
    octopus_component {
        size: size_of::<octopus_component>() as u64,
        context,
        destroy,
        make: Some(make_instance::<T>),
        destroy_instance: Some(destroy_instance::<T>),
        validate: None,
        select: None,
        serialize: None,
        deserialize: None,
    }
}

unsafe extern "C" fn make_instance<T: 'static>(
    context: *mut c_void,
    json: octopus_text,
    instance: *mut *mut c_void,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the context that came with this function, not destroyed; what else is given lives during the call.
    unsafe {
        let (make, json) = (closure::<Make<T>>(context), read_text(json));
        answer(reply, || make(&json), |made| instance.write(Box::into_raw(Box::new(made)).cast()))
    }
}

unsafe extern "C" fn destroy_instance<T>(instance: *mut c_void) {
    // SAFETY: made by `make_instance` with this type, and destroyed once.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(unsafe { Box::from_raw(instance.cast::<T>()) })));
}

unsafe extern "C" fn validate<V: Validator>(
    instance: *mut c_void,
    metadata: octopus_text,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: an instance of ours, not destroyed; what else is given lives during the call.
    unsafe {
        let data = read_segments(segments, segment_count);
        let (validator, metadata) = (&*instance.cast::<V>(), read_text(metadata));
        answer(reply, || validator.validate(&metadata, &data), |()| {})
    }
}

/// # Safety
/// NULL, or so many segments that live as long as the result.
pub(crate) unsafe fn read_segments<'a>(segments: *const octopus_bytes, count: u64) -> Vec<&'a [u8]> {
    if segments.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    let segments = unsafe { std::slice::from_raw_parts(segments, count as usize) };
    // SAFETY: as above.
    segments.iter().map(|segment| unsafe { read_bytes(segment.data, segment.size) }).collect()
}

unsafe extern "C" fn select<S: Selector>(
    instance: *mut c_void,
    metadata: octopus_text,
    requested: i64,
    partition_count: u32,
    partition: *mut u32,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: an instance of ours, not destroyed, and no other call of it runs; what else is given lives during the call.
    unsafe {
        let (selector, metadata) = (&mut *instance.cast::<S>(), read_text(metadata));
        let requested = u64::try_from(requested).ok();
        answer(reply, || selector.select(&metadata, requested, partition_count), |chosen| partition.write(chosen))
    }
}

unsafe extern "C" fn serialize<S: Serializer>(
    instance: *mut c_void,
    metadata: octopus_text,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: as in `validate`.
    unsafe {
        let (serializer, metadata) = (&*instance.cast::<S>(), read_text(metadata));
        answer(reply, || serializer.serialize(&metadata), |made| append(reply, &made))
    }
}

unsafe extern "C" fn deserialize<S: Serializer>(
    instance: *mut c_void,
    serialized: octopus_bytes,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: as in `validate`.
    unsafe {
        let (serializer, serialized) = (&*instance.cast::<S>(), read_bytes(serialized.data, serialized.size));
        answer(reply, || serializer.deserialize(serialized), |made| append(reply, made.as_bytes()))
    }
}

/// # Safety
/// `reply` is the plugin's, and lives.
pub(crate) unsafe fn append(reply: *const octopus_component_reply, made: &[u8]) {
    // SAFETY: the caller's promise; the bytes live during the call.
    unsafe {
        if let Some(append) = (*reply).append {
            append((*reply).token, bytes(made));
        }
    }
}

fn in_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the component panicked: {}", text.unwrap_or("it does not say why"))
}

/// Runs a component, hands its result over, or says why there is none; a panic of its is such a reason.
///
/// # Safety
/// `reply` is the plugin's, and lives.
pub(crate) unsafe fn answer<T>(
    reply: *const octopus_component_reply,
    run: impl FnOnce() -> Result<T, String>,
    hand_over: impl FnOnce(T),
) -> octopus_status {
    let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(in_words(&*panic)));
    match result {
        Ok(made) => {
            hand_over(made);
            OCTOPUS_OK
        }
        Err(why) => {
            // SAFETY: the caller's promise; the text lives during the call.
            unsafe {
                if let Some(refuse) = (*reply).refuse {
                    refuse((*reply).token, text(&why));
                }
            }
            OCTOPUS_CALLBACK_FAILED
        }
    }
}
