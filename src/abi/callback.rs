//! Ownership of the context of a callback: each callback of the host is a struct
//! `{function, context, destroy}`.

use std::ffi::c_void;

use crate::support::fork::is_forked_child;
use crate::support::process_exit;

/// Destroys the context of a callback.
///
/// The plugin calls it once, after the last call of the callback's function. NULL if there is
/// nothing to destroy. It must not unwind.
///
/// @param context The `context` field of the struct that this function is part of.
/// @note Called on any thread, possibly after the `release` of the last handle has returned. Not
/// called in a forked child, and not after the process began to exit.
/// @since 0.1
pub type octopus_destroy_fn = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// A context of the host. Dropping it calls the host's `destroy`.
pub struct Owned {
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

// SAFETY: the header requires of the host that `destroy` and the function may be called on any
// thread.
unsafe impl Send for Owned {}
// SAFETY: as above; the header also names the functions that several threads call at the same time.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    /// A forked child does not destroy contexts: they belong to the parent. At process exit, the
    /// host's objects that `destroy` uses may be destroyed already.
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy
            && !is_forked_child()
            && !process_exit::has_begun()
        {
            // SAFETY: function and context are the host's, and `self` owns them: this is the only
            // call of `destroy`, and no call of the callback's function follows.
            unsafe { destroy(self.context) };
        }
    }
}
