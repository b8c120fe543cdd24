//! A producer, and the events that it pushes.

use std::borrow::Cow;
use std::ptr::{null, null_mut};
use std::time::Duration;

use octopus::abi::*;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result, Status};
use crate::future::{Flush, Push};
use crate::options::Options;
use crate::preparation::{self, Preparation};
use crate::raw::{Handle, bytes, call, millis, optional_text, text};
use crate::thread_pool::ThreadPool;

/// Pushes events into one topic, through a Kafka client of its own. Dropped without [`close`](Self::close) it still
/// delivers what it holds, in the background; what is left when the process ends is lost.
#[derive(Debug)]
pub struct Producer {
    handle: Handle<octopus_producer>,
}

impl Producer {
    /// Queues an event, whose bytes are copied, and returns at once; waits only while no room is left, at most the
    /// driver's `timeout_ms`. An event that is refused here was not queued.
    ///
    /// [`Status::InvalidMetadata`], [`Status::TooLarge`], [`Status::Component`], [`Status::Unreachable`],
    /// [`Status::WouldBlock`] (on a thread of the plugin), [`Status::Kafka`], [`Status::Closed`].
    pub fn push(&self, event: &NewEvent<'_>) -> Result<Push> {
        // SAFETY: a push that succeeds has given us the future.
        let made = unsafe { Handle::made(self.handle.tables(), |future| self.push_to(event, Some(future))) };
        made.map(Push::new)
    }

    /// As [`push`](Self::push) for each of these, in order, in one call. Gives the pushes that were queued, and, when it
    /// stopped before the end, why.
    pub fn push_many(&self, events: &[NewEvent<'_>]) -> (Vec<Push>, Result<()>) {
        let pieces: Vec<_> = events.iter().map(NewEvent::pieces).collect();
        let mut written = Ok(());
        let args: Vec<_> = (events.iter().zip(&pieces))
            .map_while(|(event, pieces)| event.args(pieces).map_err(|why| written = Err(why)).ok())
            .collect();
        let (mut made, mut pushed) = (vec![null_mut(); args.len()], 0);
        // SAFETY: a live handle; arrays of so many, bytes and output outlive the call.
        let queued = unsafe {
            call!(self.handle, producer.push_many(args.as_ptr(), args.len() as u64, made.as_mut_ptr(), &mut pushed))
        };
        made.truncate(pushed as usize);
        // SAFETY: so many futures were given to us, also if the call failed.
        match unsafe { Handle::all_owned(self.handle.tables(), made) } {
            Ok(pushes) => (pushes.into_iter().map(Push::new).collect(), queued.and(written)),
            Err(broken) => (Vec::new(), Err(broken)),
        }
    }

    /// As [`push`](Self::push), for an event without metadata that `by` makes ready. What it refuses fails the push that is
    /// given, with [`Status::CallbackFailed`].
    pub fn push_prepared(&self, event: &NewEvent<'_>, by: impl Preparation) -> Result<Push> {
        event.lend(|args| {
            let preparation = preparation::as_functions(Box::new(by));
            let args = octopus_push_args { preparation: &preparation, ..*args };
            // SAFETY: a live handle; structs and bytes outlive the call, which gives us the future.
            let made = unsafe {
                Handle::made(self.handle.tables(), |future| call!(self.handle, producer.push(&args, future)))
            };
            made.map(Push::new)
        })?
    }

    /// As [`push`](Self::push), for those who don't want to hear of the delivery. A flush counts the event.
    pub fn push_forget(&self, event: &NewEvent<'_>) -> Result<()> {
        self.push_to(event, None)
    }

    /// Sends what lingers, now, waited on or not.
    ///
    /// What it gives ends when everything pushed before is delivered or has failed: with success, or with an error
    /// that counts the failures since the flush before and tells the first. [`Status::Closed`].
    pub fn flush(&self) -> Result<Flush> {
        // SAFETY: a live handle; the call gives us the future.
        let made = unsafe { Handle::made(self.handle.tables(), |future| call!(self.handle, producer.flush(future))) };
        made.map(Flush::new)
    }

    /// The largest event that push takes: bytes of metadata and data together. [`Status::Closed`].
    pub fn max_event_size(&self) -> Result<u64> {
        let mut size = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, producer.max_event_size(&mut size)) }?;
        Ok(size)
    }

    /// Takes no more events, and waits until those in flight are delivered or have failed; the error is a flush's.
    /// After [`Status::TimedOut`] they are still being delivered, in the background. [`Status::Closed`] when it was
    /// closed before, [`Status::WouldDeadlock`] on a thread of the plugin.
    pub fn close(&self, at_most: Duration) -> Result<()> {
        // SAFETY: a live handle.
        unsafe { call!(self.handle, producer.close(millis(at_most))) }
    }

    fn push_to(&self, event: &NewEvent<'_>, future: Option<&mut *mut octopus_future>) -> Result<()> {
        let future = future.map_or(null_mut(), |place| place);
        // SAFETY: a live handle; struct, bytes and output outlive the call.
        event.lend(|args| unsafe { call!(self.handle, producer.push(args, future)) })?
    }
}

