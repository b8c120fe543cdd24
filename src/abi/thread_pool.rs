//! ABI slots of thread pools. Each slot validates its arguments, makes one call into
//! `crate::support::thread_pool` and converts the result.

// The contract of each slot is in docs/reference/abi.md and in the comments of its table.
#![allow(clippy::missing_safety_doc, clippy::multiple_unsafe_ops_per_block)]

use std::ffi::c_void;
use std::sync::Arc;

use super::args::{Growing, check_output, read_fixed};
use super::callback::{Owned, octopus_destroy_fn};
use super::error_handle::octopus_error;
use super::forked_child::{forward, forward_creation};
use super::guard::{call, guard, quietly, refuse};
use super::handle::{self, handle};
use super::status::{OCTOPUS_OK, octopus_status};
use crate::support::error::{Error, Kind, Result};
use crate::support::process_exit;
use crate::support::thread_pool::{HostPool, RejectedTask, Task, ThreadPool};

/// A thread pool: runs tasks on threads of the plugin, on threads of the host, or on the thread
/// that submits them.
///
/// `octopus_thread_pool_api::create` and `octopus_thread_pool_api::from_host` create it.
///
/// @since 0.1
pub struct octopus_thread_pool {
    _private: [u8; 0],
}

handle!(ThreadPool, octopus_thread_pool, "thread pool");

/// Priority of a task: before all others. The default of the Diaspora API.
pub const OCTOPUS_PRIORITY_HIGHEST: u64 = u64::MAX;

/// A task for a thread pool.
///
/// `function` is called at most once, then `destroy` is called once. A task that is destroyed
/// without a call of `function` has failed.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_task {
    /// Does the work.
    ///
    /// @param context The `context` of this struct.
    /// @note Called on a thread of the pool, or on the thread that submits the task. It must not
    /// unwind.
    pub function: Option<unsafe extern "C" fn(context: *mut c_void)>,
    /// Passed to `function` and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context.
    pub destroy: octopus_destroy_fn,
}

/// Functions of the host that implement a thread pool.
///
/// The plugin calls them on any thread, several also at the same time. They must not unwind.
///
/// @since 0.1
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_pool_functions {
    /// `sizeof(octopus_pool_functions)`, set by the host.
    pub size: u64,
    /// Passed to each function, and to `destroy`.
    pub context: *mut c_void,
    /// Destroys the context, after the last call of a function.
    pub destroy: octopus_destroy_fn,
    /// Runs a task once, during the call or later, and then destroys it. Required.
    ///
    /// Tasks of the plugin never wait for other tasks.
    ///
    /// @param context The `context` of this struct.
    /// @param task The task; the host copies the struct, which is valid during the call, and takes
    /// ownership of it.
    /// @param priority The priority; higher ones first, `OCTOPUS_PRIORITY_HIGHEST` before all
    /// others.
    /// @return `OCTOPUS_OK`. A negative status rejects the task: then the host must neither have
    /// run nor destroyed it, and the push or `process` that it belongs to fails with
    /// `OCTOPUS_CALLBACK_FAILED`.
    pub submit:
        Option<unsafe extern "C" fn(context: *mut c_void, task: *const octopus_task, priority: u64) -> octopus_status>,
    /// Returns the number of tasks that wait for a thread. NULL: 0.
    ///
    /// @param context The `context` of this struct.
    /// @return The number of tasks.
    pub pending: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
    /// Returns the number of threads that run tasks. Required.
    ///
    /// The plugin calls it when a producer is created, and for each task.
    ///
    /// @param context The `context` of this struct.
    /// @return The number of threads; 0 if `submit` runs tasks itself.
    pub thread_count: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
}

// SAFETY: the type is `#[repr(C)]` and begins with its size; zeros are NULL pointers and absent
// functions.
unsafe impl Growing for octopus_pool_functions {}

