//! Rejects calls on objects that can't be used: a call on them panicked, or they belong to the
//! parent process of a forked child.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::error::{Error, Kind, Result};
use crate::support::fork;

/// The generation of the process that created the object (see [`fork::generation`]), and the bit
/// [`POISONED`].
#[derive(Debug)]
pub struct Poison(AtomicU32);

/// Set when a call on the object panicked: its state may be inconsistent, so it can only be
/// released.
const POISONED: u32 = 1 << 31;

impl Default for Poison {
    fn default() -> Self {
        Poison(AtomicU32::new(fork::generation()))
    }
}

impl Poison {
    pub fn poison(&self) {
        self.0.fetch_or(POISONED, Ordering::Release);
    }

    #[inline]
    pub fn check(&self, object: &str) -> Result<()> {
        let state = self.0.load(Ordering::Acquire);
        if state == fork::generation() { Ok(()) } else { Err(unusable(state, object)) }
    }

    /// Whether this process created the object, not the one that it was forked from.
    #[inline]
    pub fn is_of_this_process(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !POISONED == fork::generation()
    }
}

#[cold]
fn unusable(state: u32, object: &str) -> Error {
    if state & !POISONED != fork::generation() {
        let reason =
            format!("this {object} belongs to the process that this one was forked from; create one in this process");
        return Error::new(Kind::Forked, reason);
    }
    let reason = format!("this {object} is poisoned: an earlier call on it panicked; release it and create a new one");
    Error::new(Kind::Panicked, reason)
}
