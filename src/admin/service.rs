//! Topics by way of the topic service: made, deleted, looked up and listed over HTTP. What they consist of - partitions,
//! settings, records - is asked of Kafka itself.
//!
//! The service makes a topic that exists once more without a word, so here whoever makes one looks first. Of creators at
//! the same moment several may thus think that they made it; reading back (see [`create`](super::create)) tells
//! them who did.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::web::WebService;
use super::{Admin, NewTopic};
use crate::config::Properties;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};

pub struct ServiceAdmin {
    service: WebService,
    namespace: String,
    kafka: Box<dyn Admin>,
}

impl ServiceAdmin {
    pub fn new(service: WebService, namespace: &str, kafka: Box<dyn Admin>) -> Self {
        ServiceAdmin { service, namespace: namespace.to_owned(), kafka }
    }

    /// The service knows topics by namespace and name, Kafka by both in one.
    fn name<'a>(&self, kafka_name: &'a str) -> Result<&'a str> {
        let name = kafka_name.strip_prefix(&self.namespace).and_then(|rest| rest.strip_prefix('.'));
        match name {
            // As a part of an address these would mean another place.
            Some("." | "..") | None => Err(Error::invalid(format!(
                "the topic service can't be asked for {kafka_name:?} in namespace {:?}",
                self.namespace
            ))),
            Some(name) => Ok(name),
        }
    }

    fn is_listed(&self, kafka_name: &str, deadline: Deadline) -> Result<bool> {
        Ok(self.service.topics(&self.namespace, deadline)?.contains(self.name(kafka_name)?))
    }
}

impl Admin for ServiceAdmin {
    fn create(&self, topic: &NewTopic, deadline: Deadline) -> Result<()> {
        let name = self.name(&topic.kafka_name)?;
        // Info topics may be hidden from the list.
        if self.is_listed(&topic.kafka_name, deadline)?
            || self.kafka.partition_count(&topic.kafka_name, deadline)?.is_some()
        {
            return Err(Error::new(Kind::TopicExists, format!("the topic {:?} exists already", topic.kafka_name)));
        }
        self.service.create(&self.namespace, name, deadline)
    }

    fn delete(&self, kafka_name: &str, deadline: Deadline) -> Result<()> {
        self.service.delete(&self.namespace, self.name(kafka_name)?, deadline)
    }

    /// The service makes it anew, so its offsets begin at 0 again.
    fn empty(&self, kafka_name: &str, _: u32, deadline: Deadline) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(10);
        self.service.recreate(&self.namespace, self.name(kafka_name)?, deadline)?;
        while self.kafka.partition_count(kafka_name, deadline)?.is_none() {
            if deadline.has_passed() {
                let why = format!("the topic service made {kafka_name:?} anew, but Kafka doesn't show it in time");
                return Err(Error::new(Kind::Unreachable, why).retriable(true));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn exists(&self, kafka_name: &str, deadline: Deadline) -> Result<bool> {
        self.is_listed(kafka_name, deadline)
    }

    fn find(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        match self.is_listed(kafka_name, deadline)? {
            true => self.kafka.partition_count(kafka_name, deadline),
            false => Ok(None),
        }
    }

    fn listing(&self, deadline: Deadline) -> Result<Option<BTreeSet<String>>> {
        let names = self.service.topics(&self.namespace, deadline)?;
        Ok(Some(names.into_iter().map(|name| format!("{}.{name}", self.namespace)).collect()))
    }

    fn partition_count(&self, kafka_name: &str, deadline: Deadline) -> Result<Option<u32>> {
        self.kafka.partition_count(kafka_name, deadline)
    }

    fn settings(&self, kafka_name: &str, deadline: Deadline) -> Result<Properties> {
        self.kafka.settings(kafka_name, deadline)
    }

    fn honors_topic_options(&self) -> bool {
        false
    }

    /// A service for many is not asked as often as a broker.
    fn pause(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn distinguishes_creators(&self) -> bool {
        false
    }
}
