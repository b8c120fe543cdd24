//! Reads records from Kafka, decodes them to events and resolves pulls with them.

use std::collections::VecDeque;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::returned_events::ReturnedEvents;
use crate::client::topic::Topic;
use crate::config::RecordFormats;
use crate::delivery::pull::{EventSource, ResolvePull};
use crate::event::{ChunkBuilder, RecordReading, SharedEvent};
use crate::kafka::KafkaConsumer;
use crate::kafka::librdkafka::record::RawRecord;
use crate::support::callbacks::{self, Completion};
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::threads;

/// How many records are taken from Kafka before they are decoded. Decoding reads the same memory as
/// taking; with so few records it is still in the processor's cache.
const MAX_READ_TOGETHER: usize = 64;

/// The part of a consumer that its pulls share.
pub struct Reader {
    pub(super) topic: Arc<Topic>,
    pub(super) records: KafkaConsumer,
    formats: RecordFormats,
    pub(super) returned: ReturnedEvents,
    /// Pulls with a completion, which no thread of the host waits for.
    pending: Mutex<PendingPulls>,
}

#[derive(Default)]
struct PendingPulls {
    pulls: VecDeque<(ResolvePull, Completion)>,
    /// Whether a thread waits for events for these pulls.
    has_thread: bool,
}

impl Reader {
    pub(super) fn new(topic: Arc<Topic>, records: KafkaConsumer, formats: RecordFormats) -> Self {
        Reader { topic, records, formats, returned: ReturnedEvents::default(), pending: Mutex::default() }
    }

    /// As [`next`](Self::next), but also returns `TimedOut` when `stop` is set and
    /// [`wake`](Self::wake) is called.
    pub fn next_unless(&self, deadline: Deadline, stop: &AtomicBool) -> Result<SharedEvent> {
        loop {
            if let Some(event) = self.returned.take(|event| event.is_current()) {
                return event;
            }
            let interrupted = || stop.load(Ordering::Acquire) || !self.returned.is_empty();
            match self.records.next(deadline, interrupted)? {
                Some(record) => return self.read(record),
                None if self.returned.is_empty() => return Err(Error::from_kind(Kind::TimedOut)),
                None => {}
            }
        }
    }

    fn read(&self, record: RawRecord) -> Result<SharedEvent> {
        let chunk = ChunkBuilder::for_leading(slice::from_ref(&record), self.records.positions());
        chunk.map_or_else(|| Err(Error::from_kind(Kind::TimedOut)), |mut chunk| self.read_into(&mut chunk, record))
    }

    fn read_all(&self, records: &mut Vec<RawRecord>) -> Vec<Result<SharedEvent>> {
        let mut read = Vec::with_capacity(records.len());
        let mut rest = records.drain(..);
        while let Some(mut chunk) = ChunkBuilder::for_leading(rest.as_slice(), self.records.positions()) {
            let together = rest.by_ref().take(chunk.remaining());
            read.extend(together.map(|record| self.read_into(&mut chunk, record)));
        }
        read
    }

    /// Adds a record's event to the chunk. A malformed record adds nothing.
    fn read_into(&self, chunk: &mut ChunkBuilder, record: RawRecord) -> Result<SharedEvent> {
        let (partition, offset) = (record.partition, record.offset);
        let reading = RecordReading { formats: self.formats, serializer: &self.topic.parts().serializer };
        chunk.read(record, &reading).map_err(|error| {
            error.context(format_args!(
                "reading topic {:?}: the record at offset {offset} of partition {partition}",
                self.topic.name()
            ))
        })
    }

    /// Waits for one event, then takes the available ones, at most `max` in all.
    pub(super) fn next_many(&self, max: u64, deadline: Deadline) -> Result<Vec<SharedEvent>> {
        let wanted = usize::try_from(max).unwrap_or(usize::MAX);
        let mut events = vec![self.next(deadline)?];
        self.returned.take_events(wanted, &mut events);
        if self.returned.is_empty() {
            self.drain_available(wanted, &mut events);
        }
        Ok(events)
    }

    /// Takes available events until there are `wanted` of them. Takes and decodes at most
    /// [`MAX_READ_TOGETHER`] records at a time.
    fn drain_available(&self, wanted: usize, events: &mut Vec<SharedEvent>) {
        let mut records = Vec::with_capacity(MAX_READ_TOGETHER.min(wanted));
        while events.len() < wanted {
            let max = MAX_READ_TOGETHER.min(wanted - events.len());
            let next_error = self.records.read_available(max, &mut records);
            let is_drained = records.len() < max || next_error.is_some();
            let read = self.read_all(&mut records).into_iter();
            let mut read = read.chain(next_error.filter(Error::is_reported_once).map(Err));
            while let Some(next) = read.next() {
                match next {
                    Ok(event) => events.push(event),
                    Err(error) => return self.returned.append(std::iter::once(Err(error)).chain(read).collect()),
                }
            }
            if is_drained {
                return;
            }
        }
    }

    /// Wakes the threads that wait for events, so that they check whether to stop.
    pub fn wake(&self) {
        self.records.wake();
    }

    /// The offset of the next event of this partition, which may be a returned one.
    pub(super) fn position(&self, partition: u32, deadline: Deadline) -> Result<u64> {
        let first_returned = self.returned.first_of(partition);
        let next = self.records.position(partition, deadline)?;
        Ok(first_returned.map_or(next, |first| first.min(next)))
    }

    /// Resolves the pulls with a completion, in order, and calls the completions. Ends when there
    /// are none.
    fn serve_pending_pulls(&self) {
        const SLICE: Duration = Duration::from_secs(1);
        while let Some((resolve, completion)) = self.next_pending_pull() {
            while !resolve(Deadline::after(SLICE)) {}
            drop(resolve);
            callbacks::run_callback(completion);
        }
    }

    fn next_pending_pull(&self) -> Option<(ResolvePull, Completion)> {
        let mut pending = self.pending.lock();
        let next = pending.pulls.pop_front();
        pending.has_thread = next.is_some();
        next
    }
}

impl EventSource for Reader {
    /// Takes the next event; `TimedOut` if none comes before the deadline. A malformed record is an
    /// error once; the next call continues with the record after it.
    fn next(&self, deadline: Deadline) -> Result<SharedEvent> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        self.next_unless(deadline, &NEVER)
    }

    /// Takes the next event if librdkafka has it already. Returned events are returned to
    /// [`next`](Self::next).
    fn try_next(&self) -> Option<Result<SharedEvent>> {
        if !self.returned.is_empty() {
            return None;
        }
        Some(self.records.try_next()?.and_then(|record| self.read(record)))
    }

    /// Makes these events the next ones, before all others.
    fn return_events(&self, events: Vec<SharedEvent>) {
        if !events.is_empty() {
            self.returned.insert(events);
            self.wake();
        }
    }

    fn on_resolved(self: Arc<Self>, resolve: ResolvePull, completion: Completion) -> Result<()> {
        let mut pending = self.pending.lock();
        pending.pulls.push_back((resolve, completion));
        if pending.has_thread {
            return Ok(());
        }
        let reader = self.clone();
        let Err(error) = threads::spawn("octopus-pull", move || reader.serve_pending_pulls()) else {
            pending.has_thread = true;
            return Ok(());
        };
        let pull = pending.pulls.pop_back();
        drop(pending);
        // Dropping the completion calls the host.
        drop(pull);
        Err(error)
    }
}
