//! Waiting for conditions that have nothing to wait on, such as the state of another process.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

const INTERVAL: Duration = Duration::from_millis(10);

/// Calls `look` every 10 ms until it returns a value; None after `timeout`. It calls `look` at
/// least once.
pub fn poll<T>(timeout: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if started.elapsed() >= timeout {
            return None;
        }
        thread::sleep(INTERVAL);
    }
}

/// Calls `look` every 10 ms until it returns a value or fails. Fails with `what`, a statement of
/// what should hold, after `timeout`.
pub fn eventually<T>(what: impl Display, timeout: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let timed_out = || Err(Failure(format!("timed out after {timeout:?} waiting until {what}")));
    poll(timeout, || look().transpose()).unwrap_or_else(timed_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_returns_the_first_value() {
        let mut calls = 0;
        let mut look = || {
            calls += 1;
            (calls == 3).then_some(calls)
        };
        assert_eq!(poll(Duration::from_secs(10), &mut look), Some(3));
        assert_eq!(poll(Duration::ZERO, || Some(1)), Some(1));
    }

    #[test]
    fn poll_without_a_value_returns_none_after_the_timeout() {
        let started = Instant::now();
        assert_eq!(poll(Duration::from_millis(30), || None::<()>), None);
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn eventually_fails_with_the_error_or_the_timeout() {
        let failed = eventually("it holds", Duration::from_secs(10), || Err::<Option<()>, _>(Failure::new("broken")));
        assert_eq!(failed.unwrap_err().0, "broken");
        let timed_out = eventually("it holds", Duration::ZERO, || Ok(None::<()>));
        assert_eq!(timed_out.unwrap_err().0, "timed out after 0ns waiting until it holds");
    }
}
