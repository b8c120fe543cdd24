//! Checks, prepares and sends the events of a producer. Preparing runs in the caller or on the
//! thread pool; in strict order, events are sent in push order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::NewEvent;
use super::stages::{Content, PreparedEvent, PreparedRecord, SelectorMetadata, UnpreparedEvent, copied, text_at};
use crate::client::preparation::Preparation;
use crate::client::topic::Topic;
use crate::components::{DefaultSelector, Provided, Selector};
use crate::config::ValueFormat;
use crate::delivery::future::Future;
use crate::delivery::in_flight::{Permit, PermitRequest};
use crate::delivery::sequencer::{SequenceSlot, Sequencer};
use crate::json;
use crate::kafka::{EncodedRecord, KafkaProducer, Target};
use crate::record::{Attributes, EventRecord, HEADER, LENGTH_PREFIX, Metadata, Record, ValueRecord};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::thread_pool::{PoolId, ThreadPool};

/// The parts of a producer that preparing and sending need. Tasks of the pool keep it alive until
/// the last event is dispatched.
pub struct PushPipeline {
    pub topic: Arc<Topic>,
    pub selection: Selection,
    /// The error of each push of JSON metadata, if a component is missing.
    pub json_error: Option<Error>,
    pub pool: Arc<ThreadPool>,
    /// The pool's id if the pool has threads; else tasks run in `push`, and this is `NONE`.
    pub pool_id: PoolId,
    pub is_strict: bool,
    /// Of records without the format of Octopus.
    pub format: Option<ValueFormat>,
    /// Whether an event's key requests a partition, as with Java's client.
    pub key_selects: bool,
    /// It owns the host's selector, so that the dispatching thread uses the selector without a
    /// lock.
    pub sequencer: Sequencer<PreparedEvent, Option<Box<dyn Selector>>>,
    pub records: KafkaProducer,
}

pub enum Selection {
    Default(DefaultSelector),
    /// The host's selector, or the host's preparation of each event.
    Host,
    /// The selector is missing: only pushes that name a partition succeed.
    Unavailable(Error),
}

impl PushPipeline {
    pub fn push<R: Record>(self: &Arc<Self>, event: &NewEvent<R>) -> Result<Option<Arc<Future>>> {
        let size = self.check_size(&event.record)?;
        let requested = self.check_attributes(event, size)?;
        self.check_metadata(&event.record.metadata())?;
        if self.pool_id != PoolId::NONE {
            let event_copy = self.copy(event, requested, size)?;
            return self.push_on_pool(event_copy, size, self.future_for(event), event.deadline);
        }
        if let Metadata::Json(text) = event.record.metadata() {
            self.validate(text, || event.record.data())?;
        }
        if self.needs_host_component(&event.record) {
            return self.push_with_host_component(event, requested, size);
        }
        let partition = self.select_partition(requested, "", None)?;
        let future = self.future_for(event);
        let flushes = self.records.flushes();
        let permit = self.acquire_permit(size, Some(partition), &future, event.deadline)?;
        self.records.send(Target { partition, attributes: event.attributes }, &event.record, size, permit)?;
        self.records.flush_after(flushes);
        Ok(future)
    }

    /// As [`push`](Self::push), as a record without the format of Octopus.
    #[cold]
    pub fn push_in_format<R: Record>(
        self: &Arc<Self>,
        event: &NewEvent<R>,
        format: ValueFormat,
    ) -> Result<Option<Arc<Future>>> {
        let NewEvent { record, partition, attributes, wants_future, deadline } = event;
        let record = self.in_format(record, format)?;
        let (partition, attributes, wants_future, deadline) = (*partition, *attributes, *wants_future, *deadline);
        self.push(&NewEvent { record, partition, attributes, wants_future, deadline })
    }

    fn future_for<R>(&self, event: &NewEvent<R>) -> Option<Arc<Future>> {
        event.wants_future.then(|| self.records.future())
    }

    /// Whether the host serializes this event or selects its partition.
    fn needs_host_component(&self, record: &impl Record) -> bool {
        matches!(self.selection, Selection::Host)
            || (matches!(self.topic.parts().serializer, Provided::Custom(_))
                && record.text_start().is_none()
                && matches!(record.metadata(), Metadata::Json(_)))
    }

