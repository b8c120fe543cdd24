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
use crate::positions::Assignment;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::protection::Protection;

/// The time between two requests for the topic id.
const REQUEST_INTERVAL: Duration = Duration::from_secs(5);
/// How long a refresh of the metadata may take.
const METADATA_REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long readers wait for a seek to the beginning of the new topic.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

/// The known id of the topic, and the assignments of this consumer at that time.
pub(super) struct TopicIdentity {
    /// When the next request is due; `None` if topics can't be deleted.
    next_request: Option<Instant>,
    /// The topic that the consumer's positions belong to.
    topic: Option<TopicId>,
    /// The assignments that began in this topic.
    assignments: Vec<(u32, Assignment)>,
}

impl TopicIdentity {
    pub fn new(can_change: bool) -> Self {
        TopicIdentity { next_request: can_change.then(Instant::now), topic: None, assignments: Vec::new() }
    }

    /// Makes the next request due now. Called after an assignment: the earlier another topic is
    /// noticed, the fewer of its records are missed.
    pub fn request_now(&mut self) {
        self.next_request = self.next_request.map(|_| Instant::now());
    }
}

impl Shared {
    /// Requests the topic id if that is due. The result arrives as an event.
    pub(super) fn request_topic_id_if_due(&self) {
        let mut topic_identity = self.topic_identity.lock();
        let Some(next) = topic_identity.next_request else { return };
        if Instant::now() < next {
            return;
        }
        topic_identity.next_request = Some(Instant::now() + REQUEST_INTERVAL);
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
            None => self.adopt_topic(topic),
        }
    }

    /// Checks whether librdkafka uses another topic of this name now.
    pub(super) fn check_topic_in_use(&self) {
        if let Some(topic) = self.topic_in_use() {
            self.adopt_topic(topic);
        }
    }

    /// The topic that librdkafka uses by this name.
    fn topic_in_use(&self) -> Option<TopicId> {
        TopicId::used_by(&self.client.handle, &self.c_topic)
    }

    /// Records that assignments have begun in the known topic.
    pub(super) fn assigned_in_known_topic(&self) {
        let assignments = self.positions.assignments();
        self.topic_identity.lock().assignments = assignments;
    }

    /// The topic that the consumer's positions belong to.
    pub(super) fn topic_id(&self) -> Option<TopicId> {
        self.topic_identity.lock().topic
    }

    /// Whether this consumer's positions belong to a topic that is not in use any more.
    pub(super) fn is_topic_replaced(&self) -> bool {
        matches!((self.topic_id(), self.topic_in_use()), (Some(known), Some(used)) if known != used)
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

    /// Makes `topic` the one that the positions belong to. If it is another one, reading restarts
    /// at its beginning.
    fn adopt_topic(&self, topic: TopicId) {
        let known = self.topic_identity.lock().topic;
        if known.is_some_and(|known| known != topic)
            && let Err(error) = self.restart_at_beginning()
        {
            log::error!(logger: self.client.log(), target: &self.client.name(), "{error}; trying again");
            return;
        }
        // Readers lock the positions first and then this: the lock order in docs/architecture.md.
        let assignments = self.positions.assignments();
        let mut topic_identity = self.topic_identity.lock();
        topic_identity.topic = Some(topic);
        topic_identity.assignments = assignments;
    }

    /// Restarts at the beginning in each partition that was read in the former topic. One that is
    /// not assigned at present restarts there when it is.
    fn restart_at_beginning(&self) -> Result<()> {
        // A partition in which the consumer has noticed the new topic by itself has another
        // assignment now.
        let before = self.topic_identity.lock().assignments.clone();
        self.while_readers_wait(|batch| {
            let revoked = self.positions.forget_revoked();
            let now = self.positions.assignments();
            let missed: Vec<u32> =
                now.iter().filter(|assignment| before.contains(assignment)).map(|(partition, _)| *partition).collect();
            if missed.is_empty() && revoked.is_empty() {
                return Ok(());
            }
            for &partition in &missed {
                self.fetch_from(partition, 0, Deadline::after(SEEK_TIMEOUT))?;
                batch.retain(|message| message.partition() != partition as i32);
                self.positions.start_over(partition);
            }
            self.pending_error.set(self.recreated_topic_error(&[missed, revoked].concat()));
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
