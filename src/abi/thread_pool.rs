//! The thread pool's table. No slot of it is built yet: all are NULL.

use std::ffi::c_void;

use super::callback::octopus_destroy_fn;
use super::error::octopus_error;
use super::status::octopus_status;

/// Threads that work is done on.
pub struct octopus_thread_pool {
    _private: [u8; 0],
}

/// A piece of work: run once, then destroyed; on one of the pool's threads, or in the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_task {
    pub function: Option<unsafe extern "C" fn(context: *mut c_void)>,
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
}

/// A pool of the host's, as functions. They are called from any thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct octopus_pool_functions {
    /// `sizeof(octopus_pool_functions)`, set by the host.
    pub size: u64,
    /// Handed to each function, and to `destroy` after the last call.
    pub context: *mut c_void,
    pub destroy: octopus_destroy_fn,
    /// Takes the task over and runs it at some time, in the call or later; a negative status refuses it.
    pub submit:
        Option<unsafe extern "C" fn(context: *mut c_void, task: *const octopus_task, priority: u64) -> octopus_status>,
    /// Tasks that wait for a thread.
    pub pending: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
    /// Threads that run tasks; 0 when `submit` runs them itself.
    pub thread_count: Option<unsafe extern "C" fn(context: *mut c_void) -> u64>,
}

/// Thread pools. Functions may be called from any thread, also at the same time.
#[repr(C)]
pub struct octopus_thread_pool_api {
    /// `sizeof(octopus_thread_pool_api)` in the plugin; a slot within it that isn't NULL can be called.
    pub size: u64,
    /// Makes a pool; with 0 threads work is done in the caller.
    pub create: Option<
        unsafe extern "C" fn(
            threads: u64,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// A pool of the host's; takes the functions over.
    pub from_host: Option<
        unsafe extern "C" fn(
            functions: *const octopus_pool_functions,
            pool: *mut *mut octopus_thread_pool,
            error: *mut *mut octopus_error,
        ) -> octopus_status,
    >,
    /// Has the task run; takes it over. Higher priorities go first; 2^64-1 goes ahead, first in first out.
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
    create: None,
    from_host: None,
    submit: None,
    pending: None,
    thread_count: None,
    release: None,
};
