//! What can make an object, a thread or the whole process unfit for a call: a panic inside an earlier call,
//! being called on one of the plugin's own threads, being the child of a `fork`.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};

use crate::error::{Error, Kind, Result};

/// Set when a call on this object panicked: its state can't be trusted any more, but it can be released.
#[derive(Debug, Default)]
pub struct Health(AtomicBool);

impl Health {
    pub fn spoil(&self) {
        self.0.store(true, Ordering::Release);
    }

    #[inline]
    pub fn check(&self, what: &str) -> Result<()> {
        if self.0.load(Ordering::Acquire) { Err(spoiled(what)) } else { Ok(()) }
    }
}

#[cold]
fn spoiled(what: &str) -> Error {
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
pub fn refuse_to_wait_for_ourselves(doing: &str) -> Result<()> {
    if is_plugin_thread() {
        return Err(Error::new(
            Kind::WouldDeadlock,
            format!("{doing} on a thread of the plugin would wait for itself; do it on a thread of the host"),
        ));
    }
    Ok(())
}

/// 1 in the process that registered, 0 in its children.
static UNWATCHED: AtomicU8 = AtomicU8::new(1);
static MARK: AtomicPtr<AtomicU8> = AtomicPtr::new((&raw const UNWATCHED).cast_mut());

fn mark() -> &'static AtomicU8 {
    // SAFETY: points to a static, or to memory that is never unmapped and all of whose values are valid.
    unsafe { &*MARK.load(Ordering::Acquire) }
}

/// Notices children from now on. A mark read per call is cheap; asking for the process id each time is not.
pub fn watch_for_fork() {
    static ONCE: Once = Once::new();
    extern "C" fn in_the_child() {
        mark().store(0, Ordering::Relaxed);
    }
    ONCE.call_once(|| {
        if let Some(wiped) = wiped_in_children() {
            wiped.store(1, Ordering::Relaxed);
            MARK.store(std::ptr::from_ref(wiped).cast_mut(), Ordering::Release);
        }
        // For systems that wipe nothing.
        // SAFETY: the handler is a plain function in a library that is never unmapped; it only stores a mark.
        unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
    });
}

/// Memory that the system fills with zeros in whatever child a process comes to have, also in one made by `_Fork` or by
/// another C library in the process, of which `pthread_atfork` hears nothing.
fn wiped_in_children() -> Option<&'static AtomicU8> {
    const ANY: *mut libc::c_void = std::ptr::null_mut();
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, anywhere; the system makes whole pages of it.
    let page = unsafe { libc::mmap(ANY, 1, access, kind, -1, 0) };
    // SAFETY: that memory is ours.
    if page == libc::MAP_FAILED || unsafe { libc::madvise(page, 1, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: mapped, never unmapped, and zeros are a valid value.
    Some(unsafe { &*page.cast::<AtomicU8>() })
}

pub fn is_forked_child() -> bool {
    mark().load(Ordering::Relaxed) == 0
}