    /// Prepares and sends the event in the caller, with the host's serializer or selector.
    fn push_with_host_component<R: Record>(
        self: &Arc<Self>,
        event: &NewEvent<R>,
        requested: Option<u64>,
        size: usize,
    ) -> Result<Option<Arc<Future>>> {
        self.records.mark_prepared_elsewhere();
        let record = self.serialize(self.copy(event, requested, size)?)?;
        self.finish_in_caller(Ok(record), self.future_for(event), event.deadline)
    }

    pub fn push_prepared<R: Record>(
        self: &Arc<Self>,
        event: &NewEvent<R>,
        preparation: Box<dyn Preparation>,
    ) -> Result<Option<Arc<Future>>> {
        let checked = self.check_prepared(event);
        let (data, attributes, future) = (event.record.data(), copied(event.attributes), self.future_for(event));
        match checked {
            Ok((size, partition)) if self.pool_id != PoolId::NONE => {
                let content = Content::HostPrepared { preparation, data: (!data.is_empty()).then(|| data.concat()) };
                self.push_on_pool(UnpreparedEvent { content, partition, attributes }, size, future, event.deadline)
            }
            Ok((_, partition)) => {
                self.records.mark_prepared_elsewhere();
                let record = self.run_preparation(preparation, &data, partition, attributes);
                self.finish_in_caller(record, future, event.deadline)
            }
            Err(too_large) => self.finish_in_caller(Err(too_large), future, event.deadline),
        }
    }

    /// Sends an event that was prepared in the caller, or fails its future.
    fn finish_in_caller(
        &self,
        record: Result<PreparedRecord>,
        future: Option<Arc<Future>>,
        deadline: Option<Deadline>,
    ) -> Result<Option<Arc<Future>>> {
        let size = record.as_ref().map_or(0, |prepared| prepared.record.bytes().len());
        let permit = self.acquire_permit(size, None, &future, deadline)?;
        self.finish(None, PreparedEvent { record, permit });
        Ok(future)
    }

    fn copy<R: Record>(&self, event: &NewEvent<R>, partition: Option<u64>, size: usize) -> Result<UnpreparedEvent> {
        let text_start = event.record.text_start();
        let content = match (event.record.metadata(), &self.topic.parts().serializer) {
            (Metadata::Json(text), Provided::Custom(serializer)) if text_start.is_none() => Content::Raw {
                serializer: serializer.clone(),
                metadata: text.to_owned(),
                data: event.record.data().concat(),
            },
            (Metadata::Json(text), _) => {
                let start = text_start.unwrap_or(HEADER + LENGTH_PREFIX);
                Content::Encoded(self.records.encode(&event.record, size)?, Some(start..start + text.len()))
            }
            (Metadata::Serialized(_), _) => Content::Encoded(self.records.encode(&event.record, size)?, None),
        };
        Ok(UnpreparedEvent { content, partition, attributes: copied(event.attributes) })
    }

    /// Validates the event and makes its record, on the pool.
    pub fn prepare(&self, event: UnpreparedEvent) -> Result<PreparedRecord> {
        match &event.content {
            Content::Encoded(record, Some(text)) => {
                let (bytes, end) = (record.bytes(), text.end);
                self.validate(text_at(bytes, text), || vec![&bytes[end..]])?;
            }
            Content::Encoded(_, None) => {}
            Content::Raw { metadata, data, .. } => self.validate(metadata, || vec![data])?,
            Content::HostPrepared { .. } => {} // the host validates it when it serializes it
        }
        self.serialize(event)
    }

    fn run_preparation(
        &self,
        mut preparation: Box<dyn Preparation>,
        data: &[&[u8]],
        partition: Option<u64>,
        attributes: Option<Box<Attributes>>,
    ) -> Result<PreparedRecord> {
        let metadata = preparation.prepare(data).map_err(|error| error.context(self.pushing()))?;
        let record = self.encode_serialized(&metadata, data, &attributes)?;
        let (metadata, preparation) = (SelectorMetadata::Unknown, Some(preparation));
        Ok(PreparedRecord { record, metadata, partition, attributes, preparation })
    }

    fn encode_serialized(
        &self,
        metadata: &[u8],
        data: &[&[u8]],
        attributes: &Option<Box<Attributes>>,
    ) -> Result<EncodedRecord> {
        let record = EventRecord::new(Metadata::Serialized(metadata), data.iter().copied());
        let encoded = match self.format {
            None => self.encode(&record),
            Some(format) => self.encode(&self.in_format(&record, format)?),
        }?;
        if let Some(attributes) = attributes {
            self.check_size_with(encoded.bytes().len(), attributes)?;
        }
        Ok(encoded)
    }

