//! librdkafka's consumer: a member of a group, or a reader of the partitions that the host names.
//! The host's threads read the records.
//!
//! A thread of the plugin, the consumer thread, serves rebalances, commits and errors, so that an
//! idle host keeps its partitions. Records take another path: each assigned partition's queue is
//! forwarded to the data queue, which the host's threads read in batches. One lock protects the
//! batch and the data queue. The consumer thread holds it during a rebalance, so that no record of
//! a revoked partition is returned afterwards.

mod commit_state;
mod committing;
mod consumer_thread;
mod damage;
mod fetch_failures;
mod queries;
mod reading;
mod rebalance;
mod topic_identity;
mod transaction;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::bindings as rd;

use commit_state::CommitState;
use fetch_failures::FetchFailures;
use topic_identity::TopicIdRequest;
pub use transaction::{ConsumerInTransaction, PositionsOfGroup};

use super::Connection;
use super::client::{Client, ClientRole, IDLE};
use super::stats::StatsSources;
use super::transactions_unsupported;
use crate::config::{ClientSettings, Properties};
use crate::kafka::librdkafka::conf;
use crate::kafka::librdkafka::message::Message;
use crate::kafka::librdkafka::pinned_responses::PinnedResponses;
use crate::kafka::librdkafka::queue::Queue;
use crate::kafka::librdkafka::record::RawRecord;
use crate::kafka::librdkafka::text::c_string;
use crate::positions::Positions;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};
use crate::support::flagged::Flagged;
use crate::support::threads::spawn;

/// Makes librdkafka request the committed offset of the group.
const OFFSET_INVALID: i64 = rd::RD_KAFKA_OFFSET_INVALID as i64;
const OFFSET_BEGINNING: i64 = rd::RD_KAFKA_OFFSET_BEGINNING as i64;
const OFFSET_END: i64 = rd::RD_KAFKA_OFFSET_END as i64;

/// A consumer of one topic.
pub struct KafkaConsumer {
    shared: Arc<Shared>,
}

struct Shared {
    topic: String,
    c_topic: CString,
    group: String,
    /// The partitions that the host named; if none, the group assigns them.
    targets: Vec<u32>,
    /// Where to start if nothing is committed: one of librdkafka's logical offsets.
    start: i64,
    /// Whether reading stops at damaged records instead of skipping them.
    stops_at_damage: bool,
    positions: Arc<Positions>,
    /// Messages from librdkafka that no reader has taken yet. Dropped before the client.
    batch: Mutex<VecDeque<Message>>,
    /// Set while the consumer thread wants the batch's lock: readers release it.
    rebalancing: AtomicBool,
    closing: AtomicBool,
    /// Whether reading has ended although the consumer is not closed.
    unsubscribed: AtomicBool,
    commit_state: Mutex<CommitState>,
    /// Signals changes of `commit_state`.
    changed: Condvar,
    /// An error that lasts until somebody changes something: each pull reports it until a record
    /// arrives.
    persistent_error: Flagged<Error>,
    fetch_failures: FetchFailures,
    topic_id_request: Mutex<TopicIdRequest>,
    /// An error that the next read reports once.
    pending_error: Flagged<Error>,
    /// Whether an open transaction of a producer has this consumer.
    is_in_transaction: AtomicBool,
    /// When the last broker became unreachable, unless one is reachable.
    unreachable_since: Flagged<Instant>,
    /// How long brokers may be unreachable before pulls report it.
    timeout: Duration,
    /// Assignments and revocations.
    rebalances: AtomicU64,
    /// The assigned partitions whose committed offsets are not known.
    unknown_commits: Mutex<BTreeSet<u32>>,
    /// Of the driver.
    stats: Arc<StatsSources>,
    responses: PinnedResponses,
    /// The queue of messages.
    data: Queue,
    /// The queue of the consumer thread.
    events: Queue,
    client: Client,
}

