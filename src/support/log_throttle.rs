//! A log filter that passes each line once, and its repetitions every 30 s with their count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};
use parking_lot::Mutex;

/// For how long repetitions of a line are counted, not logged.
const INTERVAL: Duration = Duration::from_secs(30);
/// The number of different lines whose repetitions are counted.
const MAX_LINES: usize = 256;

/// Throttles warnings and errors. All clients of a driver share one, since they log the same line
/// when a broker is unreachable. Lines of other levels pass.
pub struct Throttled {
    log: Arc<dyn Log>,
    /// The part of a line that is equal in all lines with the same cause.
    cause_of: fn(&str) -> &str,
    /// The number of lines that were not passed.
    suppressed: AtomicU64,
    repetitions: Mutex<Repetitions>,
}

impl Throttled {
    pub fn new(log: Arc<dyn Log>, cause_of: fn(&str) -> &str) -> Self {
        Throttled { log, cause_of, suppressed: AtomicU64::new(0), repetitions: Mutex::default() }
    }

    /// How many repetitions were not logged.
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }
}

impl Log for Throttled {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if record.level() > Level::Warn {
            return self.log.log(record);
        }
        let line = record.args().to_string();
        // The lock is released before the host's function is called.
        let cause = format!("{} {}", record.level(), (self.cause_of)(&line));
        let passed = self.repetitions.lock().pass(&cause, Instant::now());
        match passed {
            None => {
                self.suppressed.fetch_add(1, Ordering::Relaxed);
            }
            Some(0) => self.log.log(record),
            Some(count) => {
                let (level, target) = (record.level(), record.target());
                let line = format_args!("{line} ({count} more times since it was logged)");
                self.log.log(&Record::builder().level(level).target(target).args(line).build());
            }
        }
    }

    fn flush(&self) {
        self.log.flush();
    }
}

#[derive(Default)]
struct Repetitions(HashMap<String, Repetition>);

struct Repetition {
    logged: Instant,
    /// The number of repetitions since then.
    count: u64,
}

impl Repetitions {
    /// The number of suppressed repetitions, if the line is to be logged now; `None` if it is
    /// suppressed.
    fn pass(&mut self, cause: &str, now: Instant) -> Option<u64> {
        if let Some(known) = self.0.get_mut(cause) {
            if now.saturating_duration_since(known.logged) < INTERVAL {
                known.count += 1;
                return None;
            }
            known.logged = now;
            return Some(std::mem::take(&mut known.count));
        }
        if self.0.len() >= MAX_LINES {
            self.0.retain(|_, known| now.saturating_duration_since(known.logged) < INTERVAL);
        }
        // Above the limit, a line is logged and not remembered.
        if self.0.len() < MAX_LINES {
            self.0.insert(cause.to_owned(), Repetition { logged: now, count: 0 });
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_is_logged_after_the_interval_with_its_count() {
        let mut repetitions = Repetitions::default();
        let start = Instant::now();
        assert_eq!(repetitions.pass("refused", start), Some(0));
        assert_eq!(repetitions.pass("refused", start + Duration::from_secs(1)), None);
        assert_eq!(repetitions.pass("refused", start + Duration::from_secs(29)), None);
        assert_eq!(repetitions.pass("another", start + Duration::from_secs(29)), Some(0));
        assert_eq!(repetitions.pass("refused", start + INTERVAL), Some(2));
        assert_eq!(repetitions.pass("refused", start + INTERVAL * 2), Some(0));
    }

    #[test]
    fn lines_beyond_the_limit_are_logged_and_forgotten() {
        let mut repetitions = Repetitions::default();
        let start = Instant::now();
        for number in 0..MAX_LINES * 2 {
            assert_eq!(repetitions.pass(&number.to_string(), start), Some(0));
        }
        assert_eq!(repetitions.0.len(), MAX_LINES);
        assert_eq!(repetitions.pass("later", start + INTERVAL), Some(0));
        assert_eq!(repetitions.0.len(), 1);
    }

    #[test]
    fn only_warnings_and_errors_are_throttled() {
        struct Lines(Mutex<Vec<String>>);
        impl Log for Lines {
            fn enabled(&self, _: &Metadata) -> bool {
                true
            }
            fn log(&self, record: &Record) {
                self.0.lock().push(format!("{} {}", record.level(), record.args()));
            }
            fn flush(&self) {}
        }
        let lines = Arc::new(Lines(Mutex::default()));
        let log = Throttled::new(lines.clone(), |line| line.split(" after").next().unwrap_or(line));
        for (level, text) in [
            (Level::Info, "same"),
            (Level::Info, "same"),
            (Level::Warn, "refused after 1 ms"),
            (Level::Warn, "refused after 2 ms"),
            (Level::Error, "refused after 3 ms"),
        ] {
            log.log(&Record::builder().level(level).args(format_args!("{text}")).build());
        }
        assert_eq!(log.suppressed(), 1);
        assert_eq!(*lines.0.lock(), ["INFO same", "INFO same", "WARN refused after 1 ms", "ERROR refused after 3 ms"]);
    }
}
