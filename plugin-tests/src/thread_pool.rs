//! Thread pools: the plugin's, and a host's own that the plugin is to use.

use std::ffi::c_void;

use octopus::abi::*;

use crate::error::Result;
#[cfg(doc)]
use crate::error::Status;
use crate::raw::{Handle, Tables, call};
use crate::services::{closure, contained, give_away};

/// The priority that goes ahead of all others; the Diaspora API's default.
pub const FIRST: u64 = OCTOPUS_FIRST;

/// Threads that work is done on. Dropped, it still runs what was submitted.
#[derive(Debug)]
pub struct ThreadPool {
    pub(crate) handle: Handle<octopus_thread_pool>,
}

/// A pool of the host's. Its functions are called from any thread, several at a time.
pub trait HostPool: Send + Sync + 'static {
    /// Takes the task, and runs it once, in the call or later. A task that is given back is refused; one that is dropped
    /// fails what it was about.
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), Task>;
    /// Tasks that wait for a thread.
    fn pending(&self) -> u64;
    /// Threads that run tasks; 0 if [`submit`](Self::submit) runs them itself.
    fn thread_count(&self) -> u64;
}

/// A piece of the plugin's work.
pub struct Task(octopus_task);

// SAFETY: include/octopus.h says that tasks are run and destroyed on any thread.
unsafe impl Send for Task {}

impl Task {
    /// Does the work.
    pub fn run(self) {
        if let Some(function) = self.0.function {
            // SAFETY: the plugin's function and context, called once and not destroyed yet.
            unsafe { function(self.0.context) };
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(destroy) = self.0.destroy {
            // SAFETY: the plugin's function and context, destroyed once.
            unsafe { destroy(self.0.context) };
        }
    }
}

impl ThreadPool {
    pub(crate) fn make(tables: &'static Tables, threads: u64) -> Result<Self> {
        // SAFETY: the call gives us the pool.
        let made = unsafe { Handle::made(tables, |pool| call!(in tables, thread_pool.create(threads, pool))) };
        made.map(|handle| ThreadPool { handle })
    }

    pub(crate) fn of_host(tables: &'static Tables, host: impl HostPool) -> Result<Self> {
        let (context, destroy) = give_away::<dyn HostPool>(Box::new(host));
        let functions = octopus_pool_functions {
            size: size_of::<octopus_pool_functions>() as u64,
            context,
            destroy,
            submit: Some(submit),
            pending: Some(pending),
            thread_count: Some(thread_count),
        };
        // SAFETY: the struct outlives the call, which takes the functions over and gives us the pool.
        let made = unsafe { Handle::made(tables, |pool| call!(in tables, thread_pool.from_host(&functions, pool))) };
        made.map(|handle| ThreadPool { handle })
    }

    /// Has `work` run on one of the threads, or, in a pool of none, here and now. Higher priorities go first,
    /// [`FIRST`] ahead of all. [`Status::CallbackFailed`] when a pool of the host's refuses.
    pub fn submit(&self, priority: u64, work: impl FnOnce() + Send + 'static) -> Result<()> {
        type Work = dyn FnMut() + Send;
        unsafe extern "C" fn run(context: *mut c_void) {
            // SAFETY: given away below with this type, not destroyed, and nobody else runs it.
            let work = unsafe { &mut *context.cast::<Box<Work>>() };
            contained(work);
        }
        let mut once = Some(work);
        let (context, destroy) = give_away::<Work>(Box::new(move || {
            if let Some(work) = once.take() {
                work();
            }
        }));
        let task = octopus_task { function: Some(run), context, destroy };
        // SAFETY: a live handle; the struct outlives the call, which takes the task over.
        unsafe { call!(self.handle, thread_pool.submit(&task, priority)) }
    }

    /// Tasks that wait for a thread.
    pub fn pending(&self) -> Result<u64> {
        let mut tasks = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, thread_pool.pending(&mut tasks)) }?;
        Ok(tasks)
    }

    /// Threads that run tasks; 0 when they run in the caller.
    pub fn thread_count(&self) -> Result<u64> {
        let mut threads = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, thread_pool.thread_count(&mut threads)) }?;
        Ok(threads)
    }
}

unsafe extern "C" fn submit(context: *mut c_void, task: *const octopus_task, priority: u64) -> octopus_status {
    // SAFETY: the context that came with this function, not destroyed; a task that lives during the call.
    let (pool, task) = unsafe { (closure::<dyn HostPool>(context), Task(*task)) };
    let mut status = OCTOPUS_CALLBACK_FAILED;
    contained(|| match pool.submit(task, priority) {
        Ok(()) => status = OCTOPUS_OK,
        // Refused: the plugin destroys it.
        Err(refused) => std::mem::forget(refused),
    });
    status
}

unsafe extern "C" fn pending(context: *mut c_void) -> u64 {
    let mut count = 0;
    // SAFETY: as in `submit`.
    contained(|| count = unsafe { closure::<dyn HostPool>(context) }.pending());
    count
}

unsafe extern "C" fn thread_count(context: *mut c_void) -> u64 {
    let mut count = 0;
    // SAFETY: as in `submit`.
    contained(|| count = unsafe { closure::<dyn HostPool>(context) }.thread_count());
    count
}
