//! The lease on an info topic: how long the creator of an info topic may act on it, and when other
//! creators may delete it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::InfoTopic;
use crate::support::deadline::Deadline;
use crate::support::error::{Error, Kind, Result};

/// How long an info topic without its topic belongs to its creator.
pub const LEASE: Duration = Duration::from_secs(30);

/// The lease of this creator, which has created the info topic.
pub struct Hold {
    since: Instant,
    lease: Duration,
}

impl Hold {
    pub fn begin(lease: Duration) -> Self {
        Hold { since: Instant::now(), lease }
    }

    /// Fails in the second half of the lease: a step that begins there could end after it.
    pub fn check(&self, info_topic: &str) -> Result<()> {
        let held = self.since.elapsed();
        if held < self.lease / 2 {
            return Ok(());
        }
        let reason = format!(
            "its info topic {info_topic:?} was created {} ms ago, so other creators may soon delete it as orphaned: \
             given up; try again",
            held.as_millis()
        );
        Err(Error::new(Kind::Unreachable, reason).retriable(true))
    }

    /// The latest end of a step. The rest of the lease is a margin before others act.
    pub fn end(&self) -> Deadline {
        Deadline::after((self.lease * 5 / 6).saturating_sub(self.since.elapsed()))
    }
}

/// The lease of another creator, estimated from the time of its newest record, or from the moment
/// at which its info topic was first seen.
pub struct WatchedLease {
    length: Duration,
    /// A random delay, so that waiting creators continue one after the other and each sees what the
    /// first of them did. Without it they would delete each other's info topics.
    own_delay: Duration,
    end: Instant,
    /// The number of records that were seen, and the timestamp of the newest one.
    seen: (usize, Option<i64>),
    /// How many times in a row they were the same.
    observations: u32,
}

impl WatchedLease {
    pub fn first_seen(length: Duration) -> Self {
        let own_delay = length / 60 * (uuid::Uuid::new_v4().as_u128() % 100) as u32 / 100;
        WatchedLease { length, own_delay, end: Instant::now() + length + own_delay, seen: (0, None), observations: 0 }
    }

    pub fn observe(&mut self, found: &InfoTopic) {
        let newest = found.records.last().map(|record| record.timestamp);
        self.observations += 1;
        if self.seen == (found.records.len(), newest) {
            return;
        }
        self.observations = 1;
        self.seen = (found.records.len(), newest);
        let age = newest.and_then(|millis| u64::try_from(millis).ok()).map_or(Duration::ZERO, |millis| {
            // A timestamp in the future comes from a clock that is ahead; it counts as now.
            SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(millis)).unwrap_or_default()
        });
        self.end = Instant::now() + self.length.saturating_sub(age) + self.own_delay;
    }

    pub fn remaining(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Requires two equal observations. A single one can be outdated when its response arrives,
    /// since the first request has to connect: another creator may have deleted that info topic
    /// meanwhile and created its own.
    pub fn is_over(&self) -> bool {
        self.observations > 1 && Instant::now() >= self.end
    }
}
