//! Thread pools: the plugin's, and a host's own that the plugin is to use.

use std::ffi::c_void;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};

use octopus::abi::*;

use crate::error::Result;
#[cfg(doc)]
use crate::error::Status;
use crate::raw::{Handle, Tables, call};
use crate::services::{at_most_once, closure, closure_mut, contained, give_away};

/// The priority that goes ahead of all others, first in first out; the Diaspora API's default.
pub const FIRST: u64 = OCTOPUS_PRIORITY_HIGHEST;

/// Threads that work is done on. Dropped, it still runs what was submitted; producers that were made with it keep it.
#[derive(Debug)]
pub struct ThreadPool {
    pub(crate) handle: Handle<octopus_thread_pool>,
}

impl ThreadPool {
    pub(crate) fn new(handle: Handle<octopus_thread_pool>) -> Self {
        ThreadPool { handle }
    }

    pub(crate) fn make(tables: &'static Tables, threads: u64) -> Result<Self> {
        // SAFETY: the call gives us the pool.
        let made = unsafe { Handle::made(tables, |pool| call!(in tables, thread_pool.create(threads, pool))) };
        made.map(ThreadPool::new)
    }

    pub(crate) fn of_host(tables: &'static Tables, host: impl HostPool) -> Result<Self> {
        // SAFETY: the struct outlives the call, which takes the functions over and gives us the pool.
        let made = unsafe {
            Handle::made(tables, |pool| call!(in tables, thread_pool.from_host(&functions_of(Box::new(host)), pool)))
        };
        made.map(ThreadPool::new)
    }

    /// Has `work` run on one of the threads, or, in a pool of none, here and now. Higher priorities go first,
    /// [`FIRST`] ahead of all. A panic of `work` is printed and ends there. [`Status::CallbackFailed`] when a pool of
    /// the host's refuses; `work` is dropped then.
    pub fn submit(&self, priority: u64, work: impl FnOnce() + Send + 'static) -> Result<()> {
        // SAFETY: a live handle; the struct outlives the call, which takes the task over.
        unsafe { call!(self.handle, thread_pool.submit(&task_of(work), priority)) }
    }

    /// Tasks that wait for a thread.
    pub fn pending(&self) -> Result<u64> {
        let mut tasks = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, thread_pool.pending(&mut tasks)) }?;
        Ok(tasks)
    }

    /// Threads that run tasks; 0 when they run in the caller of [`submit`](Self::submit).
    pub fn thread_count(&self) -> Result<u64> {
        let mut threads = 0;
        // SAFETY: a live handle; the output outlives the call.
        unsafe { call!(self.handle, thread_pool.thread_count(&mut threads)) }?;
        Ok(threads)
    }
}

/// Gives the work away: whoever gets the result has to hand it to `thread_pool.submit`, which destroys it.
fn task_of(work: impl FnOnce() + Send + 'static) -> octopus_task {
    let (context, destroy) = give_away::<Work>(at_most_once(|()| work()));
    octopus_task { function: Some(work_on), context, destroy }
}

type Work = dyn FnMut(()) + Send;

unsafe extern "C" fn work_on(context: *mut c_void) {
    // SAFETY: the context that came with this function, not destroyed; a task is run by one thread, once.
    let work = unsafe { closure_mut::<Work>(context) };
    contained(|| work(()));
}

/// A pool of the host's. Its functions are called from any thread, several at a time. It lives as long as the
/// [`ThreadPool`] made of it and what uses that.
pub trait HostPool: Send + Sync + 'static {
    /// Takes the task, to run it once, in the call or later; the plugin's tasks wait for nobody. A task that is given
    /// back is refused. One that is dropped, or lost to a panic in here,
    /// fails what it was about.
    fn submit(&self, task: Task, priority: u64) -> std::result::Result<(), Task>;

    /// Tasks that wait for a thread. A panic counts as 0.
    fn pending(&self) -> u64;

    /// Threads that run tasks; 0 if [`submit`](Self::submit) runs them itself. A panic counts as 0.
    fn thread_count(&self) -> u64;
}

/// A piece of the plugin's work: run once, or dropped, on any thread.
#[must_use = "dropping a task fails what it was about"]
pub struct Task {
    task: octopus_task,
    /// Tells it from all others, since a pool might give back another one than it was asked to take.
    number: u64,
}

// SAFETY: include/octopus.h says that tasks are run, and destroyed, on the pool's threads, whichever these are.
unsafe impl Send for Task {}

impl Task {
    fn new(task: octopus_task) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Task { task, number: LAST.fetch_add(1, Ordering::Relaxed) }
    }

    /// Does the work.
    pub fn run(self) {
        if let Some(function) = self.task.function {
            // SAFETY: the plugin's function with its context, which is not destroyed; `self` is used up.
            unsafe { function(self.task.context) };
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(destroy) = self.task.destroy {
            // SAFETY: the plugin's function with its context, once, after the last use.
            unsafe { destroy(self.task.context) };
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "task {}", self.number)
    }
}

/// Gives the pool away: whoever gets the result has to hand it to `thread_pool.from_host`, which destroys it.
fn functions_of(host: Box<dyn HostPool>) -> octopus_pool_functions {
    let (context, destroy) = give_away(host);
    octopus_pool_functions {
        size: size_of::<octopus_pool_functions>() as u64,
        context,
        destroy,
        submit: Some(submit),
        pending: Some(pending),
        thread_count: Some(thread_count),
    }
}

unsafe extern "C" fn submit(context: *mut c_void, task: *const octopus_task, priority: u64) -> octopus_status {
    // SAFETY: the context that came with this function, not destroyed; a task that is there during the call, and ours
    // from now on unless we refuse it.
    let (pool, task) = unsafe { (closure::<dyn HostPool>(context), Task::new(*task)) };
    let number = task.number;
    match contained(|| pool.submit(task, priority)) {
        Some(Err(refused)) if refused.number == number => {
            // Neither run nor dropped, since we have it here: the plugin destroys it.
            mem::forget(refused);
            OCTOPUS_CALLBACK_FAILED
        }
        Some(Err(another)) => {
            contained(|| drop(another));
            OCTOPUS_OK
        }
        // Also after a panic: the pool has kept the task, or it was dropped on the way. It isn't the plugin's any more.
        Some(Ok(())) | None => OCTOPUS_OK,
    }
}

unsafe extern "C" fn pending(context: *mut c_void) -> u64 {
    // SAFETY: the context that came with this function, not destroyed.
    let pool = unsafe { closure::<dyn HostPool>(context) };
    contained(|| pool.pending()).unwrap_or(0)
}

unsafe extern "C" fn thread_count(context: *mut c_void) -> u64 {
    // SAFETY: the context that came with this function, not destroyed.
    let pool = unsafe { closure::<dyn HostPool>(context) };
    contained(|| pool.thread_count()).unwrap_or(0)
}
