//! A producer turns events into records of one topic, and settles a future for each. It knows neither C nor
//! librdkafka: [`KafkaProducer`] is its way out.
//!
//! Events are prepared on a thread pool. Where that has threads, an event's bytes are copied in `push` and the rest is
//! done there; in strict order, records are put out in the order of the pushes all the same ([`Order`]).

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::components::{DefaultSelector, PartitionSelector, Provided, Selector, Serializer};
use crate::config::ClientSettings;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::fork;
use crate::future::Future;
use crate::in_flight::{Claim, Place};
use crate::json;
use crate::kafka::{EncodedRecord, KafkaProducer, WhenOverdue};
use crate::order::{Order, Turn};
use crate::poison::{Poison, ensure_not_plugin_thread, is_plugin_thread};
use crate::preparation::Preparation;
use crate::protection::Protection;
use crate::record::{EventRecord, HEADER, LENGTH_PREFIX, Metadata, Record};
use crate::thread_pool::{HIGHEST_PRIORITY, Mark, Refused, ThreadPool};
use crate::topic::Topic;

pub struct Producer {
    pub poison: Poison,
    pipeline: Arc<PushPipeline>,
    closed: AtomicBool,
}

/// What the host pushes; borrowed, since its bytes are copied before `push` returns.
pub struct NewEvent<R> {
    pub record: R,
    /// The partition asked for; the topic's selector decides.
    pub partition: Option<u64>,
    /// Whether the host wants to hear of this one; a flush tells of all.
    pub wants_future: bool,
}

impl Producer {
    pub fn new(topic: Arc<Topic>, settings: &ClientSettings, pool: Arc<ThreadPool>) -> Result<Self> {
        let records = {
            let connection = topic.driver().connection();
            let clients = connection.clients_of_producers();
            KafkaProducer::new(connection, topic.kafka_name(), settings, WhenOverdue::Keep, clients)?
        };
        let elsewhere = if pool.has_threads() { pool.mark() } else { Mark::NONE };
        let parts = topic.parts();
        let (selection, own) = match parts.make_selector()? {
            PartitionSelector::Default => (Selection::Default(DefaultSelector::default()), None),
            PartitionSelector::By(selector) => (Selection::ByHost, Some(selector)),
            PartitionSelector::Nobody(error) => (Selection::Nobody(error), None),
        };
        let missing = parts.validator.missing().or(parts.serializer.missing());
        let pipeline = PushPipeline {
            selection,
            json_refusal: missing.cloned(),
            elsewhere,
            is_strict: !settings.loose,
            order: Order::new(own),
            topic,
            records: records.prepared_on(elsewhere),
            pool,
        };
        Ok(Producer { poison: Poison::default(), pipeline: Arc::new(pipeline), closed: AtomicBool::new(false) })
    }

    /// Checks the event, waits for room, and has it made into a record and queued. The future tells of its delivery, if it
    /// is wanted; an event that is refused here was not queued.
    pub fn push<R: Record>(&self, event: &NewEvent<R>) -> Result<Option<Arc<Future>>> {
        self.check_ready()?;
        self.pipeline.push(event)
    }

    /// As [`push`](Self::push), for an event that the host makes ready itself: `event` has its data, and no metadata. What
    /// is wrong with it fails the future, on any pool.
    pub fn push_prepared<R: Record>(
        &self,
        event: &NewEvent<R>,
        by: Box<dyn Preparation>,
    ) -> Result<Option<Arc<Future>>> {
        self.check_ready()?;
        self.pipeline.push_prepared(event, by)
    }

    /// Settled when everything pushed before is delivered or has failed.
    pub fn flush(&self) -> Result<Arc<Future>> {
        self.check_open()?;
        Ok(self.pipeline.records.flush())
    }

    /// The largest event that can be pushed: bytes of metadata text and data together.
    pub fn max_event_size(&self) -> Result<u64> {
        self.check_open()?;
        Ok(self.pipeline.records.max_record().saturating_sub(HEADER + LENGTH_PREFIX) as u64)
    }

