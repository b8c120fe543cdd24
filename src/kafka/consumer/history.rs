//! Whether the topic is still the one that this consumer has read.
//!
//! A topic that is deleted and created again under its name is another one, with offsets that begin at 0, and with another id.
//! librdkafka, as patched, begins at its start when metadata tells of another id. The attendant looks whether it has done that, and
//! since metadata can be minutes old, it asks brokers for the id now and then. What was acknowledged in the topic before counts no
//! more then. Positions that were committed for the topic before don't count either: the metadata of commits tells which it was.

use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::Shared;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::kafka::codes;
use crate::kafka::native::{PartitionResult, QueueEvent};
use crate::kafka::topic_id::TopicId;
use crate::positions::Assignment;
use crate::protection::Protection;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long reading may wait to be moved to another place.
const MOVING: Duration = Duration::from_secs(5);

/// What is known of the topic, and of this consumer's part in it at the time.
pub(super) struct History {
    /// When to ask next; never, if topics can't be deleted.
    next: Option<Instant>,
    /// The one that the consumer's positions are about.
    topic: Option<TopicId>,
    assignments: Vec<(u32, Assignment)>,
}

impl History {
    pub fn new(can_change: bool) -> Self {
        History { next: can_change.then(Instant::now), topic: None, assignments: Vec::new() }
    }

    /// Partitions have come, of whichever topic it is: the sooner that is known, the less can be missed.
    pub fn ask_now(&mut self) {
        self.next = self.next.map(|_| Instant::now());
    }
}

impl Shared {
    /// Asks if it is time to; the answer comes among the events.
    pub(super) fn ask_for_history(&self) {
        let mut history = self.history.lock();
        let Some(next) = history.next else { return };
        if Instant::now() < next {
            return;
        }
        history.next = Some(Instant::now() + INTERVAL);
        let mut names = [self.c_topic.as_ptr()];
        // SAFETY: client and queue are alive, the name is copied, the collection is destroyed once; NULL means default options.
        unsafe {
            let topics = rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            let client = self.client.handle.as_ptr();
            rd::rd_kafka_DescribeTopics(client, topics, std::ptr::null(), self.events.as_ptr());
            rd::rd_kafka_TopicCollection_destroy(topics);
        }
    }

    pub(super) fn read_topic_id(&self, answer: &QueueEvent) {
        // Of a topic that is gone, or by a broker that knows no ids, nothing is learnt.
        let Some(topic) = topic_id(answer) else { return };
        match self.used_topic() {
            Some(used) if used != topic => self.learn_leaders(),
            Some(_) => {}
            None => self.go_on_in(topic),
        }
    }

    /// Looks whether librdkafka uses another topic of that name now.
    pub(super) fn look_at_topic(&self) {
        if let Some(topic) = self.used_topic() {
            self.go_on_in(topic);
        }
    }

    fn used_topic(&self) -> Option<TopicId> {
        TopicId::used_by(&self.client.handle, &self.c_topic)
    }

    /// The topic that the consumer's positions are about.
    pub(super) fn topic_id(&self) -> Option<TopicId> {
        self.history.lock().topic
    }

    /// Whether this consumer's positions are about a topic that is used no more.
    pub(super) fn is_topic_replaced(&self) -> bool {
        matches!((self.topic_id(), self.used_topic()), (Some(known), Some(used)) if known != used)
    }

    /// The topic that is used now, asked for anew if a position was committed for another one: that may be the newer one.
    pub(super) fn topic_beside(&self, committed: &[PartitionResult]) -> Option<TopicId> {
        let used = self.used_topic().filter(|_| Protection::TopicOfPosition.is_on());
        if committed.iter().any(|part| part.is_of_other_topic(used)) {
            self.learn_leaders();
            return self.used_topic();
        }
        used
    }

    fn go_on_in(&self, topic: TopicId) {
        let known = self.history.lock().topic;
        if known.is_some_and(|known| known != topic)
            && let Err(error) = self.start_over()
        {
            log::error!(logger: self.client.log(), target: &self.client.name(), "{error}; trying again");
            return;
        }
        let mut history = self.history.lock();
        history.topic = Some(topic);
        history.assignments = self.positions.assignments();
    }

    /// Has everything read from the beginning that was read on from the topic before.
    fn start_over(&self) -> Result<()> {
        // Where the consumer has noticed by itself, the assignment is another one now.
        let before = self.history.lock().assignments.clone();
        self.while_readers_wait(|batch| {
            let now = self.positions.assignments();
            let missed: Vec<u32> =
                now.iter().filter(|one| before.contains(one)).map(|(partition, _)| *partition).collect();
            if missed.is_empty() {
                return Ok(());
            }
            for &partition in &missed {
                self.move_to(partition, 0, Deadline::after(MOVING))?;
                batch.retain(|message| message.partition() != partition as i32);
                self.positions.start_over(partition);
            }
            self.news.set(self.topic_was_recreated(&missed));
            Ok(())
        })
    }

    pub(super) fn topic_was_recreated(&self, partitions: &[u32]) -> Error {
        let why = format!(
            "reading topic {:?}: it was deleted and created again; reading goes on at its beginning in partitions {partitions:?}",
            self.topic
        );
        Error::new(Kind::RecordsLost, why)
    }
}

fn topic_id(answer: &QueueEvent) -> Option<TopicId> {
    if answer.error().is_error() {
        return None;
    }
    let mut count = 0;
    // SAFETY: the answer is alive and to this question; what it holds lives as long, and is read within its bounds.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(answer.as_ptr());
        if result.is_null() {
            return None;
        }
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null()
            || count == 0
            || codes::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(*topics)).is_error()
        {
            return None;
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(*topics);
        TopicId::new(rd::rd_kafka_Uuid_most_significant_bits(id), rd::rd_kafka_Uuid_least_significant_bits(id))
    }
}
