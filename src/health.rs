//! What can make an object, a thread or the whole process unfit for a call: a panic inside an earlier call,
//! being called on one of the plugin's own threads, being the child of a `fork`.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};

/// Set when a call on this object panicked: its state can't be trusted any more, but it can be released.
#[derive(Debug, Default)]
pub struct Health(AtomicBool);

impl Health {
    pub fn spoil(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn check(&self, what: &str) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::new(
                Kind::Panicked,
                format!("this {what} is spoiled: an earlier call on it panicked; release it and make a new one"),
            ));
        }
        Ok(())
    }
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
pub fn refuse_to_wait_for_ourselves(doing: &str) -> Result<()> {
    if is_plugin_thread() {
        return Err(Error::new(
            Kind::WouldDeadlock,
            format!("{doing} on a thread of the plugin would wait for itself; do it on a thread of the host"),
        ));
    }
    Ok(())
}

static FORKED: AtomicBool = AtomicBool::new(false);

/// Notices `fork` from now on. A flag read per call is cheap; asking for the process id each time is not.
pub fn watch_for_fork() {
    static ONCE: Once = Once::new();
    extern "C" fn in_the_child() {
        FORKED.store(true, Ordering::Relaxed);
    }
    ONCE.call_once(|| {
        // SAFETY: the handler is a plain function in a library that is never unmapped; it only stores a flag.
        unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
    });
}

pub fn is_forked_child() -> bool {
    FORKED.load(Ordering::Relaxed)
}
