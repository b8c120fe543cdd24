//! librdkafka's consumer: a member of a group, or a reader of partitions that the host names. The host's threads take
//! the records.
//!
//! One thread of ours, the attendant, serves rebalances, commits and errors, so that an idle host keeps its
//! partitions. Records go another way: each assigned partition's queue is forwarded to a data queue, which the
//! host's threads read in batches. The batch and the data queue are behind one lock; the attendant takes it for
//! the length of a rebalance, so that no record of a partition that was taken away is handed out afterwards.

mod asking;
mod commit_state;
mod committing;
mod consumer_thread;
mod damage;
mod fetch_failures;
mod history;
mod pinned;
mod reading;

use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::bindings as rd;

use commit_state::CommitState;
use fetch_failures::FetchFailures;
use history::History;
pub use pinned::Pin;
use pinned::PinnedResponses;

use super::client::{Client, ClientRole, IDLE};
use super::native::{FetchResponse, Message, Queue, c_string};
use super::{Connection, conf};
use crate::completions::spawn;
use crate::config::{ClientSettings, Properties};
use crate::deadline::Deadline;
use crate::error::{Error, Kind, Result};
use crate::flagged::Flagged;
use crate::positions::{Assignment, Positions};

/// "Ask the group": where it stands is librdkafka's to find out.
const OFFSET_INVALID: i64 = rd::RD_KAFKA_OFFSET_INVALID as i64;
const OFFSET_BEGINNING: i64 = rd::RD_KAFKA_OFFSET_BEGINNING as i64;
const OFFSET_END: i64 = rd::RD_KAFKA_OFFSET_END as i64;
/// A record up to this size is copied; a larger one stays in the answer that it came in, unless too many answers are kept.
const LARGEST_COPIED: usize = 1024;

pub struct KafkaConsumer {
    shared: Arc<Shared>,
}

/// One record as it came, and by which assignment.
pub struct RawRecord<'a> {
    pub payload: Payload<'a>,
    pub partition: u32,
    pub offset: u64,
    /// Milliseconds since 1970; -1 when unknown.
    pub timestamp_ms: i64,
    pub assignment: Assignment,
}

/// The bytes of a record, where librdkafka put them.
pub enum Payload<'a> {
    Fetched(Fetched<'a>),
    #[cfg(any(test, fuzzing))]
    Given(&'a [u8]),
}

impl Payload<'_> {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Fetched(fetched) => fetched.message.payload(),
            #[cfg(any(test, fuzzing))]
            Payload::Given(bytes) => bytes,
        }
    }

    /// The answer that they are in, if they are so many that they had better stay there.
    pub fn answer(&self) -> Option<FetchResponse> {
        match self {
            Payload::Fetched(fetched) if fetched.message.payload().len() > LARGEST_COPIED => fetched.message.answer(),
            _ => None,
        }
    }

    /// As [`pin`](Self::pin), also if it is one too many; `None` if they are in no response that can be kept.
    pub fn pin_in_any_case(&self) -> Option<Pin> {
        match self {
            Payload::Fetched(Fetched { consumer, message }) => consumer.answers.pin_in_any_case(message.answer()?),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => None,
        }
    }

    /// Keeps their answer; `None` if it would be one too many.
    pub fn pin(&self, answer: FetchResponse) -> Option<Pin> {
        match self {
            Payload::Fetched(Fetched { consumer, .. }) => consumer.answers.pin(answer),
            #[cfg(any(test, fuzzing))]
            Payload::Given(_) => None,
        }
    }
}

/// A message that goes before the consumer does, unless its answer is pinned.
pub struct Fetched<'a> {
    message: Message,
    consumer: &'a Shared,
}

impl Fetched<'_> {
    /// # Safety
    /// The message goes before the client of the pin does, which is one of its answer.
    pub unsafe fn keep(self, pin: &Pin) -> Message {
        assert!(pin.is_of(&self.consumer.client.handle), "a pin is for the records that it was made for");
        self.message
    }
}