impl KafkaConsumer {
    /// Joins the group that the settings name, or assigns the partitions that they name, and starts
    /// fetching.
    pub fn open(connection: &Connection, topic: &str, settings: &ClientSettings) -> Result<Self> {
        let positions = match settings.commits_in_transactions {
            false => Positions::default(),
            true if connection.embedded.is_some() => return Err(transactions_unsupported("commits")),
            true => Positions::in_transactions(),
        };
        let properties = consumer_properties(connection, settings);
        if settings.commits_in_transactions {
            check_isolation(&properties)?;
        }
        let overridden = ["enable.auto.commit", "enable.auto.offset.store"]
            .into_iter()
            .filter(|key| settings.kafka.get(key).or(connection.properties.get(key)).is_some_and(|v| v == "true"));
        let start = start_offset(properties.get("auto.offset.reset"));
        // Pinned responses may take as much memory as the prefetched messages.
        let config = conf::native(&properties)?;
        let max_pinned = conf::effective_number(&config, "queued.max.messages.kbytes")?.saturating_mul(1024);
        let max_pinned = usize::try_from(max_pinned).unwrap_or(usize::MAX);
        let client = Client::new(connection, ClientRole::Consumer, &settings.name, properties)?;
        for key in overridden {
            log::warn!(
                logger: client.log(), target: &client.name(),
                "kafka.{key} is ignored: positions are committed by acknowledgement only"
            );
        }
        if connection.properties.get("auto.offset.reset").is_some() && settings.kafka.get("auto.offset.reset").is_none()
        {
            log::warn!(
                logger: client.log(), target: &client.name(),
                "kafka.auto.offset.reset of the driver is ignored: it is an option of a consumer"
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
            positions: Arc::new(positions),
            batch: Mutex::default(),
            rebalancing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            unsubscribed: AtomicBool::new(false),
            commit_state: Mutex::default(),
            changed: Condvar::new(),
            persistent_error: Flagged::default(),
            fetch_failures: FetchFailures::default(),
            topic_id_request: Mutex::new(TopicIdRequest::new(connection.embedded.is_none())),
            pending_error: Flagged::default(),
            is_in_transaction: AtomicBool::new(false),
            unreachable_since: Flagged::default(),
            timeout: connection.timeout,
            rebalances: AtomicU64::new(0),
            unknown_commits: Mutex::default(),
            stats: connection.stats.clone(),
            responses: PinnedResponses::new(max_pinned, &client.handle),
            data: Queue::new(&client.handle)?,
            events,
            client,
        });
        let described: Weak<Shared> = Arc::downgrade(&shared);
        connection.stats.add_consumer(described);
        if shared.targets.is_empty() {
            shared.subscribe()?;
        }
        let served = shared.clone();
        spawn("octopus-consumer", move || served.run())?;
        Ok(KafkaConsumer { shared })
    }

    /// The next record; `None` if `interrupted` returns true, which [`wake`](Self::wake) makes a
    /// sleeping reader check; `TimedOut` at the deadline. Skipped records are an error once, then
    /// reading goes on.
    pub fn next(&self, deadline: Deadline, interrupted: impl Fn() -> bool) -> Result<Option<RawRecord<'_>>> {
        self.shared.next(deadline, interrupted)
    }

    /// The next record if it is available already. Neither waits nor reads the clock.
    pub fn try_next(&self) -> Option<Result<RawRecord<'_>>> {
        self.shared.try_next()
    }

    /// Reads the records that are available, at most `max_records`, without waiting. Returns the
    /// error that follows them, if there is one.
    pub fn read_available<'a>(&'a self, max_records: usize, records: &mut Vec<RawRecord<'a>>) -> Option<Error> {
        self.shared.read_available(max_records, records)
    }

    /// Wakes a sleeping reader, which then checks `interrupted`.
    pub fn wake(&self) {
        self.shared.data.wake();
    }

    /// The next offset of an assigned partition.
    pub fn position(&self, partition: u32, limit: Deadline) -> Result<u64> {
        self.shared.position(partition, limit)
    }

    /// The committed offset of the group; `None` if nothing is committed.
    pub fn committed(&self, partition: u32, limit: Deadline) -> Result<Option<u64>> {
        self.shared.committed(partition, limit)
    }

    /// The low and the high watermark of a partition.
    pub fn offsets(&self, partition: u32, limit: Deadline) -> Result<(u64, u64)> {
        self.shared.offsets(partition, limit)
    }

    /// Continues at this offset. Calls `forget` when no record that was read before can be returned
    /// any more.
    pub fn seek(&self, partition: u32, offset: u64, limit: Deadline, forget: impl FnOnce()) -> Result<()> {
        self.shared.seek(partition, offset, limit, forget)
    }

    /// Commits, gives up the partitions, leaves the group, and waits until that is done.
    pub fn unsubscribe(&self, limit: Deadline) -> Result<()> {
        self.shared.unsubscribe(limit)
    }

    /// Starts to commit and leave in the background. Waiting pulls return. Records that were read
    /// stay valid.
    pub fn start_closing(&self) {
        self.shared.start_closing();
    }

    /// The positions, in which events are acknowledged. They outlive the client.
    pub fn positions(&self) -> &Arc<Positions> {
        &self.shared.positions
    }

    /// Commits what was acknowledged before this call, and waits for the result.
    pub fn commit(&self, deadline: Deadline) -> Result<()> {
        if self.shared.positions.are_in_transactions() {
            let reason = "transactions commit the positions of this consumer, by its option \"commits\"";
            return Err(Error::invalid(reason));
        }
        self.shared.commit(deadline)
    }

    /// Commits, leaves the group, and waits until that is done. After the deadline it continues in
    /// the background.
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
    /// Commits and leaves in the background. Records that were read stay valid.
    fn drop(&mut self) {
        self.shared.start_closing();
    }
}

