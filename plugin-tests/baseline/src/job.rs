//! What one process measures, and what it tells of it: a line of JSON each way.

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
    /// Properties of librdkafka's.
    pub kafka: BTreeMap<String, String>,
    /// Whether the topic is one without an info topic.
    pub is_bare: bool,
    pub work: Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// librdkafka alone, from C's point of view, as it is published.
    Baseline,
    /// The same with the patches that the plugin has.
    Patched,
    /// liboctopus.so, opened by `dlopen`.
    Plugin,
    /// C++ Octopus, through the C++ Diaspora API.
    CppOctopus,
    /// liboctopus.so, through the same.
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
    /// So many events as fast as they go, by so many threads, then a flush.
    Push { events: u64, threads: usize },
    /// So many, of which never more than `window` wait for their delivery.
    PushInWindow { events: u64, window: usize },
    /// One at a time, each waited for.
    PushAndWait { times: u64 },
    /// At a steady rate, whatever the deliveries do.
    PushAtRate { rate: Rate, seconds: u64 },
    /// So many events that are there already.
    Pull { events: u64, by: Pulling },
    /// From before a push at a steady rate to after the pull.
    EndToEnd { per_second: u64, seconds: u64 },
    /// From nothing to the first event that is known to be delivered.
    FirstPush,
    /// From nothing to the first event that is there already.
    FirstEvent,
    /// A producer and a consumer of which nobody wants anything.
    Idle { seconds: u64 },
    /// So many events that no broker takes.
    InFlight { events: u64 },
    /// A consumer that nobody reads.
    Unread { seconds: u64 },
    /// One event that is held while the rest of the topic is read.
    OneHeld { events: u64 },
    /// A producer and a consumer made, used and closed, so many times.
    OpenAndClose { times: u64 },
    /// All topics that there are.
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    PerSecond(u64),
    /// Of what librdkafka alone reaches with nothing to slow it down; the runner knows how much that is.
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
    /// As many, against librdkafka's fastest way.
    Batch,
}

/// What was measured. Times are in microseconds, memory in KiB.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    pub events: u64,
    /// User and system time of all threads.
    pub cpu: f64,
    pub wall: f64,
    /// Resident memory beyond what there was before: at its highest, and at the end.
    pub peak: u64,
    pub growth: i64,
    /// Beyond what there was before, at the end; of clients, while they were there.
    pub threads: i64,
    pub descriptors: i64,
    pub times: Option<Times>,
    /// How late pushes at a steady rate began.
    pub slip: Option<Times>,
}

impl Figures {
    pub fn cpu_per_event(&self) -> f64 {
        self.cpu / self.events.max(1) as f64
    }

    /// Events in a second.
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

/// An event's bytes as they are in Kafka, so that both sides send the same: the layout of docs/architecture.md, "The record".
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
        // What a detector sends compresses neither perfectly nor not at all.
        record.extend((0..data).map(|at| (at * at / 97) as u8));
        Event { record }
    }

    pub fn metadata(&self) -> &[u8] {
        &self.record[Self::HEADER + Self::LENGTH..Self::DATA_AT]
    }

    pub fn data(&self) -> &[u8] {
        &self.record[Self::DATA_AT..]
    }

    /// Puts a number in front of the data.
    pub fn stamp(&mut self, number: u64) {
        self.record[Self::DATA_AT..][..8].copy_from_slice(&number.to_le_bytes());
    }

    /// The number in front of an event's data, by its record.
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
    fn an_events_parts_are_where_the_layout_says() {
        let mut event = Event::new(16);
        event.stamp(77);
        assert_eq!(event.metadata().len(), METADATA);
        assert!(serde_json::from_slice::<serde_json::Value>(event.metadata()).is_ok());
        assert_eq!((Event::stamp_in(&event.record), Event::stamp_of(event.data())), (77, 77));
        assert_eq!(event.record.len(), 16 + 8 + METADATA + 16);
    }

    #[test]
    fn a_distributions_figures_are_elements_of_it() {
        let times = Times::of((1..=1000).rev().map(f64::from).collect()).unwrap();
        assert_eq!((times.median, times.p99, times.p999, times.max), (501.0, 990.0, 999.0, 1000.0));
        assert_eq!(Times::of(Vec::new()), None);
    }
}
