//! The thread pool's slots: arguments in, one call to [`crate::thread_pool`], the result out.

use std::ffi::c_void;
use std::sync::Arc;

use super::args::{Growing, check_output, read_fixed};
use super::callback::{Owned, octopus_destroy_fn};
use super::error::octopus_error;
use super::forked_child::{forward, forward_creation};
use super::guard::{call, guard, quietly, refuse};
use super::handle::{self, handle};
use super::status::{OCTOPUS_OK, octopus_status};
use crate::error::{Error, Kind, Result};
use crate::process_exit;
use crate::thread_pool::{HostPool, Refused, Task, ThreadPool};

/// Threads that work is done on.
pub struct octopus_thread_pool {
    _private: [u8; 0],
}

handle!(ThreadPool, octopus_thread_pool, "thread pool");

/// The priority that goes ahead of all others; the Diaspora API's default.
pub const OCTOPUS_PRIORITY_HIGHEST: u64 = u64::MAX;

/// A piece of work: `function` is called at most once, then `destroy` once; on one of the pool's threads, or in the
/// caller. A task that is destroyed without having run counts as failed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_task {
    pub function: Option<unsafe extern "C" fn(context: *mut c_void)>,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// A pool of the host's, as functions. They are called from any thread, also at the same time.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_pool_functions {
    /// `sizeof(octopus_pool_functions)`, set by the host.
    pub size: u64,
    /// Handed to each function, and to `destroy` after the last call.
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
    /// Takes a copy of the task over, runs it once, in the call or later, and destroys it. A negative status refuses
    /// it: then the host has neither run nor destroyed it, and what it was about fails. The plugin's tasks wait for
    /// nobody.
    pub submit:
        Option<unsafe extern "C" fn(context: *mut c_void, task: *const octopus_task, priority: u64) -> octopus_status>,
    /// Tasks that wait for a thread. May be NULL: 0.
    pub pending: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
    /// Threads that run tasks; 0 when `submit` runs them itself. Asked when a producer is made, and for each task.
    pub thread_count: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
}

// SAFETY: `#[repr(C)]`, the size first, and zeros are NULL pointers and absent functions.
unsafe impl Growing for octopus_pool_functions {}