    fn encode(&self, record: &impl Record) -> Result<EncodedRecord> {
        let size = self.check_size(record)?;
        self.records.encode(record, size)
    }

    /// The event as a record without the format of Octopus.
    fn in_format<'a, R: Record>(&self, record: &'a R, format: ValueFormat) -> Result<ValueRecord<'a, R>> {
        ValueRecord::new(record, format).map_err(|error| error.context(self.pushing()))
    }

    fn validate<'a>(&self, metadata: &str, data: impl FnOnce() -> Vec<&'a [u8]>) -> Result<()> {
        let Provided::Custom(validator) = &self.topic.parts().validator else { return Ok(()) };
        let data = if validator.wants_data() { data() } else { Vec::new() };
        validator.validate(metadata, &data).map_err(|error| error.context(self.pushing()))
    }

    fn serialize(&self, event: UnpreparedEvent) -> Result<PreparedRecord> {
        let UnpreparedEvent { content, partition, attributes } = event;
        match content {
            Content::Raw { serializer, metadata, data } => {
                let serialized = serializer.serialize(&metadata).map_err(|error| error.context(self.pushing()))?;
                let record = self.encode_serialized(&serialized, &[&data], &attributes)?;
                let metadata = SelectorMetadata::Owned(metadata);
                Ok(PreparedRecord { record, metadata, partition, attributes, preparation: None })
            }
            Content::Encoded(record, text) => {
                let metadata = text.map_or(SelectorMetadata::Unknown, SelectorMetadata::Within);
                Ok(PreparedRecord { record, metadata, partition, attributes, preparation: None })
            }
            Content::HostPrepared { preparation, data } => {
                let data: Vec<_> = data.as_deref().into_iter().collect();
                self.run_preparation(preparation, &data, partition, attributes)
            }
        }
    }

    pub fn acquire_permit(
        &self,
        size: usize,
        partition: Option<u32>,
        future: &Option<Arc<Future>>,
        deadline: Option<Deadline>,
    ) -> Result<Permit> {
        let in_flight = self.records.in_flight();
        let request = PermitRequest { bytes: size as u64, partition, future: future.clone() };
        if self.pool_id.is_on_this_thread() {
            return in_flight.try_acquire(request);
        }
        let fail_fast = |began| {
            // Nothing has left for a while: the events may only linger.
            self.records.end_linger();
            self.records.unreached(began).map(|error| error.context(self.pushing()))
        };
        match deadline {
            Some(deadline) => in_flight.acquire_until(deadline, request, fail_fast),
            None => in_flight.acquire(request, || Deadline::after(self.topic.context().timeout), fail_fast),
        }
    }

    /// Dispatches a prepared event, in its slot if it has one. The host's selector and preparations
    /// always need a slot, since they select the partition of one event at a time.
    pub fn finish(&self, slot: Option<SequenceSlot>, prepared: PreparedEvent) {
        let host_selects = matches!(self.selection, Selection::Host)
            || prepared.record.as_ref().is_ok_and(|prepared| prepared.preparation.is_some());
        let slot = slot.or_else(|| host_selects.then(|| self.sequencer.reserve()));
        match slot {
            Some(slot) => self.sequencer.complete(slot, prepared, |selector, prepared| {
                self.dispatch(prepared, selector.as_mut());
            }),
            None => self.dispatch(prepared, None),
        }
    }

    /// Sends a prepared event. If that fails, the event's future fails.
    fn dispatch(&self, prepared: PreparedEvent, selector: Option<&mut Box<dyn Selector>>) {
        let PreparedEvent { record, permit } = prepared;
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let PreparedRecord { record, metadata, partition, attributes, mut preparation } = record?;
            let attributes = attributes.as_deref();
            if let Some(partition) = self.select_by_preparation(partition, preparation.as_mut())? {
                return self.records.send_encoded(Target { partition, attributes }, record, permit);
            }
            let text = match &metadata {
                SelectorMetadata::Within(range) => text_at(record.bytes(), range),
                SelectorMetadata::Owned(text) => text,
                SelectorMetadata::Unknown => "",
            };
            let partition = self.select_partition(partition, text, selector)?;
            self.records.send_encoded(Target { partition, attributes }, record, permit)
        }));
        let failure = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::new(Kind::Panicked, "sending an event: a panic inside Octopus; report this as a bug"),
        };
        self.records.fail(permit, failure);
    }

    fn too_large(&self, reason: String) -> Error {
        Error::new(Kind::TooLarge, reason).context(self.pushing())
    }

    fn check_size(&self, record: &impl Record) -> Result<usize> {
        let max = self.records.max_record();
        match record.size() {
            Some(size) if size <= max => Ok(size),
            Some(size) => Err(self.too_large(format!(
                "the event's record has {size} bytes, above the limit of {max} that kafka.message.max.bytes sets; set \
                 it to at least {}, and the Kafka topic's max.message.bytes to somewhat more",
                KafkaProducer::required_limit(size)
            ))),
            None => Err(self.too_large("the event's record has more bytes than any Kafka accepts".to_owned())),
        }
    }

    /// The checks of [`push`](Self::push), for an event whose metadata the host prepares later.
    fn check_prepared<R: Record>(&self, event: &NewEvent<R>) -> Result<(usize, Option<u64>)> {
        let size = match self.format {
            None => self.check_size(&event.record)?,
            // Without the header of Octopus.
            Some(_) => self.check_size(&self.in_format(&event.record, ValueFormat::Bytes)?)?,
        };
        Ok((size, self.check_attributes(event, size)?))
    }

    /// Checks the size of the attributes, and returns the partition that the host or the key
    /// requests. `record` is the size of the record's value.
    #[inline]
    fn check_attributes<R>(&self, event: &NewEvent<R>, record: usize) -> Result<Option<u64>> {
        let Some(attributes) = event.attributes else { return Ok(event.partition) };
        self.check_size_with(record, attributes)?;
        Ok(event.partition.or_else(|| self.partition_of(attributes)))
    }

    /// The partition that the key requests, with the option `partitioner`.
    #[cold]
    fn partition_of(&self, attributes: &Attributes) -> Option<u64> {
        let is_missing = matches!(self.selection, Selection::Unavailable(_));
        let key = attributes.key.as_deref().filter(|_| self.key_selects && !is_missing)?;
        Some(self.records.partition_of_key(key, self.topic.partition_count()).into())
    }

    #[cold]
    fn check_size_with(&self, record: usize, attributes: &Attributes) -> Result<()> {
        let (size, max) = (attributes.size(), self.records.max_record());
        match record.checked_add(size) {
            Some(whole) if whole <= max => Ok(()),
            whole => Err(self.too_large(format!(
                "the event's record has {record} bytes, and its key and headers {size}, above the limit of {max} that \
                 kafka.message.max.bytes sets; set it to at least {}, and the Kafka topic's max.message.bytes to \
                 somewhat more",
                KafkaProducer::required_limit(whole.unwrap_or(usize::MAX))
            ))),
        }
    }

    // A call costs as much as the function does.
    #[inline(always)]
    fn check_metadata(&self, metadata: &Metadata) -> Result<()> {
        let Metadata::Json(text) = metadata else { return Ok(()) };
        if let Some(error) = &self.json_error {
            return Err(error.clone().context(self.pushing()));
        }
        json::check(text).map_err(|reason| {
            Error::new(Kind::InvalidMetadata, format!("the metadata is not JSON: {reason}")).context(self.pushing())
        })
    }

    fn select_by_preparation(
        &self,
        requested: Option<u64>,
        preparation: Option<&mut Box<dyn Preparation>>,
    ) -> Result<Option<u32>> {
        let Some(preparation) = preparation else { return Ok(None) };
        preparation.select(requested, self.topic.partition_count()).map_err(|error| error.context(self.pushing()))
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
            (Selection::Host, Some(selector)) => {
                selector.select(metadata, requested, partitions).map_err(|error| error.context(self.pushing()))
            }
            (Selection::Host, None) => Err(Error::new(Kind::Component, "the topic's selector is in use")),
            // The host has the selector itself: a partition that it names comes from that selector.
            (Selection::Unavailable(missing_selector), _) => match requested {
                Some(partition) if partition < u64::from(partitions) => Ok(partition as u32),
                Some(partition) => {
                    let reason = format!("partition {partition} does not exist, there are {partitions}");
                    Err(Error::invalid(reason).context(self.pushing()))
                }
                None => Err(missing_selector.clone().context(self.pushing())),
            },
        }
    }

    pub fn pushing(&self) -> String {
        format!("pushing to topic {:?}", self.topic.name())
    }
}
