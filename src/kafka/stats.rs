//! The statistics of a driver: of its producers, its consumers and its connections. They are always
//! on, and reading them contacts no broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Serialize;

use super::librdkafka::handle::{Counters, Handle, LastCounters};
use super::{Connection, Resources};
use crate::delivery::in_flight::Usage;
use crate::delivery::totals::{Deliveries, DeliveryTotals};

/// The statistics at one moment. The names are those of the JSON, docs/reference/statistics.md.
#[derive(Debug, Serialize)]
pub struct Stats {
    pub events_in_flight: u64,
    pub bytes_in_flight: u64,
    /// `None` if no event is in flight.
    pub oldest_event_ms: Option<u64>,
    #[serde(flatten)]
    pub deliveries: Deliveries,
    /// Of all assigned partitions whose lag is known; `None` if it is known of none.
    pub lag: Option<u64>,
    pub rebalances: u64,
    #[serde(flatten)]
    pub counters: Counters,
    /// The age of the oldest token that a client uses; `None` without tokens.
    pub token_age_ms: Option<u64>,
    #[serde(flatten)]
    pub resources: Resources,
    pub suppressed_log_lines: u64,
    pub producers: Vec<ProducerStats>,
    pub consumers: Vec<ConsumerStats>,
}

#[derive(Debug, Serialize)]
pub struct ProducerStats {
    pub name: String,
    pub topic: String,
    pub events_in_flight: u64,
    pub bytes_in_flight: u64,
    pub oldest_event_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct ConsumerStats {
    pub name: String,
    pub topic: String,
    pub rebalances: u64,
    /// The assigned ones.
    pub partitions: BTreeMap<u32, PartitionStats>,
}

#[derive(Debug, Serialize)]
pub struct PartitionStats {
    /// The next offset to be read, once it is known.
    pub position: Option<u64>,
    /// The offsets from the position to the end, as of the last response of a broker.
    pub lag: Option<u64>,
}

/// A producer or consumer that is open.
pub trait Describe<T>: Send + Sync {
    fn stats(&self) -> T;
}

/// What the statistics of one driver are made from.
#[derive(Default)]
pub struct StatsSources {
    pub deliveries: Arc<DeliveryTotals>,
    /// Assignments and revocations of all consumers.
    pub rebalances: AtomicU64,
    producers: Mutex<Vec<Weak<dyn Describe<ProducerStats>>>>,
    consumers: Mutex<Vec<Weak<dyn Describe<ConsumerStats>>>>,
}

impl StatsSources {
    pub fn add_producer(&self, producer: Weak<dyn Describe<ProducerStats>>) {
        add(&self.producers, producer);
    }

    pub fn add_consumer(&self, consumer: Weak<dyn Describe<ConsumerStats>>) {
        add(&self.consumers, consumer);
    }
}

/// Adds an object, and forgets those that are gone.
fn add<T: ?Sized>(to: &Mutex<Vec<Weak<T>>>, object: Weak<T>) {
    let mut all = to.lock();
    all.retain(|known| known.strong_count() > 0);
    all.push(object);
}

/// Calls the objects without the lock, since the last reference of one may be dropped here.
fn describe<T>(all: &Mutex<Vec<Weak<dyn Describe<T>>>>) -> Vec<T> {
    let open: Vec<_> = all.lock().iter().filter_map(Weak::upgrade).collect();
    open.iter().map(|object| object.stats()).collect()
}

impl Connection {
    pub fn stats(&self) -> Stats {
        let producers = describe(&self.stats.producers);
        let consumers = describe(&self.stats.consumers);
        let lags = consumers.iter().flat_map(|consumer| consumer.partitions.values().filter_map(|one| one.lag));
        Stats {
            events_in_flight: producers.iter().map(|producer| producer.events_in_flight).sum(),
            bytes_in_flight: producers.iter().map(|producer| producer.bytes_in_flight).sum(),
            oldest_event_ms: producers.iter().filter_map(|producer| producer.oldest_event_ms).max(),
            deliveries: self.stats.deliveries.read(),
            lag: lags.reduce(u64::saturating_add),
            rebalances: self.stats.rebalances.load(Ordering::Relaxed),
            counters: self.clients.counters(),
            token_age_ms: self.clients.token_age_ms(),
            resources: self.clients.resources(),
            suppressed_log_lines: self.throttle.suppressed(),
            producers,
            consumers,
        }
    }
}

impl ProducerStats {
    pub fn new(name: &str, topic: &str, usage: Usage) -> Self {
        ProducerStats {
            name: name.to_owned(),
            topic: topic.to_owned(),
            events_in_flight: usage.events,
            bytes_in_flight: usage.bytes,
            oldest_event_ms: usage.oldest.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// The clients of one driver, and the counters of those that have ended.
#[derive(Default)]
pub struct Clients(Mutex<KnownClients>);

#[derive(Default)]
struct KnownClients {
    known: Vec<KnownClient>,
    /// Of the clients that are not in `known` any more.
    ended: Counters,
}

struct KnownClient {
    handle: Weak<Handle>,
    /// As of the last time that they were read. They outlive the client, so that sums never shrink.
    counters: Arc<LastCounters>,
}

impl Clients {
    pub(super) fn add(&self, handle: &Arc<Handle>) {
        let mut clients = self.0.lock();
        clients.forget_ended();
        clients.known.push(KnownClient { handle: Arc::downgrade(handle), counters: handle.last_counters() });
    }

    pub fn resources(&self) -> Resources {
        const SERVING_THREAD: usize = 1;
        let handles = self.open();
        Resources {
            clients: handles.len(),
            threads: handles.iter().map(|handle| handle.threads() + SERVING_THREAD).sum(),
            connections: handles.iter().map(|handle| handle.connections()).sum(),
        }
    }

    fn open(&self) -> Vec<Arc<Handle>> {
        self.0.lock().known.iter().filter_map(|client| client.handle.upgrade()).collect()
    }

    fn counters(&self) -> Counters {
        let open = self.open();
        open.iter().for_each(|handle| handle.read_counters());
        let mut clients = self.0.lock();
        clients.forget_ended();
        clients.known.iter().fold(clients.ended, |sum, client| sum + client.counters.get().0)
    }

    fn token_age_ms(&self) -> Option<u64> {
        self.open().into_iter().filter_map(|handle| handle.token_age_ms()).max()
    }
}

impl KnownClients {
    fn forget_ended(&mut self) {
        let ended = &mut self.ended;
        self.known.retain(|client| match client.counters.get() {
            (last, true) => {
                *ended = *ended + last;
                false
            }
            (_, false) => true,
        });
    }
}