/// Functions of thread pools.
///
/// Any thread may call them, several threads also at the same time; `release` must be the last use
/// of the handle. A pool can serve any number of producers and consumers. In a task, functions that
/// would wait for the same pool return `OCTOPUS_WOULD_DEADLOCK`, and a push that needs this pool
/// returns `OCTOPUS_WOULD_BLOCK` instead of waiting at the in-flight limit; all other functions may
/// wait.
///
/// @since 0.1
#[repr(C)]
pub struct octopus_thread_pool_api {
    /// The size of this table in the plugin, in bytes. Check a slot with `OCTOPUS_HAS`.
    pub size: u64,
    /// Creates a pool with threads of the plugin.
    ///
    /// @param threads The number of threads, at most 4,096. With 0, the thread that submits a task
    /// runs it.
    /// @param pool Receives the pool, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub create: Option<
        unsafe extern "C" fn(
            threads: u64,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Creates a pool of functions of the host.
    ///
    /// @param functions The functions. The plugin takes ownership when it has read the struct, even
    /// if this call fails: it calls `destroy` once.
    /// @param pool Receives the pool, which the host releases.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_INVALID_ARGUMENT` also if `submit` or `thread_count` is NULL
    ///
    /// @note Does not block.
    pub from_host: Option<
        unsafe extern "C" fn(
            functions: *const octopus_pool_functions,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Submits a task.
    ///
    /// Tasks with a higher priority run first; tasks with the same priority run in the order of
    /// their submission. A pool of the host may have another order.
    ///
    /// @param pool The pool.
    /// @param task The task. The plugin copies the struct and takes ownership, even if this call
    /// fails: it calls `destroy` once.
    /// @param priority The priority; `OCTOPUS_PRIORITY_HIGHEST` is before all others.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`, or:
    /// - `OCTOPUS_CALLBACK_FAILED` if a pool of the host rejected the task
    ///
    /// @note Does not wait for the task, unless the pool has no threads.
    pub submit: Option<
        unsafe extern "C" fn(
            pool: *const octopus_thread_pool,
            task: *const octopus_task,
            priority: u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the number of tasks that wait for a thread.
    ///
    /// @param pool The pool.
    /// @param tasks Receives the number.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub pending: Option<
        unsafe extern "C" fn(
            pool: *const octopus_thread_pool,
            tasks: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Returns the number of threads that run tasks.
    ///
    /// @param pool The pool.
    /// @param threads Receives the number; 0 if the thread that submits a task runs it.
    /// @param error Receives NULL, or the error object if the status is negative; may be NULL.
    /// @return `OCTOPUS_OK`.
    /// @note Does not block.
    pub thread_count: Option<
        unsafe extern "C" fn(
            pool: *const octopus_thread_pool,
            threads: *mut u64,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Releases the handle. Tasks that were submitted still run.
    ///
    /// @param pool The pool; NULL has no effect.
    /// @note Does not block.
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
    // SAFETY: all pointers are NULL or valid during this call (contract of the slot).
    unsafe {
        guard(error, || {
            check_output(pool, "pool")?;
            handle::write(Arc::new(ThreadPool::new(threads)?), pool);
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
    // SAFETY: all pointers are NULL or valid during this call (contract of the slot).
    unsafe {
        guard(error, || {
            // First, because the plugin owns the functions even if the rest fails.
            let host = HostFunctions::new(octopus_pool_functions::read(functions, "functions")?)?;
            check_output(pool, "pool")?;
            handle::write(Arc::new(ThreadPool::of_host(Box::new(host))), pool);
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot). The plugin owns the task before anything can fail.
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
                    // SAFETY: function and context are the host's, and `owned` keeps the context
                    // from being destroyed.
                    function(owned.context);
                }
            };
            pool.submit(Box::new(run), priority).map_err(|rejected| rejected.error)
        })
    }
}

unsafe extern "C" fn pending(
    pool: *const octopus_thread_pool,
    tasks: *mut u64,
    error: *mut *mut octopus_error,
) -> octopus_status {
    forward!(refuse(error); thread_pool.pending(pool, tasks, error));
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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
    // SAFETY: the handle is NULL or live, and all pointers are NULL or valid during this call
    // (contract of the slot).
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
    // SAFETY: NULL, or a live handle that the host does not use afterwards (contract of the slot).
    unsafe { handle::release::<Arc<ThreadPool>>(pool) };
}

/// A thread pool of the host.
struct HostFunctions {
    functions: octopus_pool_functions,
    context: Owned,
}

// SAFETY: the header requires of the host that the functions may be called from any thread, also at
// the same time.
unsafe impl Send for HostFunctions {}
// SAFETY: as above.
unsafe impl Sync for HostFunctions {}

impl HostFunctions {
    fn new(functions: octopus_pool_functions) -> Result<Self> {
        let context = Owned { context: functions.context, destroy: functions.destroy };
        if functions.submit.is_none() || functions.thread_count.is_none() {
            return Err(Error::invalid("functions: submit and thread_count are required, and one of them is NULL"));
        }
        Ok(HostFunctions { functions, context })
    }
}

impl HostPool for HostFunctions {
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), RejectedTask> {
        let Some(submit) = self.functions.submit else { return Ok(()) };
        if process_exit::has_begun() {
            let why = "the host's thread pool is not used any more, since the process exits";
            return Err(RejectedTask { error: Error::new(Kind::HostCallback, why), task });
        }
        let context = Box::into_raw(Box::new(Some(task))).cast::<c_void>();
        let task = octopus_task { function: Some(run_task), context, destroy: Some(destroy_task) };
        // SAFETY: function and context are the host's, and `self` keeps the context from being
        // destroyed; the host copies the task.
        let status = unsafe { submit(self.context.context, &task, priority) };
        if status >= OCTOPUS_OK {
            return Ok(());
        }
        // SAFETY: `context` was allocated above. The host rejected the task, so it has neither run
        // nor destroyed it (contract of `octopus_pool_functions::submit`).
        let task = *unsafe { Box::from_raw(context.cast::<Option<Task>>()) };
        let why = format!("the host's thread pool rejected a task: its function submit returned {status}");
        Err(RejectedTask { error: Error::new(Kind::HostCallback, why), task: task.unwrap_or_else(|| Box::new(|| {})) })
    }

    fn pending(&self) -> u64 {
        let pending = self.functions.pending.filter(|_| !process_exit::has_begun());
        // SAFETY: function and context are the host's, and `self` keeps the context from being
        // destroyed.
        pending.map_or(0, |pending| unsafe { pending(self.context.context) })
    }

    fn thread_count(&self) -> u64 {
        let count = self.functions.thread_count.filter(|_| !process_exit::has_begun());
        // SAFETY: as above.
        count.map_or(0, |count| unsafe { count(self.context.context) })
    }
}

/// The function of a task that the plugin passes to a pool of the host.
unsafe extern "C" fn run_task(context: *mut c_void) {
    // SAFETY: `HostFunctions::submit` allocated it, and the host has not destroyed it yet (contract
    // of `octopus_task`).
    quietly(|| unsafe {
        if let Some(task) = (*context.cast::<Option<Task>>()).take() {
            task();
        }
    });
}

/// The destructor of such a task.
unsafe extern "C" fn destroy_task(context: *mut c_void) {
    // SAFETY: `HostFunctions::submit` allocated it, and the host destroys it once (contract of
    // `octopus_task`).
    quietly(|| drop(unsafe { Box::from_raw(context.cast::<Option<Task>>()) }));
}
