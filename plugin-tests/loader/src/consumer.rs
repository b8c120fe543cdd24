//! A consumer: what reads the events of one topic.

use std::ptr::{null, null_mut};
use std::time::Duration;

use octopus::abi::*;
use serde_json::Value;

use crate::error::{Result, Status};
use crate::event::Event;
use crate::future::Pull;
use crate::options::Options;
use crate::processing::{Bounds, Flow, Run};
use crate::raw::{Handle, call, millis, optional_text, text};
use crate::thread_pool::ThreadPool;

/// Reads the events of one topic, through a Kafka client of its own, as a member of the group of its name. Dropped
/// without [`close`](Self::close) it commits and leaves the group in the background, at once.
#[derive(Debug)]
pub struct Consumer {
    handle: Handle<octopus_consumer>,
    name: String,
}

impl Consumer {
    /// The name that it was made with, which is its group's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A ticket for the next event, at once. It takes an event only when it returns one, so dropping it before loses
    /// nothing. [`Status::Closed`].
    pub fn pull(&self) -> Result<Pull> {
        // SAFETY: a live handle; the call gives us the future.
        let made = unsafe { Handle::made(self.handle.tables(), |future| call!(self.handle, consumer.pull(future))) };
        made.map(Pull::new)
    }

    /// The next event, or none in time: [`pull`](Self::pull) and [`Pull::wait`] in one.
    pub fn next(&self, at_most: Duration) -> Result<Option<Event>> {
        self.pull()?.wait(at_most)
    }

    /// Waits for a first event, then takes what else is there, at most `max` in all; none when none came in time. Fails
    /// as a [`Pull::wait`] does; what stands behind events that were taken is told by the next call.
    pub fn pull_many(&self, max: usize, at_most: Duration) -> Result<Vec<Event>> {
        let tables = self.handle.tables();
        let mut made: Vec<*mut octopus_event> = vec![null_mut(); max];
        let mut count = 0;
        // SAFETY: a live handle; array and output outlive the call.
        let result = unsafe {
            call!(self.handle, consumer.pull_many(max as u64, millis(at_most), made.as_mut_ptr(), &mut count))
        };
        match result {
            Err(error) if error.status == Status::TimedOut => return Ok(Vec::new()),
            other => other?,
        }
        made.truncate(count as usize);
        // SAFETY: so many events were given to us.
        let events = unsafe { Handle::all_owned(tables, made) };
        events?.into_iter().map(Event::new).collect()
    }

    /// Feeds events to `processor` until it says stop or fails, or was given `bounds.max_events`; with none when none
    /// came within `bounds.timeout`. Runs on `pool`, several calls at a time; without one, here. Returns when all that was
    /// begun has ended; what was taken and not processed is pulled next. What the processor fails with, or panics with,
    /// comes out.
    ///
    /// [`Status::InvalidArgument`] when another `process` is at it, [`Status::WouldDeadlock`] on a thread of the plugin
    /// or of that pool, [`Status::CallbackFailed`] when the pool refuses, or what a [`Pull::wait`] fails with.
    pub fn process(
        &self,
        bounds: Bounds,
        pool: Option<&ThreadPool>,
        processor: impl Fn(Option<Event>) -> Result<Flow> + Send + Sync,
    ) -> Result<()> {
        let run = Run::new(self.handle.tables(), &processor);
        let pool = pool.map_or(null(), |pool| pool.handle.as_ptr());
        let (timeout, max) = (millis(bounds.timeout), bounds.max_events);
        // SAFETY: live handles; struct and run outlive the call, which returns when the last call of the processor has.
        let result = unsafe { call!(self.handle, consumer.process(&run.processor(), timeout, max, pool)) };
        run.conclude(result)
    }

    /// Commits what was acknowledged, and waits for Kafka's answer, but no longer than the driver's `timeout_ms`.
    /// Also tells of an earlier commit that failed. Not needed for safety: commits go every second, when partitions
    /// are taken away, and at the end.
    ///
    /// [`Status::TimedOut`], [`Status::Kafka`], [`Status::Unreachable`], [`Status::WouldDeadlock`],
    /// [`Status::Closed`].
    pub fn commit(&self, at_most: Duration) -> Result<()> {
        // SAFETY: a live handle.
        unsafe { call!(self.handle, consumer.commit(millis(at_most))) }
    }

