//! A consumer hands out the events of a topic, as a member of the group that has its name. Positions move by
//! acknowledgement only; where they stand is in [`crate::positions`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::components::Role;
use crate::config::ClientSettings;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::health::{Health, refuse_to_wait_for_ourselves};
use crate::kafka::KafkaConsumer;
use crate::topic::Topic;

pub struct Consumer {
    pub health: Health,
    topic: Arc<Topic>,
    records: KafkaConsumer,
    /// Whether the metadata is text of a built-in serializer, or bytes that only the host can read.
    reads_metadata: bool,
    closed: AtomicBool,
}

impl Consumer {
    pub fn new(topic: Arc<Topic>, settings: &ClientSettings) -> Result<Self> {
        if settings.name.is_empty() {
            return Err(Error::invalid("the consumer's name is empty; it is the name of its group, so it needs one"));
        }
        let records = KafkaConsumer::subscribe(topic.driver().connection(), topic.kafka_name(), settings)?;
        Ok(Consumer {
            health: Health::default(),
            reads_metadata: topic.components().provides(Role::Serializer),
            topic,
            records,
            closed: AtomicBool::new(false),
        })
    }

    /// The next event; `TimedOut` when there was none in time. A malformed record is an error, once, and then it
    /// goes on with the record after it.
    pub fn next(&self, deadline: Deadline) -> Result<Event> {
        self.check_open()?;
        let record = self.records.next(deadline)?;
        let (partition, offset) = (record.partition, record.offset);
        Event::read(record, self.records.positions().clone(), self.reads_metadata).map_err(|error| {
            error.during(format_args!(
                "reading topic {:?}: the record at offset {offset} of partition {partition} is malformed",
                self.topic.name()
            ))
        })
    }

    /// Commits what was acknowledged so far and waits for Kafka's answer.
    pub fn commit(&self, deadline: Deadline) -> Result<()> {
        self.check_open()?;
        refuse_to_wait_for_ourselves("committing")?;
        self.records.commit(deadline.sooner(Deadline::after(self.topic.driver().timeout())))
    }

    /// Commits, and leaves the group at once.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        refuse_to_wait_for_ourselves("closing a consumer")?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::bare(Kind::Closed));
        }
        self.records.close(deadline)
    }

    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::bare(Kind::Closed)) } else { Ok(()) }
    }
}
