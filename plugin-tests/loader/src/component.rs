//! Validators, selectors and serializers of this program, as the functions that C calls.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::*;
use crate::callback::{catch_panic, closure, into_context};
use crate::raw::{bytes, read_array, read_bytes, read_text, text};

/// Decides which events may be pushed. Called from any thread, several at a time.
///
/// ```no_run
/// use octopus_loader::{Driver, Result, Validator};
///
/// struct MaxBytes(usize);
///
/// impl Validator for MaxBytes {
///     fn validate(&self, _: &str, data: &[&[u8]]) -> std::result::Result<(), String> {
///         let size: usize = data.iter().map(|segment| segment.len()).sum();
///         if size <= self.0 { Ok(()) } else { Err(format!("{size} bytes, at most {}", self.0)) }
///     }
/// }
///
/// fn register(driver: &Driver) -> Result<()> {
///     // For topics whose validator is {"type": "max-bytes"}.
///     driver.register_validator("max-bytes", |_json| Ok(MaxBytes(1_000)))
/// }
/// ```
pub trait Validator: Send + Sync + 'static {
    /// Rejects an event by returning the reason.
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<(), String>;
}

/// Chooses the partition of an event. Each producer has an instance, which one thread at a time
/// calls.
pub trait Selector: Send + 'static {
    /// The partition, below `partitions`; `requested` is the partition that the push asks for.
    fn select(&mut self, metadata: &str, requested: Option<u64>, partitions: u32) -> Result<u32, String>;
}

/// Converts metadata to bytes and back. Called from any thread, several at a time.
pub trait Serializer: Send + Sync + 'static {
    /// The bytes of this JSON text.
    fn serialize(&self, metadata: &str) -> Result<Vec<u8>, String>;
    /// The JSON text of these bytes.
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

/// The fields that all kinds of component have. The result must be given to the library, which
/// destroys the closure.
fn component<T: 'static>(make: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static) -> octopus_component {
    let (context, destroy) = into_context::<Make<T>>(Box::new(make));
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

/// # Safety
/// The library calls it as include/octopus.h specifies: `context` is that of `component::<T>` and
/// not yet destroyed, and `json`, `instance` and `reply` are valid during this call.
unsafe extern "C" fn make_instance<T: 'static>(
    context: *mut c_void,
    json: octopus_text,
    instance: *mut *mut c_void,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: `context` came from `into_context::<Make<T>>` in `component::<T>` and is not yet
    // destroyed (fn contract).
    let make = unsafe { closure::<Make<T>>(context) };
    // SAFETY: `json` is valid during this call (fn contract).
    let json = unsafe { read_text(json) };
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    // SAFETY: `instance` is writable during this call (fn contract).
    reply.run(|| make(&json), |made| unsafe { instance.write(Box::into_raw(Box::new(made)).cast()) })
}

/// # Safety
/// `make_instance::<T>` made `instance`, and nothing uses it from now on: include/octopus.h
/// promises that an instance is destroyed once, after its last call.
unsafe extern "C" fn destroy_instance<T>(instance: *mut c_void) {
    // SAFETY: `instance` is the pointer of `Box::into_raw` in `make_instance::<T>`, and is not used
    // again (fn contract).
    let instance = unsafe { Box::from_raw(instance.cast::<T>()) };
    catch_panic(|| drop(instance));
}

/// # Safety
/// The library calls it as include/octopus.h specifies: `make_instance::<V>` made `instance`, which
/// is not yet destroyed, and the other arguments are valid during this call.
unsafe extern "C" fn validate<V: Validator>(
    instance: *mut c_void,
    metadata: octopus_text,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the segments are valid during this call (fn contract).
    let data = unsafe { read_segments(segments, segment_count) };
    // SAFETY: `instance` points to a live `V` (fn contract). Calls share it, since it is `Sync`.
    let validator = unsafe { &*instance.cast::<V>() };
    // SAFETY: `metadata` is valid during this call (fn contract).
    let metadata = unsafe { read_text(metadata) };
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    reply.run(|| validator.validate(&metadata, &data), |()| {})
}

