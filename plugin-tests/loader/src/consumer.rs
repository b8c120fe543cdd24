//! A consumer, which reads the events of one topic.

use std::ptr::{null, null_mut};
use std::time::Duration;

use serde_json::Value;

use crate::abi::*;
use crate::error::{Result, Status};
use crate::event::Event;
use crate::future::Pull;
use crate::handle::Handle;
use crate::options::{Options, client_options};
use crate::processing::{Bounds, Flow, Run};
use crate::raw::{call, millis, optional_text, text};
use crate::thread_pool::ThreadPool;

/// Reads the events of one topic with a Kafka client of its own, as a member of the consumer group
/// of its name. If it is dropped without [`close`](Self::close), it commits and leaves the group in
/// the background. If the process ends before that, the last acknowledgements are not committed,
/// and Kafka keeps its place for `session.timeout.ms` (45 s): call `close` before `main` returns.
///
/// ```no_run
/// use std::time::Duration;
///
/// use octopus_loader::{Bounds, Flow, Result, Topic};
///
/// fn read_until_idle(topic: &Topic) -> Result<()> {
///     let consumer = topic.consumer("archive").make()?;
///     let bounds = Bounds { timeout: Duration::from_secs(5), ..Bounds::default() };
///     consumer.process(bounds, None, |event| {
///         let Some(event) = event else { return Ok(Flow::Stop) };
///         println!("{}", event.json()?);
///         event.acknowledge()?;
///         Ok(Flow::Continue)
///     })?;
///     consumer.close(Duration::from_secs(10))
/// }
/// ```
#[derive(Debug)]
pub struct Consumer {
    handle: Handle<octopus_consumer>,
    name: String,
}

