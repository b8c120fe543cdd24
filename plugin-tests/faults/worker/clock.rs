//! Checks whether a call kept its time limit, on a machine that is itself delayed now and then.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use octopus_testkit::poll;

use crate::journal::{Entry, Journal};

/// How much longer than its limit a call may take.
const GRACE: Duration = Duration::from_millis(250);
const BEAT: Duration = Duration::from_millis(5);
/// How long `lateness_since` waits for the next beat at most.
const MAX_BEAT_DELAY: Duration = Duration::from_secs(30);
/// Enough beats for the last 90 s, which is longer than any call here takes.
const MAX_BEATS: usize = 20_000;

/// A thread that measures, beat by beat, how long the machine could not run what it should: how
/// late the thread itself was woken, and how long any thread waited for a CPU (the kernel's
/// pressure stall information). A waiting thread may hold a lock that a call needs, so a call can
/// be late although its own thread could run.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<Vec<Beat>>>);

#[derive(Clone, Copy)]
struct Beat {
    at: Instant,
    /// The sums of all delays and of all waiting for a CPU so far.
    late: Duration,
    waited: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let clock = Clock::default();
        let beats = clock.0.clone();
        thread::spawn(move || {
            let mut late = Duration::ZERO;
            let mut last = Instant::now();
            loop {
                thread::sleep(BEAT);
                // Measured from beat to beat, since the process may be stopped at any point in
                // between.
                let at = Instant::now();
                late += (at - last).saturating_sub(BEAT);
                last = at;
                let beat = Beat { at, late, waited: waited_for_processors() };
                let mut beats = beats.lock().unwrap_or_else(PoisonError::into_inner);
                if beats.len() >= MAX_BEATS {
                    beats.drain(..MAX_BEATS / 4);
                }
                beats.push(beat);
            }
        });
        clock
    }

    /// Runs `call`, and writes a `Late` entry if it took longer than permitted. Returns how long it
    /// took.
    pub fn time<T>(&self, journal: &Journal, what: &str, limit: Duration, call: impl FnOnce() -> T) -> (T, Duration) {
        let started = Instant::now();
        let result = call();
        let took = started.elapsed();
        if took > limit + GRACE {
            let machine = self.lateness_since(started + limit);
            if took > limit + GRACE + machine {
                let (limit_ms, took_ms) = (limit.as_millis() as u64, took.as_millis() as u64);
                let machine_ms = machine.as_millis() as u64;
                journal.write(&Entry::Late { what: what.to_owned(), limit_ms, took_ms, machine_ms });
            }
        }
        (result, took)
    }

    /// How long the machine was delayed between `since` and now.
    fn lateness_since(&self, since: Instant) -> Duration {
        let now = Instant::now();
        // After the process was stopped, this thread may run before the thread that measures.
        poll(MAX_BEAT_DELAY, || self.last_beat().filter(|beat| beat.at >= now));
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = beats.iter().rev().find(|beat| beat.at <= since).or(beats.first());
        let (Some(before), Some(last)) = (before, beats.last()) else { return Duration::ZERO };
        (last.late - before.late).max(last.waited.saturating_sub(before.waited))
    }

    fn last_beat(&self) -> Option<Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }
}

/// Reads `some avg10=1.09 avg60=0.28 avg300=0.08 total=31337` (microseconds); zero if the kernel
/// has no pressure stall information.
fn waited_for_processors() -> Duration {
    let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = text.lines().next().and_then(|some| some.split_once("total=")?.1.parse().ok());
    Duration::from_micros(total.unwrap_or(0))
}
