//! A producer and the events that it pushes.

use std::borrow::Cow;
use std::ptr::{null, null_mut};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::abi::*;
use crate::error::{Error, Result, Status};
use crate::future::{Flush, Push};
use crate::handle::Handle;
use crate::options::{Options, client_options};
use crate::preparation::{self, Preparation};
use crate::raw::{EMPTY_BYTES, bytes, call, millis, optional_text, text};
use crate::thread_pool::ThreadPool;

/// Pushes events into one topic. Producers of a driver with the same properties share a Kafka
/// client.
///
/// If it is dropped without [`close`](Self::close), its events are delivered in the background. At
/// process exit the library waits for them, at most for the driver's `exit_flush_ms`.
///
/// ```no_run
/// use std::time::Duration;
///
/// use octopus_loader::{NewEvent, Result, Topic};
/// use serde_json::json;
///
/// fn push_all(topic: &Topic, values: &[f64]) -> Result<()> {
///     let producer = topic.producer("sensor").kafka("compression.type", "zstd").make()?;
///     for value in values {
///         producer.push_forget(&NewEvent::json(&json!({"celsius": value})))?;
///     }
///     producer.close(Duration::from_secs(30)) // reports failed deliveries
/// }
/// ```
#[derive(Debug)]
pub struct Producer {
    pub(crate) handle: Handle<octopus_producer>,
}

impl Producer {
    /// Queues an event, whose bytes are copied, and returns at once. It waits only at the in-flight
    /// limit, at most for the driver's `timeout_ms`. An event that is rejected here is not queued.
    ///
    /// [`Status::InvalidMetadata`], [`Status::TooLarge`], [`Status::Component`],
    /// [`Status::Unreachable`], [`Status::WouldBlock`] (on a thread of the library),
    /// [`Status::Kafka`], [`Status::Closed`].
    pub fn push(&self, event: &NewEvent<'_>) -> Result<Push> {
        // SAFETY: `future` is writable. On success the library writes a new handle to it, which is
        // ours.
        let push = |future| unsafe { self.push_to(event, future) };
        Handle::from_call(self.handle.tables(), push).map(Push::new)
    }