impl Consumer {
    /// The name of the consumer, which is its group.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn raw(&self) -> *const octopus_consumer {
        self.handle.as_ptr()
    }

    /// Begins to pull the next event, and returns at once. The pull takes an event only when it
    /// returns it, so dropping it before loses nothing. [`Status::Closed`].
    pub fn pull(&self) -> Result<Pull> {
        // SAFETY: the handle is live (owned). On success the library writes a new handle to
        // `future`, which is ours.
        let pull = |future| unsafe { call!(self.handle, consumer.pull(future)) };
        Handle::from_call(self.handle.tables(), pull).map(Pull::new)
    }

    /// The next event, or `None` after `timeout`: [`pull`](Self::pull) and [`Pull::wait`] in one
    /// call.
    pub fn next(&self, timeout: Duration) -> Result<Option<Event>> {
        self.pull()?.wait(timeout)
    }

    /// Waits for a first event, at most `timeout`, then takes the others that are available, at
    /// most `max` in total. Errors are those of [`Pull::wait`]; an error behind events that were
    /// taken is reported by the next call.
    pub fn pull_many(&self, max: usize, timeout: Duration) -> Result<Vec<Event>> {
        let mut events: Vec<*mut octopus_event> = vec![null_mut(); max];
        let mut count = 0;
        // SAFETY: the handle is live (owned), `events` has `max` writable elements, and the output
        // is a local variable.
        let result = unsafe {
            call!(self.handle, consumer.pull_many(max as u64, millis(timeout), events.as_mut_ptr(), &mut count))
        };
        match result {
            Err(error) if error.status == Status::TimedOut => return Ok(Vec::new()),
            other => other?,
        }
        events.truncate(count as usize);
        // SAFETY: the call has succeeded, so the library has written `count` events, which are
        // ours.
        let events = unsafe { Handle::all_from_raw(self.handle.tables(), events) };
        events?.into_iter().map(Event::new).collect()
    }

    /// Calls `processor` for each event until it returns [`Flow::Stop`] or fails, or has been given
    /// `bounds.max_events`; with `None` if no event came within `bounds.timeout`.
    ///
    /// The processor runs on the threads of `pool`, several calls at a time, or, without a pool, on
    /// this thread. This function returns when all of its calls have returned. Events that were
    /// taken and not processed are pulled next. An error of the processor is returned, and a panic
    /// continues here.
    ///
    /// [`Status::InvalidArgument`] while another `process` of this consumer runs,
    /// [`Status::WouldDeadlock`] on a thread of the library or of that pool,
    /// [`Status::CallbackFailed`] if the pool refuses a task, or the errors of [`Pull::wait`].
    pub fn process(
        &self,
        bounds: Bounds,
        pool: Option<&ThreadPool>,
        processor: impl Fn(Option<Event>) -> Result<Flow> + Send + Sync,
    ) -> Result<()> {
        let run = Run::new(self.handle.tables(), &processor);
        let pool = pool.map_or(null(), |pool| pool.handle.as_ptr());
        let (timeout, max) = (millis(bounds.timeout), bounds.max_events);
        // SAFETY: the handles are live (owned and borrowed). `run` outlives the call, which returns
        // only when every call of the processor has returned (include/octopus.h).
        let result = unsafe { call!(self.handle, consumer.process(&run.processor(), timeout, max, pool)) };
        run.finish(result)
    }

    /// Commits the acknowledged positions and waits for Kafka's response, at most `timeout` and the
    /// driver's `timeout_ms`. Reports an earlier commit that failed, too. Positions are also
    /// committed every second, when partitions are revoked, and when the consumer is closed or
    /// dropped.
    ///
    /// [`Status::TimedOut`], [`Status::Kafka`], [`Status::Unreachable`], [`Status::WouldDeadlock`],
    /// [`Status::Closed`].
    pub fn commit(&self, timeout: Duration) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, consumer.commit(millis(timeout))) }
    }

    /// The offset of the next event of this partition. [`Status::InvalidArgument`] if the partition
    /// is not assigned to this consumer.
    pub fn position(&self, partition: u32) -> Result<u64> {
        let mut offset = 0;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, consumer.position(partition, &mut offset)) }?;
        Ok(offset)
    }

    /// The offset at which a consumer of this name would start; `None` if nothing is committed, in
    /// which case it would start at the earliest event.
    pub fn committed(&self, partition: u32) -> Result<Option<u64>> {
        let mut offset = 0;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, consumer.committed(partition, &mut offset)) }?;
        Ok((offset != OCTOPUS_OFFSET_NONE).then_some(offset))
    }

    /// The number of offsets between the position and the end of this partition.
    /// [`Status::InvalidArgument`] if the partition is not assigned to this consumer.
    pub fn lag(&self, partition: u32) -> Result<u64> {
        let mut events = 0;
        // SAFETY: the handle is live (owned), and the output is a local variable.
        unsafe { call!(self.handle, consumer.lag(partition, &mut events)) }?;
        Ok(events)
    }

    /// Continues at this offset of the partition. The committed position stays.
    /// [`Status::InvalidArgument`] if the partition is not assigned or does not have the offset.
    pub fn seek(&self, partition: u32, offset: u64) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, consumer.seek(partition, offset)) }
    }

    /// The partitions that are assigned to this consumer.
    pub fn assignment(&self) -> Result<Vec<u32>> {
        let mut partitions = Vec::new();
        loop {
            let (capacity, mut count) = (partitions.len(), 0);
            // SAFETY: the handle is live (owned), `partitions` has `capacity` writable elements,
            // and the output is a local variable.
            unsafe { call!(self.handle, consumer.assignment(partitions.as_mut_ptr(), capacity as u64, &mut count)) }?;
            partitions.resize(count as usize, 0);
            if partitions.len() <= capacity {
                return Ok(partitions);
            }
        }
    }

    /// Commits the acknowledged positions, leaves the group, and gives up target partitions. From
    /// then on pulls fail with [`Status::Closed`].
    pub fn unsubscribe(&self) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, consumer.unsubscribe()) }
    }

    /// Commits the acknowledged positions, leaves the group, and waits for that, at most `timeout`.
    /// After [`Status::TimedOut`] it continues in the background. Events stay valid.
    /// [`Status::Kafka`] if the last commit failed, [`Status::Closed`] if it was closed before,
    /// [`Status::WouldDeadlock`] on a thread of the library.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        // SAFETY: the handle is live (owned).
        unsafe { call!(self.handle, consumer.close(millis(timeout))) }
    }
}

/// Collects the options of a consumer.
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

    client_options!();

    /// Reads these partitions only, without joining the group; by default those that the group
    /// assigns.
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
        // SAFETY: the topic is live (borrowed). Struct, texts and array outlive the call. On
        // success the library writes a new handle to `consumer`, which is ours.
        let make = |consumer| unsafe { call!(self.topic, topic.make_consumer(&args, consumer)) };
        Ok(Consumer { handle: Handle::from_call(self.topic.tables(), make)?, name: self.name.clone() })
    }
}
