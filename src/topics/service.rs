//! Administers topics at the topic service: creates, deletes, finds and lists them over HTTP. Kafka
//! itself reports their partitions, settings and records.
//!
//! The service reports success for a topic that already exists, so [`ServiceAdmin`] checks first.
//! Of several concurrent creators more than one may therefore succeed here; the read-back in
//! [`create`](super::create) decides between them.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::web::WebService;
use super::{Admin, NewTopic};
use crate::config::Properties;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

pub struct ServiceAdmin {
    service: WebService,
    namespace: String,
    kafka: Box<dyn Admin>,
}

impl ServiceAdmin {
    pub fn new(service: WebService, namespace: &str, kafka: Box<dyn Admin>) -> Self {
        ServiceAdmin { service, namespace: namespace.to_owned(), kafka }
    }

    /// The name within the namespace. The service takes both separately, Kafka as one name.
    fn name<'a>(&self, kafka_name: &'a str) -> Result<&'a str> {
        let name = kafka_name.strip_prefix(&self.namespace).and_then(|rest| rest.strip_prefix('.'));
        match name {
            // As a segment of a URL path these would name another resource.
            Some("." | "..") | None => Err(Error::invalid(format!(
                "the topic service can't have {kafka_name:?} in namespace {:?}",
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
        // The service may hide info topics from its list.
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

    /// The service deletes and creates the topic, so its offsets begin at 0 again.
    fn empty(&self, kafka_name: &str, _: u32, deadline: Deadline) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(10);
        self.service.recreate(&self.namespace, self.name(kafka_name)?, deadline)?;
        while self.kafka.partition_count(kafka_name, deadline)?.is_none() {
            if deadline.has_passed() {
                let reason =
                    format!("the topic service recreated {kafka_name:?}, but Kafka does not report it in time");
                return Err(Error::new(Kind::Unreachable, reason).retriable(true));
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

    /// Less often than a broker: many users share the service.
    fn pause(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn distinguishes_creators(&self) -> bool {
        false
    }
}
