//! A producer turns events into records of one topic, and settles a future for each. It knows neither C nor
//! librdkafka: [`KafkaProducer`] is its way out.
//!
//! Events are prepared on a thread pool. Where that has threads, an event's bytes are copied in `push` and the rest is
//! done there; in strict order, records are put out in the order of the pushes all the same ([`Order`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::components::{DefaultSelector, Role};
use crate::config::ClientSettings;
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::future::Future;
use crate::health::{Health, refuse_to_wait_for_ourselves};
use crate::in_flight::Place;
use crate::json;
use crate::kafka::{EncodedRecord, KafkaProducer};
use crate::order::{Order, Turn};
use crate::record::{HEADER, LENGTH_PREFIX, Metadata, Record};
use crate::thread_pool::{FIRST, ThreadPool};
use crate::topic::Topic;

pub struct Producer {
    pub health: Health,
    workshop: Arc<Workshop>,
    closed: AtomicBool,
}

/// What the host pushes; borrowed, since its bytes are copied before `push` returns.
pub struct NewEvent<R> {
    pub record: R,
    /// The partition asked for; the topic's selector decides.
    pub partition: Option<u64>,
}

impl Producer {
    pub fn new(topic: Arc<Topic>, settings: &ClientSettings, pool: Arc<ThreadPool>) -> Result<Self> {
        let mut records = KafkaProducer::new(topic.driver().connection(), topic.kafka_name(), settings)?;
        if pool.has_threads() {
            records = records.prepared_on(pool.mark());
        }
        let components = topic.components();
        let workshop = Workshop {
            selector: components.provides(Role::Selector).then(DefaultSelector::default),
            json_refusal: components.require(&[Role::Validator, Role::Serializer]).err(),
            has_threads: pool.has_threads(),
            is_strict: !settings.loose,
            order: Order::default(),
            topic,
            records,
            pool,
        };
        Ok(Producer { health: Health::default(), workshop: Arc::new(workshop), closed: AtomicBool::new(false) })
    }

    /// Checks the event, waits for room, and has it made into a record and queued. The future tells of its delivery; an
    /// event that is refused here was not queued.
    pub fn push<R: Record>(&self, event: &NewEvent<R>) -> Result<Arc<Future>> {
        self.check_open()?;
        self.workshop.push(event)
    }

    /// Settled when everything pushed before is delivered or has failed.
    pub fn flush(&self) -> Result<Arc<Future>> {
        self.check_open()?;
        Ok(self.workshop.records.flush())
    }

    /// The largest event that can be pushed: bytes of metadata text and data together.
    pub fn max_event_size(&self) -> Result<u64> {
        self.check_open()?;
        Ok(self.workshop.records.max_record().saturating_sub(HEADER + LENGTH_PREFIX) as u64)
    }

    /// Takes no more events and waits until those in flight are delivered or have failed. At the deadline they
    /// are still being delivered, in the background.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        let doing = "closing a producer";
        refuse_to_wait_for_ourselves(doing)?;
        self.workshop.mark().refuse_to_wait_for_itself(doing)?;
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::bare(Kind::Closed));
        }
        let records = &self.workshop.records;
        records.in_flight().end(Error::bare(Kind::Closed));
        records.flush().wait(deadline)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::bare(Kind::Closed)) } else { Ok(()) }
    }
}

/// Where events become records; it is kept until the last of them is put out.
struct Workshop {
    topic: Arc<Topic>,
    /// None when the topic's selector is one that only the host has.
    selector: Option<DefaultSelector>,
    /// Why metadata can't be pushed as JSON, if it can't.
    json_refusal: Option<Error>,
    pool: Arc<ThreadPool>,
    /// Whether the pool's tasks run elsewhere than in `push`.
    has_threads: bool,
    is_strict: bool,
    order: Order<Prepared>,
    records: KafkaProducer,
}

/// An event on its way, with its bytes.
struct Unprepared {
    record: EncodedRecord,
    partition: Option<u64>,
}

/// What came of preparing an event.
struct Prepared {
    event: Result<Unprepared>,
    future: Arc<Future>,
}

impl Workshop {
    fn push<R: Record>(self: &Arc<Self>, event: &NewEvent<R>) -> Result<Arc<Future>> {
        let size = self.check_size(&event.record)?;
        self.check_metadata(&event.record.metadata())?;
        if self.has_threads {
            return self.push_by_pool(event, size);
        }
        let partition = self.select_partition(event.partition)?;
        let place = self.take_place(size)?;
        self.records.send(partition, &event.record, place)
    }

