//! A producer turns events into records of one topic, and settles a future for each. It knows neither C nor
//! librdkafka: [`KafkaProducer`] is its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::components::{DefaultSelector, Role};
use crate::config::ClientSettings;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::future::Future;
use crate::health::{Health, refuse_to_wait_for_ourselves};
use crate::json;
use crate::kafka::KafkaProducer;
use crate::record::{HEADER, LENGTH_PREFIX, Metadata, Record};
use crate::topic::Topic;

pub struct Producer {
    pub health: Health,
    topic: Arc<Topic>,
    /// None when the topic's selector is one that only the host has.
    selector: Option<DefaultSelector>,
    /// Why metadata can't be pushed as JSON, if it can't.
    json_refusal: Option<Error>,
    records: KafkaProducer,
    closed: AtomicBool,
}

/// What the host pushes; borrowed, since its bytes are copied into the record before `push` returns.
pub struct NewEvent<R> {
    pub record: R,
    /// The partition asked for; the topic's selector decides.
    pub partition: Option<u64>,
}

impl Producer {
    pub fn new(topic: Arc<Topic>, settings: &ClientSettings) -> Result<Self> {
        let records = KafkaProducer::new(topic.driver().connection(), topic.kafka_name(), settings)?;
        let components = topic.components();
        Ok(Producer {
            health: Health::default(),
            selector: components.provides(Role::Selector).then(DefaultSelector::default),
            json_refusal: components.require(&[Role::Validator, Role::Serializer]).err(),
            topic,
            records,
            closed: AtomicBool::new(false),
        })
    }

    /// Checks the event, waits for room, and queues its record. The future tells of its delivery; an event that
    /// is refused here was not queued.
    pub fn push<R: Record>(&self, event: &NewEvent<R>) -> Result<Arc<Future>> {
        self.check_open()?;
        let size = self.check_size(&event.record)?;
        self.check_metadata(&event.record.metadata())?;
        let partition = self.select_partition(event.partition)?;
        let place = self.records.in_flight().take(size as u64, self.time_limit())?;
        self.records.send(partition, &event.record, place)
    }

    /// Settled when everything pushed before is delivered or has failed.
    pub fn flush(&self) -> Result<Arc<Future>> {
        self.check_open()?;
        Ok(self.records.flush())
    }

    /// The largest event that can be pushed: bytes of metadata text and data together.
    pub fn max_event_size(&self) -> Result<u64> {
        self.check_open()?;
        Ok(self.records.max_record().saturating_sub(HEADER + LENGTH_PREFIX) as u64)
    }

    /// Takes no more events and waits until those in flight are delivered or have failed. At the deadline they
    /// are still being delivered, in the background.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        refuse_to_wait_for_ourselves("closing a producer")?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::bare(Kind::Closed));
        }
        self.records.in_flight().end(Error::bare(Kind::Closed));
        self.records.flush().wait(deadline)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::bare(Kind::Closed)) } else { Ok(()) }
    }

    fn check_size(&self, record: &impl Record) -> Result<usize> {
        let most = self.records.max_record();
        match record.size() {
            Some(size) if size <= most => Ok(size),
            size => Err(Error::new(
                Kind::TooLarge,
                format!(
                    "the event makes a record of {} bytes, and at most {most} fit into kafka.message.max.bytes; raise \
                     that, and the Kafka topic's max.message.bytes with it",
                    size.map_or("too many".to_owned(), |size| size.to_string()),
                ),
            )
            .during(self.pushing())),
        }
    }

    fn check_metadata(&self, metadata: &Metadata) -> Result<()> {
        let Metadata::Json(text) = metadata else { return Ok(()) };
        if let Some(refusal) = &self.json_refusal {
            return Err(refusal.clone().during(self.pushing()));
        }
        json::check(text).map_err(|why| {
            Error::new(Kind::InvalidMetadata, format!("the metadata is not JSON: {why}")).during(self.pushing())
        })
    }

    fn select_partition(&self, requested: Option<u64>) -> Result<u32> {
        let partitions = self.topic.partition_count();
        if let Some(selector) = &self.selector {
            return Ok(selector.select(requested, partitions));
        }
        // The selector is the host's: if it names a partition, it has asked that selector already.
        match requested {
            Some(partition) if partition < u64::from(partitions) => Ok(partition as u32),
            Some(partition) => {
                let why = format!("partition {partition} does not exist, there are {partitions}");
                Err(Error::invalid(why).during(self.pushing()))
            }
            None => match self.topic.components().require(&[Role::Selector]) {
                Err(nobody_provides_it) => Err(nobody_provides_it.during(self.pushing())),
                Ok(()) => Ok(0),
            },
        }
    }

    fn pushing(&self) -> String {
        format!("pushing to topic {:?}", self.topic.name())
    }

    fn time_limit(&self) -> Deadline {
        Deadline::after(self.topic.driver().timeout())
    }
}