    /// Takes no more events and waits until those in flight are delivered or have failed. At the deadline they
    /// are still being delivered, in the background.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        let doing = "closing a producer";
        ensure_not_plugin_thread(doing)?;
        self.pipeline.elsewhere.ensure_not_on_pool_thread(doing)?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::from_kind(Kind::Closed));
        }
        let records = &self.pipeline.records;
        records.in_flight().end(Error::from_kind(Kind::Closed));
        records.flush().wait(deadline)
    }

    fn check_ready(&self) -> Result<()> {
        self.check_open()?;
        self.pipeline.records.check_way().map_err(|why| why.context(self.pipeline.pushing()))
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::from_kind(Kind::Closed)) } else { Ok(()) }
    }
}

impl Drop for Producer {
    /// In a forked child the last handle waits for the deliveries, since Python's workers, for example, end by `_exit`:
    /// nothing is delivered after that.
    fn drop(&mut self) {
        let limit = self.pipeline.topic.driver().connection().exit_flush;
        let must_not_wait = is_plugin_thread() || self.pipeline.elsewhere.is_on_this_thread();
        if !fork::is_in_child() || limit.is_zero() || must_not_wait || !Protection::ForkedChildFlush.is_on() {
            return;
        }
        let records = &self.pipeline.records;
        records.in_flight().end(Error::from_kind(Kind::Closed));
        // Whoever wants to know the outcome has closed the producer.
        let _ = records.flush().wait(Deadline::after(limit));
    }
}

/// Where events become records; it is kept until the last of them is put out.
struct PushPipeline {
    topic: Arc<Topic>,
    selection: Selection,
    /// Why metadata can't be pushed as JSON, if it can't.
    json_refusal: Option<Error>,
    pool: Arc<ThreadPool>,
    /// The pool's mark, if its tasks run elsewhere than in `push`.
    elsewhere: Mark,
    is_strict: bool,
    /// With it, the host's selector: whoever puts records out has it, without a lock.
    order: Order<Prepared, Option<Box<dyn Selector>>>,
    records: KafkaProducer,
}

enum Selection {
    Default(DefaultSelector),
    ByHost,
    Nobody(Error),
}

/// An event copied from the host.
struct Unprepared {
    content: Content,
    partition: Option<u64>,
}

enum Content {
    /// The record's bytes, as far as the core makes them; where in them the metadata's text is, if it is one.
    Encoded(EncodedRecord, Option<Range<usize>>),
    /// For a serializer of the host's.
    Raw { serializer: Arc<dyn Serializer>, metadata: String, data: Vec<u8> },
    /// For the host, which has the metadata.
    Own { preparation: Box<dyn Preparation>, data: Vec<u8> },
}

/// What came of preparing an event.
struct Prepared {
    event: Result<Ready>,
    place: Place,
}

/// A record that only needs its partition.
struct Ready {
    record: EncodedRecord,
    metadata: Text,
    partition: Option<u64>,
    /// The host's, which selects the partition.
    preparation: Option<Box<dyn Preparation>>,
}

/// The metadata's text, for the selector.
enum Text {
    Within(Range<usize>),
    Apart(String),
    Unknown,
}

impl PushPipeline {
    fn push<R: Record>(self: &Arc<Self>, event: &NewEvent<R>) -> Result<Option<Arc<Future>>> {
        let size = self.check_size(&event.record)?;
        self.check_metadata(&event.record.metadata())?;
        if self.elsewhere != Mark::NONE {
            return self.push_by_pool(self.copy(event, size)?, size, self.future_for(event));
        }
        if let Metadata::Json(text) = event.record.metadata() {
            self.validate(text, || event.record.data())?;
        }
        if self.is_more_than_copied(&event.record) {
            return self.push_in_order(event, size);
        }
        let partition = self.select_partition(event.partition, "", None)?;
        let future = self.future_for(event);
        let flushes = self.records.flushes();
        let place = self.take_place(size, Some(partition), &future)?;
        self.records.send(partition, &event.record, size, place)?;
        self.records.flush_after(flushes);
        Ok(future)
    }

