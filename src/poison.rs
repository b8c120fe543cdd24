//! What can make an object or a thread unfit for a call: a panic inside an earlier call, an object of
//! the parent in a forked child, one of the plugin's own threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Kind, Result};
use crate::fork;

/// The generation of the process that made the object, see [`fork::generation`]; or [`POISONED`] with it.
#[derive(Debug)]
pub struct Poison(AtomicU32);

/// Set when a call on this object panicked: its state can't be trusted any more, but it can be released.
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
    pub fn check(&self, what: &str) -> Result<()> {
        let state = self.0.load(Ordering::Acquire);
        if state == fork::generation() { Ok(()) } else { Err(unfit(state, what)) }
    }

    /// Whether the object was made in this process, and not in the one that this was forked from.
    #[inline]
    pub fn is_of_this_process(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !POISONED == fork::generation()
    }
}

#[cold]
fn unfit(state: u32, what: &str) -> Error {
    if state & !POISONED != fork::generation() {
        let why = format!("this {what} belongs to the process that this one was forked from; make one in this process");
        return Error::new(Kind::Forked, why);
    }
    let told = format!("this {what} is spoiled: an earlier call on it panicked; release it and make a new one");
    Error::new(Kind::Panicked, told)
}

thread_local! {
    static ON_PLUGIN_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as one of the plugin's: what would wait for the plugin's own work is refused here.
pub fn mark_plugin_thread() {
    ON_PLUGIN_THREAD.set(true);
}

pub fn is_plugin_thread() -> bool {
    ON_PLUGIN_THREAD.get()
}

/// Refuses `doing` on a thread of the plugin, where it would wait for itself.
pub fn ensure_not_plugin_thread(doing: &str) -> Result<()> {
    if is_plugin_thread() {
        return Err(Error::new(
            Kind::WouldDeadlock,
            format!("{doing} on a thread of the plugin would wait for itself; do it on a thread of the host"),
        ));
    }
    Ok(())
}
