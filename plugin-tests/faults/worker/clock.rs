//! Whether a call kept its time limit, on a machine that is late itself now and then.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::journal::{Entry, Journal};

/// What a call may take beyond its limit.
const GRACE: Duration = Duration::from_millis(250);
const BEAT: Duration = Duration::from_millis(5);
/// A beat that has not come by then does not come.
const LATEST_BEAT: Duration = Duration::from_secs(30);
/// Beats that are remembered: of the last minute and a half, which no call here takes longer than.
const REMEMBERED: usize = 20_000;

/// A thread that looks again and again for how long nothing could be done on this machine: how late it was let run itself, and
/// for how long, by the kernel's pressure figures, any thread waited for a processor. A thread that waits may hold the lock that a
/// call needs, so a call can be late though its own thread could run.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<Vec<Beat>>>);

#[derive(Clone, Copy)]
struct Beat {
    at: Instant,
    /// All lateness and all waiting for processors so far.
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
                // From beat to beat: this process may be stopped anywhere in between.
                let at = Instant::now();
                late += (at - last).saturating_sub(BEAT);
                last = at;
                let beat = Beat { at, late, waited: waited_for_processors() };
                let mut beats = beats.lock().unwrap_or_else(PoisonError::into_inner);
                if beats.len() >= REMEMBERED {
                    beats.drain(..REMEMBERED / 4);
                }
                beats.push(beat);
            }
        });
        clock
    }

    /// Runs `call`, and writes it down if it is later than its limit allows. What it took.
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

    /// For how long the machine could not do what it should between then and now.
    fn lateness_since(&self, since: Instant) -> Duration {
        let now = Instant::now();
        // Of a process that was stopped this thread may run before the one of the beats.
        while self.last_beat().is_none_or(|beat| beat.at < now) && now.elapsed() < LATEST_BEAT {
            thread::sleep(BEAT);
        }
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = beats.iter().rev().find(|beat| beat.at <= since).or(beats.first());
        let (Some(before), Some(last)) = (before, beats.last()) else { return Duration::ZERO };
        (last.late - before.late).max(last.waited.saturating_sub(before.waited))
    }

    fn last_beat(&self) -> Option<Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }
}

/// `some avg10=1.09 avg60=0.28 avg300=0.08 total=31337`, in microseconds; nothing where the kernel doesn't tell.
fn waited_for_processors() -> Duration {
    let told = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = told.lines().next().and_then(|some| some.split_once("total=")?.1.parse().ok());
    Duration::from_micros(total.unwrap_or(0))
}
