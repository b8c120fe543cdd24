//! A consumer returns the events of a topic: of the partitions that its group assigns to it, or of
//! those that the host names. Committed positions move by acknowledgement only;
//! [`crate::positions`] has them.

pub mod processing;
mod reader;
mod returned_events;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use processing::{Bounds, Processor};
use reader::Reader;

use crate::client::topic::Topic;
use crate::config::ClientSettings;
use crate::delivery::future::Future;
use crate::event::SharedEvent;
use crate::kafka::KafkaConsumer;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::poison::Poison;
use crate::support::thread_pool::ThreadPool;
use crate::support::threads::ensure_not_plugin_thread;

pub struct Consumer {
    pub poison: Poison,
    reader: Arc<Reader>,
    closed: AtomicBool,
    processing: AtomicBool,
}

impl Consumer {
    /// Opens a consumer of `topic`, which joins its group or reads the partitions of `settings`.
    pub fn open(topic: Arc<Topic>, settings: ClientSettings) -> Result<Self> {
        let name = topic.name().to_owned();
        topic.warn_about_unknown(settings.unknown_to_consumers(), "consumer");
        Self::new(topic, settings).map_err(|error| error.context(format_args!("making a consumer of topic {name:?}")))
    }

    fn new(topic: Arc<Topic>, mut settings: ClientSettings) -> Result<Self> {
        if settings.name.is_empty() {
            return Err(Error::invalid("the consumer's name is empty; it is the name of its group, so it needs one"));
        }
        check_targets(&mut settings.targets, topic.partition_count())?;
        let records = KafkaConsumer::open(&topic.context().connection, topic.kafka_name(), &settings)?;
        let formats = settings.records.unwrap_or(topic.context().records);
        let reader = Reader::new(topic, records, formats);
        Ok(Consumer {
            poison: Poison::default(),
            reader: Arc::new(reader),
            closed: AtomicBool::new(false),
            processing: AtomicBool::new(false),
        })
    }

    /// A future for the next event.
    pub fn pull(&self) -> Result<Future> {
        self.check_open()?;
        Ok(Future::pull(self.reader.clone()))
    }

    /// Waits for one event, then takes the events that are available, at most `max` in all.
    pub fn pull_many(&self, max: u64, deadline: Deadline) -> Result<Vec<SharedEvent>> {
        self.check_open()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        if !deadline.has_passed() {
            ensure_not_plugin_thread("pulling events")?;
        }
        self.reader.next_many(max, deadline)
    }

    /// Calls `processor` with each event until it stops; see [`processing::process`].
    pub fn process(&self, processor: Box<Processor>, bounds: Bounds, pool: Option<&ThreadPool>) -> Result<()> {
        self.check_open()?;
        let pool = pool.unwrap_or(&self.reader.topic.context().default_pool);
        let operation = "processing events";
        ensure_not_plugin_thread(operation)?;
        pool.id().ensure_not_on_pool_thread(operation)?;
        if self.processing.swap(true, Ordering::AcqRel) {
            return Err(Error::invalid(
                "processing events: another `process` of this consumer is still running; wait for its end",
            ));
        }
        let _guard = ProcessingGuard(&self.processing);
        processing::process(&self.reader, pool, processor, bounds)
    }

    /// Commits the acknowledged positions and waits for the commit result.
    pub fn commit(&self, deadline: Deadline) -> Result<()> {
        self.check_open()?;
        ensure_not_plugin_thread("committing")?;
        self.reader.records.commit(deadline.sooner(self.deadline()))
    }

    /// The offset of the next event of this partition.
    pub fn position(&self, partition: u32) -> Result<u64> {
        self.request("getting a position", |reader, deadline| reader.position(partition, deadline))
    }

    /// The group's committed offset in this partition; `None` if nothing is committed.
    pub fn committed(&self, partition: u32) -> Result<Option<u64>> {
        self.request("getting a committed position", |reader, deadline| {
            let partitions = reader.topic.partition_count();
            if partition >= partitions {
                return Err(Error::invalid(format!("partition {partition} does not exist, there are {partitions}")));
            }
            reader.records.committed(partition, deadline)
        })
    }

    /// The number of offsets from the position to the end of this partition.
    pub fn lag(&self, partition: u32) -> Result<u64> {
        self.request("getting the lag", |reader, deadline| {
            let next = reader.position(partition, deadline)?;
            let (_, end) = reader.records.offsets(partition, deadline)?;
            Ok(end.saturating_sub(next))
        })
    }

    /// Continues at this offset of the partition.
    pub fn seek(&self, partition: u32, offset: u64) -> Result<()> {
        self.request("seeking", |reader, deadline| {
            reader.records.seek(partition, offset, deadline, || reader.returned.remove_partition(partition))
        })
    }

    /// The partitions that are assigned to this consumer now, in order.
    pub fn assignment(&self) -> Result<Vec<u32>> {
        self.check_open()?;
        Ok(self.reader.records.positions().assigned())
    }

    /// Commits the acknowledged positions, releases all partitions and leaves the group. Later
    /// pulls return no events.
    pub fn unsubscribe(&self) -> Result<()> {
        self.request("unsubscribing", |reader, deadline| reader.records.unsubscribe(deadline))
    }

    /// Commits the acknowledged positions and leaves the group, which reassigns the partitions at
    /// once.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        ensure_not_plugin_thread("closing a consumer")?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::from_kind(Kind::Closed));
        }
        self.reader.records.close(deadline)
    }

    /// The consumer of Kafka, for a producer's transaction.
    pub fn records(&self) -> &KafkaConsumer {
        &self.reader.records
    }

    /// Sends a request that waits for a broker, with the driver's timeout.
    fn request<T>(&self, operation: &str, send: impl FnOnce(&Reader, Deadline) -> Result<T>) -> Result<T> {
        self.check_open()?;
        ensure_not_plugin_thread(operation)?;
        send(&self.reader, self.deadline())
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.reader.topic.context().timeout)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::from_kind(Kind::Closed)) } else { Ok(()) }
    }
}

impl Drop for Consumer {
    /// Starts to commit and to leave the group, in the background. Pending pulls keep the reader
    /// alive, and must not keep partitions from the other members.
    fn drop(&mut self) {
        self.reader.records.start_closing();
    }
}

/// Sorts and deduplicates the partitions, and rejects partitions that don't exist.
fn check_targets(targets: &mut Vec<u32>, partitions: u32) -> Result<()> {
    targets.sort_unstable();
    targets.dedup();
    match targets.iter().find(|target| **target >= partitions) {
        None => Ok(()),
        Some(nonexistent) => Err(Error::invalid(format!(
            "args.targets: partition {nonexistent} does not exist; the topic has {partitions}, numbered from 0"
        ))),
    }
}

/// Allows the next `process` when it is dropped.
struct ProcessingGuard<'a>(&'a AtomicBool);

impl Drop for ProcessingGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
