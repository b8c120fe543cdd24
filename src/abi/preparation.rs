//! Preparations: functions of the host that validate and serialize one event, as an implementation
//! of the core's trait.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::ffi::c_void;

use super::args::{Growing, octopus_bytes};
use super::callback::{Owned, octopus_destroy_fn};
use super::component::{CollectedReply, choose, octopus_component_reply};
use super::status::octopus_status;
use crate::client::preparation::Preparation;
use crate::support::error::{Error, Result};

/// Functions of the host that prepare one event, instead of the topic's components.
///
/// A function returns `OCTOPUS_OK` or a negative status. A negative status fails the future of the
/// push with `OCTOPUS_CALLBACK_FAILED`; the message has the reason that was passed to
/// `reply->refuse`. The functions are never called under a lock. They may push events, but must not
/// wait for the event that they are called for, and must not unwind.
///
/// `push` and `push_many` take ownership, even if they fail: `destroy` is called once, on any
/// thread, when the event was handed to Kafka or has failed.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_preparation {
    /// `sizeof(octopus_preparation)`, set by the host.
    pub size: u64,
    /// Passed to each function.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
    /// Decides whether the event may be pushed, and appends its metadata with `reply->append`.
    ///
    /// The metadata's bytes go into the record unchanged.
    ///
    /// @param context The `context` of this struct.
    /// @param segments The data of the event. If the producer's pool has no threads, these are the
    /// host's own segments, else one copy of them. Valid during the call.
    /// @param segment_count The number of elements of `segments`.
    /// @param reply Receives the metadata, or the reason of a failure.
    /// @return `OCTOPUS_OK`, or a negative status to reject the event.
    /// @note Called once, on a thread of the producer's pool, or during the push if the pool has no
    /// threads. Several events may be prepared at the same time.
    pub prepare: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            segments: *const octopus_bytes,
            segment_count: u64,
            reply: *const octopus_component_reply,
        ) -> octopus_status,
    >,
    /// Chooses the partition of the event. NULL: the topic's selector chooses it, without the
    /// metadata.
    ///
    /// @param context The `context` of this struct.
    /// @param requested The partition that the push requested; negative if it requested none.
    /// @param partition_count The number of partitions of the topic.
    /// @param partition Receives the partition, from 0 to `partition_count` - 1.
    /// @param reply Receives the reason of a failure.
    /// @return `OCTOPUS_OK`, or a negative status.
    /// @note Called after `prepare`, for one event of the producer at a time; with
    /// `OCTOPUS_ORDERING_STRICT`, in the order of the pushes.
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

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are NULL pointers and absent
// functions.
unsafe impl Growing for octopus_preparation {}

/// A preparation that the plugin owns.
pub struct HostPreparation {
    functions: octopus_preparation,
    context: Owned,
}

// SAFETY: the header requires of the host that the functions may be called from any thread, one at
// a time.
unsafe impl Send for HostPreparation {}

impl HostPreparation {
    /// Takes ownership of a preparation; `None` for NULL.
    ///
    /// # Safety
    /// `from` is NULL, or readable for as many bytes as its first field says.
    pub unsafe fn take(from: *const octopus_preparation) -> Result<Option<Box<Self>>> {
        if from.is_null() {
            return Ok(None);
        }
        // SAFETY: `from` is readable for its size (fn contract), and not NULL.
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
            // SAFETY: function and context are the host's, and `self` keeps the context from being
            // destroyed; all arguments live during the call.
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
