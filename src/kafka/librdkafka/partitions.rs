//! librdkafka's lists of partitions as owned values, and the results that librdkafka writes into
//! them.

use std::ffi::CStr;
use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::codes::Code;
use super::handle::Handle;
use super::topic_id::TopicId;
use crate::support::error::{Error, Kind, Result};

/// One element of a list after a call of librdkafka.
#[derive(Debug, Clone, Copy)]
pub struct PartitionResult {
    pub partition: i32,
    pub offset: i64,
    /// For a committed offset: the topic that it was committed for, if its metadata has the id.
    pub topic: Option<TopicId>,
    pub error: Code,
}

impl PartitionResult {
    /// Whether the offset was committed for another topic of this name than the one in use.
    pub fn is_of_other_topic(&self, used: Option<TopicId>) -> bool {
        matches!((self.topic, used), (Some(topic), Some(used)) if topic != used)
    }
}

/// The elements of a list of librdkafka.
pub fn results(list: &rd::rd_kafka_topic_partition_list_t) -> impl Iterator<Item = PartitionResult> {
    (0..usize::try_from(list.cnt).unwrap_or(0)).map(|index| {
        // SAFETY: librdkafka guarantees `cnt` elements.
        let element = unsafe { list.elems.add(index) };
        // SAFETY: the element lives as long as the borrowed list.
        let element = unsafe { &*element };
        // SAFETY: `element` is alive.
        let error = unsafe { Code::read(&raw const element.err) };
        let metadata: &[u8] = match element.metadata.is_null() {
            true => &[],
            // SAFETY: librdkafka guarantees `metadata_size` bytes that live as long as the element.
            false => unsafe { std::slice::from_raw_parts(element.metadata.cast(), element.metadata_size) },
        };
        let topic = TopicId::from_commit_metadata(metadata);
        PartitionResult { partition: element.partition, offset: element.offset, topic, error }
    })
}

/// A list of partitions of one topic as an argument for librdkafka.
pub struct PartitionList(NonNull<rd::rd_kafka_topic_partition_list_t>);

// SAFETY: the list is owned here, and no other object refers to it.
unsafe impl Send for PartitionList {}

impl PartitionList {
    pub fn new(topic: &CStr, partitions: impl IntoIterator<Item = (i32, i64)>) -> Result<Self> {
        // SAFETY: has no precondition; creates an empty list.
        let list = unsafe { rd::rd_kafka_topic_partition_list_new(1) };
        let list = NonNull::new(list).ok_or_else(|| Error::new(Kind::Kafka, "librdkafka created no partition list"))?;
        for (partition, offset) in partitions {
            // SAFETY: the list is alive and owned here; the name is copied.
            let element = unsafe { rd::rd_kafka_topic_partition_list_add(list.as_ptr(), topic.as_ptr(), partition) };
            // SAFETY: the new element belongs to the list.
            unsafe { (*element).offset = offset };
        }
        Ok(PartitionList(list))
    }

    /// Sets the metadata of each partition, for a commit of the list.
    pub fn with_metadata(self, client: &Handle, metadata: &str) -> Self {
        // SAFETY: `self` owns the live list.
        let list = unsafe { self.0.as_ref() };
        let count = usize::try_from(list.cnt).unwrap_or(0);
        // SAFETY: `self` is the only owner of the list, and librdkafka guarantees `cnt` elements.
        let elements = unsafe { std::slice::from_raw_parts_mut(list.elems, count) };
        for element in elements.iter_mut().filter(|element| element.metadata.is_null()) {
            // SAFETY: `client` is alive; librdkafka frees the memory with the list.
            let copy = unsafe { rd::rd_kafka_mem_malloc(client.as_ptr(), metadata.len()) };
            if !copy.is_null() {
                // SAFETY: `copy` was allocated with this length.
                unsafe { std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len()) };
                (element.metadata, element.metadata_size) = (copy, metadata.len());
            }
        }
        self
    }

    pub fn as_ptr(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// What librdkafka has written into the list.
    pub fn results(&self) -> impl Iterator<Item = PartitionResult> {
        // SAFETY: `self` owns the list, which is alive during the borrow.
        results(unsafe { self.0.as_ref() })
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: `self` owns the list; librdkafka copies its arguments.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.as_ptr()) };
    }
}
