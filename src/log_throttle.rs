//! A log that passes each line once, and its repetitions every 30 s with their number.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};
use parking_lot::Mutex;

/// How long repetitions of a line are only counted.
const INTERVAL: Duration = Duration::from_secs(30);
/// Different lines that are remembered.
const MAX_LINES: usize = 256;

/// Warnings and errors of all clients of a driver go through one of these: what keeps one client from a broker keeps all
/// of them. Lines of other levels are passed on.
pub struct Throttled {
    log: Arc<dyn Log>,
    /// What is the same in lines that have one cause.
    cause_of: fn(&str) -> &str,
    repetitions: Mutex<Repetitions>,
}

impl Throttled {
    pub fn new(log: Arc<dyn Log>, cause_of: fn(&str) -> &str) -> Self {
        Throttled { log, cause_of, repetitions: Mutex::default() }
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
        // No lock is held while the host's function runs.
        let cause = format!("{} {}", record.level(), (self.cause_of)(&line));
        let passed = self.repetitions.lock().pass(&cause, Instant::now());
        match passed {
            None => {}
            Some(0) => self.log.log(record),
            Some(times) => {
                let (level, target) = (record.level(), record.target());
                let line = format_args!("{line} ({times} more times since it was logged)");
                self.log.log(&Record::builder().level(level).target(target).args(line).build());
            }
        }
    }

    fn flush(&self) {
        self.log.flush();
    }
}

#[derive(Default)]
struct Repetitions(HashMap<String, Repeated>);

struct Repeated {
    logged: Instant,
    /// How often since.
    times: u64,
}

impl Repetitions {
    /// How often a line was held back since it was logged, if it is to be logged now.
    fn pass(&mut self, cause: &str, now: Instant) -> Option<u64> {
        if let Some(known) = self.0.get_mut(cause) {
            if now.saturating_duration_since(known.logged) < INTERVAL {
                known.times += 1;
                return None;
            }
            known.logged = now;
            return Some(std::mem::take(&mut known.times));
        }
        if self.0.len() >= MAX_LINES {
            self.0.retain(|_, known| now.saturating_duration_since(known.logged) < INTERVAL);
        }
        // With so many different lines, one more is not the problem.
        if self.0.len() < MAX_LINES {
            self.0.insert(cause.to_owned(), Repeated { logged: now, times: 0 });
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
    fn only_warnings_and_errors_are_held_back() {
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
        assert_eq!(*lines.0.lock(), ["INFO same", "INFO same", "WARN refused after 1 ms", "ERROR refused after 3 ms"]);
    }
}
