//! Creates the threads of the library and identifies them.

use std::cell::Cell;

use super::error::{Error, Kind, Result};
use super::resource_limit;

/// Starts a plugin thread.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            mark_plugin_thread();
            work();
        })
        .map(drop)
        .map_err(|cause| resource_limit::error(format_args!("creating the thread {name}"), &cause))
}

thread_local! {
    static ON_PLUGIN_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as a plugin thread. Calls that wait for the work of plugin threads fail
/// on it.
pub fn mark_plugin_thread() {
    ON_PLUGIN_THREAD.set(true);
}

pub fn is_plugin_thread() -> bool {
    ON_PLUGIN_THREAD.get()
}

/// Fails on a plugin thread, where `operation` would deadlock.
pub fn ensure_not_plugin_thread(operation: &str) -> Result<()> {
    if is_plugin_thread() {
        return Err(Error::new(
            Kind::WouldDeadlock,
            format!("{operation} on a thread of the plugin would deadlock; do it on a thread of the host"),
        ));
    }
    Ok(())
}