    /// As [`push`](Self::push) for several events, in order. Returns the pushes of the events that
    /// were queued and, if it stopped before the last one, the reason.
    pub fn push_many(&self, events: &[NewEvent<'_>]) -> (Vec<Push>, Result<()>) {
        let parts: Vec<_> = (events.iter())
            .map(|event| (event.pieces(), event.attributes.as_deref().map(RawAttributes::new)))
            .collect();
        let mut serialized = Ok(());
        let args: Vec<_> = (events.iter().zip(&parts))
            .map_while(|(event, (pieces, attributes))| {
                event.args(pieces, attributes).map_err(|why| serialized = Err(why)).ok()
            })
            .collect();
        let (mut futures, mut pushed) = (vec![null_mut(); args.len()], 0);
        // SAFETY: the handle is live (owned). `args` and `futures` have `args.len()` elements, and
        // outlive the call with the bytes of the events.
        let queued = unsafe {
            call!(self.handle, producer.push_many(args.as_ptr(), args.len() as u64, futures.as_mut_ptr(), &mut pushed))
        };
        futures.truncate(pushed as usize);
        // SAFETY: include/octopus.h promises `pushed` futures, which are ours, even if the call
        // fails.
        match unsafe { Handle::all_from_raw(self.handle.tables(), futures) } {
            Ok(pushes) => (pushes.into_iter().map(Push::new).collect(), queued.and(serialized)),
            Err(broken) => (Vec::new(), Err(broken)),
        }
    }

    /// As [`push`](Self::push), for an event without metadata that `by` prepares. If `by` rejects
    /// it, the returned push fails with [`Status::CallbackFailed`].
    pub fn push_prepared(&self, event: &NewEvent<'_>, by: impl Preparation) -> Result<Push> {
        event.with_args(|args| {
            let preparation = preparation::into_functions(Box::new(by));
            let args = octopus_push_args { preparation: &preparation, ..*args };
            // SAFETY: the handle is live (owned). Structs and bytes outlive the call, which takes
            // ownership of the preparation. On success the library writes a new handle to `future`,
            // which is ours.
            let push = |future| unsafe { call!(self.handle, producer.push(&args, future)) };
            Handle::from_call(self.handle.tables(), push).map(Push::new)
        })?
    }

    /// As [`push`](Self::push), without a result of the delivery. [`flush`](Self::flush) and
    /// [`close`](Self::close) report failures of such events, too.
    pub fn push_forget(&self, event: &NewEvent<'_>) -> Result<()> {
        // SAFETY: `future` may be NULL.
        unsafe { self.push_to(event, null_mut()) }
    }

    /// Sends all queued events now, without waiting for `linger.ms`. The result is there when
    /// everything that was pushed before is delivered or has failed. [`Status::Closed`].
    pub fn flush(&self) -> Result<Flush> {
        // SAFETY: the handle is live (owned). On success the library writes a new handle to
        // `future`, which is ours.
        let flush = |future| unsafe { call!(self.handle, producer.flush(future)) };
        Handle::from_call(self.handle.tables(), flush).map(Flush::new)
    }

    /// The size of the largest event that can be pushed: bytes of metadata and data together.
    /// [`Status::Closed`].
    pub fn max_event_size(&self) -> Result<u64> {
        let mut size = 0;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, producer.max_event_size(&mut size)) }?;
        Ok(size)
    }

    /// Rejects further events and waits until those in flight are delivered or have failed, at most
    /// `timeout`. The error is that of a [`Flush`]. After [`Status::TimedOut`] the delivery
    /// continues in the background. [`Status::Closed`] if it was closed before,
    /// [`Status::WouldDeadlock`] on a thread of the library.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, producer.close(millis(timeout))) }
    }

    /// Pushes an event, and on success writes a handle that the caller owns to `future`.
    ///
    /// # Safety
    /// `future` is NULL or writable.
    unsafe fn push_to(&self, event: &NewEvent<'_>, future: *mut *mut octopus_future) -> Result<()> {
        // SAFETY: the handle is live (owned). `args` and its bytes outlive the call, and `future`
        // is NULL or writable (fn contract).
        event.with_args(|args| unsafe { call!(self.handle, producer.push(args, future)) })?
    }
}

/// An event to push. It borrows its bytes and can be pushed several times. The default has the
/// metadata `{}`, no data, and leaves the partition to the topic's selector.
///
/// ```
/// use octopus_loader::NewEvent;
/// use serde_json::json;
///
/// let header = [1, 2, 3];
/// let frame = vec![0; 4_096];
/// let event = NewEvent::json(&json!({"frame": 17})).data(&frame).partition(2);
/// let in_pieces: [&[u8]; 2] = [&header, &frame];
/// let event_of_two_segments = NewEvent::text(r#"{"frame": 18}"#).segments(&in_pieces);
/// # let _ = (event, event_of_two_segments);
/// ```
#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    metadata: Metadata<'a>,
    data: Data<'a>,
    partition: Option<u64>,
    timeout: Option<Duration>,
    attributes: Option<Box<Attributes<'a>>>,
}

/// What the record has beside its value.
#[derive(Debug, Clone, Default)]
struct Attributes<'a> {
    key: Option<&'a [u8]>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
    timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone)]
enum Metadata<'a> {
    Absent,
    Json(Cow<'a, [u8]>),
    Serialized(&'a [u8]),
    /// Could not be serialized as JSON; pushing it returns this error.
    Invalid(Error),
}

#[derive(Debug, Clone, Copy)]
enum Data<'a> {
    Whole(&'a [u8]),
    Pieces(&'a [&'a [u8]]),
}

impl Default for NewEvent<'_> {
    fn default() -> Self {
        NewEvent::new(Metadata::Absent)
    }
}

