//! The figures of a driver.

use std::time::Duration;

use crate::abi::octopus_stats;

/// The figures of a driver at one moment. Counters only grow, from the creation of the driver on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// In all producers.
    pub events_in_flight: u64,
    /// Of metadata, data and their sizes, in all producers.
    pub bytes_in_flight: u64,
    /// The age of the oldest event that librdkafka has and whose result is not reported.
    pub oldest_event: Option<Duration>,
    /// Counter: delivered events.
    pub delivered: u64,
    /// Counter: bytes of the delivered events.
    pub delivered_bytes: u64,
    /// Counter: events whose failure was reported.
    pub failed: u64,
    /// How long the delivered events took.
    pub latency: Latency,
    /// Of all assigned partitions together, in offsets, once it is known.
    pub lag: Option<u64>,
    /// Counter: assignments and revocations of partitions.
    pub rebalances: u64,
    /// Counter: requests to brokers that were repeated.
    pub retries: u64,
    /// Counter: requests to brokers without a response in time.
    pub request_timeouts: u64,
    /// Counter: bytes sent to brokers.
    pub sent_bytes: u64,
    /// Counter: bytes received from brokers.
    pub received_bytes: u64,
    /// Counter: attempts to connect to brokers.
    pub connects: u64,
    /// Counter: lost and closed connections.
    pub disconnects: u64,
    /// The age of the oldest token in use.
    pub token_age: Option<Duration>,
    /// Kafka clients.
    pub clients: u64,
    /// librdkafka's threads, and one of the plugin for each client.
    pub threads: u64,
    /// Open connections to brokers.
    pub connections: u64,
    /// Counter: repeated warnings and errors that were not logged.
    pub suppressed_log_lines: u64,
}

/// From the moment at which an event was sent to its delivery report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Half of the events took at most this long.
    pub p50: Duration,
    /// 90 % of the events took at most this long.
    pub p90: Duration,
    /// 99 % of the events took at most this long.
    pub p99: Duration,
    /// The longest time.
    pub max: Duration,
}

impl Stats {
    pub(crate) fn new(stats: &octopus_stats) -> Self {
        let known = |figure: i64| u64::try_from(figure).ok();
        let millis = Duration::from_millis;
        Stats {
            events_in_flight: stats.events_in_flight,
            bytes_in_flight: stats.bytes_in_flight,
            oldest_event: known(stats.oldest_event_ms).map(millis),
            delivered: stats.delivered,
            delivered_bytes: stats.delivered_bytes,
            failed: stats.failed,
            latency: Latency {
                p50: millis(stats.latency_p50_ms),
                p90: millis(stats.latency_p90_ms),
                p99: millis(stats.latency_p99_ms),
                max: millis(stats.latency_max_ms),
            },
            lag: known(stats.lag),
            rebalances: stats.rebalances,
            retries: stats.retries,
            request_timeouts: stats.request_timeouts,
            sent_bytes: stats.sent_bytes,
            received_bytes: stats.received_bytes,
            connects: stats.connects,
            disconnects: stats.disconnects,
            token_age: known(stats.token_age_ms).map(millis),
            clients: stats.clients,
            threads: stats.threads,
            connections: stats.connections,
            suppressed_log_lines: stats.suppressed_log_lines,
        }
    }
}
