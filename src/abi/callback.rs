//! Callbacks of the host have one shape, `{function, context, destroy}`; this is who owns the context.

use std::ffi::c_void;

use crate::fork::is_forked_child;
use crate::process_exit;

/// Called once, when the plugin will not call the function again; any thread. NULL: nothing to destroy.
pub type octopus_destroy_fn = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// A context of the host's, destroyed when it is not used any more.
pub struct Owned {
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

// SAFETY: the header says that callbacks are called and destroyed on any thread.
unsafe impl Send for Owned {}
// SAFETY: as above; also at the same time.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    /// In a forked child nothing is taken over, and what the parent gave is the parent's. At the end of the process, what
    /// the function uses may be destroyed already.
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy
            && !is_forked_child()
            && !process_exit::has_begun()
        {
            // SAFETY: the host's own function and context, once, after the last call.
            unsafe { destroy(self.context) };
        }
    }
}
