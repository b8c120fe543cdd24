//! A producer makes records of events and resolves one future per event. It depends on neither the
//! C ABI nor librdkafka; [`KafkaProducer`] is its only output.
//!
//! If its thread pool has threads, `push` copies the event and a task of the pool prepares the
//! record. In strict order, the [`Sequencer`] then dispatches the records in push order.

mod pipeline;
mod pooled;
mod stages;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::client::consumer::Consumer;
use crate::client::preparation::Preparation;
use crate::client::topic::Topic;
use crate::components::{DefaultSelector, PartitionSelector, Provided};
use crate::config::{ClientSettings, ValueFormat};
use crate::delivery::future::Future;
use crate::delivery::sequencer::Sequencer;
use crate::kafka::{KafkaProducer, TransactionEnd, WhenOverdue};
use crate::record::{Attributes, HEADER, LENGTH_PREFIX, Record};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::fork;
use crate::support::poison::Poison;
use crate::support::protection::Protection;
use crate::support::thread_pool::{PoolId, ThreadPool};
use crate::support::threads::{ensure_not_plugin_thread, is_plugin_thread};

use pipeline::{PushPipeline, Selection};

pub struct Producer {
    pub poison: Poison,
    pipeline: Arc<PushPipeline>,
    closed: AtomicBool,
}

/// An event to push. It borrows the host's bytes, which `push` copies before it returns.
pub struct NewEvent<'a, R> {
    pub record: R,
    /// The partition that the host requests; the topic's selector decides.
    pub partition: Option<u64>,
    /// A key, headers or a timestamp.
    pub attributes: Option<&'a Attributes>,
    /// Whether the host wants a future for this event; a flush reports all events.
    pub wants_future: bool,
    /// When the wait for the in-flight limit ends, instead of after the driver's timeout.
    pub deadline: Option<Deadline>,
}

impl Producer {
    /// Opens a producer of `topic`. `pool` prepares its events, else the driver's default pool.
    pub fn open(topic: Arc<Topic>, settings: &ClientSettings, pool: Option<Arc<ThreadPool>>) -> Result<Self> {
        let name = topic.name().to_owned();
        topic.warn_about_unknown(settings.unknown_to_producers(), "producer");
        let pool = pool.unwrap_or_else(|| topic.context().default_pool.clone());
        Self::new(topic, settings, pool)
            .map_err(|error| error.context(format_args!("making a producer of topic {name:?}")))
    }

    fn new(topic: Arc<Topic>, settings: &ClientSettings, pool: Arc<ThreadPool>) -> Result<Self> {
        let records = {
            let connection = &topic.context().connection;
            let clients = connection.clients_of_producers();
            KafkaProducer::new(connection, topic.kafka_name(), settings, WhenOverdue::Keep, clients)?
        };
        let pool_id = if pool.has_threads() { pool.id() } else { PoolId::NONE };
        let parts = topic.parts();
        let (selection, selector) = match parts.make_selector()? {
            PartitionSelector::Default => (Selection::Default(DefaultSelector::default()), None),
            PartitionSelector::Custom(selector) => (Selection::Host, Some(selector)),
            PartitionSelector::Missing(error) => (Selection::Unavailable(error), None),
        };
        let format = settings.written_format(topic.context().records);
        if format == Some(ValueFormat::Bytes) && !matches!(parts.validator, Provided::BuiltIn) {
            let reason = "\"bytes\" stores no metadata, and the topic has a validator of the metadata";
            return Err(Error::configuration("records", reason));
        }
        // Records of another format don't need the topic's serializer.
        let missing = parts.validator.missing().or(parts.serializer.missing().filter(|_| format.is_none()));
        let pipeline = PushPipeline {
            selection,
            json_error: missing.cloned(),
            pool_id,
            is_strict: !settings.loose,
            format,
            key_selects: settings.key_selects,
            sequencer: Sequencer::new(selector),
            topic,
            records: records.prepared_on(pool_id),
            pool,
        };
        Ok(Producer { poison: Poison::default(), pipeline: Arc::new(pipeline), closed: AtomicBool::new(false) })
    }

    /// Checks the event, acquires a permit of the in-flight limit, and prepares and queues the
    /// event's record. Returns a future of the delivery if the event wants one. On an error, the
    /// event is not queued.
    pub fn push<R: Record>(&self, event: &NewEvent<R>) -> Result<Option<Arc<Future>>> {
        self.check_ready()?;
        match self.pipeline.format {
            None => self.pipeline.push(event),
            Some(format) => self.pipeline.push_in_format(event, format),
        }
    }

