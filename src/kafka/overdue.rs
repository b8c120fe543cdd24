//! When events in flight are overdue, and what becomes of them then.
//!
//! librdkafka has a time-out of its own for this, and it can double events: when one of them is over it takes on a new producer
//! epoch, and sends what is left of a batch, or of the batches behind it, once more under that epoch, although a broker that
//! was slow to answer may have stored them under the old one and can't tell that they are the same. So librdkafka is told to
//! wait for ever, and the time-out is kept here: the push fails, its event stays where it is in the order of
//! the others, and is delivered once if a broker takes it before the producer ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Properties;
use crate::error::{Error, Result};
use crate::future::Future;

/// What becomes of an event whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// Its push fails, and it may be delivered later: nothing is doubled.
    Kept,
    /// librdkafka drops it, so that it isn't delivered later, unless it is stored already.
    Dropped,
}

/// Events in the order in which they were given to librdkafka, with the time.
pub struct Watch {
    pub topic: String,
    pub limit: Duration,
    events: Mutex<VecDeque<Watched>>,
}

pub struct Watched {
    since: Instant,
    pub partition: u32,
    pub future: Arc<Future>,
}

/// How long librdkafka waits for the answer to a request, unless the user says otherwise.
const DEFAULT_REQUEST_LIMIT: Duration = Duration::from_secs(60);
const SHORTEST_REQUEST_LIMIT: Duration = Duration::from_secs(1);

impl Watch {
    /// Takes the time-out out of librdkafka's hands; `None` if there is none.
    pub fn in_place_of_librdkafka(properties: &mut Properties, topic: &str) -> Result<Option<Self>> {
        let name = "delivery.timeout.ms";
        // CONFIGURATION.md's default.
        let given = properties.get(name).unwrap_or("300000");
        let limit: u64 = given.parse().map_err(|_| {
            Error::configuration(
                format_args!("kafka.{name}"),
                format_args!("{given:?} is not a number of milliseconds"),
            )
        })?;
        properties.set(name, "0");
        if limit == 0 {
            return Ok(None);
        }
        let limit = Duration::from_millis(limit);
        // A connection on which nothing is answered is given up, and its requests are made again, when an event's time is over at
        // the latest.
        let request_limit = limit.clamp(SHORTEST_REQUEST_LIMIT, DEFAULT_REQUEST_LIMIT);
        properties.set_default("socket.timeout.ms", request_limit.as_millis().to_string());
        Ok(Some(Watch { topic: topic.to_owned(), limit, events: Mutex::default() }))
    }

    /// librdkafka has the event from now on.
    pub fn begin(&self, partition: u32, future: &Arc<Future>) {
        let watched = Watched { since: Instant::now(), partition, future: future.clone() };
        self.events.lock().push_back(watched);
    }

    /// How long nothing will be overdue.
    pub fn until_next(&self) -> Duration {
        let mut events = self.events.lock();
        forget_settled(&mut events);
        let oldest = events.front().map_or(Duration::ZERO, |oldest| oldest.since.elapsed());
        self.limit.saturating_sub(oldest)
    }

    /// Takes what is overdue.
    pub fn take_overdue(&self) -> Vec<Watched> {
        let mut events = self.events.lock();
        let mut overdue = Vec::new();
        loop {
            forget_settled(&mut events);
            match events.front() {
                Some(oldest) if oldest.since.elapsed() >= self.limit => overdue.extend(events.pop_front()),
                _ => return overdue,
            }
        }
    }
}

fn forget_settled(events: &mut VecDeque<Watched>) {
    while events.front().is_some_and(|oldest| oldest.future.is_settled()) {
        events.pop_front();
    }
}