impl<'a> NewEvent<'a> {
    /// An event with this metadata. If it can't be serialized as JSON, pushing the event fails with
    /// [`Status::InvalidMetadata`].
    pub fn json(metadata: &(impl Serialize + ?Sized)) -> Self {
        NewEvent::new(match serde_json::to_vec(metadata) {
            Ok(json) => Metadata::Json(json.into()),
            Err(why) => Metadata::Invalid(Error::new(
                Status::InvalidMetadata,
                format!("the metadata can't be written as JSON: {why}"),
            )),
        })
    }

    /// An event with this JSON text as its metadata.
    pub fn text(metadata: &'a str) -> Self {
        NewEvent::metadata_bytes(metadata.as_bytes())
    }

    /// An event with these bytes, JSON in UTF-8, as its metadata.
    pub fn metadata_bytes(metadata: &'a [u8]) -> Self {
        NewEvent::new(Metadata::Json(metadata.into()))
    }

    /// An event whose metadata is serialized already; the bytes become part of the record
    /// unchanged.
    pub fn serialized(metadata: &'a [u8]) -> Self {
        NewEvent::new(Metadata::Serialized(metadata))
    }

    fn new(metadata: Metadata<'a>) -> Self {
        NewEvent { metadata, data: Data::Pieces(&[]), partition: None, timeout: None, attributes: None }
    }

    /// The data. With the producer's option `"records": "bytes"`, an event without data is a record
    /// without a value (a tombstone), and one with empty data has an empty value.
    pub fn data(mut self, data: &'a [u8]) -> Self {
        self.data = Data::Whole(data);
        self
    }

    /// The data in several pieces, which are concatenated in order.
    pub fn segments(mut self, segments: &'a [&'a [u8]]) -> Self {
        self.data = Data::Pieces(segments);
        self
    }

    /// Requests a partition; the topic's selector decides.
    pub fn partition(mut self, partition: u64) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Limits how long the push waits while the in-flight limit is reached, instead of the driver's
    /// `timeout_ms`. Zero does not wait. At the end it fails with [`Status::TimedOut`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The record's key. With the producer's option `"partitioner": "key"` it requests a partition.
    pub fn key(mut self, key: &'a [u8]) -> Self {
        self.attributes_mut().key = Some(key);
        self
    }

    /// Adds a header to the record. Several may have the same name, which must not be empty.
    pub fn header(mut self, name: &'a str, value: &'a [u8]) -> Self {
        self.attributes_mut().headers.push((name, Some(value)));
        self
    }

    /// As [`header`](Self::header), for a header that has no value.
    pub fn header_without_value(mut self, name: &'a str) -> Self {
        self.attributes_mut().headers.push((name, None));
        self
    }

    /// The record's timestamp, in milliseconds since 1970, instead of the time of the push.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.attributes_mut().timestamp_ms = Some(timestamp_ms);
        self
    }

    fn attributes_mut(&mut self) -> &mut Attributes<'a> {
        self.attributes.get_or_insert_default()
    }

    /// Calls `call` with the event as the ABI takes it. The bytes are valid during `call`. Inlined,
    /// since the benchmarks of `push` include it.
    #[inline]
    fn with_args<T>(&self, call: impl FnOnce(&octopus_push_args) -> T) -> Result<T> {
        let attributes = self.attributes.as_deref().map(RawAttributes::new);
        match self.data {
            Data::Whole(data) => Ok(call(&self.args(&[bytes(data)], &attributes)?)),
            Data::Pieces(_) => Ok(call(&self.args(&self.pieces(), &attributes)?)),
        }
    }

    /// The data as the ABI takes it.
    fn pieces(&self) -> Vec<octopus_bytes> {
        match self.data {
            Data::Whole(data) => vec![bytes(data)],
            Data::Pieces(segments) => segments.iter().map(|segment| bytes(segment)).collect(),
        }
    }

    /// The event as the ABI takes it. It points into `self`, `segments` and `attributes`.
    #[inline]
    fn args(&self, segments: &[octopus_bytes], attributes: &Option<RawAttributes>) -> Result<octopus_push_args> {
        let (metadata, is_serialized) = match &self.metadata {
            Metadata::Absent => (EMPTY_BYTES, false),
            Metadata::Json(json) => (bytes(json), false),
            Metadata::Serialized(serialized) => (bytes(serialized), true),
            Metadata::Invalid(error) => return Err(error.clone()),
        };
        Ok(octopus_push_args {
            size: size_of::<octopus_push_args>() as u64,
            metadata,
            segments: segments.as_ptr(),
            segment_count: segments.len() as u64,
            partition: self.partition.unwrap_or(0),
            has_partition: self.partition.is_some().into(),
            metadata_is_serialized: is_serialized.into(),
            preparation: null(),
            timeout_ms: self.timeout.map_or(0, millis),
            has_timeout: self.timeout.is_some().into(),
            reserved: 0,
            attributes: attributes.as_ref().map_or(null(), |attributes| &raw const attributes.raw),
        })
    }
}