/// The data of an event.
///
/// # Safety
/// `segments` is NULL, or points to `count` elements that, with their bytes, are readable and
/// unchanged during `'a`.
pub(crate) unsafe fn read_segments<'a>(segments: *const octopus_bytes, count: u64) -> Vec<&'a [u8]> {
    // SAFETY: the elements are readable during `'a` (fn contract).
    let segments = unsafe { read_array(segments, count) };
    // SAFETY: the bytes of each element are readable during `'a` (fn contract).
    segments.iter().map(|segment| unsafe { read_bytes(segment.data, segment.size) }).collect()
}

/// # Safety
/// As for [`validate`]. One call at a time uses the instance (include/octopus.h).
unsafe extern "C" fn select<S: Selector>(
    instance: *mut c_void,
    metadata: octopus_text,
    requested: i64,
    partition_count: u32,
    partition: *mut u32,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: `instance` points to a live `S` that only this call uses (fn contract).
    let selector = unsafe { &mut *instance.cast::<S>() };
    // SAFETY: `metadata` is valid during this call (fn contract).
    let metadata = unsafe { read_text(metadata) };
    let requested = u64::try_from(requested).ok();
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    // SAFETY: `partition` is writable during this call (fn contract).
    let write = |chosen| unsafe { partition.write(chosen) };
    reply.run(|| selector.select(&metadata, requested, partition_count), write)
}

/// # Safety
/// As for [`validate`].
unsafe extern "C" fn serialize<S: Serializer>(
    instance: *mut c_void,
    metadata: octopus_text,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: `instance` points to a live `S` (fn contract). Calls share it, since it is `Sync`.
    let serializer = unsafe { &*instance.cast::<S>() };
    // SAFETY: `metadata` is valid during this call (fn contract).
    let metadata = unsafe { read_text(metadata) };
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    reply.run(|| serializer.serialize(&metadata), |made| reply.append(&made))
}

/// # Safety
/// As for [`validate`].
unsafe extern "C" fn deserialize<S: Serializer>(
    instance: *mut c_void,
    serialized: octopus_bytes,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: `instance` points to a live `S` (fn contract). Calls share it, since it is `Sync`.
    let serializer = unsafe { &*instance.cast::<S>() };
    // SAFETY: `serialized` is valid during this call (fn contract).
    let serialized = unsafe { read_bytes(serialized.data, serialized.size) };
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    reply.run(|| serializer.deserialize(serialized), |made| reply.append(made.as_bytes()))
}

/// Receives the result of one call of a component, for the library.
///
/// Invariant: it is the reply of the library for a call that has not returned.
#[derive(Clone, Copy)]
pub(crate) struct Reply<'a>(&'a octopus_component_reply);

impl<'a> Reply<'a> {
    /// # Safety
    /// `reply` is the library's for a call that does not return during `'a`.
    pub unsafe fn new(reply: *const octopus_component_reply) -> Self {
        // SAFETY: include/octopus.h promises that `reply` is valid until the call that it was given
        // to returns, which is after `'a` (fn contract).
        Reply(unsafe { &*reply })
    }

    /// Appends to the result of the component.
    pub fn append(self, made: &[u8]) {
        if let Some(append) = self.0.append {
            // SAFETY: the token is live (type invariant), and `made` outlives this call.
            unsafe { append(self.0.token, bytes(made)) };
        }
    }

    /// Runs a function of the component. Passes its result to `write`, or its error, or the message
    /// of its panic, to the library.
    pub fn run<T>(self, function: impl FnOnce() -> Result<T, String>, write: impl FnOnce(T)) -> octopus_status {
        let result = catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| Err(panic_message(&*panic)));
        match result {
            Ok(made) => {
                write(made);
                OCTOPUS_OK
            }
            Err(why) => {
                if let Some(refuse) = self.0.refuse {
                    // SAFETY: the token is live (type invariant), and `why` outlives this call.
                    unsafe { refuse(self.0.token, text(&why)) };
                }
                OCTOPUS_CALLBACK_FAILED
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the component panicked: {}", text.unwrap_or("without a message"))
}