    /// As [`push`](Self::push), for an event that the host prepares itself: `event` has its data
    /// and no metadata. An invalid event fails its future instead of the push, on any pool.
    pub fn push_prepared<R: Record>(
        &self,
        event: &NewEvent<R>,
        preparation: Box<dyn Preparation>,
    ) -> Result<Option<Arc<Future>>> {
        self.check_ready()?;
        self.pipeline.push_prepared(event, preparation)
    }

    /// Returns a future that settles when each event pushed before is delivered or has failed.
    pub fn flush(&self) -> Result<Arc<Future>> {
        self.check_open()?;
        Ok(self.pipeline.records.flush())
    }

    /// The format of the records; `None`: that of Octopus.
    pub fn format(&self) -> Option<ValueFormat> {
        self.pipeline.format
    }

    /// The largest event that can be pushed, in bytes of metadata text and data together.
    pub fn max_event_size(&self) -> Result<u64> {
        self.check_open()?;
        let overhead = if self.pipeline.format.is_none() { HEADER + LENGTH_PREFIX } else { 0 };
        Ok(self.pipeline.records.max_record().saturating_sub(overhead) as u64)
    }

    /// Begins a transaction, which contains the events that are pushed from now on, and the
    /// acknowledged positions of these consumers.
    pub fn begin_transaction(&self, consumers: &[&Consumer]) -> Result<()> {
        self.check_open()?;
        let consumers: Vec<_> = consumers.iter().map(|consumer| consumer.records()).collect();
        self.pipeline.records.begin_transaction(&consumers).map_err(|error| self.in_transaction(error))
    }

    /// Waits until the events of the transaction are delivered, and commits them and the positions.
    pub fn commit_transaction(&self, deadline: Deadline) -> Result<()> {
        self.ensure_may_wait("committing a transaction")?;
        self.check_open()?;
        self.pipeline.records.commit_transaction(deadline).map_err(|error| self.in_transaction(error))
    }

    /// Discards the events of the transaction; its consumers read again what they have read in it.
    pub fn abort_transaction(&self, deadline: Deadline) -> Result<()> {
        self.ensure_may_wait("aborting a transaction")?;
        self.check_open()?;
        self.pipeline.records.abort_transaction(deadline).map_err(|error| self.in_transaction(error))
    }

    fn in_transaction(&self, error: Error) -> Error {
        match error.kind() {
            Kind::TimedOut | Kind::Closed => error,
            _ => error.context(format_args!("transaction of the producer of topic {:?}", self.pipeline.topic.name())),
        }
    }

    /// Rejects later pushes and waits until the events in flight are delivered or have failed.
    /// After the deadline, delivery continues in the background. An open transaction is ended
    /// first; if that fails, the producer stays open.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        self.ensure_may_wait("closing a producer")?;
        self.check_open()?;
        let records = &self.pipeline.records;
        let ended = if records.has_open_transaction() { records.end_transaction(deadline).map(Some) } else { Ok(None) };
        let ended = ended.map_err(|error| self.in_transaction(error));
        if ended.is_err() && records.has_open_transaction() {
            return ended.map(drop);
        }
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::from_kind(Kind::Closed));
        }
        records.in_flight().end(Error::from_kind(Kind::Closed));
        let flushed = records.flush().wait(deadline);
        match ended? {
            None | Some(TransactionEnd::Committed) => flushed,
            Some(TransactionEnd::Aborted) => Err(self.in_transaction(Error::new(
                Kind::MustAbort,
                "it was open when the producer was closed, and has been aborted: none of its events is stored",
            ))),
        }
    }

    fn ensure_may_wait(&self, operation: &str) -> Result<()> {
        ensure_not_plugin_thread(operation)?;
        self.pipeline.pool_id.ensure_not_on_pool_thread(operation)
    }

    fn check_ready(&self) -> Result<()> {
        self.check_open()?;
        self.pipeline.records.check_connection().map_err(|error| error.context(self.pipeline.pushing()))
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::from_kind(Kind::Closed)) } else { Ok(()) }
    }
}

impl Drop for Producer {
    /// In a forked child, waits for the deliveries: worker processes of Python, for example, end by
    /// `_exit`, after which nothing is delivered.
    fn drop(&mut self) {
        let timeout = self.pipeline.topic.context().connection.exit_flush;
        let must_not_wait = is_plugin_thread() || self.pipeline.pool_id.is_on_this_thread();
        if !fork::is_in_child() || timeout.is_zero() || must_not_wait || !Protection::ForkedChildFlush.is_on() {
            return;
        }
        let records = &self.pipeline.records;
        records.in_flight().end(Error::from_kind(Kind::Closed));
        // A host that wants the result calls `close`.
        let _ = records.flush().wait(Deadline::after(timeout));
    }
}
