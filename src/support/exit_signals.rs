//! Signals that arrive while the process exit waits for deliveries. Such a signal would end the
//! process without a word about the events that are lost. While an exit waits, it ends the wait
//! instead; the exit reports what was not delivered, and then ends by the signal.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signals by which people, terminals and job schedulers end a process.
const SIGNALS: [(c_int, &str); 3] = [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM"), (libc::SIGHUP, "SIGHUP")];

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn receive(signal: c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

/// Whether a signal has arrived since [`Watch::begin`], by its name.
pub fn received() -> Option<&'static str> {
    let received = RECEIVED.load(Ordering::Relaxed);
    SIGNALS.iter().find(|(signal, _)| *signal == received).map(|(_, name)| *name)
}

/// Receives the signals that would end the process. Those for which the host has a handler, or
/// which it ignores, are left to it.
pub struct Watch {
    replaced: [bool; SIGNALS.len()],
}

impl Watch {
    pub fn begin() -> Self {
        // Such signals don't end the first process of a container, so its exit goes on.
        let can_end = std::process::id() != 1;
        Watch {
            replaced: SIGNALS
                .map(|(signal, _)| can_end && is_default(signal) && set_handler(signal, receive as *const () as usize)),
        }
    }

    /// From now on the signals end the process again. Returns the one that has arrived.
    pub fn end(self) -> Option<c_int> {
        for ((signal, _), is_replaced) in SIGNALS.into_iter().zip(self.replaced) {
            if is_replaced {
                set_handler(signal, libc::SIG_DFL);
            }
        }
        Some(RECEIVED.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}

/// Ends the process by the signal.
pub fn end_by(signal: c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is live memory of its type, which sigemptyset initializes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `set` is initialized, and the number is that of a signal.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // The thread may have blocked it.
    // SAFETY: `set` is initialized; the previous mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
    // SAFETY: `raise` has no preconditions.
    unsafe { libc::raise(signal) };
}

fn is_default(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the result is written to live memory of its type; nothing is changed.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call above succeeded and has written all of it.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_DFL
}

/// Sets the handler, which is a function for one signal number or SIG_DFL. Returns whether it is
/// set.
fn set_handler(signal: c_int, handler: usize) -> bool {
    // SAFETY: all fields of the struct are integers, sets of bits and nullable pointers, for which
    // zeros are valid.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialized, and its handler only stores an atomic integer, which any
    // signal handler may do.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) == 0 }
}