    fn future_for<R>(&self, event: &NewEvent<R>) -> Option<Arc<Future>> {
        event.wants_future.then(|| self.records.future())
    }

    /// Whether the host serializes this event or selects its partition.
    fn is_more_than_copied(&self, record: &impl Record) -> bool {
        matches!(self.selection, Selection::ByHost)
            || (matches!(self.topic.parts().serializer, Provided::By(_))
                && matches!(record.metadata(), Metadata::Json(_)))
    }

    /// In the caller, with the host's serializer or selector.
    fn push_in_order<R: Record>(self: &Arc<Self>, event: &NewEvent<R>, size: usize) -> Result<Option<Arc<Future>>> {
        self.records.mark_prepared_elsewhere();
        let ready = self.serialize(self.copy(event, size)?)?;
        self.finish_in_caller(Ok(ready), self.future_for(event))
    }

    fn push_prepared<R: Record>(
        self: &Arc<Self>,
        event: &NewEvent<R>,
        preparation: Box<dyn Preparation>,
    ) -> Result<Option<Arc<Future>>> {
        let (data, partition, future) = (event.record.data(), event.partition, self.future_for(event));
        match self.check_size(&event.record) {
            Ok(size) if self.elsewhere != Mark::NONE => {
                let content = Content::Own { preparation, data: data.concat() };
                self.push_by_pool(Unprepared { content, partition }, size, future)
            }
            Ok(_) => {
                self.records.mark_prepared_elsewhere();
                self.finish_in_caller(self.prepare_own(preparation, &data, partition), future)
            }
            Err(too_large) => self.finish_in_caller(Err(too_large), future),
        }
    }

    /// Without a pool, or with nothing that it could do.
    fn finish_in_caller(&self, event: Result<Ready>, future: Option<Arc<Future>>) -> Result<Option<Arc<Future>>> {
        let size = event.as_ref().map_or(0, |ready| ready.record.bytes().len());
        let place = self.take_place(size, None, &future)?;
        self.finish(None, Prepared { event, place });
        Ok(future)
    }

    fn push_by_pool(
        self: &Arc<Self>,
        event: Unprepared,
        size: usize,
        future: Option<Arc<Future>>,
    ) -> Result<Option<Arc<Future>>> {
        let place = self.take_place(size, None, &future)?;
        // The place in line is taken last: who has one must not wait for room.
        let job = Job {
            place,
            turn: self.is_strict.then(|| self.order.take_turn()),
            event: Some(event),
            size,
            pipeline: self.clone(),
        };
        if self.elsewhere.is_on_this_thread() {
            // Left to the pool, it might wait for the very task that it is pushed in.
            job.run();
            return Ok(future);
        }
        if let Err(Refused { why, task }) = self.pool.submit(Box::new(move || job.run()), HIGHEST_PRIORITY) {
            let why = why.context("handing an event to the thread pool").context(self.pushing());
            // Said here, so not to be said again by a flush.
            self.records.in_flight().give_up(vec![(place, None)]);
            drop(task);
            return Err(why);
        }
        Ok(future)
    }

    fn copy<R: Record>(&self, event: &NewEvent<R>, size: usize) -> Result<Unprepared> {
        let content = match (event.record.metadata(), &self.topic.parts().serializer) {
            (Metadata::Json(text), Provided::By(serializer)) => Content::Raw {
                serializer: serializer.clone(),
                metadata: text.to_owned(),
                data: event.record.data().concat(),
            },
            (Metadata::Json(text), _) => {
                let start = HEADER + LENGTH_PREFIX;
                Content::Encoded(self.records.encode(&event.record, size)?, Some(start..start + text.len()))
            }
            (Metadata::Serialized(_), _) => Content::Encoded(self.records.encode(&event.record, size)?, None),
        };
        Ok(Unprepared { content, partition: event.partition })
    }

