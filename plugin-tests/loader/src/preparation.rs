//! Events that this program prepares itself, instead of the topic's components.

use std::ffi::c_void;

use crate::abi::*;
use crate::callback::{closure_mut, into_context};
use crate::component::{Reply, read_segments};

/// Prepares one event in place of its topic's components: serializes its metadata and chooses its
/// partition. Each function is called once, in this order, on any thread. The value is dropped when
/// the event is delivered or has failed. See
/// [`Producer::push_prepared`](crate::Producer::push_prepared).
pub trait Preparation: Send + 'static {
    /// The bytes of the metadata, which become part of the record unchanged, or the reason why the
    /// event may not be pushed.
    fn prepare(&mut self, data: &[&[u8]]) -> Result<Vec<u8>, String>;
    /// The partition, below `partitions`; `requested` is the partition that the push asks for.
    /// Called for one event of a producer at a time; with strict ordering, in the order of the
    /// pushes.
    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<u32, String>;
}

/// The result must be given to the library, which destroys the preparation.
pub(crate) fn into_functions(by: Box<dyn Preparation>) -> octopus_preparation {
    let (context, destroy) = into_context::<dyn Preparation>(by);
    octopus_preparation {
        size: size_of::<octopus_preparation>() as u64,
        context,
        destroy,
        prepare: Some(prepare),
        select: Some(select),
    }
}

/// # Safety
/// The library calls it as include/octopus.h specifies: `context` is that of [`into_functions`] and
/// not yet destroyed, its functions are called one after the other, and `segments` and `reply` are
/// valid during this call.
unsafe extern "C" fn prepare(
    context: *mut c_void,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: `context` is not yet destroyed, and only this call uses it (fn contract).
    let by = unsafe { closure_mut::<dyn Preparation>(context) };
    // SAFETY: the segments are valid during this call (fn contract).
    let data = unsafe { read_segments(segments, segment_count) };
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    reply.run(|| by.prepare(&data), |made| reply.append(&made))
}

/// # Safety
/// As for [`prepare`]; `partition` is writable.
unsafe extern "C" fn select(
    context: *mut c_void,
    requested: i64,
    partition_count: u32,
    partition: *mut u32,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: `context` is not yet destroyed, and only this call uses it (fn contract).
    let by = unsafe { closure_mut::<dyn Preparation>(context) };
    let requested = u64::try_from(requested).ok();
    // SAFETY: `reply` is valid during this call (fn contract).
    let reply = unsafe { Reply::new(reply) };
    // SAFETY: `partition` is writable during this call (fn contract).
    reply.run(|| by.select(requested, partition_count), |chosen| unsafe { partition.write(chosen) })
}