/// Thread pools. Functions may be called from any thread, also at the same time. On a thread that runs a pool's
/// task, what would wait for that same pool says `OCTOPUS_WOULD_DEADLOCK`, and a push that needs it never waits for
/// room (`OCTOPUS_WOULD_BLOCK`); everything else may be done there.
/// Every function but `release` may return `OCTOPUS_INVALID_ARGUMENT`, `OCTOPUS_FORKED` and `OCTOPUS_PANICKED`.
#[repr(C)]
pub struct octopus_thread_pool_api {
    /// `sizeof(octopus_thread_pool_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Makes a pool of at most 4,096 threads; with 0 threads work is done in the caller.
    pub create: Option<
        unsafe extern "C" fn(
            threads: u64,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// A pool of the host's. Takes the functions over once it has read the struct, also when it fails: `destroy` is
    /// called once, after the last call of a function.
    pub from_host: Option<
        unsafe extern "C" fn(
            functions: *const octopus_pool_functions,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Has the task run; takes it over, also when it fails, and destroys it once. Higher priorities go first,
    /// `OCTOPUS_PRIORITY_HIGHEST` ahead of all; equals in the order they came. `OCTOPUS_CALLBACK_FAILED` when a pool of the host's
    /// refuses.
    pub submit: Option<
        unsafe extern "C" fn(
            pool: *const octopus_thread_pool,
            task: *const octopus_task,
            priority: u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Tasks that wait for a thread.
    pub pending: Option<
        unsafe extern "C" fn(
            pool: *const octopus_thread_pool,
            tasks: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Threads that run tasks; 0 when they run in the caller of submit.
    pub thread_count: Option<
        unsafe extern "C" fn(
            pool: *const octopus_thread_pool,
            threads: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Gives the handle back; tasks that were submitted still run. NULL does nothing.
    pub release: Option<unsafe extern "C" fn(pool: *mut octopus_thread_pool)>,
}

pub static THREAD_POOL: octopus_thread_pool_api = octopus_thread_pool_api {
    size: size_of::<octopus_thread_pool_api>() as u64,
    create: Some(create),
    from_host: Some(from_host),
    submit: Some(submit),
    pending: Some(pending),
    thread_count: Some(thread_count),
    release: Some(release),
};

unsafe extern "C" fn create(
    threads: u64,
    pool: *mut *mut octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward_creation!(thread_pool.create(threads, pool, error), error);
    // SAFETY: pointers are NULL or valid during this call.
    unsafe {
        guard(error, || {
            check_output(pool, "pool")?;
            handle::give(Arc::new(ThreadPool::new(threads)?), pool);
            Ok(())
        })
    }
}

unsafe extern "C" fn from_host(
    functions: *const octopus_pool_functions,
    pool: *mut *mut octopus_thread_pool,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward_creation!(thread_pool.from_host(functions, pool, error), error);
    // SAFETY: pointers are NULL or valid during this call.
    unsafe {
        guard(error, || {
            // First of all, since whatever happens next the functions are ours to destroy.
            let host = HostFunctions::new(octopus_pool_functions::read(functions, "functions")?)?;
            check_output(pool, "pool")?;
            handle::give(Arc::new(ThreadPool::of_host(Box::new(host))), pool);
            Ok(())
        })
    }
}

unsafe extern "C" fn submit(
    pool: *const octopus_thread_pool,
    task: *const octopus_task,
    priority: u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); thread_pool.submit(pool, task, priority, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live. The task is taken over before anything
    // can fail.
    unsafe {
        let task = read_fixed(task, "task")
            .map(|given| given.map(|t| (t.function, Owned { context: t.context, destroy: t.destroy })));
        call(pool, error, move |pool: &Arc<ThreadPool>| {
            let Some((Some(function), owned)) = task? else {
                return Err(Error::invalid("task: NULL where a function is needed"));
            };
            let run = move || {
                let owned = owned;
                if !process_exit::has_begun() {
                    // SAFETY: the host's function and context, called once and not destroyed yet.
                    function(owned.context);
                }
            };
            pool.submit(Box::new(run), priority).map_err(|refused| refused.why)
        })
    }
}

unsafe extern "C" fn pending(
    pool: *const octopus_thread_pool,
    tasks: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); thread_pool.pending(pool, tasks, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(pool, error, |pool: &Arc<ThreadPool>| {
            check_output(tasks, "tasks")?;
            tasks.write(pool.pending());
            Ok(())
        })
    }
}

unsafe extern "C" fn thread_count(
    pool: *const octopus_thread_pool,
    threads: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); thread_pool.thread_count(pool, threads, error));
    // SAFETY: pointers are NULL or valid during this call; the handle is live.
    unsafe {
        call(pool, error, |pool: &Arc<ThreadPool>| {
            check_output(threads, "threads")?;
            threads.write(pool.thread_count());
            Ok(())
        })
    }
}

unsafe extern "C" fn release(pool: *mut octopus_thread_pool) {
    forward!((); thread_pool.release(pool));
    // SAFETY: NULL, or a handle that the host gives back.
    unsafe { handle::release::<Arc<ThreadPool>>(pool) };
}

/// The functions of a host's pool.
struct HostFunctions {
    functions: octopus_pool_functions,
    context: Owned,
}

// SAFETY: the header says that the functions are called from any thread, also at the same time.
unsafe impl Send for HostFunctions {}
// SAFETY: as above.
unsafe impl Sync for HostFunctions {}

impl HostFunctions {
    fn new(functions: octopus_pool_functions) -> Result<Self> {
        let context = Owned { context: functions.context, destroy: functions.destroy };
        if functions.submit.is_none() || functions.thread_count.is_none() {
            return Err(Error::invalid("functions: submit and thread_count are needed, and one of them is NULL"));
        }
        Ok(HostFunctions { functions, context })
    }
}

impl HostPool for HostFunctions {
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), Refused> {
        let Some(submit) = self.functions.submit else { return Ok(()) };
        if process_exit::has_begun() {
            let why = "the host's thread pool is not used any more, since the process exits";
            return Err(Refused { why: Error::new(Kind::HostCallback, why), task });
        }
        let context = Box::into_raw(Box::new(Some(task))).cast::<c_void>();
        let task = octopus_task { function: Some(run_task), context, destroy: Some(destroy_task) };
        // SAFETY: the host's function with its context, not destroyed yet; it copies the task.
        let status = unsafe { submit(self.context.context, &task, priority) };
        if status >= OCTOPUS_OK {
            return Ok(());
        }
        // SAFETY: made above; refused, so the host has neither run nor destroyed it.
        let task = *unsafe { Box::from_raw(context.cast::<Option<Task>>()) };
        let why = format!("the host's thread pool refuses a task: its function submit returned {status}");
        Err(Refused { why: Error::new(Kind::HostCallback, why), task: task.unwrap_or_else(|| Box::new(|| {})) })
    }

    fn pending(&self) -> u64 {
        let pending = self.functions.pending.filter(|_| !process_exit::has_begun());
        // SAFETY: the host's function with its context, not destroyed yet.
        pending.map_or(0, |pending| unsafe { pending(self.context.context) })
    }

    fn thread_count(&self) -> u64 {
        let count = self.functions.thread_count.filter(|_| !process_exit::has_begun());
        // SAFETY: as above.
        count.map_or(0, |count| unsafe { count(self.context.context) })
    }
}

/// What the host's pool calls to run a task of ours.
unsafe extern "C" fn run_task(context: *mut c_void) {
    // SAFETY: made in `HostFunctions::submit` and not destroyed yet.
    quietly(|| unsafe {
        if let Some(task) = (*context.cast::<Option<Task>>()).take() {
            task();
        }
    });
}

unsafe extern "C" fn destroy_task(context: *mut c_void) {
    // SAFETY: made in `HostFunctions::submit`, and destroyed once.
    quietly(|| drop(unsafe { Box::from_raw(context.cast::<Option<Task>>()) }));
}
