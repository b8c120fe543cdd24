//! An event that this program makes ready itself: a trait, made into the functions that C knows.

use std::ffi::c_void;

use octopus::abi::*;

use crate::component::{answer, append, read_segments};
use crate::services::{closure_mut, give_away};

/// Makes one event ready, in place of its topic's components. Asked once each, in this order, and dropped when the event
/// is out or has failed; on any thread.
pub trait Preparation: Send + 'static {
    /// The metadata's bytes, which go into the record as they are, or why the event may not be pushed.
    fn prepare(&mut self, data: &[&[u8]]) -> Result<Vec<u8>, String>;
    /// The partition, of so many. Of one producer's events one at a time, in strict order in the order of the pushes.
    fn select(&mut self, requested: Option<u64>, partitions: u32) -> Result<u32, String>;
}

/// Whoever gets it has to hand it to the plugin, which destroys it.
pub(crate) fn as_functions(by: Box<dyn Preparation>) -> octopus_preparation {
    let (context, destroy) = give_away::<dyn Preparation>(by);
    octopus_preparation {
        size: size_of::<octopus_preparation>() as u64,
        context,
        destroy,
        prepare: Some(prepare),
        select: Some(select),
    }
}

unsafe extern "C" fn prepare(
    context: *mut c_void,
    segments: *const octopus_bytes,
    segment_count: u64,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: the context that came with this function, not destroyed, and its functions are called one at a time; what
    // else is given lives during the call.
    unsafe {
        let (by, data) = (closure_mut::<dyn Preparation>(context), read_segments(segments, segment_count));
        answer(reply, || by.prepare(&data), |made| append(reply, &made))
    }
}

unsafe extern "C" fn select(
    context: *mut c_void,
    requested: i64,
    partition_count: u32,
    partition: *mut u32,
    reply: *const octopus_component_reply,
) -> octopus_status {
    // SAFETY: as in `prepare`.
    unsafe {
        let (by, requested) = (closure_mut::<dyn Preparation>(context), u64::try_from(requested).ok());
        answer(reply, || by.select(requested, partition_count), |chosen| partition.write(chosen))
    }
}