struct Shared {
    topic: String,
    c_topic: CString,
    group: String,
    /// The partitions that the host named; none: the group gives them.
    targets: Vec<u32>,
    /// Where to begin if nothing is committed, as librdkafka names it.
    start: i64,
    /// Damaged records are not skipped.
    stops_at_damage: bool,
    positions: Arc<Positions>,
    /// Taken from librdkafka and not handed out yet. It goes before the client.
    batch: Mutex<VecDeque<Message>>,
    /// Set while the attendant wants the batch's lock: readers give it up.
    rebalancing: AtomicBool,
    closing: AtomicBool,
    /// Nothing is handed out any more, though the consumer is not closed.
    unsubscribed: AtomicBool,
    commit_state: Mutex<CommitState>,
    changed: Condvar,
    /// An error that goes on until somebody changes something: said by every call until a record comes.
    standing: Flagged<Error>,
    fetch_failures: FetchFailures,
    /// Which topic of its name it is.
    history: Mutex<History>,
    /// ErrorInner once, by whoever reads next.
    news: Flagged<Error>,
    /// Since when no broker is reachable.
    cut_off: Flagged<Instant>,
    /// How long brokers may be away before a pull says so.
    timeout: Duration,
    answers: PinnedResponses,
    data: Queue,
    events: Queue,
    client: Client,
}

impl KafkaConsumer {
    /// Joins the group named by the settings, or takes the partitions named there, and starts to read.
    pub fn open(connection: &Connection, topic: &str, settings: &ClientSettings) -> Result<Self> {
        let properties = consumer_properties(connection, settings);
        let overridden = ["enable.auto.commit", "enable.auto.offset.store"]
            .into_iter()
            .filter(|key| settings.kafka.get(key).or(connection.properties.get(key)).is_some_and(|v| v == "true"));
        let start = start_by(properties.get("auto.offset.reset"));
        // What the host keeps may take as much again as what is fetched ahead.
        let wanted = conf::native(&properties)?;
        let most_kept = conf::effective_number(&wanted, "queued.max.messages.kbytes")?.saturating_mul(1024);
        let most_kept = usize::try_from(most_kept).unwrap_or(usize::MAX);
        let client = Client::new(connection, ClientRole::Consumer, &settings.name, properties)?;
        for key in overridden {
            log::warn!(
                logger: client.log(), target: &client.name(),
                "kafka.{key} is ignored: positions are committed by acknowledgement only"
            );
        }
        let events = Queue::new(&client.handle)?;
        Queue::of_consumer(&client.handle)?.forward_to(&events);
        client.main.forward_to(&events);
        let shared = Arc::new(Shared {
            topic: topic.to_owned(),
            c_topic: c_string(topic)?,
            group: settings.name.clone(),
            targets: settings.targets.clone(),
            start,
            stops_at_damage: settings.stops_at_damage,
            positions: Arc::default(),
            batch: Mutex::default(),
            rebalancing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            unsubscribed: AtomicBool::new(false),
            commit_state: Mutex::default(),
            changed: Condvar::new(),
            standing: Flagged::default(),
            fetch_failures: FetchFailures::default(),
            history: Mutex::new(History::new(connection.embedded.is_none())),
            news: Flagged::default(),
            cut_off: Flagged::default(),
            timeout: connection.timeout,
            answers: PinnedResponses::new(most_kept, &client.handle),
            data: Queue::new(&client.handle)?,
            events,
            client,
        });
        if shared.targets.is_empty() {
            shared.subscribe()?;
        }
        let attended = shared.clone();
        spawn("octopus-consumer", move || attended.run())?;
        Ok(KafkaConsumer { shared })
    }

