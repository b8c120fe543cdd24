//! A workaround for a broker error while fetching: errors of fetch requests that this client has no
//! special handling for are logged, and reported to the host once they persist. librdkafka retries
//! them for ever.

use std::time::{Duration, Instant};

use crate::support::error::Error;
use crate::support::flagged::Flagged;

/// The number of failures that are only logged. This takes some five seconds, since librdkafka
/// retries a failed fetch after `fetch.error.backoff.ms`, 0.5 s by default. Failures are counted
/// instead of timed because the host may read them all at once, long after they happened.
const MAX_LOGGED_FAILURES: u32 = 10;
/// Fetches succeed again if no failure was read for this long.
const RECOVERED_AFTER: Duration = Duration::from_secs(3);
/// Failures that are further apart have different causes.
const UNRELATED_AFTER: Duration = Duration::from_secs(60);

/// The failed fetches of a consumer.
#[derive(Default)]
pub(super) struct FetchFailures(Flagged<RepeatedFailure>);

#[derive(Clone)]
struct RepeatedFailure {
    count: u32,
    latest: Instant,
    error: Error,
}

impl FetchFailures {
    /// Counts a failed fetch.
    #[cold]
    pub(super) fn add(&self, error: &Error) {
        let earlier = self.0.get().filter(|earlier| earlier.latest.elapsed() < UNRELATED_AFTER);
        let count = earlier.map_or(0, |earlier| earlier.count);
        self.0.set(RepeatedFailure { count: count.saturating_add(1), latest: Instant::now(), error: error.clone() });
    }

    /// The latest failure, if fetches have failed for some seconds and still do.
    pub(super) fn persistent(&self) -> Option<Error> {
        let failures = self
            .0
            .get()
            .filter(|failures| failures.count >= MAX_LOGGED_FAILURES && failures.latest.elapsed() < RECOVERED_AFTER)?;
        Some(failures.error)
    }
}
