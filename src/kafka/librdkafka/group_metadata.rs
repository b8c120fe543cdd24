//! What a group's coordinator identifies a member by: the group, the generation, the member's id
//! and its `group.instance.id`.

use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::handle::Handle;

/// The metadata of a consumer's membership at one moment.
pub struct GroupMetadata(NonNull<rd::rd_kafka_consumer_group_metadata_t>);

// SAFETY: the metadata is a copy that no other object refers to, and nothing changes it.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// `None` if the client is closing.
    pub fn of(consumer: &Handle) -> Option<Self> {
        // SAFETY: `consumer` is alive.
        NonNull::new(unsafe { rd::rd_kafka_consumer_group_metadata(consumer.as_ptr()) }).map(GroupMetadata)
    }

    /// The generation of the group, or the epoch of the member; -1 for a consumer that is not a
    /// member.
    pub fn generation(&self) -> i32 {
        // SAFETY: `self` owns the live metadata.
        unsafe { rd::rd_kafka_consumer_group_metadata_generation_id(self.as_ptr()) }
    }

    pub fn as_ptr(&self) -> *const rd::rd_kafka_consumer_group_metadata_t {
        self.0.as_ptr()
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: `self` owns the metadata; librdkafka copies its arguments.
        unsafe { rd::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) };
    }
}
