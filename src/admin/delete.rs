//! Deletes a topic of Octopus: the topic first and its info topic next, so that at no time it's without components.

use std::thread;
use std::time::Duration;

use super::Admin;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};

/// What became of the info topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Deleted {
    WithInfoTopic,
    ThereWasNone,
    /// It has several partitions: something else's topic, whatever its name.
    LeftOtherPeoples,
}

/// Returns when both are gone, so that the name can be used again.
pub fn delete(kafka_name: &str, info_topic: &str, admin: &dyn Admin, deadline: Deadline) -> Result<Deleted> {
    if !admin.exists(kafka_name, deadline)? {
        return Err(Error::new(Kind::UnknownTopic, format!("there is no Kafka topic {kafka_name:?}")));
    }
    delete_one(kafka_name, admin, deadline)?;
    match admin.partition_count(info_topic, deadline)? {
        None => Ok(Deleted::ThereWasNone),
        Some(partitions) if partitions == 1 || !admin.honors_topic_options() => {
            match delete_one(info_topic, admin, deadline) {
                Err(error) if error.kind() == Kind::UnknownTopic => Ok(Deleted::ThereWasNone),
                Err(error) => {
                    let remark = format!("the topic is deleted, its info topic {info_topic:?} is left");
                    Err(error.with_note(remark))
                }
                Ok(()) => Ok(Deleted::WithInfoTopic),
            }
        }
        Some(_) => Ok(Deleted::LeftOtherPeoples),
    }
}

fn delete_one(kafka_name: &str, admin: &dyn Admin, deadline: Deadline) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    admin.delete(kafka_name, deadline)?;
    while admin.partition_count(kafka_name, deadline)?.is_some() {
        if deadline.has_passed() {
            let why = format!("the Kafka topic {kafka_name:?} was deleted, but is not gone in time");
            return Err(Error::new(Kind::Unreachable, why).retriable(true));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
