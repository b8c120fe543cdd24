//! Creates, finds and deletes topics, at Kafka or at the topic service. [`create`] describes what a
//! topic of Octopus consists of and the order in which it is created; [`delete`] the reverse.

#[cfg(feature = "topic-service")]
mod authorization;
mod create;
mod delete;
#[cfg(feature = "topic-service")]
mod service;
#[cfg(feature = "topic-service")]
mod web;

#[cfg(feature = "topic-service")]
pub use authorization::Authorization;
pub use create::{Creation, create, reject_info_topic_name};
pub use delete::{Deletion, delete};
#[cfg(feature = "topic-service")]
pub use service::ServiceAdmin;
#[cfg(feature = "topic-service")]
pub use web::WebService;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::auth::AskForKey;
use crate::components::Role;
use crate::config::{DriverSettings, Properties};
use crate::support::deadline::Deadline;
use crate::support::error::Result;
use crate::support::services::Services;

/// How the topic service is asked for an access key, if the configuration wants one of it.
#[cfg(feature = "topic-service")]
pub fn ask_for_key(settings: &DriverSettings, services: &Services) -> Result<Option<AskForKey>> {
    use std::sync::Arc;

    use crate::config::KeySource;

    let Some(service) = &settings.service else { return Ok(None) };
    if settings.msk.as_ref().is_none_or(|msk| msk.keys != KeySource::TopicService) {
        return Ok(None);
    }
    let authorization = Authorization::new(service.authorization.clone(), services.authorization.clone())?;
    let service = WebService::new(service, authorization, settings.proxy.as_ref(), services.log.clone());
    let timeout = settings.timeout;
    Ok(Some(Arc::new(move || service.access_key(Deadline::after(timeout)))))
}

#[cfg(not(feature = "topic-service"))]
pub fn ask_for_key(_: &DriverSettings, _: &Services) -> Result<Option<AskForKey>> {
    Ok(None)
}

/// One Kafka topic to be created.
#[derive(Debug)]
pub struct NewTopic {
    pub kafka_name: String,
    pub partitions: u32,
    pub replication: u32,
    pub config: Properties,
}

/// Administers Kafka topics by their names in Kafka. Every call ends by its deadline.
pub trait Admin: Send + Sync {
    /// Fails with `TopicExists` if a topic of this name exists.
    fn create(&self, topic: &NewTopic, deadline: Deadline) -> Result<()>;
    fn delete(&self, kafka_name: &str, deadline: Deadline) -> Result<()>;
    /// Removes all records of a topic with this number of partitions.
    fn empty(&self, kafka_name: &str, partitions: u32, deadline: Deadline) -> Result<()>;
    /// The number of partitions that Kafka reports; `None` if the topic does not exist. Never
    /// creates the topic.
    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>>;
    /// Whether the topic exists, according to the system that creates topics.
    fn exists(&self, kafka_name: &str, deadline: Deadline) -> Result<bool> {
        Ok(self.partition_count(kafka_name, deadline)?.is_some())
    }
    /// The number of partitions of a topic to be opened; `None` unless both Kafka and the system
    /// that creates topics know it.
    fn find(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        self.partition_count(kafka_name, deadline)
    }
    /// The topics that may be listed; `None`: all that Kafka reports.
    fn listing(&self, _: Deadline) -> Result<Option<BTreeSet<String>>> {
        Ok(None)
    }
    /// Whether a new topic gets the requested partitions, replicas and settings. The topic service
    /// chooses its own.
    fn honors_topic_options(&self) -> bool {
        true
    }
    /// Whether only one of several concurrent creators of a topic succeeds. The topic service
    /// reports success to each of them.
    fn distinguishes_creators(&self) -> bool {
        true
    }
    /// Between two requests of a call that waits for a change.
    fn pause(&self) -> Duration {
        Duration::from_millis(50)
    }
    /// The settings of the topic, including Kafka's defaults.
    fn settings(&self, kafka_name: &str, deadline: Deadline) -> Result<Properties>;
}

/// The first records of an info topic, from offset 0 on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct InfoTopic {
    pub partitions: u32,
    pub records: Vec<InfoRecord>,
    /// The first records were removed, for example by retention, so none were read.
    pub is_truncated: bool,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct InfoRecord {
    pub payload: Vec<u8>,
    /// Milliseconds since 1970; negative if the record has no timestamp.
    pub timestamp: i64,
}

impl InfoTopic {
    /// One record for each component.
    pub const RECORDS: usize = Role::ALL.len();

    /// The records of the components; `None` if some are missing.
    pub fn components(&self) -> Option<&[InfoRecord]> {
        self.records.get(..Self::RECORDS)
    }
}

/// Reads and writes info topics by their names in Kafka. Every call ends by its deadline.
pub trait InfoTopics: Send + Sync {
    /// At most [`InfoTopic::RECORDS`] records and one more, which shows that there are too many.
    /// `None` if the topic does not exist.
    fn read(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<InfoTopic>>;
    /// Writes all records to partition 0 as one batch, in order. Returns when they are stored or
    /// can no longer be stored; fails with `Unreachable` if that is unknown, and with
    /// `UnknownTopic` if the topic does not exist.
    fn write(&self, kafka_name: &str, records: &[&str], deadline: Deadline) -> Result<()>;
}
