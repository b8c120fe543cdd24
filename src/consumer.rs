//! A consumer hands out the events of a topic: of the partitions that the group of its name gives it, or of those that
//! the host names. Positions move by acknowledgement only; where they stand is in [`crate::positions`].

use std::collections::VecDeque;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::completions::{self, Completion};
use crate::config::ClientSettings;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Filling, SharedEvent};
use crate::future::Future;
use crate::kafka::{KafkaConsumer, RawRecord};
use crate::poison::{Poison, ensure_not_plugin_thread};
use crate::processing::{self, Bounds, Processor};
use crate::thread_pool::ThreadPool;
use crate::topic::Topic;

/// Records that are taken and read together: so few that what was looked at when they were taken is still in a cache.
const RUN: usize = 64;

pub struct Consumer {
    pub poison: Poison,
    reader: Arc<Reader>,
    closed: AtomicBool,
    processing: AtomicBool,
}

impl Consumer {
    pub fn new(topic: Arc<Topic>, mut settings: ClientSettings) -> Result<Self> {
        if settings.name.is_empty() {
            return Err(Error::invalid("the consumer's name is empty; it is the name of its group, so it needs one"));
        }
        check_targets(&mut settings.targets, topic.partition_count())?;
        let records = KafkaConsumer::open(topic.driver().connection(), topic.kafka_name(), &settings)?;
        let reader = Reader { topic, records, returned: ReturnedEvents::default(), awaiting: Mutex::default() };
        Ok(Consumer {
            poison: Poison::default(),
            reader: Arc::new(reader),
            closed: AtomicBool::new(false),
            processing: AtomicBool::new(false),
        })
    }

    /// A ticket for the next event.
    pub fn pull(&self) -> Result<Future> {
        self.check_open()?;
        Ok(Future::pull(self.reader.clone()))
    }

    /// Waits for a first event, then takes what else is there, at most `max` in all.
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

    /// Feeds events to `processor` until that has had enough; see [`processing::process`].
    pub fn process(&self, processor: Box<Processor>, bounds: Bounds, pool: Option<&ThreadPool>) -> Result<()> {
        self.check_open()?;
        let pool = pool.unwrap_or(self.reader.topic.driver().default_pool());
        let doing = "processing events";
        ensure_not_plugin_thread(doing)?;
        pool.mark().ensure_not_on_pool_thread(doing)?;
        if self.processing.swap(true, Ordering::AcqRel) {
            return Err(Error::invalid("consumer: its events are being processed already; one `process` at a time"));
        }
        let _busy = Busy(&self.processing);
        processing::process(&self.reader, pool, processor, bounds)
    }

    /// Commits what was acknowledged so far and waits for Kafka's answer.
    pub fn commit(&self, deadline: Deadline) -> Result<()> {
        self.check_open()?;
        ensure_not_plugin_thread("committing")?;
        self.reader.records.commit(deadline.sooner(self.time_limit()))
    }

    /// The offset of the event that comes next in this partition.
    pub fn position(&self, partition: u32) -> Result<u64> {
        self.asking("asking for a position", |reader, limit| reader.position(partition, limit))
    }

    /// The offset that a consumer of this name would start at; `None` where nothing is committed.
    pub fn committed(&self, partition: u32) -> Result<Option<u64>> {
        self.asking("asking for a committed position", |reader, limit| {
            let partitions = reader.topic.partition_count();
            if partition >= partitions {
                return Err(Error::invalid(format!("partition {partition} does not exist, there are {partitions}")));
            }
            reader.records.committed(partition, limit)
        })
    }

    /// The number of offsets from the one that comes next to the end of this partition.
    pub fn lag(&self, partition: u32) -> Result<u64> {
        self.asking("asking for the lag", |reader, limit| {
            let next = reader.position(partition, limit)?;
            let (_, end) = reader.records.offsets(partition, limit)?;
            Ok(end.saturating_sub(next))
        })
    }

    /// Goes on at this offset of the partition.
    pub fn seek(&self, partition: u32, offset: u64) -> Result<()> {
        self.asking("seeking", |reader, limit| {
            reader.records.seek(partition, offset, limit, || reader.returned.forget(partition))
        })
    }

    /// The partitions that are this consumer's now, in order.
    pub fn assignment(&self) -> Result<Vec<u32>> {
        self.check_open()?;
        Ok(self.reader.records.positions().assigned())
    }

    /// Commits what was acknowledged, gives all partitions up and leaves the group. Nothing is pulled any more.
    pub fn unsubscribe(&self) -> Result<()> {
        self.asking("unsubscribing", |reader, limit| reader.records.unsubscribe(limit))
    }

