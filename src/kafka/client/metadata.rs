//! Metadata requests: which topics there are, and how many partitions each has.

use std::collections::BTreeMap;

use rdkafka::bindings as rd;
use rdkafka::types::RDKafkaErrorCode;

use super::Client;
use crate::kafka::librdkafka::codes::{self, Code};
use crate::kafka::librdkafka::text::text;
use crate::kafka::librdkafka::topic_handle::TopicHandle;
use crate::support::deadline::Deadline;
use crate::support::error::Result;

impl Client {
    /// The number of partitions of a topic, `None` if there is no such topic. The request never
    /// creates the topic. It refreshes this client's metadata of it.
    pub fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        let operation = format!("looking up the Kafka topic {kafka_name:?}");
        let topic = TopicHandle::new(&self.handle, kafka_name)?;
        let found = self.metadata(Some(&topic), &operation, deadline)?;
        let Some((_, code, partitions)) = found.into_iter().next() else { return Ok(None) };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError | RDKafkaErrorCode::LeaderNotAvailable => Ok(partitions),
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
            _ => Err(self.request_error(code, "", operation)),
        }
    }

    /// All topics that this client is authorized to see, with their numbers of partitions.
    pub fn topics(&self, deadline: Deadline) -> Result<BTreeMap<String, u32>> {
        let found = self.metadata(None, "listing Kafka's topics", deadline)?;
        Ok(found.into_iter().filter_map(|(name, _, partitions)| Some((name, partitions?))).collect())
    }

    /// Name, error and number of partitions of one topic, or of all. The number is `None` for a
    /// topic whose partitions have no leaders yet.
    fn metadata(
        &self,
        topic: Option<&TopicHandle>,
        operation: &str,
        deadline: Deadline,
    ) -> Result<Vec<(String, Code, Option<u32>)>> {
        let (all, topic) = topic.map_or((1, std::ptr::null_mut()), |topic| (0, topic.as_ptr()));
        let mut metadata = std::ptr::null();
        self.request(deadline, operation, |timeout_ms| {
            // SAFETY: `self.handle` and the caller's `topic` keep client and topic alive;
            // `metadata` is writable.
            unsafe { codes::rd_kafka_metadata(self.handle.as_ptr(), all, topic, &mut metadata, timeout_ms) }
        })?;
        // SAFETY: the successful request has set `metadata`, which this function owns.
        let list = unsafe { &*metadata };
        let count = usize::try_from(list.topic_cnt).unwrap_or(0);
        let partitions = |count: i32| u32::try_from(count).ok().filter(|count| *count > 0);
        let mut found = Vec::with_capacity(count);
        for index in 0..count {
            // SAFETY: the list has `topic_cnt` topics.
            let topic = unsafe { list.topics.add(index) };
            // SAFETY: the topic lives as long as the list.
            let topic = unsafe { &*topic };
            // SAFETY: the name is NUL-terminated and lives as long as the list.
            let name = unsafe { text(topic.topic) };
            // SAFETY: the topic is alive.
            let code = unsafe { Code::read(&raw const topic.err) };
            found.push((name, code, partitions(topic.partition_cnt)));
        }
        // SAFETY: this function owns `metadata`; nothing refers to it any more.
        unsafe { rd::rd_kafka_metadata_destroy(metadata) };
        Ok(found)
    }
}
