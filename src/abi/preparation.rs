//! How a host makes an event ready itself: its functions, as the trait that the core knows.

use std::ffi::c_void;

use super::args::{Growing, octopus_bytes};
use super::callback::{Owned, octopus_destroy_fn};
use super::component::{CollectedReply, choose, octopus_component_reply};
use super::status::octopus_status;
use crate::error::{Error, Result};
use crate::preparation::Preparation;

/// How the host makes one event ready with objects of its own, in place of the topic's components: on the producer's
/// pool, in order, and without pushing bytes of metadata. Functions return a status; a negative one fails the push's
/// future with `OCTOPUS_CALLBACK_FAILED` and the reason given to the reply. Never called under a lock; they may push, but
/// not wait for what they are part of. `destroy` is called when the event is out or has failed, on any thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_preparation {
    /// `sizeof(octopus_preparation)`, set by the host.
    pub size: u64,
    /// Handed to each function.
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
    /// Says whether the event may be pushed, and appends its metadata as bytes, which go into the record as they are.
    /// The segments are the data: the host's own in a producer without pool, else a copy in one piece. Called once; on
    /// a pool several events at a time.
    pub prepare: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            segments: *const octopus_bytes,
            segment_count: u64,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Writes the event's partition, below `partition_count`; `requested` is what the push asked for, negative when it
    /// asked for none. Called after `prepare`, for one event of the producer at a time and, in strict order, in the order
    /// of the pushes. NULL: the topic's selector decides, which sees no metadata.
    pub select: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            requested: i64,
            partition_count: u32,
            partition: *mut u32,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are NULL pointers and absent functions.
unsafe impl Growing for octopus_preparation {}

/// A preparation taken over from the host.
pub struct HostPreparation {
    functions: octopus_preparation,
    context: Owned,
}

// SAFETY: the header says that the functions are called from any thread, one at a time.
unsafe impl Send for HostPreparation {}

impl HostPreparation {
    /// Takes it over; `None` when there is none.
    ///
    /// # Safety
    /// NULL, or readable for as many bytes as its first field says.
    pub unsafe fn take(from: *const octopus_preparation) -> Result<Option<Box<Self>>> {
        if from.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        let functions = unsafe { octopus_preparation::read(from, "event.preparation") }?;
        let context = Owned { context: functions.context, destroy: functions.destroy };
        let taken = HostPreparation { functions, context };
        if functions.prepare.is_none() {
            return Err(Error::invalid("event.preparation.prepare: NULL where a function is needed"));
        }
        Ok(Some(Box::new(taken)))
    }
}

impl Preparation for HostPreparation {
    fn prepare(&mut self, data: &[&[u8]]) -> Result<Vec<u8>> {
        let segments: Vec<octopus_bytes> = data.iter().map(|segment| octopus_bytes::view(segment)).collect();
        let (first, count) = (segments.as_ptr(), segments.len() as u64);
        CollectedReply::of("prepare", |reply| {
            let prepare = self.functions.prepare?;
            // SAFETY: the host's function and context, not destroyed; what is given lives during the call.
            Some(unsafe { prepare(self.context.context, first, count, reply) })
        })
    }

    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<Option<u32>> {
        let Some(select) = self.functions.select else { return Ok(None) };
        choose(requested, partitions, |requested, partition, reply| {
            // SAFETY: as in `prepare`.
            Some(unsafe { select(self.context.context, requested, partitions, partition, reply) })
        })
        .map(Some)
    }
}
