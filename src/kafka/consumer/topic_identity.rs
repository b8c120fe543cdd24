//! Whether the topic is still the one that this consumer has read.
//!
//! A topic that is deleted and created again under its name is another one: its offsets begin at 0,
//! and it has another id. librdkafka, as patched, restarts at its beginning when metadata has
//! another id. The consumer thread checks for that. As metadata can be minutes old, it also
//! requests the id from brokers from time to time. Acknowledgements of events of the former topic
//! are stale then. Offsets that were committed for the former topic don't apply either; the
//! metadata of a commit has the id.

use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::Shared;
use crate::kafka::librdkafka::codes;
use crate::kafka::librdkafka::partitions::PartitionResult;
use crate::kafka::librdkafka::queue::QueueEvent;
use crate::kafka::librdkafka::topic_id::TopicId;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::protection::Protection;

/// The time between two requests for the topic id.
const REQUEST_INTERVAL: Duration = Duration::from_secs(5);
/// How long a refresh of the metadata may take.
const METADATA_REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long readers wait for a seek to the beginning of the new topic.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// When the consumer thread requests the topic id the next time; `None` if topics can't be deleted.
pub(super) struct TopicIdRequest(Option<Instant>);

impl TopicIdRequest {
    pub fn new(can_change: bool) -> Self {
        TopicIdRequest(can_change.then(Instant::now))
    }

    /// Makes the request due now. Called after an assignment: the earlier another topic is noticed,
    /// the fewer of its records are missed.
    pub fn make_due(&mut self) {
        self.0 = self.0.map(|_| Instant::now());
    }

    /// Whether the request is due. If so, the next one is due later.
    fn take_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.0.is_some_and(|due| due <= now);
        if is_due {
            self.0 = Some(now + REQUEST_INTERVAL);
        }
        is_due
    }
}

impl Shared {
    /// Requests the topic id if that is due. The result arrives as an event.
    pub(super) fn request_topic_id_if_due(&self) {
        if !self.topic_id_request.lock().take_due() {
            return;
        }
        let mut names = [self.c_topic.as_ptr()];
        // SAFETY: `self` keeps the name alive, which is copied.
        let topics = unsafe { rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
        let client = self.client.handle.as_ptr();
        // SAFETY: client, collection and queue are alive; NULL means default options.
        unsafe { rd::rd_kafka_DescribeTopics(client, topics, std::ptr::null(), self.events.as_ptr()) };
        // SAFETY: this function owns the collection, which the request has copied.
        unsafe { rd::rd_kafka_TopicCollection_destroy(topics) };
    }

    /// Processes the result of a request for the topic id.
    pub(super) fn handle_topic_id(&self, event: &QueueEvent) {
        // Without an id the topic is deleted, or the broker has no topic ids.
        let Some(topic) = topic_id(event) else { return };
        match self.topic_in_use() {
            Some(used) if used != topic => self.refresh_metadata(),
            Some(_) => {}
            None => self.enter_topic(topic),
        }
    }

    /// Checks whether librdkafka uses another topic of this name now.
    pub(super) fn check_topic_in_use(&self) {
        if let Some(topic) = self.topic_in_use() {
            self.enter_topic(topic);
        }
    }

    /// The topic that librdkafka uses by this name.
    pub(super) fn topic_in_use(&self) -> Option<TopicId> {
        TopicId::used_by(&self.client.handle, &self.c_topic)
    }

    /// The topic in use. If an offset was committed for another one, that may be newer: the
    /// metadata is refreshed first.
    pub(super) fn topic_in_use_or_newer(&self, committed: &[PartitionResult]) -> Option<TopicId> {
        let used = self.topic_in_use().filter(|_| Protection::TopicOfPosition.is_on());
        if committed.iter().any(|part| part.is_of_other_topic(used)) {
            self.refresh_metadata();
            return self.topic_in_use();
        }
        used
    }

    /// Makes `topic` the one that this consumer reads. Where it reads another one, reading restarts
    /// at the beginning.
    fn enter_topic(&self, topic: TopicId) {
        if !self.positions.in_other_topic(topic).is_empty()
            && let Err(error) = self.restart_at_beginning(topic)
        {
            log::error!(logger: self.client.log(), target: &self.client.name(), "{error}; trying again");
            return;
        }
        self.positions.enter_topic(topic);
    }

    fn restart_at_beginning(&self, topic: TopicId) -> Result<()> {
        self.while_readers_wait(|batch| {
            // A reader may have noticed the new topic in some of them by itself.
            let partitions = self.positions.in_other_topic(topic);
            for &partition in &partitions {
                self.fetch_from(partition, 0, Deadline::after(SEEK_TIMEOUT))?;
                batch.retain(|message| message.partition() != partition as i32);
                self.positions.lock().start_over(partition, 0, Some(topic));
            }
            if !partitions.is_empty() {
                self.pending_error.set(self.recreated_topic_error(&partitions));
            }
            Ok(())
        })
    }

    /// Refreshes the metadata of the topic. With target partitions, librdkafka would learn the
    /// leaders only from its next periodic refresh, which takes up to a second; a group joins only
    /// once they are known.
    pub(super) fn refresh_metadata(&self) {
        if let Err(error) = self.client.partition_count(&self.topic, Deadline::after(METADATA_REFRESH_TIMEOUT)) {
            log::info!(logger: self.client.log(), target: &self.client.name(), "{error}");
        }
    }

    /// The error of a topic that was deleted and created again.
    pub(super) fn recreated_topic_error(&self, partitions: &[u32]) -> Error {
        let reason = format!(
            "reading topic {:?}: it was deleted and created again; reading restarts at its beginning in partitions \
             {partitions:?}",
            self.topic
        );
        Error::new(Kind::RecordsLost, reason)
    }
}

/// The id in the result of a DescribeTopics request.
fn topic_id(event: &QueueEvent) -> Option<TopicId> {
    if event.error().is_error() {
        return None;
    }
    let mut count = 0;
    // SAFETY: `event` is alive.
    let result = unsafe { rd::rd_kafka_event_DescribeTopics_result(event.as_ptr()) };
    if result.is_null() {
        return None;
    }
    // SAFETY: the result is alive, as it belongs to `event`.
    let topics = unsafe { rd::rd_kafka_DescribeTopics_result_topics(result, &mut count) };
    if topics.is_null() || count == 0 {
        return None;
    }
    // SAFETY: the array has `count` elements, at least one.
    let topic = unsafe { *topics };
    // SAFETY: the topic is alive, as it belongs to `event`.
    let error = unsafe { rd::rd_kafka_TopicDescription_error(topic) };
    // SAFETY: the error belongs to the topic.
    if unsafe { codes::rd_kafka_error_code(error) }.is_error() {
        return None;
    }
    // SAFETY: the topic is alive.
    let id = unsafe { rd::rd_kafka_TopicDescription_topic_id(topic) };
    // SAFETY: the id belongs to the topic.
    let high = unsafe { rd::rd_kafka_Uuid_most_significant_bits(id) };
    // SAFETY: as above.
    let low = unsafe { rd::rd_kafka_Uuid_least_significant_bits(id) };
    TopicId::new(high, low)
}
