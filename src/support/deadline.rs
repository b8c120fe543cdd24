//! Deadlines: a point in time, or never. Every wait in Octopus has one.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub struct Deadline(End);

#[derive(Debug, Clone, Copy)]
enum End {
    /// No wait at all, so the clock is not read.
    Passed,
    At(Instant),
    Never,
}

impl Deadline {
    pub(crate) const PASSED: Deadline = Deadline(End::Passed);
    pub const NEVER: Deadline = Deadline(End::Never);

    pub fn after(time: Duration) -> Self {
        Deadline::since(Instant::now(), time)
    }

    fn since(start: Instant, time: Duration) -> Self {
        // A duration beyond the range of the clock is the same as no deadline.
        Deadline(start.checked_add(time).map_or(End::Never, End::At))
    }

    /// From a timeout of the ABI in milliseconds: negative waits for ever, 0 does not wait.
    pub fn from_millis(timeout_ms: i64) -> Self {
        Deadline::from_millis_since(timeout_ms, Instant::now)
    }

    /// As [`from_millis`](Self::from_millis), from the time that `start` returns.
    pub fn from_millis_since(timeout_ms: i64, start: impl FnOnce() -> Instant) -> Self {
        match u64::try_from(timeout_ms) {
            Ok(0) => Deadline::PASSED,
            Ok(milliseconds) => Deadline::since(start(), Duration::from_millis(milliseconds)),
            Err(_) => Deadline::NEVER,
        }
    }

    /// The earlier of two deadlines.
    pub fn sooner(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (End::Passed, _) | (_, End::Passed) => Deadline::PASSED,
            (End::Never, _) => other,
            (_, End::Never) => self,
            (End::At(a), End::At(b)) => Deadline(End::At(a.min(b))),
        }
    }

    /// This deadline, or the one after `time` if that is later.
    pub fn no_sooner_than(self, time: Duration) -> Deadline {
        if self.remaining(time) < time { Deadline::after(time) } else { self }
    }

    /// The remaining time, at most `slice`; zero after the deadline.
    pub fn remaining(&self, slice: Duration) -> Duration {
        match self.0 {
            End::Passed => Duration::ZERO,
            End::At(end) => end.saturating_duration_since(Instant::now()).min(slice),
            End::Never => slice,
        }
    }

    pub fn has_passed(&self) -> bool {
        match self.0 {
            End::Passed => true,
            End::At(end) => Instant::now() >= end,
            End::Never => false,
        }
    }

    /// The point in time; `None` for never.
    pub fn instant(&self) -> Option<Instant> {
        match self.0 {
            End::Passed => Some(Instant::now()),
            End::At(end) => Some(end),
            End::Never => None,
        }
    }

    pub fn is_never(&self) -> bool {
        matches!(self.0, End::Never)
    }
}

/// A point in time with a resolution of some milliseconds, cheap enough for each event:
/// `CLOCK_MONOTONIC_COARSE` returns the time of the last timer tick, at a fraction of the cost of
/// `Instant::now()`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    millis: u64,
}

impl Moment {
    pub fn now() -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a writable local. The call can't fail, since Linux has this clock.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
        Moment { millis: time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000 }
    }

    #[cfg(test)]
    pub fn of_millis(millis: u64) -> Self {
        Moment { millis }
    }

    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.millis.saturating_sub(earlier.millis))
    }
}

/// Milliseconds for librdkafka, rounded up: rounded down, a wait of microseconds would become a
/// busy loop.
pub fn as_millis_rounded_up(time: Duration) -> i32 {
    i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}