    fn push_by_pool<R: Record>(self: &Arc<Self>, event: &NewEvent<R>, size: usize) -> Result<Arc<Future>> {
        let record = self.records.encode(&event.record, size)?;
        let place = self.take_place(size)?;
        // The place in line is taken last: who has one must not wait for room.
        let job = Job {
            future: self.records.promise(place),
            turn: self.is_strict.then(|| self.order.take_turn()),
            event: Some(Unprepared { record, partition: event.partition }),
            workshop: self.clone(),
        };
        let future = job.future.clone();
        if self.pool.mark().is_on_this_thread() {
            // Left to the pool, it might wait for the very task that it is pushed in.
            job.run();
            return Ok(future);
        }
        self.pool
            .submit(Box::new(move || job.run()), FIRST)
            .map_err(|refused| refused.during("handing an event to the thread pool").during(self.pushing()))?;
        Ok(future)
    }

    fn take_place(&self, size: usize) -> Result<Place> {
        let in_flight = self.records.in_flight();
        if self.mark().is_on_this_thread() {
            return in_flight.take_without_waiting(size as u64);
        }
        in_flight.take(size as u64, Deadline::after(self.topic.driver().timeout()))
    }

    fn mark(&self) -> crate::thread_pool::Mark {
        if self.has_threads { self.pool.mark() } else { crate::thread_pool::Mark::NONE }
    }

    /// Sends what was prepared; what can't be sent fails its future.
    fn put_out(&self, prepared: Prepared) {
        let Prepared { event, future } = prepared;
        let sent = catch_unwind(AssertUnwindSafe(|| {
            let event = event?;
            let partition = self.select_partition(event.partition)?;
            self.records.send_encoded(partition, event.record, &future)
        }));
        let failure = match sent {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::new(Kind::Panicked, "a panic while an event was sent; this is a defect of Octopus"),
        };
        self.records.fail(&future, failure);
    }

    fn finish(&self, turn: Option<Turn>, prepared: Prepared) {
        match turn {
            Some(turn) => self.order.finish(turn, prepared, |prepared| self.put_out(prepared)),
            None => self.put_out(prepared),
        }
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
            .during(self.pushing())),
        }
    }

    fn check_metadata(&self, metadata: &Metadata) -> Result<()> {
        let Metadata::Json(text) = metadata else { return Ok(()) };
        if let Some(refusal) = &self.json_refusal {
            return Err(refusal.clone().during(self.pushing()));
        }
        json::check(text).map_err(|why| {
            Error::new(Kind::InvalidMetadata, format!("the metadata is not JSON: {why}")).during(self.pushing())
        })
    }

    fn select_partition(&self, requested: Option<u64>) -> Result<u32> {
        let partitions = self.topic.partition_count();
        if let Some(selector) = &self.selector {
            return Ok(selector.select(requested, partitions));
        }
        // The selector is the host's: if it names a partition, it has asked that selector already.
        match requested {
            Some(partition) if partition < u64::from(partitions) => Ok(partition as u32),
            Some(partition) => {
                let why = format!("partition {partition} does not exist, there are {partitions}");
                Err(Error::invalid(why).during(self.pushing()))
            }
            None => match self.topic.components().require(&[Role::Selector]) {
                Err(nobody_provides_it) => Err(nobody_provides_it.during(self.pushing())),
                Ok(()) => Ok(0),
            },
        }
    }

    fn pushing(&self) -> String {
        format!("pushing to topic {:?}", self.topic.name())
    }
}

/// The work on one event that a pool does. However it ends, its future and its place in line are settled.
struct Job {
    workshop: Arc<Workshop>,
    future: Arc<Future>,
    turn: Option<Turn>,
    event: Option<Unprepared>,
}

impl Job {
    fn run(mut self) {
        if let Some(event) = self.event.take() {
            self.workshop.finish(self.turn.take(), Prepared { event: Ok(event), future: self.future.clone() });
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.event.take().is_some() {
            let why = Error::new(Kind::HostCallback, "the thread pool dropped the task that prepares the event");
            let event = Err(why.during(self.workshop.pushing()));
            self.workshop.finish(self.turn.take(), Prepared { event, future: self.future.clone() });
        }
    }
}
