//! The end of a wait: a point in time, or never. Every wait in Octopus is given one.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    pub const NEVER: Deadline = Deadline(None);

    pub fn after(time: Duration) -> Self {
        // A time too long for the clock is as good as never.
        Deadline(Instant::now().checked_add(time))
    }

    /// Milliseconds as hosts give them: negative waits for ever, 0 only looks.
    pub fn from_millis(timeout_ms: i64) -> Self {
        match u64::try_from(timeout_ms) {
            Ok(milliseconds) => Deadline::after(Duration::from_millis(milliseconds)),
            Err(_) => Deadline::NEVER,
        }
    }

    pub fn sooner(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }

    /// What is left, at most `slice`; zero when the time has passed.
    pub fn remaining(&self, slice: Duration) -> Duration {
        match self.0 {
            None => slice,
            Some(end) => end.saturating_duration_since(Instant::now()).min(slice),
        }
    }

    pub fn has_passed(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    pub fn instant(&self) -> Option<Instant> {
        self.0
    }
}

/// Whole milliseconds for librdkafka, rounded up so that a wait of some microseconds does not become a busy loop.
pub fn as_millis_rounded_up(time: Duration) -> i32 {
    i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}
