//! Fetches that a broker fails again and again, for a reason that this client does not know.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::flagged::Flagged;

/// For so long they are only logged: most are over by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// librdkafka repeats a failed fetch after `fetch.error.backoff.ms`, half a second by default. If none has failed for so
/// long, fetches succeed again.
const PAUSE: Duration = Duration::from_secs(3);

/// The failed fetches of a consumer.
#[derive(Default)]
pub(super) struct FetchFailures(Flagged<Repeated>);

#[derive(Clone)]
struct Repeated {
    first: Instant,
    latest: Instant,
    error: Error,
}

impl FetchFailures {
    #[cold]
    pub(super) fn add(&self, error: &Error) {
        let latest = Instant::now();
        let earlier = self.0.get().filter(|earlier| earlier.is_recent());
        let first = earlier.map_or(latest, |earlier| earlier.first);
        self.0.set(Repeated { first, latest, error: error.clone() });
    }

    /// The latest one, if fetches have failed for some seconds and still do.
    pub(super) fn persistent(&self) -> Option<Error> {
        let failures = self.0.get().filter(Repeated::is_recent)?;
        (failures.latest - failures.first >= PATIENCE).then_some(failures.error)
    }
}

impl Repeated {
    fn is_recent(&self) -> bool {
        self.latest.elapsed() < PAUSE
    }
}