    /// What the pool does with an event: validates it and makes its record.
    fn prepare(&self, event: Unprepared) -> Result<Ready> {
        match &event.content {
            Content::Encoded(record, Some(text)) => {
                let (bytes, end) = (record.bytes(), text.end);
                self.validate(text_at(bytes, text), || vec![&bytes[end..]])?;
            }
            Content::Encoded(_, None) => {}
            Content::Raw { metadata, data, .. } => self.validate(metadata, || vec![data])?,
            Content::Own { .. } => {} // validated where it is serialized
        }
        self.serialize(event)
    }

    fn prepare_own(
        &self,
        mut preparation: Box<dyn Preparation>,
        data: &[&[u8]],
        partition: Option<u64>,
    ) -> Result<Ready> {
        let metadata = preparation.prepare(data).map_err(|why| why.context(self.pushing()))?;
        let record = self.encode_serialized(&metadata, data)?;
        Ok(Ready { record, metadata: Text::Unknown, partition, preparation: Some(preparation) })
    }

    fn encode_serialized(&self, metadata: &[u8], data: &[&[u8]]) -> Result<EncodedRecord> {
        let record = EventRecord::new(Metadata::Serialized(metadata), data.iter().copied());
        let size = self.check_size(&record)?;
        self.records.encode(&record, size)
    }