/// An event to be pushed, which borrows its bytes and can be pushed again. The default has the metadata `{}`, no
/// data, and leaves its partition to the topic's selector.
#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    metadata: Metadata<'a>,
    data: Data<'a>,
    partition: Option<u64>,
}

#[derive(Debug, Clone)]
enum Metadata<'a> {
    Absent,
    Json(Cow<'a, [u8]>),
    Serialized(&'a [u8]),
    /// What couldn't be written as JSON; pushing it says so.
    Impossible(Error),
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
    /// An event with this metadata. What can't be written as JSON fails its push, with [`Status::InvalidMetadata`].
    pub fn json(metadata: &(impl Serialize + ?Sized)) -> Self {
        NewEvent::new(match serde_json::to_vec(metadata) {
            Ok(json) => Metadata::Json(json.into()),
            Err(why) => Metadata::Impossible(Error::new(
                Status::InvalidMetadata,
                format!("the metadata can't be written as JSON: {why}"),
            )),
        })
    }

    /// An event with this text as its metadata, which should be JSON.
    pub fn text(metadata: &'a str) -> Self {
        NewEvent::metadata_bytes(metadata.as_bytes())
    }

    /// An event with these bytes as its metadata, which should be JSON in UTF-8.
    pub fn metadata_bytes(metadata: &'a [u8]) -> Self {
        NewEvent::new(Metadata::Json(metadata.into()))
    }

    /// An event whose metadata a serializer of the host has made into these bytes, which go into the record as they
    /// are.
    pub fn serialized(metadata: &'a [u8]) -> Self {
        NewEvent::new(Metadata::Serialized(metadata))
    }

    fn new(metadata: Metadata<'a>) -> Self {
        NewEvent { metadata, data: Data::Pieces(&[]), partition: None }
    }

    /// The data.
    pub fn data(mut self, data: &'a [u8]) -> Self {
        self.data = Data::Whole(data);
        self
    }

    /// The data in pieces, which are put together in order.
    pub fn segments(mut self, segments: &'a [&'a [u8]]) -> Self {
        self.data = Data::Pieces(segments);
        self
    }

    /// The partition asked for; the topic's selector decides.
    pub fn partition(mut self, partition: u64) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Lends the ABI's form of it, whose bytes live during `call`. It is made where it is used, since pushes are measured with it.
    #[inline]
    fn lend<T>(&self, call: impl FnOnce(&octopus_push_args) -> T) -> Result<T> {
        match self.data {
            Data::Whole(data) => Ok(call(&self.args(&[bytes(data)])?)),
            Data::Pieces(_) => Ok(call(&self.args(&self.pieces())?)),
        }
    }

    /// The data as the ABI wants it.
    fn pieces(&self) -> Vec<octopus_bytes> {
        match self.data {
            Data::Whole(data) => vec![bytes(data)],
            Data::Pieces(segments) => segments.iter().map(|segment| bytes(segment)).collect(),
        }
    }

    /// The ABI's form of it, which points into the event and into `segments`.
    #[inline]
    fn args(&self, segments: &[octopus_bytes]) -> Result<octopus_push_args> {
        let (metadata, is_serialized) = match &self.metadata {
            Metadata::Absent => (octopus_bytes { data: null(), size: 0 }, false),
            Metadata::Json(json) => (bytes(json), false),
            Metadata::Serialized(serialized) => (bytes(serialized), true),
            Metadata::Impossible(error) => return Err(error.clone()),
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
        })
    }
}

/// A producer in the making.
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

    /// Any option of docs/configuration.md.
    pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.set(key, value);
        self
    }

    /// A property of librdkafka's, laid over the driver's.
    pub fn kafka(mut self, property: &str, value: impl Into<Value>) -> Self {
        self.options.set_kafka(property, value);
        self
    }

    /// All options as text, whatever it is: JSON or not.
    pub fn options_text(mut self, text: &str) -> Self {
        self.options.text = Some(text.to_owned());
        self
    }

    /// Events in a batch; 0 is no preference, `OCTOPUS_BATCH_SIZE_ADAPTIVE` (2^64-1) adapts.
    pub fn batch_size(mut self, events: u64) -> Self {
        self.batch_size = events;
        self
    }

    /// Batches that may be held; 0 is no preference.
    pub fn max_batches(mut self, batches: u64) -> Self {
        self.max_batches = batches;
        self
    }

    /// Allows events to be reordered.
    pub fn loose(mut self) -> Self {
        self.ordering = OCTOPUS_ORDERING_LOOSE;
        self
    }

    /// Has events prepared on this pool; without one, in the calls to push.
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
        // SAFETY: a live handle; struct and texts outlive the call, which gives us the producer.
        let made = unsafe {
            Handle::made(self.topic.tables(), |producer| call!(self.topic, topic.make_producer(&args, producer)))
        };
        Ok(Producer { handle: made? })
    }
}
