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

unsafe extern "C" fn make_instance<T: 'static>(
    context: *mut c_void,
    json: octopus_text,
    instance: *mut *mut c_void,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: include/octopus.h promises that `context` is the one of `component::<T>`, not yet
    // destroyed, and that `json`, `instance` and `reply` are valid during this call.
    unsafe {
        let (make, json) = (closure::<Make<T>>(context), read_text(json));
        run(reply, || make(&json), |made| instance.write(Box::into_raw(Box::new(made)).cast()))
    }
}

unsafe extern "C" fn destroy_instance<T>(instance: *mut c_void) {
    // SAFETY: `make_instance::<T>` made `instance`, and include/octopus.h promises that it is
    // destroyed once, after its last call.
    let instance = unsafe { Box::from_raw(instance.cast::<T>()) };
    catch_panic(|| drop(instance));
}

unsafe extern "C" fn validate<V: Validator>(
    instance: *mut c_void,
    metadata: octopus_text,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: include/octopus.h promises that `make_instance::<V>` made `instance`, that it is not
    // yet destroyed, and that the other arguments are valid during this call. Calls share a `Sync`
    // validator.
    unsafe {
        let data = read_segments(segments, segment_count);
        let (validator, metadata) = (&*instance.cast::<V>(), read_text(metadata));
        run(reply, || validator.validate(&metadata, &data), |()| {})
    }
}

/// # Safety
/// `segments` is NULL, or points to `count` elements that, with their bytes, are readable and
/// unchanged during `'a`.
pub(crate) unsafe fn read_segments<'a>(segments: *const octopus_bytes, count: u64) -> Vec<&'a [u8]> {
    // SAFETY: the elements are readable during `'a` (fn contract).
    let segments = unsafe { read_array(segments, count) };
    // SAFETY: the bytes of each element are readable during `'a` (fn contract).
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
    // SAFETY: as in `validate`; and include/octopus.h promises that one call at a time uses a
    // selector, and that `partition` is writable.
    unsafe {
        let (selector, metadata) = (&mut *instance.cast::<S>(), read_text(metadata));
        let requested = u64::try_from(requested).ok();
        run(reply, || selector.select(&metadata, requested, partition_count), |chosen| partition.write(chosen))
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
        run(reply, || serializer.serialize(&metadata), |made| append(reply, &made))
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
        run(reply, || serializer.deserialize(serialized), |made| append(reply, made.as_bytes()))
    }
}

/// Appends to the result of a component.
///
/// # Safety
/// `reply` is the library's, and this is the call that it was given to.
pub(crate) unsafe fn append(reply: *const octopus_component_reply, made: &[u8]) {
    // SAFETY: `reply` is live (fn contract), and `made` outlives the call.
    unsafe {
        if let Some(append) = (*reply).append {
            append((*reply).token, bytes(made));
        }
    }
}

/// Runs a function of a component. Passes its result to `write`, or its error, or the message of
/// its panic, to the library.
///
/// # Safety
/// `reply` is the library's, and this is the call that it was given to.
pub(crate) unsafe fn run<T>(
    reply: *const octopus_component_reply,
    function: impl FnOnce() -> Result<T, String>,
    write: impl FnOnce(T),
) -> octopus_status {
    let result = catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|panic| Err(panic_message(&*panic)));
    match result {
        Ok(made) => {
            write(made);
            OCTOPUS_OK
        }
        Err(why) => {
            // SAFETY: `reply` is live (fn contract), and `why` outlives the call.
            unsafe {
                if let Some(refuse) = (*reply).refuse {
                    refuse((*reply).token, text(&why));
                }
            }
            OCTOPUS_CALLBACK_FAILED
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the component panicked: {}", text.unwrap_or("without a message"))
}