    /// Commits, and leaves the group at once.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        ensure_not_plugin_thread("closing a consumer")?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::from_kind(Kind::Closed));
        }
        self.reader.records.close(deadline)
    }

    fn asking<T>(&self, doing: &str, ask: impl FnOnce(&Reader, Deadline) -> Result<T>) -> Result<T> {
        self.check_open()?;
        ensure_not_plugin_thread(doing)?;
        ask(&self.reader, self.time_limit())
    }

    fn time_limit(&self) -> Deadline {
        Deadline::after(self.reader.topic.driver().timeout())
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::from_kind(Kind::Closed)) } else { Ok(()) }
    }
}

impl Drop for Consumer {
    /// Commits and leaves in the background, at once: tickets that are still held must not keep partitions from
    /// the group's other members.
    fn drop(&mut self) {
        self.reader.records.start_closing();
    }
}

/// Sorts them, drops those that are named twice, and refuses those that don't exist.
fn check_targets(targets: &mut Vec<u32>, partitions: u32) -> Result<()> {
    targets.sort_unstable();
    targets.dedup();
    match targets.iter().find(|target| **target >= partitions) {
        None => Ok(()),
        Some(wrong) => Err(Error::invalid(format!(
            "args.targets: partition {wrong} does not exist; the topic has {partitions}, numbered from 0"
        ))),
    }
}

struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What a consumer and its tickets share.
pub struct Reader {
    topic: Arc<Topic>,
    records: KafkaConsumer,
    returned: ReturnedEvents,
    /// Tickets whose holders want to be called.
    awaiting: Mutex<Awaiting>,
}

#[derive(Default)]
struct Awaiting {
    tickets: VecDeque<(Arc<Future>, Completion)>,
    /// A thread is waiting on their behalf.
    is_attended: bool,
}

impl Reader {
    /// The next event; `TimedOut` when there was none in time. A malformed record is an error, once, and then it
    /// goes on with the record after it.
    pub fn next(&self, deadline: Deadline) -> Result<SharedEvent> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        self.next_unless(deadline, &NEVER)
    }

    /// As [`next`](Self::next); `TimedOut` also when `stop` was set and [`wake`](Self::wake) called.
    pub fn next_unless(&self, deadline: Deadline, stop: &AtomicBool) -> Result<SharedEvent> {
        loop {
            if let Some(left) = self.returned.take(|event| event.is_current()) {
                return left;
            }
            let interrupted = || stop.load(Ordering::Acquire) || !self.returned.is_empty();
            match self.records.next(deadline, interrupted)? {
                Some(record) => return self.read(record),
                None if self.returned.is_empty() => return Err(Error::from_kind(Kind::TimedOut)),
                None => {}
            }
        }
    }

    /// The next event if it is at hand; nothing when there is more to do than to look, and [`next`](Self::next) does it.
    pub fn look(&self) -> Option<Result<SharedEvent>> {
        if !self.returned.is_empty() {
            return None;
        }
        Some(self.records.look()?.and_then(|record| self.read(record)))
    }

    fn read(&self, record: RawRecord) -> Result<SharedEvent> {
        let chunk = Filling::for_first_of(slice::from_ref(&record), self.records.positions());
        chunk.map_or_else(|| Err(Error::from_kind(Kind::TimedOut)), |mut chunk| self.read_into(&mut chunk, record))
    }

    fn read_all(&self, records: &mut Vec<RawRecord>) -> Vec<Result<SharedEvent>> {
        let mut read = Vec::with_capacity(records.len());
        let mut rest = records.drain(..);
        while let Some(mut chunk) = Filling::for_first_of(rest.as_slice(), self.records.positions()) {
            let together = rest.by_ref().take(chunk.room());
            read.extend(together.map(|record| self.read_into(&mut chunk, record)));
        }
        read
    }

    /// A malformed record takes no room.
    fn read_into(&self, chunk: &mut Filling, record: RawRecord) -> Result<SharedEvent> {
        let (partition, offset) = (record.partition, record.offset);
        chunk.read(record, &self.topic.parts().serializer).map_err(|error| {
            error.context(format_args!(
                "reading topic {:?}: the record at offset {offset} of partition {partition}",
                self.topic.name()
            ))
        })
    }

    fn next_many(&self, max: u64, deadline: Deadline) -> Result<Vec<SharedEvent>> {
        let wanted = usize::try_from(max).unwrap_or(usize::MAX);
        let mut events = vec![self.next(deadline)?];
        self.returned.take_events(wanted, &mut events);
        if self.returned.is_empty() {
            self.drain_available(wanted, &mut events);
        }
        Ok(events)
    }

    /// What else is there, a run after the other, until there are so many events.
    fn drain_available(&self, wanted: usize, events: &mut Vec<SharedEvent>) {
        let mut records = Vec::with_capacity(RUN.min(wanted));
        while events.len() < wanted {
            let most = RUN.min(wanted - events.len());
            let behind_them = self.records.take_more(most, &mut records);
            let is_all = records.len() < most || behind_them.is_some();
            let read = self.read_all(&mut records).into_iter();
            let mut read = read.chain(behind_them.filter(Error::is_reported_once).map(Err));
            while let Some(next) = read.next() {
                match next {
                    Ok(event) => events.push(event),
                    Err(error) => return self.returned.append(std::iter::once(Err(error)).chain(read).collect()),
                }
            }
            if is_all {
                return;
            }
        }
    }

    /// Events that were taken and not used come next, before all others.
    pub fn hand_back(&self, events: Vec<SharedEvent>) {
        if !events.is_empty() {
            self.returned.put(events);
            self.wake();
        }
    }

    /// Has those that wait look whether they should stop.
    pub fn wake(&self) {
        self.records.wake();
    }

    fn position(&self, partition: u32, limit: Deadline) -> Result<u64> {
        let left = self.returned.first_of(partition);
        let next = self.records.position(partition, limit)?;
        Ok(left.map_or(next, |left| left.min(next)))
    }

    /// Has `completion` called when `ticket` has its event.
    pub fn complete(self: Arc<Self>, ticket: Arc<Future>, completion: Completion) -> Result<()> {
        let mut awaiting = self.awaiting.lock();
        awaiting.tickets.push_back((ticket, completion));
        if awaiting.is_attended {
            return Ok(());
        }
        let reader = self.clone();
        completions::spawn("octopus-pull", move || reader.serve_pending_pulls())
            .inspect(|()| awaiting.is_attended = true)
            .inspect_err(|_| drop(awaiting.tickets.pop_back()))
    }

    fn serve_pending_pulls(&self) {
        const SLICE: Duration = Duration::from_secs(1);
        while let Some((ticket, completion)) = self.next_pending_pull() {
            while !ticket.resolve(Deadline::after(SLICE)) {}
            drop(ticket);
            completions::call_here(completion);
        }
    }

    fn next_pending_pull(&self) -> Option<(Arc<Future>, Completion)> {
        let mut awaiting = self.awaiting.lock();
        let next = awaiting.tickets.pop_front();
        awaiting.is_attended = next.is_some();
        next
    }
}