    /// The offset of the event that the next pull of this partition gives.
    pub fn position(&self, partition: u32) -> Result<u64> {
        let mut offset = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, consumer.position(partition, &mut offset)) }?;
        Ok(offset)
    }

    /// The offset that a consumer of this name would start at; none where nothing is committed, and it would start at
    /// the earliest event.
    pub fn committed(&self, partition: u32) -> Result<Option<u64>> {
        let mut offset = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, consumer.committed(partition, &mut offset)) }?;
        Ok((offset != OCTOPUS_OFFSET_NONE).then_some(offset))
    }

    /// The number of events in this partition that were not delivered to this consumer yet.
    pub fn lag(&self, partition: u32) -> Result<u64> {
        let mut events = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, consumer.lag(partition, &mut events)) }?;
        Ok(events)
    }

    /// Goes on at this offset of the partition.
    pub fn seek(&self, partition: u32, offset: u64) -> Result<()> {
        // SAFETY: a live handle.
        unsafe { call!(self.handle, consumer.seek(partition, offset)) }
    }

    /// The partitions that are this consumer's now.
    pub fn assignment(&self) -> Result<Vec<u32>> {
        let mut partitions = Vec::new();
        loop {
            let (room, mut count) = (partitions.len(), 0);
            // SAFETY: a live handle; an array with so much room, and an output that outlives the call.
            unsafe { call!(self.handle, consumer.assignment(partitions.as_mut_ptr(), room as u64, &mut count)) }?;
            partitions.resize(count as usize, 0);
            if partitions.len() <= room {
                return Ok(partitions);
            }
        }
    }

    /// Commits what was acknowledged, leaves the group, and gives target partitions up: from then on pulls fail with
    /// [`Status::Closed`].
    pub fn unsubscribe(&self) -> Result<()> {
        // SAFETY: a live handle.
        unsafe { call!(self.handle, consumer.unsubscribe()) }
    }

    /// Commits what was acknowledged, leaves the group, and waits for that; after [`Status::TimedOut`] it goes on in
    /// the background. Events in hand stay valid. [`Status::Kafka`] when the last commit failed,
    /// [`Status::Closed`] when it was closed before, [`Status::WouldDeadlock`] on a thread of the plugin.
    pub fn close(&self, at_most: Duration) -> Result<()> {
        // SAFETY: a live handle.
        unsafe { call!(self.handle, consumer.close(millis(at_most))) }
    }
}

/// A consumer in the making.
#[must_use = "no consumer is made before `make`"]
pub struct ConsumerBuilder<'a> {
    topic: &'a Handle<octopus_topic>,
    name: String,
    options: Options,
    batch_size: u64,
    max_batches: u64,
    targets: Vec<u32>,
}

impl<'a> ConsumerBuilder<'a> {
    pub(crate) fn new(topic: &'a Handle<octopus_topic>, name: &str) -> Self {
        ConsumerBuilder {
            topic,
            name: name.to_owned(),
            options: Options::default(),
            batch_size: 0,
            max_batches: 0,
            targets: Vec::new(),
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

    /// Partitions to read, and no others; without them, those that the group gives.
    pub fn targets(mut self, partitions: &[u32]) -> Self {
        self.targets = partitions.to_vec();
        self
    }

    /// Makes the consumer, which begins to join its group. [`Status::InvalidConfiguration`],
    /// [`Status::Unsupported`], [`Status::Kafka`].
    pub fn make(self) -> Result<Consumer> {
        let options = self.options.json();
        let args = octopus_consumer_args {
            size: size_of::<octopus_consumer_args>() as u64,
            name: text(&self.name),
            options: optional_text(options.as_deref()),
            batch_size: self.batch_size,
            max_batches: self.max_batches,
            targets: self.targets.as_ptr(),
            target_count: self.targets.len() as u64,
            thread_pool: null(),
        };
        // SAFETY: a live handle; struct, texts and array outlive the call, which gives us the consumer.
        let made = unsafe {
            Handle::made(self.topic.tables(), |consumer| call!(self.topic, topic.make_consumer(&args, consumer)))
        };
        Ok(Consumer { handle: made?, name: self.name.clone() })
    }
}