    /// The next record; none when `interrupted` turned true, which [`wake`](Self::wake) has looked at; `TimedOut` when
    /// none came in time. What was skipped is an error once, then it goes on.
    pub fn next(&self, deadline: Deadline, interrupted: impl Fn() -> bool) -> Result<Option<RawRecord<'_>>> {
        self.shared.next(deadline, interrupted)
    }

    /// The next record if that was taken along with one before it: in no time, and without asking for the time.
    pub fn look(&self) -> Option<Result<RawRecord<'_>>> {
        self.shared.look()
    }

    /// Takes along what else is there, without waiting, at most `most` records; an error that stands behind them, if one does.
    pub fn take_more<'a>(&'a self, most: usize, records: &mut Vec<RawRecord<'a>>) -> Option<Error> {
        self.shared.take_more(most, records)
    }

    /// Has a reader that sleeps look whether it should go on.
    pub fn wake(&self) {
        self.shared.data.wake();
    }

    /// The offset that should come next in a partition of ours.
    pub fn position(&self, partition: u32, limit: Deadline) -> Result<u64> {
        self.shared.position(partition, limit)
    }

    /// Where the group stands; `None` where nothing is committed.
    pub fn committed(&self, partition: u32, limit: Deadline) -> Result<Option<u64>> {
        self.shared.committed(partition, limit)
    }

    /// The first offset that is kept, and the one after the last.
    pub fn offsets(&self, partition: u32, limit: Deadline) -> Result<(u64, u64)> {
        self.shared.offsets(partition, limit)
    }

    /// Goes on at this offset; `forget` is called when nothing that was read before is handed out any more.
    pub fn seek(&self, partition: u32, offset: u64, limit: Deadline, forget: impl FnOnce()) -> Result<()> {
        self.shared.seek(partition, offset, limit, forget)
    }

    /// Commits, gives the partitions up, leaves the group, and waits until that is done.
    pub fn unsubscribe(&self, limit: Deadline) -> Result<()> {
        self.shared.unsubscribe(limit)
    }

    /// Begins to commit and leave, in the background; whoever waits for a record is told. What was read stays valid.
    pub fn start_closing(&self) {
        self.shared.start_closing();
    }

    /// What events acknowledge to; it outlives the client.
    pub fn positions(&self) -> &Arc<Positions> {
        &self.shared.positions
    }

    /// Commits what was acknowledged before this call, and waits for the answer.
    pub fn commit(&self, deadline: Deadline) -> Result<()> {
        self.shared.commit(deadline)
    }

    /// Commits, leaves the group, and waits until that is done; what remains at the deadline is done without.
    pub fn close(&self, deadline: Deadline) -> Result<()> {
        self.shared.start_closing();
        let mut commit_state = self.shared.commit_state.lock();
        while !commit_state.closed {
            if deadline.has_passed() {
                return Err(Error::from_kind(Kind::TimedOut));
            }
            self.shared.changed.wait_for(&mut commit_state, deadline.remaining(IDLE));
        }
        commit_state.take_commit_failure().map_or(Ok(()), Err)
    }
}

impl Drop for KafkaConsumer {
    /// Commits and leaves in the background. What was read stays valid.
    fn drop(&mut self) {
        self.shared.start_closing();
    }
}

fn consumer_properties(connection: &Connection, settings: &ClientSettings) -> Properties {
    let mut properties = connection.properties.clone();
    properties.set("auto.offset.reset", "earliest");
    properties.set("enable.partition.eof", "false");
    properties.set("topic.metadata.refresh.interval.ms", "10000");
    // A consumer whose prefetch was full should not idle for a second once there is room again.
    properties.set_default("fetch.queue.backoff.ms", "10");
    // A bit that turned on the way would otherwise be handed out as the event's.
    properties.set_default("check.crcs", "true");
    let protocol = settings.kafka.get("group.protocol").or(properties.get("group.protocol"));
    if connection.embedded.is_some() && protocol.is_none_or(|protocol| !protocol.eq_ignore_ascii_case("consumer")) {
        // The mock cluster lets whoever comes after the last member wait for nearly a session's length.
        properties.set_default("session.timeout.ms", "2500");
        properties.set_default("heartbeat.interval.ms", "400");
    }
    if let Some(events) = prefetch(settings) {
        properties.set_default("queued.min.messages", events.to_string());
    }
    let mut properties = properties.overlaid_with(&settings.kafka);
    properties.set("group.id", &*settings.name);
    properties.set("enable.auto.commit", "false");
    properties.set("enable.auto.offset.store", "false");
    properties
}

/// What librdkafka would do that has found nothing committed; "error", for one, is left to it.
fn start_by(policy: Option<&str>) -> i64 {
    let is_one_of = |names: [&str; 3]| policy.is_some_and(|it| names.iter().any(|name| name.eq_ignore_ascii_case(it)));
    if is_one_of(["earliest", "smallest", "beginning"]) {
        OFFSET_BEGINNING
    } else if is_one_of(["latest", "largest", "end"]) {
        OFFSET_END
    } else {
        OFFSET_INVALID
    }
}

/// Events to have at hand, when the batch parameters say so: librdkafka fetches on while it holds fewer.
fn prefetch(settings: &ClientSettings) -> Option<u64> {
    /// With fewer at hand, the next fetch would begin only when the host has nothing left to do.
    const LEAST: u64 = 1_000;
    const MOST: u64 = 10_000_000;
    let has_preference = settings.batch_size != 0 && settings.batch_size != u64::MAX && settings.max_batches != 0;
    has_preference.then(|| settings.batch_size.saturating_mul(settings.max_batches).clamp(LEAST, MOST))
}