    fn validate<'a>(&self, metadata: &str, data: impl FnOnce() -> Vec<&'a [u8]>) -> Result<()> {
        let Provided::By(validator) = &self.topic.parts().validator else { return Ok(()) };
        let data = if validator.wants_data() { data() } else { Vec::new() };
        validator.validate(metadata, &data).map_err(|why| why.context(self.pushing()))
    }

    fn serialize(&self, event: Unprepared) -> Result<Ready> {
        let partition = event.partition;
        match event.content {
            Content::Raw { serializer, metadata, data } => {
                let serialized = serializer.serialize(&metadata).map_err(|why| why.context(self.pushing()))?;
                let record = self.encode_serialized(&serialized, &[&data])?;
                Ok(Ready { record, metadata: Text::Apart(metadata), partition, preparation: None })
            }
            Content::Encoded(record, text) => {
                let metadata = text.map_or(Text::Unknown, Text::Within);
                Ok(Ready { record, metadata, partition, preparation: None })
            }
            Content::Own { preparation, data } => self.prepare_own(preparation, &[&data], partition),
        }
    }

    fn take_place(&self, size: usize, partition: Option<u32>, future: &Option<Arc<Future>>) -> Result<Place> {
        let in_flight = self.records.in_flight();
        let claim = Claim { bytes: size as u64, partition, future: future.clone() };
        if self.elsewhere.is_on_this_thread() {
            return in_flight.take_without_waiting(claim);
        }
        let give_up = |began| self.records.unreached(began).map(|why| why.context(self.pushing()));
        in_flight.take(claim, || Deadline::after(self.topic.driver().timeout()), give_up)
    }

    /// Sends what was prepared now, or in its turn. A selector of the host's gets one event at a time in any case.
    fn finish(&self, turn: Option<Turn>, prepared: Prepared) {
        let by_host = matches!(self.selection, Selection::ByHost)
            || prepared.event.as_ref().is_ok_and(|ready| ready.preparation.is_some());
        let turn = turn.or_else(|| by_host.then(|| self.order.take_turn()));
        match turn {
            Some(turn) => self.order.finish(turn, prepared, |selector, prepared| {
                self.dispatch(prepared, selector.as_mut());
            }),
            None => self.dispatch(prepared, None),
        }
    }

    /// Sends what was prepared; what can't be sent fails its future.
    fn dispatch(&self, prepared: Prepared, selector: Option<&mut Box<dyn Selector>>) {
        let Prepared { event, place } = prepared;
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let Ready { record, metadata, partition, mut preparation } = event?;
            if let Some(partition) = self.select_own(partition, preparation.as_mut())? {
                return self.records.send_encoded(partition, record, place);
            }
            let text = match &metadata {
                Text::Within(range) => text_at(record.bytes(), range),
                Text::Apart(text) => text,
                Text::Unknown => "",
            };
            let partition = self.select_partition(partition, text, selector)?;
            self.records.send_encoded(partition, record, place)
        }));
        let failure = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::new(Kind::Panicked, "a panic while an event was sent; this is a defect of Octopus"),
        };
        self.records.fail(place, failure);
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
            .context(self.pushing())),
        }
    }

    fn check_metadata(&self, metadata: &Metadata) -> Result<()> {
        let Metadata::Json(text) = metadata else { return Ok(()) };
        if let Some(refusal) = &self.json_refusal {
            return Err(refusal.clone().context(self.pushing()));
        }
        json::check(text).map_err(|why| {
            Error::new(Kind::InvalidMetadata, format!("the metadata is not JSON: {why}")).context(self.pushing())
        })
    }

    fn select_own(&self, requested: Option<u64>, by: Option<&mut Box<dyn Preparation>>) -> Result<Option<u32>> {
        let Some(preparation) = by else { return Ok(None) };
        preparation.select(requested, self.topic.partition_count()).map_err(|why| why.context(self.pushing()))
    }

    fn select_partition(
        &self,
        requested: Option<u64>,
        metadata: &str,
        selector: Option<&mut Box<dyn Selector>>,
    ) -> Result<u32> {
        let partitions = self.topic.partition_count();
        match (&self.selection, selector) {
            (Selection::Default(selector), _) => Ok(selector.select(requested, partitions)),
            (Selection::ByHost, Some(selector)) => {
                selector.select(metadata, requested, partitions).map_err(|why| why.context(self.pushing()))
            }
            (Selection::ByHost, None) => Err(Error::new(Kind::Component, "the topic's selector is not at hand")),
            // Its selector is the host's: if that names a partition, it has asked the selector already.
            (Selection::Nobody(nobody_provides_it), _) => match requested {
                Some(partition) if partition < u64::from(partitions) => Ok(partition as u32),
                Some(partition) => {
                    let why = format!("partition {partition} does not exist, there are {partitions}");
                    Err(Error::invalid(why).context(self.pushing()))
                }
                None => Err(nobody_provides_it.clone().context(self.pushing())),
            },
        }
    }

    fn pushing(&self) -> String {
        format!("pushing to topic {:?}", self.topic.name())
    }
}

/// Text that was UTF-8 when it was copied there.
fn text_at<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a str {
    bytes.get(range.clone()).and_then(|text| json::text(text).ok()).unwrap_or_default()
}

/// The work on one event that a pool does. However it ends, its future and its place in line are settled.
struct Job {
    pipeline: Arc<PushPipeline>,
    place: Place,
    turn: Option<Turn>,
    event: Option<Unprepared>,
    /// The room that was taken, in bytes.
    size: usize,
}

impl Job {
    fn run(mut self) {
        let Some(event) = self.event.take() else { return };
        let event = catch_unwind(AssertUnwindSafe(|| self.pipeline.prepare(event))).unwrap_or_else(|_| {
            Err(Error::new(Kind::Panicked, "a panic while an event was prepared; this is a defect of Octopus"))
        });
        if let Ok(ready) = &event
            && ready.record.bytes().len() != self.size
        {
            self.pipeline.records.in_flight().resize(self.place, ready.record.bytes().len() as u64);
        }
        self.pipeline.finish(self.turn.take(), Prepared { event, place: self.place });
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.event.take().is_some() {
            let why = Error::new(Kind::HostCallback, "the thread pool dropped the task that prepares the event");
            let event = Err(why.context(self.pipeline.pushing()));
            self.pipeline.finish(self.turn.take(), Prepared { event, place: self.place });
        }
    }
}
