//! Whether a call kept its time limit, on a machine that is late itself now and then.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::journal::{Entry, Journal};

/// What a call may take beyond its limit.
const GRACE: Duration = Duration::from_millis(250);
const BEAT: Duration = Duration::from_millis(5);

/// A thread that sleeps a short while again and again, and so learns for how long nobody was let run.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<Beats>>);

#[derive(Default)]
struct Beats {
    /// When the beat that goes on was begun.
    begun: Option<Instant>,
    /// Beats that were late: when they ended, and by how much.
    late: Vec<(Instant, Duration)>,
}

impl Clock {
    pub fn start() -> Self {
        let clock = Clock::default();
        let beating = clock.clone();
        thread::spawn(move || {
            loop {
                let begun = Instant::now();
                beating.0.lock().unwrap_or_else(PoisonError::into_inner).begun = Some(begun);
                thread::sleep(BEAT);
                let late = begun.elapsed().saturating_sub(BEAT);
                if late > BEAT {
                    beating.0.lock().unwrap_or_else(PoisonError::into_inner).late.push((Instant::now(), late));
                }
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
            let machine = self.lateness_since(started);
            if took > limit + GRACE + machine {
                let (limit_ms, took_ms) = (limit.as_millis() as u64, took.as_millis() as u64);
                let machine_ms = machine.as_millis() as u64;
                journal.write(&Entry::Late { what: what.to_owned(), limit_ms, took_ms, machine_ms });
            }
        }
        (result, took)
    }

    /// In all, since then: a call may have been late more than once.
    fn lateness_since(&self, since: Instant) -> Duration {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: Duration = beats.late.iter().rev().take_while(|(at, _)| *at >= since).map(|(_, late)| *late).sum();
        ended + beats.begun.map_or(Duration::ZERO, |begun| begun.elapsed().saturating_sub(BEAT))
    }
}
