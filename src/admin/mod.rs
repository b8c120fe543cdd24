//! The ways that topics are made, found and deleted. What a topic of Octopus consists of, and how its parts come to
//! be, is in [`create`]; how they go, in [`delete`].

mod authorization;
mod create;
mod delete;
mod service;
mod web;

pub use authorization::Authorization;
pub use create::{Creation, create, refuse_info_topic_name};
pub use delete::{Deleted, delete};
pub use service::ServiceAdmin;
pub use web::WebService;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::components::Role;

use crate::config::Properties;
use crate::deadline::Deadline;
use crate::error::Result;

/// One Kafka topic to be made.
#[derive(Debug)]
pub struct NewTopic {
    pub kafka_name: String,
    pub partitions: u32,
    pub replication: u32,
    pub config: Properties,
}

/// Kafka topics, by the names that Kafka knows them by. Every call ends by its deadline.
pub trait Admin: Send + Sync {
    /// Fails with `TopicExists` when there is one of this name.
    fn create(&self, topic: &NewTopic, deadline: Deadline) -> Result<()>;
    fn delete(&self, kafka_name: &str, deadline: Deadline) -> Result<()>;
    /// Removes all records of a topic, which has so many partitions.
    fn empty(&self, kafka_name: &str, partitions: u32, deadline: Deadline) -> Result<()>;
    /// As Kafka knows it; `None` when there is no such topic. Looking never makes one.
    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>>;
    /// Whether there is such a topic, as far as whoever makes topics knows.
    fn exists(&self, kafka_name: &str, deadline: Deadline) -> Result<bool> {
        Ok(self.partition_count(kafka_name, deadline)?.is_some())
    }
    /// The partitions of a topic to be used: `None` unless whoever makes topics and Kafka both know it.
    fn find(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        self.partition_count(kafka_name, deadline)
    }
    /// The topics that may be listed; `None`: whatever Kafka shows.
    fn listing(&self, _: Deadline) -> Result<Option<BTreeSet<String>>> {
        Ok(None)
    }
    /// Whether a topic gets the partitions, replicas and settings that it is asked for; else whoever makes it decides.
    fn honors_topic_options(&self) -> bool {
        true
    }
    /// Whether of several that make one topic at the same time only one is told that it did.
    fn distinguishes_creators(&self) -> bool {
        true
    }
    /// Between two questions while something is waited for.
    fn pause(&self) -> Duration {
        Duration::from_millis(50)
    }
    /// The topic's own settings, Kafka's defaults included.
    fn settings(&self, kafka_name: &str, deadline: Deadline) -> Result<Properties>;
}

/// What an info topic holds, as far as it was read: a few records from offset 0 on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct InfoTopic {
    pub partitions: u32,
    pub records: Vec<InfoRecord>,
    /// The first records are gone, so none were read.
    pub begins_later: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct InfoRecord {
    pub payload: Vec<u8>,
    /// Milliseconds since 1970; negative when the record has none.
    pub timestamp: i64,
}

impl InfoTopic {
    /// A record for each component; more are never read.
    pub const RECORDS: usize = Role::ALL.len();

    /// The components' records; `None` when they aren't all there.
    pub fn components(&self) -> Option<&[InfoRecord]> {
        self.records.get(..Self::RECORDS)
    }
}

/// The records in info topics, by the names that Kafka knows these by. Every call ends by its deadline.
pub trait InfoTopics: Send + Sync {
    /// The first records of the topic, [`InfoTopic::RECORDS`] and one more at most, so that it shows if there are too
    /// many. `None` when there is no such topic.
    fn read(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<InfoTopic>>;
    /// Puts all records into partition 0, in order and in one go, and returns when they are stored, or none can be
    /// stored any more, or with `Unreachable`, when that isn't known. `UnknownTopic` when there is no such topic.
    fn write(&self, kafka_name: &str, records: &[&str], deadline: Deadline) -> Result<()>;
}
