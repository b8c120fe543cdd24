//! Fetches that a broker fails again and again, for a reason that this client does not know.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::flagged::Flagged;

/// So many are only logged: some five seconds, since librdkafka repeats a failed fetch after `fetch.error.backoff.ms`, half a
/// second by default. They are counted, because the host may read them long after they happened, and all at once.
const FEW: u32 = 10;
/// If none has been read for so long, fetches succeed again.
const PAUSE: Duration = Duration::from_secs(3);
/// Failures with longer pauses between them are not of one cause.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The failed fetches of a consumer.
#[derive(Default)]
pub(super) struct FetchFailures(Flagged<Repeated>);

#[derive(Clone)]
struct Repeated {
    count: u32,
    latest: Instant,
    error: Error,
}

impl FetchFailures {
    #[cold]
    pub(super) fn add(&self, error: &Error) {
        let earlier = self.0.get().filter(|earlier| earlier.latest.elapsed() < FORGOTTEN);
        let count = earlier.map_or(0, |earlier| earlier.count);
        self.0.set(Repeated { count: count.saturating_add(1), latest: Instant::now(), error: error.clone() });
    }

    /// The latest one, if fetches have failed for some seconds and still do.
    pub(super) fn persistent(&self) -> Option<Error> {
        let failures = self.0.get().filter(|failures| failures.count >= FEW && failures.latest.elapsed() < PAUSE)?;
        Some(failures.error)
    }
}
