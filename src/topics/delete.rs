//! Deletes a topic of Octopus: first the topic, then its info topic, so that an existing topic
//! always has its components.

use std::thread;
use std::time::Duration;

use super::Admin;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

/// What happened to the info topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Deletion {
    WithInfoTopic,
    NoInfoTopic,
    /// It has several partitions, so it is not an info topic in spite of its name.
    ForeignTopicKept,
}

/// Returns when brokers report neither of them, so that the name can be used again.
pub fn delete(kafka_name: &str, info_topic: &str, admin: &dyn Admin, deadline: Deadline) -> Result<Deletion> {
    if !admin.exists(kafka_name, deadline)? {
        return Err(Error::new(Kind::UnknownTopic, format!("there is no Kafka topic {kafka_name:?}")));
    }
    delete_one(kafka_name, admin, deadline)?;
    match admin.partition_count(info_topic, deadline)? {
        None => Ok(Deletion::NoInfoTopic),
        Some(partitions) if partitions == 1 || !admin.honors_topic_options() => {
            match delete_one(info_topic, admin, deadline) {
                Err(error) if error.kind() == Kind::UnknownTopic => Ok(Deletion::NoInfoTopic),
                Err(error) => {
                    let note = format!("the topic was deleted, its info topic {info_topic:?} was not");
                    Err(error.with_note(note))
                }
                Ok(()) => Ok(Deletion::WithInfoTopic),
            }
        }
        Some(_) => Ok(Deletion::ForeignTopicKept),
    }
}

fn delete_one(kafka_name: &str, admin: &dyn Admin, deadline: Deadline) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    admin.delete(kafka_name, deadline)?;
    while admin.partition_count(kafka_name, deadline)?.is_some() {
        if deadline.has_passed() {
            let reason = format!("the Kafka topic {kafka_name:?} was deleted, but brokers still report it");
            return Err(Error::new(Kind::Unreachable, reason).retriable(true));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