/// What was taken out of the topic and not handed to the host after all: it comes next.
#[derive(Default)]
struct ReturnedEvents {
    is_there: AtomicBool,
    line: Mutex<VecDeque<Result<SharedEvent>>>,
}

impl ReturnedEvents {
    fn is_empty(&self) -> bool {
        !self.is_there.load(Ordering::Acquire)
    }

    fn take(&self, wanted: impl Fn(&Event) -> bool) -> Option<Result<SharedEvent>> {
        if self.is_empty() {
            return None;
        }
        let mut line = self.line.lock();
        let mut next = line.pop_front();
        while let Some(Ok(event)) = &next
            && !wanted(event)
        {
            next = line.pop_front();
        }
        self.is_there.store(!line.is_empty(), Ordering::Release);
        next
    }

    fn put(&self, mut events: Vec<SharedEvent>) {
        events.sort_by_key(|event| (event.partition(), event.offset()));
        let mut line = self.line.lock();
        for event in events.into_iter().rev() {
            let place = place_of(&event, &line);
            line.insert(place, Ok(event));
        }
        self.is_there.store(true, Ordering::Release);
    }

    /// Takes events, up to the first that isn't one, until there are so many.
    fn take_events(&self, wanted: usize, events: &mut Vec<SharedEvent>) {
        if self.is_empty() {
            return;
        }
        let mut line = self.line.lock();
        while events.len() < wanted
            && let Some(Ok(_)) = line.front()
            && let Some(Ok(event)) = line.pop_front()
        {
            if event.is_current() {
                events.push(event);
            }
        }
        self.is_there.store(!line.is_empty(), Ordering::Release);
    }

    /// These come behind all others.
    fn append(&self, more: Vec<Result<SharedEvent>>) {
        let mut line = self.line.lock();
        line.extend(more);
        self.is_there.store(!line.is_empty(), Ordering::Release);
    }

    fn forget(&self, partition: u32) {
        let mut line = self.line.lock();
        line.retain(|left| left.as_ref().map_or(true, |event| event.partition() != partition));
        self.is_there.store(!line.is_empty(), Ordering::Release);
    }

    fn first_of(&self, partition: u32) -> Option<u64> {
        let line = self.line.lock();
        line.iter()
            .flatten()
            .filter(|event| event.partition() == partition && event.is_current())
            .map(|e| e.offset())
            .min()
    }
}

/// Before all others, but behind those of its partition that come before it.
fn place_of(event: &Event, line: &VecDeque<Result<SharedEvent>>) -> usize {
    let comes_before = |left: &SharedEvent| left.partition() == event.partition() && left.offset() < event.offset();
    line.iter().rposition(|left| left.as_ref().is_ok_and(comes_before)).map_or(0, |last| last + 1)
}
