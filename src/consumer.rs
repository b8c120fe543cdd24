//! A consumer hands out the events of a topic, as a member of the group that has its name. Positions move by
//! acknowledgement only; where they stand is in [`crate::positions`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::components::Role;
use crate::config::ClientSettings;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::future::Future;
use crate::health::{Health, refuse_to_wait_for_ourselves};
use crate::kafka::KafkaConsumer;
use crate::topic::Topic;

pub struct Consumer {
    pub health: Health,
    reader: Arc<Reader>,
    closed: AtomicBool,
}

impl Consumer {
    pub fn new(topic: Arc<Topic>, settings: &ClientSettings) -> Result<Self> {
        if settings.name.is_empty() {
            return Err(Error::invalid("the consumer's name is empty; it is the name of its group, so it needs one"));
        }
        let records = KafkaConsumer::subscribe(topic.driver().connection(), topic.kafka_name(), settings)?;
        let reads_metadata = topic.components().provides(Role::Serializer);
        let reader = Arc::new(Reader { topic, records, reads_metadata });
        Ok(Consumer { health: Health::default(), reader, closed: AtomicBool::new(false) })
    }

    /// A ticket for the next event.
    pub fn pull(&self) -> Result<Future> {
        self.check_open()?;
        Ok(Future::pull(self.reader.clone()))
    }

    /// Commits what was acknowledged so far and waits for Kafka's answer.
    pub fn commit(&self, deadline: Deadline) -> Result<()> {
        self.check_open()?;
        refuse_to_wait_for_ourselves("committing")?;
        let limit = Deadline::after(self.reader.topic.driver().timeout());
        self.reader.records.commit(deadline.sooner(limit))
    }

    /// Commits, and leaves the group at once.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        refuse_to_wait_for_ourselves("closing a consumer")?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::bare(Kind::Closed));
        }
        self.reader.records.close(deadline)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::bare(Kind::Closed)) } else { Ok(()) }
    }
}

impl Drop for Consumer {
    /// Commits and leaves in the background, at once: tickets that are still held must not keep partitions from
    /// the group's other members.
    fn drop(&mut self) {
        self.reader.records.start_closing();
    }
}

/// What a consumer and its tickets share.
pub struct Reader {
    topic: Arc<Topic>,
    records: KafkaConsumer,
    /// Whether the metadata is text of a built-in serializer, or bytes that only the host can read.
    reads_metadata: bool,
}

impl Reader {
    /// The next event; `TimedOut` when there was none in time. A malformed record is an error, once, and then it
    /// goes on with the record after it.
    pub fn next(&self, deadline: Deadline) -> Result<Event> {
        let record = self.records.next(deadline)?;
        let (partition, offset) = (record.partition, record.offset);
        Event::read(record, self.records.positions().clone(), self.reads_metadata).map_err(|error| {
            error.during(format_args!(
                "reading topic {:?}: the record at offset {offset} of partition {partition} is malformed",
                self.topic.name()
            ))
        })
    }
}