fn consumer_properties(connection: &Connection, settings: &ClientSettings) -> Properties {
    let mut properties = connection.properties.clone();
    properties.set("auto.offset.reset", "earliest");
    properties.set("enable.partition.eof", "false");
    properties.set("topic.metadata.refresh.interval.ms", "10000");
    // A consumer whose prefetch queue was full should not idle for the default of 1 s once it has
    // space.
    properties.set_default("fetch.queue.backoff.ms", "10");
    // Otherwise a bit that flipped in transit would be returned as the event's data.
    properties.set_default("check.crcs", "true");
    let protocol = settings.kafka.get("group.protocol").or(properties.get("group.protocol"));
    if connection.embedded.is_some() && protocol.is_none_or(|protocol| !protocol.eq_ignore_ascii_case("consumer")) {
        // In the mock cluster, a consumer that joins after the last member has left waits for
        // nearly the whole session timeout.
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

/// A consumer of uncommitted records also starts at offsets that are not committed yet, and those
/// of a transaction that is aborted later would be wrong.
fn check_isolation(properties: &Properties) -> Result<()> {
    match properties.get("isolation.level") {
        Some(level) if level.eq_ignore_ascii_case("read_uncommitted") => {
            let expected = format_args!("{level} does not fit \"commits\": \"transaction\"; expected read_committed");
            Err(Error::configuration("kafka.isolation.level", expected))
        }
        _ => Ok(()),
    }
}

/// The logical offset of `auto.offset.reset`; other policies, such as "error", are left to
/// librdkafka.
fn start_offset(policy: Option<&str>) -> i64 {
    let is_one_of =
        |names: [&str; 3]| policy.is_some_and(|policy| names.iter().any(|name| name.eq_ignore_ascii_case(policy)));
    if is_one_of(["earliest", "smallest", "beginning"]) {
        OFFSET_BEGINNING
    } else if is_one_of(["latest", "largest", "end"]) {
        OFFSET_END
    } else {
        OFFSET_INVALID
    }
}

/// The number of events to prefetch, if the batch parameters give it: librdkafka fetches while it
/// holds fewer.
fn prefetch(settings: &ClientSettings) -> Option<u64> {
    /// With fewer, the next fetch would start only when the host has no record left.
    const MIN_EVENTS: u64 = 1_000;
    const MAX_EVENTS: u64 = 10_000_000;
    let has_preference = settings.batch_size != 0 && settings.batch_size != u64::MAX && settings.max_batches != 0;
    has_preference.then(|| settings.batch_size.saturating_mul(settings.max_batches).clamp(MIN_EVENTS, MAX_EVENTS))
}