/// Attributes as the ABI takes them. `raw` points into `_headers`, and to the bytes of the event.
struct RawAttributes {
    raw: octopus_push_attributes,
    _headers: Vec<octopus_header>,
}

impl RawAttributes {
    fn new(attributes: &Attributes<'_>) -> Self {
        let headers: Vec<_> = (attributes.headers.iter())
            .map(|(name, value)| octopus_header { name: text(name), value: value.map_or(EMPTY_BYTES, bytes) })
            .collect();
        let raw = octopus_push_attributes {
            size: size_of::<octopus_push_attributes>() as u64,
            key: attributes.key.map_or(EMPTY_BYTES, bytes),
            headers: headers.as_ptr(),
            header_count: headers.len() as u64,
            timestamp_ms: attributes.timestamp_ms.unwrap_or(0),
            has_timestamp: attributes.timestamp_ms.is_some().into(),
            reserved: 0,
        };
        RawAttributes { raw, _headers: headers }
    }
}

/// Collects the options of a producer.
#[must_use = "no producer is made before `make`"]
pub struct ProducerBuilder<'a> {
    topic: &'a Handle<octopus_topic>,
    name: String,
    options: Options,
    batch_size: u64,
    max_batches: u64,
    ordering: i32,
    pool: Option<&'a ThreadPool>,
}

impl<'a> ProducerBuilder<'a> {
    pub(crate) fn new(topic: &'a Handle<octopus_topic>, name: &str) -> Self {
        ProducerBuilder {
            topic,
            name: name.to_owned(),
            options: Options::default(),
            batch_size: 0,
            max_batches: 0,
            ordering: OCTOPUS_ORDERING_STRICT,
            pool: None,
        }
    }

    client_options!();

    /// Allows the pool to reorder events.
    pub fn loose(mut self) -> Self {
        self.ordering = OCTOPUS_ORDERING_LOOSE;
        self
    }

    /// Validates and serializes events on this pool; by default in the calls to push.
    pub fn pool(mut self, pool: &'a ThreadPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Makes the producer. [`Status::InvalidConfiguration`], [`Status::Unsupported`].
    pub fn make(self) -> Result<Producer> {
        let options = self.options.json();
        let args = octopus_producer_args {
            size: size_of::<octopus_producer_args>() as u64,
            name: text(&self.name),
            options: optional_text(options.as_deref()),
            batch_size: self.batch_size,
            max_batches: self.max_batches,
            ordering: self.ordering,
            reserved: 0,
            thread_pool: self.pool.map_or(null(), |pool| pool.handle.as_ptr()),
        };
        // SAFETY: the topic is live (borrowed). Struct and texts outlive the call. On success the
        // library writes a new handle to `producer`, which is ours.
        let make = |producer| unsafe { call!(self.topic, topic.make_producer(&args, producer)) };
        Ok(Producer { handle: Handle::from_call(self.topic.tables(), make)? })
    }
}
