//! The ways that topics are made and found. What a topic of Octopus consists of is in [`create`].

mod create;

pub use create::{Creation, create};

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
    /// `None` when there is no such topic; looking never makes one.
    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>>;
}
