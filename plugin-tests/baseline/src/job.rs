//! The job of one measuring process and its figures. Both are passed as one line of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes of metadata in each event, as JSON.
pub const METADATA: usize = 32;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub side: Side,
    pub bootstrap: String,
    pub topic: String,
    pub partitions: u32,
    /// Bytes of data in each event.
    pub data: usize,
    /// Properties of librdkafka.
    pub kafka: BTreeMap<String, String>,
    /// Whether the topic has no info topic.
    pub is_bare: bool,
    /// Whether the plugin gets metadata as bytes that are serialized already.
    pub is_serialized: bool,
    pub work: Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// librdkafka as published, used the way a C program uses it.
    Baseline,
    /// The same with the plugin's patches.
    Patched,
    /// liboctopus.so, loaded by `dlopen`.
    Plugin,
    /// C++ Octopus, through the C++ Diaspora API.
    CppOctopus,
    /// liboctopus.so, through the C++ Diaspora API.
    ThroughCpp,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Baseline => "baseline",
            Side::Patched => "baseline, patched",
            Side::Plugin => "plugin",
            Side::CppOctopus => "C++ Octopus",
            Side::ThroughCpp => "plugin through C++",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Pushes `events` events as fast as possible from `threads` threads, then flushes.
    Push { events: u64, threads: usize },
    /// Pushes `events` events with at most `window` of them awaiting their delivery.
    PushInWindow { events: u64, window: usize },
    /// Pushes one event at a time and waits for its delivery.
    PushAndWait { times: u64 },
    /// Pushes at a steady rate that does not depend on the deliveries (an open loop).
    PushAtRate { rate: Rate, seconds: u64 },
    /// Pulls `events` events that are in the topic already.
    Pull { events: u64, by: Pulling },
    /// Measures the time from before a push, at a steady rate, to after its pull.
    EndToEnd { per_second: u64, seconds: u64 },
    /// Measures the time from the start of the process to the first delivered event.
    FirstPush,
    /// Measures the time from the start of the process to the first event that is pulled from a
    /// filled topic.
    FirstEvent,
    /// Keeps a producer and a consumer idle.
    Idle { seconds: u64 },
    /// Pushes `events` events while no broker is reachable.
    InFlight { events: u64 },
    /// Keeps a consumer from which nothing is pulled.
    Unread { seconds: u64 },
    /// Holds one event while the rest of the topic is pulled.
    OneHeld { events: u64 },
    /// Creates, uses and closes a producer and a consumer `times` times.
    OpenAndClose { times: u64 },
    /// Lists all topics.
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    PerSecond(u64),
    /// Of the highest rate of librdkafka without Octopus, which the runner measures.
    Percent(u64),
}

impl Rate {
    pub fn per_second(self, fastest: f64) -> u64 {
        match self {
            Rate::PerSecond(rate) => rate,
            Rate::Percent(share) => (fastest * share as f64 / 100.0) as u64,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pulling {
    One,
    Many,
    /// As `Many`, compared with librdkafka's fastest function, `rd_kafka_consume_batch_queue`.
    Batch,
}

/// The result of a measurement. Times are in microseconds, memory is in KiB.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    pub events: u64,
    /// User and system time of all threads.
    pub cpu: f64,
    pub wall: f64,
    /// Growth of the resident memory: its peak, and its value at the end.
    pub peak: u64,
    pub growth: i64,
    /// Growth of the number of threads and of descriptors at the end; in [`Work::Idle`], while the
    /// clients exist.
    pub threads: i64,
    pub descriptors: i64,
    pub times: Option<Times>,
    /// How late the pushes of a steady rate began.
    pub slip: Option<Times>,
}

impl Figures {
    pub fn cpu_per_event(&self) -> f64 {
        self.cpu / self.events.max(1) as f64
    }

    /// Events per second.
    pub fn rate(&self) -> f64 {
        self.events as f64 * 1e6 / self.wall
    }
}

/// A distribution, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub median: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Times {
    pub fn of(mut micros: Vec<f64>) -> Option<Self> {
        micros.sort_by(f64::total_cmp);
        let last = micros.len().checked_sub(1)?;
        let at = |share: f64| micros[(last as f64 * share).round() as usize];
        Some(Times { median: at(0.5), p99: at(0.99), p999: at(0.999), max: micros[last] })
    }
}

/// The bytes of an event's record in Kafka, so that both sides send the same bytes. Their layout is
/// in docs/architecture.md, "The record".
pub struct Event {
    pub record: Vec<u8>,
}

impl Event {
    const HEADER: usize = 16;
    const LENGTH: usize = 8;
    const DATA_AT: usize = Self::HEADER + Self::LENGTH + METADATA;

    pub fn new(data: usize) -> Self {
        let mut record = Vec::with_capacity(Self::DATA_AT + data);
        record.extend_from_slice(&((Self::LENGTH + METADATA) as u64).to_le_bytes());
        record.extend_from_slice(&(data as u64).to_le_bytes());
        record.extend_from_slice(&(METADATA as u64).to_le_bytes());
        record.extend_from_slice(br#"{"detector":7,"frame":123456789}"#);
        // The data of a detector compresses, but not perfectly.
        record.extend((0..data).map(|at| (at * at / 97) as u8));
        Event { record }
    }

    pub fn metadata(&self) -> &[u8] {
        &self.record[Self::HEADER + Self::LENGTH..Self::DATA_AT]
    }

    pub fn data(&self) -> &[u8] {
        &self.record[Self::DATA_AT..]
    }

    /// Writes `number` over the first 8 bytes of the data.
    pub fn stamp(&mut self, number: u64) {
        self.record[Self::DATA_AT..][..8].copy_from_slice(&number.to_le_bytes());
    }

    /// Returns the number at the start of the data of the event in `record`.
    pub fn stamp_in(record: &[u8]) -> u64 {
        Self::stamp_of(record.get(Self::DATA_AT..).unwrap_or_default())
    }

    pub fn stamp_of(data: &[u8]) -> u64 {
        data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_parts_match_record_layout() {
        let mut event = Event::new(16);
        event.stamp(77);
        assert_eq!(event.metadata().len(), METADATA);
        assert!(serde_json::from_slice::<serde_json::Value>(event.metadata()).is_ok());
        assert_eq!((Event::stamp_in(&event.record), Event::stamp_of(event.data())), (77, 77));
        assert_eq!(event.record.len(), 16 + 8 + METADATA + 16);
    }

    #[test]
    fn quantiles_are_elements_of_distribution() {
        let times = Times::of((1..=1000).rev().map(f64::from).collect()).unwrap();
        assert_eq!((times.median, times.p99, times.p999, times.max), (501.0, 990.0, 999.0, 1000.0));
        assert_eq!(Times::of(Vec::new()), None);
    }
}
